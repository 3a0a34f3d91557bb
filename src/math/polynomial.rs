//! Polynomials with constant coefficients, one register at a time.

use pulp::Simd;

/// `c[0] + x·(c[1] + x·(c[2] + …))` by Horner's rule, one fused multiply-add a coefficient.
#[inline(always)]
pub(crate) fn horner<S: Simd, const N: usize>(simd: S, x: S::f32s, c: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = simd.mul_add_f32s(sum, x, simd.splat_f32s(c[i]));
    }
    sum
}
