//! Matrix products on weight panels: three products, one register tile.
//!
//! A dense layer `y = x·Wᵀ + b` (x is `[B, K]`, W is `[N, K]` as PyTorch keeps it) needs three
//! products, and each element of each of them is **one chain of fused multiply-adds** over its
//! inner dimension in ascending order:
//!
//! | product | element | chain | starts from |
//! |---|---|---|---|
//! | [`product`] | `y[b,n]` | k = 0 … K−1 of `x[b,k]·W[n,k]` | `bias[n]` |
//! | [`input_gradient`] | `dx[b,k]` | n = 0 … N−1 of `dy[b,n]·W[n,k]` | 0 |
//! | [`weight_gradient`] | `dW[n,k]` | b = 0 … B−1 of `x[b,k]·dy[b,n]` | 0 |
//! | | `dbias[n]` | b = 0 … B−1 of `1·dy[b,n]` | 0 |
//!
//! Nothing in that contract speaks of registers, tiles, blocks or threads, so none of them can
//! change a bit, and the oracle of the tests is a three-line loop over [`f32::mul_add`] compared
//! for equality. The error is that of such a chain: at most `γ·Σ|aᵢ·bᵢ|` with
//! `γ = n·u/(1−n·u)`, `u = 2⁻²⁴`, n the length of the chain (Higham 2002, §3.1).
//!
//! # Panels
//! Weights live in [`Panels`] all the time: strips of at most 48 outputs, each strip the bias
//! row first and then one row for each input, so that a register tile reads them front to back.
//! They are converted to and from `[N, K]` only to be loaded, saved or shown; optimizers are
//! element-wise and work on panels directly.
//!
//! # One tile, four loops
//! All three products run the same register tile (`tile`): scalars of one matrix are broadcast,
//! vectors of the other are loaded, both read in place. They differ in which matrix provides the
//! scalars, and along which strides.
//!
//! | | scalars (rows of the tile) | vectors (columns of the tile) |
//! |---|---|---|
//! | `product` | x: rows of the batch | a panel: outputs |
//! | `input_gradient` | a panel: inputs | dyᵀ: rows of the batch |
//! | `weight_gradient` | x: inputs | dy: outputs |
//!
//! Around the tile there are four loops, numbered from the outside in; the comments in the code refer
//! to these numbers. Each constant that blocks a loop keeps something in cache or in registers.
//!
//! | loop | `product` | `input_gradient` | `weight_gradient` | constant |
//! |---|---|---|---|---|
//! | task | rows of the batch | rows of the batch | pieces of a panel | `TASK_ROWS` = 32 at most, `TRANSPOSED_ROWS` = 64, `PIECE_INPUTS` = 96, or 48 in thin layers |
//! | 1 | panels | groups of panels | stretches of the batch | `PANEL` = 48, `GROUP` = 3, `STRETCH_ROWS` = 128 |
//! | 2 | strips of outputs | strips of rows | strips of outputs | 48 columns with AVX-512, 16 with others |
//! | 3 | rows | inputs | inputs | height of the tile |
//! | 4 | inputs | outputs | rows | none: the chain of the contract |
//!
//! Where there are more threads than tasks, they cut `product` by outputs and `input_gradient` by inputs, at whole
//! panels and tiles.
//!
//! Neither x nor the weights are repacked. The input gradient reads `dy` transposed and leaves
//! `dx` transposed; at large batches the two transpositions move about a hundredth as many elements as
//! the product has multiply-adds, and keep no state. Only in a training step, for a layer with fewer
//! weights than a block of rows has activations, Wᵀ is packed instead (`transpose_panels`), and the
//! input gradient is a forward product.

// The register tile and the transposition read through pointers; their callers check the bounds.
#[allow(unsafe_code)]
mod input_gradient;
mod panels;
#[allow(unsafe_code)]
mod product;
// Parts of rows are slices cut from shared memory.
#[allow(unsafe_code)]
mod rows;
#[allow(unsafe_code)]
mod tile;
#[allow(unsafe_code)]
mod transpose;
#[allow(unsafe_code)]
mod weight_gradient;

