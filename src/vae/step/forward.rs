//! From the data to the decoder's output.

use super::block::{Block, Noise, Pass};
use crate::gemm::{Identity, product_rows};
use crate::layers::activation::{Activation, Relu};
use crate::layers::{dropout, layer_norm, reparameterize, soft_clamp};
use crate::random::{RowKey, Stream, fill_normal_rows};
use crate::simd::apart;
use pulp::{Simd, WithSimd};
use std::ops::Range;

impl Block {
    /// Turns data into draws, where the pass asks for it.
    #[inline(always)]
    pub(super) fn augment_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>) {
        let batch = pass.batch;
        let Some(stream) = batch.draws.purpose.augmentation(batch.augmentation) else { return };
        for i in 0..self.rows {
            let row = batch.selection.row(self.first + i) as u64;
            let key = RowKey::new(batch.draws.seed, stream, batch.draws.step, row);
            let x = &mut self.inputs[0].row_mut(i)[..self.features];
            batch.augmentation.augment_row(simd, x, key);
        }
    }

    /// x|c → μ|logvar.
    #[inline(always)]
    pub(super) fn encode_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>) {
        let heads = self.heads_layer;
        self.hidden_layers(simd, pass, 0..heads);
        let (panels, layout) = pass.weights.layer(heads);
        let x = self.inputs[heads].rows(self.rows);
        let mut y = self.heads.rows_mut(self.rows);
        product_rows(simd, &mut y, x, panels, layout, Identity);
        if let (Some(bounds), Some(slopes)) = (pass.config.logvar_clamp(), &mut self.clamp) {
            for i in 0..self.rows {
                let (_, logvar) = self.heads.row_mut(i).split_at_mut(self.latent);
                soft_clamp::forward_row(simd, logvar, slopes.row_mut(i), bounds);
            }
        }
    }

    /// z|c → output.
    #[inline(always)]
    pub(super) fn decode_rows<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>) {
        let (heads, last) = (self.heads_layer, self.doutputs.len() - 1);
        self.hidden_layers(simd, pass, heads + 1..last);
        let (panels, layout) = pass.weights.layer(last);
        let rows = self.decoded();
        let x = self.inputs[last].rows(rows);
        let mut y = self.doutputs[last].rows_mut(rows);
        product_rows(simd, &mut y, x, panels, layout, Identity);
    }

    #[inline(always)]
    fn hidden_layers<S: Simd>(&mut self, simd: S, pass: &Pass<'_, '_>, layers: Range<usize>) {
        for layer in layers {
            let (panels, layout) = pass.weights.layer(layer);
            let rows = self.rows_of(layer);
            // Behind the last hidden layer of the encoder come the heads, which read what it gave.
            let (before, after) = self.inputs.split_at_mut(layer + 1);
            let x = before[layer].rows(rows);
            let mut y = after[0].rows_mut(rows);
            if self.dressings[layer].is_none() {
                product_rows(simd, &mut y, x, panels, layout, Relu);
            } else {
                product_rows(simd, &mut y, x, panels, layout, Identity);
                apart(simd, Dress { block: self, pass, layer });
            }
        }
    }

    /// ε of samples `first` and following of each row, of which there are `of` in all.
    #[inline(always)]
    pub(super) fn draw_noise<S: Simd>(
        &mut self,
        simd: S,
        pass: &Pass<'_, '_>,
        first: u64,
        of: u64,
    ) {
        let (batch, samples, rows) = (pass.batch, self.samples, self.decoded());
        let (latent, first_row) = (self.latent, self.first);
        let (epsilon, stride) = self.epsilon.rows_from_mut(0);
        match batch.noise {
            Noise::Counter => {
                let row = |r: usize| {
                    let row = batch.selection.row(first_row + r / samples) as u64;
                    row * of + first + (r % samples) as u64
                };
                let draws = batch.draws;
                let key = (draws.seed, draws.noise(), draws.step);
                fill_normal_rows(simd, epsilon, [rows, latent, stride], key, row);
            }
            Noise::Given(noise) => {
                for r in 0..rows {
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
    pub(super) fn reparameterize_rows<S: Simd>(&mut self, simd: S) {
        let latent = self.latent;
        let z = &mut self.inputs[self.heads_layer + 1];
        let conditions = z.columns - latent;
        // The groups of 16 that z is written in may reach into the condition behind it.
        let mut condition = [0.0; crate::simd::LANES];
        let overlap = conditions.min(latent.next_multiple_of(crate::simd::LANES) - latent);
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

/// What follows the product of a hidden layer: normalization, activation, dropout.
struct Dress<'a, 'b, 'c> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    layer: usize,
}

impl WithSimd for Dress<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, pass, layer } = self;
        let rows = block.rows_of(layer);
        let per_row = rows / block.rows.max(1);
        let dressing = block.dressings[layer].as_mut().expect("a dressed layer");
        let y = &mut block.inputs[layer + 1];
        let width = pass.weights.layout().layers[layer].panels.outputs;
        let training = pass.is_training();
        let (dropout, batch) = (pass.config.dropout(), pass.batch);
        let hidden = pass.config.encoder().len() + pass.config.decoder().len();
        let activation: Activation = pass.config.activation();
        for r in 0..rows {
            let y = &mut y.row_mut(r)[..width];
            if let Some(norm) = &mut dressing.norm {
                let gain = pass.weights.vector_at(norm.gain);
                let shift = pass.weights.vector_at(norm.shift);
                let normalized = norm.normalized.row_mut(r);
                norm.inverse_std[r] = layer_norm::forward_row(simd, y, normalized, gain, shift);
            }
            if !training {
                activation.apply_row(simd, y);
                continue;
            }
            let slope = dressing.slope.row_mut(r);
            activation.forward_row(simd, y, slope);
            if dropout > 0.0 {
                // A row of its own for each sample and each hidden layer.
                let row = batch.selection.row(block.first + r / per_row) * block.samples;
                let row = (row + r % per_row) * hidden + dressing.number;
                let draws = batch.draws;
                let key = RowKey::new(draws.seed, Stream::Dropout, draws.step, row as u64);
                dropout::mask_row(simd, y, slope, dropout, key);
            }
        }
    }
}
