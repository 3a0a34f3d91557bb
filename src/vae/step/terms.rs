//! The objective at one step, and the loss of a batch under it.

use crate::loss::importance::Estimator;
use crate::loss::total_correlation::TcWeights;
use crate::loss::{Capacity, CapacityPer, Elbo, FreeBits, FreeBitsPer, Reduction};
use crate::vae::config::Config;

/// An objective at one step, its schedules evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepObjective {
    /// Weight of the penalty.
    pub(crate) weight: f32,
    pub(crate) penalty: StepPenalty,
    /// Latent samples of each row.
    pub(crate) samples: usize,
    pub(in crate::vae) reduction: Reduction,
}

/// The term that keeps the latent code near its prior: the KL divergence, or a penalty on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StepPenalty {
    Kl,
    FreeBits(FreeBits),
    /// Its own γ is 1; [`StepObjective::weight`] holds γ.
    Capacity(Capacity),
    TotalCorrelation(TcWeights),
    Importance(Estimator),
}

impl StepPenalty {
    /// Returns `true` if each row has a penalty of its own beside its KL divergence.
    pub(super) fn is_of_rows(self) -> bool {
        match self {
            Self::Kl | Self::TotalCorrelation(_) => false,
            Self::FreeBits(free_bits) => free_bits.per != FreeBitsPer::Dimension,
            Self::Capacity(capacity) => capacity.per == CapacityPer::Sample,
            Self::Importance(_) => true,
        }
    }

    /// Returns `true` if the penalty compares the KL divergence of each latent dimension.
    pub(super) fn is_of_dimensions(self) -> bool {
        matches!(self, Self::FreeBits(free_bits) if free_bits.per == FreeBitsPer::Dimension)
    }

    /// Returns `true` if the gradient of one row depends on the other rows.
    pub(crate) fn is_coupled(self) -> bool {
        match self {
            Self::Kl | Self::Importance(_) => false,
            // The mean over the batch is compared with λ; the other two are rules of a row.
            Self::FreeBits(free_bits) => free_bits.per == FreeBitsPer::Dimension,
            Self::Capacity(capacity) => capacity.per == CapacityPer::Batch,
            // Every row is compared with every other.
            Self::TotalCorrelation(_) => true,
        }
    }
}

/// Factors of the two terms' gradients.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) reconstruction: f32,
    /// The weight of the penalty included.
    pub(crate) penalty: f32,
}

/// Terms of each row, in nats, unweighted and unreduced.
pub(crate) struct RowLosses {
    pub(crate) reconstruction: Vec<f64>,
    pub(crate) kl: Vec<f64>,
    /// The penalty; unused if it is the KL divergence itself or depends on the whole batch.
    pub(crate) penalty: Vec<f64>,
}

impl RowLosses {
    pub(super) fn zeros(rows: usize) -> Self {
        // `[rows]` each.
        let zeros = vec![0.0; rows];
        Self { reconstruction: zeros.clone(), kl: zeros.clone(), penalty: zeros }
    }

    /// Makes room for `rows` rows. Allocates only if the room is too small.
    pub(super) fn reserve(&mut self, rows: usize) {
        for values in [&mut self.reconstruction, &mut self.kl, &mut self.penalty] {
            if values.len() < rows {
                values.resize(rows, 0.0);
            }
        }
    }

    /// Stores the first `rows` rows of `from` from row `first` on.
    pub(super) fn store(&mut self, first: usize, from: &Self, rows: usize) {
        let range = first..first + rows;
        self.reconstruction[range.clone()].copy_from_slice(&from.reconstruction[..rows]);
        self.kl[range.clone()].copy_from_slice(&from.kl[..rows]);
        self.penalty[range].copy_from_slice(&from.penalty[..rows]);
    }
}

/// Sums over the rows of a batch, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LossSums {
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
    /// The penalty, unweighted; it may be the KL divergence itself.
    pub(crate) penalty: f64,
    /// Squared errors, from which the batch-optimal variance is computed.
    pub(crate) squares: f64,
}

impl std::ops::AddAssign for LossSums {
    fn add_assign(&mut self, other: Self) {
        self.reconstruction += other.reconstruction;
        self.kl += other.kl;
        self.penalty += other.penalty;
        self.squares += other.squares;
    }
}

/// Sums over the rows of a batch, or of a shard of it, from which the loss of the batch is computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RowSums {
    /// The reconstruction term; squared errors where the variance is optimal.
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
    /// Penalties of the rows, where each has its own.
    pub(crate) penalty: f64,
    /// KL divergence of each latent dimension, where the penalty compares these; else empty.
    pub(crate) dimensions: Vec<f64>,
}

impl std::ops::AddAssign<&Self> for RowSums {
    fn add_assign(&mut self, other: &Self) {
        self.reconstruction += other.reconstruction;
        self.kl += other.kl;
        self.penalty += other.penalty;
        for (sum, &other) in self.dimensions.iter_mut().zip(&other.dimensions) {
            *sum += other;
        }
    }
}

impl StepObjective {
    /// Divisors of the two terms' sums over a batch.
    fn divisors(&self, config: &Config, rows: usize) -> [f64; 2] {
        // Sum: 1 and 1; batch mean: B and B; mean: B·D and B·Z. `None` is for an empty batch,
        // which has nothing to divide.
        [config.features(), config.latent()]
            .map(|columns| self.reduction.divisor(rows, columns).unwrap_or(1.0))
    }

    /// Latent dimensions whose KL divergences are summed over a batch: all or none.
    pub(crate) fn dimensions(&self, config: &Config) -> usize {
        if self.penalty.is_of_dimensions() { config.latent() } else { 0 }
    }

    /// Factors of the gradients over `rows` rows.
    pub(crate) fn scales(&self, config: &Config, rows: usize) -> Scales {
        // In f64 up to here, and rounded to f32 once.
        let [reconstruction, penalty] = self.divisors(config, rows);
        Scales {
            reconstruction: (1.0 / reconstruction) as f32,
            penalty: (f64::from(self.weight) / penalty) as f32,
        }
    }

    /// The loss of a batch from its sums.
    pub(crate) fn reduce(&self, config: &Config, rows: usize, sums: LossSums) -> Elbo {
        let [by_features, by_latent] = self.divisors(config, rows);
        let reconstruction = sums.reconstruction / by_features;
        // β·penalty is in the loss; the KL divergence itself is reported beside it.
        let penalty = f64::from(self.weight) * (sums.penalty / by_latent);
        Elbo { loss: reconstruction + penalty, reconstruction, kl: sums.kl / by_latent }
    }

    /// The same objective in nats per example.
    pub(crate) fn per_example(self) -> Self {
        Self { reduction: Reduction::BatchMean, ..self }
    }
}
