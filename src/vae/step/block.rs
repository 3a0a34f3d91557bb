//! A block of rows and everything that is computed of it, from the data to the gradients.
//!
//! Rows of a batch are independent from the data to the loss and back to the gradient of every
//! layer's output. So one task takes a block of them through all of it while its activations
//! stay in cache, and what is left of it is what the weight gradients need: the input of each
//! layer and the gradient of its output.
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
//! Where the gradient of a row depends on the whole batch, a block is done in two parts: the
//! forward pass with what can be known of the loss, and the rest of the loss with the backward pass
//! ([`Coupled`]).

use super::matrix::Matrix;
use super::terms::{Scales, Terms};
use crate::dataset::{Augmentation, Dataset};
use crate::error::{Error, Result};
use crate::gemm::{GradientSource, PanelLayout, Rows, padded, transposed_layout};
use crate::loss::importance::LogSum;
use crate::loss::kernel::short_rows::SHORT_TILE;
use crate::loss::total_correlation::TotalCorrelation;
use crate::math::scalar;
use crate::random::Stream;
use crate::simd::InstructionSet;
use crate::simd::aligned::AlignedBuffer;
use crate::vae::Config;
use crate::vae::parameters::{Layout, Parameters, VectorRole};
use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Where the noise of the reparameterization comes from.
#[derive(Clone, Copy)]
pub(crate) enum Noise<'a> {
    /// A function of the seed, the purpose, the step and the row's number in the data set.
    Counter,
    /// `[B·k, Z]`, given for the samples of the rows of the batch in their order.
    Given(ArrayView2<'a, f32>),
}

/// What the random numbers of a pass are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Training,
    Evaluation,
}

/// Which random numbers a pass draws.
#[derive(Clone, Copy)]
pub(crate) struct Draws {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) purpose: Purpose,
}

impl Draws {
    /// Where the noise of the reparameterization comes from.
    pub(super) fn noise(self) -> Stream {
        match self.purpose {
            Purpose::Training => Stream::Noise,
            Purpose::Evaluation => Stream::Evaluate,
        }
    }
}

impl Purpose {
    /// Where an augmentation has its numbers from, if it wants some.
    pub(super) fn augmentation(self, augmentation: Augmentation) -> Option<Stream> {
        match self {
            Self::Training => augmentation.training_stream(),
            Self::Evaluation => augmentation.evaluation_stream(),
        }
    }
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

    /// Rows `range` of these.
    fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::From(first, _) => Self::From(first + range.start, range.len()),
            Self::Listed(rows) => Self::Listed(&rows[range]),
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

/// The rows of a data set that make a batch, and their random numbers.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) data: &'a dyn Dataset,
    pub(crate) selection: Selection<'a>,
    pub(crate) noise: Noise<'a>,
    pub(crate) draws: Draws,
    pub(crate) augmentation: Augmentation,
}

impl Batch<'_> {
    /// The batch in parts of at most `length` rows; one whose noise is given stays whole.
    pub(crate) fn parts(&self, length: usize) -> impl Iterator<Item = Self> {
        let rows = self.selection.len();
        let length = if matches!(self.noise, Noise::Given(_)) { rows } else { length };
        (0..rows).step_by(length).map(move |first| {
            let selection = self.selection.part(first..rows.min(first.saturating_add(length)));
            Self { selection, ..*self }
        })
    }
}

/// What is computed of a batch, with which weights.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a, 'b> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Parameters,
    pub(crate) batch: &'a Batch<'b>,
    pub(crate) terms: Terms,
    /// What gradients are multiplied by.
    pub(crate) scales: Scales,
}

impl Pass<'_, '_> {
    /// Whether the gradient of one row depends on the others.
    pub(crate) fn is_coupled(&self) -> bool {
        self.terms.rule.is_coupled() || self.config.has_optimal_variance()
    }

    pub(super) fn is_training(&self) -> bool {
        self.batch.draws.purpose == Purpose::Training
    }
}

