//! An objective at one step, and the loss of a batch under it.

use crate::loss::importance::Estimator;
use crate::loss::{Elbo, Reduction};
use crate::vae::Config;

/// An objective at one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Of the penalty.
    pub(crate) weight: f32,
    pub(crate) rule: Rule,
    /// Latent samples of each row.
    pub(crate) samples: usize,
    pub(in crate::vae) reduction: Reduction,
}

/// What is done with the latent code of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Kl,
    ElementFreeBits { lambda: f32 },
    SampleFreeBits { lambda: f32 },
    SampleCapacity { capacity: f32 },
    Importance { estimator: Estimator },
    // From here on the gradient of one row depends on all others.
    DimensionFreeBits { lambda: f32 },
    BatchCapacity { capacity: f32 },
    TotalCorrelation { alpha: f32, beta: f32, gamma: f32 },
}

impl Rule {
    /// Whether the gradient of one row depends on the others.
    pub(crate) fn is_coupled(self) -> bool {
        matches!(
            self,
            Self::DimensionFreeBits { .. }
                | Self::BatchCapacity { .. }
                | Self::TotalCorrelation { .. }
        )
    }
}

/// What the gradients of the two terms are multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) reconstruction: f32,
    /// Of the penalty, its weight included.
    pub(crate) penalty: f32,
}

/// Sums over the rows of a batch, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
    /// What the weight is for: the KL divergence itself, or what the rule makes of it.
    pub(crate) penalty: f64,
    /// Under a batch-optimal variance: the squared errors that it is made of.
    pub(crate) squares: f64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.reconstruction += other.reconstruction;
        self.kl += other.kl;
        self.penalty += other.penalty;
        self.squares += other.squares;
    }
}

impl Terms {
    /// By what the two sums over a batch are divided.
    fn divisors(&self, config: &Config, rows: usize) -> [f64; 2] {
        [config.features(), config.latent()]
            .map(|columns| self.reduction.divisor(rows, columns).unwrap_or(1.0))
    }

    /// For a gradient over `rows` rows.
    pub(crate) fn scales(&self, config: &Config, rows: usize) -> Scales {
        let [reconstruction, penalty] = self.divisors(config, rows);
        Scales {
            reconstruction: (1.0 / reconstruction) as f32,
            penalty: (f64::from(self.weight) / penalty) as f32,
        }
    }

    /// The loss of a batch from its sums.
    pub(crate) fn reduce(&self, config: &Config, rows: usize, sums: Sums) -> Elbo {
        let [by_features, by_latent] = self.divisors(config, rows);
        let reconstruction = sums.reconstruction / by_features;
        let penalty = f64::from(self.weight) * (sums.penalty / by_latent);
        Elbo { loss: reconstruction + penalty, reconstruction, kl: sums.kl / by_latent }
    }

    /// The same terms in nats per example.
    pub(crate) fn per_example(self) -> Self {
        Self { reduction: Reduction::BatchMean, ..self }
    }
}
