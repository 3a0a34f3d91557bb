//! The loss of each row, and the gradients of what it is computed from.

use super::block::{Block, Coupled, Pass};
use super::importance::WeighSamples;
use super::terms::Rule;
use crate::error::Result;
use crate::gemm::padded;
use crate::loss::gaussian::{FeatureGaussian, row_from_squares};
use crate::loss::kernel::batch::reject;
use crate::loss::kernel::short_rows::{GradientRows, InputRows, SHORT, rows_together, short_rows};
use crate::loss::kernel::{RowLoss, Term, ValueOf, row};
use crate::loss::kl::NormalKl;
use crate::loss::{
    Bernoulli, ContinuousBernoulli, FreeBits, FreeBitsPer, SigmoidProbabilities, SquaredError,
    TanhSquaredError, WeightedBernoulli,
};
use crate::math::scalar;
use crate::simd::lanes::{F32x16, scale};
use crate::simd::{LANES, apart};
use crate::vae::parameters::VectorRole;
use crate::vae::{Likelihood, Variance};
use pulp::{Simd, WithSimd};

/// What is asked of a term.
#[derive(Clone, Copy)]
pub(super) enum Want {
    Values,
    /// Values and gradients, these multiplied by so much.
    Gradients(f32),
}

/// Whose values a divergence is.
#[derive(Clone, Copy)]
enum Column {
    Kl,
    Penalty,
}

