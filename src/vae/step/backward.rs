//! From the gradient of the output back to that of every layer's output.

use super::block::{Block, Norm, Pass, Transposed};
use super::importance::SamplesBackward;
use super::terms::Rule;
use crate::gemm::{
    Identity, input_gradient_rows, padded, product_rows, transpose, transpose_panels,
    transposed_layout,
};
use crate::layers::{activation, layer_norm, reparameterize};
use crate::loss::total_correlation::TotalCorrelation;
use crate::simd::apart;
use crate::simd::lanes::multiply;
use pulp::{Simd, WithSimd};

impl Block {
    /// The first layer's input is the data: its gradient is not needed. `codes` holds gradients of
    /// z, μ and logvar that do not come from the decoder.
    #[inline(always)]
    pub(super) fn backward_rows<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        transposed: &mut Transposed,
        codes: Option<&TotalCorrelation>,
    ) {
        let heads = self.heads_layer;
        for layer in (1..self.doutputs.len()).rev() {
            self.input_gradient(simd, pass, layer, transposed);
            if layer == heads + 1 {
                self.codes_backward(simd, pass, codes);
            } else if self.dressings[layer - 1].is_some() {
                apart(simd, Undress { block: self, pass, layer: layer - 1 });
            } else {
                // inputs[layer] = relu(…): the same stride, and zeros between the rows.
                let used = self.rows_of(layer - 1) * self.inputs[layer].stride;
                let d = &mut self.doutputs[layer - 1].data[..used];
                activation::relu_backward_row(simd, d, &self.inputs[layer].data[..used]);
            }
        }
    }

    /// dz → dμ|dlogvar, on top of what the divergence gave.
    #[inline(always)]
    fn codes_backward<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        codes: Option<&TotalCorrelation>,
    ) {
        let (heads, latent) = (self.heads_layer, self.latent);
        if matches!(pass.terms.rule, Rule::Importance { .. }) {
            apart(simd, SamplesBackward { block: self, pass });
        } else {
            for i in 0..self.rows {
                let (dmu, dlogvar) = self.doutputs[heads].row_mut(i).split_at_mut(latent);
                let dz = &mut self.epsilon.row_mut(i)[..latent];
                if let Some(codes) = codes {
                    codes.gradient_row(self.first + i, dz, dmu, dlogvar);
                }
                reparameterize::backward_row(simd, dmu, dlogvar, dz, self.sigma_epsilon.row(i));
            }
        }
        if let Some(slopes) = &self.clamp {
            for i in 0..self.rows {
                let (_, dlogvar) = self.doutputs[heads].row_mut(i).split_at_mut(latent);
                multiply(simd, dlogvar, slopes.row(i));
            }
        }
    }

    /// Overwrites the gradient of layer `layer`'s input: dz|dc for the layer that takes z (in
    /// ε's place), else `doutputs[layer − 1]`, not yet through the activation.
    #[inline(always)]
    fn input_gradient<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        layer: usize,
        transposed: &mut Transposed,
    ) {
        let (panels, layout) = pass.weights.layer(layer);
        let rows = self.rows_of(layer);
        if let Some(wt) = &mut transposed.weights[layer] {
            transpose_panels(simd, wt, panels, layout);
            let (before, from) = self.doutputs.split_at_mut(layer);
            let dy = from[0].rows(rows);
            let to_noise = layer == self.heads_layer + 1;
            let dx = if to_noise { &mut self.epsilon } else { &mut before[layer - 1] };
            let mut dx = dx.rows_mut(rows);
            let layout = transposed_layout(layout);
            product_rows(simd, &mut dx, dy, &wt[..layout.len()], layout, Identity);
            return;
        }
        let lanes = padded(rows);
        let dyt = &mut transposed.dy[..layout.outputs * lanes];
        let dxt = &mut transposed.dx[..layout.inputs * lanes];
        let dy = &self.doutputs[layer];
        transpose(simd, dyt, lanes, &dy.data, dy.stride, rows, layout.outputs);
        input_gradient_rows(simd, dxt, dyt, lanes, panels, layout);
        let dx = if layer == self.heads_layer + 1 {
            &mut self.epsilon
        } else {
            &mut self.doutputs[layer - 1]
        };
        transpose(simd, &mut dx.data, dx.stride, dxt, lanes, layout.inputs, rows);
    }
}

/// The gradient of a hidden layer's output turned into that of its product.
struct Undress<'a, 'b, 'c> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    layer: usize,
}

impl WithSimd for Undress<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, pass, layer } = self;
        let dressing = block.dressings[layer].as_ref().expect("a dressed layer");
        let rows = block.rows_of(layer);
        for r in 0..rows {
            multiply(simd, block.doutputs[layer].row_mut(r), dressing.slope.row(r));
        }
        let Some(Norm { normalized, inverse_std, gain, shift }) = &dressing.norm else { return };
        // The shift comes behind the gain.
        let (before, behind) = block.dvectors.split_at_mut(*shift);
        let (dgains, dshifts) = (&mut before[*gain], &mut behind[0]);
        let gain = pass.weights.vector_at(*gain);
        for (r, &inverse_std) in inverse_std[..rows].iter().enumerate() {
            let d = block.doutputs[layer].row_mut(r);
            let (dgain, dshift) = (dgains.row_mut(r), dshifts.row_mut(r));
            let normalized = normalized.row(r);
            layer_norm::backward_row(simd, d, dgain, dshift, normalized, gain, inverse_std);
        }
    }
}
