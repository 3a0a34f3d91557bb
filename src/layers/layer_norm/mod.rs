//! Layer normalization: each row is shifted and scaled to mean 0 and variance 1, then each column is
//! multiplied by a gain and moved by a shift.
//!
//! # Formula
//! For a row x of H elements, with gain γ and shift β `[H]`:
//!
//! ```text
//! mean = Σ x_i / H      var = Σ (x_i − mean)² / H      s = 1/√(var + 10⁻⁵)
//! x̂_i = (x_i − mean)·s
//! y_i = γ_i·x̂_i + β_i
//! ```
//!
//! The same as `torch.nn.LayerNorm` with its default ε. The variance is divided by H, not H − 1.
//!
//! # Derivation
//! `g_i = dy_i·γ_i` is the gradient of x̂. mean and s depend on all of x:
//!
//! ```text
//! ∂x̂_i/∂x_j = s·(δ_ij − 1/H − x̂_i·x̂_j/H)
//! dx_j = s·(g_j − Σ_i g_i/H − x̂_j·Σ_i g_i·x̂_i/H)
//! dγ_i = Σ_rows dy_i·x̂_i          dβ_i = Σ_rows dy_i
//! ```
//!
//! The backward pass needs x̂, γ and s; the forward pass returns x̂ and s.
//!
//! # Method
//! 1. Rows are summed over canonical lanes ([`simd`](crate::simd)), with totals in f64; mean and s are
//!    computed in f64 and rounded to f32.
//! 2. The variance comes from the differences to the mean, in a second pass, so nothing cancels in a row
//!    far from 0.
//! 3. Each column's gradients of γ and β are one chain in f64, in the order of the rows. Threads share rows,
//!    and then columns, so no bit depends on their number.
//!
//! # Contract
//! With `M = 1 + |mean|·s`:
//! - x̂ is within `2⁻²¹·(1 + |x̂|)·M`, y within that times |γ| and 2⁻²⁴·|y|.
//! - `dx` is within `2⁻¹⁸·s·max|g|·(1 + |x̂|)·M` of the gradient of x; from the x̂ and s that it is handed, it
//!   is within `2⁻²⁰·s·max|g|·(1 + |x̂|)`.
//! - The bounds hold for all finite rows. If the squares are beyond f32, the row is multiplied by 2⁻⁸⁰
//!   first.
//! - A row of equal elements gives x̂ = 0 (up to the rounding of its mean). NaN or ±∞ in a row makes the
//!   whole row NaN.
//!
//! Derivation: sums round in chains of at most eight terms of f32, the mean is therefore off by at most
//! `2⁻²⁴·(5.4·|mean| + 4.4/s)` and s by `2⁻²⁴·5·s`; the difference and the product of x̂ round once each. An
//! error e of x̂ is one of `s·(|x̂|·mean(|g|e) + e·max|g|)` of dx, and |mean(g·x̂)| is at most max|g|.
//!
//! Source: Ba, Kiros & Hinton, "Layer Normalization" (2016).

use crate::compute::Compute;
use crate::error::{Error, Result, expect_length, expect_shape};
use crate::simd::LANES;
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::{Each, Identity, Lanewise, Multiply, multiply, scale, zip};
use crate::simd::sum::sum_row;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use pulp::{Simd, WithSimd};

/// Constant ε that is added to the variance.
pub const EPSILON: f64 = 1e-5;

/// Unit of a row whose squares are beyond f32: 2⁻⁸⁰.
const SMALL: f32 = 1.0 / (1_u128 << 80) as f32;

/// Square of the distance from a point.
#[derive(Clone, Copy)]
struct SquaredDistance(f32);

impl Lanewise<1, 0> for SquaredDistance {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::f32s; 1], []: [S::f32s; 0]) -> [S::f32s; 1] {
        // Rounded before it is squared: near the mean the difference is exact.
        let d = simd.sub_f32s(x, simd.splat_f32s(self.0));
        [simd.mul_f32s(d, d)]
    }
}

/// `[y, x̂]` from `[x, _]`, gain and shift.
#[derive(Clone, Copy)]
struct Normalize {
    mean: f32,
    inverse_std: f32,
}

impl Lanewise<2, 2> for Normalize {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [x, _]: [S::f32s; 2],
        [gain, shift]: [S::f32s; 2],
    ) -> [S::f32s; 2] {
        // x̂ = (x − mean)·s, then y = γ·x̂ + β in one rounding.
        let centered = simd.sub_f32s(x, simd.splat_f32s(self.mean));
        let normalized = simd.mul_f32s(centered, simd.splat_f32s(self.inverse_std));
        [simd.mul_add_f32s(gain, normalized, shift), normalized]
    }
}

/// `[g, dy·x̂, dy]` from `[dy, _, _]`, x̂ and gain.
#[derive(Clone, Copy)]
struct WeightGradients;

