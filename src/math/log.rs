//! `ln x` and `ln(1 + x)`.
//!
//! # Method
//! 1. The argument is `2ᵏ·(1 + f)` with `1 + f` in [¾, 1½), so that `f` is exact in f32, also
//!    where the argument is a sum `1 + x` (see [`log1p`]).
//! 2. `ln(1 + f) = f − f²/2 + f³·g(f)`, `g` a minimax polynomial of degree 7 (relative error of
//!    the sum 2⁻²⁷·⁶).
//! 3. The result is `k·HI + f + (k·LO − f²/2 + f³·g(f))`, with `HI + LO = ln 2` and `HI` short
//!    enough that `k·HI` is exact. The sum of the first two is formed together with its rounding
//!    error, so that only the last addition rounds at full size. `f²/2` stays apart from `g` for
//!    the same reason: inside the polynomial its rounding would cost another 0.15 ULP.

use super::exp::MANTISSA;
use super::polynomial::even_odd;
use crate::simd::lane_call;
use pulp::Simd;

/// `ln 2` to 16 bits: times a whole number of up to eight bits it is exact.
const LN_2_SHORT: f32 = 0.693_145_75;
/// `ln 2 − LN_2_SHORT`.
const LN_2_REST: f32 = 1.428_606_8e-6;
/// `g` of `ln(1 + f) = f − f²/2 + f³·g(f)`, minimax for the relative error on [−¼, ½].
const LOG_TAIL: [f32; 8] = [
    0.333_334_5,
    -0.250_001_07,
    0.199_908_33,
    -0.166_469_32,
    0.144_779_92,
    -0.131_640_8,
    0.104_710_36,
    -0.045_133_665,
];

const EXPONENT_BITS: u32 = 0xff80_0000;
const ONE: u32 = 0x3f80_0000;
/// The bits of ¾, the lower end of the interval of `1 + f`.
const LOWEST: u32 = 0x3f40_0000;
/// Offset that makes `k` positive as an integer.
const BIAS: u32 = 192;
/// The bits of 2²³: a float with these upper bits has a whole number in the lower ones.
const WHOLE: u32 = 0x4b00_0000;

/// Splits the bits of `2ᵏ·m`, `m` in [¾, 1½): `k + BIAS` in the place of the exponent, the bits of `m`
/// minus those of ¾ below it.
#[inline(always)]
fn biased_exponent<S: Simd>(simd: S, bits: S::u32s) -> S::u32s {
    simd.add_u32s(bits, simd.splat_u32s((BIAS << MANTISSA).wrapping_sub(LOWEST)))
}

/// Returns the biased exponent as a float, minus `offset`.
#[inline(always)]
fn exponent_to_float<S: Simd>(simd: S, biased: S::u32s, offset: S::f32s) -> S::f32s {
    let k = simd.wrapping_dyn_shr_u32s(biased, simd.splat_u32s(MANTISSA));
    let k = simd.transmute_f32s_u32s(simd.or_u32s(k, simd.splat_u32s(WHOLE)));
    simd.sub_f32s(k, offset)
}

/// Returns `k·ln 2 + ln(1 + f)` (steps 2 and 3).
#[inline(always)]
fn assemble<S: Simd>(simd: S, k: S::f32s, f: S::f32s) -> S::f32s {
    // 2. All terms but f itself.
    let square = simd.mul_f32s(f, f);
    let cubic = simd.mul_f32s(even_odd(simd, f, square, LOG_TAIL), simd.mul_f32s(square, f));
    let u = simd.mul_add_f32s(square, simd.splat_f32s(-0.5), cubic);
    // 3. `lost` is the rounding error of `sum`: k·HI is exact, so the fused subtraction finds it.
    let u = simd.mul_add_f32s(k, simd.splat_f32s(LN_2_REST), u);
    let hi = simd.splat_f32s(LN_2_SHORT);
    let sum = simd.mul_add_f32s(k, hi, f);
    let lost = simd.sub_f32s(f, simd.negate_mul_add_f32s(k, hi, sum));
    simd.add_f32s(sum, simd.add_f32s(u, lost))
}

