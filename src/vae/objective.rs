//! What training minimises.

use super::Config;
use super::block::Scales;
use super::workspace::Sums;
use crate::error::{Error, Result};
use crate::loss::{Elbo, Reduction};

/// `loss = reconstruction + β·KL`, each reduced the same way.
///
/// ```
/// use elbo::vae::Objective;
///
/// let beta_vae = Objective { beta: 4.0, ..Objective::default() };
/// assert_eq!(Objective::default().beta, 1.0); // the evidence lower bound
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Objective {
    /// β, the weight of the KL divergence (Higgins et al. 2017); default 1, the evidence lower
    /// bound.
    pub beta: f32,
    /// How both terms are reduced; default [`Reduction::BatchMean`], nats per example. See
    /// [`Reduction`] for what `Mean` does to β.
    pub reduction: Reduction,
}

impl Default for Objective {
    fn default() -> Self {
        Self { beta: 1.0, reduction: Reduction::BatchMean }
    }
}

impl Objective {
    /// # Errors
    /// [`Error::Config`] for a β that is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        if !(self.beta.is_finite() && self.beta >= 0.0) {
            return Err(Error::config("beta", "a finite number, 0 or more", self.beta));
        }
        Ok(())
    }

    /// By what the two sums over a batch are divided.
    fn divisors(&self, config: &Config, rows: usize) -> [f64; 2] {
        [config.features(), config.latent()]
            .map(|columns| self.reduction.divisor(rows, columns).unwrap_or(1.0))
    }

    /// What the gradients of the two terms are multiplied by.
    pub(crate) fn scales(&self, config: &Config, rows: usize) -> Scales {
        let [reconstruction, kl] = self.divisors(config, rows);
        Scales {
            reconstruction: (1.0 / reconstruction) as f32,
            kl: (f64::from(self.beta) / kl) as f32,
        }
    }

    /// The loss of a batch from its sums.
    pub(crate) fn reduce(&self, config: &Config, rows: usize, sums: Sums) -> Elbo {
        let [reconstruction, kl] = self.divisors(config, rows);
        let (reconstruction, kl) = (sums.reconstruction / reconstruction, sums.kl / kl);
        Elbo { loss: reconstruction + f64::from(self.beta) * kl, reconstruction, kl }
    }
}
