//! The forward pass alone, of a model in use.

use super::parameters::Layout;
use super::parameters::VectorRole;
use super::step::matrix::Matrix;
use super::{Config, Likelihood, Vae};
use crate::compute::{Compute, PARALLEL_FLOP};
use crate::error::{Result, expect_shape};
use crate::gemm::{Identity, PanelLayout, Rows, RowsMut, product_rows, rows, rows_mut};
use crate::layers::activation::Relu;
use crate::layers::{layer_norm, soft_clamp};
use crate::loss::continuous_bernoulli::ContinuousBernoulliMean;
use crate::math::{Sigmoid, Tanh};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Unary, apply};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows that a thread takes through the layers at a time: each weight is read once for all of
/// them, and their activations stay in cache.
const ROOM_ROWS: usize = 64;

/// Rows of a tile of full width: fewer are not worth another thread.
const FEW_ROWS: usize = 8;

/// A single row uses each weight once. Threads then share the outputs of a layer, if each of
/// them has this many weights to read.
const PARALLEL_WEIGHTS: usize = 64 * 1024;

/// A model with memory to run it in, for calls without allocation.
///
/// [`Vae::encode`], [`Vae::decode`] and [`Vae::reconstruct`] make one for each call; a server that
/// answers a row at a time keeps it. With several threads, calls from inside
/// [`Compute::install`] save entering the pool each time.
///
/// Threads share the rows of a batch, eight or more each. A single row of a large model has its
/// outputs shared instead; two to eight rows stay on one thread, which reads each weight once for
/// all of them.
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
    vae: &'m Vae,
    compute: Compute,
    /// One for each thread.
    rooms: Vec<Room>,
}

impl<'m> Inference<'m> {
    pub(super) fn new(vae: &'m Vae, compute: &Compute, capacity: usize) -> Self {
        let threads = compute.threads().min(capacity.div_ceil(FEW_ROWS)).max(1);
        let capacity = capacity.div_ceil(threads).clamp(1, ROOM_ROWS);
        let room = Room::new(&vae.config, vae.parameters.layout(), capacity);
        Self { vae, compute: compute.clone(), rooms: vec![room; threads] }
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
        let (batch, config) = (x.nrows(), &self.vae.config);
        let width = config.features() + config.conditions();
        expect_shape("x", [batch, width], x.shape())?;
        expect_shape("mu", [batch, config.latent()], mu.shape())?;
        expect_shape("logvar", [batch, config.latent()], logvar.shape())?;
        let mu = rows_mut("mu", &mut mu)?.data;
        let logvar = rows_mut("logvar", &mut logvar)?.data;
        let heads = self.vae.parameters.layout().heads;
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

    /// Overwrites `pixels` (`[B, D]`) with what the model shows for latent codes z `[B, Z]`, or, if
    /// it has conditions, for z|c `[B, Z + C]`: the mean of its likelihood.
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
        let (batch, config) = (z.nrows(), &self.vae.config);
        expect_shape("z", [batch, config.latent() + config.conditions()], z.shape())?;
        expect_shape(argument, [batch, config.features()], out.shape())?;
        let data = rows_mut(argument, &mut out)?.data;
        let layout = self.vae.parameters.layout();
        let layers = layout.heads + 1..layout.layers.len();
        self.run(layers, z, Out::Data { data, columns: config.features(), output });
        Ok(())
    }

    /// Overwrites `pixels` (`[B, D]`) with what the model makes of x `[B, D]`: `decode(μ(x))`.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`Error::Shape`](crate::Error::Shape) if the model has conditions
    /// ([`Vae::reconstruct_given`]).
    pub fn reconstruct(
        &mut self,
        mut pixels: ArrayViewMut2<'_, f32>,
        x: ArrayView2<'_, f32>,
    ) -> Result<()> {
        self.vae.expect_unconditional()?;
        let (batch, columns) = (x.nrows(), self.vae.config.features());
        expect_shape("x", [batch, columns], x.shape())?;
        expect_shape("pixels", [batch, columns], pixels.shape())?;
        let data = rows_mut("pixels", &mut pixels)?.data;
        let layers = 0..self.vae.parameters.layout().layers.len();
        self.run(layers, x, Out::Data { data, columns, output: Output::Mean });
        Ok(())
    }

