//! The forward pass: from the data to the decoder's output.
//!
//! # Method
//! 1. Binarize or dequantize x in place, if asked for.
//! 2. Encode: each hidden layer is a product h = x·Wᵀ + b, then normalization, activation and dropout;
//!    the heads are a product alone, μ|logvar, with logvar softly clamped if asked for.
//! 3. Draw ε, a function of the seed, the step and the row's number in the data set.
//! 4. Sample z = μ + e^{logvar/2}·ε.
//! 5. Decode: hidden layers as in the encoder; the output layer is a product alone.
//!
//! Rows of a block go through each product together, so a weight is read once for all of them.

use super::batch::{Noise, Pass};
use super::block::Block;
use crate::compute::Compute;
use crate::gemm::shared_product;
use crate::layers::activation::{Activation, Relu};
use crate::layers::{dropout, layer_norm, reparameterize, soft_clamp};
use crate::random::{RowKey, Stream, fill_normal_rows};
use crate::simd::lanes::Identity;
use crate::simd::{InstructionSet, LANES, apart};
use pulp::{Simd, WithSimd};
use std::ops::Range;

impl Block {
    /// x|c → μ|logvar.
    pub(super) fn encode(&mut self, compute: &Compute, pass: &Pass<'_, '_>) {
        struct Encode<'a, 'b, 'c>(&'a mut Block, &'a Compute, &'a Pass<'b, 'c>);
        impl WithSimd for Encode<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, compute, pass) = self;
                // 1.
                block.augment_rows(simd, pass);
                // 2.
                block.encode_rows(compute, simd, pass);
            }
        }
        compute.simd().dispatch(Encode(self, compute, pass));
    }

    /// μ|logvar and noise → z, all samples of each row.
    pub(super) fn sample(&mut self, simd: InstructionSet, pass: &Pass<'_, '_>) {
        self.sample_range(simd, pass, 0, self.samples as u64);
    }

    /// μ|logvar and noise → z, samples `first ..` of each row, which has `all` of them.
    pub(super) fn sample_range(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        first: u64,
        all: u64,
    ) {
        struct Sample<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>, u64, u64);
        impl WithSimd for Sample<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, pass, first, all) = self;
                // 3.
                block.draw_noise(simd, pass, first, all);
                // 4.
                block.reparameterize_rows(simd);
            }
        }
        simd.dispatch(Sample(self, pass, first, all));
    }

    /// z|c → output.
    pub(super) fn decode(&mut self, compute: &Compute, pass: &Pass<'_, '_>) {
        struct Decode<'a, 'b, 'c>(&'a mut Block, &'a Compute, &'a Pass<'b, 'c>);
        impl WithSimd for Decode<'_, '_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                // 5.
                self.0.decode_rows(self.1, simd, self.2);
            }
        }
        compute.simd().dispatch(Decode(self, compute, pass));
    }

    /// Binarizes or dequantizes the data in place, if the pass asks for it.
    #[inline(always)]
    fn augment_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>) {
        let batch = pass.batch;
        let Some(stream) = batch.key.purpose.augmentation_stream(batch.augmentation) else {
            return;
        };
        for i in 0..self.rows {
            let row = batch.indices.row(self.first + i) as u64;
            // By the number in the data set, not in the batch: the order of the rows in it
            // does not matter.
            let key = RowKey::new(batch.key.seed, stream, batch.key.step, row);
            let x = &mut self.inputs[0].row_mut(i)[..self.features];
            batch.augmentation.augment_row(simd, x, key);
        }
    }

    #[inline(always)]
    fn encode_rows<S: Simd>(&mut self, compute: &Compute, simd: S, pass: &Pass<'_, '_>) {
        let heads = self.heads_layer;
        self.hidden_layers(compute, simd, pass, 0..heads);
        let (panels, layout) = pass.weights.layer(heads);
        let x = self.inputs[heads].rows(self.rows);
        // μ|logvar `[rows, 2Z]`, without an activation.
        let y = self.heads.rows_mut(self.rows);
        shared_product(compute, simd, y, x, panels, layout, Identity);
        if let (Some(bounds), Some(slopes)) = (pass.config.logvar_clamp(), &mut self.clamp_slope) {
            for i in 0..self.rows {
                let (_, logvar) = self.heads.row_mut(i).split_at_mut(self.latent);
                soft_clamp::forward_row(simd, logvar, slopes.row_mut(i), bounds);
            }
        }
    }

    #[inline(always)]
    fn decode_rows<S: Simd>(&mut self, compute: &Compute, simd: S, pass: &Pass<'_, '_>) {
        let (heads, last) = (self.heads_layer, self.doutputs.len() - 1);
        self.hidden_layers(compute, simd, pass, heads + 1..last);
        let (panels, layout) = pass.weights.layer(last);
        let rows = self.decoder_rows();
        let x = self.inputs[last].rows(rows);
        // The output `[rows·k, D]` lies where the loss will leave its gradient.
        let y = self.doutputs.output_mut().rows_mut(rows);
        shared_product(compute, simd, y, x, panels, layout, Identity);
    }

    #[inline(always)]
    fn hidden_layers<S: Simd>(
        &mut self,
        compute: &Compute,
        simd: S,
        pass: &Pass<'_, '_>,
        layers: Range<usize>,
    ) {
        for layer in layers {
            let (panels, layout) = pass.weights.layer(layer);
            let rows = self.rows_of(layer);
            // The heads follow the encoder's last hidden layer and read its output.
            let (before, after) = self.inputs.split_at_mut(layer + 1);
            let x = before[layer].rows(rows);
            let y = after[0].rows_mut(rows);
            // A plain layer applies its ReLU to the sums while they are in registers.
            if self.hidden[layer].is_none() {
                shared_product(compute, simd, y, x, panels, layout, Relu);
            } else {
                shared_product(compute, simd, y, x, panels, layout, Identity);
                norm_activation_dropout(simd, self, pass, layer);
            }
        }
    }

    /// ε of samples `first ..` of each row, which has `all` of them.
    #[inline(always)]
    fn draw_noise<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, first: u64, all: u64) {
        let (batch, samples, rows) = (pass.batch, self.samples, self.decoder_rows());
        let (latent, first_row) = (self.latent, self.first);
        let (epsilon, stride) = self.epsilon.rows_from_mut(0);
        match batch.noise {
            Noise::Drawn => {
                // Each sample has a row of random numbers: that of number row·K + s.
                let row = |r: usize| {
                    let row = batch.indices.row(first_row + r / samples) as u64;
                    row * all + first + (r % samples) as u64
                };
                let key = (batch.key.seed, batch.key.purpose.noise_stream(), batch.key.step);
                fill_normal_rows(simd, epsilon, [rows, latent, stride], key, row);
            }
            Noise::Zero => epsilon[..rows * stride].fill(0.0),
            Noise::Given(noise) => {
                for r in 0..rows {
                    // Sample s of row i is row i·k + s, counted over the whole batch.
                    let row = noise.row(first_row * samples + r);
                    for (to, &from) in epsilon[r * stride..].iter_mut().zip(row) {
                        *to = from;
                    }
                }
            }
        }
    }

    /// z = μ + σε, of every sample.
    #[inline(always)]
    fn reparameterize_rows<S: Simd>(&mut self, simd: S) {
        let latent = self.latent;
        let z = &mut self.inputs[self.heads_layer + 1];
        let conditions = z.columns - latent;
        // z is written in groups of 16, and the last one may reach into the condition behind it.
        let mut condition = [0.0; LANES];
        let overlap = conditions.min(latent.next_multiple_of(LANES) - latent);
        // Row r is sample r mod k of row r / k, whose μ|logvar all its samples share.
        for r in 0..self.rows * self.samples {
            condition[..overlap].copy_from_slice(&z.row(r)[latent..latent + overlap]);
            let (heads, _) = self.heads.rows_from(r / self.samples);
            reparameterize::forward_groups(
                simd,
                z.rows_from_mut(r).0,
                self.sigma_epsilon.rows_from_mut(r).0,
                heads,
                &heads[latent..],
                self.epsilon.rows_from(r).0,
                latent,
            );
            z.row_mut(r)[latent..latent + overlap].copy_from_slice(&condition[..overlap]);
        }
    }
}

