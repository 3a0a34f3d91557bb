//! The distribution function of the standard normal distribution, and its density.
//!
//! # Method
//! 1. `Φ(−a) = e^(−a²/2)·M(a)` for `a = |x|`; `M` falls smoothly from ½ to `1/(a·√2π)` (Mills' ratio).
//! 2. `M(a) = P(q)/(a + 3)`, `q = (a − 3)/(a + 3)` in [−1, 0.66], `P` a minimax polynomial of degree
//!    10 (relative error 2⁻³⁰). The map is that of Shepherd & Laframboise (1981) for `erfc`.
//! 3. `a²` is `h` and a remainder that one fused multiply-add finds; `e^(−a²/2)` is `e^(−h/2)` times 1
//!    minus half the remainder. Without it the error would grow with `a²`, to some 50 ULP.
//! 4. `Φ(x) = 1 − Φ(−x)` above 0, where nothing cancels.
//!
//! Beyond 15 `Φ(−a)` is below the least subnormal number.

use super::exp::exp;
use super::polynomial::even_odd;
use crate::simd::lane_call;
use pulp::Simd;

/// `P`, minimax for the relative error for `a` from 0 to 14.4.
const MILLS: [f32; 11] = [
    0.729_083_7,
    -0.509_332,
    0.230_017_7,
    -0.047_262_687,
    -0.010_462_523,
    0.006_969_3,
    0.001_024_792_3,
    -0.001_032_510_4,
    -0.000_244_761_47,
    0.000_131_232_77,
    0.000_054_445_68,
];
/// Largest |x| with a nonzero tail, rounded up.
pub(crate) const NORMAL_LIMIT: f32 = 15.0;
/// 1/√2π
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// `Φ(x)`, error at most [`NORMAL_CDF_MAX_ULP`](super::NORMAL_CDF_MAX_ULP), and `φ(x) = Φ′(x)`,
/// within 2 ULP where that is a normal number.
#[inline(always)]
pub(crate) fn normal_cdf_and_density<S: Simd>(simd: S, x: S::f32s) -> [S::f32s; 2] {
    lane_call!(normal_cdf_and_density_lanes(simd: S, x: S::f32s) -> [S::f32s; 2])
}

#[inline(always)]
fn normal_cdf_and_density_lanes<S: Simd>(simd: S, x: S::f32s) -> [S::f32s; 2] {
    let (one, limit) = (simd.splat_f32s(1.0), simd.splat_f32s(NORMAL_LIMIT));
    let a = simd.abs_f32s(x);
    // The comparison is false for NaN, which is kept.
    let a = simd.select_f32s(simd.greater_than_f32s(a, limit), limit, a);

    // 3.
    let h = simd.mul_f32s(a, a);
    let half = simd.splat_f32s(0.5);
    let half_rest = simd.mul_f32s(half, simd.negate_mul_add_f32s(a, a, h));
    let e = exp(simd, simd.mul_f32s(simd.splat_f32s(-0.5), h));

    // 2. One division for both q and the quotient by a + 3.
    let three = simd.splat_f32s(3.0);
    let t = simd.div_f32s(one, simd.add_f32s(a, three));
    let q = simd.mul_f32s(simd.sub_f32s(a, three), t);
    let m = simd.mul_f32s(even_odd(simd, q, simd.mul_f32s(q, q), MILLS), t);
    // 1.
    let tail = simd.mul_f32s(simd.mul_add_f32s(m, half_rest, m), e);

    // 4.
    let above = simd.greater_than_f32s(x, simd.splat_f32s(0.0));
    let cdf = simd.select_f32s(above, simd.sub_f32s(one, tail), tail);
    let peak = simd.splat_f32s(DENSITY_AT_ZERO);
    let density = simd.mul_f32s(simd.mul_add_f32s(peak, half_rest, peak), e);
    [cdf, density]
}

/// `Φ(x)`.
#[inline(always)]
pub(crate) fn normal_cdf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let [cdf, _] = normal_cdf_and_density(simd, x);
    cdf
}
