//! The logistic function `σ(x) = 1/(1 + e⁻ˣ)` and `softplus(x) = ln(1 + eˣ)`, its integral.
//!
//! # Method
//! Both start from `e = e^(−|x|)` in (0, 1], which they share in [`softplus_sigmoid`].
//!
//! 1. `|x| = −n·ln 2 − r`, `w = eʳ − 1` by the polynomial of [`exp`](super::exp).
//! 2. `σ(x)` is `1/(1 + e)` for `x ≥ 0` and `e/(1 + e)` below, one division of a selected
//!    numerator. Numerator, denominator and quotient round once each, and a rounding costs most
//!    where its value has a mantissa just above 1 and the quotient one just below 2. That is where
//!    `1 + e` stands for small `e`. So both are formed times `C = 15/8`, straight from `w`
//!    (`C·w + C`), which keeps the mantissas away from 1: the bound falls from 2.5 to 1.6 ULP,
//!    for one multiply-add.
//! 3. Both are also formed times 2³², so that they are normal floats for all `x`: the division
//!    rounds once where the result is subnormal.
//! 4. `ln(1 + e) = e + e²·g(e)`, `g` a minimax polynomial on [0, 1], no reduction of the range.

use super::exp::{EXP_TAIL, LN_2_HI, LN_2_LO, LOG2_E, ROUND, power_of_two};
use super::polynomial::horner;
use pulp::Simd;

/// Scale of numerator and denominator.
const C: f32 = 1.875;
/// Exponent of the second scale.
const LIFT: f32 = 32.0;
const TWO_LIFT: f32 = (1_u64 << 32) as f32;
/// `g` of `ln(1 + e) = e + e²·g(e)`, least relative error on [0, 1] (2⁻²⁴·⁸).
const LOG1P_TAIL: [f32; 8] = [
    -0.499_996_48,
    0.333_213_3,
    -0.248_572_17,
    0.191_538_48,
    -0.137_541_88,
    0.079_208_83,
    -0.030_068_3,
    0.005_365_422_5,
];

/// `(w, 2³²·2ⁿ)` with `e^(−|x|) = 2ⁿ·(1 + w)`.
#[inline(always)]
fn exp_of_minus_abs<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    // Beyond 105 every result is that of 105. The comparison is false for NaN, which stays.
    let limit = simd.splat_f32s(105.0);
    let a = simd.abs_f32s(x);
    let a = simd.select_f32s(simd.greater_than_f32s(a, limit), limit, a);

    let round = simd.splat_f32s(ROUND + 127.0 + LIFT);
    let t = simd.mul_add_f32s(a, simd.splat_f32s(-LOG2_E), round);
    let n = simd.sub_f32s(t, round);
    let r = simd.negate_mul_add_f32s(n, simd.splat_f32s(LN_2_HI), simd.neg_f32s(a));
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_LO), r);
    let p = horner(simd, r, EXP_TAIL);
    let p = simd.mul_add_f32s(p, r, simd.splat_f32s(1.0));
    (simd.mul_f32s(p, r), power_of_two(simd, t))
}

/// `σ(x)` from the parts of `e^(−|x|)`.
#[inline(always)]
fn quotient<S: Simd>(simd: S, x: S::f32s, w: S::f32s, scale: S::f32s) -> S::f32s {
    let c = simd.splat_f32s(C);
    let one = simd.splat_f32s(C * TWO_LIFT);
    let e = simd.mul_f32s(simd.mul_add_f32s(w, c, c), scale);
    let below = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    let numerator = simd.select_f32s(below, e, one);
    simd.div_f32s(numerator, simd.add_f32s(e, one))
}

/// `ln(1 + e^(−|x|))` from the parts of `e^(−|x|)`.
#[inline(always)]
fn log1p_of<S: Simd>(simd: S, w: S::f32s, scale: S::f32s) -> S::f32s {
    let lifted = simd.mul_f32s(simd.add_f32s(w, simd.splat_f32s(1.0)), scale);
    let e = simd.mul_f32s(lifted, simd.splat_f32s(1.0 / TWO_LIFT));
    let g = horner(simd, e, LOG1P_TAIL);
    simd.mul_add_f32s(simd.mul_f32s(e, e), g, e)
}

/// `σ(x) = 1/(1 + e⁻ˣ)`, error at most [`SIGMOID_MAX_ULP`](super::SIGMOID_MAX_ULP).
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (w, scale) = exp_of_minus_abs(simd, x);
    quotient(simd, x, w, scale)
}

/// `ln(1 + eˣ)`, error at most [`SOFTPLUS_MAX_ULP`](super::SOFTPLUS_MAX_ULP).
#[inline(always)]
pub(crate) fn softplus<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (w, scale) = exp_of_minus_abs(simd, x);
    let zero = simd.splat_f32s(0.0);
    let positive = simd.select_f32s(simd.greater_than_f32s(x, zero), x, zero);
    simd.add_f32s(positive, log1p_of(simd, w, scale))
}

/// `(ln(1 + e^(−|x|)), σ(x))`: what the Bernoulli loss from logits and its gradient need, for
/// one exponential. The first plus `max(x, 0)` has the bits of [`softplus`], the second those of
/// [`sigmoid`].
#[inline(always)]
pub(crate) fn softplus_sigmoid<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (w, scale) = exp_of_minus_abs(simd, x);
    (log1p_of(simd, w, scale), quotient(simd, x, w, scale))
}