/// What the whole batch says about the gradient of each row.
pub(crate) enum Coupled<'a> {
    /// No more than the scale of the penalty's gradient.
    Scale(f32),
    /// For each latent dimension, by what its part of the penalty's gradient is multiplied.
    Dimensions(&'a [f32]),
    /// The penalty's gradients themselves, by the number of the row in the batch.
    TotalCorrelation(&'a TotalCorrelation),
}

/// `dyᵀ` and `dxᵀ` of the layer under way, or Wᵀ: one for each thread, whatever blocks it works on.
pub(crate) struct Transposed {
    pub(super) dy: AlignedBuffer,
    pub(super) dx: AlignedBuffer,
    /// For each layer that is small beside a block: the panels of Wᵀ, with a bias of zeros.
    pub(super) weights: Vec<Option<AlignedBuffer>>,
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

/// What a hidden layer leaves for its backward pass, if it is more than a ReLU.
pub(super) struct Dressing {
    /// The derivative of the activation, dropout included.
    pub(super) slope: Matrix,
    pub(super) norm: Option<Norm>,
    /// Its number among the hidden layers.
    pub(super) number: usize,
}

/// What a layer normalization leaves for its backward pass.
pub(super) struct Norm {
    pub(super) normalized: Matrix,
    pub(super) inverse_std: Vec<f32>,
    /// Places in [`Layout::vectors`].
    pub(super) gain: usize,
    pub(super) shift: usize,
}

/// Some rows of a batch, with room for all that is computed of them.
pub(crate) struct Block {
    /// Rows in use.
    pub(crate) rows: usize,
    /// The number in the batch of row 0.
    pub(crate) first: usize,
    /// Latent samples of each row.
    pub(super) samples: usize,
    pub(super) features: usize,
    pub(super) latent: usize,
    /// `inputs[l]`: what layer l multiplies with its weights.
    pub(super) inputs: Vec<Matrix>,
    /// `doutputs[l]`: the gradient of what layer l adds up, before its activation. The last one
    /// holds the output after the forward pass and its gradient after the loss.
    pub(super) doutputs: Vec<Matrix>,
    /// For each dense layer: what follows it, if that is more than a ReLU.
    pub(super) dressings: Vec<Option<Dressing>>,
    /// Each row's gradient of the parameters of [`Layout::vectors`].
    pub(super) dvectors: Vec<Matrix>,
    /// The layer whose outputs are μ|logvar; the next one takes z.
    pub(super) heads_layer: usize,
    /// μ|logvar.
    pub(crate) heads: Matrix,
    /// The derivative of the soft clamp of logvar, if there is one.
    pub(super) clamp: Option<Matrix>,
    /// ε in the forward pass, dz|dc in the backward pass.
    pub(super) epsilon: Matrix,
    pub(super) sigma_epsilon: Matrix,
    /// A long row of outputs, or some short ones, while their gradients take their place.
    pub(super) outputs: AlignedBuffer,
    /// The reconstruction of each latent sample, and then its importance, in nats.
    pub(super) of_samples: Vec<f64>,
    pub(super) log_weights: Vec<f64>,
    /// Nats of each row, unscaled.
    pub(crate) reconstruction: Vec<f64>,
    pub(crate) kl: Vec<f64>,
    /// What the rule makes of the KL divergence; not kept where it is the KL divergence.
    pub(crate) penalty: Vec<f64>,
    /// The first row that was refused, if one was.
    pub(crate) fault: Option<Error>,
}

impl Block {
    /// Room for `capacity` rows of so many latent samples each.
    pub(crate) fn new(config: &Config, layout: &Layout, capacity: usize, samples: usize) -> Self {
        let heads = layout.heads;
        let (features, latent) = (config.features(), config.latent());
        let rows_of = |layer| if layer > heads { capacity * samples } else { capacity };
        let matrix = |layer, columns| Matrix::zeros(rows_of(layer), columns);
        let last = layout.layers.len() - 1;
        let plain = config.has_plain_layers();
        let dressing = |layer: usize| {
            let width = layout.layers[layer].panels.outputs;
            let norm = layout.vector(VectorRole::Gain(layer)).map(|gain| Norm {
                normalized: matrix(layer, width),
                inverse_std: vec![0.0; rows_of(layer)],
                gain,
                shift: layout.vector(VectorRole::Shift(layer)).expect("beside the gain"),
            });
            let number = layer - usize::from(layer > heads);
            Dressing { slope: matrix(layer, width), norm, number }
        };
        let dvector = |role, width| match role {
            VectorRole::Gain(layer) | VectorRole::Shift(layer) => matrix(layer, width),
            VectorRole::Logvar => matrix(last, width),
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
            doutputs: layers().map(|(l, panels)| matrix(l, panels.outputs)).collect(),
            dressings: (0..=last)
                .map(|l| (!plain && l != heads && l != last).then(|| dressing(l)))
                .collect(),
            dvectors: vectors.map(|v| dvector(v.role, v.layer.panels.outputs)).collect(),
            heads_layer: heads,
            heads: matrix(0, 2 * latent),
            clamp: config.logvar_clamp().map(|_| matrix(0, latent)),
            epsilon: matrix(last, latent + config.conditions()),
            sigma_epsilon: matrix(last, latent),
            outputs: AlignedBuffer::zeros(features.max(SHORT_TILE)),
            of_samples: vec![0.0; capacity * samples],
            log_weights: vec![0.0; samples],
            reconstruction: vec![0.0; capacity],
            kl: vec![0.0; capacity],
            penalty: vec![0.0; capacity],
            fault: None,
        }
    }

    /// Rows there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.kl.len()
    }

    /// Latent samples of each row.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// Rows from z on.
    pub(super) fn decoded(&self) -> usize {
        self.rows * self.samples
    }

    /// Rows that go through a dense layer.
    pub(super) fn rows_of(&self, layer: usize) -> usize {
        if layer > self.heads_layer { self.decoded() } else { self.rows }
    }

    /// Takes over rows `first .. first + rows` of a batch: reads them from the data set.
    pub(crate) fn gather(&mut self, batch: &Batch<'_>, first: usize, rows: usize) {
        (self.first, self.rows) = (first, rows);
        for i in 0..rows {
            let row = batch.selection.row(first + i);
            let (encoder, decoder) = self.inputs.split_at_mut(self.heads_layer + 1);
            let (x, condition) = encoder[0].row_mut(i).split_at_mut(self.features);
            batch.data.read_row(row, x);
            if !condition.is_empty() {
                batch.data.read_condition(row, condition);
                for s in i * self.samples..(i + 1) * self.samples {
                    decoder[0].row_mut(s)[self.latent..].copy_from_slice(condition);
                }
            }
        }
    }

    /// The latent samples of row `row`, in their order.
    pub(crate) fn codes(&self, row: usize) -> impl Iterator<Item = &[f32]> {
        let z = &self.inputs[self.heads_layer + 1];
        (row * self.samples..(row + 1) * self.samples).map(|s| &z.row(s)[..self.latent])
    }

    /// What the gradient of a dense layer, or of a vector behind them, needs of this block.
    #[inline(always)]
    pub(crate) fn gradient_source(&self, layer: usize) -> GradientSource<'_> {
        let layers = self.doutputs.len();
        if layer < layers {
            let rows = self.rows_of(layer);
            return GradientSource {
                x: self.inputs[layer].rows(rows),
                dy: self.doutputs[layer].rows(rows),
            };
        }
        let dy = &self.dvectors[layer - layers];
        let rows = match self.dressings.iter().flatten().find(|d| d.is_of(layer - layers)) {
            Some(dressing) if dressing.number < self.heads_layer => self.rows,
            _ => self.decoded(),
        };
        GradientSource { x: Rows { data: &[], rows, stride: 0 }, dy: dy.rows(rows) }
    }

    /// Forward, loss and backward of the rows gathered: leaves each row's loss and all that the
    /// weight gradients need, or a fault.
    pub(crate) fn forward_backward(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        transposed: &mut Transposed,
    ) {
        let parts = [Part::Encode, Part::sample(self.samples), Part::Decode, Part::Loss(true)];
        self.fault = self.run(simd, pass, parts).err();
        if self.fault.is_none() {
            // No data are looked at any more.
            let _ = self.run(simd, pass, [Part::Backward(transposed, None)]);
        }
    }

    /// Forward and loss of the rows gathered: leaves each row's loss as far as the row alone
    /// determines it, or a fault. Of a training pass that is coupled it leaves what
    /// [`Self::backward_coupled`] needs.
    pub(crate) fn forward(&mut self, simd: InstructionSet, pass: &Pass<'_, '_>) {
        let parts = [Part::Encode, Part::sample(self.samples), Part::Decode, Part::Loss(false)];
        self.fault = self.run(simd, pass, parts).err();
    }

    /// The codes of the rows gathered, and no more.
    pub(crate) fn encode(&mut self, simd: InstructionSet, pass: &Pass<'_, '_>) {
        self.fault = self.run(simd, pass, [Part::Encode, Part::sample(self.samples)]).err();
    }

    /// `ln 1/K Σ_k p(x, z_k)/q(z_k|x)` of the one row gathered, `all` = K, with `at_once` samples
    /// in the decoder at a time.
    ///
    /// # Errors
    /// Data that the likelihood does not accept, or a logvar whose exponential overflows.
    pub(crate) fn log_likelihood(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        all: usize,
        at_once: usize,
    ) -> Result<f64> {
        self.run(simd, pass, [Part::Encode])?;
        self.check_logvar(pass)?;
        let mut sum = LogSum::default();
        for first in (0..all).step_by(at_once) {
            self.samples = at_once.min(all - first);
            let sample = Part::Sample { first: first as u64, of: all as u64 };
            let done = self.run(simd, pass, [sample, Part::Decode, Part::LogWeights]);
            self.log_weights[..self.samples].iter().for_each(|&weight| sum.add(weight));
            self.samples = at_once;
            done?;
        }
        Ok(sum.value() - scalar::ln(all as f64))
    }

    /// The second part of a coupled pass: the gradients of the loss, and backward.
    pub(crate) fn backward_coupled(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        coupled: &Coupled<'_>,
        transposed: &mut Transposed,
    ) {
        let codes = match coupled {
            Coupled::TotalCorrelation(gradients) => Some(*gradients),
            _ => None,
        };
        // The data were accepted in the first part.
        let parts = [Part::Coupled(coupled), Part::Backward(transposed, codes)];
        let _ = self.run(simd, pass, parts);
    }

    fn run<const N: usize>(
        &mut self,
        simd: InstructionSet,
        pass: &Pass<'_, '_>,
        parts: [Part<'_>; N],
    ) -> Result<()> {
        parts.into_iter().try_for_each(|part| simd.dispatch(Work { block: self, pass, part }))
    }
}

/// A part of what is done with the rows of a block. Each is compiled once for each instruction set,
/// whoever asks for it.
enum Part<'a> {
    /// x → μ|logvar.
    Encode,
    /// μ|logvar and noise → z: samples from `first` on, of `of` that each row has in all.
    Sample { first: u64, of: u64 },
    /// z → output.
    Decode,
    /// The loss, and with `true` its gradients.
    Loss(bool),
    /// The importance of each sample of the only row.
    LogWeights,
    /// Gradients that waited for the whole batch.
    Coupled(&'a Coupled<'a>),
    /// From the gradient of the output back to that of every layer.
    Backward(&'a mut Transposed, Option<&'a TotalCorrelation>),
}

