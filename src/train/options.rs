//! How to train.

use crate::dataset::Augmentation;
use crate::error::{Error, Result};
use crate::optim::{Clip, LearningRateSchedule, Optimizer};
use crate::vae::{Config, Likelihood, Objective, Penalty};

/// How to train a model: data with defaults, checked when a [`Trainer`](super::Trainer) is made.
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
    /// What is minimized; default the negative evidence lower bound per example.
    pub objective: Objective,
    /// How the weights follow their gradients; default [`Adam`](crate::optim::Adam).
    #[cfg_attr(feature = "safetensors", serde(rename = "optimiser", alias = "optimizer"))]
    pub optimizer: Optimizer,
    /// The seed of the order of the rows and of the noise; default 1.
    pub seed: u64,
    /// Batches whose gradients are added up for one step; default 1. The loss is that of their
    /// rows together, and the weights have its bits, unless the objective or the likelihood looks at a whole
    /// batch (free bits of a dimension, capacity of the batch, total correlation, the optimal
    /// variance): then at each of them.
    #[cfg_attr(feature = "safetensors", serde(default = "one"))]
    pub accumulate: usize,
    /// What is done with a gradient that is too long; default nothing.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub clip: Option<Clip>,
    /// How the learning rate changes; default not at all.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub schedule: LearningRateSchedule,
    /// What is done to the data each time they are seen; default nothing.
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
    /// # Errors
    /// [`Error::Config`] for a batch of 0 rows, settings outside their domain, or an objective that
    /// makes no sense.
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

    /// [`Self::validate`], and whether these options make sense for such a model.
    ///
    /// # Errors
    /// [`Error::Config`] also for an objective that the likelihood does not allow, and for data that
    /// are made into what the likelihood is not for: bits for a density, or numbers between gray
    /// values for bits.
    pub fn validate_for(&self, config: &Config) -> Result<()> {
        self.validate()?;
        self.objective.validate_for(config)?;
        let likelihood = config.likelihood();
        let (makes, expected) = match self.augmentation {
            Augmentation::None => return Ok(()),
            Augmentation::Binarize => (
                likelihood.is_bernoulli(),
                "a Bernoulli likelihood beside binarized data: a density of zeros and ones has no \
                 bound",
            ),
            Augmentation::Dequantize { .. } => (
                !likelihood.is_bernoulli() && likelihood != Likelihood::TanhSquaredError,
                "a density on [0, 1] beside dequantized data, such as the continuous Bernoulli or a \
                 Gaussian",
            ),
        };
        if makes { Ok(()) } else { Err(Error::config("likelihood", expected, likelihood.name())) }
    }
}
