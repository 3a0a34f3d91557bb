//! A block of rows and everything that is computed from it, from the data to the gradients.
//!
//! Rows of a batch are independent from the data to the loss and back to the gradient of every
//! layer's output. So one task takes a block of rows through the whole pass while its activations
//! stay in cache. What remains in the block afterwards is what the weight gradients need: the
//! input of each layer and the gradient of its output.
//!
//! ```text
//! inputs[0] = x|c        doutputs[0] = dx₁…       layer 0      y = x·Wᵀ + b, activation
//! inputs[1] = h₁                                  …
//!                        doutputs[E] = dμ|dlogvar layer E      heads: μ|logvar, no activation
//! inputs[E+1] = z|c                               layer E+1    …
//!                        doutputs[L−1] = dl       layer L−1    the output l, no activation
//! ```
//!
//! c is the condition, if there is one. With several latent samples of each row, as importance
//! weighting has them, everything from z on has a row for each sample: those of row 0 first.
//!
//! This file holds the memory. The stages that fill it are methods in `forward`, `loss`, `importance`
//! and `backward`, and the file above it calls them in their order. Each stage enters the instruction
//! set once for a block and is compiled once for each, so that training, evaluation and marginal
//! likelihoods share its machine code.

use super::batch::{Batch, Pass, Purpose};
use super::matrix::Matrix;
use super::terms::RowLosses;
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::gemm::{GradientSource, Rows};
use crate::loss::kernel::short_rows::SHORT_TILE;
use crate::loss::total_correlation::TotalCorrelation;
use crate::simd::aligned::AlignedBuffer;
use crate::vae::config::Config;
use crate::vae::parameters::{Layout, VectorRole};
use std::ops::{Deref, DerefMut, Range};

/// Some rows of a batch, with memory for everything computed from them. k is the number of latent
/// samples of each row.
pub(crate) struct Block {
    /// Rows in use.
    pub(crate) rows: usize,
    /// Number in the batch of row 0.
    pub(crate) first: usize,
    /// k.
    pub(super) samples: usize,
    pub(super) features: usize,
    pub(super) latent: usize,
    /// `inputs[l]`: input of layer l, which its weights multiply.
    pub(super) inputs: Vec<Matrix>,
    pub(super) doutputs: OutputGradients,
    /// For each dense layer: what follows it, if that is more than a ReLU.
    pub(super) hidden: Vec<Option<HiddenState>>,
    /// Each row's gradient of the parameters of [`Layout::vectors`].
    pub(super) dvectors: Vec<Matrix>,
    /// The layer whose outputs are μ|logvar; the next one takes z.
    pub(super) heads_layer: usize,
    /// μ|logvar.
    pub(crate) heads: Matrix,
    /// Derivative of the soft clamp of logvar, if there is one.
    pub(super) clamp_slope: Option<Matrix>,
    /// ε `[rows·k, Z]`.
    pub(super) epsilon: Matrix,
    /// σε `[rows·k, Z]`.
    pub(super) sigma_epsilon: Matrix,
    /// dz|dc `[rows·k, Z + C]`.
    pub(super) dz: Matrix,
    /// Copies of a long row of outputs, or of some short ones, while their gradients take their place.
    pub(super) output_copy: AlignedBuffer,
    /// Reconstruction term of each latent sample, in nats.
    pub(super) sample_reconstruction: Vec<f64>,
    /// Importance weight w̃ of each latent sample.
    pub(super) sample_weights: Vec<f64>,
    /// ln w of the samples of one row.
    pub(super) log_weights: Vec<f64>,
    pub(crate) losses: RowLosses,
    pub(super) has_finite_conditions: bool,
    /// Bound on the norm of the gradient of these rows.
    pub(super) gradient_bound: f64,
    /// Error of the first row that was rejected.
    pub(super) fault: Option<Error>,
}

/// Gradients of the layers' outputs, before their activations: `doutputs[l]` is that of layer l.
///
/// The last matrix has two meanings: from the forward pass to the loss it is the decoder's output
/// ([`Self::output_mut`]), which the loss replaces, row by row, by its gradient
/// ([`Self::doutput_mut`]).
pub(super) struct OutputGradients(Vec<Matrix>);

impl OutputGradients {
    /// The decoder's output `[rows·k, D]`, to be written, or to be replaced by its gradient.
    pub(super) fn output_mut(&mut self) -> &mut Matrix {
        self.0.last_mut().expect("a model has layers")
    }

    /// Gradient of the decoder's output `[rows·k, D]`, after the loss.
    pub(super) fn doutput_mut(&mut self) -> &mut Matrix {
        self.output_mut()
    }
}

impl Deref for OutputGradients {
    type Target = [Matrix];
    fn deref(&self) -> &[Matrix] {
        &self.0
    }
}

impl DerefMut for OutputGradients {
    fn deref_mut(&mut self) -> &mut [Matrix] {
        &mut self.0
    }
}

/// State that normalization, activation and dropout of a hidden layer leave for its backward pass.
pub(super) struct HiddenState {
    /// Derivative of the activation, dropout included.
    pub(super) slope: Matrix,
    pub(super) norm: Option<Norm>,
    /// Number among the hidden layers.
    pub(super) number: usize,
}