use crate::compute::Compute;
use crate::error::{Result, expect_shape};
use crate::simd::aligned::AlignedBuffer;
use crate::simd::lanes::{Identity, Unary};
use crate::simd::{LANES, apart};
use ndarray::{ArrayView2, ArrayViewMut2};
pub(crate) use panels::{Panel, padded};
pub use panels::{PanelLayout, Panels};
use pulp::{Simd, WithSimd};
use rows::rows_mut;
pub(crate) use rows::{Rows, RowsMut, rows, slice_mut};
pub(crate) use tile::TILE_ROWS;
pub(crate) use transpose::{transpose, transpose_panels, transposed_layout};
use weight_gradient::Stretches;
pub(crate) use weight_gradient::{GradientSource, Sink, panel_pieces, weight_gradient_rows};

/// Overwrites rows of `y` with `f(x·Wᵀ + b)`.
///
/// Compiled once per instruction set and `f` ([`apart`]).
#[inline(always)]
pub(crate) fn product_rows<S: Simd, F: Unary>(
    simd: S,
    y: &mut RowsMut<'_>,
    x: Rows<'_>,
    panels: &[f32],
    layout: PanelLayout,
    activation: F,
) {
    struct Op<'a, 'b, F>(&'a mut RowsMut<'b>, Rows<'a>, &'a [f32], PanelLayout, F);
    impl<F: Unary> WithSimd for Op<'_, '_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(y, x, panels, layout, activation) = self;
            product::product(simd, y, x, panels, layout, activation);
        }
    }
    apart(simd, Op(y, x, panels, layout, activation));
}

/// [`shared_product`] as a piece of work to dispatch: the same arguments.
pub(crate) struct ProductOp<'a, 'b, F> {
    pub(crate) compute: &'a Compute,
    pub(crate) y: RowsMut<'b>,
    pub(crate) x: Rows<'a>,
    pub(crate) panels: &'a [f32],
    pub(crate) layout: PanelLayout,
    pub(crate) activation: F,
}

impl<F: Unary + Send + Sync> WithSimd for ProductOp<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { compute, y, x, panels, layout, activation } = self;
        shared_product(compute, simd, y, x, panels, layout, activation);
    }
}

/// [`product_rows`], whose outputs the threads at hand share: they are cut in two until each thread has some, or there
/// are too few.
pub(crate) fn shared_product<S: Simd, F: Unary + Send + Sync>(
    compute: &Compute,
    simd: S,
    mut y: RowsMut<'_>,
    x: Rows<'_>,
    panels: &[f32],
    layout: PanelLayout,
    activation: F,
) {
    let is_large = 2 * y.rows() * layout.inputs * layout.outputs >= 2 * OUTPUTS_FLOP;
    let is_shared = compute.threads_at_hand() > 1 && is_large;
    let parts = is_shared.then(|| layout.cut(compute.left_share(layout.outputs))).flatten();
    let Some((left, right)) = parts else {
        return product_rows(simd, &mut y, x, panels, layout, activation);
    };
    let (y, y_right) = y.split_columns(left.outputs);
    let (panels, panels_right) = panels.split_at(left.len());
    compute.join(
        || shared_product(compute, simd, y, x, panels, left, activation),
        || shared_product(compute, simd, y_right, x, panels_right, right, activation),
    );
}

/// Overwrites `dxt` (`[K, lanes]`) with `Wᵀ·dyᵀ` for `lanes` rows of the batch, a multiple of 16; `dyt`
/// is `[N, lanes]`. The threads at hand share the inputs.
///
/// Compiled once per instruction set ([`apart`]).
#[inline(always)]
pub(crate) fn input_gradient_rows<S: Simd>(
    compute: &Compute,
    simd: S,
    dxt: &mut [f32],
    dyt: &[f32],
    lanes: usize,
    panels: &[f32],
    layout: PanelLayout,
) {
    share_inputs(compute, simd, dxt, [dyt, panels], lanes, layout, 0);
}

