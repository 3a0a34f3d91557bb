//! The loss of each row, and the gradients of what it is computed from: the decoder's output, μ and
//! logvar.
//!
//! # Method
//! 1. The KL divergence and the penalty of each row, from μ|logvar, with dμ|dlogvar where the penalty
//!    is a sum over rows.
//! 2. The reconstruction of each sample, from output and x, with the gradient in the output's place.
//! 3. If rows are coupled, after the whole batch: dμ|dlogvar by the derivative of the batch's penalty,
//!    and with an optimal variance the gradient of the output.
//!
//! The terms are those of [`loss`](crate::loss), row by row ([`row`]) or some short rows at a time
//! ([`short_rows`]), with the same bits. Gradients are multiplied by their [`Scales`](super::terms::Scales),
//! values are not.

use super::batch::Pass;
use super::block::Block;
use super::coupling::PenaltyGradient;
use super::terms::StepPenalty;
use crate::gemm::padded;
use crate::loss::gaussian::{FeatureGaussian, row_from_squares};
use crate::loss::kernel::short_rows::{GradientRows, InputRows, SHORT, rows_together, short_rows};
use crate::loss::kernel::{RowLoss, Term, ValueOf, row};
use crate::loss::kl::NormalKl;
use crate::loss::{
    Bernoulli, CapacityPer, ContinuousBernoulli, FreeBitsPer, SigmoidProbabilities, SquaredError,
    TanhSquaredError, WeightedBernoulli,
};
use crate::math::scalar;
use crate::simd::lanes::{F32x16, scale};
use crate::simd::{InstructionSet, LANES, apart};
use crate::vae::likelihood::{Likelihood, Variance};
use crate::vae::parameters::VectorRole;
use pulp::{Simd, WithSimd};

/// Outputs of a term.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Values,
    /// Values, and gradients multiplied by this scale.
    Gradients(f32),
}

/// The column of [`RowLosses`](super::terms::RowLosses) that a divergence is written to.
#[derive(Clone, Copy)]
enum Column {
    Kl,
    Penalty,
}

