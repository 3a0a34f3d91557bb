//! `elbo train`.

use super::values::{count, span};
use super::{
    Architecture, Course, Descent, Importance, Output, Preset, Shape, TrainingData, Weight,
};
use clap::{Args, ValueEnum};
use elbo::optim::Span;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Train {
    #[command(flatten)]
    pub data: TrainingData,

    #[command(flatten)]
    pub model: Architecture,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub weight: Weight,

    #[command(flatten)]
    pub importance: Importance,

    #[command(flatten)]
    pub course: Course,

    #[command(flatten)]
    pub descent: Descent,

    #[command(flatten)]
    pub stopping: Stopping,

    #[command(flatten)]
    pub source: Source,

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
    pub shape: Shape,

    /// The options of this call as TOML.
    #[arg(skip)]
    pub settings: String,
}

/// When a run ends, is interrupted, and goes on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Long runs")]
pub struct Stopping {
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

impl Stopping {
    pub fn keep(&self) -> Keep {
        let usual = if self.patience.is_some() { Keep::Best } else { Keep::Last };
        self.keep.unwrap_or(usual)
    }
}

/// Options that are not typed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Source {
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
