//! Errors of rows: the first row of a block that cannot be trained on or evaluated, and why.
//!
//! The same checks serve training, evaluation, scores, the decomposition of the KL divergence and
//! marginal likelihoods. In a row they come in this order: data outside the likelihood's range, a
//! condition that is not finite, a logvar whose exponential overflows, the KL divergence, the
//! reconstruction, the penalty. Of several rows the first one in the order of the batch is named, so the
//! error depends neither on the threads nor on how the batch is divided into blocks.

use super::batch::Pass;
use super::block::Block;
use super::terms::StepPenalty;
use crate::error::{Error, Result};
use crate::loss::importance::Estimator;
use crate::loss::kernel::batch::reject_data;
use crate::simd::InstructionSet;

/// Limit of |logvar| beyond which e^logvar or e^−logvar overflows.
const OVERFLOW: f32 = 88.72;

/// Limit on |logvar| beyond which e^{logvar} or e^{−logvar} is no longer usable in the products of
/// importance weighting.
const IMPORTANCE_LIMIT: f32 = 87.0;

impl StepPenalty {
    /// Least and largest logvar whose exponentials can be computed with.
    fn logvar_limits(self) -> [f32; 2] {
        match self {
            Self::Importance(Estimator::Iwae) => [f32::NEG_INFINITY, IMPORTANCE_LIMIT],
            // These two also divide by the variance.
            Self::Importance(Estimator::Dreg) => [-IMPORTANCE_LIMIT, IMPORTANCE_LIMIT],
            Self::TotalCorrelation(_) => [-OVERFLOW, OVERFLOW],
            _ => [f32::NEG_INFINITY, OVERFLOW],
        }
    }
}

impl Block {
    /// Combines the samples of each row and checks all rows, after [`Self::loss`], which has found the
    /// data `accepted`.
    ///
    /// # Errors
    /// That of the first row that has one.
    pub(super) fn finish_losses(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        accepted: bool,
    ) -> Result<()> {
        let rows = self.rows;
        let usable = self.has_finite_conditions && self.has_usable_logvar(pass);
        if usable {
            self.weigh_samples(simd, pass);
        }
        let finite = |values: &[f64]| values[..rows].iter().sum::<f64>().is_finite();
        let sound = |block: &Self| {
            finite(&block.losses.kl)
                && finite(&block.losses.reconstruction)
                && (!pass.objective.penalty.is_of_rows() || finite(&block.losses.penalty))
        };
        // Data are reported once too often (−0), and a sum may overflow where no row does.
        if accepted && usable && sound(self) { Ok(()) } else { self.first_fault(simd, pass) }
    }

    #[cold]
    fn first_fault(&mut self, simd: InstructionSet, pass: &Pass<'_, '_>) -> Result<()> {
        let fault =
            |block: &Self, i| block.code_fault(pass, i).or_else(|| block.loss_fault(pass, i));
        let found = (0..self.rows).find_map(|i| Some((i, fault(self, i)?)));
        let Some((at, error)) = found else { return self.penalty_fault(pass).map_or(Ok(()), Err) };
        // The rows before it may still have a penalty that is not finite.
        let rows = std::mem::replace(&mut self.rows, at);
        self.weigh_samples(simd, pass);
        let earlier = self.penalty_fault(pass);
        self.rows = rows;
        Err(earlier.unwrap_or(error))
    }

    /// Checks the data and the latent codes of all rows, where no loss is computed.
    ///
    /// # Errors
    /// That of the first row that has one.
    pub(super) fn check_codes(&self, pass: &Pass<'_, '_>) -> Result<()> {
        (0..self.rows).try_for_each(|i| {
            if let Some(error) = self.code_fault(pass, i) {
                return Err(error);
            }
            let mut codes = self.codes(i).flatten().chain(self.heads.row(i));
            codes.find(|value| !value.is_finite()).map_or(Ok(()), |&value| {
                Err(self.not_finite(pass, i, "latent code", f64::from(value)))
            })
        })
    }

    /// Error of row `i` in what goes into the decoder: data, condition and logvar.
    pub(super) fn code_fault(&self, pass: &Pass<'_, '_>, i: usize) -> Option<Error> {
        let row = pass.batch.indices.row(self.first + i);
        let (x, condition) = self.inputs[0].row(i).split_at(self.features);
        if let Err(error) = reject_data(pass.config.likelihood().accepts(), x, row) {
            return Some(error);
        }
        if let Some(column) = condition.iter().position(|value| !value.is_finite()) {
            let value = condition[column];
            return Some(Error::NotFiniteCondition { row, column, value, step: None });
        }
        let logvar = &self.heads.row(i)[self.latent..];
        let [least, most] = pass.objective.penalty.logvar_limits();
        // NaN is for the loss to report.
        let dimension = logvar.iter().position(|&v| v > most || v < least)?;
        Some(Error::LogvarOverflow { row, dimension, value: logvar[dimension], step: None })
    }

    fn has_usable_logvar(&self, pass: &Pass<'_, '_>) -> bool {
        let penalty = pass.objective.penalty;
        let [least, most] = penalty.logvar_limits();
        // Elsewhere an overflow makes the KL divergence infinite.
        !matches!(penalty, StepPenalty::Importance(_) | StepPenalty::TotalCorrelation(_))
            || (0..self.rows)
                .all(|i| self.heads.row(i)[self.latent..].iter().all(|&v| !(v > most || v < least)))
    }

    /// Error of row `i` in the terms of its loss. If both are not finite, the KL divergence is named:
    /// it depends on the encoder alone.
    fn loss_fault(&self, pass: &Pass<'_, '_>, i: usize) -> Option<Error> {
        let samples = i * self.samples..(i + 1) * self.samples;
        let reconstruction = self.sample_reconstruction[samples].iter();
        let reconstruction = reconstruction.map(|&value| ("reconstruction", value));
        let (term, value) = std::iter::once(("KL divergence", self.losses.kl[i]))
            .chain(reconstruction)
            .find(|(_, value)| !value.is_finite())?;
        Some(self.not_finite(pass, i, term, value))
    }

    /// Error of the first row whose own penalty is not finite.
    fn penalty_fault(&self, pass: &Pass<'_, '_>) -> Option<Error> {
        let rows = if pass.objective.penalty.is_of_rows() { self.rows } else { 0 };
        let i = self.losses.penalty[..rows].iter().position(|value| !value.is_finite())?;
        Some(self.not_finite(pass, i, "penalty", self.losses.penalty[i]))
    }

    fn not_finite(&self, pass: &Pass<'_, '_>, i: usize, term: &'static str, value: f64) -> Error {
        let row = pass.batch.indices.row(self.first + i);
        Error::NotFiniteLoss { term, row, value, step: None }
    }
}
