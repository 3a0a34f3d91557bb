//! A block of rows and everything that is computed of it, from the data to the gradients.
//!
//! Rows of a batch are independent from the data to the loss and back to the gradient of every
//! layer's output. So one task takes a block of them through all of it while its activations
//! stay in cache, and what is left of it is what the weight gradients need: the input of each
//! layer and the gradient of its output.
//!
//! ```text
//! inputs[0] = x          doutputs[0] = dx₁…       layer 0      y = x·Wᵀ + b, ReLU
//! inputs[1] = h₁                                  …
//!                        doutputs[E] = dμ|dlogvar layer E      heads: μ|logvar, no ReLU
//! inputs[E+1] = z                                 layer E+1    …
//!                        doutputs[L−1] = dlogits  layer L−1    logits, no ReLU
//! ```

use super::parameters::{Layout, Parameters};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::gemm::{
    GradientSource, Identity, PanelLayout, Rows, RowsMut, input_gradient_rows, padded,
    product_rows, transpose, transpose_panels, transposed_layout,
};
use crate::layers::relu::{self, Relu};
use crate::layers::reparameterise;
use crate::loss::batch::reject;
use crate::loss::bernoulli::Bernoulli;
use crate::loss::kl::StandardNormalKl;
use crate::loss::short_rows::{
    GradientRows, InputRows, SHORT, SHORT_TILE, rows_together, short_rows,
};
use crate::loss::term::{RowLoss, ValueOf, row};
use crate::random::{Stream, fill_normal_rows};
use crate::simd::aligned::AlignedBuffer;
use crate::simd::lanes::F32x16;
use crate::simd::{InstructionSet, LANES};
use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};

/// A matrix of activations whose rows start on cache lines; the elements between a row's end
/// and the next row are zero.
#[derive(Clone)]
pub(crate) struct Activation {
    data: AlignedBuffer,
    columns: usize,
    stride: usize,
}

impl Activation {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        // Rows an odd number of cache lines apart fall into different sets of the cache: a
        // column of 64 rows then has room in it.
        let stride = ((padded(columns) / LANES) | 1) * LANES;
        // Whole groups of 16 may be read and written from any element of a row on.
        Self { data: AlignedBuffer::zeros(rows * stride + LANES), columns, stride }
    }

    /// Row `row` without its padding.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.columns]
    }

    #[inline(always)]
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..][..self.columns]
    }

    /// The rows from row `row` on with their padding, and their stride.
    #[inline(always)]
    fn rows_from(&self, row: usize) -> (&[f32], usize) {
        (&self.data[row * self.stride..], self.stride)
    }

    #[inline(always)]
    fn rows_from_mut(&mut self, row: usize) -> (&mut [f32], usize) {
        (&mut self.data[row * self.stride..], self.stride)
    }

    pub(crate) fn rows(&self, rows: usize) -> Rows<'_> {
        Rows { data: &self.data, rows, stride: self.stride }
    }

    pub(crate) fn rows_mut(&mut self, rows: usize) -> RowsMut<'_> {
        RowsMut { data: &mut self.data, rows, columns: self.stride, stride: self.stride }
    }
}

/// Where the noise of the reparameterisation comes from.
#[derive(Clone, Copy)]
pub(crate) enum Noise<'a> {
    /// A function of the seed, the stream, the step and the row's number in the data set.
    Counter { seed: u64, stream: Stream, step: u64 },
    /// `[B, Z]`, given for the rows of the batch in their order.
    Given(ArrayView2<'a, f32>),
}

/// Which rows of a data set make a batch.
#[derive(Clone, Copy)]
pub(crate) enum Selection<'a> {
    /// So many consecutive rows from this one on.
    From(usize, usize),
    /// Rows by their number.
    Listed(&'a [u32]),
}

impl Selection<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::From(_, len) => len,
            Self::Listed(rows) => rows.len(),
        }
    }

    /// The number in the data set of the batch's row `index`.
    #[inline]
    pub(crate) fn row(self, index: usize) -> usize {
        match self {
            Self::From(first, _) => first + index,
            Self::Listed(rows) => rows[index] as usize,
        }
    }
}

