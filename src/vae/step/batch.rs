//! A batch: its rows, its random numbers, and the pass that is computed over it.

use super::terms::{Scales, StepObjective};
use crate::dataset::{Augmentation, Dataset};
use crate::random::Stream;
use crate::vae::config::Config;
use crate::vae::parameters::Parameters;
use ndarray::{ArrayView2, s};
use std::ops::Range;

/// The rows of a data set that make a batch, and their random numbers.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) data: &'a dyn Dataset,
    pub(crate) indices: Indices<'a>,
    pub(crate) noise: Noise<'a>,
    pub(crate) key: NoiseKey,
    pub(crate) augmentation: Augmentation,
}

impl Batch<'_> {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.indices.len()
    }

    /// Parts of at most `length` rows, in order. A batch whose noise is given stays whole.
    pub(crate) fn parts(&self, length: usize) -> impl Iterator<Item = Self> {
        let rows = self.len();
        let length = if matches!(self.noise, Noise::Given(_)) { rows } else { length };
        (0..rows)
            .step_by(length)
            .map(move |first| self.slice(first..rows.min(first.saturating_add(length))))
    }

    /// Rows `rows` of the batch, as a batch.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        let noise = match self.noise {
            // Drawn noise follows the row numbers in the data set: a part draws what the whole batch would.
            Noise::Drawn | Noise::Zero => self.noise,
            Noise::Given(noise) => {
                let samples = noise.nrows() / self.len().max(1);
                Noise::Given(noise.slice_move(s![rows.start * samples..rows.end * samples, ..]))
            }
        };
        Self { indices: self.indices.slice(rows), noise, ..*self }
    }
}

/// Row numbers in the data set, in the order of the batch.
#[derive(Clone, Copy)]
pub(crate) enum Indices<'a> {
    /// Consecutive rows: the first one, and how many.
    Range(usize, usize),
    /// Any rows.
    List(&'a [u32]),
}

impl Indices<'_> {
    fn len(self) -> usize {
        match self {
            Self::Range(_, len) => len,
            Self::List(rows) => rows.len(),
        }
    }

    fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::Range(first, _) => Self::Range(first + range.start, range.len()),
            Self::List(rows) => Self::List(&rows[range]),
        }
    }

    /// The number in the data set of the batch's row `index`.
    #[inline]
    pub(crate) fn row(self, index: usize) -> usize {
        match self {
            Self::Range(first, _) => first + index,
            Self::List(rows) => rows[index] as usize,
        }
    }
}

/// Source of the reparameterization's noise ε.
#[derive(Clone, Copy)]
pub(crate) enum Noise<'a> {
    /// Drawn: a function of the [`NoiseKey`] and of the row's number in the data set.
    Drawn,
    /// None: every sample is the mean of its posterior.
    Zero,
    /// Given as `[B·k, Z]`: k samples of each row, one row after the other.
    Given(ArrayView2<'a, f32>),
}

/// Key of a pass's random numbers. With a row's number in the data set it determines them, so any
/// thread can draw any of them.
#[derive(Clone, Copy)]
pub(crate) struct NoiseKey {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) purpose: Purpose,
}

/// Purpose of a pass: it selects the streams of random numbers, and training alone computes
/// gradients and drops units.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Training,
    Evaluation,
}

impl Purpose {
    /// Stream of the reparameterization's noise.
    pub(super) fn noise_stream(self) -> Stream {
        match self {
            // Separate streams, so that evaluating between two steps does not change training.
            Self::Training => Stream::Noise,
            Self::Evaluation => Stream::Evaluate,
        }
    }

    /// Stream of an augmentation's numbers, if it needs any.
    pub(super) fn augmentation_stream(self, augmentation: Augmentation) -> Option<Stream> {
        match self {
            Self::Training => augmentation.training_stream(),
            Self::Evaluation => augmentation.evaluation_stream(),
        }
    }
}

/// A computation over a batch: its model, its weights and its objective.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a, 'b> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Parameters,
    pub(crate) batch: &'a Batch<'b>,
    pub(crate) objective: StepObjective,
    /// Factors of the two terms' gradients.
    pub(crate) scales: Scales,
}

impl Pass<'_, '_> {
    /// Returns `true` if the gradient of one row depends on the other rows.
    pub(crate) fn is_coupled(&self) -> bool {
        // The optimal variance scales every gradient of the output; the last row decides it.
        self.objective.penalty.is_coupled() || self.config.has_optimal_variance()
    }

    /// Returns `true` if gradients are computed and units dropped.
    pub(super) fn is_training(&self) -> bool {
        self.batch.key.purpose == Purpose::Training
    }
}
