//! Data to train on and to test on.

use crate::data::scaling::Kind;
use crate::data::train_test::SplitOptions;
use crate::failure::{Failure, Result};
use crate::options::data::AugmentOption;
use crate::options::reading::ReadingOptions;
use crate::options::values::fraction;
use clap::Args;
use std::path::PathBuf;

/// Data to train on and to test on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct TrainingDataOptions {
    /// Training data: IDX images or .npy (float32 or float64, or uint8, which is divided by 255; all axes
    /// but the first are flattened), a table (.csv, .tsv; all of these plain or .gz), .npz, or a folder of
    /// .png and .jpg (what is transparent is white), in the range that the likelihood accepts [default: the embedded sample]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,

    /// Test data, as --data [default: a part of the rows of --data, drawn by the seed and held out of the
    /// training]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub test: Option<PathBuf>,

    /// The part of the rows of --data that is held out where there is no --test [default: 0.1]
    #[arg(long, value_name = "F", value_parser = fraction, requires = "data", conflicts_with = "test",
          allow_negative_numbers = true)]
    pub test_fraction: Option<f64>,

    /// Labels of --data: IDX labels (plain or .gz), .npy of whole numbers from 0, or a .csv of one column of
    /// words or numbers, one for each row [default: those that come with the rows, of --label-column or of
    /// pictures in one folder for each class]
    #[arg(long, value_name = "FILE", requires = "data", conflicts_with = "label_column")]
    pub labels: Option<PathBuf>,

    /// Labels of --test, as --labels
    #[arg(long, value_name = "FILE", requires = "test")]
    pub test_labels: Option<PathBuf>,

    /// Make the model conditional on the labels: encoder and decoder see them one-hot (those of the
    /// embedded sample are 0 to 9)
    #[arg(long)]
    pub conditional: bool,

    /// Scale each feature by the training rows, kept in the model file and undone on output: none,
    /// standardize (to mean 0 and standard deviation 1) or min-max (to 0 to 1)
    #[arg(long, value_name = "NAME", value_enum, default_value_t, hide_possible_values = true)]
    pub scale: Kind,

    /// With --scale min-max: read a number outside of the training rows' range as the nearer end of it
    #[arg(long)]
    pub clip_to_range: bool,

    /// Map data from 0 to 1, or bytes, to -1 to 1 by 2x - 1, as a tanh output wants them; kept in the model
    /// file and undone on output
    #[arg(long)]
    pub signed: bool,

    #[command(flatten)]
    pub reading: ReadingOptions,

    #[command(flatten)]
    pub augment: AugmentOption,
}

impl TrainingDataOptions {
    /// That the options name labels where there must be some, and go together.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: &str| Err(Failure::Usage(message.to_owned()));
        if self.clip_to_range && self.scale != Kind::MinMax {
            return refuse("--clip-to-range belongs to --scale min-max");
        }
        match (&self.test, &self.labels, &self.test_labels) {
            (Some(_), Some(_), None) => {
                refuse("--labels: the labels of --test are missing; name them with --test-labels")
            }
            (Some(_), None, Some(_)) => {
                refuse("--test-labels: the labels of --data are missing; name them with --labels")
            }
            _ => self.augment.check(self.signed),
        }
    }

    /// The rows to train and to test on; those held out are drawn by `seed`.
    pub fn split(&self, seed: u64) -> SplitOptions {
        SplitOptions {
            data: self.data.clone(),
            test: self.test.clone(),
            test_fraction: self.test_fraction.unwrap_or(0.1),
            labels: self.labels.clone(),
            test_labels: self.test_labels.clone(),
            conditional: self.conditional,
            scale: self.scale,
            clip_to_range: self.clip_to_range,
            signed: self.signed,
            augmentation: self.augment.augment,
            read: self.reading.read(),
            seed,
        }
    }
}
