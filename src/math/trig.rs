//! Sine and cosine of an angle in turns, given as a 32-bit fraction of a turn.
//!
//! With the angle as an integer `n` (n·2⁻³² turns) the reduction to an octant is exact: no
//! value of π is involved, and no large argument exists.
//!
//! # Method
//! 1. `t = n + 2²⁹`: the two high bits of `t` are the nearest quarter turn `q`, the other 30 the
//!    distance from it plus an eighth of a turn. `r`, that distance in turns, is in [−⅛, ⅛).
//! 2. `sin 2πr = 2π·r + r³·P(r²)` and `cos 2πr = 1 + r²·Q(r²)`, with 2π as a sum of two `f32`;
//!    P and Q are minimax on [0, 1/64] (relative error of the sine below 2⁻²⁷, absolute error
//!    of the cosine below 2⁻³⁰, with the coefficients rounded to `f32` one after the other).
//! 3. In the odd quarters sine and cosine change places; the sign of the sine is bit 31 of `t`,
//!    that of the cosine bit 31 ⊕ bit 30.

use super::fixed_point::fraction;
use super::polynomial::horner;
use crate::simd::lane_call;
use pulp::Simd;

/// Bound of the absolute error of [`sincos_turns`], of either result. Over all 2³² angles the
/// worst is 6.85e-8, at n = 0x1ff8a5b0.
#[cfg(test)]
const ABSOLUTE_ERROR: f64 = 7e-8;

/// Bound of the error of [`sincos_turns`] in units in the last place of the exact result. Over
/// all 2³² angles the worst is 1.347, at n = 0x147b7d10.
#[cfg(test)]
const ULP: f64 = 1.4;

/// 2π rounded to `f32`.
const TURN: f32 = f32::from_bits(0x40c9_0fdb);
/// 2π − [`TURN`] and the coefficients of P.
const SINE: [f32; 4] = [
    f32::from_bits(0xb451_95ea),
    f32::from_bits(0xc225_5ddd),
    f32::from_bits(0x42a3_2f5f),
    f32::from_bits(0xc296_c68d),
];
/// The coefficients of Q.
const COSINE: [f32; 4] = [
    f32::from_bits(0xc19d_e9e6),
    f32::from_bits(0x4281_e0d7),
    f32::from_bits(0xc2aa_d8a4),
    f32::from_bits(0x426a_40f3),
];

/// Sine and cosine of `n·2⁻³²` turns, each within 1.4 ULP and 7e-8.
///
/// At the quarter turns the results are exactly 0 and ±1 (a zero may have either sign).
#[inline(always)]
pub(crate) fn sincos_turns<S: Simd>(simd: S, n: S::u32s) -> (S::f32s, S::f32s) {
    lane_call!(sincos_turns_lanes(simd: S, n: S::u32s) -> (S::f32s, S::f32s))
}

#[inline(always)]
fn sincos_turns_lanes<S: Simd>(simd: S, n: S::u32s) -> (S::f32s, S::f32s) {
    // 1.
    let t = simd.add_u32s(n, simd.splat_u32s(1 << 29));
    let distance = simd.and_u32s(t, simd.splat_u32s((1 << 30) - 1));
    let r = fraction(simd, distance, 0.125);

    // 2. 2π·r comes last in the sine, with the low part of 2π in the polynomial: one rounding at full
    // size.
    let square = simd.mul_f32s(r, r);
    let p = horner(simd, square, SINE);
    let sine = simd.mul_add_f32s(r, simd.splat_f32s(TURN), simd.mul_f32s(r, p));
    let q = horner(simd, square, COSINE);
    let cosine = simd.mul_add_f32s(square, q, simd.splat_f32s(1.0));

    // 3. Bit 30 alone is the float 2.0 or 0.0.
    let odd = simd.transmute_f32s_u32s(simd.and_u32s(t, simd.splat_u32s(1 << 30)));
    let even = simd.equal_f32s(odd, simd.splat_f32s(0.0));
    let sign_bit = simd.splat_u32s(1 << 31);
    let sine_sign = simd.and_u32s(t, sign_bit);
    let cosine_sign = simd.and_u32s(simd.xor_u32s(t, simd.add_u32s(t, t)), sign_bit);
    (
        flip(simd, simd.select_f32s(even, sine, cosine), sine_sign),
        flip(simd, simd.select_f32s(even, cosine, sine), cosine_sign),
    )
}