impl Block {
    /// Computes each row's terms and, in training, the gradients of the output, μ and logvar, except
    /// those that wait for the whole batch ([`Self::coupled_gradients`]).
    ///
    /// Returns `false` if a row may have data that the likelihood does not accept.
    pub(super) fn loss(&mut self, simd: InstructionSet, pass: &Pass<'_, '_>) -> bool {
        struct Loss<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>);
        impl WithSimd for Loss<'_, '_, '_> {
            type Output = bool;
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> bool {
                let Self(block, pass) = self;
                // Gradients of μ and logvar wait for the batch where its rows are coupled.
                let mode = |gradients: bool, scale| match gradients {
                    true => Mode::Gradients(scale),
                    false => Mode::Values,
                };
                let training = pass.is_training();
                // 1.
                block.latent_rows(
                    simd,
                    pass,
                    mode(training && !pass.is_coupled(), pass.scales.penalty),
                );
                // 2. The optimal variance is that of the batch, and its inverse scales the gradient.
                let row_alone = training && !pass.config.has_optimal_variance();
                block.reconstruction_rows(simd, pass, mode(row_alone, pass.scales.reconstruction))
            }
        }
        let accepted = simd.dispatch(Loss(self, pass));
        // With several samples, `weigh_samples` combines them into the loss of the row.
        if self.samples == 1 {
            let rows = self.rows;
            self.losses.reconstruction[..rows].copy_from_slice(&self.sample_reconstruction[..rows]);
        }
        accepted
    }

    /// Computes the gradients that waited for the whole batch.
    pub(super) fn coupled_gradients(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        gradient: &PenaltyGradient<'_>,
    ) {
        struct Coupled<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>, &'a PenaltyGradient<'a>);
        impl WithSimd for Coupled<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, pass, gradient) = self;
                // 3.
                block.coupled_latent_rows(simd, pass, gradient);
                if pass.config.has_optimal_variance() {
                    // The data were accepted in the first part.
                    let mode = Mode::Gradients(pass.scales.reconstruction);
                    block.output_rows(simd, SquaredError, mode);
                }
            }
        }
        simd.dispatch(Coupled(self, pass, gradient));
    }

    /// The divergence and the penalty of each row.
    #[inline(always)]
    fn latent_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, mode: Mode) {
        match pass.objective.penalty {
            StepPenalty::Kl => match mode {
                Mode::Gradients(scale) if self.latent <= SHORT => {
                    self.short_kl_rows(simd, pass, scale);
                }
                _ => self.kl_rows(simd, pass, mode),
            },
            StepPenalty::FreeBits(free_bits) => match free_bits.per {
                FreeBitsPer::Element => {
                    self.kl_rows(simd, pass, Mode::Values);
                    // max(λ, KL_ij); the KL divergence itself is computed too, to be reported.
                    let term = free_bits.elements(pass.config.prior());
                    self.divergence_rows(simd, term, mode, Column::Penalty);
                }
                FreeBitsPer::Sample => {
                    self.kl_rows(simd, pass, mode);
                    // max(λ, KL_i): the gradients of KL_i are there, times 0 or 1.
                    penalty_rows(simd, self, |kl| free_bits.value_and_slope(kl), mode);
                }
                // The whole batch decides; its gradients come in 3.
                FreeBitsPer::Dimension => self.kl_rows(simd, pass, Mode::Values),
            },
            StepPenalty::Capacity(capacity) => match capacity.per {
                CapacityPer::Sample => {
                    self.kl_rows(simd, pass, mode);
                    // γ·|KL_i − C|: the gradients of KL_i times ±γ.
                    penalty_rows(simd, self, |kl| capacity.value_and_slope(kl), mode);
                }
                CapacityPer::Batch => self.kl_rows(simd, pass, Mode::Values),
            },
            // Their gradients come from the pairs of the batch, and from the samples.
            StepPenalty::TotalCorrelation(_) | StepPenalty::Importance(_) => {
                self.kl_rows(simd, pass, Mode::Values);
            }
        }
    }

    #[inline(always)]
    fn kl_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, mode: Mode) {
        self.divergence_rows(simd, NormalKl::new(pass.config.prior()), mode, Column::Kl);
    }

    #[inline(always)]
    fn divergence_rows<S: Simd>(
        &mut self,
        simd: S,
        term: impl Term<2, 2>,
        mode: Mode,
        column: Column,
    ) {
        apart(simd, DivergenceRows { block: self, term, mode, column });
    }

    /// [`Self::kl_rows`] with gradients, some short rows at a time.
    #[inline(always)]
    fn short_kl_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, scale: f32) {
        let (latent, kl) = (self.latent, NormalKl::new(pass.config.prior()));
        // A row of one or two groups would wait for its own chain of operations.
        for first in (0..self.rows).step_by(rows_together(latent)) {
            let rows = rows_together(latent).min(self.rows - first);
            let (data, stride) = self.heads.rows_from(first);
            // μ|logvar and dμ|dlogvar: the second half of a row starts Z elements after the first.
            let mu = InputRows { data, stride };
            let logvar = InputRows { data: &data[latent..], stride };
            let (data, stride) = self.doutputs[self.heads_layer].rows_from_mut(first);
            let gradients = GradientRows { data, starts: [0, latent], stride };
            let (terms, sums) = ([mu, logvar], &mut self.losses.kl[first..first + rows]);
            short_rows(simd, kl, gradients, terms, latent, scale, sums);
        }
    }

    /// The gradients of μ and logvar that waited for the batch.
    #[inline(always)]
    fn coupled_latent_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        gradient: &PenaltyGradient<'_>,
    ) {
        let scale = pass.scales.penalty;
        match *gradient {
            PenaltyGradient::OfRows => self.latent_rows(simd, pass, Mode::Gradients(scale)),
            PenaltyGradient::Slope(slope) => {
                // ∂penalty/∂KL_i is the same for all rows.
                self.kl_rows(simd, pass, Mode::Gradients(slope * scale));
            }
            PenaltyGradient::Slopes(slopes) => {
                // The gradient of KL_ij times the slope of dimension j: once for μ, once for logvar.
                self.kl_rows(simd, pass, Mode::Gradients(scale));
                for i in 0..self.rows {
                    let row = self.doutputs[self.heads_layer].row_mut(i);
                    for gradients in row.chunks_exact_mut(self.latent) {
                        for (gradient, slope) in gradients.iter_mut().zip(slopes) {
                            *gradient *= slope;
                        }
                    }
                }
            }
            // The backward pass adds them with those of z.
            PenaltyGradient::TotalCorrelation(_) => {
                for i in 0..self.rows {
                    self.doutputs[self.heads_layer].row_mut(i).fill(0.0);
                }
            }
        }
    }

    /// The reconstruction term of each sample, and the gradient of the output in the output's place.
    #[inline(always)]
    pub(super) fn reconstruction_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        mode: Mode,
    ) -> bool {
        match pass.config.likelihood() {
            Likelihood::Bernoulli => match mode {
                Mode::Gradients(scale) if self.features <= SHORT && self.samples == 1 => {
                    self.short_bernoulli_rows(simd, scale)
                }
                _ => self.output_rows(simd, Bernoulli, mode),
            },
            Likelihood::WeightedBernoulli { pos_weight } => {
                self.output_rows(simd, WeightedBernoulli { pos_weight }, mode)
            }
            Likelihood::BernoulliProbabilities => {
                self.output_rows(simd, SigmoidProbabilities, mode)
            }
            Likelihood::ContinuousBernoulli => self.output_rows(simd, ContinuousBernoulli, mode),
            Likelihood::SquaredError => self.output_rows(simd, SquaredError, mode),
            Likelihood::TanhSquaredError => self.output_rows(simd, TanhSquaredError, mode),
            // The squares of the whole batch give the variance and the term.
            Likelihood::Gaussian(Variance::Optimal) => self.output_rows(simd, SquaredError, mode),
            Likelihood::Gaussian(Variance::PerFeature) => {
                apart(simd, FeatureRows { block: self, pass, mode })
            }
            Likelihood::Gaussian(Variance::Fixed(variance)) => {
                self.gaussian_rows(simd, pass, scalar::ln(f64::from(variance)), mode)
            }
            Likelihood::Gaussian(Variance::Shared) => {
                // A vector of one element, learned like any weight.
                let logvar = f64::from(pass.weights.learned_logvar()[0]);
                self.gaussian_rows(simd, pass, logvar, mode)
            }
        }
    }

    /// A Gaussian of one variance, given or learned, from the squared error.
    #[inline(always)]
    fn gaussian_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        logvar: f64,
        mode: Mode,
    ) -> bool {
        let learned = pass.weights.layout().vector(VectorRole::Logvar);
        let squares_mode = match mode {
            Mode::Values => Mode::Values,
            // (m−t)/σ² from 2(m−t)
            Mode::Gradients(scale) => {
                Mode::Gradients((0.5 * f64::from(scale) * scalar::exp(-logvar)) as f32)
            }
        };
        let accepted = self.output_rows(simd, SquaredError, squares_mode);
        for r in 0..self.decoder_rows() {
            // ½(q·e^{−s} + D·(s + ln 2π)) of the row's squared error q, and ½(D − q·e^{−s}) for ds.
            let squares = self.sample_reconstruction[r];
            let (value, dlogvar) = row_from_squares(squares, self.features, logvar);
            self.sample_reconstruction[r] = value;
            if let (Mode::Gradients(scale), Some(index)) = (mode, learned) {
                self.dvectors[index].row_mut(r)[0] = (dlogvar * f64::from(scale)) as f32;
            }
        }
        accepted
    }

    #[inline(always)]
    fn output_rows<S: Simd>(&mut self, simd: S, term: impl Term<2, 1>, mode: Mode) -> bool {
        apart(simd, OutputRows { block: self, term, mode })
    }

    /// Bernoulli from logits, some short rows at a time.
    #[inline(always)]
    fn short_bernoulli_rows<S: Simd>(&mut self, simd: S, scale: f32) -> bool {
        let features = self.features;
        let mut all_accepted = true;
        let width = padded(features);
        for first in (0..self.rows).step_by(rows_together(features)) {
            let rows = rows_together(features).min(self.rows - first);
            let (data, stride) = self.doutputs.output_mut().rows_from_mut(first);
            let logits = InputRows { data, stride };
            // The outputs are copied in whole groups, because their gradients overwrite them.
            for (row, to) in self.output_copy.chunks_exact_mut(width).take(rows).enumerate() {
                let from = logits.row(row, width / LANES);
                for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from) {
                    F32x16::load(simd, from).store(to);
                }
            }
            let logits = InputRows { data: &self.output_copy, stride: width };
            let (x, x_stride) = self.inputs[0].rows_from(first);
            // Both have room for whole groups after the last row, as `short_rows` requires.
            let inputs = [logits, InputRows { data: x, stride: x_stride }];
            let gradients = GradientRows { data, starts: [0], stride };
            let sums = &mut self.sample_reconstruction[first..first + rows];
            all_accepted &= short_rows(simd, Bernoulli, gradients, inputs, features, scale, sums);
        }
        all_accepted
    }
}