/// State that a layer normalization leaves for its backward pass.
pub(super) struct Norm {
    pub(super) normalized: Matrix,
    pub(super) inverse_std: Vec<f32>,
    /// Index in [`Layout::vectors`].
    pub(super) gain: usize,
    /// Index in [`Layout::vectors`], behind that of the gain.
    pub(super) shift: usize,
}

impl Block {
    /// Allocates memory for `capacity` rows of `samples` latent samples each. An evaluation has none
    /// for gradients.
    pub(crate) fn new(
        config: &Config,
        layout: &Layout,
        capacity: usize,
        samples: usize,
        purpose: Purpose,
    ) -> Self {
        let heads = layout.heads;
        let (features, latent) = (config.features(), config.latent());
        // x|c, the encoder and μ|logvar have a row for each example, z and the decoder one for
        // each sample.
        let rows_of = |layer| if layer > heads { capacity * samples } else { capacity };
        let matrix = |layer, columns| Matrix::zeros(rows_of(layer), columns);
        let gradient = |layer, columns| match purpose {
            Purpose::Training => matrix(layer, columns),
            Purpose::Evaluation => Matrix::zeros(0, columns),
        };
        let last = layout.layers.len() - 1;
        // The output lies where the loss leaves its gradient.
        let doutput = |layer, columns| {
            if layer == last { matrix(layer, columns) } else { gradient(layer, columns) }
        };
        let plain = config.has_plain_layers();
        let hidden = |layer: usize| {
            let width = layout.layers[layer].panels.outputs;
            let norm = layout.vector(VectorRole::Gain(layer)).map(|gain| Norm {
                normalized: matrix(layer, width),
                inverse_std: vec![0.0; rows_of(layer)],
                gain,
                shift: layout.vector(VectorRole::Shift(layer)).expect("beside the gain"),
            });
            // Dropout draws a row of random numbers for each hidden layer, by this number.
            // The heads are not one of them.
            let number = layer - usize::from(layer > heads);
            HiddenState { slope: gradient(layer, width), norm, number }
        };
        // One row each, as in `doutputs`: the sum over rows is that of the weight gradients.
        let dvector = |role, width| match role {
            VectorRole::Gain(layer) | VectorRole::Shift(layer) => gradient(layer, width),
            VectorRole::Logvar => gradient(last, width),
        };
        let layers = || layout.layers.iter().map(|layer| layer.panels).enumerate();
        let vectors = layout.vectors.iter();
        Self {
            rows: 0,
            first: 0,
            samples,
            features,
            latent,
            inputs: layers().map(|(l, panels)| matrix(l, panels.inputs)).collect(),
            doutputs: OutputGradients(
                layers().map(|(l, panels)| doutput(l, panels.outputs)).collect(),
            ),
            hidden: (0..=last)
                // A layer with nothing but a ReLU needs no slope: its output shows where x was
                // above 0.
                .map(|l| (!plain && l != heads && l != last).then(|| hidden(l)))
                .collect(),
            dvectors: vectors.map(|v| dvector(v.role, v.layer.panels.outputs)).collect(),
            heads_layer: heads,
            heads: matrix(0, 2 * latent),
            clamp_slope: config.logvar_clamp().map(|_| matrix(0, latent)),
            epsilon: matrix(last, latent),
            sigma_epsilon: matrix(last, latent),
            dz: gradient(last, latent + config.conditions()),
            // A long row of outputs, or a tile of short ones with their padding.
            output_copy: AlignedBuffer::zeros(features.max(SHORT_TILE)),
            sample_reconstruction: vec![0.0; capacity * samples],
            sample_weights: vec![0.0; capacity * samples],
            log_weights: vec![0.0; samples],
            losses: RowLosses::zeros(capacity),
            has_finite_conditions: true,
            gradient_bound: 0.0,
            fault: None,
        }
    }

    /// Bytes that [`Self::new`] allocates, within a few percent.
    pub(super) fn bytes(
        config: &Config,
        layout: &Layout,
        capacity: usize,
        samples: usize,
        purpose: Purpose,
    ) -> u64 {
        // Inputs, outputs or their gradients, and behind a layer slopes and normalized values.
        let matrices: u64 = match (purpose, config.has_plain_layers()) {
            (Purpose::Evaluation, true) => 0,
            (Purpose::Evaluation, false) => 1,
            (Purpose::Training, true) => 1,
            (Purpose::Training, false) => 5,
        };
        let bytes = |rows: u64, columns: usize| {
            rows.saturating_mul(columns as u64).saturating_mul(size_of::<f32>() as u64)
        };
        let decoder_rows = (capacity as u64).saturating_mul(samples as u64);
        let layers = layout.layers.iter().enumerate().map(|(l, layer)| {
            let rows = if l > layout.heads { decoder_rows } else { capacity as u64 };
            let (inputs, outputs) =
                (bytes(rows, layer.panels.inputs), bytes(rows, layer.panels.outputs));
            inputs.saturating_add(outputs.saturating_mul(matrices))
        });
        // The output, ε, σε and z.
        let rest = bytes(decoder_rows, config.features() + 3 * config.latent());
        layers.chain([rest]).fold(0, u64::saturating_add)
    }

