//! Inference: the forward pass alone, without noise and without allocation.

use super::config::Config;
use super::likelihood::Likelihood;
use super::parameters::{Layout, Parameters, VectorRole};
use super::step::matrix::Matrix;
use crate::compute::Compute;
use crate::error::{Result, expect_shape};
use crate::gemm::{PanelLayout, ProductOp, Rows, RowsMut, TILE_ROWS, rows, slice_mut};
use crate::layers::activation::Relu;
use crate::layers::{layer_norm, soft_clamp};
use crate::loss::continuous_bernoulli::ContinuousBernoulliMean;
use crate::math::{Sigmoid, Tanh};
use crate::simd::lanes::{Each, Identity, Unary, ZipOp};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows that a thread takes through the layers at a time: each weight is read once for all of
/// them, and their activations stay in cache.
const SCRATCH_ROWS: usize = 64;

/// Floating-point operations for each thread that takes part in a product: a thread that has slept needs some
/// microseconds to wake.
const SHARE_FLOP: usize = 2_000_000;

/// Weights per thread from which threads share the outputs of a layer for a single row, which uses
/// each weight once.
const SHARE_WEIGHTS: usize = 64 * 1024;

/// A model with memory to run it in, for calls without allocation.
///
/// [`Vae::encode`](super::Vae::encode), [`Vae::decode`](super::Vae::decode) and
/// [`Vae::reconstruct`](super::Vae::reconstruct) make one for each call; a server that
/// answers a row at a time keeps it.
///
/// Threads share the rows of a batch, eight or more each. Up to eight rows of a large model go through each
/// layer together, and threads share its outputs.
///
/// ```
/// use elbo::{Compute, vae::{Config, Vae}};
/// use ndarray::Array2;
///
/// let vae = Vae::new(Config::builder(12, 2).hidden(&[8]).build()?, 1);
/// let mut inference = vae.inference(&Compute::serial());
/// let (x, mut pixels) = (Array2::from_elem((5, 12), 0.5_f32), Array2::zeros((5, 12)));
/// inference.reconstruct(pixels.view_mut(), x.view())?;
/// assert_eq!(pixels, vae.reconstruct(&Compute::serial(), x.view())?);
/// # Ok::<(), elbo::Error>(())
/// ```
pub struct Inference<'m> {
    model: Model<'m>,
    compute: Compute,
    /// One for each thread.
    scratch: Vec<ThreadScratch>,
}

/// The parts of a [`Vae`](super::Vae).
#[derive(Clone, Copy)]
struct Model<'m> {
    config: &'m Config,
    parameters: &'m Parameters,
}

impl<'m> Inference<'m> {
    /// Allocates memory for calls of up to `capacity` rows; longer ones go through it in parts.
    pub(super) fn new(
        config: &'m Config,
        parameters: &'m Parameters,
        compute: &Compute,
        capacity: usize,
    ) -> Self {
        let threads = compute.threads().min(capacity.div_ceil(TILE_ROWS)).max(1);
        let capacity = capacity.div_ceil(threads).clamp(1, SCRATCH_ROWS);
        let scratch = ThreadScratch::new(config, parameters.layout(), capacity);
        let model = Model { config, parameters };
        Self { model, compute: compute.clone(), scratch: vec![scratch; threads] }
    }

    /// Overwrites `mu` and `logvar` (`[B, Z]`) with the posterior of each row of x `[B, D]`, or, if
    /// the model has conditions, of x|c `[B, D + C]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit,
    /// [`Error::Layout`](crate::Error::Layout) if `mu` or `logvar` is not in standard layout (an
    /// `x` that is not is copied).
    pub fn encode(
        &mut self,
        mut mu: ArrayViewMut2<'_, f32>,
        mut logvar: ArrayViewMut2<'_, f32>,
        x: ArrayView2<'_, f32>,
    ) -> Result<()> {
        let (batch, config) = (x.nrows(), self.model.config);
        let width = config.features() + config.conditions();
        expect_shape("x", [batch, width], x.shape())?;
        expect_shape("mu", [batch, config.latent()], mu.shape())?;
        expect_shape("logvar", [batch, config.latent()], logvar.shape())?;
        let mu = slice_mut("mu", &mut mu)?;
        let logvar = slice_mut("logvar", &mut logvar)?;
        let heads = self.model.parameters.layout().heads;
        self.run(0..heads + 1, x, Out::Posterior { mu, logvar, latent: config.latent() });
        Ok(())
    }

