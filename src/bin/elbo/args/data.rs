//! Which data, and what is done to them on the way.

use super::values::{HeightWidth, MAX_WIDTH, count, named};
use crate::failure::{Failure, Result};
use clap::Args;
use elbo::Augmentation;
use std::path::PathBuf;

/// Data to train on and to test on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct TrainingData {
    /// Training data: IDX images (plain or .gz), or .npy (float32 or float64, or uint8, which is divided
    /// by 255; all axes but the first are flattened), in the range that the likelihood accepts [default:
    /// the embedded sample]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,

    /// Test data, as --data [default: a tenth of the rows of --data, drawn by the seed and held out
    /// of the training]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub test: Option<PathBuf>,

    /// Labels of --data, which make the model conditional: IDX labels (plain or .gz) or .npy of whole
    /// numbers from 0, one for each row; encoder and decoder see them one-hot [default: no conditions]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub labels: Option<PathBuf>,

    /// Labels of --test, as --labels
    #[arg(long, value_name = "FILE", requires = "test")]
    pub test_labels: Option<PathBuf>,

    /// Make the model conditional on the labels of the embedded sample, 0 to 9
    #[arg(long)]
    pub conditional: bool,

    /// Map data from 0 to 1, or bytes, to -1 to 1 by 2x - 1, as a tanh output wants them; pictures show
    /// them mapped back
    #[arg(long)]
    pub signed: bool,

    #[command(flatten)]
    pub augment: Augment,
}

impl TrainingData {
    /// That the options name labels where there must be some.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: &str| Err(Failure::Usage(message.to_owned()));
        if self.conditional && self.data.is_some() {
            return refuse(
                "--conditional belongs to the embedded sample; name the labels of --data with --labels",
            );
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
    /// What is done to the data each time they are seen, in training and test alike: none, binarise (each
    /// value a draw of 0 or 1, of which it is the probability) or dequantise (each of 256 grey levels
    /// spread over its share of 0 to 1; dequantise:16 for 16 levels)
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
#[derive(Debug, Args)]
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

    /// The data: IDX images (plain or .gz), or .npy (float32 or float64, or uint8, which is divided by
    /// 255; all axes but the first are flattened), in the range that the model's likelihood accepts
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,

    /// Of a conditional model: the labels of --data, IDX (plain or .gz) or .npy of whole numbers from 0
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Map data from 0 to 1, or bytes, to -1 to 1 by 2x - 1, as `elbo train --signed` does; pictures show
    /// them mapped back
    #[arg(long)]
    pub signed: bool,
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
    /// The shape of images of `features` pixels, of which the data may know something.
    pub fn of(&self, features: usize, data: Option<[usize; 2]>) -> Result<[usize; 2]> {
        let Some(HeightWidth([height, width])) = self.shape else {
            return Ok(data.unwrap_or_else(|| crate::pictures::nearly_square(features)));
        };
        if height.checked_mul(width) == Some(features) {
            return Ok([height, width]);
        }
        Err(Failure::Usage(format!(
            "--shape {height}x{width}: expected height × width to be {features}, \
             the elements of a row"
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
