//! KL divergence of a diagonal Gaussian from a normal prior.
//!
//! For one latent dimension with mean `μ`, log-variance `v` and so σ = e^{v/2}:
//!
//! ```text
//! KL(N(μ, σ²) ‖ N(0, 1)) = ½(μ² + expm1(v) − v)  =  −½(1 + v − e^v − μ²)
//! dmu     = μ
//! dlogvar = ½·expm1(v)
//!
//! KL(N(μ, σ²) ‖ N(m, s²)) = ½((μ−m)²/s² + expm1(u) − u),  u = v − ln s²
//!                         = ½(σ²/s² + (μ−m)²/s² − 1) − ln(σ/s)
//! dmu     = (μ−m)/s²
//! dlogvar = ½·expm1(u)  =  ½(σ²/s² − 1)
//! ```
//!
//! The two forms are the same number; the one with `expm1` does not subtract 1 from a number
//! near 1. Values: KL(μ=0, σ=1) = 0, KL(1.5, 1) = 1.125, KL(0, 2) = 0.80685, KL(0, 0.1) = 1.80759.
//!
//! # Derivation
//! KL = E[ln q(z) − ln p(z)] with ln q = −½(v + (z−μ)²/σ² + ln 2π) and ln p = −½(z² + ln 2π). Under q
//! the mean of (z−μ)²/σ² is 1 and that of z² is μ² + σ²: KL = ½(μ² + e^v − 1 − v). Another prior
//! is the same in units of s about m: μ becomes (μ−m)/s, v becomes u.
//!
//! # Method
//! 1. For |v| ≥ 1, `expm1(v) − v` as it stands loses at most two bits.
//! 2. For |v| < 1 it is v²·(1/2! + v/3! + v²/4! + …), ten terms, the next one below 2⁻²⁷ of the
//!    sum: a posterior that has nearly collapsed onto the prior keeps its last digits, though its
//!    KL is v²/4 + μ²/2.
//! 3. Where e^v overflows the value is +∞, and v = +∞ does not subtract ∞ from ∞.
//!
//! # Contract, of every function here
//! - Each element is within 3 ULP, `dmu` (before scaling) exact, `dlogvar` within 1 ULP.
//! - Under a prior N(m, s²) with s ≠ 1 the numbers 1/s² and ln s² are rounded to f32 and then exact:
//!   each element is within 3 + |u| ULP, `dmu` within 2, `dlogvar` within 2 + |u| (u is rounded
//!   before it is an exponent).
//! - μ = ±∞ or v = ±∞ give +∞; so do |μ| > 1.8e19 and v > 88.72, where f32 overflows. NaN gives NaN
//!   for the total and for its own gradients. −0 is as 0.
//!
//! Source: Kingma & Welling, "Auto-Encoding Variational Bayes" (2013), appendix B.

mod prior;

pub(crate) use prior::NormalKl;
pub use prior::Prior;

use super::Reduction;
use super::batch::TermRows;
use super::row_sums::row_sums;
use super::term::{Range, Term, ValueOf};
use crate::error::expect_length;
use crate::math::exp::expm1;
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, zip};
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};

/// The term: inputs μ and v, gradients with respect to both.
#[derive(Clone, Copy)]
pub(crate) struct StandardNormalKl;

impl Term<2, 2> for StandardNormalKl {
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [mu, logvar]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 2]) {
        let half = simd.splat_f32s(0.5);
        let expm1_v = expm1(simd, logvar);
        let spread = expm1_less_argument(simd, logvar, expm1_v);
        let kl = simd.mul_f32s(half, simd.mul_add_f32s(mu, mu, spread));
        (kl, [mu, simd.mul_f32s(half, expm1_v)])
    }
}

/// 1/2!, 1/3!, … 1/11!: the series of (e^v − 1 − v)/v².
const SERIES: [f32; 10] = {
    let mut terms = [0.0; 10];
    let (mut factorial, mut n) = (1.0_f64, 0);
    while n < 10 {
        factorial *= (n + 2) as f64;
        terms[n] = (1.0 / factorial) as f32;
        n += 1;
    }
    terms
};

/// `expm1(v) − v`, which is never negative, to the last digits also near v = 0.
#[inline(always)]
fn expm1_less_argument<S: Simd>(simd: S, v: S::f32s, expm1_v: S::f32s) -> S::f32s {
    let mut series = simd.splat_f32s(SERIES[9]);
    for n in (0..9).rev() {
        series = simd.mul_add_f32s(series, v, simd.splat_f32s(SERIES[n]));
    }
    let near = simd.mul_f32s(simd.mul_f32s(v, v), series);
    let far = simd.sub_f32s(expm1_v, v);
    let infinity = simd.splat_f32s(f32::INFINITY);
    let far = simd.select_f32s(simd.equal_f32s(expm1_v, infinity), infinity, far);
    let is_near = simd.less_than_f32s(simd.abs_f32s(v), simd.splat_f32s(1.0));
    simd.select_f32s(is_near, near, far)
}

