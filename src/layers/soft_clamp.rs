//! Soft clamp: a smooth map of all numbers into an interval.
//!
//! For an interval with middle m and half length h:
//!
//! ```text
//! y  = m + h·tanh((x − m)/h)
//! dx = dy·(1 − tanh²((x − m)/h))
//! ```
//!
//! Near the middle y is about x. At x = m ± h, y is 76 % of the way to the bound and the slope is 0.42; at
//! m ± 3h the slope is 0.01, and from about m ± 9h on it is 0. Applied to logvar it keeps e^logvar from
//! overflowing, whatever the weights are
//! ([`ConfigBuilder::logvar_clamp`](crate::vae::ConfigBuilder::logvar_clamp)).
//!
//! # Error
//! tanh is within 2 ULP, and its argument and y round three times more: the error of y is within
//! 4·2⁻²⁴·(|m| + h), that of the slope within 1e-6 + 4·2⁻²⁴·(|m|/h + 1). Over all 2³² arguments and the interval
//! [−6, 2] the largest errors are 0.374 of the first bound, at −4.2081413, and 1.53e-7, at 0.21460974. y stays
//! inside the interval up to one rounding. NaN gives NaN.

use crate::error::{Error, Result, expect_length};
use crate::math::tanh::tanh;
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, ZipOp, zip};
use pulp::Simd;

/// Largest magnitude of a bound. Where x − m is beyond f32, x is then so far out that y is the bound.
const LARGEST_BOUND: f32 = 1e37;

/// `[y, dy/dx]` from `[x, _]`.
#[derive(Clone, Copy)]
struct SoftClamp {
    middle: f32,
    half: f32,
}

impl SoftClamp {
    fn new([low, high]: [f32; 2]) -> Self {
        Self { middle: 0.5 * (low + high), half: 0.5 * (high - low) }
    }
}

impl Lanewise<2, 0> for SoftClamp {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x, _]: [S::f32s; 2], _: [S::f32s; 0]) -> [S::f32s; 2] {
        let (middle, half) = (simd.splat_f32s(self.middle), simd.splat_f32s(self.half));
        // y = m + h·tanh((x − m)/h): a division, since h·(1/h) would round to another number.
        let bent = tanh(simd, simd.div_f32s(simd.sub_f32s(x, middle), half));
        // 1 − tanh² in one rounding: it stays at 0 or above, because |tanh| ≤ 1.
        let slope = simd.mul_add_f32s(simd.neg_f32s(bent), bent, simd.splat_f32s(1.0));
        // h·tanh + m in one rounding: at |tanh| = 1 it is the bound itself.
        [simd.mul_add_f32s(half, bent, middle), slope]
    }
}

/// Replaces `y` (x before) and overwrites `slope` with dy/dx.
#[inline(always)]
pub(crate) fn forward_row<S: Simd>(simd: S, y: &mut [f32], slope: &mut [f32], bounds: [f32; 2]) {
    zip(simd, [y, slope], [], SoftClamp::new(bounds));
}