/// A divergence of all rows.
struct DivergenceRows<'a, T> {
    block: &'a mut Block,
    term: T,
    mode: Mode,
    column: Column,
}

impl<T: Term<2, 2>> WithSimd for DivergenceRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, term, mode, column } = self;
        let latent = block.latent;
        let values = match column {
            Column::Kl => &mut block.losses.kl,
            Column::Penalty => &mut block.losses.penalty,
        };
        for (i, value) in values[..block.rows].iter_mut().enumerate() {
            let (mu, logvar) = block.heads.row(i).split_at(latent);
            *value = match mode {
                Mode::Values => row(simd, ValueOf(term), [], [mu, logvar], 1.0).sum,
                Mode::Gradients(scale) => {
                    let heads = block.doutputs[block.heads_layer].row_mut(i);
                    // dμ|dlogvar, overwritten: nothing has been added to them yet.
                    let (dmu, dlogvar) = heads.split_at_mut(latent);
                    row(simd, term, [dmu, dlogvar], [mu, logvar], scale).sum
                }
            };
        }
    }
}

/// The penalty of each row, whose value and slope are functions of the row's divergence: multiplies
/// the gradients of the divergence by the slope.
#[inline(always)]
fn penalty_rows<S: Simd>(
    simd: S,
    block: &mut Block,
    value_and_slope: impl Fn(f64) -> (f64, f64),
    mode: Mode,
) {
    struct Op<'a, F>(&'a mut Block, F, Mode);
    impl<F: Fn(f64) -> (f64, f64)> WithSimd for Op<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(block, value_and_slope, mode) = self;
            for i in 0..block.rows {
                let (value, slope) = value_and_slope(block.losses.kl[i]);
                block.losses.penalty[i] = value;
                // d penalty = slope·d KL; a slope of 1 is the rule above λ, and needs no pass.
                if matches!(mode, Mode::Gradients(_)) && slope != 1.0 {
                    scale(simd, block.doutputs[block.heads_layer].row_mut(i), slope as f32);
                }
            }
        }
    }
    apart(simd, Op(block, value_and_slope, mode));
}