impl Lanewise<3, 2> for WeightGradients {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [dy, _, _]: [S::f32s; 3],
        [normalized, gain]: [S::f32s; 2],
    ) -> [S::f32s; 3] {
        // y = γ·x̂ + β, so g = dx̂ = dy·γ, dγ += dy·x̂ and dβ += dy.
        [simd.mul_f32s(dy, gain), simd.mul_f32s(dy, normalized), dy]
    }
}

/// dx from g and x̂.
#[derive(Clone, Copy)]
struct Project {
    mean: f32,
    along: f32,
    inverse_std: f32,
}

impl Lanewise<1, 1> for Project {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [g]: [S::f32s; 1],
        [normalized]: [S::f32s; 1],
    ) -> [S::f32s; 1] {
        // s·(g − mean(g) − x̂·mean(g·x̂))
        let centered = simd.sub_f32s(g, simd.splat_f32s(self.mean));
        let along = simd.splat_f32s(self.along);
        // The product with x̂ and the subtraction round once.
        let rest = simd.negate_mul_add_f32s(normalized, along, centered);
        [simd.mul_f32s(rest, simd.splat_f32s(self.inverse_std))]
    }
}

/// The forward pass of one row: x in the first output becomes y, the second becomes x̂; gain and shift.
/// Returns s.
struct ForwardRow<'a>([&'a mut [f32]; 2], [&'a [f32]; 2]);

impl WithSimd for ForwardRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Self([y, normalized], parameters) = self;
        let columns = y.len() as f64;
        let mut unit = 1.0;
        let (mean, inverse_std) = loop {
            // 1. The totals are in f64; mean and s are rounded to f32.
            let mean = (sum_row(simd, y, [], Each(Identity)) / columns) as f32;
            // 2. From the differences: Σx² − H·mean² would cancel.
            let variance = sum_row(simd, y, [], SquaredDistance(mean)) / columns;
            if variance.is_finite() || unit != 1.0 {
                // s in the unit of the row.
                break (mean, 1.0 / (variance + EPSILON * unit * unit).sqrt());
            }
            // Once more with smaller numbers, in case they are finite: a power of two changes no digit.
            unit = f64::from(SMALL);
            scale(simd, y, SMALL);
        };
        // y takes the place of x, which both sums have brought into the cache.
        let normalize = Normalize { mean, inverse_std: inverse_std as f32 };
        zip(simd, [y, normalized], parameters, normalize);
        (inverse_std * unit) as f32
    }
}

/// Overwrites each x in `y` with y and `normalized` with x̂, and returns s. All slices have the length
/// of the row, without its padding.
#[inline(always)]
pub(crate) fn forward_row<S: Simd>(
    simd: S,
    y: &mut [f32],
    normalized: &mut [f32],
    gain: &[f32],
    shift: &[f32],
) -> f32 {
    simd.vectorize(ForwardRow([y, normalized], [gain, shift]))
}

/// The backward pass of one row: dy becomes dx, then what the row adds to the gradients of gain and shift;
/// x̂ and gain; s.
struct BackwardRow<'a>([&'a mut [f32]; 3], [&'a [f32]; 2], f32);

impl WithSimd for BackwardRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self([d, dgain, dshift], [normalized, gain], inverse_std) = self;
        // g takes the place of dy, and the two products are stored for the sums over rows.
        zip(simd, [&mut *d, dgain, dshift], [normalized, gain], WeightGradients);
        input_gradient(simd, d, normalized, inverse_std);
    }
}

/// Overwrites each dy in `d` with dx, and `dgain` and `dshift` with what this row adds to the
/// gradients of gain and shift: dy·x̂ and dy. All slices have the length of the row.
#[inline(always)]
pub(crate) fn backward_row<S: Simd>(
    simd: S,
    d: &mut [f32],
    dgain: &mut [f32],
    dshift: &mut [f32],
    normalized: &[f32],
    gain: &[f32],
    inverse_std: f32,
) {
    simd.vectorize(BackwardRow([d, dgain, dshift], [normalized, gain], inverse_std));
}

/// Overwrites each g in `d` with dx.
#[inline(always)]
fn input_gradient<S: Simd>(simd: S, d: &mut [f32], normalized: &[f32], inverse_std: f32) {
    let columns = d.len() as f64;
    // Project out the two directions that normalization removes: the mean and x̂ itself.
    // x̂ = (x − mean)·s does not change when x is shifted or stretched: both totals in f64.
    let mean = (sum_row(simd, d, [], Each(Identity)) / columns) as f32;
    let along = (sum_row(simd, d, [normalized], Multiply) / columns) as f32;
    zip(simd, [d], [normalized], Project { mean, along, inverse_std });
}

/// Elements that a thread takes at once.
const SHARE: usize = 1 << 14;

