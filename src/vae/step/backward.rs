//! The backward pass: from the gradient of the output back to that of every layer's output.
//!
//! # Method
//! From the last layer to the second, each in four steps:
//! 1. Through the product y = x·Wᵀ + b: dx = dy·W.
//! 2. Where x is z|c: through the sampling z = μ + σε, or the weights of the samples, to dμ|dlogvar;
//!    then through the soft clamp of logvar.
//! 3. Elsewhere: through dropout, activation and normalization, in place, to the gradient of the
//!    product of the layer before.
//! 4. The gradients of W and b are left to the pieces of the weight gradient, which read `inputs` and
//!    `doutputs` once all blocks are done.

use super::batch::Pass;
use super::block::{Block, Norm};
use super::importance::importance_backward;
use super::terms::StepPenalty;
use crate::compute::Compute;
use crate::gemm::{
    PanelLayout, input_gradient_rows, padded, shared_product, transpose, transpose_panels,
    transposed_layout,
};
use crate::layers::{activation, layer_norm, reparameterize};
use crate::loss::total_correlation::TotalCorrelation;
use crate::simd::aligned::AlignedBuffer;
use crate::simd::apart;
use crate::simd::lanes::{Identity, multiply};
use crate::vae::parameters::Layout;
use pulp::{Simd, WithSimd};
use std::sync::{Mutex, PoisonError};

/// `dyᵀ` and `dxᵀ` of the current layer, or Wᵀ: one for each thread, whatever blocks it works on.
pub(super) struct Transposed {
    dy: AlignedBuffer,
    dx: AlignedBuffer,
    /// For each layer that is small compared with a block: the panels of Wᵀ, with a bias of zeros.
    weights: Vec<Option<AlignedBuffer>>,
}

impl Transposed {
    /// Bytes that [`Self::new`] allocates for dy and dx; the small layers need little beside them.
    pub(super) fn bytes(layout: &Layout, capacity: usize) -> u64 {
        let layers = || layout.layers.iter().skip(1).map(|layer| layer.panels);
        let outputs = layers().map(|panels| panels.outputs).max().unwrap_or(0);
        let inputs = layers().map(|panels| panels.inputs).max().unwrap_or(0);
        let columns = (outputs + inputs) as u64;
        columns.saturating_mul(capacity as u64).saturating_mul(size_of::<f32>() as u64)
    }

    /// Allocates memory for blocks of `capacity` rows.
    pub(super) fn new(layout: &Layout, capacity: usize) -> Self {
        // The first layer's input gradient is not needed.
        let widest = |width: fn(&PanelLayout) -> usize| {
            let layers = layout.layers.iter().skip(1);
            let widest = layers.map(|layer| width(&layer.panels)).max().unwrap_or(0);
            AlignedBuffer::zeros(widest * padded(capacity))
        };
        // Transposing W then moves fewer elements than transposing dy and dx, and the product wastes
        // no work on padded rows.
        let is_small =
            |p: PanelLayout| p.inputs * p.outputs < capacity * (p.inputs + p.outputs) / 2;
        let weights =
            layout.layers.iter().map(|layer| layer.panels).enumerate().map(|(l, panels)| {
                (l > 0 && is_small(panels))
                    .then(|| AlignedBuffer::zeros(transposed_layout(panels).len()))
            });
        Self {
            dy: widest(|layer| layer.outputs),
            dx: widest(|layer| layer.inputs),
            weights: weights.collect(),
        }
    }
}

