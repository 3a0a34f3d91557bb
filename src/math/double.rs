//! `eˣ` and `ln x` of single f64 numbers, to the same bits on every machine.
//!
//! The standard library's are those of the platform, whose last bits differ from one C library to
//! the next. A number that scales gradients or weighs samples must not, so here they are made of
//! additions, multiplications and divisions alone. They run once a row, not once an element.
//!
//! # Method
//! - `eˣ`: `x = n·ln 2 + r` with |r| ≤ ½ ln 2 and ln 2 in two parts, fourteen terms of the series of
//!   eʳ, and 2ⁿ as bits, in two steps where it would be subnormal or overflow.
//! - `ln x`: `x = 2ᵏ·m` with m in [√½, √2), `ln m = 2·artanh(s)`, s = (m−1)/(m+1), |s| < 0.172, eleven
//!   terms of its series.
//!
//! Error: 2 ULP each.

use std::f64::consts::{LOG2_E, SQRT_2};

/// ln 2 to 32 bits: times a whole number of up to eleven bits it is exact.
const LN_2_HI: f64 = 6.931_471_803_691_238e-1;
/// ln 2 − [`LN_2_HI`].
const LN_2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// `eˣ`: 0 below −745.2, ∞ above 709.8, NaN of NaN.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    // The conversion saturates; beyond ±2,000 nothing is left or everything is.
    let n = (x.clamp(-2000.0, 2000.0) * LOG2_E).round();
    let r = (x.clamp(-2000.0, 2000.0) - n * LN_2_HI) - n * LN_2_LO;
    let mut series = 1.0;
    for k in (1..=14).rev() {
        series = 1.0 + series * r / f64::from(k);
    }
    let half = (n / 2.0).floor();
    series * power_of_two(half) * power_of_two(n - half)
}

/// 2ⁿ for whole n; 0 and ∞ beyond the range of normal numbers.
fn power_of_two(n: f64) -> f64 {
    f64::from_bits(((n as i64 + 1023).clamp(0, 2047) as u64) << 52)
}

/// `ln x`: −∞ of 0, NaN below it, ∞ of ∞.
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    if x < f64::MIN_POSITIVE {
        let scale = (1_u64 << 54) as f64;
        return (ln(x * scale) - 54.0 * LN_2_LO) - 54.0 * LN_2_HI;
    }
    let bits = x.to_bits();
    let mut k = (bits >> 52) as f64 - 1023.0;
    let mut m = f64::from_bits(bits & (u64::MAX >> 12) | 1023 << 52);
    if m >= SQRT_2 {
        (m, k) = (m / 2.0, k + 1.0);
    }
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut series = 0.0;
    for n in (1..=11).rev() {
        series = square * (series + 1.0 / f64::from(2 * n + 1));
    }
    // 2s loses what m − 1 less its half square keeps: ln m = f − (f²/2 − s(f²/2 + 2·series)).
    let f = m - 1.0;
    let half_square = 0.5 * f * f;
    k * LN_2_HI + (f - (half_square - (s * (half_square + 2.0 * series) + k * LN_2_LO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, exact: f64) -> bool {
        let ulp = (exact.abs().max(f64::MIN_POSITIVE)).log2().floor() - 52.0;
        found == exact || (found - exact).abs() <= 2.0 * ulp.exp2()
    }

    #[test]
    fn the_values_of_the_standard_library() {
        for i in -100_000..=100_000 {
            let x = f64::from(i) / 141.3;
            assert!(close(exp(x), x.exp()), "exp({x}) = {:e}, {:e}", exp(x), x.exp());
            let (y, near) = ((x / 2.0).exp(), 1.0 + f64::from(i) * 3e-6);
            assert!(close(ln(y), y.ln()), "ln({y:e}) = {:e}, {:e}", ln(y), y.ln());
            assert!(close(ln(near), near.ln()), "ln({near}) = {:e}, {:e}", ln(near), near.ln());
        }
        for x in [1e-310, 5e-324, f64::MIN_POSITIVE, f64::MAX, 1.0, 2.0, 0.5] {
            assert!(close(ln(x), x.ln()), "ln({x:e})");
        }
    }

    #[test]
    fn edges() {
        assert_eq!([exp(0.0), exp(-0.0), exp(-1e300)], [1.0, 1.0, 0.0]);
        assert_eq!([exp(1e300), exp(f64::INFINITY)], [f64::INFINITY; 2]);
        assert_eq!([exp(f64::NEG_INFINITY), exp(-746.0)], [0.0; 2]);
        assert_eq!([ln(1.0), ln(0.0), ln(-0.0)], [0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        assert_eq!(ln(f64::INFINITY), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan() && ln(f64::NAN).is_nan() && ln(-1.0).is_nan());
    }
}
