//! The options of `elbo train`.

mod data;
mod model;
mod optimizer;
mod preset;

pub use preset::Preset;

use crate::options::data::ImageSize;
use crate::options::objective::{ImportanceOptions, ObjectiveOptions};
use crate::options::values::{MAX_WIDTH, count, seed, span};
use clap::{Args, ValueEnum};
use data::TrainingDataOptions;
use elbo::optim::Span;
use model::{ArchitectureOptions, LikelihoodOptions};
use optimizer::OptimizerOptions;
use std::path::PathBuf;

/// Train a model and leave it in a folder with its history and pictures
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "\
Without --data it trains on an embedded sample of MNIST (5,000 images; the test takes 1,000 others). \
The folder then holds model.safetensors, history.csv and history.jsonl (a line for each epoch; history.jsonl.part while the run goes on), run.toml \
(the options of the run), samples.png, reconstructions.png (inputs above outputs) and loss.png.

Of a table (.csv, .tsv, commas, semicolons, tabs or | between the columns) every column is a feature but \
that of the labels; a missing value is an error that names its line. Most tables want --scale standardize \
--likelihood gaussian. Parquet and Arrow are not read, as that would more than double what the tool is \
built of; in Python, `pandas.read_parquet('t.parquet').to_csv('t.csv', index=False)` makes a table of \
them. Pictures of one folder, or of one folder for each class, are read in the order of their names, gray \
unless --rgb says otherwise.

A long run can be interrupted: Ctrl-C finishes the step, writes a checkpoint and says how to go on; with \
--checkpoint-every a run that is killed loses no more than that. Resumed, it comes to the same bits as if \
nothing had happened.

Examples:
  elbo train
  elbo train --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --out mnist
  elbo train --data table.csv --label-column kind --scale standardize --likelihood gaussian
  elbo train --data table.csv --columns 2-9,12 --scale min-max --test-fraction 0.2
  elbo train --data photos --size 64x48 --rgb --out faces
  elbo train --data train.npz --array x_train
  elbo train --data table.npy --hidden 256,64 --latent 8 --epochs 50 --json --quiet
  elbo train --encoder 512,256 --decoder 256,512 --activation gelu --layer-norm --dropout 0.1
  elbo train --likelihood continuous-bernoulli
  elbo train --data table.npy --likelihood gaussian --variance per-feature
  elbo train --signed --likelihood squared-error --output tanh --beta 0.5
  elbo train --beta 4 --anneal cyclical --cycles 4
  elbo train --free-bits 0.1 --free-bits-per dimension
  elbo train --capacity 25 --capacity-gamma 100 --capacity-over 2000steps
  elbo train --total-correlation --beta 6
  elbo train --importance-samples 5 --estimator dreg --augment binarize
  elbo train --optimizer adamw --weight-decay 0.01 --schedule cosine --warm-up 100 --clip-norm 5
  elbo train --conditional --latent 5 --hidden 256 --batch 32 --epochs 30
  elbo train --epochs 500 --patience 20 --checkpoint-every 10epochs --out long
  elbo train --resume long
  elbo train --preset beta-vae --beta 2
  elbo train --config long/run.toml --seed 2 --out second

At the end it warns of two ways in which a run goes wrong. Posterior collapse: most latent dimensions \
carry less than 0.01 nats of the test data. Reconstruction drowns the KL: over the first 1,000 test rows, \
the aggregate posterior of an active latent dimension is on average more than 0.8 nats from the prior, so \
that codes drawn from the prior are not such as the decoder has learned."
)]
pub struct TrainOptions {
    #[command(flatten)]
    pub data: TrainingDataOptions,

    #[command(flatten)]
    pub model: ArchitectureOptions,

    #[command(flatten)]
    pub output: LikelihoodOptions,

    #[command(flatten)]
    pub weight: ObjectiveOptions,

    #[command(flatten)]
    pub importance: ImportanceOptions,

    #[command(flatten)]
    pub course: TrainingLength,

    #[command(flatten)]
    pub descent: OptimizerOptions,

    #[command(flatten)]
    pub stopping: StoppingOptions,

    #[command(flatten)]
    pub source: ConfigurationOptions,

    /// Folder for the results; made if it is not there, older results in it are replaced
    #[arg(long, value_name = "DIR", default_value = "elbo-out", help_heading = "Results")]
    pub out: PathBuf,

    /// End with one line of JSON: epochs, model_epoch (that of the model kept), train_loss, test_loss,
    /// test_reconstruction, test_kl (nats per example, after that epoch), active_units (latent dimensions
    /// whose mean varies over the test data by more than 0.01), collapsed_units (those that carry less
    /// than 0.01 nats), warnings, images_per_second (in training), seconds (of the whole run), model (its
    /// path)
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    /// No progress bar and no line for each epoch
    #[arg(long, help_heading = "Results")]
    pub quiet: bool,

    #[command(flatten)]
    pub shape: ImageSize,

    /// The options of this call as TOML.
    #[arg(skip)]
    pub settings: String,
}

/// How long to train, and from which start.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingLength {
    /// Passes over the training data
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub epochs: usize,

    /// Rows of a batch; the last one of an epoch may be shorter
    #[arg(long, value_name = "ROWS", default_value_t = 128, value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub batch: usize,

    /// Seed of the initial weights, the order of the rows, the noise and the rows held out
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
        allow_negative_numbers = true)]
    pub seed: u64,
}

/// When a run ends, is interrupted, and goes on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Long runs")]
pub struct StoppingOptions {
    /// Stop when the test loss has not fallen for so many epochs, and keep the model of the lowest
    #[arg(long, value_name = "EPOCHS", value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub patience: Option<usize>,

    /// The model to keep: last, or best (of the lowest test loss) [default: last; with --patience best]
    #[arg(long, value_name = "WHICH", value_enum, hide_possible_values = true)]
    pub keep: Option<Keep>,

    /// Write a checkpoint into the folder every so often, such as 5epochs or 2000steps
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    pub checkpoint_every: Option<Span>,

    /// Go on with the run whose checkpoint is in this folder, to the same bits as if it had not been
    /// interrupted; it keeps its options
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Keep {
    Last,
    Best,
}

impl StoppingOptions {
    pub fn keep(&self) -> Keep {
        let usual = if self.patience.is_some() { Keep::Best } else { Keep::Last };
        self.keep.unwrap_or(usual)
    }
}

/// Options that are not typed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigurationOptions {
    /// Read options from a TOML file: `latent = 8`, `hidden = [512, 256]`, `layer-norm = true`, as the
    /// run.toml of every run; those on the command line win (`--layer-norm=false`)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Begin with the options of a usual start: mnist (30 epochs of the default network), tabular
    /// (Gaussian, a variance for each column), anomaly (one variance for all columns, a small code),
    /// beta-vae (10 dimensions, beta 4, warmed up), iwae (Burda's network, 50 samples, DReG); --config and
    /// the command line win
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub preset: Option<Preset>,
}