/// The rows of a data set that make a batch, and their noise.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) data: &'a dyn Dataset,
    pub(crate) selection: Selection<'a>,
    pub(crate) noise: Noise<'a>,
}

/// What the gradients of the two terms are multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) reconstruction: f32,
    pub(crate) kl: f32,
}

/// `dyᵀ` and `dxᵀ` of the layer under way, or Wᵀ: one for each thread, whatever blocks it works on.
pub(crate) struct Transposed {
    dy: AlignedBuffer,
    dx: AlignedBuffer,
    /// For each layer that is small beside a block: the panels of Wᵀ, with a bias of zeros.
    weights: Vec<Option<AlignedBuffer>>,
}

impl Transposed {
    /// Room for blocks of `capacity` rows.
    pub(crate) fn new(layout: &Layout, capacity: usize) -> Self {
        // The first layer's input gradient is not needed.
        let widest = |width: fn(&PanelLayout) -> usize| {
            let layers = layout.layers.iter().skip(1);
            let widest = layers.map(|layer| width(&layer.panels)).max().unwrap_or(0);
            AlignedBuffer::zeros(widest * padded(capacity))
        };
        // Fewer elements change places in W than in dy and dx, and padding costs products.
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

/// Some rows of a batch, with room for all that is computed of them.
pub(crate) struct Block {
    /// Rows in use.
    pub(crate) rows: usize,
    /// The number in the batch of row 0.
    first: usize,
    /// `inputs[l]`: what layer l multiplies with its weights.
    pub(crate) inputs: Vec<Activation>,
    /// `doutputs[l]`: the gradient of what layer l adds up, before its ReLU. The last one holds
    /// the logits after the forward pass and their gradient after the loss.
    pub(crate) doutputs: Vec<Activation>,
    /// The layer whose outputs are μ|logvar; the next one takes z.
    heads_layer: usize,
    /// μ|logvar.
    pub(crate) heads: Activation,
    /// ε in the forward pass, dz in the backward pass.
    epsilon: Activation,
    sigma_epsilon: Activation,
    /// A long row of logits, or some short ones, while their gradients take their place.
    logits: AlignedBuffer,
    /// Nats of each row, unscaled.
    pub(crate) reconstruction: Vec<f64>,
    pub(crate) kl: Vec<f64>,
    /// The first row that was refused, if one was.
    pub(crate) fault: Option<Error>,
}

impl Block {
    /// Room for `capacity` rows.
    pub(crate) fn new(layout: &Layout, capacity: usize) -> Self {
        let activation = |columns| Activation::zeros(capacity, columns);
        let inputs: Vec<_> = layout.layers.iter().map(|l| activation(l.panels.inputs)).collect();
        let doutputs: Vec<_> = layout.layers.iter().map(|l| activation(l.panels.outputs)).collect();
        let latent = layout.layers[layout.heads].panels.outputs / 2;
        let features = inputs[0].columns;
        Self {
            rows: 0,
            first: 0,
            inputs,
            doutputs,
            heads_layer: layout.heads,
            heads: activation(2 * latent),
            epsilon: activation(latent),
            sigma_epsilon: activation(latent),
            logits: AlignedBuffer::zeros(features.max(SHORT_TILE)),
            reconstruction: vec![0.0; capacity],
            kl: vec![0.0; capacity],
            fault: None,
        }
    }

    /// Rows there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.kl.len()
    }

    /// Takes over rows `first .. first + rows` of a batch: reads them from the data set.
    pub(crate) fn gather(&mut self, batch: &Batch<'_>, first: usize, rows: usize) {
        (self.first, self.rows) = (first, rows);
        for i in 0..rows {
            let row = batch.selection.row(first + i);
            batch.data.read_row(row, self.inputs[0].row_mut(i));
        }
    }

    /// What the weight gradient of a layer needs of this block.
    #[inline(always)]
    pub(crate) fn gradient_source(&self, layer: usize) -> GradientSource<'_> {
        GradientSource {
            x: self.inputs[layer].rows(self.rows),
            dy: self.doutputs[layer].rows(self.rows),
        }
    }

