//! Penalties whose gradient depends on the whole batch.
//!
//! # Method
//! The blocks have left μ|logvar (and z) of all rows. Then, in the order of the batch:
//! 1. Sums over the rows: of the KL divergence, of that of each latent dimension, or over all pairs. Dimensions
//!    and pairs are shared among threads.
//! 2. The penalty of the batch from these sums, by the rule of the [loss](crate::loss) term itself.
//! 3. Its derivative with respect to each sum. The KL divergence of a row is a term of the sum, so
//!    the gradient of the row is that of its KL divergence times this derivative.
//!
//! Penalties that are sums over rows come along with a gradient that was complete before.

use super::batch::Pass;
use super::block::Block;
use super::terms::{RowLosses, RowSums, StepPenalty};
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::loss::total_correlation::{TotalCorrelation, ln_weight};
use crate::loss::{CapacityPer, FreeBits, FreeBitsPer};
use crate::memory::expect_memory;
use crate::simd::sum::sum_rows;
use crate::vae::dimensions::DimensionSums;

/// Memory for quantities of the whole batch.
#[derive(Default)]
pub(super) struct CouplingMemory {
    dimensions: DimensionSums,
    /// Derivative of the penalty with respect to the KL divergence of each latent dimension.
    slopes: Vec<f32>,
    total_correlation: TotalCorrelation,
}

/// The penalty of a batch, summed over its rows, and the part of its gradient that depends on all
/// of them.
pub(super) struct BatchPenalty<'a> {
    pub(super) sum: f64,
    pub(super) gradient: PenaltyGradient<'a>,
}

/// The part of the penalty's gradient that depends on the whole batch.
pub(super) enum PenaltyGradient<'a> {
    /// None: the gradient is a function of the row.
    OfRows,
    /// Derivative of the penalty with respect to the KL divergence.
    Slope(f32),
    /// The same for each latent dimension.
    Slopes(&'a [f32]),
    /// The gradients themselves, by the number of the row in the batch.
    TotalCorrelation(&'a TotalCorrelation),
}

impl<'a> PenaltyGradient<'a> {
    /// Gradients of z, μ and logvar that do not come from the decoder.
    pub(super) fn total_correlation(&self) -> Option<&'a TotalCorrelation> {
        if let Self::TotalCorrelation(gradients) = self { Some(gradients) } else { None }
    }
}

/// Makes room for all rows in the pairs of a total correlation.
///
/// # Errors
/// [`Error::Memory`] if the machine does not have it.
pub(crate) fn reserve_pairs(
    pairs: &mut TotalCorrelation,
    rows: usize,
    latent: usize,
) -> Result<()> {
    // Nine numbers of each row and dimension, and of the rows alone less than that.
    let bytes = (rows as u64).saturating_mul(latent as u64).saturating_mul(9 * 4);
    expect_memory(
        bytes,
        || format!("the total correlation of {rows} rows of {latent} latent dimensions"),
        "use a smaller batch or fewer latent dimensions",
    )?;
    pairs.reserve(rows, latent);
    Ok(())
}

impl CouplingMemory {
    /// Step 1 without pairs: the sums over the rows of some blocks, whose terms are `losses`.
    pub(super) fn row_sums(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        blocks: &[Block],
        losses: &RowLosses,
    ) -> RowSums {
        let rows = pass.batch.len();
        let penalty = pass.objective.penalty;
        let dimensions = if penalty.is_of_dimensions() {
            self.dimensions.clear(pass.config.latent());
            self.dimensions.add(compute, blocks, pass.config.prior());
            std::mem::take(&mut self.dimensions.kl)
        } else {
            Vec::new()
        };
        // The tree of these sums depends on the number of rows alone, not on the blocks.
        RowSums {
            reconstruction: sum_rows(&losses.reconstruction[..rows]),
            kl: sum_rows(&losses.kl[..rows]),
            // Each row has computed its own penalty; the batch only adds them up.
            penalty: if penalty.is_of_rows() { sum_rows(&losses.penalty[..rows]) } else { 0.0 },
            dimensions,
        }
    }

    /// Takes back the memory of [`Self::row_sums`].
    pub(super) fn recycle(&mut self, sums: RowSums) {
        self.dimensions.kl = sums.dimensions;
    }

    /// Computes the penalty of a batch of `rows` rows from the sums over them. Pairs of rows are those of the
    /// `blocks`, which are then the whole batch.
    ///
    /// # Errors
    /// [`Error::NotFiniteBatch`] if it is not finite, [`Error::Memory`] for more pairs of rows than there
    /// is memory for.
    pub(super) fn penalty(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        blocks: &[Block],
        rows: usize,
        sums: &RowSums,
    ) -> Result<BatchPenalty<'_>> {
        let n = rows as f64;
        let of_rows = || (sums.penalty, PenaltyGradient::OfRows);
        let (sum, gradient) = match pass.objective.penalty {
            StepPenalty::Kl => (sums.kl, PenaltyGradient::OfRows),
            StepPenalty::FreeBits(free_bits) => match free_bits.per {
                FreeBitsPer::Element | FreeBitsPer::Sample => of_rows(),
                FreeBitsPer::Dimension => {
                    // 2. and 3.
                    let sum = self.free_bits(free_bits, n, &sums.dimensions);
                    (sum, PenaltyGradient::Slopes(&self.slopes))
                }
            },
            StepPenalty::Capacity(capacity) => match capacity.per {
                CapacityPer::Sample => of_rows(),
                CapacityPer::Batch => {
                    // 2. and 3. The mean over rows is held at C; times n it is a sum over rows,
                    // as the other penalties are.
                    let (distance, slope) = capacity.value_and_slope(sums.kl / n);
                    (n * distance, PenaltyGradient::Slope(slope as f32))
                }
            },
            StepPenalty::Importance(_) => of_rows(),
            StepPenalty::TotalCorrelation(weights) => {
                debug_assert_eq!(rows, pass.batch.len());
                let latent = pass.config.latent();
                let pairs = &mut self.total_correlation;
                // 1. to 3. over all pairs of rows, with gradients of z, μ and logvar themselves.
                reserve_pairs(pairs, rows, latent)?;
                for block in blocks {
                    block.store_codes(pairs, block.first);
                }
                // ln B: the loss of a row does not depend on the number of rows trained on or evaluated.
                let ln_weight = ln_weight(1, rows)?;
                let (prior, scale) = (pass.config.prior(), pass.scales.penalty);
                let parts = if pass.is_training() {
                    pairs.forward_backward(compute, weights, ln_weight, prior, scale)
                } else {
                    pairs.forward(compute, ln_weight, prior)
                };
                (n * parts.weighted(weights), PenaltyGradient::TotalCorrelation(pairs))
            }
        };
        if !sum.is_finite() {
            let term = match pass.objective.penalty {
                StepPenalty::TotalCorrelation(_) => "total correlation",
                _ => "penalty",
            };
            return Err(Error::NotFiniteBatch { term, value: sum, step: None });
        }
        Ok(BatchPenalty { sum, gradient })
    }

    /// Free bits per dimension of a batch of `n` rows, summed over the rows.
    fn free_bits(&mut self, free_bits: FreeBits, n: f64, dimensions: &[f64]) -> f64 {
        self.slopes.clear();
        let mut sum = 0.0;
        for &kl in dimensions {
            // n·max(λ, mean_i KL_ij): a dimension at or below λ has no gradient.
            let (value, slope) = free_bits.value_and_slope(kl / n);
            self.slopes.push(slope as f32);
            // Above the threshold n·(kl/n), without its rounding.
            sum += if slope == 0.0 { n * value } else { kl };
        }
        sum
    }
}