/// Replaces `y` by `x` where `x` is +∞ or NaN, by −∞ where `x` is the pole and by NaN below it.
#[inline(always)]
fn outside_domain<S: Simd>(simd: S, x: S::f32s, pole: f32, y: S::f32s) -> S::f32s {
    let pole = simd.splat_f32s(pole);
    let infinity = simd.splat_f32s(f32::INFINITY);
    let y = simd.select_f32s(simd.less_than_f32s(x, infinity), y, x);
    let at_or_below = simd.select_f32s(
        simd.equal_f32s(x, pole),
        simd.splat_f32s(f32::NEG_INFINITY),
        simd.splat_f32s(f32::NAN),
    );
    simd.select_f32s(simd.less_than_or_equal_f32s(x, pole), at_or_below, y)
}

/// `ln x`, error at most [`LOG_MAX_ULP`](super::LOG_MAX_ULP).
#[inline(always)]
pub(crate) fn log<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(log_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn log_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // 1. Subnormal arguments are scaled by 2²³, which the offset of the exponent takes back.
    let subnormal = simd.less_than_f32s(x, simd.splat_f32s(f32::MIN_POSITIVE));
    let scaled = simd.mul_f32s(x, simd.splat_f32s((1 << MANTISSA) as f32));
    let offset = (1_u32 << MANTISSA) + BIAS;
    let offset = simd.select_f32s(
        subnormal,
        simd.splat_f32s((offset + MANTISSA) as f32),
        simd.splat_f32s(offset as f32),
    );
    let bits = simd.transmute_u32s_f32s(simd.select_f32s(subnormal, scaled, x));
    let biased = biased_exponent(simd, bits);
    let k = exponent_to_float(simd, biased, offset);
    let mantissa = simd.and_u32s(biased, simd.splat_u32s(!EXPONENT_BITS));
    let m = simd.transmute_f32s_u32s(simd.add_u32s(mantissa, simd.splat_u32s(LOWEST)));
    let f = simd.sub_f32s(m, simd.splat_f32s(1.0));
    outside_domain(simd, x, 0.0, assemble(simd, k, f))
}

/// `ln(1 + x)`, error at most [`LOG1P_MAX_ULP`](super::LOG1P_MAX_ULP).
///
/// The rounded sum `1 + x` decides `k` alone. `f = 2⁻ᵏ·x + (2⁻ᵏ − 1)` is one fused multiply-add
/// of `x` itself, and exact: with `1 + f` in [¾, 1½) its bits are no finer than 2⁻²⁴ for `k > 0`
/// and than those of `x` for `k ≤ 0`. (From `k = 25` on 2⁻ᵏ is lost in the constant; there the
/// result is above 17.)
#[inline(always)]
pub(crate) fn log1p<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    lane_call!(log1p_lanes(simd: S, x: S::f32s) -> S::f32s)
}

#[inline(always)]
fn log1p_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // 1. k of the rounded sum.
    let u = simd.add_f32s(x, simd.splat_f32s(1.0));
    let biased = biased_exponent(simd, simd.transmute_u32s_f32s(u));
    let k = exponent_to_float(simd, biased, simd.splat_f32s(((1_u32 << MANTISSA) + BIAS) as f32));

    // f, from 4·2⁻ᵏ and x/4: 2⁻ᵏ itself would be subnormal for the largest x.
    let exponent = simd.and_u32s(biased, simd.splat_u32s(EXPONENT_BITS));
    let four = ONE.wrapping_add((BIAS + 2) << MANTISSA);
    let scale = simd.transmute_f32s_u32s(simd.sub_u32s(simd.splat_u32s(four), exponent));
    let quarter = simd.splat_f32s(0.25);
    let constant = simd.mul_add_f32s(scale, quarter, simd.splat_f32s(-1.0));
    let f = simd.mul_add_f32s(scale, simd.mul_f32s(x, quarter), constant);
    let y = assemble(simd, k, f);

    // Where x²/2 is below a quarter of an ulp the result is x: the division by 4 would lose −0 and
    // subnormals.
    let small = simd.less_than_f32s(simd.abs_f32s(x), simd.splat_f32s(f32::EPSILON / 4.0));
    outside_domain(simd, x, -1.0, simd.select_f32s(small, x, y))
}
