//! The logistic function `σ(x) = 1/(1 + e⁻ˣ)` and `softplus(x) = ln(1 + eˣ)`, its integral.
//!
//! # Method
//! Both start from `e = e^(−|x|)` in (0, 1].
//!
//! 1. `|x| = −n·ln 2 − r`, `w = eʳ − 1` by the polynomial of [`exp`](super::exp).
//! 2. `σ(x)` is `1/(1 + e)` for `x ≥ 0` and `e/(1 + e)` below, one division of a selected
//!    numerator. Numerator, denominator and quotient round once each, and a rounding costs most
//!    where its value has a mantissa just above 1 and the quotient one just below 2. Unscaled,
//!    numerator and denominator have such mantissas together for small `e` (2.5 ULP by analysis, above
//!    2 in fact). Both are therefore computed times `C = 3/2`, directly from `w` (`C·w + C`), so that
//!    this cannot happen; among the multiples of 1/256 this factor has the smallest bound.
//! 3. Both also carry a factor of 2³², so that they are normal floats for all `x` and the division
//!    rounds once where the result is subnormal.
//! 4. `ln(1 + e) = e + e²·g(e)`, `g` a minimax polynomial on [0, 1], no reduction of the range.

use super::exp::{EXP_TAIL, LN_2_HI, LN_2_LO, LOG2_E, ROUND, power_of_two};
use super::limit::at_most;
use super::polynomial::{even_odd, horner};
use crate::simd::lane_call;
use pulp::Simd;

/// Scale of numerator and denominator (step 2).
const C: f32 = 1.5;
/// Exponent of the second scale (step 3).
const LIFT: f32 = 32.0;
const TWO_LIFT: f32 = (1_u64 << 32) as f32;
/// `g` of `ln(1 + e) = e + e²·g(e)`, minimax for the relative error on [0, 1] (2⁻²⁷·⁵).
const LOG1P_TAIL: [f32; 9] = [
    -0.499_999_3,
    0.333_304_64,
    -0.249_580_2,
    0.196_921_21,
    -0.153_449_77,
    0.106_613_71,
    -0.057_460_483,
    0.020_088_46,
    -0.003_291_074_2,
];

/// `e^(−|x|) = 2ⁿ·(1 + w)`, in parts.
struct Exponential<S: Simd> {
    w: S::f32s,
    /// 2³²·2ⁿ
    scale: S::f32s,
}

impl<S: Simd> Exponential<S> {
    #[inline(always)]
    fn of_minus_abs(simd: S, x: S::f32s) -> Self {
        // −|x|. Above the limit n would not fit into its bits; at it the functions are 0 already.
        let x = simd.neg_f32s(at_most(simd, simd.abs_f32s(x), 105.0));
        // 1. The scale of step 3 is part of the rounding constant.
        let round = simd.splat_f32s(ROUND + 127.0 + LIFT);
        let t = simd.mul_add_f32s(x, simd.splat_f32s(LOG2_E), round);
        let n = simd.sub_f32s(t, round);
        let a = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_HI), x);
        let b = simd.mul_f32s(n, simd.splat_f32s(-LN_2_LO));
        let r = simd.add_f32s(a, b);
        let square = simd.mul_f32s(r, r);
        let h = even_odd(simd, r, square, EXP_TAIL);
        Self {
            // a instead of r: with the rounding of r the sigmoid would have 2.05 ULP instead of 1.98.
            w: simd.add_f32s(a, simd.mul_add_f32s(h, square, b)),
            scale: power_of_two(simd, t),
        }
    }

    /// Returns `c·2³²·e^(−|x|)`.
    #[inline(always)]
    fn times(&self, simd: S, c: f32) -> S::f32s {
        let c = simd.splat_f32s(c);
        simd.mul_f32s(simd.mul_add_f32s(self.w, c, c), self.scale)
    }

    /// `σ(x)`.
    #[inline(always)]
    fn sigmoid(&self, simd: S, x: S::f32s) -> S::f32s {
        // 2. and 3.
        let e = self.times(simd, C);
        let one = simd.splat_f32s(C * TWO_LIFT);
        let below = simd.less_than_f32s(x, simd.splat_f32s(0.0));
        let numerator = simd.select_f32s(below, e, one);
        simd.div_f32s(numerator, simd.add_f32s(e, one))
    }

    /// `ln(1 + e^(−|x|))`.
    #[inline(always)]
    fn log1p(&self, simd: S) -> S::f32s {
        // 4. Horner's rule in spite of its long chain: the coefficients alternate in sign, so the sums
        // over even and odd powers are larger than the result and so are their roundings (2.3 ULP).
        let e = self.times(simd, 1.0 / TWO_LIFT);
        let g = horner(simd, e, LOG1P_TAIL);
        simd.mul_add_f32s(simd.mul_f32s(e, e), g, e)
    }
}

/// `σ(x) = 1/(1 + e⁻ˣ)`, error at most [`SIGMOID_MAX_ULP`](super::SIGMOID_MAX_ULP).
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(sigmoid_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn sigmoid_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    Exponential::of_minus_abs(simd, x).sigmoid(simd, x)
}

/// `ln(1 + eˣ)`, error at most [`SOFTPLUS_MAX_ULP`](super::SOFTPLUS_MAX_ULP).
#[inline(always)]
pub(crate) fn softplus<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(softplus_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn softplus_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let positive = simd.select_f32s(simd.greater_than_f32s(x, zero), x, zero);
    simd.add_f32s(Exponential::of_minus_abs(simd, x).log1p(simd), positive)
}
