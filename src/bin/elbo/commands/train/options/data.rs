//! Options for the data to train, validate and test on.

use crate::data::scaling::ScalingKind;
use crate::data::train_test::{HeldOut, SplitOptions, TestRows};
use crate::failure::{Failure, Result};
use crate::options::data::AugmentOption;
use crate::options::reading::ReadingOptions;
use crate::options::values::{fraction, validation_fraction};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct TrainingDataOptions {
    /// Training data; - for standard input [default: a sample of MNIST]
    ///
    /// A table (.csv or .tsv), a .npy array (any numbers; uint8 is divided by 255, see --white; all axes
    /// but the first are flattened) or IDX images, each plain or .gz; an array of an archive (FILE.npz:NAME); or a directory of .png and
    /// .jpg images of 8 or 16 bits (black is 0 and white is 1, transparent pixels become white, and the EXIF
    /// orientation is applied). Values must be in the range of the likelihood. The
    /// default is the embedded sample: 5,000 images, validated on 1,000 others.
    #[arg(long, value_name = "FILE", help_heading = None, display_order = 1)]
    pub data: Option<PathBuf>,

    /// Validation data [default: rows held out of --data]
    ///
    /// In any format of --data. The validation loss selects the best epoch (--keep, --patience) and drives
    /// --schedule plateau. As in `elbo eval`, rows that the model cannot score, such as outliers of 1e36, are left out
    /// of it, and a warning names each of them once; a run whose model cannot score most of the rows stops.
    #[arg(long, value_name = "FILE", help_heading = None, display_order = 2)]
    pub validation: Option<PathBuf>,

    /// Share of the rows to hold out for validation [default: 0.1]
    #[arg(long, value_name = "F", value_parser = validation_fraction, allow_negative_numbers = true)]
    pub validation_fraction: Option<f64>,

    /// Test data: used for no choice
    ///
    /// In any format of --data. Unless a validation option or a choice by the validation loss (--keep best,
    /// --patience, --schedule plateau) needs other rows, all rows of --data are trained on, and each epoch
    /// reports the loss of the test rows. Rows that the model cannot score are left out as in validation.
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,

    /// Share of the rows to hold out for a test at the end
    #[arg(long, value_name = "F", value_parser = fraction, allow_negative_numbers = true)]
    pub test_fraction: Option<f64>,

    /// Labels of --data, one per row
    ///
    /// IDX labels (plain or .gz), a .npy array of whole numbers from 0 (or FILE.npz:NAME), or a .csv of one column of words or
    /// numbers [default: labels that come with the data: of --label-column, or of images in one directory per
    /// class].
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Labels of --validation, one per row
    #[arg(long, value_name = "FILE")]
    pub validation_labels: Option<PathBuf>,

    /// Labels of --test, one per row
    #[arg(long, value_name = "FILE")]
    pub test_labels: Option<PathBuf>,

    /// Condition the encoder and the decoder on the labels (one-hot)
    #[arg(long)]
    pub conditional: bool,

    /// Scale each feature: none, standardize or min-max
    ///
    /// Fitted to the training rows, kept in the model file and undone on output. standardize: to mean 0 and
    /// standard deviation 1; min-max: to [0, 1]. With min-max and a likelihood of [0, 1], values of other rows
    /// outside of that range are clipped to it, and a warning counts the rows. Numbers are scaled in float64.
    #[arg(long, value_name = "NAME", value_enum, default_value_t, hide_possible_values = true,
          help_heading = None, display_order = 3)]
    pub scale: ScalingKind,

    /// Clip values outside the range of the training rows (min-max only)
    ///
    /// Whatever the likelihood, without a warning, and when the model is used later.
    #[arg(long)]
    pub clip_to_range: bool,

    /// Share of the training rows to leave out, the farthest ones
    ///
    /// Farthest by the sum of squared z-scores, where the means and deviations are those of the rows that stay.
    /// So that unusual rows among the training rows are not learned. Of rows held out for validation, those that
    /// are farther than every row that stays are left out too; test rows never are.
    #[arg(long, value_name = "F", value_parser = fraction, allow_negative_numbers = true)]
    pub trim: Option<f64>,

    /// Map data from [0, 1] to [-1, 1]
    ///
    /// By 2x - 1, for a tanh output. Kept in the model file and undone on output.
    #[arg(long)]
    pub signed: bool,

    #[command(flatten)]
    pub augment: AugmentOption,

    #[command(flatten)]
    pub reading: ReadingOptions,
}

impl TrainingDataOptions {
    /// Returns an error if labels of one file are given and those of another are missing.
    pub fn check(&self) -> Result<()> {
        for (name, file, labels) in [
            ("validation", &self.validation, &self.validation_labels),
            ("test", &self.test, &self.test_labels),
        ] {
            match (file, &self.labels, labels) {
                (Some(_), Some(_), None) => {
                    return Err(Failure::Usage(format!("--labels requires --{name}-labels")));
                }
                (Some(_), None, Some(_)) => {
                    return Err(Failure::Usage(format!("--{name}-labels requires --labels")));
                }
                _ => {}
            }
        }
        self.augment.check(self.signed)
    }

    /// Returns how to split the data; `seed` draws the rows that are held out. `selects` says whether the
    /// validation loss decides anything.
    pub fn split(&self, seed: u64, selects: bool) -> SplitOptions {
        let held_out = |file: &Option<PathBuf>, labels: &Option<PathBuf>, fraction| match file {
            Some(file) => HeldOut::File { path: file.clone(), labels: labels.clone() },
            None => HeldOut::Fraction(fraction),
        };
        let has_validation = self.validation.is_some() || self.validation_fraction.is_some();
        let fraction = self.validation_fraction.unwrap_or(0.1);
        let test = (self.test.is_some() || self.test_fraction.is_some()).then(|| {
            held_out(&self.test, &self.test_labels, self.test_fraction.unwrap_or_default())
        });
        let (validation, test) = match test {
            Some(test @ HeldOut::File { .. }) if !has_validation && !selects => {
                (test, TestRows::Validation)
            }
            test => (
                held_out(&self.validation, &self.validation_labels, fraction),
                test.map_or(TestRows::None, TestRows::Own),
            ),
        };
        SplitOptions {
            data: self.data.clone(),
            labels: self.labels.clone(),
            validation,
            test,
            conditional: self.conditional,
            scale: self.scale,
            clip_to_range: self.clip_to_range,
            signed: self.signed,
            trim: self.trim,
            augmentation: self.augment.augment,
            read: self.reading.read(),
            columns: Vec::new(),
            seed,
        }
    }
}
