//! Elementary functions of single f64 numbers, with the same bits on every machine: [`exp`], [`ln`],
//! [`cos_pi`] and [`powi`].
//!
//! The functions of the standard library are those of the platform, and their last bits differ between
//! C libraries and even between processors. Whatever reaches a weight, a loss or a logged number
//! therefore uses these, which consist of additions, subtractions, multiplications and divisions
//! alone. They run once per row or step, not once per element.
//!
//! # Method
//! - `eˣ`: `x = n·ln 2 + r` with |r| ≤ ½ ln 2 and ln 2 in two parts, fourteen terms of the series of
//!   eʳ, and 2ⁿ as bits, in two factors because a single one may be subnormal or overflow.
//! - `ln x`: `x = 2ᵏ·m` with m in [√½, √2), `ln m = 2·artanh(s)`, s = (m−1)/(m+1), |s| < 0.172, eleven
//!   terms of its series.
//! - `cos πx`: `x = n/2 + d` with n whole and |d| ≤ ¼, which is exact; then the series of the cosine or
//!   the sine of πd up to the 16th and 19th power, depending on the parity of n.
//! - `xⁿ`: the squares x², x⁴, x⁸, … multiplied together in ascending order.
//!
//! # Error
//! `exp`, `ln` and `cos_pi`: 2 ULP. `powi`: n·2⁻⁵³ relative, as long as no square is subnormal.

use std::f64::consts::{LOG2_E, PI, SQRT_2};

/// ln 2 to 32 bits: times a whole number of up to eleven bits it is exact.
const LN_2_HI: f64 = 6.931_471_803_691_238e-1;
/// ln 2 − [`LN_2_HI`].
const LN_2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// `eˣ`: 0 below −745.2, ∞ above 709.8; NaN gives NaN.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    // Results beyond ±2,000 are 0 and ∞ in any case, and n stays small.
    let n = (x.clamp(-2000.0, 2000.0) * LOG2_E).round();
    let r = (x.clamp(-2000.0, 2000.0) - n * LN_2_HI) - n * LN_2_LO;
    // 1 + r/1·(1 + r/2·(1 + r/3·(…)))
    let mut series = 1.0;
    for k in (1..=14).rev() {
        series = 1.0 + series * r / f64::from(k);
    }
    // 2ⁿ alone may overflow or be subnormal where the result is not.
    let half = (n / 2.0).floor();
    series * power_of_two(half) * power_of_two(n - half)
}

/// 2ⁿ for whole n; 0 and ∞ beyond the range of normal numbers.
fn power_of_two(n: f64) -> f64 {
    f64::from_bits(((n as i64 + 1023).clamp(0, 2047) as u64) << 52)
}

/// `ln x`: ±0 give −∞, negative numbers NaN, ∞ gives ∞.
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
    // Subnormal arguments are scaled into the normal range.
    if x < f64::MIN_POSITIVE {
        let scale = (1_u64 << 54) as f64;
        return (ln(x * scale) - 54.0 * LN_2_LO) - 54.0 * LN_2_HI;
    }
    // x = 2ᵏ·m
    let bits = x.to_bits();
    let mut k = (bits >> 52) as f64 - 1023.0;
    let mut m = f64::from_bits(bits & (u64::MAX >> 12) | 1023 << 52);
    if m >= SQRT_2 {
        (m, k) = (m / 2.0, k + 1.0);
    }
    // artanh s = s·(1 + s²/3 + s⁴/5 + …)
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut series = 0.0;
    for n in (1..=11).rev() {
        series = square * (series + 1.0 / f64::from(2 * n + 1));
    }
    // The sum 2s + … would round f = m − 1 too early: ln m = f − (f²/2 − s(f²/2 + 2·series)).
    let f = m - 1.0;
    let half_square = 0.5 * f * f;
    k * LN_2_HI + (f - (half_square - (s * (half_square + 2.0 * series) + k * LN_2_LO)))
}

/// `cos πx`: even, exactly 1, 0 and −1 at whole and half numbers; NaN and ±∞ give NaN.
pub(crate) fn cos_pi(x: f64) -> f64 {
    // Every step up to d is exact.
    let turned = x.abs() % 2.0;
    let n = (2.0 * turned).round();
    let d = PI * (turned - 0.5 * n);
    let (square, odd) = (d * d, n % 2.0 == 1.0);
    // 1 − d²/(1·2)·(1 − d²/(3·4)·(…)), or the same with 2·3, 4·5, … times d.
    let (first, last) = if odd { (2, 18) } else { (1, 15) };
    let mut series = 1.0;
    for k in (first..=last).rev().step_by(2) {
        series = 1.0 - series * square / f64::from(k * (k + 1));
    }
    // cos(πn/2 + d) is cos d, −sin d, −cos d, sin d for n = 0, 1, 2, 3.
    let value = if odd { d * series } else { series };
    if n == 1.0 || n == 2.0 { -value } else { value }
}