/// Cuts the inputs in two until each thread has some, or there are too few; `dxt` is that of the inputs from `first`
/// on.
fn share_inputs<S: Simd>(
    compute: &Compute,
    simd: S,
    dxt: &mut [f32],
    [dyt, panels]: [&[f32]; 2],
    lanes: usize,
    layout: PanelLayout,
    first: usize,
) {
    struct Op<'a>(&'a mut [f32], [&'a [f32]; 2], usize, PanelLayout, usize);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(dxt, [dyt, panels], lanes, layout, first) = self;
            input_gradient::input_gradient(simd, dxt, dyt, lanes, panels, layout, first);
        }
    }
    let inputs = dxt.len() / lanes.max(1);
    let is_small = 2 * lanes * inputs * layout.outputs < 2 * OUTPUTS_FLOP;
    if compute.threads_at_hand() == 1 || is_small {
        return apart(simd, Op(dxt, [dyt, panels], lanes, layout, first));
    }
    // Whole tiles, as high as the cut is a multiple of.
    let middle = compute.left_share(inputs).next_multiple_of(LANES).min(inputs);
    let (dxt, dxt_right) = dxt.split_at_mut(middle * lanes);
    compute.join(
        || share_inputs(compute, simd, dxt, [dyt, panels], lanes, layout, first),
        || share_inputs(compute, simd, dxt_right, [dyt, panels], lanes, layout, first + middle),
    );
}

/// Floating-point operations for each thread that shares a product of a few rows: about a microsecond.
const OUTPUTS_FLOP: usize = 1 << 17;

/// Rows of the batch in a task of the forward product at most: few enough that they stay in cache while all panels
/// pass. Where there are more threads than such tasks, they are smaller.
const TASK_ROWS: usize = 32;

/// Floating-point operations of the forward product for each thread that takes part. In tests, small products are
/// shared too.
const SHARE_FLOP: usize = if cfg!(test) { 16 } else { 250_000 };

/// Rows of the batch that a task of the input gradient transposes at a time.
const TRANSPOSED_ROWS: usize = 64;

/// Forward product: overwrites `y` (`[B, N]`) with `x·Wᵀ + b`, x `[B, K]`.
///
/// Each element is one chain of fused multiply-adds over k, ascending, from the bias; see the
/// [module](self) for the error. NaN and ±∞ go through as IEEE arithmetic has it.
///
/// ```
/// use elbo::{Compute, gemm::{Panels, product}};
/// use ndarray::{Array2, array};
///
/// let weight = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]; // N = 2 outputs, K = 3 inputs
/// let panels = Panels::pack(weight.view(), &[0.5, -0.5])?;
/// let x = array![[1.0, 0.0, -1.0]];
/// let mut y = Array2::zeros((1, 2));
/// product(&Compute::serial(), y.view_mut(), x.view(), &panels)?;
/// assert_eq!(y, array![[-1.5, -2.5]]);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit, [`Error::Layout`](crate::Error::Layout) if `y` is not in standard layout
/// (an `x` that is not is copied).
pub fn product(
    compute: &Compute,
    mut y: ArrayViewMut2<'_, f32>,
    x: ArrayView2<'_, f32>,
    panels: &Panels,
) -> Result<()> {
    let layout = panels.layout();
    let batch = x.nrows();
    expect_shape("x", [batch, layout.inputs], x.shape())?;
    expect_shape("y", [batch, layout.outputs], y.shape())?;
    let x = x.as_standard_layout();
    let x = rows(&x);
    // Loop "task": rows of y do not depend on each other.
    let compute = compute.for_work(2 * batch * layout.inputs * layout.outputs, SHARE_FLOP);
    let share = batch.div_ceil(compute.threads()).next_multiple_of(TILE_ROWS);
    let share = share.clamp(TILE_ROWS, TASK_ROWS);
    let mut tasks: Vec<_> = rows_mut("y", &mut y)?.chunks(share).map(Some).collect();
    compute.for_each_mut(&mut tasks, |index, y| {
        let y = y.take().expect("each task runs once");
        let first = index * share;
        let x = Rows { data: &x.data[first * x.stride..], rows: y.rows(), stride: x.stride };
        let (compute, activation) = (&compute, Identity);
        compute.simd().dispatch(ProductOp { compute, y, x, panels, layout, activation });
    });
    Ok(())
}