#[inline(always)]
fn flip<S: Simd>(simd: S, x: S::f32s, sign: S::u32s) -> S::f32s {
    simd.transmute_f32s_u32s(simd.xor_u32s(simd.transmute_u32s_f32s(x), sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use pulp::WithSimd;
    use std::f64::consts::TAU;

    struct SinCos<'a> {
        sine: &'a mut [f32],
        cosine: &'a mut [f32],
        n: &'a [u32],
    }

    impl WithSimd for SinCos<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let sine = S::as_mut_simd_f32s(self.sine).0;
            let cosine = S::as_mut_simd_f32s(self.cosine).0;
            for ((sine, cosine), &n) in sine.iter_mut().zip(cosine).zip(S::as_simd_u32s(self.n).0) {
                (*sine, *cosine) = sincos_turns(simd, n);
            }
        }
    }

    fn sincos(set: InstructionSet, n: &[u32]) -> [Vec<f32>; 2] {
        let (mut sine, mut cosine) = (vec![f32::NAN; n.len()], vec![f32::NAN; n.len()]);
        set.dispatch(SinCos { sine: &mut sine, cosine: &mut cosine, n });
        [sine, cosine]
    }

    /// In f64, with the same exact reduction: the reference keeps full relative accuracy near
    /// the zeros, where `sin(2π·x)` would see the rounding of its argument.
    fn reference(n: u32) -> [f64; 2] {
        let quarter = n.wrapping_add(1 << 29) >> 30;
        let r = f64::from(n.wrapping_sub(quarter << 30).cast_signed()) / 4_294_967_296.0;
        let (s, c) = (TAU * r).sin_cos();
        match quarter {
            0 => [s, c],
            1 => [c, -s],
            2 => [-s, -c],
            _ => [-c, s],
        }
    }

    /// One unit in the last place of `x` as an `f32`.
    fn ulp(x: f64) -> f64 {
        let exponent = ((x.abs().to_bits() >> 52) as i32 - 1023).max(-126);
        2.0_f64.powi(exponent - 23)
    }

    /// The largest absolute error and the largest error in ULP, each with its angle.
    fn worst(n: &[u32], results: &[Vec<f32>; 2]) -> [(f64, u32); 2] {
        let mut worst = [(0.0, 0); 2];
        for (i, &n) in n.iter().enumerate() {
            for (values, exact) in results.iter().zip(reference(n)) {
                let error = (f64::from(values[i]) - exact).abs();
                let errors =
                    if exact == 0.0 { [error, error] } else { [error, error / ulp(exact)] };
                for (worst, error) in worst.iter_mut().zip(errors) {
                    assert!(error.is_finite());
                    if error > worst.0 {
                        *worst = (error, n);
                    }
                }
            }
        }
        worst
    }

    fn check(worst: [(f64, u32); 2]) {
        let [(absolute, at), (ulps, ulps_at)] = worst;
        assert!(absolute <= ABSOLUTE_ERROR, "{absolute:e} at {at:#x}");
        assert!(ulps <= ULP, "{ulps} ULP at {ulps_at:#x}");
    }

    fn sample() -> Vec<u32> {
        let mut n: Vec<u32> = (0..1_u32 << 20).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
        // Around every eighth of a turn, and every power of two.
        for eighth in 0..8_u32 {
            n.extend((0..=64).map(|d: u32| (eighth << 29).wrapping_add(d).wrapping_sub(32)));
        }
        n.extend((0..32).flat_map(|bit| [1 << bit, (1_u32 << bit).wrapping_neg()]));
        n.resize(n.len().next_multiple_of(16), 0);
        n
    }

    #[test]
    fn errors_of_sampled_angles_are_within_the_bounds() {
        let n = sample();
        let worst = worst(&n, &sincos(InstructionSet::detect(), &n));
        println!("sincos_turns, sampled: {worst:x?}");
        check(worst);
    }

    #[test]
    fn instruction_sets_agree_to_the_bit() {
        let n = &sample()[(1 << 20) - (1 << 16)..];
        let expected = sincos(InstructionSet::SCALAR, n);
        for set in InstructionSet::available() {
            for (found, expected) in sincos(set, n).iter().zip(&expected) {
                let differs =
                    found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(differs, None, "{set}");
            }
        }
    }

    #[test]
    fn quarter_turns_are_exact() {
        let mut n = vec![0_u32; 16];
        n[..4].copy_from_slice(&[0, 1 << 30, 2 << 30, 3 << 30]);
        let [sine, cosine] = sincos(InstructionSet::detect(), &n);
        assert_eq!(sine[..4], [0.0, 1.0, 0.0, -1.0]);
        assert_eq!(cosine[..4], [1.0, 0.0, -1.0, 0.0]);
    }

    #[test]
    #[ignore = "all 2^32 angles: some minutes"]
    fn errors_of_all_angles_are_within_the_bounds() {
        let mut total = [(0.0, 0); 2];
        for block in 0..1_u32 << 12 {
            let n: Vec<u32> = (0..1 << 20).map(|i| (block << 20) | i).collect();
            let found = worst(&n, &sincos(InstructionSet::detect(), &n));
            for (total, found) in total.iter_mut().zip(found) {
                if found.0 > total.0 {
                    *total = found;
                }
            }
        }
        println!("sincos_turns, all angles: {total:x?}");
        check(total);
    }
}
