//! Importance weighting: the weights of a row's latent samples, and the gradients that they give.
//!
//! # Method
//! With `ln w_k = ln p(x|z_k) + ln p(z_k) − ln q(z_k|x)` for the k-th sample of a row:
//! 1. ln w of each sample, from its reconstruction and [`LogRatio`].
//! 2. The row's loss −ln mean_k w_k, and the normalized weights w̃_k = w_k/Σw.
//! 3. The loss has the derivative −w̃_k with respect to ln w_k, so the gradients of each sample's output
//!    are multiplied by w̃_k; the decoder's backward pass carries the factor on to dz.
//! 4. dz of all samples, and the derivatives of ln p(z) − ln q(z|x), are summed into dμ|dlogvar by
//!    the [estimator](Estimator).

use super::batch::Pass;
use super::block::Block;
use super::loss::Mode;
use super::terms::StepPenalty;
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::loss::importance::{self, Estimator, LogRatio, LogSum};
use crate::loss::kernel::row;
use crate::math::scalar;
use crate::simd::lanes::scale;
use crate::simd::{InstructionSet, apart};
use crate::vae::parameters::VectorRole;
use pulp::{Simd, WithSimd};

impl Block {
    /// Computes the importance-weighted bound of each row from its samples and, in training,
    /// multiplies their gradients by their weights. Does nothing under other objectives.
    ///
    /// Every logvar must be within the estimator's limits.
    pub(super) fn weigh_samples(&mut self, simd: InstructionSet, pass: &Pass<'_, '_>) {
        struct Weigh<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>);
        impl WithSimd for Weigh<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, pass) = self;
                block.weigh_rows(simd, pass);
            }
        }
        if let StepPenalty::Importance(_) = pass.objective.penalty {
            simd.dispatch(Weigh(self, pass));
        }
    }

    /// `ln 1/K Σ_k p(x, z_k)/q(z_k|x)` of the one row gathered, `all` = K, with `at_once` samples
    /// in the decoder at a time.
    ///
    /// # Errors
    /// Data that the likelihood does not accept, a condition that is not finite, a logvar whose
    /// exponential overflows, or a result that is not finite.
    pub(crate) fn log_likelihood(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        all: usize,
        at_once: usize,
    ) -> Result<f64> {
        struct LogWeights<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>);
        impl WithSimd for LogWeights<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, pass) = self;
                block.reconstruction_rows(simd, pass, Mode::Values);
                block.log_weights_of(simd, pass, 0);
            }
        }
        let simd = compute.simd();
        self.encode(compute, pass);
        if let Some(error) = self.code_fault(pass, 0) {
            return Err(error);
        }
        let mut sum = LogSum::default();
        for first in (0..all).step_by(at_once) {
            // The last group may have fewer samples; the block has room for `at_once`.
            self.samples = at_once.min(all - first);
            self.sample_range(simd, pass, first as u64, all as u64);
            self.decode(compute, pass);
            simd.dispatch(LogWeights(self, pass));
            self.log_weights[..self.samples].iter().for_each(|&weight| sum.add(weight));
        }
        // The block serves other rows after this one.
        self.samples = at_once;
        let value = sum.value() - scalar::ln(all as f64);
        if value.is_finite() {
            return Ok(value);
        }
        let (term, row) = ("marginal likelihood", pass.batch.indices.row(self.first));
        Err(Error::NotFiniteLoss { term, row, value, step: None })
    }

    #[inline(always)]
    fn weigh_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>) {
        let samples = self.samples;
        for i in 0..self.rows {
            let range = i * samples..(i + 1) * samples;
            // The reconstruction reported for a row is the mean over its samples.
            let reconstruction: f64 = self.sample_reconstruction[range.clone()].iter().sum();
            self.losses.reconstruction[i] = reconstruction / samples as f64;
            // 1.
            self.log_weights_of(simd, pass, i);
            // 2. ln mean_k w_k, and ln w_k → w̃_k in place.
            let log_mean = importance::normalize(&mut self.log_weights);
            // The loss of the row, −ln mean_k w_k, is the sum of its two terms.
            self.losses.penalty[i] = -log_mean - self.losses.reconstruction[i];
            self.sample_weights[range.clone()].copy_from_slice(&self.log_weights);
            if !pass.is_training() {
                continue;
            }
            // 3. ∂(−ln mean w) = Σ w̃_k·∂rec_k: each sample's gradients by its weight.
            for r in range {
                let weight = self.sample_weights[r] as f32;
                scale(simd, self.doutputs.doutput_mut().row_mut(r), weight);
                if let Some(index) = pass.weights.layout().vector(VectorRole::Logvar) {
                    scale(simd, self.dvectors[index].row_mut(r), weight);
                }
            }
        }
    }

    /// Overwrites `log_weights` with ln p(x, z)/q(z|x) of each sample of row `i`.
    #[inline(always)]
    fn log_weights_of<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, i: usize) {
        let (samples, latent) = (self.samples, self.latent);
        let term = LogRatio::new(pass.config.prior());
        let logvar = &self.heads.row(i)[latent..];
        for (s, log_weight) in self.log_weights[..samples].iter_mut().enumerate() {
            let r = i * samples + s;
            let z = &self.inputs[self.heads_layer + 1].row(r)[..latent];
            let epsilon = self.epsilon.row(r);
            let ratio = row(simd, term, [], [z, logvar, epsilon], 1.0).sum;
            *log_weight = -self.sample_reconstruction[r] - ratio;
        }
    }
}

/// dz of each sample → dμ|dlogvar of its row, overwritten.
#[inline(always)]
pub(super) fn importance_backward<S: Simd>(
    simd: S,
    block: &mut Block,
    pass: &Pass<'_, '_>,
    estimator: Estimator,
) {
    struct Op<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>, Estimator);
    impl WithSimd for Op<'_, '_, '_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(block, pass, estimator) = self;
            let (heads, latent, samples) = (block.heads_layer, block.latent, block.samples);
            for i in 0..block.rows {
                let logvar = &block.heads.row(i)[latent..];
                let gradients = block.doutputs[heads].row_mut(i);
                // 4. Accumulated sample by sample, in order, from 0.
                gradients.fill(0.0);
                let (dmu, dlogvar) = gradients.split_at_mut(latent);
                for r in i * samples..(i + 1) * samples {
                    let gradients =
                        importance::Gradients { dmu: &mut *dmu, dlogvar: &mut *dlogvar };
                    let sample = importance::Sample {
                        dz: &block.dz.row(r)[..latent],
                        z: &block.inputs[heads + 1].row(r)[..latent],
                        logvar,
                        sigma_epsilon: block.sigma_epsilon.row(r),
                        weight: block.sample_weights[r] as f32,
                        scale: pass.scales.penalty,
                        prior: pass.config.prior(),
                    };
                    importance::backward_row(simd, estimator, gradients, sample);
                }
            }
        }
    }
    apart(simd, Op(block, pass, estimator));
}