impl Block {
    /// Each row's loss, as far as the row alone determines it, and with `gradients` those of the
    /// output, μ and logvar, or, where they wait for the whole batch, those that do not.
    ///
    /// # Errors
    /// The first row whose data the likelihood does not accept, by its number in the data set.
    #[inline(always)]
    pub(super) fn loss_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        gradients: bool,
    ) -> Result<()> {
        let coupled = pass.is_coupled();
        self.latent_rows(simd, pass, gradients);
        let first_part = coupled && pass.is_training();
        let want = match gradients || (first_part && !pass.config.has_optimal_variance()) {
            true => Want::Gradients(pass.scales.reconstruction),
            false => Want::Values,
        };
        self.reconstruction_rows(simd, pass, want)?;
        if matches!(pass.terms.rule, Rule::Importance { .. }) {
            return apart(simd, WeighSamples { block: self, pass, gradients });
        }
        self.reconstruction[..self.rows].copy_from_slice(&self.of_samples[..self.rows]);
        Ok(())
    }

    /// The divergence of each row and, unless they wait for the whole batch, the gradients of μ and
    /// logvar.
    #[inline(always)]
    fn latent_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, gradients: bool) {
        let want = match gradients {
            true => Want::Gradients(pass.scales.penalty),
            false => Want::Values,
        };
        match pass.terms.rule {
            Rule::Kl if gradients && self.latent <= SHORT => {
                self.short_kl_rows(simd, pass);
            }
            Rule::Kl => self.kl_rows(simd, pass, want),
            Rule::ElementFreeBits { lambda } => {
                self.kl_rows(simd, pass, Want::Values);
                let free_bits = FreeBits { lambda, per: FreeBitsPer::Element };
                let term = free_bits.elements(pass.config.prior());
                self.divergence_rows(simd, term, want, Column::Penalty);
            }
            Rule::SampleFreeBits { .. } | Rule::SampleCapacity { .. } => {
                self.kl_rows(simd, pass, want);
                apart(simd, PenaltyOfRows { block: self, rule: pass.terms.rule, gradients });
            }
            // Importance weighting has its gradients from the samples, coupled rules from the batch.
            Rule::Importance { .. }
            | Rule::DimensionFreeBits { .. }
            | Rule::BatchCapacity { .. }
            | Rule::TotalCorrelation { .. } => {
                self.kl_rows(simd, pass, Want::Values);
            }
        }
    }

    #[inline(always)]
    fn kl_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, want: Want) {
        self.divergence_rows(simd, NormalKl::new(pass.config.prior()), want, Column::Kl);
    }

    #[inline(always)]
    fn divergence_rows<S: Simd>(
        &mut self,
        simd: S,
        term: impl Term<2, 2>,
        want: Want,
        column: Column,
    ) {
        apart(simd, DivergenceRows { block: self, term, want, column });
    }

    /// As [`Self::kl_rows`] with gradients, some short rows at a time.
    #[inline(always)]
    fn short_kl_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>) {
        let (latent, scale) = (self.latent, pass.scales.penalty);
        let kl = NormalKl::new(pass.config.prior());
        for first in (0..self.rows).step_by(rows_together(latent)) {
            let rows = rows_together(latent).min(self.rows - first);
            let (data, stride) = self.heads.rows_from(first);
            let mu = InputRows { data, stride };
            let logvar = InputRows { data: &data[latent..], stride };
            let (data, stride) = self.doutputs[self.heads_layer].rows_from_mut(first);
            let gradients = GradientRows { data, starts: [0, latent], stride };
            let (terms, sums) = ([mu, logvar], &mut self.kl[first..first + rows]);
            short_rows(simd, kl, gradients, terms, latent, scale, sums);
        }
    }

    /// The reconstruction of each sample, and the gradient of the output.
    #[inline(always)]
    pub(super) fn reconstruction_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        want: Want,
    ) -> Result<()> {
        match pass.config.likelihood() {
            Likelihood::Bernoulli => match want {
                Want::Gradients(scale) if self.features <= SHORT && self.samples == 1 => {
                    self.short_bernoulli_rows(simd, pass, scale)
                }
                _ => self.output_rows(simd, pass, Bernoulli, want),
            },
            Likelihood::WeightedBernoulli { pos_weight } => {
                self.output_rows(simd, pass, WeightedBernoulli { pos_weight }, want)
            }
            Likelihood::BernoulliProbabilities => {
                self.output_rows(simd, pass, SigmoidProbabilities, want)
            }
            Likelihood::ContinuousBernoulli => {
                self.output_rows(simd, pass, ContinuousBernoulli, want)
            }
            Likelihood::SquaredError => self.output_rows(simd, pass, SquaredError, want),
            Likelihood::TanhSquaredError => self.output_rows(simd, pass, TanhSquaredError, want),
            // What comes of the squares, the whole batch says.
            Likelihood::Gaussian(Variance::Optimal) => {
                self.output_rows(simd, pass, SquaredError, want)
            }
            Likelihood::Gaussian(Variance::PerFeature) => {
                apart(simd, FeatureRows { block: self, pass, want })
            }
            Likelihood::Gaussian(Variance::Fixed(variance)) => {
                self.gaussian_rows(simd, pass, scalar::ln(f64::from(variance)), None, want)
            }
            Likelihood::Gaussian(Variance::Shared) => {
                let index = pass.weights.layout().vector(VectorRole::Logvar).expect("it is shared");
                let logvar = f64::from(pass.weights.vector_at(index)[0]);
                self.gaussian_rows(simd, pass, logvar, Some(index), want)
            }
        }
    }

    /// A Gaussian of one variance, from the squared error; `learned` is the vector of its logarithm.
    #[inline(always)]
    fn gaussian_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        logvar: f64,
        learned: Option<usize>,
        want: Want,
    ) -> Result<()> {
        let of_squares = match want {
            Want::Values => Want::Values,
            // (m−t)/σ² from 2(m−t)
            Want::Gradients(scale) => {
                Want::Gradients((0.5 * f64::from(scale) * scalar::exp(-logvar)) as f32)
            }
        };
        self.output_rows(simd, pass, SquaredError, of_squares)?;
        for r in 0..self.decoded() {
            let (value, dlogvar) = row_from_squares(self.of_samples[r], self.features, logvar);
            self.of_samples[r] = value;
            if let (Want::Gradients(scale), Some(index)) = (want, learned) {
                self.dvectors[index].row_mut(r)[0] = (dlogvar * f64::from(scale)) as f32;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn output_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        term: impl Term<2, 1>,
        want: Want,
    ) -> Result<()> {
        apart(simd, OutputRows { block: self, pass, term, want })
    }

    /// As [`Self::output_rows`], some short rows at a time.
    #[inline(always)]
    fn short_bernoulli_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        scale: f32,
    ) -> Result<()> {
        let (features, last) = (self.features, self.doutputs.len() - 1);
        let mut all_accepted = true;
        let width = padded(features);
        for first in (0..self.rows).step_by(rows_together(features)) {
            let rows = rows_together(features).min(self.rows - first);
            let (data, stride) = self.doutputs[last].rows_from_mut(first);
            let logits = InputRows { data, stride };
            for (row, to) in self.outputs.chunks_exact_mut(width).take(rows).enumerate() {
                let from = logits.row(row, width / LANES);
                for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from) {
                    F32x16::load(simd, from).store(to);
                }
            }
            let logits = InputRows { data: &self.outputs, stride: width };
            let (x, x_stride) = self.inputs[0].rows_from(first);
            let inputs = [logits, InputRows { data: x, stride: x_stride }];
            let gradients = GradientRows { data, starts: [0], stride };
            let sums = &mut self.of_samples[first..first + rows];
            all_accepted &= short_rows(simd, Bernoulli, gradients, inputs, features, scale, sums);
        }
        if all_accepted { Ok(()) } else { self.reject_rows(pass) }
    }

    /// Looks for the first row whose data the likelihood does not accept.
    #[cold]
    fn reject_rows(&self, pass: &Pass<'_, '_>) -> Result<()> {
        (0..self.rows).try_for_each(|i| {
            let row = pass.batch.selection.row(self.first + i);
            reject::<Bernoulli, 2, 1>(&self.inputs[0].row(i)[..self.features], row)
        })
    }

    /// The gradients that waited for the whole batch.
    #[inline(always)]
    pub(super) fn coupled_gradients<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        coupled: &Coupled<'_>,
    ) {
        apart(simd, CoupledGradients { block: self, pass, coupled });
        if pass.config.has_optimal_variance() {
            // The data were accepted in the first part.
            let want = Want::Gradients(pass.scales.reconstruction);
            let _ = self.output_rows(simd, pass, SquaredError, want);
        }
    }
}

