//! The options of `elbo train`.

mod data;
mod model;
mod objective;
mod optimizer;
mod preset;

pub use preset::Preset;

use crate::options::values::{MAX_WIDTH, count, seed, span};
use clap::{Args, ValueEnum};
use data::TrainingDataOptions;
use elbo::optim::Span;
use model::{ArchitectureOptions, LikelihoodOptions};
use objective::ObjectiveOptions;
use optimizer::{OptimizerOptions, ScheduleName};
use std::path::PathBuf;

/// Train a model and write it to a directory with its history and figures
#[derive(Debug, Args)]
#[command(mut_arg("label_column", |option| option.help_heading(None::<&'static str>).display_order(3)))]
#[command(after_long_help = "\
Without --data, elbo trains on an embedded sample of MNIST: 5,000 images, and 1,000 others for validation. \
The directory then holds model.safetensors, history.csv and history.jsonl (one line per epoch; \
history.jsonl.part during the run), run.toml (the options of the run), samples.png, reconstructions.png \
(inputs above outputs), loss.png and checkpoint.safetensors. The checkpoint holds the weights and the state of \
the optimizer, three times the size of the model; --resume needs it to train the model further, nothing else \
does.

A directory that holds any of these files is refused unless --overwrite is given. The old files stay until the \
new run has finished its first epoch or been interrupted; a run that fails before that leaves them as they \
were. No file that the run reads is ever replaced.

In a table (.csv or .tsv; comma, semicolon, tab or | between the columns) every column but the labels is a \
feature; a missing value is an error that names its line. Most tables need --scale standardize --likelihood \
gaussian. Parquet and Arrow files are not supported; convert them first, in Python with \
`pandas.read_parquet('t.parquet').to_csv('t.csv', index=False)`. Images are read from one directory, or from \
one directory per class, in the order of their names, in gray unless --rgb is given.

Ctrl-C, SIGTERM and SIGHUP finish the step, write a checkpoint and print the command that resumes the run; with \
--checkpoint-every a killed run loses no more than that span. A resumed run yields the same bits as an \
uninterrupted one. So does a finished run that is trained further with --resume DIR --epochs N, unless a \
schedule or an annealing spans all epochs. A run that fails after its first epoch keeps its best model, or that \
of the last epoch.

Options are merged in layers: --preset, then --config, then the command line. A later layer replaces an \
option of an earlier one and drops the options that depended on it, with a note: `--preset tabular --likelihood \
squared-error` trains without the preset's --variance. The value none takes an option back (--patience none), \
and =false a switch (--layer-norm=false); with --hidden, --encoder and --decoder none means no hidden layer.

Examples:
  elbo train
  elbo train --data train-images-idx3-ubyte.gz --validation t10k-images-idx3-ubyte.gz --out mnist
  elbo train --data table.csv --label-column kind --scale standardize --likelihood gaussian
  elbo train --data table.csv --columns 2-9,12 --scale min-max --validation-fraction 0.2 --test-fraction 0.1
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
  elbo train --resume long --epochs 800
  elbo train --init long/model.safetensors --lr 1e-4 --out tuned
  elbo train --preset beta-vae --beta 2
  elbo train --config long/run.toml --seed 2 --out second

Two warnings at the end of a run point out common failures. Posterior collapse: most latent dimensions carry \
less than 0.01 nats on the validation data. Reconstruction outweighs the KL: over the first 1,000 validation \
rows, the aggregate posterior of an active latent dimension is more than 0.8 nats from the prior on average, \
so the decoder has rarely seen codes like those drawn from the prior.")]
pub struct TrainOptions {
    #[command(flatten)]
    pub data: TrainingDataOptions,

    #[command(flatten)]
    pub model: ArchitectureOptions,

    #[command(flatten)]
    pub likelihood: LikelihoodOptions,

    #[command(flatten)]
    pub objective: ObjectiveOptions,

    #[command(flatten)]
    pub length: TrainingLength,

    #[command(flatten)]
    pub optimizer: OptimizerOptions,

    #[command(flatten)]
    pub stopping: StoppingOptions,

    #[command(flatten)]
    pub source: ConfigurationOptions,

    /// Directory for the results
    ///
    /// Created if it does not exist. A directory with the files of another run is refused.
    #[arg(long, short, value_name = "DIR", default_value = "elbo-out", help_heading = None,
          display_order = 11)]
    pub out: PathBuf,

    /// Replace the files of an earlier run in --out
    ///
    /// All of them, even those that this run does not write; files that the run reads are refused all the same.
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,

    /// Print the result as one line of JSON on standard output
    ///
    /// epochs, model_epoch (of the model that is kept), train_loss, validation_loss,
    /// validation_reconstruction, validation_kl (nats per example, after that epoch), active_units (latent
    /// dimensions whose mean has a variance above 0.01 on the validation data), collapsed_units (those that
    /// carry less than 0.01 nats), warnings, images_per_second (in training), seconds (of the whole run),
    /// model (its path); with test data also test_rows (those in the loss), test_loss, test_reconstruction, test_kl.
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// The options of this run as TOML.
    #[arg(skip)]
    pub settings: String,

    /// Notes of the options of presets and files that the command line replaced.
    #[arg(skip)]
    pub notes: Vec<String>,

    /// The options that come from a preset or a file, with its name.
    #[arg(skip)]
    pub origins: Vec<(String, String)>,
}