    fn run(&mut self, layers: Range<usize>, x: ArrayView2<'_, f32>, out: Out<'_>) {
        let x = x.as_standard_layout();
        let x = rows(&x);
        let vae = self.vae;
        let len = |layer| vae.parameters.layer(layer).0.len();
        let weights: usize = layers.clone().map(len).sum();
        let simd = self.compute.simd();
        if x.rows == 1 && weights >= 2 * PARALLEL_WEIGHTS && self.compute.threads() > 1 {
            let (threads, room) = (self.compute.threads(), &mut self.rooms[0]);
            self.compute.install(|| room.run(simd, threads, vae, layers, x, out));
        } else if 2 * weights * x.rows >= PARALLEL_FLOP && self.rooms.len() > 1 {
            let rooms = &mut self.rooms[..];
            self.compute.install(|| split(rooms, simd, vae, layers, x, out));
        } else {
            split(&mut self.rooms[..1], simd, vae, layers, x, out);
        }
    }
}

impl std::fmt::Debug for Inference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inference({:?}, {} threads)", self.vae, self.compute.threads())
    }
}

/// What a decoder returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Its last layer as it is.
    Raw,
    /// The mean of the likelihood.
    Mean,
}

/// Where results go: rows one after the other.
enum Out<'a> {
    Posterior { mu: &'a mut [f32], logvar: &'a mut [f32], latent: usize },
    Data { data: &'a mut [f32], columns: usize, output: Output },
}

impl Out<'_> {
    /// The first rows and the others.
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

/// Shares rows among rooms, each with a thread of its own.
fn split(
    rooms: &mut [Room],
    simd: InstructionSet,
    vae: &Vae,
    layers: Range<usize>,
    x: Rows<'_>,
    mut out: Out<'_>,
) {
    let part = |first: usize, rows| Rows { data: &x.data[first * x.stride..], rows, ..x };
    if rooms.len() == 1 || x.rows <= FEW_ROWS {
        let room = &mut rooms[0];
        let mut first = 0;
        while first < x.rows {
            let count = room.capacity.min(x.rows - first);
            let (now, rest) = out.split_at(count);
            room.run(simd, 1, vae, layers.clone(), part(first, count), now);
            first += count;
            out = rest;
        }
        return;
    }
    let (left, right) = rooms.split_at_mut(rooms.len() / 2);
    let share = x.rows * left.len() / (left.len() + right.len());
    let middle = share.next_multiple_of(FEW_ROWS).min(x.rows);
    let (out_left, out_right) = out.split_at(middle);
    let (x_left, x_right) = (part(0, middle), part(middle, x.rows - middle));
    rayon::join(
        || split(left, simd, vae, layers.clone(), x_left, out_left),
        || split(right, simd, vae, layers.clone(), x_right, out_right),
    );
}

/// Memory for some rows on their way through the layers.
#[derive(Clone)]
struct Room {
    capacity: usize,
    /// What each layer but the last gives.
    outputs: Vec<Matrix>,
    /// The layer that gives μ|logvar, without an activation.
    heads: usize,
    /// A row of what only training needs.
    unused: Vec<f32>,
}

impl Room {
    fn new(config: &Config, layout: &Layout, capacity: usize) -> Self {
        let (_, hidden) = layout.layers.split_last().expect("a model has layers");
        let outputs: Vec<_> =
            hidden.iter().map(|l| Matrix::zeros(capacity, l.panels.outputs)).collect();
        let widest = hidden.iter().map(|l| l.panels.outputs).max().unwrap_or(0);
        let unused = if config.is_plain() { 0 } else { widest };
        Self { capacity, outputs, heads: layout.heads, unused: vec![0.0; unused] }
    }