impl Block {
    /// Gradient of the output → gradients of every layer's output. The first layer's input is the
    /// data, whose gradient nothing needs. `total_correlation` holds gradients of z, μ and logvar that
    /// do not come from the decoder.
    pub(super) fn backward(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        transposed: &Mutex<Transposed>,
        total_correlation: Option<&TotalCorrelation>,
    ) {
        struct Backward<'a, 'b, 'c> {
            block: &'a mut Block,
            compute: &'a Compute,
            pass: &'a Pass<'b, 'c>,
            transposed: &'a mut Transposed,
            total_correlation: Option<&'a TotalCorrelation>,
        }
        impl WithSimd for Backward<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self { block, compute, pass, transposed, total_correlation } = self;
                block.backward_rows(compute, simd, pass, transposed, total_correlation);
            }
        }
        let mut transposed = transposed.lock().unwrap_or_else(PoisonError::into_inner);
        let transposed = &mut *transposed;
        let simd = compute.simd();
        simd.dispatch(Backward { block: self, compute, pass, transposed, total_correlation });
        self.gradient_bound = self.bound_gradient(simd, pass);
    }

    #[inline(always)]
    fn backward_rows<S: Simd>(
        &mut self,
        compute: &Compute,
        simd: S,
        pass: &Pass<'_, '_>,
        transposed: &mut Transposed,
        total_correlation: Option<&TotalCorrelation>,
    ) {
        for layer in (1..self.doutputs.len()).rev() {
            // 1. Through the product of this layer …
            self.input_gradient(compute, simd, pass, layer, transposed);
            // … and through what lies between it and the layer before.
            if layer == self.heads_layer + 1 {
                self.codes_backward(simd, pass, total_correlation);
            } else if self.hidden[layer - 1].is_some() {
                norm_activation_dropout_backward(simd, self, pass, layer - 1);
            } else {
                // inputs[layer] = relu(…): the same stride, and zeros between the rows.
                let used = self.rows_of(layer - 1) * self.inputs[layer].stride;
                let d = &mut self.doutputs[layer - 1].data[..used];
                activation::relu_backward_row(simd, d, &self.inputs[layer].data[..used]);
            }
        }
    }

    /// dz → dμ|dlogvar, accumulated onto the gradients of the penalty.
    #[inline(always)]
    fn codes_backward<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        total_correlation: Option<&TotalCorrelation>,
    ) {
        let (heads, latent) = (self.heads_layer, self.latent);
        if let StepPenalty::Importance(estimator) = pass.objective.penalty {
            importance_backward(simd, self, pass, estimator);
        } else {
            // 2. z = μ + σε with σ = e^{logvar/2}, so dμ += dz and dlogvar += ½·dz·σε. The gradients of
            // the penalty are already there.
            for i in 0..self.rows {
                let (dmu, dlogvar) = self.doutputs[heads].row_mut(i).split_at_mut(latent);
                let dz = &mut self.dz.row_mut(i)[..latent];
                // It depends on z directly, and so adds to dz before dz is passed on.
                if let Some(gradients) = total_correlation {
                    gradients.gradient_row(self.first + i, dz, dmu, dlogvar);
                }
                reparameterize::backward_row(simd, dmu, dlogvar, dz, self.sigma_epsilon.row(i));
            }
        }
        // logvar = clamp(v), so dv = dlogvar·clamp′(v): the last step before the heads.
        if let Some(slopes) = &self.clamp_slope {
            for i in 0..self.rows {
                let (_, dlogvar) = self.doutputs[heads].row_mut(i).split_at_mut(latent);
                multiply(simd, dlogvar, slopes.row(i));
            }
        }
    }

    /// Overwrites the gradient of layer `layer`'s input: dz|dc for the layer that takes z|c, else
    /// `doutputs[layer − 1]`, not yet through the activation.
    #[inline(always)]
    fn input_gradient<S: Simd>(
        &mut self,
        compute: &Compute,
        simd: S,
        pass: &Pass<'_, '_>,
        layer: usize,
        transposed: &mut Transposed,
    ) {
        let (panels, layout) = pass.weights.layer(layer);
        let rows = self.rows_of(layer);
        // dy `[rows, N]` is read, dx `[rows, K]` belongs to the layer before: two disjoint borrows.
        let (before, from) = self.doutputs.split_at_mut(layer);
        let dy = &from[0];
        let takes_z = layer == self.heads_layer + 1;
        let dx = if takes_z { &mut self.dz } else { &mut before[layer - 1] };
        // dx = dy·W. A small W is transposed, and the product is that of the forward pass …
        if let Some(wt) = &mut transposed.weights[layer] {
            transpose_panels(simd, wt, panels, layout);
            let layout = transposed_layout(layout);
            let (dx, dy, wt) = (dx.rows_mut(rows), dy.rows(rows), &wt[..layout.len()]);
            shared_product(compute, simd, dx, dy, wt, layout, Identity);
            return;
        }
        // … a large one stays as it is, and dy and dx are transposed around the product.
        // Rows of the block lie in lanes here, so their number is rounded up to whole groups.
        let lanes = padded(rows);
        let dyt = &mut transposed.dy[..layout.outputs * lanes];
        // dyᵀ `[N, lanes]`, dxᵀ `[K, lanes]`.
        let dxt = &mut transposed.dx[..layout.inputs * lanes];
        transpose(simd, dyt, lanes, &dy.data, dy.stride, rows, layout.outputs);
        input_gradient_rows(compute, simd, dxt, dyt, lanes, panels, layout);
        transpose(simd, &mut dx.data, dx.stride, dxt, lanes, layout.inputs, rows);
    }
}

/// Gradient of a hidden layer's output → gradient of its product, in place; overwrites those of gain
/// and shift.
#[inline(always)]
fn norm_activation_dropout_backward<S: Simd>(
    simd: S,
    block: &mut Block,
    pass: &Pass<'_, '_>,
    layer: usize,
) {
    struct Op<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>, usize);
    impl WithSimd for Op<'_, '_, '_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(block, pass, layer) = self;
            let state = block.hidden[layer].as_ref().expect("a layer with more than a ReLU");
            let rows = block.rows_of(layer);
            // 3. a = f(y)·mask, and the slope is f′(y)·mask: dy = da·slope.
            for r in 0..rows {
                multiply(simd, block.doutputs[layer].row_mut(r), state.slope.row(r));
            }
            let Some(Norm { normalized, inverse_std, gain, shift }) = &state.norm else { return };
            // The shift comes behind the gain.
            let (before, behind) = block.dvectors.split_at_mut(*shift);
            let (dgains, dshifts) = (&mut before[*gain], &mut behind[0]);
            let gain = pass.weights.vector_at(*gain);
            // y = γ·x̂ + β: dγ and dβ are stored row by row, and summed with the weight gradients.
            for (r, &inverse_std) in inverse_std[..rows].iter().enumerate() {
                let d = block.doutputs[layer].row_mut(r);
                let (dgain, dshift) = (dgains.row_mut(r), dshifts.row_mut(r));
                let normalized = normalized.row(r);
                layer_norm::backward_row(simd, d, dgain, dshift, normalized, gain, inverse_std);
            }
        }
    }
    apart(simd, Op(block, pass, layer));
}