impl Part<'_> {
    /// All samples of each row.
    fn sample(samples: usize) -> Self {
        Self::Sample { first: 0, of: samples as u64 }
    }
}

struct Work<'a, 'b, 'c> {
    block: &'a mut Block,
    pass: &'a Pass<'b, 'c>,
    part: Part<'a>,
}

impl WithSimd for Work<'_, '_, '_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self { block, pass, part } = self;
        match part {
            Part::Encode => {
                block.augment_rows(simd, pass);
                block.encode_rows(simd, pass);
            }
            Part::Sample { first, of } => {
                block.draw_noise(simd, pass, first, of);
                block.reparameterize_rows(simd);
            }
            Part::Decode => block.decode_rows(simd, pass),
            Part::Loss(gradients) => return block.loss_rows(simd, pass, gradients),
            Part::LogWeights => return block.log_weights_of_row(simd, pass),
            Part::Coupled(coupled) => block.coupled_gradients(simd, pass, coupled),
            Part::Backward(transposed, codes) => {
                block.backward_rows(simd, pass, transposed, codes);
            }
        }
        Ok(())
    }
}

impl Dressing {
    /// Whether vector `vector` is a parameter of its normalization.
    fn is_of(&self, vector: usize) -> bool {
        self.norm.as_ref().is_some_and(|norm| norm.gain == vector || norm.shift == vector)
    }
}