    /// Overwrites `logits` (`[B, D]`) with the decoder's output for latent codes z `[B, Z]`, or, if
    /// the model has conditions, for z|c `[B, Z + C]`: the logits of a Bernoulli likelihood.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn decode_logits(
        &mut self,
        logits: ArrayViewMut2<'_, f32>,
        z: ArrayView2<'_, f32>,
    ) -> Result<()> {
        self.decode_to("logits", logits, z, Output::Raw)
    }

    /// Overwrites `pixels` (`[B, D]`) with the mean of the likelihood for latent codes z `[B, Z]`, or,
    /// if the model has conditions, for z|c `[B, Z + C]`.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn decode(&mut self, pixels: ArrayViewMut2<'_, f32>, z: ArrayView2<'_, f32>) -> Result<()> {
        self.decode_to("pixels", pixels, z, Output::Mean)
    }

    fn decode_to(
        &mut self,
        argument: &'static str,
        mut out: ArrayViewMut2<'_, f32>,
        z: ArrayView2<'_, f32>,
        output: Output,
    ) -> Result<()> {
        let (batch, config) = (z.nrows(), self.model.config);
        expect_shape("z", [batch, config.latent() + config.conditions()], z.shape())?;
        expect_shape(argument, [batch, config.features()], out.shape())?;
        let data = slice_mut(argument, &mut out)?;
        let layout = self.model.parameters.layout();
        let layers = layout.heads + 1..layout.layers.len();
        self.run(layers, z, Out::Data { data, columns: config.features(), output });
        Ok(())
    }

    /// Overwrites `pixels` (`[B, D]`) with the reconstruction of x `[B, D]`: `decode(μ(x))`.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`Error::Shape`](crate::Error::Shape) if the model has conditions
    /// ([`Vae::reconstruct_given`](super::Vae::reconstruct_given)).
    pub fn reconstruct(
        &mut self,
        mut pixels: ArrayViewMut2<'_, f32>,
        x: ArrayView2<'_, f32>,
    ) -> Result<()> {
        self.model.config.expect_unconditional()?;
        let (batch, columns) = (x.nrows(), self.model.config.features());
        expect_shape("x", [batch, columns], x.shape())?;
        expect_shape("pixels", [batch, columns], pixels.shape())?;
        let data = slice_mut("pixels", &mut pixels)?;
        let layers = 0..self.model.parameters.layout().layers.len();
        self.run(layers, x, Out::Data { data, columns, output: Output::Mean });
        Ok(())
    }

    fn run(&mut self, layers: Range<usize>, x: ArrayView2<'_, f32>, out: Out<'_>) {
        let x = x.as_standard_layout();
        let x = rows(&x);
        let model = self.model;
        let len = |layer| model.parameters.layer(layer).0.len();
        let weights: usize = layers.clone().map(len).sum();
        if x.rows == 1 {
            // The threads are kept from the first layer to the last.
            let compute = &self.compute.for_work(weights, SHARE_WEIGHTS);
            let scratch = &mut self.scratch[0];
            compute.install(|| scratch.run(compute, model, layers, x, out));
        } else {
            let compute = self.compute.for_work(2 * weights * x.rows, SHARE_FLOP);
            let threads = compute.threads().min(self.scratch.len());
            share_rows(&compute, &mut self.scratch[..threads], model, layers, x, out);
        }
    }
}

impl std::fmt::Debug for Inference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inference({}, {} threads)", self.model.config, self.compute.threads())
    }
}

/// The result of a decoder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Its last layer, unchanged.
    Raw,
    /// The mean of the likelihood.
    Mean,
}

/// Memory for results: rows one after the other.
enum Out<'a> {
    Posterior { mu: &'a mut [f32], logvar: &'a mut [f32], latent: usize },
    Data { data: &'a mut [f32], columns: usize, output: Output },
}

impl Out<'_> {
    /// The first `row` rows and the others.
    fn split_at(self, row: usize) -> (Self, Self) {
        match self {
            Self::Posterior { mu, logvar, latent } => {
                let (mu, mu_rest) = mu.split_at_mut(row * latent);
                let (logvar, logvar_rest) = logvar.split_at_mut(row * latent);
                let rest = Self::Posterior { mu: mu_rest, logvar: logvar_rest, latent };
                (Self::Posterior { mu, logvar, latent }, rest)
            }
            Self::Data { data, columns, output } => {
                let (data, rest) = data.split_at_mut(row * columns);
                (Self::Data { data, columns, output }, Self::Data { data: rest, columns, output })
            }
        }
    }
}

