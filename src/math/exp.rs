//! `eˣ` and `eˣ − 1`.
//!
//! # Method
//! 1. `x = n·ln 2 + r` with `n` whole and `|r| ≤ ½ ln 2`. `n` is `x·log₂e` rounded by adding and
//!    subtracting 1.5·2²³; the sum's lowest bits hold `n` as an integer, and shifted into the
//!    exponent they are `2ⁿ`.
//! 2. `ln 2` is split in two floats (Cody and Waite). `x − n·HI` is exact: both terms are
//!    multiples of 2⁻²⁵ or coarser and the difference is below ½.
//! 3. `eʳ = 1 + r·(1 + r·h(r))`, `h` a minimax polynomial of degree 4 (relative error of the sum
//!    2⁻²⁸·²).
//! 4. `eˣ = 2ⁿ·eʳ`, in two multiplications: the first is exact, the second rounds once where the
//!    result is subnormal and overflows where it should. AVX-512 has one instruction for both, which
//!    rounds once as well. On Zen 4 `exp` takes 0.68 of the time with it and without comparisons, of
//!    which the limits of `x` need none.
//!
//! `2ⁿ` multiplies `eʳ`, it is not added into its exponent: a NaN stays a NaN for free.

use super::limit::{at_least, at_most};
use super::polynomial::{even_odd, linear};
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
use crate::simd::avx512;
use crate::simd::lane_call;
use pulp::Simd;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
use pulp::bytemuck::cast;