/// A likelihood of the output alone, of all samples.
struct OutputRows<'a, T> {
    block: &'a mut Block,
    term: T,
    mode: Mode,
}

impl<T: Term<2, 1>> WithSimd for OutputRows<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { block, term, mode } = self;
        let (features, samples) = (block.features, block.samples);
        let mut all_accepted = true;
        for r in 0..block.rows * samples {
            let x = &block.inputs[0].row(r / samples)[..features];
            let output = block.doutputs.output_mut().row_mut(r);
            let RowLoss { sum, accepted } = match mode {
                Mode::Values => row(simd, ValueOf(term), [], [&*output, x], 1.0),
                Mode::Gradients(scale) => {
                    // The gradient takes the output's place.
                    let copy = &mut block.output_copy[..features];
                    copy.copy_from_slice(output);
                    row(simd, term, [output], [&*copy, x], scale)
                }
            };
            block.sample_reconstruction[r] = sum;
            all_accepted &= accepted;
        }
        all_accepted
    }
}

/// A Gaussian with a learned variance for each feature, of all samples.
struct FeatureRows<'a, 'b, 'c> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    mode: Mode,
}

impl WithSimd for FeatureRows<'_, '_, '_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { block, pass, mode } = self;
        let (features, samples) = (block.features, block.samples);
        let mut all_accepted = true;
        // s `[D]`, learned like any weight.
        let logvar = pass.weights.learned_logvar();
        let index = pass.weights.layout().vector(VectorRole::Logvar).expect("one a feature");
        for r in 0..block.rows * samples {
            let x = &block.inputs[0].row(r / samples)[..features];
            let output = block.doutputs.output_mut().row_mut(r);
            let RowLoss { sum, accepted } = match mode {
                Mode::Values => row(simd, ValueOf(FeatureGaussian), [], [&*output, logvar, x], 1.0),
                Mode::Gradients(scale) => {
                    let copy = &mut block.output_copy[..features];
                    copy.copy_from_slice(output);
                    // ds of each feature, row by row; the weight gradients sum them.
                    let dlogvar = block.dvectors[index].row_mut(r);
                    let inputs = [&*copy, logvar, x];
                    row(simd, FeatureGaussian, [output, dlogvar], inputs, scale)
                }
            };
            block.sample_reconstruction[r] = sum;
            all_accepted &= accepted;
        }
        all_accepted
    }
}
