//! Several samples of each row: their weights, and the gradients that these give.

use super::block::{Block, Pass};
use super::loss::Want;
use super::terms::Rule;
use crate::error::{Error, Result};
use crate::loss::importance::{self, Estimator, LogRatio};
use crate::loss::kernel::row;
use crate::simd::lanes::scale;
use crate::vae::parameters::VectorRole;
use pulp::{Simd, WithSimd};

/// Beyond this e^{logvar} is no longer a number to compute with, nor, below its negative, is
/// e^{−logvar}. (The KL alone goes on to 88.72, where f32 ends.)
const LOGVAR_LIMIT: f32 = 87.0;

/// The importance-weighted bound of each row from its samples, whose gradients get their weights.
pub(super) struct WeighSamples<'a, 'b, 'c> {
    pub(super) block: &'a mut Block,
    pub(super) pass: &'a Pass<'b, 'c>,
    pub(super) gradients: bool,
}

impl WithSimd for WeighSamples<'_, '_, '_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self { block, pass, gradients } = self;
        block.check_logvar(pass)?;
        let samples = block.samples;
        let last = block.doutputs.len() - 1;
        for i in 0..block.rows {
            let range = i * samples..(i + 1) * samples;
            let reconstruction: f64 = block.of_samples[range.clone()].iter().sum();
            block.reconstruction[i] = reconstruction / samples as f64;
            block.log_weights_of(simd, pass, i);
            let log_mean = importance::normalize(&mut block.log_weights);
            block.penalty[i] = -log_mean - block.reconstruction[i];
            block.of_samples[range.clone()].copy_from_slice(&block.log_weights);
            if gradients {
                for r in range {
                    let weight = block.of_samples[r] as f32;
                    scale(simd, block.doutputs[last].row_mut(r), weight);
                    if let Some(index) = pass.weights.layout().vector(VectorRole::Logvar) {
                        scale(simd, block.dvectors[index].row_mut(r), weight);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Block {
    /// ln p(x, z)/q(z|x) of the samples of the only row, whose outputs are there.
    ///
    /// # Errors
    /// Data that the likelihood does not accept.
    #[inline(always)]
    pub(super) fn log_weights_of_row<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
    ) -> Result<()> {
        self.reconstruction_rows(simd, pass, Want::Values)?;
        self.log_weights_of(simd, pass, 0);
        Ok(())
    }

    /// Overwrites `log_weights` with ln p(x, z)/q(z|x) of each sample of row `i`.
    #[inline(always)]
    pub(super) fn log_weights_of<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, i: usize) {
        let (samples, latent) = (self.samples, self.latent);
        let term = LogRatio::new(pass.config.prior());
        let logvar = &self.heads.row(i)[latent..];
        for (s, log_weight) in self.log_weights[..samples].iter_mut().enumerate() {
            let r = i * samples + s;
            let z = &self.inputs[self.heads_layer + 1].row(r)[..latent];
            let epsilon = &self.epsilon.row(r)[..latent];
            let ratio = row(simd, term, [], [z, logvar, epsilon], 1.0).sum;
            *log_weight = -self.of_samples[r] - ratio;
        }
    }
}

impl Block {
    /// Fails if e^{logvar} of some row is not a number to compute with, nor, where the estimator
    /// needs it, e^{−logvar}.
    pub(super) fn check_logvar(&self, pass: &Pass<'_, '_>) -> Result<()> {
        for i in 0..self.rows {
            let logvar = &self.heads.row(i)[self.latent..];
            let inverse = pass.terms.rule == Rule::Importance { estimator: Estimator::Dreg };
            let least = if inverse { -LOGVAR_LIMIT } else { f32::NEG_INFINITY };
            // NaN is for the loss to report.
            let overflows = |&v: &f32| v > LOGVAR_LIMIT || v < least;
            if let Some(dimension) = logvar.iter().position(overflows) {
                let row = pass.batch.selection.row(self.first + i);
                let value = logvar[dimension];
                return Err(Error::LogvarOverflow { row, dimension, value, step: None });
            }
        }
        Ok(())
    }
}

/// The importance-weighted gradient of μ and logvar, from that of each sample.
pub(super) struct SamplesBackward<'a, 'b, 'c> {
    pub(super) block: &'a mut Block,
    pub(super) pass: &'a Pass<'b, 'c>,
}

impl WithSimd for SamplesBackward<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, pass } = self;
        let Rule::Importance { estimator } = pass.terms.rule else { return };
        let (heads, latent, samples) = (block.heads_layer, block.latent, block.samples);
        for i in 0..block.rows {
            let logvar = &block.heads.row(i)[latent..];
            let gradients = block.doutputs[heads].row_mut(i);
            gradients.fill(0.0);
            let (dmu, dlogvar) = gradients.split_at_mut(latent);
            for r in i * samples..(i + 1) * samples {
                let gradients = importance::Gradients { dmu: &mut *dmu, dlogvar: &mut *dlogvar };
                let sample = importance::Sample {
                    dz: &block.epsilon.row(r)[..latent],
                    z: &block.inputs[heads + 1].row(r)[..latent],
                    logvar,
                    sigma_epsilon: block.sigma_epsilon.row(r),
                    weight: block.of_samples[r] as f32,
                    scale: pass.scales.penalty,
                    prior: pass.config.prior(),
                };
                importance::backward_row(simd, estimator, gradients, sample);
            }
        }
    }
}