/// `xⁿ`; 1 for n = 0, whatever x is.
pub(crate) fn powi(x: f64, mut n: u64) -> f64 {
    let (mut power, mut square) = (1.0, x);
    while n > 0 {
        if n % 2 == 1 {
            power *= square;
        }
        n /= 2;
        square *= square;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::FRAC_1_SQRT_2;

    fn close(found: f64, exact: f64) -> bool {
        let ulp = (exact.abs().max(f64::MIN_POSITIVE)).log2().floor() - 52.0;
        found == exact || (found - exact).abs() <= 2.0 * ulp.exp2()
    }

    #[test]
    fn exp_and_ln_match_the_standard_library() {
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
    fn exp_and_ln_handle_special_values() {
        assert_eq!([exp(0.0), exp(-0.0), exp(-1e300)], [1.0, 1.0, 0.0]);
        assert_eq!([exp(1e300), exp(f64::INFINITY)], [f64::INFINITY; 2]);
        assert_eq!([exp(f64::NEG_INFINITY), exp(-746.0)], [0.0; 2]);
        assert_eq!([ln(1.0), ln(0.0), ln(-0.0)], [0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        assert_eq!(ln(f64::INFINITY), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan() && ln(f64::NAN).is_nan() && ln(-1.0).is_nan());
    }

    /// Exact values rounded to f64, from mpmath.
    #[test]
    fn cos_pi_matches_exact_values() {
        for (x, exact) in [
            (0.1, 0.9510565162951535),
            (0.2, 0.8090169943749475),
            (0.25, FRAC_1_SQRT_2),
            (0.3, 0.5877852522924731),
            (0.4, 0.30901699437494734),
            (0.49, 0.03141075907812832),
            (0.499999999, 3.14159273913291e-09),
            (0.5000001, -3.141592651936146e-07),
            (0.51, -0.03141075907812832),
            (0.6, -0.30901699437494734),
            (0.7, -0.587785252292473),
            (0.75, -FRAC_1_SQRT_2),
            (0.77, -0.7501110696304596),
            (0.8, -0.8090169943749475),
            (0.9, -0.9510565162951536),
            (0.999, -0.9999950652018582),
            (1e-09, 1.0),
            (0.3333333333333333, 0.5),
            (0.6666666666666666, -0.4999999999999999),
            (1.1, -0.9510565162951535),
            (1.4, -0.3090169943749477),
            (1.6, 0.3090169943749477),
            (1.75, FRAC_1_SQRT_2),
            (1.9, 0.9510565162951535),
            (123456.7, -0.587785252285076),
            (-0.3, 0.5877852522924731),
            (1000000000000000.1, 0.9238795325112867),
            (0.14285714285714285, 0.9009688679024191),
        ] {
            assert!(close(cos_pi(x), exact), "cos_pi({x}) = {:e}, {exact:e}", cos_pi(x));
        }
        for i in 0..=200_000 {
            let x = f64::from(i) / 100_000.0;
            let error = (cos_pi(x) - (PI * x).cos()).abs();
            assert!(error < 8e-16, "{x}: {error:e}"); // mostly the rounding of π·x
        }
    }

    #[test]
    fn cos_pi_is_exact_at_quarter_turns() {
        for (x, exact) in
            [(0.0, 1.0), (0.5, 0.0), (1.0, -1.0), (1.5, 0.0), (2.0, 1.0), (-1.0, -1.0)]
        {
            assert_eq!(cos_pi(x), exact);
        }
        assert_eq!([cos_pi(1e300), cos_pi(1e15 + 1.0)], [1.0, -1.0]);
        assert!(cos_pi(f64::NAN).is_nan() && cos_pi(f64::INFINITY).is_nan());
    }

    /// Exact values rounded to f64, from mpmath.
    #[test]
    fn powi_matches_exact_values() {
        for (x, n, exact) in [
            (0.9, 1, 0.9),
            (0.9, 2, 0.81),
            (0.9, 10, 0.3486784401000001),
            (0.9, 100, 2.6561398887587544e-05),
            (0.999, 1, 0.999),
            (0.999, 1000, 0.36769542477096373),
            (0.999, 100000, 3.5385276883431275e-44),
            (0.97, 37, 0.3240068320188419),
            (0.5, 1000, 9.332636185032189e-302),
            (1.0000001, 10000000, 2.7182816941320818),
            (0.999999, 1000000, 0.36787925722106646),
            (-1.1, 33, -23.22515441988787),
        ] {
            let error = (powi(x, n) / exact - 1.0).abs();
            assert!(error <= n as f64 * 2.0_f64.powi(-53), "{x}^{n}: {error:e}");
        }
        assert_eq!(
            [powi(0.0, 0), powi(3.0, 5), powi(-2.0, 3), powi(0.9, u64::MAX)],
            [1.0, 243.0, -8.0, 0.0]
        );
    }
}