/// Input gradient: overwrites `dx` (`[B, K]`) with `dy·W`, dy `[B, N]`.
///
/// Each element is one chain of fused multiply-adds over n, ascending, from 0.
/// Allocates transposed copies of 64 rows, once for each task of at most 256 rows.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit, [`Error::Layout`](crate::Error::Layout) if `dx` is not in standard layout.
pub fn input_gradient(
    compute: &Compute,
    mut dx: ArrayViewMut2<'_, f32>,
    dy: ArrayView2<'_, f32>,
    panels: &Panels,
) -> Result<()> {
    struct Task<'a> {
        /// `dy.rows` rows.
        dx: &'a mut [f32],
        dy: Rows<'a>,
        panels: &'a Panels,
        compute: &'a Compute,
    }
    impl WithSimd for Task<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { dx, dy, panels, compute } = self;
            let layout = panels.layout();
            let PanelLayout { inputs, outputs } = layout;
            // Rows past the end of the batch are zero in the copies and are not copied back.
            let lanes = padded(dy.rows.min(TRANSPOSED_ROWS));
            let mut dyt = AlignedBuffer::zeros(outputs * lanes);
            let mut dxt = AlignedBuffer::zeros(inputs * lanes);
            for (i, dx_block) in dx.chunks_mut(lanes * inputs).enumerate() {
                let first = i * lanes;
                let rows = lanes.min(dy.rows - first);
                let dy_block = &dy.data[first * dy.stride..];
                // dy `[rows, N]` → dyᵀ `[N, lanes]` → dxᵀ `[K, lanes]` → dx `[rows, K]`.
                transpose(simd, &mut dyt, lanes, dy_block, dy.stride, rows, outputs);
                input_gradient_rows(compute, simd, &mut dxt, &dyt, lanes, panels, layout);
                transpose(simd, dx_block, inputs, &dxt, lanes, inputs, rows);
            }
        }
    }

    let PanelLayout { inputs, outputs } = panels.layout();
    let batch = dy.nrows();
    expect_shape("dy", [batch, outputs], dy.shape())?;
    expect_shape("dx", [batch, inputs], dx.shape())?;
    let dy = dy.as_standard_layout();
    let dy = rows(&dy);
    // Each task allocates its buffers once, so there are few tasks.
    let share = batch.div_ceil(compute.threads()).next_multiple_of(LANES).min(4 * TRANSPOSED_ROWS);
    let dx = slice_mut("dx", &mut dx)?;
    if dx.is_empty() {
        return Ok(());
    }
    let mut tasks: Vec<_> = dx.chunks_mut(share * inputs).collect();
    compute.for_each_mut(&mut tasks, |index, dx| {
        let first = index * share;
        let dy = Rows {
            data: &dy.data[first * dy.stride..],
            rows: dx.len() / inputs,
            stride: dy.stride,
        };
        compute.simd().dispatch(Task { dx, dy, panels, compute });
    });
    Ok(())
}

