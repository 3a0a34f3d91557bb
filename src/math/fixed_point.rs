//! 32-bit fractions as `f32`: `n·2⁻³²` rounded once, without a conversion instruction.
//!
//! # Method
//! An `f32` whose exponent is fixed is a fixed-point number: its mantissa bits count units of
//! its last place. So the two halves of `n = 2¹⁶·h + l` are or-ed into the mantissas of
//! 1. `2⁷`, whose last place is 2⁻¹⁶: the float is `2⁷ + h·2⁻¹⁶`;
//! 2. `2⁻⁹`, whose last place is 2⁻³²: the float is `2⁻⁹ + l·2⁻³²`.
//! 3. `(first − (2⁷ + 2⁻⁹)) + second`: the difference is a multiple of 2⁻¹⁶ below 1 and exact;
//!    the sum is `n·2⁻³²`, rounded once to the nearest `f32`.

use pulp::Simd;

/// `2⁷`: the last place of its binade is worth 2⁻¹⁶.
const HIGH: u32 = 0x4300_0000;
/// `2⁻⁹`: the last place of its binade is worth 2⁻³².
const LOW: u32 = 0x3b00_0000;
/// Sum of both constants, which the result must not contain.
const BIAS: f32 = 128.0 + 1.0 / 512.0;

/// `n·2⁻³² − offset`, rounded once to nearest; in `[0, 1]` for no offset, exact if `n` has at
/// most 24 significant bits.
///
/// `offset` must be a multiple of 2⁻¹⁶ in `[0, 1]`.
#[inline(always)]
pub(crate) fn fraction<S: Simd>(simd: S, n: S::u32s, offset: f32) -> S::f32s {
    // 1.
    let high = simd.wrapping_dyn_shr_u32s(n, simd.splat_u32s(16));
    let high = simd.transmute_f32s_u32s(simd.or_u32s(high, simd.splat_u32s(HIGH)));
    // 2.
    let low = simd.and_u32s(n, simd.splat_u32s(0xffff));
    let low = simd.transmute_f32s_u32s(simd.or_u32s(low, simd.splat_u32s(LOW)));
    // 3.
    simd.add_f32s(simd.sub_f32s(high, simd.splat_f32s(BIAS + offset)), low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use pulp::WithSimd;

    struct Fractions<'a> {
        out: &'a mut [f32],
        n: &'a [u32],
        offset: f32,
    }

    impl WithSimd for Fractions<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let out = S::as_mut_simd_f32s(self.out).0;
            for (out, &n) in out.iter_mut().zip(S::as_simd_u32s(self.n).0) {
                *out = fraction(simd, n, self.offset);
            }
        }
    }

    #[test]
    fn fractions_equal_the_exact_value_rounded_once() {
        // All 16-bit halves in either place, their neighbors, and a Weyl sequence.
        let mut n: Vec<u32> =
            (0..1 << 16).flat_map(|h: u32| [h, h << 16, !h, !(h << 16)]).collect();
        n.extend((0..1_u32 << 18).map(|i| i.wrapping_mul(0x9e37_79b9)));
        for set in InstructionSet::available() {
            for offset in [0.0, 0.125] {
                let mut out = vec![f32::NAN; n.len()];
                set.dispatch(Fractions { out: &mut out, n: &n, offset });
                for (&n, &out) in n.iter().zip(&out) {
                    let exact = f64::from(n) / 4_294_967_296.0 - f64::from(offset);
                    assert_eq!(out.to_bits(), (exact as f32).to_bits(), "{set}, n={n:#x}");
                }
            }
        }
    }
}