/// A divergence over all rows.
struct DivergenceRows<'a, T> {
    block: &'a mut Block,
    term: T,
    want: Want,
    column: Column,
}

impl<T: Term<2, 2>> WithSimd for DivergenceRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, term, want, column } = self;
        let latent = block.latent;
        let values = match column {
            Column::Kl => &mut block.kl,
            Column::Penalty => &mut block.penalty,
        };
        for (i, value) in values[..block.rows].iter_mut().enumerate() {
            let (mu, logvar) = block.heads.row(i).split_at(latent);
            *value = match want {
                Want::Values => row(simd, ValueOf(term), [], [mu, logvar], 1.0).sum,
                Want::Gradients(scale) => {
                    let heads = block.doutputs[block.heads_layer].row_mut(i);
                    let (dmu, dlogvar) = heads.split_at_mut(latent);
                    row(simd, term, [dmu, dlogvar], [mu, logvar], scale).sum
                }
            };
        }
    }
}

/// Rules that look at the divergence of a whole row.
struct PenaltyOfRows<'a> {
    block: &'a mut Block,
    rule: Rule,
    gradients: bool,
}

impl WithSimd for PenaltyOfRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, rule, gradients } = self;
        for i in 0..block.rows {
            let kl = block.kl[i];
            let (penalty, factor) = match rule {
                Rule::SampleFreeBits { lambda } => {
                    let lambda = f64::from(lambda);
                    if kl > lambda { (kl, 1.0) } else { (kl.max(lambda), 0.0) }
                }
                Rule::SampleCapacity { capacity } => {
                    let beyond = kl - f64::from(capacity);
                    (beyond.abs(), sign(beyond))
                }
                _ => (kl, 1.0),
            };
            // NaN must not become a threshold.
            block.penalty[i] = if kl.is_nan() { kl } else { penalty };
            if gradients && factor != 1.0 {
                scale(simd, block.doutputs[block.heads_layer].row_mut(i), factor);
            }
        }
    }
}