/// Weight gradient: overwrites `dpanels` with `dyᵀ·x` and, in the bias row, the column sums of
/// `dy`; x `[B, K]`, dy `[B, N]`.
///
/// Each element is one chain of fused multiply-adds over the rows of the batch, ascending, from
/// 0: the work is split over output tiles, never over partial sums of the batch.
/// Allocates a list of its tasks, and a copy of the last rows of `dy` where rows do not fill whole registers.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes do not fit.
pub fn weight_gradient(
    compute: &Compute,
    dpanels: &mut Panels,
    x: ArrayView2<'_, f32>,
    dy: ArrayView2<'_, f32>,
) -> Result<()> {
    /// Stores the gradient, with zeros for the columns that are padding.
    struct Overwrite<'a> {
        gradient: &'a mut [f32],
        panel: Panel,
    }
    impl Sink for Overwrite<'_> {
        #[inline(always)]
        fn put<S: Simd>(&mut self, simd: S, at: usize, gradient: S::f32s) {
            let columns = self.panel.outputs.saturating_sub(at % self.panel.width);
            let to = &mut self.gradient[at..at + S::F32_LANES];
            if columns >= S::F32_LANES {
                S::as_mut_simd_f32s(to).0[0] = gradient;
            } else {
                to.fill(0.0);
                simd.partial_store_f32s(&mut to[..columns], gradient);
            }
        }
    }
    struct Task<'a> {
        chunk: &'a mut [f32],
        rows: std::ops::Range<usize>,
        panel: Panel,
        sources: Stretches<'a>,
    }
    impl WithSimd for &mut Task<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Task { chunk, rows, panel, sources } = self;
            let mut sink = Overwrite { gradient: chunk, panel: *panel };
            weight_gradient_rows(simd, &mut sink, sources.clone(), *panel, rows.clone());
        }
    }

    let layout = dpanels.layout();
    let batch = x.nrows();
    expect_shape("x", [batch, layout.inputs], x.shape())?;
    expect_shape("dy", [batch, layout.outputs], dy.shape())?;
    let x = x.as_standard_layout();
    let x = rows(&x);
    let dy = dy.as_standard_layout();
    let dy = rows(&dy);
    // A tile reads whole registers of dy, and so past the end of a row where the last panel has padding: there it
    // reads the next rows, whose products the sink drops. Behind the last rows there is nothing to read, so
    // these are copied, with room.
    let mut sources = Stretches { rows: GradientSource { x, dy }, last: None, done: 0 };
    let width = padded(layout.outputs);
    let tail = width.div_ceil(layout.outputs.max(1)).saturating_sub(1).min(batch);
    let mut copy = AlignedBuffer::zeros(tail * width);
    if tail > 0 {
        let whole = batch - tail;
        let mut last = sources.rows.part(whole, tail);
        for (to, from) in copy.chunks_exact_mut(width).zip(last.dy.data.chunks(layout.outputs)) {
            to[..layout.outputs].copy_from_slice(from);
        }
        last.dy = Rows { data: &copy, rows: tail, stride: width };
        sources.last = Some(last);
        (sources.rows.x.rows, sources.rows.dy.rows) = (whole, whole);
    }

    let mut tasks = Vec::new();
    let mut rest: &mut [f32] = &mut dpanels[..];
    for panel in layout.panels() {
        for rows in panel_pieces(layout.inputs) {
            // Pieces come in the order of the buffer, so their memory is cut off its front.
            let (chunk, tail) = rest.split_at_mut(rows.len() * panel.width);
            rest = tail;
            // All tasks read all of x and dy, and each writes its own piece of the panels.
            tasks.push(Task { chunk, rows, panel, sources: sources.clone() });
        }
    }
    compute.for_each_weighted(
        &mut tasks,
        |task| task.chunk.len(),
        |_, task| compute.simd().dispatch(task),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use ndarray::{Array1, Array2};

    /// Numbers of every size and sign, some of them zero, that round at nearly every step.
    fn matrix(rows: usize, columns: usize, salt: u32) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(r, c)| {
            let mut h = (r as u32).wrapping_mul(0x9E37_79B9) ^ (c as u32).wrapping_mul(0x85EB_CA6B);
            h = (h ^ salt).wrapping_mul(0xC2B2_AE35);
            h ^= h >> 15;
            if h.is_multiple_of(7) { 0.0 } else { (h >> 8) as f32 / 8_388_608.0 - 1.0 }
        })
    }

    /// The chain that every kernel must reproduce to the bit.
    fn chain(start: f32, terms: impl Iterator<Item = (f32, f32)>) -> f32 {
        terms.fold(start, |sum, (a, b)| a.mul_add(b, sum))
    }

    fn assert_same_bits(found: &Array2<f32>, expected: &Array2<f32>, what: &str) {
        for ((index, &f), &e) in found.indexed_iter().zip(expected) {
            assert_eq!(f.to_bits(), e.to_bits(), "{what} at {index:?}: {f} instead of {e}");
        }
    }

    /// One size on every instruction set and one, two and five threads.
    fn check(m: usize, k: usize, n: usize) {
        let (x, weight, dy) = (matrix(m, k, 1), matrix(n, k, 2), matrix(m, n, 3));
        let bias: Vec<f32> = matrix(1, n, 4).iter().copied().collect();
        let panels = Panels::pack(weight.view(), &bias).unwrap();

        let y_oracle = Array2::from_shape_fn((m, n), |(b, n)| {
            chain(bias[n], (0..k).map(|k| (x[[b, k]], weight[[n, k]])))
        });
        let dx_oracle = Array2::from_shape_fn((m, k), |(b, k)| {
            chain(0.0, (0..n).map(|n| (dy[[b, n]], weight[[n, k]])))
        });
        let dweight_oracle = Array2::from_shape_fn((n, k), |(n, k)| {
            chain(0.0, (0..m).map(|b| (x[[b, k]], dy[[b, n]])))
        });
        let dbias_oracle =
            Array1::from_shape_fn(n, |n| chain(0.0, (0..m).map(|b| (1.0, dy[[b, n]]))));

        for simd in InstructionSet::available() {
            for threads in [1, 2, 5] {
                if threads > 1 && (m < 8 || simd != InstructionSet::detect()) {
                    continue;
                }
                let what = format!("{simd}, {threads} threads, M={m} K={k} N={n}");
                let compute = Compute::new(simd, threads).unwrap();
                let mut y = Array2::from_elem((m, n), f32::NAN);
                product(&compute, y.view_mut(), x.view(), &panels).unwrap();
                assert_same_bits(&y, &y_oracle, &format!("y, {what}"));

                let mut dx = Array2::from_elem((m, k), f32::NAN);
                input_gradient(&compute, dx.view_mut(), dy.view(), &panels).unwrap();
                assert_same_bits(&dx, &dx_oracle, &format!("dx, {what}"));

                let mut dpanels = Panels::zeros(k, n);
                dpanels.fill(f32::NAN);
                weight_gradient(&compute, &mut dpanels, x.view(), dy.view()).unwrap();
                assert_same_bits(&dpanels.weight(), &dweight_oracle, &format!("dW, {what}"));
                let dbias = dpanels.bias();
                assert!(
                    dbias.iter().map(|v| v.to_bits()).eq(dbias_oracle.iter().map(|v| v.to_bits()))
                );
                // The padding must be zero, or an optimizer would change it.
                let nonzero = dpanels.iter().filter(|v| v.to_bits() != 0).count();
                assert!(nonzero <= n * (k + 1), "padding, {what}");
            }
        }
    }

    #[test]
    fn products_equal_the_oracle_around_every_tile_edge() {
        // Rows of a tile: 16, 12, 8, 6, 4, 2, 1; a task takes 32.
        for m in [0, 1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 32, 33, 65] {
            check(m, 9, 50);
        }
        // The weight gradient takes 128 rows at a time and 96 inputs, the input gradient three
        // panels.
        for (m, k, n) in [(127, 3, 20), (128, 97, 20), (129, 193, 20), (400, 9, 50)] {
            check(m, k, n);
        }
        for n in [143, 144, 145, 288, 301] {
            check(9, 13, n);
        }
        // Columns: registers of 4, 8, 16; panels of 16, 32, 48.
        for n in [0, 1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 97, 112, 129] {
            check(13, 5, n);
            check(1, 3, n);
        }
        // The inner dimension, which gives the rows of a tile in the two gradients.
        for k in [0, 1, 2, 3, 5, 6, 7, 8, 11, 12, 13, 15, 16, 17, 24, 25, 100] {
            check(9, k, 37);
            check(1, k, 64);
        }
    }

    #[test]
    fn product_equals_the_oracle_at_the_shapes_of_the_classic_network() {
        for (k, n) in [(784, 400), (400, 40), (20, 400), (400, 784)] {
            let (x, weight) = (matrix(5, k, 1), matrix(n, k, 2));
            let bias = vec![0.25; n];
            let panels = Panels::pack(weight.view(), &bias).unwrap();
            let mut y = Array2::from_elem((5, n), f32::NAN);
            product(&Compute::serial(), y.view_mut(), x.view(), &panels).unwrap();
            let oracle = Array2::from_shape_fn((5, n), |(b, n)| {
                chain(0.25, (0..k).map(|k| (x[[b, k]], weight[[n, k]])))
            });
            assert_same_bits(&y, &oracle, "y");
        }
    }

    #[test]
    fn products_with_the_identity_are_exact() {
        let n = 50;
        let a = matrix(21, n, 9);
        let identity = Panels::pack(Array2::eye(n).view(), &vec![0.0; n]).unwrap();
        for simd in InstructionSet::available() {
            let compute = Compute::new(simd, 1).unwrap();
            let mut y = Array2::from_elem((21, n), f32::NAN);
            product(&compute, y.view_mut(), a.view(), &identity).unwrap();
            assert_eq!(y, a, "A·I = A, {simd}");
            let mut dx = Array2::from_elem((21, n), f32::NAN);
            input_gradient(&compute, dx.view_mut(), a.view(), &identity).unwrap();
            assert_eq!(dx, a, "A·Iᵀ = A, {simd}");
        }
    }

    #[test]
    fn rejects_wrong_shapes_by_name() {
        let panels = Panels::zeros(3, 2);
        let mut y = Array2::zeros((4, 2));
        let error =
            product(&Compute::serial(), y.view_mut(), Array2::zeros((4, 5)).view(), &panels)
                .unwrap_err();
        assert_eq!(error.to_string(), "`x`: expected shape [4, 3], found [4, 5]");
    }
}