/// Length of a run, and its seed.
#[derive(Debug, Args)]
pub struct TrainingLength {
    /// Passes over the training data, or steps: 3000steps
    ///
    /// The epoch in which the last step falls is completed.
    #[arg(long, value_name = "N", default_value = "10", value_parser = length_of_a_run,
          allow_negative_numbers = true, help_heading = None, display_order = 8)]
    pub epochs: Span,

    /// Rows of a batch
    ///
    /// The last batch of an epoch may be smaller.
    #[arg(long, value_name = "ROWS", alias = "batch-size", default_value_t = 128,
          value_parser = count(MAX_WIDTH), allow_negative_numbers = true, help_heading = None,
          display_order = 9)]
    pub batch: usize,

    /// Seed of weights, row order, noise and held-out rows
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
          allow_negative_numbers = true, help_heading = None, display_order = 12)]
    pub seed: u64,
}

/// A number of epochs or steps of a run, from 1 to 1,000,000 epochs.
fn length_of_a_run(text: &str) -> Result<Span, &'static str> {
    match span(text) {
        Ok(length @ (Span::Epochs(1..=1_000_000) | Span::Steps(_))) => Ok(length),
        _ => Err(LENGTH),
    }
}

const LENGTH: &str =
    "expected a whole number from 1 to 1000000, or a number of steps such as 3000steps";

/// Number of epochs of a length, the last of them whole.
pub fn whole_epochs(length: Span, steps_of_an_epoch: u64) -> usize {
    match length {
        Span::Epochs(epochs) => epochs as usize,
        Span::Steps(steps) => steps.div_ceil(steps_of_an_epoch) as usize,
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Stopping and resuming")]
pub struct StoppingOptions {
    /// Stop after N epochs without improvement and keep the best model
    ///
    /// Improvement is a lower validation loss. Epochs before the end of --anneal (cyclical: of the last rise)
    /// and of --capacity-over do not count. A number of steps, such as 500steps, is rounded up to epochs.
    #[arg(long, value_name = "N", value_parser = length_of_a_run, allow_negative_numbers = true)]
    pub patience: Option<Span>,

    /// Model to keep: last or best [default: last]
    ///
    /// The best model is that of the lowest validation loss, from the end of --anneal and of --capacity-over on
    /// [default with --patience: best].
    #[arg(long, value_name = "WHICH", value_enum, hide_possible_values = true)]
    pub keep: Option<Keep>,

    /// Write a checkpoint every SPAN, such as 5epochs or 2000steps
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    pub checkpoint_every: Option<Span>,

    /// Resume the run in DIR; with more --epochs, a finished one too
    ///
    /// With the options it began with, to the same bits as if it had not been interrupted. --epochs and
    /// --patience may change.
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
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

/// Sources of options other than the command line.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigurationOptions {
    /// Start from a preset: mnist, tabular, anomaly, beta-vae or iwae
    ///
    /// mnist: 30 epochs of the default network; tabular: Gaussian, one variance per column; anomaly: rows
    /// far from the others left out, no hidden layers, 3,000 steps; beta-vae: 10 dimensions, beta annealed to 4; iwae: the network
    /// of Burda et al. with 50 samples and DReG. --config and the command line override it.
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true, help_heading = None,
          display_order = 0)]
    pub preset: Option<Preset>,

    /// Read options from a TOML file, such as the run.toml of a run
    ///
    /// `latent = 8`, `hidden = [512, 256]`, `layer-norm = true`; the command line overrides it.
    #[arg(long, value_name = "FILE", help_heading = None, display_order = 0)]
    pub config: Option<PathBuf>,

    /// Start from the weights of a model instead of random ones
    ///
    /// The options must describe a network with the same layers. Only the weights are taken, not the scaling
    /// of the data, the history or the state of the optimizer.
    #[arg(long, value_name = "MODEL")]
    pub init: Option<PathBuf>,
}

impl TrainOptions {
    /// Returns the options that make each step depend on the number of epochs.
    pub fn bound_to_epochs(&self) -> Option<&'static str> {
        self.optimizer.bound_to_epochs().or_else(|| self.objective.bound_to_epochs())
    }

    /// Returns true if the validation loss decides which model is kept, when the run stops or how it learns.
    pub fn selects_by_validation(&self) -> bool {
        self.stopping.keep() == Keep::Best
            || self.stopping.patience.is_some()
            || self.optimizer.schedule == ScheduleName::Plateau
    }
}
