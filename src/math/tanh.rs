//! The hyperbolic tangent.
//!
//! # Method
//! With `a = |x|`; the sign of `x` is put back at the end, so the function is odd to the bit.
//!
//! 1. `a ≥ 0.55`: `tanh a = 1 − 2/(1 + e^(2a))`. The quotient is at most ½, so its error counts
//!    half or less, and the exponential needs no split constant: with `f = 2a·log₂e − n` it is
//!    `2ⁿ·2ᶠ`, `2ᶠ` a minimax polynomial of degree 6.
//! 2. `a < 0.55`: `tanh a = a + a³·T(a²)`, `T` a minimax polynomial of degree 3 (relative error
//!    of the sum 2⁻²⁴·⁷).

use super::exp::{LOG2_E, ROUND, power_of_two};
use super::limit::at_most;
use super::polynomial::even_odd;
use crate::simd::lane_call;
use pulp::Simd;

/// Boundary between the odd polynomial and the exponential.
const SPLIT: f32 = 0.55;
/// `T` of `tanh a = a + a³·T(a²)`, minimax for the relative error on [0, 0.55].
const TANH_TAIL: [f32; 4] = [-0.333_329_47, 0.133_207_25, -0.052_671_555, 0.016_436_795];
/// `q` of `2ᶠ = 1 + f·q(f)`, minimax for the relative error of `2ᶠ` on ±½.
#[allow(clippy::approx_constant, reason = "fitted coefficients, not the constants they are near")]
const EXP2_TAIL: [f32; 6] =
    [0.693_147_2, 0.240_226_48, 0.055_503_596, 0.009_618_503, 0.001_339_099_8, 0.000_153_278_3];

/// `tanh x`, error at most [`TANH_MAX_ULP`](super::TANH_MAX_ULP).
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(tanh_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn tanh_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let a = simd.abs_f32s(x);
    let one = simd.splat_f32s(1.0);

    // 2.
    let square = simd.mul_f32s(a, a);
    let cube = simd.mul_f32s(a, square);
    let fourth = simd.mul_f32s(square, square);
    let tail = even_odd(simd, square, fourth, TANH_TAIL);
    let near = simd.mul_add_f32s(cube, tail, a);

    // 1. From 10 on the result is 1.
    let v = at_most(simd, a, 10.0);
    let factor = simd.splat_f32s(2.0 * LOG2_E);
    let round = simd.splat_f32s(ROUND + 127.0);
    let t = simd.mul_add_f32s(v, factor, round);
    let n = simd.sub_f32s(t, round);
    let f = simd.mul_add_f32s(v, factor, simd.neg_f32s(n));
    let p = even_odd(simd, f, simd.mul_f32s(f, f), EXP2_TAIL);
    let p = simd.mul_add_f32s(p, f, one);
    let denominator = simd.mul_add_f32s(p, power_of_two(simd, t), one);
    let far = simd.sub_f32s(one, simd.div_f32s(simd.splat_f32s(2.0), denominator));

    // Both were computed in all lanes: a branch would cost more than the shorter of them.
    let y = simd.select_f32s(simd.less_than_f32s(a, simd.splat_f32s(SPLIT)), near, far);
    simd.or_f32s(y, simd.and_f32s(x, simd.splat_f32s(-0.0)))
}
