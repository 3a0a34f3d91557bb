//! Layer normalization: each row to mean 0 and variance 1, then a gain and a shift for each column.
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
//! As `torch.nn.LayerNorm` with its default ε; the variance is that of the row itself (divided by H).
//!
//! # Derivation
//! With `g_i = dy_i·γ_i`, the gradient of x̂. mean and s depend on all of x:
//!
//! ```text
//! ∂x̂_i/∂x_j = s·(δ_ij − 1/H − x̂_i·x̂_j/H)
//! dx_j = s·(g_j − Σ_i g_i/H − x̂_j·Σ_i g_i·x̂_i/H)
//! dγ_i = Σ_rows dy_i·x̂_i          dβ_i = Σ_rows dy_i
//! ```
//!
//! The backward pass needs x̂, γ and s, which the forward pass leaves behind.
//!
//! # Method
//! 1. Row sums over canonical lanes ([`simd`](crate::simd)), their totals in f64; mean and s are
//!    formed in f64 and rounded to f32.
//! 2. The variance from the differences, in a second pass: no cancellation for a row far from 0.
//! 3. Gradients of γ and β are left row by row, to be summed over rows in whatever order the caller
//!    answers for; [`backward`] adds rows in their order in f64.
//!
//! # Contract
//! x̂ is within `2⁻²²·(1 + |x̂|)·(1 + |mean|·s)`, y within that times |γ| and 2⁻²⁴·|y|; `dx` within
//! `2⁻²⁰·s·max|g|`. A row of equal elements gives x̂ = 0 (to the rounding of its mean). NaN or ±∞ in a
//! row make the whole row NaN.
//!
//! Source: Ba, Kiros & Hinton, "Layer Normalization" (2016).

use crate::compute::Compute;
use crate::error::{Error, Result, expect_length, expect_shape};
use crate::simd::lanes::{F32x16, Lanewise, groups, zip};
use crate::simd::sum::LaneSum;
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};

/// Added to the variance.
pub const EPSILON: f64 = 1e-5;

/// A term of a sum over a row, from `N` slices.
trait RowTerm<const N: usize>: Copy {
    fn term<S: Simd>(self, simd: S, x: [S::f32s; N]) -> S::f32s;
}

/// The sum over a row; the slices have one length.
#[inline(always)]
fn sum_row<S: Simd, const N: usize>(simd: S, slices: [&[f32]; N], term: impl RowTerm<N>) -> f64 {
    let mut sum = LaneSum::new(simd);
    let halves = slices.map(groups);
    for g in 0..halves[0].0.len() {
        let mut loaded = [F32x16::splat(simd, 0.0); N];
        for (loaded, (whole, _)) in loaded.iter_mut().zip(&halves) {
            *loaded = F32x16::load(simd, &whole[g]);
        }
        sum.add(simd, terms(simd, loaded, term));
    }
    let rest = halves[0].1.len();
    if rest > 0 {
        let mut loaded = [F32x16::splat(simd, 0.0); N];
        for (loaded, (_, tail)) in loaded.iter_mut().zip(&halves) {
            *loaded = F32x16::load_tail(simd, tail);
        }
        sum.add(simd, terms(simd, loaded, term).first(simd, rest));
    }
    sum.total(simd)
}

#[inline(always)]
fn terms<S: Simd, const N: usize>(
    simd: S,
    loaded: [F32x16<S>; N],
    term: impl RowTerm<N>,
) -> F32x16<S> {
    let mut out = F32x16::splat(simd, 0.0);
    for v in 0..F32x16::<S>::VECTORS {
        let mut x = [simd.splat_f32s(0.0); N];
        for (x, loaded) in x.iter_mut().zip(&loaded) {
            *x = loaded.0[v];
        }
        out.0[v] = term.term(simd, x);
    }
    out
}

#[derive(Clone, Copy)]
struct Itself;

impl RowTerm<1> for Itself {
    #[inline(always)]
    fn term<S: Simd>(self, _: S, [x]: [S::f32s; 1]) -> S::f32s {
        x
    }
}

#[derive(Clone, Copy)]
struct SquaredDistance(f32);

impl RowTerm<1> for SquaredDistance {
    #[inline(always)]
    fn term<S: Simd>(self, simd: S, [x]: [S::f32s; 1]) -> S::f32s {
        let d = simd.sub_f32s(x, simd.splat_f32s(self.0));
        simd.mul_f32s(d, d)
    }
}

#[derive(Clone, Copy)]
struct Times;

impl RowTerm<2> for Times {
    #[inline(always)]
    fn term<S: Simd>(self, simd: S, [a, b]: [S::f32s; 2]) -> S::f32s {
        simd.mul_f32s(a, b)
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
        let centered = simd.sub_f32s(x, simd.splat_f32s(self.mean));
        let normalized = simd.mul_f32s(centered, simd.splat_f32s(self.inverse_std));
        [simd.mul_add_f32s(gain, normalized, shift), normalized]
    }
}

/// `[g, dy·x̂, dy]` from `[dy, _, _]`, x̂ and gain.
#[derive(Clone, Copy)]
struct Weigh;