    /// Forward, loss and backward of the rows gathered: leaves each row's loss and all that the
    /// weight gradients need, or a fault.
    pub(crate) fn forward_backward(
        &mut self,
        simd: InstructionSet,
        weights: &Parameters,
        batch: &Batch<'_>,
        scales: Scales,
        transposed: &mut Transposed,
    ) {
        struct Op<'a, 'b>(&'a mut Block, &'a Parameters, &'a Batch<'b>, Scales, &'a mut Transposed);
        impl WithSimd for Op<'_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, weights, batch, scales, transposed) = self;
                block.encode_rows(simd, weights);
                block.sample_rows(simd, batch);
                block.decode_rows(simd, weights);
                block.fault = block.loss_rows(simd, batch, scales).err();
                if block.fault.is_none() {
                    block.backward_rows(simd, weights, transposed);
                }
            }
        }
        simd.dispatch(Op(self, weights, batch, scales, transposed));
    }

    /// Forward and loss of the rows gathered: leaves each row's loss, or a fault.
    pub(crate) fn forward(
        &mut self,
        simd: InstructionSet,
        weights: &Parameters,
        batch: &Batch<'_>,
    ) {
        struct Op<'a, 'b>(&'a mut Block, &'a Parameters, &'a Batch<'b>);
        impl WithSimd for Op<'_, '_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, weights, batch) = self;
                block.encode_rows(simd, weights);
                block.sample_rows(simd, batch);
                block.decode_rows(simd, weights);
                block.fault = block.loss_values(simd, batch).err();
            }
        }
        simd.dispatch(Op(self, weights, batch));
    }

    /// x → μ|logvar.
    #[inline(always)]
    fn encode_rows<S: Simd>(&mut self, simd: S, weights: &Parameters) {
        let heads = weights.layout().heads;
        self.hidden_layers(simd, weights, 0..heads);
        let (panels, layout) = weights.layer(heads);
        let x = self.inputs[heads].rows(self.rows);
        let mut y = self.heads.rows_mut(self.rows);
        product_rows(simd, &mut y, x, panels, layout, Identity);
    }

    /// z → logits.
    #[inline(always)]
    fn decode_rows<S: Simd>(&mut self, simd: S, weights: &Parameters) {
        let (heads, last) = (weights.layout().heads, weights.layout().layers.len() - 1);
        self.hidden_layers(simd, weights, heads + 1..last);
        let (panels, layout) = weights.layer(last);
        let x = self.inputs[last].rows(self.rows);
        let mut y = self.doutputs[last].rows_mut(self.rows);
        product_rows(simd, &mut y, x, panels, layout, Identity);
    }

    #[inline(always)]
    fn hidden_layers<S: Simd>(
        &mut self,
        simd: S,
        weights: &Parameters,
        layers: std::ops::Range<usize>,
    ) {
        for layer in layers {
            let (panels, layout) = weights.layer(layer);
            let (before, after) = self.inputs.split_at_mut(layer + 1);
            let x = before[layer].rows(self.rows);
            let mut y = after[0].rows_mut(self.rows);
            product_rows(simd, &mut y, x, panels, layout, Relu);
        }
    }

    /// μ|logvar and noise → z.
    #[inline(always)]
    fn sample_rows<S: Simd>(&mut self, simd: S, batch: &Batch<'_>) {
        let latent = self.epsilon.columns;
        let (epsilon, stride) = self.epsilon.rows_from_mut(0);
        match batch.noise {
            Noise::Counter { seed, stream, step } => {
                let row = |i| batch.selection.row(self.first + i) as u64;
                let shape = [self.rows, latent, stride];
                fill_normal_rows(simd, epsilon, shape, (seed, stream, step), row);
            }
            Noise::Given(noise) => {
                for i in 0..self.rows {
                    for (to, &from) in
                        epsilon[i * stride..].iter_mut().zip(noise.row(self.first + i))
                    {
                        *to = from;
                    }
                }
            }
        }
        let z = &mut self.inputs[self.heads_layer + 1];
        for i in 0..self.rows {
            let (heads, _) = self.heads.rows_from(i);
            reparameterise::forward_groups(
                simd,
                z.rows_from_mut(i).0,
                self.sigma_epsilon.rows_from_mut(i).0,
                heads,
                &heads[latent..],
                self.epsilon.rows_from(i).0,
                latent,
            );
        }
    }

    /// Each row's loss and the gradients of logits, μ and logvar.
    ///
    /// # Errors
    /// The first row whose data the likelihood does not accept, by its number in the data set.
    #[inline(always)]
    fn loss_rows<S: Simd>(&mut self, simd: S, batch: &Batch<'_>, scales: Scales) -> Result<()> {
        let latent = self.epsilon.columns;
        let last = self.doutputs.len() - 1;
        if latent <= SHORT {
            for first in (0..self.rows).step_by(rows_together(latent)) {
                let rows = rows_together(latent).min(self.rows - first);
                let (data, stride) = self.heads.rows_from(first);
                let mu = InputRows { data, stride };
                let logvar = InputRows { data: &data[latent..], stride };
                let (data, stride) = self.doutputs[self.heads_layer].rows_from_mut(first);
                let gradients = GradientRows { data, starts: [0, latent], stride };
                let (terms, sums) = ([mu, logvar], &mut self.kl[first..first + rows]);
                short_rows(simd, StandardNormalKl, gradients, terms, latent, scales.kl, sums);
            }
        } else {
            for i in 0..self.rows {
                let (mu, logvar) = self.heads.row(i).split_at(latent);
                let (dmu, dlogvar) =
                    self.doutputs[self.heads_layer].row_mut(i).split_at_mut(latent);
                let terms = [mu, logvar];
                self.kl[i] = row(simd, StandardNormalKl, [dmu, dlogvar], terms, scales.kl).sum;
            }
        }
        let features = self.inputs[0].columns;
        if features <= SHORT {
            let mut all_accepted = true;
            let width = padded(features);
            for first in (0..self.rows).step_by(rows_together(features)) {
                let rows = rows_together(features).min(self.rows - first);
                let (data, stride) = self.doutputs[last].rows_from_mut(first);
                let logits = InputRows { data, stride };
                for (row, to) in self.logits.chunks_exact_mut(width).take(rows).enumerate() {
                    let from = logits.row(row, width / LANES);
                    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from) {
                        F32x16::load(simd, from).store(to);
                    }
                }
                let logits = InputRows { data: &self.logits, stride: width };
                let (x, x_stride) = self.inputs[0].rows_from(first);
                let inputs = [logits, InputRows { data: x, stride: x_stride }];
                let gradients = GradientRows { data, starts: [0], stride };
                let sums = &mut self.reconstruction[first..first + rows];
                let scale = scales.reconstruction;
                all_accepted &=
                    short_rows(simd, Bernoulli, gradients, inputs, features, scale, sums);
            }
            return if all_accepted { Ok(()) } else { self.reject_rows(batch) };
        }
        for i in 0..self.rows {
            let (x, dlogits) = (self.inputs[0].row(i), self.doutputs[last].row_mut(i));
            self.logits[..features].copy_from_slice(dlogits);
            let inputs = [&self.logits[..features], x];
            let RowLoss { sum, accepted } =
                row(simd, Bernoulli, [dlogits], inputs, scales.reconstruction);
            self.reconstruction[i] = sum;
            if !accepted {
                reject::<Bernoulli, 2, 1>(x, batch.selection.row(self.first + i))?;
            }
        }
        Ok(())
    }

    /// Looks for the first row whose data the likelihood does not accept.
    #[cold]
    fn reject_rows(&self, batch: &Batch<'_>) -> Result<()> {
        (0..self.rows).try_for_each(|i| {
            reject::<Bernoulli, 2, 1>(self.inputs[0].row(i), batch.selection.row(self.first + i))
        })
    }

    /// Each row's loss, to the bits of [`Self::loss_rows`].
    #[inline(always)]
    fn loss_values<S: Simd>(&mut self, simd: S, batch: &Batch<'_>) -> Result<()> {
        let latent = self.epsilon.columns;
        for i in 0..self.rows {
            let (mu, logvar) = self.heads.row(i).split_at(latent);
            self.kl[i] = row(simd, ValueOf(StandardNormalKl), [], [mu, logvar], 1.0).sum;
            let x = self.inputs[0].row(i);
            let logits = self.doutputs[self.doutputs.len() - 1].row(i);
            let RowLoss { sum, accepted } = row(simd, ValueOf(Bernoulli), [], [logits, x], 1.0);
            self.reconstruction[i] = sum;
            if !accepted {
                reject::<Bernoulli, 2, 1>(x, batch.selection.row(self.first + i))?;
            }
        }
        Ok(())
    }

    /// From dlogits back to the gradient of every layer's output. The first layer's input is the
    /// data: its gradient is not needed.
    #[inline(always)]
    fn backward_rows<S: Simd>(
        &mut self,
        simd: S,
        weights: &Parameters,
        transposed: &mut Transposed,
    ) {
        let heads = self.heads_layer;
        for layer in (1..self.doutputs.len()).rev() {
            self.input_gradient(simd, weights, layer, transposed);
            if layer == heads + 1 {
                // z = μ + σε
                let latent = self.epsilon.columns;
                for i in 0..self.rows {
                    let (dmu, dlogvar) = self.doutputs[heads].row_mut(i).split_at_mut(latent);
                    let dz = self.epsilon.row(i);
                    reparameterise::backward_row(simd, dmu, dlogvar, dz, self.sigma_epsilon.row(i));
                }
            } else {
                // inputs[layer] = relu(…): the same stride, and zeros between the rows.
                let used = self.rows * self.inputs[layer].stride;
                let d = &mut self.doutputs[layer - 1].data[..used];
                relu::backward_row(simd, d, &self.inputs[layer].data[..used]);
            }
        }
    }

    /// Overwrites the gradient of layer `layer`'s input: dz for the layer that takes z (in
    /// ε's place), else `doutputs[layer − 1]`, not yet masked.
    #[inline(always)]
    fn input_gradient<S: Simd>(
        &mut self,
        simd: S,
        weights: &Parameters,
        layer: usize,
        transposed: &mut Transposed,
    ) {
        let (panels, layout) = weights.layer(layer);
        if let Some(wt) = &mut transposed.weights[layer] {
            transpose_panels(simd, wt, panels, layout);
            let (before, from) = self.doutputs.split_at_mut(layer);
            let dy = from[0].rows(self.rows);
            let to_noise = layer == self.heads_layer + 1;
            let dx = if to_noise { &mut self.epsilon } else { &mut before[layer - 1] };
            let mut dx = dx.rows_mut(self.rows);
            let layout = transposed_layout(layout);
            product_rows(simd, &mut dx, dy, &wt[..layout.len()], layout, Identity);
            return;
        }
        let lanes = padded(self.rows);
        let dyt = &mut transposed.dy[..layout.outputs * lanes];
        let dxt = &mut transposed.dx[..layout.inputs * lanes];
        let dy = &self.doutputs[layer];
        transpose(simd, dyt, lanes, &dy.data, dy.stride, self.rows, layout.outputs);
        input_gradient_rows(simd, dxt, dyt, lanes, panels, layout);
        let dx = if layer == self.heads_layer + 1 {
            &mut self.epsilon
        } else {
            &mut self.doutputs[layer - 1]
        };
        transpose(simd, &mut dx.data, dx.stride, dxt, lanes, layout.inputs, self.rows);
    }
}