/// The divergence of each latent dimension of a row:
/// `out[j] = KL(N(mu[j], exp(logvar[j])) ‖ N(0, 1))`, overwritten, each within the bounds of the [module](self).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn per_dimension(
    simd: InstructionSet,
    out: &mut [f32],
    mu: &[f32],
    logvar: &[f32],
) -> Result<()> {
    per_dimension_prior(simd, out, mu, logvar, Prior::default())
}

/// [`per_dimension`] under another prior.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ;
/// [`Error::Config`](crate::Error::Config) for a prior that is none.
pub fn per_dimension_prior(
    simd: InstructionSet,
    out: &mut [f32],
    mu: &[f32],
    logvar: &[f32],
    prior: Prior,
) -> Result<()> {
    struct Op<'a>(&'a mut [f32], [&'a [f32]; 2], NormalKl);
    impl WithSimd for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            zip(simd, [self.0], self.1, self.2);
        }
    }
    prior.validate()?;
    expect_length("mu", out.len(), mu.len())?;
    expect_length("logvar", out.len(), logvar.len())?;
    simd.dispatch(Op(out, [mu, logvar], NormalKl::new(prior)));
    Ok(())
}

impl Lanewise<1, 2> for NormalKl {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, _: [S::f32s; 1], inputs: [S::f32s; 2]) -> [S::f32s; 1] {
        [self.lane(simd, inputs).0]
    }
}

/// The divergence of each row of a batch, in nats: `out[i]` is the sum over `mu[i, ..]` and
/// `logvar[i, ..]`, overwritten.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if shapes or lengths differ;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::Config`](crate::Error::Config) for a prior that is none.
pub fn per_example(
    compute: &Compute,
    out: &mut [f64],
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    prior: Prior,
) -> Result<()> {
    prior.validate()?;
    expect_length("out", mu.nrows(), out.len())?;
    let inputs = [("mu", mu), ("logvar", logvar)];
    let term = ValueOf(NormalKl::new(prior));
    row_sums(compute, TermRows::new(term, [], inputs, 1.0, Reduction::Sum)?, out)
}

/// The mean over a batch of each latent dimension's divergence, in nats: `out[j]` is the mean of
/// column j, overwritten.
///
/// Dimensions near 0 carry nothing of the data: the posterior has collapsed onto the prior there.
///
/// # Errors
/// As [`per_example`], with one of `out` for each latent dimension, and for no rows.
pub fn dimension_means(
    compute: &Compute,
    out: &mut [f64],
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    prior: Prior,
) -> Result<()> {
    prior.validate()?;
    expect_length("out", mu.ncols(), out.len())?;
    let inputs = [("mu", mu), ("logvar", logvar)];
    let term = ValueOf(NormalKl::new(prior));
    let rows = TermRows::new(term, [], inputs, 1.0, Reduction::BatchMean)?;
    let divisor = rows.divisor();
    rows.column_sums(compute, out);
    out.iter_mut().for_each(|sum| *sum /= divisor);
    Ok(())
}

/// The divergence of N(`mu[B, Z]`, exp(`logvar[B, Z]`)) from N(0, 1), reduced, in nats.
///
/// Formula, error bounds and the rules for ±∞ and NaN are the [module's](self).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, kl}};
/// use ndarray::array;
///
/// let (mu, logvar) = (array![[1.5, 0.0]], array![[0.0, 4.0_f32.ln()]]);
/// let kl = kl::forward(&Compute::serial(), mu.view(), logvar.view(), Reduction::Sum)?;
/// assert!((kl - (1.125 + 0.80685)).abs() < 1e-5);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward(
    compute: &Compute,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    forward_prior(compute, mu, logvar, Prior::default(), reduction)
}

/// Overwrites `dmu[B, Z]` and `dlogvar[B, Z]` with the gradients of [`forward`], whose value it
/// returns.
///
/// `dmu = μ/n` and `dlogvar = ½·expm1(v)/n`, with n = 1, B or B·Z by `reduction`. The value has
/// the bits of [`forward`]'s.
///
/// # Errors
/// As [`forward`], and then the gradients are left as they were.
pub fn forward_backward(
    compute: &Compute,
    dmu: ArrayViewMut2<f32>,
    dlogvar: ArrayViewMut2<f32>,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    forward_backward_prior(compute, dmu, dlogvar, mu, logvar, Prior::default(), reduction)
}