/// Normalization, activation and dropout behind the product of a hidden layer, in place.
#[inline(always)]
fn norm_activation_dropout<S: Simd>(simd: S, block: &mut Block, pass: &Pass<'_, '_>, layer: usize) {
    struct Op<'a, 'b, 'c>(&'a mut Block, &'a Pass<'b, 'c>, usize);
    impl WithSimd for Op<'_, '_, '_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(block, pass, layer) = self;
            let rows = block.rows_of(layer);
            // 1 in the encoder, k in the decoder.
            let per_row = rows / block.rows.max(1);
            let state = block.hidden[layer].as_mut().expect("a layer with more than a ReLU");
            let y = &mut block.inputs[layer + 1];
            let width = pass.weights.layout().layers[layer].panels.outputs;
            let (dropout, batch) = (pass.config.dropout(), pass.batch);
            let hidden_layers = pass.config.encoder().len() + pass.config.decoder().len();
            let activation: Activation = pass.config.activation();
            for r in 0..rows {
                let y = &mut y.row_mut(r)[..width];
                if let Some(norm) = &mut state.norm {
                    // x̂ = (y − mean)/std, y = γ·x̂ + β; x̂ and 1/std stay for the backward pass.
                    let gain = pass.weights.vector_at(norm.gain);
                    let shift = pass.weights.vector_at(norm.shift);
                    let normalized = norm.normalized.row_mut(r);
                    norm.inverse_std[r] = layer_norm::forward_row(simd, y, normalized, gain, shift);
                }
                // The derivative is for the backward pass alone.
                if !pass.is_training() {
                    activation.apply_row(simd, y);
                    continue;
                }
                let slope = state.slope.row_mut(r);
                // y = f(y), slope = f′(y).
                activation.forward_row(simd, y, slope);
                if dropout > 0.0 {
                    // A row of random numbers for each sample and each hidden layer.
                    let row = batch.indices.row(block.first + r / per_row) * block.samples;
                    let row = (row + r % per_row) * hidden_layers + state.number;
                    let (seed, step) = (batch.key.seed, batch.key.step);
                    let key = RowKey::new(seed, Stream::Dropout, step, row as u64);
                    // Value and derivative by the same factor: the backward pass is one product.
                    dropout::mask_row(simd, y, slope, dropout, key);
                }
            }
        }
    }
    apart(simd, Op(block, pass, layer));
}