/// −1, 0 or 1: the derivative of |x|.
pub(crate) fn sign(x: f64) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// A likelihood of the output alone over all samples.
struct OutputRows<'a, 'b, 'c, T> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    term: T,
    want: Want,
}

impl<T: Term<2, 1>> WithSimd for OutputRows<'_, '_, '_, T> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self { block, pass, term, want } = self;
        let (features, samples) = (block.features, block.samples);
        let last = block.doutputs.len() - 1;
        for r in 0..block.rows * samples {
            let x = &block.inputs[0].row(r / samples)[..features];
            let output = block.doutputs[last].row_mut(r);
            let RowLoss { sum, accepted } = match want {
                Want::Values => row(simd, ValueOf(term), [], [&*output, x], 1.0),
                Want::Gradients(scale) => {
                    let copy = &mut block.outputs[..features];
                    copy.copy_from_slice(output);
                    row(simd, term, [output], [&*copy, x], scale)
                }
            };
            block.of_samples[r] = sum;
            if !accepted {
                reject::<T, 2, 1>(x, pass.batch.selection.row(block.first + r / samples))?;
            }
        }
        Ok(())
    }
}

/// A Gaussian with a learned variance for each feature, over all samples.
struct FeatureRows<'a, 'b, 'c> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    want: Want,
}

impl WithSimd for FeatureRows<'_, '_, '_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self { block, pass, want } = self;
        let (features, samples) = (block.features, block.samples);
        let last = block.doutputs.len() - 1;
        let index = pass.weights.layout().vector(VectorRole::Logvar).expect("one a feature");
        let logvar = pass.weights.vector_at(index);
        for r in 0..block.rows * samples {
            let x = &block.inputs[0].row(r / samples)[..features];
            let output = block.doutputs[last].row_mut(r);
            let RowLoss { sum, accepted } = match want {
                Want::Values => row(simd, ValueOf(FeatureGaussian), [], [&*output, logvar, x], 1.0),
                Want::Gradients(scale) => {
                    let copy = &mut block.outputs[..features];
                    copy.copy_from_slice(output);
                    let dlogvar = block.dvectors[index].row_mut(r);
                    let inputs = [&*copy, logvar, x];
                    row(simd, FeatureGaussian, [output, dlogvar], inputs, scale)
                }
            };
            block.of_samples[r] = sum;
            if !accepted {
                let row = pass.batch.selection.row(block.first + r / samples);
                reject::<FeatureGaussian, 3, 2>(x, row)?;
            }
        }
        Ok(())
    }
}

/// The gradients of μ and logvar that waited for the batch.
struct CoupledGradients<'a, 'b, 'c> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    coupled: &'a Coupled<'a>,
}

impl WithSimd for CoupledGradients<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, pass, coupled } = self;
        let heads = block.heads_layer;
        match *coupled {
            // Of a rule that is not coupled itself, the likelihood is.
            Coupled::Scale(_) if !pass.terms.rule.is_coupled() => {
                block.latent_rows(simd, pass, true);
            }
            Coupled::Scale(scale) => block.kl_rows(simd, pass, Want::Gradients(scale)),
            Coupled::Dimensions(factors) => {
                block.kl_rows(simd, pass, Want::Gradients(pass.scales.penalty));
                for i in 0..block.rows {
                    let row = block.doutputs[heads].row_mut(i);
                    for gradients in row.chunks_exact_mut(block.latent) {
                        for (gradient, factor) in gradients.iter_mut().zip(factors) {
                            *gradient *= factor;
                        }
                    }
                }
            }
            // They come with that of z, on top of what the decoder gives.
            Coupled::TotalCorrelation(_) => {
                for i in 0..block.rows {
                    block.doutputs[heads].row_mut(i).fill(0.0);
                }
            }
        }
    }
}
