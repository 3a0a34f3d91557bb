//! Limits of an argument, which leave a NaN as it is.
//!
//! x86 has an instruction for each: its minimum of two numbers is the second one if either is NaN. The
//! instructions of other processors differ, so those compare and select. Comparisons are expensive in
//! AVX-512: on Zen 4 they occupy the units of the multiply-adds, which a minimum does not.

#[cfg(target_arch = "x86_64")]
use crate::simd::avx2;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
use crate::simd::avx512;
use pulp::Simd;
#[cfg(target_arch = "x86_64")]
use pulp::bytemuck::cast;

/// Returns `limit` where `x > limit`, and `x` elsewhere.
#[inline(always)]
pub(super) fn at_most<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let limit = simd.splat_f32s(limit);
    #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
    if let Some(v4) = avx512(simd) {
        return cast(v4.avx512f._mm512_min_ps(cast(limit), cast(x)));
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = avx2(simd) {
        return cast(v3.avx._mm256_min_ps(cast(limit), cast(x)));
    }
    simd.select_f32s(simd.greater_than_f32s(x, limit), limit, x)
}

/// Returns `limit` where `x < limit`, and `x` elsewhere.
#[inline(always)]
pub(super) fn at_least<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let limit = simd.splat_f32s(limit);
    #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
    if let Some(v4) = avx512(simd) {
        return cast(v4.avx512f._mm512_max_ps(cast(limit), cast(x)));
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = avx2(simd) {
        return cast(v3.avx._mm256_max_ps(cast(limit), cast(x)));
    }
    simd.select_f32s(simd.less_than_f32s(x, limit), limit, x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::simd::lanes::{MapOp, Unary};

    #[derive(Clone, Copy)]
    struct Between(f32, f32);

    impl Unary for Between {
        #[inline(always)]
        fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
            at_least(simd, at_most(simd, x, self.1), self.0)
        }
    }

    #[test]
    fn limits_keep_nan() {
        let x = [f32::NEG_INFINITY, -2.5, -2.0, -1.0, -0.0, 0.0, 3.0, 3.5, f32::INFINITY, f32::NAN];
        let expected = [-2.0, -2.0, -2.0, -1.0, -0.0, 0.0, 3.0, 3.0, 3.0, f32::NAN];
        for set in InstructionSet::available() {
            // Twice, for whole registers of 16 lanes as well as the rest.
            let (mut out, x) = ([0.0; 20], [x, x].concat());
            set.dispatch(MapOp(&mut out, &x, Between(-2.0, 3.0)));
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&out), bits(&[expected, expected].concat()), "{set}");
        }
    }
}