    /// Number of rows that the block has memory for.
    pub(super) fn capacity(&self) -> usize {
        self.losses.kl.len()
    }

    /// Latent samples of each row.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Rows from z on.
    pub(super) fn decoder_rows(&self) -> usize {
        self.rows * self.samples
    }

    /// Rows that go through a dense layer.
    pub(super) fn rows_of(&self, layer: usize) -> usize {
        if layer > self.heads_layer { self.decoder_rows() } else { self.rows }
    }

    /// Reads rows `rows` of a batch from the data set: x, and c beside x and beside every z.
    pub(crate) fn gather(&mut self, batch: &Batch<'_>, rows: Range<usize>) {
        (self.first, self.rows) = (rows.start, rows.len());
        self.has_finite_conditions = true;
        for i in 0..self.rows {
            let row = batch.indices.row(self.first + i);
            // x and c lie beside each other in the first layer's input, z and c in the decoder's.
            let (encoder, decoder) = self.inputs.split_at_mut(self.heads_layer + 1);
            let (x, condition) = encoder[0].row_mut(i).split_at_mut(self.features);
            batch.data.read_row(row, x);
            if !condition.is_empty() {
                batch.data.read_condition(row, condition);
                self.has_finite_conditions &= condition.iter().all(|value| value.is_finite());
                // All samples of a row share its condition; `sample` fills in z beside it.
                for s in i * self.samples..(i + 1) * self.samples {
                    decoder[0].row_mut(s)[self.latent..].copy_from_slice(condition);
                }
            }
        }
    }

    /// Steps 1 to 6 for rows `rows` of a batch.
    ///
    /// # Errors
    /// That of the first row that has one.
    pub(super) fn forward(
        &mut self,
        compute: &Compute,
        pass: &Pass<'_, '_>,
        rows: Range<usize>,
    ) -> Result<()> {
        let simd = compute.simd();
        self.gather(pass.batch, rows); // 1.
        self.encode(compute, pass); // 2.
        self.sample(simd, pass); // 3.
        self.decode(compute, pass); // 4.
        let accepted = self.loss(simd, pass); // 5.
        self.finish_losses(simd, pass, accepted) // 6.
    }

    /// The latent samples of row `row`, in order.
    pub(crate) fn codes(&self, row: usize) -> impl Iterator<Item = &[f32]> {
        // z|c is the input of the layer after the heads: `[rows·k, Z + C]`.
        let z = &self.inputs[self.heads_layer + 1];
        (row * self.samples..(row + 1) * self.samples).map(|s| &z.row(s)[..self.latent])
    }

    /// Stores z, μ and logvar of every row, row 0 as row `first` of the pairs.
    pub(crate) fn store_codes(&self, pairs: &mut TotalCorrelation, first: usize) {
        for i in 0..self.rows {
            let (mu, logvar) = self.heads.row(i).split_at(self.latent);
            let z = self.codes(i).next().expect("one sample");
            pairs.set_row(first + i, z, mu, logvar);
        }
    }

    /// The rows that a gradient is summed over.
    #[inline(always)]
    fn gradient_source(&self, gradient: ParameterGradient) -> GradientSource<'_> {
        let rows = if gradient.per_sample { self.decoder_rows() } else { self.rows };
        match gradient.of {
            ParameterIndex::Layer(l) => {
                GradientSource { x: self.inputs[l].rows(rows), dy: self.doutputs[l].rows(rows) }
            }
            ParameterIndex::Vector(v) => {
                // A vector is a layer without inputs: its bias row alone, the column sums of dy.
                let no_inputs = Rows { data: &[], rows, stride: 0 };
                GradientSource { x: no_inputs, dy: self.dvectors[v].rows(rows) }
            }
        }
    }
}

/// The rows that a gradient is summed over, block by block.
///
/// Each register tile asks for them anew: inlined, since a call here costs 1 % of a training step.
#[derive(Clone)]
pub(super) struct GradientSources<'a> {
    pub(super) blocks: std::slice::Iter<'a, Block>,
    pub(super) gradient: ParameterGradient,
}

impl<'a> Iterator for GradientSources<'a> {
    type Item = GradientSource<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<GradientSource<'a>> {
        let block = self.blocks.next()?;
        Some(block.gradient_source(self.gradient))
    }
}

/// A gradient that is summed over the rows of a batch.
#[derive(Clone, Copy)]
pub(super) struct ParameterGradient {
    pub(super) of: ParameterIndex,
    /// Set for everything from z on: it has a row for each latent sample.
    pub(super) per_sample: bool,
}

/// The parameters that a gradient belongs to.
#[derive(Clone, Copy)]
pub(super) enum ParameterIndex {
    /// Weights and bias of a dense layer.
    Layer(usize),
    /// A vector of [`Layout::vectors`].
    Vector(usize),
}
