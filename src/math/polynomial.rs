//! Polynomials with constant coefficients, one register at a time.

use pulp::Simd;

/// Returns `slope·x + offset`.
#[inline(always)]
pub(crate) fn linear<S: Simd>(simd: S, slope: f32, offset: f32, x: S::f32s) -> S::f32s {
    simd.mul_add_f32s(simd.splat_f32s(slope), x, simd.splat_f32s(offset))
}

/// Returns `c[0] + x·(c[1] + x·(c[2] + …))` by Horner's rule, one fused multiply-add a coefficient.
#[inline(always)]
pub(crate) fn horner<S: Simd, const N: usize>(simd: S, x: S::f32s, c: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = simd.mul_add_f32s(sum, x, simd.splat_f32s(c[i]));
    }
    sum
}

/// Returns `c[0] + c[1]·x + c[2]·x² + …` in two chains, the even powers and the odd ones, for `square`
/// = `x²`.
///
/// The chains are half as long as Horner's, whose latency out-of-order execution cannot fully hide
/// behind the next registers: 5 to 15 % faster in the logarithms and the sigmoid.
#[inline(always)]
pub(crate) fn even_odd<S: Simd, const N: usize>(
    simd: S,
    x: S::f32s,
    square: S::f32s,
    c: [f32; N],
) -> S::f32s {
    const { assert!(N >= 2) };
    let mut chains = [simd.splat_f32s(c[N - 2]), simd.splat_f32s(c[N - 1])];
    for i in (0..N - 2).rev() {
        let chain = &mut chains[(N - i) % 2];
        *chain = simd.mul_add_f32s(*chain, square, simd.splat_f32s(c[i]));
    }
    // The parity of N decides which chain ends with c[0].
    let [even, odd] = if N.is_multiple_of(2) { chains } else { [chains[1], chains[0]] };
    simd.mul_add_f32s(odd, x, even)
}