/// Shares rows among threads, each with its scratch.
fn share_rows(
    compute: &Compute,
    scratch: &mut [ThreadScratch],
    model: Model<'_>,
    layers: Range<usize>,
    x: Rows<'_>,
    mut out: Out<'_>,
) {
    let part = |first: usize, rows| Rows { data: &x.data[first * x.stride..], rows, ..x };
    if scratch.len() == 1 || x.rows <= TILE_ROWS {
        let scratch = &mut scratch[0];
        let mut first = 0;
        while first < x.rows {
            let count = scratch.capacity.min(x.rows - first);
            let (now, rest) = out.split_at(count);
            let x = part(first, count);
            scratch.run(compute, model, layers.clone(), x, now);
            first += count;
            out = rest;
        }
        return;
    }
    let (left, right) = scratch.split_at_mut(scratch.len().div_ceil(2));
    let share = x.rows * left.len() / (left.len() + right.len());
    let middle = share.next_multiple_of(TILE_ROWS).min(x.rows);
    let (out_left, out_right) = out.split_at(middle);
    let (x_left, x_right) = (part(0, middle), part(middle, x.rows - middle));
    compute.join(
        || share_rows(compute, left, model, layers.clone(), x_left, out_left),
        || share_rows(compute, right, model, layers.clone(), x_right, out_right),
    );
}

/// Memory of one thread for some rows on their way through the layers.
#[derive(Clone)]
struct ThreadScratch {
    capacity: usize,
    /// Outputs of each layer but the last.
    outputs: Vec<Matrix>,
    /// The layer whose outputs are μ|logvar; it has no activation.
    heads: usize,
    /// A row for results that only training uses.
    unused: Vec<f32>,
}

impl ThreadScratch {
    fn new(config: &Config, layout: &Layout, capacity: usize) -> Self {
        let (_, hidden) = layout.layers.split_last().expect("a model has layers");
        let outputs: Vec<_> =
            hidden.iter().map(|l| Matrix::zeros(capacity, l.panels.outputs)).collect();
        let widest = hidden.iter().map(|l| l.panels.outputs).max().unwrap_or(0);
        let unused = if config.is_plain() { 0 } else { widest };
        Self { capacity, outputs, heads: layout.heads, unused: vec![0.0; unused] }
    }

    /// Takes rows through some layers.
    fn run(
        &mut self,
        compute: &Compute,
        model: Model<'_>,
        layers: Range<usize>,
        x: Rows<'_>,
        out: Out<'_>,
    ) {
        let Model { config, parameters } = model;
        let simd = compute.simd();
        let last = self.outputs.len();
        for layer in layers.start..layers.end.min(last) {
            let (before, after) = self.outputs.split_at_mut(layer);
            let x = if layer == layers.start { x } else { before[layer - 1].rows(x.rows) };
            let product = Product { y: after[0].rows_mut(x.rows), x, compute };
            if layer != self.heads && config.has_plain_layers() {
                product.of(parameters.layer(layer), Relu);
                continue;
            }
            product.of(parameters.layer(layer), Identity);
            let (y, unused) = (&mut after[0], &mut self.unused[..]);
            if layer != self.heads {
                simd.dispatch(NormActivation { y, rows: x.rows, unused, model, layer });
            } else if let Some(bounds) = config.logvar_clamp() {
                simd.dispatch(ClampRows { heads: y, rows: x.rows, unused, bounds });
            }
        }
        match out {
            Out::Posterior { mu, logvar, latent } => {
                let rows = mu.chunks_exact_mut(latent).zip(logvar.chunks_exact_mut(latent));
                for (i, (mu, logvar)) in rows.enumerate() {
                    let heads = self.outputs[self.heads].row(i);
                    mu.copy_from_slice(&heads[..latent]);
                    logvar.copy_from_slice(&heads[latent..]);
                }
            }
            Out::Data { data, columns, output } => {
                let y = RowsMut::new(&mut *data, x.rows, columns, columns);
                let count = x.rows * columns;
                let x = if layers.start == last { x } else { self.outputs[last - 1].rows(x.rows) };
                let product = Product { y, x, compute };
                let weights = parameters.layer(last);
                let mean = (output == Output::Mean).then_some(config.likelihood());
                match mean {
                    Some(likelihood) if likelihood.is_bernoulli() => product.of(weights, Sigmoid),
                    Some(Likelihood::ContinuousBernoulli) => {
                        product.of(weights, Identity);
                        let mean = Each(ContinuousBernoulliMean);
                        simd.dispatch(ZipOp([&mut data[..count]], [], mean));
                    }
                    Some(Likelihood::TanhSquaredError) => {
                        product.of(weights, Identity);
                        simd.dispatch(ZipOp([&mut data[..count]], [], Each(Tanh)));
                    }
                    _ => product.of(weights, Identity),
                }
            }
        }
    }
}

/// Normalization and activation behind the product of a hidden layer, in place.
struct NormActivation<'a> {
    y: &'a mut Matrix,
    rows: usize,
    unused: &'a mut [f32],
    model: Model<'a>,
    layer: usize,
}