/// Overwrites `y` with x mapped into the interval of the two bounds, and `slope` with dy/dx. The backward
/// pass is `dx = dy·slope`.
///
/// ```
/// use elbo::{layers::soft_clamp, simd::InstructionSet};
///
/// let (mut y, mut slope) = ([f32::NAN; 3], [f32::NAN; 3]);
/// let x = [0.0, 3.0, 1e6];
/// soft_clamp::forward(InstructionSet::detect(), &mut y, &mut slope, &x, [-10.0, 10.0])?;
/// assert_eq!((y[0], slope[0]), (0.0, 1.0));
/// assert!((y[1] - 10.0 * 0.3_f32.tanh()).abs() < 1e-6);
/// assert_eq!((y[2], slope[2]), (10.0, 0.0));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the lengths differ, [`Error::Config`] if the bounds are not in ascending order or
/// beyond ±1e37.
pub fn forward(
    simd: InstructionSet,
    y: &mut [f32],
    slope: &mut [f32],
    x: &[f32],
    bounds: [f32; 2],
) -> Result<()> {
    let [low, high] = bounds;
    if !(low >= -LARGEST_BOUND && low < high && high <= LARGEST_BOUND) {
        let found = format!("{low} and {high}");
        let expected = "two numbers from -1e37 to 1e37 in ascending order";
        return Err(Error::config("bounds", expected, found));
    }
    expect_length("slope", y.len(), slope.len())?;
    expect_length("x", y.len(), x.len())?;
    y.copy_from_slice(x);
    simd.dispatch(ZipOp([y, slope], [], SoftClamp::new(bounds)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_and_slope_match_the_formula() {
        let x: Vec<f32> = (-400..=400).map(|i| i as f32 / 10.0).collect();
        for (bounds, m, h) in [([-10.0, 10.0], 0.0, 10.0), ([-6.0_f32, 2.0], -2.0_f64, 4.0_f64)] {
            let mut first = None;
            for simd in InstructionSet::available() {
                let (mut y, mut slope) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                forward(simd, &mut y, &mut slope, &x, bounds).unwrap();
                for ((&x, &y), &slope) in x.iter().zip(&y).zip(&slope) {
                    let bent = ((f64::from(x) - m) / h).tanh();
                    let bound = 4.0 / 16_777_216.0 * (m.abs() + h);
                    assert!((f64::from(y) - (m + h * bent)).abs() <= bound, "{simd}, {x}: {y}");
                    assert!((f64::from(slope) - (1.0 - bent * bent)).abs() <= 1e-6, "{simd}, {x}");
                }
                let bits: Vec<u32> = y.iter().chain(&slope).map(|v| v.to_bits()).collect();
                assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{simd}");
            }
        }
    }

    #[test]
    fn error_bound_holds_up_to_the_largest_bounds_and_numbers() {
        let x = [f32::MIN, -1e37, -1.0, 0.0, 1e-40, 1.0, 1e37, f32::MAX];
        for simd in InstructionSet::available() {
            for bounds in
                [[-1e37, 1e37], [9e36, 1e37], [-1e37, 0.0], [0.0, 1e-30], [-1e37, -9.9e36]]
            {
                let (mut y, mut slope) = ([f32::NAN; 8], [f32::NAN; 8]);
                forward(simd, &mut y, &mut slope, &x, bounds).unwrap();
                let [low, high] = bounds.map(f64::from);
                let (m, h) = (0.5 * (low + high), 0.5 * (high - low));
                for ((&x, &y), &slope) in x.iter().zip(&y).zip(&slope) {
                    let bent = ((f64::from(x) - m) / h).tanh();
                    let bound = 4.0 / 16_777_216.0 * (m.abs() + h);
                    assert!((f64::from(y) - (m + h * bent)).abs() <= bound, "{bounds:?} {x}: {y}");
                    // A middle that is rounded moves the argument by as much, in units of h.
                    let error = (f64::from(slope) - (1.0 - bent * bent)).abs();
                    assert!(error <= 1e-6 + bound / h, "{bounds:?} {x}: {slope}");
                }
            }
        }
    }

    #[test]
    fn handles_infinities_and_rejects_invalid_bounds() {
        let (mut y, mut slope) = ([0.0; 3], [0.0; 3]);
        let x = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let simd = InstructionSet::detect();
        forward(simd, &mut y, &mut slope, &x, [-8.0, 4.0]).unwrap();
        assert_eq!((y[0], y[1]), (4.0, -8.0));
        assert!(y[2].is_nan() && slope[2].is_nan());
        for bounds in [
            [1.0, 1.0],
            [2.0, 1.0],
            [f32::NAN, 1.0],
            [0.0, f32::INFINITY],
            [-3e38, 3e38],
            [0.0, 1.1e37],
        ] {
            let error = forward(simd, &mut [0.0], &mut [0.0], &[0.0], bounds).unwrap_err();
            assert!(error.to_string().starts_with("`bounds`"), "{error}");
        }
    }
}
