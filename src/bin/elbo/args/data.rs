//! Which data, and what is done to them on the way.

use super::Reading;
use super::values::{HeightWidth, MAX_WIDTH, count, fraction, named};
use crate::failure::{Failure, Result};
use crate::notes::ImageShape;
use crate::scaling::Kind;
use clap::Args;
use elbo::Augmentation;
use std::path::PathBuf;

/// Data to train on and to test on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct TrainingData {
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
    pub reading: Reading,

    #[command(flatten)]
    pub augment: Augment,
}

impl TrainingData {
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
}

/// What is done to the data each time they are seen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct Augment {
    /// What is done to the data each time they are seen, in training and test alike: none, binarize (each
    /// value a draw of 0 or 1, of which it is the probability) or dequantize (each of 256 gray levels
    /// spread over its share of 0 to 1; dequantize:16 for 16 levels)
    #[arg(long, value_name = "NAME", default_value = "none", value_parser = named::<Augmentation>)]
    pub augment: Augmentation,
}

impl Augment {
    /// That it has something to work on.
    pub fn check(&self, signed: bool) -> Result<()> {
        if signed && self.augment != Augmentation::None {
            return Err(Failure::Usage(
                "--augment works on data from 0 to 1, and --signed makes them -1 to 1; choose one"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// A trained model.
#[derive(Clone, Debug, Args)]
pub struct Model {
    /// The model: a model.safetensors that `elbo train` wrote, or a PyTorch state dict in that
    /// format
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
}

/// A trained model and data for it.
#[derive(Debug, Args)]
pub struct Input {
    #[command(flatten)]
    pub model: Model,

    /// The data, in any format of `elbo train`; columns, scaling and the size of pictures are those the
    /// model was trained with
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,

    /// The labels of --data, as for `elbo train`: a conditional model wants them, of another one pictures
    /// and tables show them [default: those that come with the rows: of --label-column, else of the column
    /// that the model's labels came from, or of pictures in one folder for each class]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Of a model of --scale min-max: read a number outside of the training rows' range as the nearer end
    /// of it
    #[arg(long)]
    pub clip_to_range: bool,

    /// Map data from 0 to 1, or bytes, to -1 to 1 by 2x - 1: of a model from elsewhere that was trained so
    /// (the file of `elbo train --signed` says so itself)
    #[arg(long)]
    pub signed: bool,

    #[command(flatten)]
    pub reading: Reading,
}

/// How rows are shown as images.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub struct Shape {
    /// Height and width in pixels of an image in pictures, such as 28x28 [default: those of the data's
    /// images where a command reads some, else the most nearly square]
    #[arg(long, value_name = "HxW")]
    pub(super) shape: Option<HeightWidth>,
}

impl Shape {
    pub fn is_given(&self) -> bool {
        self.shape.is_some()
    }

    /// The shape of images of `features` elements, of which the data or the model may know something.
    pub fn of(&self, features: usize, known: Option<ImageShape>) -> Result<ImageShape> {
        let Some(HeightWidth([height, width])) = self.shape else {
            return Ok(known.filter(|known| known.elements() == features).unwrap_or_else(|| {
                let [height, width] = crate::pictures::nearly_square(features);
                ImageShape { height, width, channels: 1 }
            }));
        };
        // Three numbers a pixel are its colors.
        for channels in [1, 3] {
            if height.checked_mul(width).and_then(|n| n.checked_mul(channels)) == Some(features) {
                return Ok(ImageShape { height, width, channels });
            }
        }
        Err(Failure::Usage(format!(
            "--shape {height}x{width}: expected height × width to be {features}, \
             the elements of a row (or a third of them, for colors)"
        )))
    }
}

/// How long to train, and from which start.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub struct Course {
    /// Passes over the training data
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub epochs: usize,

    /// Rows of a batch; the last one of an epoch may be shorter
    #[arg(long, value_name = "ROWS", default_value_t = 128, value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub batch: usize,

    /// Seed of the initial weights, the order of the rows, the noise and the rows held out
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = super::values::seed,
        allow_negative_numbers = true)]
    pub seed: u64,
}