impl WithSimd for NormActivation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { y, rows, unused, model: Model { config, parameters }, layer } = self;
        let vector = |role| parameters.layout().vector(role).map(|at| parameters.vector_at(at));
        let norm = vector(VectorRole::Gain(layer)).zip(vector(VectorRole::Shift(layer)));
        let activation = config.activation();
        for r in 0..rows {
            let y = y.row_mut(r);
            if let Some((gain, shift)) = norm {
                let normalized = &mut unused[..y.len()];
                layer_norm::forward_row(simd, y, normalized, gain, shift);
            }
            activation.apply_row(simd, y);
        }
    }
}

/// The soft clamp of logvar, in rows of μ|logvar.
struct ClampRows<'a> {
    heads: &'a mut Matrix,
    rows: usize,
    unused: &'a mut [f32],
    bounds: [f32; 2],
}

impl WithSimd for ClampRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { heads, rows, unused, bounds } = self;
        for r in 0..rows {
            let row = heads.row_mut(r);
            let latent = row.len() / 2;
            soft_clamp::forward_row(simd, &mut row[latent..], &mut unused[..latent], bounds);
        }
    }
}

/// The product of one layer, whose outputs the threads at hand share.
struct Product<'a, 'b> {
    y: RowsMut<'b>,
    x: Rows<'a>,
    compute: &'a Compute,
}

impl Product<'_, '_> {
    fn of(self, (panels, layout): (&[f32], PanelLayout), activation: impl Unary + Send + Sync) {
        let Self { y, x, compute } = self;
        compute.simd().dispatch(ProductOp { compute, y, x, panels, layout, activation });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::vae::Vae;
    use ndarray::{Array2, Axis, s};

    /// Shapes where rows are shared, where outputs are, and where neither is worth it.
    #[test]
    fn rows_have_the_same_bits_alone_and_together_on_any_number_of_threads() {
        let config = Config::builder(700, 10).hidden(&[530]).build().unwrap();
        let vae = Vae::new(config, 3);
        let x = Array2::from_shape_fn((150, 700), |(i, j)| ((i * 31 + j * 17) % 97) as f32 / 96.0);
        let compute = Compute::serial();
        let expected = vae.reconstruct(&compute, x.view()).unwrap();
        let posterior = vae.encode(&compute, x.view()).unwrap();
        let logits = vae.decode_logits(&compute, posterior.mu.view()).unwrap();
        assert_eq!(vae.decode(&compute, posterior.mu.view()).unwrap(), expected);
        for simd in InstructionSet::available() {
            for threads in [1, 2, 3, 5] {
                let compute = Compute::new(simd, threads).unwrap();
                let mut inference = vae.inference(&compute);
                // Rows fall into other tiles and other threads each time.
                for rows in [1, 2, 9, 64, 65, 150] {
                    if rows > 9 && simd.lanes() < 8 {
                        continue;
                    }
                    let first = 150 - rows;
                    let x = x.slice(s![first.., ..]);
                    let mut found = Array2::from_elem((rows, 700), f32::NAN);
                    inference.reconstruct(found.view_mut(), x).unwrap();
                    let what = format!("{rows} rows, {threads} threads, {simd}");
                    assert_eq!(found, expected.slice(s![first.., ..]), "{what}");

                    let (mut mu, mut logvar) =
                        (Array2::zeros((rows, 10)), Array2::zeros((rows, 10)));
                    inference.encode(mu.view_mut(), logvar.view_mut(), x).unwrap();
                    assert_eq!(mu, posterior.mu.slice(s![first.., ..]), "{what}");
                    assert_eq!(logvar, posterior.logvar.slice(s![first.., ..]), "{what}");

                    inference.decode_logits(found.view_mut(), mu.view()).unwrap();
                    assert_eq!(found, logits.slice(s![first.., ..]), "{what}");
                }
            }
        }
    }

    #[test]
    fn accepts_views_of_any_layout_and_writes_whole_rows_only() {
        let vae = Vae::new(Config::builder(6, 2).hidden(&[5]).build().unwrap(), 1);
        let mut inference = vae.inference(&Compute::serial());
        let x = Array2::from_shape_fn((6, 4), |(i, j)| (i + j) as f32 / 10.0).reversed_axes();
        let mut found = Array2::zeros((4, 6));
        inference.reconstruct(found.view_mut(), x.view()).unwrap();
        let expected = vae.reconstruct(&Compute::serial(), x.as_standard_layout().view()).unwrap();
        assert_eq!(found, expected);
        found.invert_axis(Axis(1));
        let error = inference.reconstruct(found.view_mut(), x.view()).unwrap_err();
        assert!(error.to_string().starts_with("`pixels`: rows must be contiguous"), "{error}");
    }
}