pub(super) const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` rounded to f32.
pub(super) const LN_2_HI: f32 = std::f32::consts::LN_2;
/// `ln 2 − LN_2_HI`.
#[allow(clippy::excessive_precision, reason = "the digits of the exact constant")]
pub(super) const LN_2_LO: f32 = -1.904_654_323_148_236e-9;
/// 1.5·2²³: a float of this size has whole steps, so adding it rounds to a whole number.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Bits below the exponent.
pub(super) const MANTISSA: u32 = 23;

/// `h` of `eʳ = 1 + r + r²·h(r)`, minimax for the relative error of `eʳ` on ±½ ln 2.
pub(super) const EXP_TAIL: [f32; 5] =
    [0.499_999_94, 0.166_665_21, 0.041_668_29, 0.008_368_704, 0.001_381_893_9];
/// `q` of `eʳ − 1 = r + r²/2 + r³·q(r)`, minimax for the relative error on ±½ ln 2 (2⁻³¹).
const EXPM1_TAIL: [f32; 5] =
    [0.166_666_66, 0.041_666_493, 0.008_333_543, 0.001_393_236_5, 0.000_197_643_28];

/// Returns `2^(k + n)`, where the lowest bits of `t` hold `n + k + 127`.
#[inline(always)]
pub(super) fn power_of_two<S: Simd>(simd: S, t: S::f32s) -> S::f32s {
    let bits = simd.transmute_u32s_f32s(t);
    let shifted = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(MANTISSA));
    simd.transmute_f32s_u32s(shifted)
}

/// `eˣ`, error at most [`EXP_MAX_ULP`](super::EXP_MAX_ULP).
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(exp_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn exp_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Beyond these limits n would not fit into its bits; at them the result is 0 and ∞ already.
    let x = at_least(simd, at_most(simd, x, 89.0), -104.0);

    #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
    if let Some(v4) = avx512(simd) {
        // 4. in one instruction.
        let (_, n, p) = power_and_rest(simd, x, simd.splat_f32s(ROUND));
        let y = v4.avx512f._mm512_scalef_ps(cast(p), cast(n));
        return cast(y);
    }

    // The two factors of step 4: 2^(n−1)·2, or 2^(n+64)·2⁻⁶⁴ where 2^(n−1) would be subnormal. The
    // biased exponent of the first is part of the rounding constant.
    let tiny = simd.less_than_f32s(x, simd.splat_f32s(-86.0));
    let round = simd.select_f32s(
        tiny,
        simd.splat_f32s(ROUND + 127.0 + 64.0),
        simd.splat_f32s(ROUND + 127.0 - 1.0),
    );
    let rest = simd.select_f32s(
        tiny,
        simd.splat_f32s(1.0 / (1_u64 << 63) as f32 / 2.0),
        simd.splat_f32s(2.0),
    );
    let (t, _, p) = power_and_rest(simd, x, round);
    // 4.
    simd.mul_f32s(simd.mul_f32s(p, power_of_two(simd, t)), rest)
}

/// Steps 1 to 3: the sum of `x·log₂e` and the rounding constant, `n` and `eʳ`.
#[inline(always)]
fn power_and_rest<S: Simd>(simd: S, x: S::f32s, round: S::f32s) -> (S::f32s, S::f32s, S::f32s) {
    // 1.
    let t = simd.mul_add_f32s(x, simd.splat_f32s(LOG2_E), round);
    let n = simd.sub_f32s(t, round);
    // 2.
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_HI), x);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_LO), r);
    // 3.
    let one = simd.splat_f32s(1.0);
    let square = simd.mul_f32s(r, r);
    let h = even_odd(simd, r, square, EXP_TAIL);
    (t, n, simd.mul_add_f32s(simd.mul_add_f32s(h, r, one), r, one))
}

/// `eˣ − 1`, error at most [`EXPM1_MAX_ULP`](super::EXPM1_MAX_ULP).
///
/// With `s = 2ⁿ`, `a = x − n·HI` (exact) and `u = r²/2 + r³·q(r) − n·LO` the result is
/// `(s − 1) + s·a + s·u`. The first two are added without loss (the sum and its rounding
/// error), so that one rounding counts; everything is halved so that `n = 128` fits.
#[inline(always)]
pub(crate) fn expm1<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(expm1_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn expm1_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Beyond these limits n would not fit into its bits; at them the result is −1 and ∞ already.
    let limited = at_least(simd, at_most(simd, x, 89.0), -18.0);
    // 1. and 2., with `a` before the low part of ln 2 is taken off.
    let round = simd.splat_f32s(ROUND + 127.0 - 1.0);
    let t = simd.mul_add_f32s(limited, simd.splat_f32s(LOG2_E), round);
    let n = simd.sub_f32s(t, round);
    let a = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_HI), limited);
    let minus_lo = simd.splat_f32s(-LN_2_LO);
    let r = simd.mul_add_f32s(n, minus_lo, a);

    // 3. The terms after the linear one.
    let square = simd.mul_f32s(r, r);
    let cubic = simd.mul_f32s(even_odd(simd, r, square, EXPM1_TAIL), simd.mul_f32s(square, r));
    let u = simd.mul_add_f32s(square, simd.splat_f32s(0.5), cubic);
    let u = simd.mul_add_f32s(n, minus_lo, u);

    // Knuth's two-sum of s/2 and −½: the smaller one counts even where it is 2²⁴ times smaller.
    let half_s = power_of_two(simd, t);
    let minus_half = simd.splat_f32s(-0.5);
    let base = simd.add_f32s(half_s, minus_half);
    let rounded = simd.sub_f32s(base, half_s);
    let lost = simd.add_f32s(
        simd.sub_f32s(half_s, simd.sub_f32s(base, rounded)),
        simd.sub_f32s(minus_half, rounded),
    );
    // |base| ≥ |s·a/2|, so the difference is exact, and so is the remainder of the product.
    let sum = simd.mul_add_f32s(half_s, a, base);
    let lost = simd.add_f32s(lost, simd.mul_add_f32s(half_s, a, simd.sub_f32s(base, sum)));
    let half = simd.add_f32s(sum, simd.mul_add_f32s(half_s, u, lost));
    let y = simd.add_f32s(half, half);

    // Where x²/2 is below a quarter of an ulp the result is x: halving would lose −0 and subnormals.
    let small = simd.less_than_f32s(simd.abs_f32s(x), simd.splat_f32s(f32::EPSILON / 4.0));
    simd.select_f32s(small, x, y)
}

/// `eʳ = 1 + r + r²·(c₀ + c₁r + …)` on ±½ ln 2 to a relative 2⁻²⁸ (Remez), as [`exp_of_minus`] uses it.
const EXP_OF_MINUS: [f32; 5] =
    [0.499_999_94, 0.166_665_2, 0.041_668_39, 0.008_368_745, 0.001_381_454];
/// For this `a`, n is −127, whose exponent makes 2ⁿ zero, and so `e^{−a}`.
const EXP_OF_MINUS_LIMIT: f32 = 88.0;

/// `e^{−a}` for a ≥ 0; NaN is treated as ∞.
///
/// Half the work of a general exponential: it never overflows. Masks are expensive in AVX-512 (about
/// one operation a cycle), so the range is cut by an integer minimum.
#[inline(always)]
pub(crate) fn exp_of_minus<S: Simd>(simd: S, a: S::f32s) -> S::f32s {
    lane_call!(exp_of_minus_lanes(simd: S, a: S::f32s) -> S::f32s)
}

#[inline(always)]
fn exp_of_minus_lanes<S: Simd>(simd: S, a: S::f32s) -> S::f32s {
    let bits =
        simd.min_u32s(simd.transmute_u32s_f32s(a), simd.splat_u32s(EXP_OF_MINUS_LIMIT.to_bits()));
    let a = simd.transmute_f32s_u32s(bits);
    // −a = n·ln 2 − r. Adding 1.5·2²³ + 127 rounds n to a whole number and leaves its biased
    // exponent in the lowest bits.
    let round = simd.splat_f32s(12_582_912.0 + 127.0);
    let shifted = simd.negate_mul_add_f32s(a, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let bits = simd.transmute_u32s_f32s(shifted);
    let power = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)));
    let r = simd.mul_add_f32s(n, simd.splat_f32s(std::f32::consts::LN_2), a);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-1.904_654_3e-9), r);
    // 1 − e^{−r} = r + r²·(−c₀ + c₁r − …), in Estrin's order: the loop is bound by how long
    // operations wait for each other as much as by their number.
    let square = simd.mul_f32s(r, r);
    let c01 = linear(simd, EXP_OF_MINUS[1], -EXP_OF_MINUS[0], r);
    let c23 = linear(simd, EXP_OF_MINUS[3], -EXP_OF_MINUS[2], r);
    let c234 = simd.mul_add_f32s(simd.splat_f32s(-EXP_OF_MINUS[4]), square, c23);
    let tail = simd.mul_add_f32s(c234, square, c01);
    let fall = simd.mul_add_f32s(tail, square, r);
    simd.negate_mul_add_f32s(fall, power, power)
}
