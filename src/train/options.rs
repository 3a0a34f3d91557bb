//! How to train.

use crate::error::{Error, Result};
use crate::optim::Optimiser;
use crate::vae::Objective;

/// How to train a model: data with defaults, checked when a [`Trainer`](super::Trainer) is made.
///
/// ```
/// use elbo::{optim::AdamW, train::Options, vae::Objective};
///
/// let options = Options {
///     batch: 256,
///     optimiser: AdamW { learning_rate: 3e-4, ..AdamW::default() }.into(),
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
    /// What is minimised; default the negative evidence lower bound per example.
    pub objective: Objective,
    /// How the weights follow their gradients; default [`Adam`](crate::optim::Adam).
    pub optimiser: Optimiser,
    /// The seed of the order of the rows and of the noise; default 1.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 128,
            objective: Objective::default(),
            optimiser: Optimiser::default(),
            seed: 1,
        }
    }
}

impl Options {
    /// # Errors
    /// [`Error::Config`] for a batch of 0 rows, or an objective or an optimiser whose settings
    /// are outside their domain.
    pub fn validate(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::config("batch", "at least 1", self.batch));
        }
        self.objective.validate()?;
        self.optimiser.validate()
    }
}