/// Rows of a forward pass, for one thread or several.
struct ForwardRows<'a> {
    outputs: [ArrayViewMut2<'a, f32>; 2],
    inverse_std: &'a mut [f32],
    x: ArrayView2<'a, f32>,
    parameters: [&'a [f32]; 2],
}

impl ForwardRows<'_> {
    fn run(self, compute: &Compute) {
        // Rows are independent of each other.
        let rows = self.x.nrows();
        if compute.threads_at_hand() == 1 || rows <= 1 || self.x.len() <= SHARE {
            return compute.simd().dispatch(self);
        }
        // Cut until a share is small; where the cuts are changes no bit.
        let half = compute.left_share(rows);
        let [y, normalized] = self.outputs.map(|output| output.split_at(Axis(0), half));
        let inverse_std = self.inverse_std.split_at_mut(half);
        let (x, parameters) = (self.x.split_at(Axis(0), half), self.parameters);
        let (outputs, above) = ([y.0, normalized.0], inverse_std.0);
        let first = ForwardRows { outputs, inverse_std: above, x: x.0, parameters };
        let (outputs, below) = ([y.1, normalized.1], inverse_std.1);
        let second = ForwardRows { outputs, inverse_std: below, x: x.1, parameters };
        compute.join(|| first.run(compute), || second.run(compute));
    }
}

impl WithSimd for ForwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { outputs: [mut y, mut normalized], inverse_std, x, parameters: [gain, shift] } =
            self;
        for (i, inverse_std) in inverse_std.iter_mut().enumerate() {
            // The kernel works in place.
            y.row_mut(i).assign(&x.row(i));
            let (y, normalized) = (row_mut(&mut y, i), row_mut(&mut normalized, i));
            *inverse_std = forward_row(simd, y, normalized, gain, shift);
        }
    }
}

/// Overwrites `y`, `normalized` (x̂) and `inverse_std` (s, one for each row) from x `[B, H]`.
///
/// ```
/// use elbo::{Compute, layers::layer_norm};
/// use ndarray::{Array2, array};
///
/// let x = array![[1.0_f32, 2.0, 3.0]];
/// let (mut y, mut normalized) = (Array2::zeros((1, 3)), Array2::zeros((1, 3)));
/// let mut inverse_std = [0.0];
/// layer_norm::forward(
///     &Compute::serial(), y.view_mut(), normalized.view_mut(), &mut inverse_std, x.view(),
///     &[1.0; 3], &[10.0; 3],
/// )?;
/// assert!((y[[0, 2]] - 11.2247).abs() < 1e-4); // 1/√(2/3 + 1e-5) above the shift
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if shapes or lengths do not fit, [`Error::Layout`] if rows of `y` or `normalized` are
/// not contiguous.
pub fn forward(
    compute: &Compute,
    y: ArrayViewMut2<'_, f32>,
    normalized: ArrayViewMut2<'_, f32>,
    inverse_std: &mut [f32],
    x: ArrayView2<'_, f32>,
    gain: &[f32],
    shift: &[f32],
) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    let (rows, columns) = x.dim();
    expect_shape("y", [rows, columns], y.shape())?;
    expect_shape("normalized", [rows, columns], normalized.shape())?;
    expect_length("inverse_std", rows, inverse_std.len())?;
    expect_length("gain", columns, gain.len())?;
    expect_length("shift", columns, shift.len())?;
    expect_rows("y", &y)?;
    expect_rows("normalized", &normalized)?;
    let (outputs, parameters) = ([y, normalized], [gain, shift]);
    ForwardRows { outputs, inverse_std, x, parameters }.run(compute);
    Ok(())
}

/// Rows of the gradient of x, for one thread or several.
struct InputGradients<'a> {
    dx: ArrayViewMut2<'a, f32>,
    dy: ArrayView2<'a, f32>,
    normalized: ArrayView2<'a, f32>,
    inverse_std: &'a [f32],
    gain: &'a [f32],
}

impl InputGradients<'_> {
    fn run(self, compute: &Compute) {
        let rows = self.dy.nrows();
        if compute.threads_at_hand() == 1 || rows <= 1 || self.dy.len() <= SHARE {
            return compute.simd().dispatch(self);
        }
        let (half, gain) = (compute.left_share(rows), self.gain);
        let (dx, dx_below) = self.dx.split_at(Axis(0), half);
        let (dy, dy_below) = self.dy.split_at(Axis(0), half);
        let (normalized, normalized_below) = self.normalized.split_at(Axis(0), half);
        let (inverse_std, below) = self.inverse_std.split_at(half);
        let first = InputGradients { dx, dy, normalized, inverse_std, gain };
        let (dx, dy, normalized) = (dx_below, dy_below, normalized_below);
        let second = InputGradients { dx, dy, normalized, inverse_std: below, gain };
        compute.join(|| first.run(compute), || second.run(compute));
    }
}

