//! Training options.

use crate::dataset::Augmentation;
use crate::error::{Error, Result};
use crate::optim::{Clip, LearningRateSchedule, Optimizer};
use crate::vae::{Config, Objective, Penalty};

/// Training options, with defaults; [`Trainer::new`](super::Trainer::new) checks them.
///
/// ```
/// use elbo::{optim::AdamW, train::Options, vae::Objective};
///
/// let options = Options {
///     batch: 256,
///     optimizer: AdamW { learning_rate: 3e-4, ..AdamW::default() }.into(),
///     objective: Objective { beta: 4.0, ..Objective::default() },
///     ..Options::default()
/// };
/// assert!(options.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Options {
    /// Rows of a batch; default 128. The last batch of an epoch may be shorter.
    pub batch: usize,
    /// The training objective; default the negative evidence lower bound per example.
    pub objective: Objective,
    /// The optimizer; default [`Adam`](crate::optim::Adam).
    #[cfg_attr(feature = "safetensors", serde(rename = "optimiser", alias = "optimizer"))]
    pub optimizer: Optimizer,
    /// The seed of the order of the rows and of the noise; default 1.
    pub seed: u64,
    /// Batches whose gradients are added up for one step; default 1. Loss and weights have the bits of
    /// one batch of all their rows, unless the objective or the likelihood depends on a whole batch (free
    /// bits per dimension, capacity of the batch, total correlation, optimal variance): it then sees each
    /// of them alone.
    #[cfg_attr(feature = "safetensors", serde(default = "one"))]
    pub accumulate: usize,
    /// Clipping of the gradient; default none.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub clip: Option<Clip>,
    /// Schedule of the learning rate; default constant.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub schedule: LearningRateSchedule,
    /// Augmentation of the data, drawn anew each time a row is seen; default none.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub augmentation: Augmentation,
}

#[cfg(feature = "safetensors")]
fn one() -> usize {
    1
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 128,
            objective: Objective::default(),
            optimizer: Optimizer::default(),
            seed: 1,
            accumulate: 1,
            clip: None,
            schedule: LearningRateSchedule::default(),
            augmentation: Augmentation::None,
        }
    }
}

impl Options {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Config`] for a batch of 0 rows, a setting outside its domain, or an invalid objective.
    pub fn validate(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::config("batch", "at least 1", self.batch));
        }
        if self.accumulate == 0 {
            return Err(Error::config("accumulate", "at least 1", self.accumulate));
        }
        if self.batch == 1 && matches!(self.objective.penalty, Penalty::TotalCorrelation { .. }) {
            let expected =
                "at least 2 rows with total correlation, which compares the rows of a batch";
            return Err(Error::config("batch", expected, self.batch));
        }
        self.objective.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate()?;
        self.augmentation.validate()?;
        self.clip.as_ref().map_or(Ok(()), Clip::validate)
    }

    /// Checks the options, and that they fit a model.
    ///
    /// # Errors
    /// As [`Self::validate`]; also for an objective that the likelihood does not allow, and for an
    /// augmentation whose result the likelihood does not describe: binarized data under a density, or
    /// dequantized data under a Bernoulli likelihood.
    pub fn validate_for(&self, config: &Config) -> Result<()> {
        self.validate()?;
        self.objective.validate_for(config)?;
        config.likelihood().validate_augmentation(self.augmentation)
    }
}