    /// Takes rows through some layers; a single row with so many threads.
    fn run(
        &mut self,
        simd: InstructionSet,
        threads: usize,
        vae: &Vae,
        layers: Range<usize>,
        x: Rows<'_>,
        out: Out<'_>,
    ) {
        let (config, parameters) = (&vae.config, &vae.parameters);
        let last = self.outputs.len();
        for layer in layers.start..layers.end.min(last) {
            let (before, after) = self.outputs.split_at_mut(layer);
            let x = if layer == layers.start { x } else { before[layer - 1].rows(x.rows) };
            let product = Product { y: after[0].rows_mut(x.rows), x, threads, simd };
            if layer != self.heads && config.has_plain_layers() {
                product.of(parameters.layer(layer), Relu);
                continue;
            }
            product.of(parameters.layer(layer), Identity);
            let (y, unused) = (&mut after[0], &mut self.unused[..]);
            if layer != self.heads {
                simd.dispatch(Dress { y, rows: x.rows, unused, vae, layer });
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
                let y = RowsMut { data: &mut *data, rows: x.rows, columns, stride: columns };
                let count = x.rows * columns;
                let x = if layers.start == last { x } else { self.outputs[last - 1].rows(x.rows) };
                let product = Product { y, x, threads, simd };
                let weights = parameters.layer(last);
                let mean = (output == Output::Mean).then_some(config.likelihood());
                match mean {
                    Some(likelihood) if likelihood.is_bernoulli() => product.of(weights, Sigmoid),
                    Some(Likelihood::ContinuousBernoulli) => {
                        product.of(weights, Identity);
                        simd.dispatch(Apply(&mut data[..count], ContinuousBernoulliMean));
                    }
                    Some(Likelihood::TanhSquaredError) => {
                        product.of(weights, Identity);
                        simd.dispatch(Apply(&mut data[..count], Tanh));
                    }
                    _ => product.of(weights, Identity),
                }
            }
        }
    }
}

/// What follows the product of a hidden layer, without what only training needs.
struct Dress<'a> {
    y: &'a mut Matrix,
    rows: usize,
    unused: &'a mut [f32],
    vae: &'a Vae,
    layer: usize,
}

impl WithSimd for Dress<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { y, rows, unused, vae, layer } = self;
        let parameters = &vae.parameters;
        let vector = |role| parameters.layout().vector(role).map(|at| parameters.vector_at(at));
        let norm = vector(VectorRole::Gain(layer)).zip(vector(VectorRole::Shift(layer)));
        let activation = vae.config.activation();
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

/// An element-wise function in place.
struct Apply<'a, F>(&'a mut [f32], F);

impl<F: Unary> WithSimd for Apply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        apply(simd, self.0, self.1);
    }
}

/// The product of one layer.
struct Product<'a, 'b> {
    y: RowsMut<'b>,
    x: Rows<'a>,
    threads: usize,
    simd: InstructionSet,
}

impl Product<'_, '_> {
    /// By the calling thread, or by several that share the outputs of a single row.
    fn of(self, (panels, layout): (&[f32], PanelLayout), activation: impl Unary + Send + Sync) {
        struct Op<'a, 'b, F>(RowsMut<'b>, Rows<'a>, &'a [f32], PanelLayout, F);
        impl<F: Unary> WithSimd for Op<'_, '_, F> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(mut y, x, panels, layout, activation) = self;
                product_rows(simd, &mut y, x, panels, layout, activation);
            }
        }

        let Self { y, x, threads, simd } = self;
        let halves =
            layout.halves().filter(|_| threads > 1 && layout.len() >= 2 * PARALLEL_WEIGHTS);
        let Some((left, right)) = halves else {
            return simd.dispatch(Op(y, x, panels, layout, activation));
        };
        debug_assert_eq!(y.rows, 1);
        let (y_left, y_right) = y.data.split_at_mut(left.outputs);
        let part = |data, columns, threads| {
            let y = RowsMut { data, rows: 1, columns, stride: columns };
            Product { y, x, threads, simd }
        };
        let left_product = part(y_left, left.outputs, threads / 2);
        let right_product = part(y_right, y.columns - left.outputs, threads - threads / 2);
        let (panels_left, panels_right) = panels.split_at(left.len());
        rayon::join(
            || left_product.of((panels_left, left), activation),
            || right_product.of((panels_right, right), activation),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vae::Config;
    use ndarray::{Array2, Axis, s};

    /// Shapes where rows are shared, where outputs are, and where neither is worth it.
    #[test]
    fn one_row_and_many_agree_on_every_number_of_threads() {
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
    fn views_of_any_layout_go_in_and_only_whole_rows_come_out() {
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