impl WithSimd for InputGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut dx, dy, normalized, inverse_std, gain } = self;
        for (i, &inverse_std) in inverse_std.iter().enumerate() {
            dx.row_mut(i).assign(&dy.row(i));
            let (d, normalized) = (row_mut(&mut dx, i), normalized.row(i));
            // g = dy·γ, in the place of dx.
            multiply(simd, d, gain);
            input_gradient(simd, d, normalized.to_slice().expect(CONTIGUOUS), inverse_std);
        }
    }
}

/// 3. The sums over the rows for some columns, the first of which is `first`: one chain in f64 each.
fn weight_gradients(
    compute: &Compute,
    [dgain, dshift]: [&mut [f32]; 2],
    [dy, normalized]: [ArrayView2<'_, f32>; 2],
    first: usize,
) {
    let columns = dgain.len();
    if columns <= LANES || dy.nrows() * columns <= SHARE || compute.threads_at_hand() == 1 {
        for (group, (dgain, dshift)) in
            dgain.chunks_mut(LANES).zip(dshift.chunks_mut(LANES)).enumerate()
        {
            let first = first + group * LANES;
            // This group's columns in dy and x̂, which are not cut; dγ and dβ are.
            let columns = s![.., first..first + dgain.len()];
            // Sixteen columns at a time through all rows: nothing is allocated.
            let mut sums = [[0.0_f64; 2]; LANES];
            for (dy, normalized) in
                dy.slice(columns).rows().into_iter().zip(normalized.slice(columns).rows())
            {
                for ((sums, &dy), &normalized) in sums.iter_mut().zip(dy).zip(normalized) {
                    // The product rounds to f32, as in the pass of one row; the sums are in f64.
                    sums[0] += f64::from(dy * normalized);
                    sums[1] += f64::from(dy);
                }
            }
            for ((sums, dgain), dshift) in sums.iter().zip(dgain).zip(dshift) {
                [*dgain, *dshift] = sums.map(|sum| sum as f32);
            }
        }
        return;
    }
    // Whole groups of columns on the left: a thread reads whole cache lines of dy.
    let half = compute.left_share(columns).next_multiple_of(LANES).min(columns);
    let (dgain, dgain_right) = dgain.split_at_mut(half);
    let (dshift, dshift_right) = dshift.split_at_mut(half);
    compute.join(
        || weight_gradients(compute, [dgain, dshift], [dy, normalized], first),
        || weight_gradients(compute, [dgain_right, dshift_right], [dy, normalized], first + half),
    );
}

/// Overwrites `dx`, `dgain` and `dshift` with the gradients of x, gain and shift, from that of y and the
/// outputs of [`forward`]. `dgain` and `dshift` are summed over the rows in their order, in f64.
///
/// # Errors
/// [`Error::Shape`] if shapes or lengths do not fit, [`Error::Layout`] if rows of `dx` or `normalized` are
/// not contiguous.
pub fn backward(
    compute: &Compute,
    dx: ArrayViewMut2<'_, f32>,
    dgain: &mut [f32],
    dshift: &mut [f32],
    dy: ArrayView2<'_, f32>,
    normalized: ArrayView2<'_, f32>,
    inverse_std: &[f32],
    gain: &[f32],
) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    let (rows, columns) = dy.dim();
    expect_shape("dx", [rows, columns], dx.shape())?;
    expect_shape("normalized", [rows, columns], normalized.shape())?;
    expect_length("inverse_std", rows, inverse_std.len())?;
    for (argument, found) in [("dgain", &*dgain), ("dshift", &*dshift), ("gain", gain)] {
        expect_length(argument, columns, found.len())?;
    }
    expect_rows("dx", &dx)?;
    expect_rows("normalized", &normalized)?;
    // dx is a sum along each row, dγ and dβ are sums down each column: two passes over dy.
    InputGradients { dx, dy, normalized, inverse_std, gain }.run(compute);
    weight_gradients(compute, [dgain, dshift], [dy, normalized], 0);
    Ok(())
}

/// [`expect_rows`] has checked it.
const CONTIGUOUS: &str = "the layout was checked";

fn row_mut<'a>(array: &'a mut ArrayViewMut2<'_, f32>, row: usize) -> &'a mut [f32] {
    array.row_mut(row).into_slice().expect(CONTIGUOUS)
}

/// Returns an error unless every row is contiguous.
fn expect_rows<S: ndarray::RawData>(
    argument: &'static str,
    array: &ndarray::ArrayBase<S, ndarray::Ix2>,
) -> Result<()> {
    // An empty array has strides of 0.
    if array.ncols() <= 1 || array.is_empty() || array.strides()[1] == 1 {
        return Ok(());
    }
    Err(Error::Layout { argument, strides: array.strides().to_vec() })
}

#[cfg(test)]
mod tests;