impl Lanewise<3, 2> for Weigh {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [dy, _, _]: [S::f32s; 3],
        [normalized, gain]: [S::f32s; 2],
    ) -> [S::f32s; 3] {
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
        let centered = simd.sub_f32s(g, simd.splat_f32s(self.mean));
        let along = simd.splat_f32s(self.along);
        let rest = simd.negate_mul_add_f32s(normalized, along, centered);
        [simd.mul_f32s(rest, simd.splat_f32s(self.inverse_std))]
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
    struct Op<'a>([&'a mut [f32]; 2], [&'a [f32]; 2]);
    impl WithSimd for Op<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let Self([y, normalized], parameters) = self;
            let columns = y.len() as f64;
            let mean = (sum_row(simd, [y], Itself) / columns) as f32;
            let variance = sum_row(simd, [y], SquaredDistance(mean)) / columns;
            let inverse_std = (1.0 / (variance + EPSILON).sqrt()) as f32;
            zip(simd, [y, normalized], parameters, Normalize { mean, inverse_std });
            inverse_std
        }
    }
    simd.vectorize(Op([y, normalized], [gain, shift]))
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
    struct Op<'a>([&'a mut [f32]; 3], [&'a [f32]; 2], f32);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self([d, dgain, dshift], [normalized, gain], inverse_std) = self;
            let columns = d.len() as f64;
            zip(simd, [&mut *d, dgain, dshift], [normalized, gain], Weigh);
            let mean = (sum_row(simd, [d], Itself) / columns) as f32;
            let along = (sum_row(simd, [d, normalized], Times) / columns) as f32;
            zip(simd, [d], [normalized], Project { mean, along, inverse_std });
        }
    }
    simd.vectorize(Op([d, dgain, dshift], [normalized, gain], inverse_std));
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
/// [`Error::Shape`] if shapes or lengths do not fit, [`Error::Layout`] if rows are not contiguous.
pub fn forward(
    compute: &Compute,
    mut y: ArrayViewMut2<'_, f32>,
    mut normalized: ArrayViewMut2<'_, f32>,
    inverse_std: &mut [f32],
    x: ArrayView2<'_, f32>,
    gain: &[f32],
    shift: &[f32],
) -> Result<()> {
    struct Op<'a>([ArrayViewMut2<'a, f32>; 2], &'a mut [f32], [&'a [f32]; 2]);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self([mut y, mut normalized], inverse_std, [gain, shift]) = self;
            for (i, inverse_std) in inverse_std.iter_mut().enumerate() {
                let (mut y, mut normalized) = (y.row_mut(i), normalized.row_mut(i));
                let y = y.as_slice_mut().expect("the layout was checked");
                let normalized = normalized.as_slice_mut().expect("the layout was checked");
                *inverse_std = forward_row(simd, y, normalized, gain, shift);
            }
        }
    }
    let (rows, columns) = x.dim();
    expect_shape("y", [rows, columns], y.shape())?;
    expect_shape("normalized", [rows, columns], normalized.shape())?;
    expect_length("inverse_std", rows, inverse_std.len())?;
    expect_length("gain", columns, gain.len())?;
    expect_length("shift", columns, shift.len())?;
    expect_rows("y", &y)?;
    expect_rows("normalized", &normalized)?;
    y.assign(&x);
    let outputs = [y.view_mut(), normalized.view_mut()];
    compute.simd().dispatch(Op(outputs, inverse_std, [gain, shift]));
    Ok(())
}

/// Overwrites `dx`, `dgain` and `dshift` with the gradients of x, gain and shift, from that of y and
/// what [`forward`] left; the latter two are summed over the rows, in f64.
///
/// # Errors
/// [`Error::Shape`] if shapes or lengths do not fit, [`Error::Layout`] if rows are not contiguous.
pub fn backward(
    compute: &Compute,
    mut dx: ArrayViewMut2<'_, f32>,
    dgain: &mut [f32],
    dshift: &mut [f32],
    dy: ArrayView2<'_, f32>,
    normalized: ArrayView2<'_, f32>,
    inverse_std: &[f32],
    gain: &[f32],
) -> Result<()> {
    struct Op<'a>([&'a mut [f32]; 3], [&'a [f32]; 2], f32);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self([d, dgain, dshift], [normalized, gain], inverse_std) = self;
            backward_row(simd, d, dgain, dshift, normalized, gain, inverse_std);
        }
    }
    let (rows, columns) = dy.dim();
    expect_shape("dx", [rows, columns], dx.shape())?;
    expect_shape("normalized", [rows, columns], normalized.shape())?;
    expect_length("inverse_std", rows, inverse_std.len())?;
    for (argument, found) in [("dgain", &*dgain), ("dshift", &*dshift), ("gain", gain)] {
        expect_length(argument, columns, found.len())?;
    }
    expect_rows("dx", &dx)?;
    expect_rows("normalized", &normalized)?;
    dx.assign(&dy);
    let mut sums = vec![[0.0_f64; 2]; columns];
    for (i, &inverse_std) in inverse_std.iter().enumerate() {
        let (mut d, normalized) = (dx.row_mut(i), normalized.row(i));
        let d = d.as_slice_mut().expect("the layout was checked");
        let normalized = normalized.to_slice().expect("the layout was checked");
        let outputs = [d, &mut *dgain, &mut *dshift];
        compute.simd().dispatch(Op(outputs, [normalized, gain], inverse_std));
        for ((sums, &dgain), &dshift) in sums.iter_mut().zip(&*dgain).zip(&*dshift) {
            sums[0] += f64::from(dgain);
            sums[1] += f64::from(dshift);
        }
    }
    for ((sums, dgain), dshift) in sums.iter().zip(dgain).zip(dshift) {
        [*dgain, *dshift] = sums.map(|sum| sum as f32);
    }
    Ok(())
}

/// Fails unless every row is contiguous.
fn expect_rows<S: ndarray::RawData>(
    argument: &'static str,
    array: &ndarray::ArrayBase<S, ndarray::Ix2>,
) -> Result<()> {
    if array.ncols() <= 1 || array.strides()[1] == 1 {
        return Ok(());
    }
    Err(Error::Layout { argument, strides: array.strides().to_vec() })
}

#[cfg(test)]
mod tests;