/// [`forward`] under another prior.
///
/// # Errors
/// As [`forward`], and [`Error::Config`](crate::Error::Config) for a prior that is none.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, kl}};
/// use ndarray::array;
///
/// // N(1, 4) from itself.
/// let (mu, logvar) = (array![[1.0]], array![[4.0_f32.ln()]]);
/// let prior = kl::Prior { mean: 1.0, std: 2.0 };
/// let compute = Compute::serial();
/// let kl = kl::forward_prior(&compute, mu.view(), logvar.view(), prior, Reduction::Sum)?;
/// assert_eq!(kl, 0.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_prior(
    compute: &Compute,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    prior: Prior,
    reduction: Reduction,
) -> Result<f64> {
    prior.validate()?;
    let inputs = [("mu", mu), ("logvar", logvar)];
    TermRows::new(ValueOf(NormalKl::new(prior)), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// [`forward_backward`] under another prior: `dmu = (μ−m)/s²/n`, `dlogvar = ½·expm1(v − ln s²)/n`.
///
/// # Errors
/// As [`forward_prior`], and then the gradients are left as they were.
pub fn forward_backward_prior(
    compute: &Compute,
    dmu: ArrayViewMut2<f32>,
    dlogvar: ArrayViewMut2<f32>,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    prior: Prior,
    reduction: Reduction,
) -> Result<f64> {
    prior.validate()?;
    let gradients = [("dmu", dmu), ("dlogvar", dlogvar)];
    let inputs = [("mu", mu), ("logvar", logvar)];
    TermRows::new(NormalKl::new(prior), gradients, inputs, 1.0, reduction)?.reduced(compute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::{Conformance, element};
    use crate::loss::reference;
    use crate::simd::InstructionSet;

    const MEANS: [f32; 9] = [0.0, -0.0, 1e-20, 1e-4, -0.01, 0.7, -1.5, 3.0, 100.0];

    #[test]
    fn conforms() {
        let ordinary = (-300..=300).map(|i| i as f32 / 37.0);
        let tiny = [0.0, 1e-45, 1e-40, 1e-30, 1e-20, 1e-10, 1e-6, 1e-4, 1e-3];
        let large = [0.999_999_94, 1.0, 1.000_000_1, 20.0, 80.0, 87.0];
        let signed = tiny.into_iter().chain(large).flat_map(|v| [v, -v]).chain([-1e4, -1e30]);
        let elements = |logvars: Vec<f32>| -> Vec<[f32; 2]> {
            logvars.iter().flat_map(|&v| MEANS.map(|mu| [mu, v])).collect()
        };
        Conformance {
            term: StandardNormalKl,
            twin: reference::standard_normal_kl,
            elements: elements(ordinary.clone().chain(signed).collect()),
            value_ulps: 3.0,
            value_size: |_, value| value,
            gradient_ulps: [0.0, 1.0],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: elements(ordinary.collect())
                .into_iter()
                .filter(|e| e[0] == 0.0 || (0.1..10.0).contains(&e[0].abs()))
                .collect(),
        }
        .check();
    }

    #[test]
    fn published_values() {
        for (mu, sigma, kl) in
            [(0.0, 1.0, 0.0), (1.5, 1.0, 1.125), (0.0, 2.0, 0.80685), (0.0, 0.1, 1.80759)]
        {
            for set in InstructionSet::available() {
                let (found, _) = element(set, StandardNormalKl, [mu, 2.0 * f32::ln(sigma)]);
                assert!((found - kl).abs() < 5e-6, "{set}: KL({mu}, {sigma}) = {found}");
            }
        }
    }

    #[test]
    fn infinities_and_nan() {
        let (infinity, nan) = (f32::INFINITY, f32::NAN);
        for set in InstructionSet::available() {
            for mu in [infinity, -infinity, 2e19] {
                assert_eq!(element(set, StandardNormalKl, [mu, 0.0]), (f64::INFINITY, [mu, 0.0]));
            }
            for (v, dv) in [(infinity, infinity), (88.8, infinity), (-infinity, -0.5)] {
                assert_eq!(element(set, StandardNormalKl, [1.0, v]), (f64::INFINITY, [1.0, dv]));
            }
            let (value, [dmu, dv]) = element(set, StandardNormalKl, [nan, 1.0]);
            assert!(value.is_nan() && dmu.is_nan() && dv.is_finite());
            let (value, [dmu, dv]) = element(set, StandardNormalKl, [1.0, nan]);
            assert!(value.is_nan() && dmu == 1.0 && dv.is_nan());
        }
    }
}
