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
//! 4. Under N(m, s²) the same with u for v and (μ−m)²/s² for μ²; under N(0, 1) that changes no bit.
//!
//! # Contract
//! - Each element is within 3 ULP, `dmu` (before scaling) exact, `dlogvar` within 1 ULP.
//! - Under a prior N(m, s²) with s ≠ 1 the numbers 1/s² and ln s² are rounded to f32 and then exact:
//!   each element is within 3 + |u| ULP, `dmu` within 2, `dlogvar` within 2 + |u| (u is rounded
//!   before it is an exponent).
//! - Under N(0, 1), by pairs:
//!
//!   | μ | v = −∞ | finite v | v > 88.72, +∞ | v NaN |
//!   |---|---|---|---|---|
//!   | finite | +∞ | +∞ where μ² + expm1(v) − v is beyond f32 (\|μ\| > 1.8e19 is), else finite | +∞ | NaN |
//!   | ±∞ | +∞ | +∞ | +∞ | NaN |
//!   | NaN | NaN | NaN | NaN | NaN |
//!
//!   `dmu` is μ, and `dlogvar` −½ at v = −∞, ∞ above 88.72 and NaN for NaN, whatever the other one is.
//!   −0 is as 0.
//!
//! Source: Kingma & Welling, "Auto-Encoding Variational Bayes" (2013), appendix B.

use super::Reduction;
use super::kernel::batch::{RowKernel, RowSums, check_all};
use super::kernel::sums::column_sums;
use super::kernel::{Range, RowLoss, StageBuffer, Term, ValueOf};
pub use super::prior::Prior;
use super::term::sealed::Sealed;
use super::term::{KlGradients, KlInputs, KlPenalty, LossTerm, RowPlan, divisor, kl_rows};
use crate::Compute;
use crate::error::{Result, expect_length};
use crate::math::exp::expm1;
use crate::math::polynomial::horner;
use crate::math::scalar;
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::{Lanewise, ZipOp, multiply, scale as scale_row};
use pulp::Simd;

/// The KL divergence itself.
///
/// `dmu = (μ−m)/s²/n` and `dlogvar = ½·expm1(v − ln s²)/n`; formula, error bounds and edges are the
/// [module's](self).
///
/// ```
/// use elbo::{Compute, loss::{Kl, KlInputs, LossTerm, Prior, Reduction}};
/// use ndarray::array;
///
/// let (mu, logvar) = (array![[1.5, 0.0]], array![[0.0, 4.0_f32.ln()]]);
/// let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior: Prior::default() };
/// let kl = Kl.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// assert!((kl - (1.125 + 0.80685)).abs() < 1e-5);
///
/// // N(1, 4) from itself.
/// let (mu, logvar) = (array![[1.0]], array![[4.0_f32.ln()]]);
/// let prior = Prior { mean: 1.0, std: 2.0 };
/// let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior };
/// assert_eq!(Kl.forward(&Compute::serial(), inputs, Reduction::Sum)?, 0.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kl;

impl Sealed for Kl {}
impl KlPenalty for Kl {}

impl LossTerm for Kl {
    type Inputs<'a> = KlInputs<'a>;
    type Gradients<'a> = KlGradients<'a>;

    fn validate(&self, inputs: KlInputs<'_>) -> Result<()> {
        inputs.prior.validate()
    }

    fn rows(
        &self,
        plan: RowPlan<'_>,
        gradients: Option<Self::Gradients<'_>>,
        inputs: Self::Inputs<'_>,
    ) -> Result<impl RowSums<2>> {
        kl_rows(NormalKl::new(inputs.prior), plan.scale, gradients, inputs)
    }
}

/// The term KL(N(μ, e^v) ‖ N(m, s²)): inputs μ and v, gradients with respect to both.
#[derive(Clone, Copy)]
pub(crate) struct NormalKl {
    pub(crate) mean: f32,
    /// 1/s².
    pub(crate) inverse_variance: f32,
    /// ln s².
    pub(crate) log_variance: f32,
}

impl NormalKl {
    pub(crate) fn new(prior: Prior) -> Self {
        let std = f64::from(prior.std);
        Self {
            mean: prior.mean,
            // Rounded once each, from f64.
            inverse_variance: (1.0 / (std * std)) as f32,
            log_variance: (2.0 * scalar::ln(std)) as f32,
        }
    }
}

impl Term<2, 2> for NormalKl {
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [mu, logvar]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 2]) {
        let half = simd.splat_f32s(0.5);
        // 4.
        let distance = simd.sub_f32s(mu, simd.splat_f32s(self.mean));
        let dmu = simd.mul_f32s(distance, simd.splat_f32s(self.inverse_variance));
        let u = simd.sub_f32s(logvar, simd.splat_f32s(self.log_variance));
        let expm1_u = expm1(simd, u);
        let spread = expm1_less_argument(simd, u, expm1_u);
        // Both terms are positive: ½ of their sum loses nothing.
        let kl = simd.mul_f32s(half, simd.mul_add_f32s(distance, dmu, spread));
        (kl, [dmu, simd.mul_f32s(half, expm1_u)])
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
    // 2.
    let series = horner(simd, v, SERIES);
    let near = simd.mul_f32s(simd.mul_f32s(v, v), series);
    // 1.
    let far = simd.sub_f32s(expm1_v, v);
    // 3.
    let infinity = simd.splat_f32s(f32::INFINITY);
    let far = simd.select_f32s(simd.equal_f32s(expm1_v, infinity), infinity, far);
    // Both forms are computed; a branch would depend on the data.
    let is_near = simd.less_than_f32s(simd.abs_f32s(v), simd.splat_f32s(1.0));
    simd.select_f32s(is_near, near, far)
}

/// A row of a KL penalty: the divergence, and the value that a rule makes of it.
#[derive(Clone, Copy)]
pub(super) struct PenaltyRow<'a, E, F> {
    pub(super) kl: NormalKl,
    pub(super) rule: RowRule<'a, E, F>,
    /// True if a rule of elements is also to sum the divergence.
    pub(super) with_sums: bool,
}

/// The rules by which a penalty changes a row.
#[derive(Clone, Copy)]
pub(super) enum RowRule<'a, E, F> {
    /// Gradients times one factor a column; none if there are no factors.
    Columns(&'a [f32]),
    /// Another term in place of the divergence.
    Elements(E),
    /// Value and slope as a function of the row's divergence.
    Sum(F),
}

impl<E, F> RowKernel<2, 2> for PenaltyRow<'_, E, F>
where
    E: Term<2, 2>,
    F: Fn(f64) -> (f64, f64) + Copy + Send + Sync,
{
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn row<S: Simd>(
        self,
        simd: S,
        buffer: &mut StageBuffer,
        mut gradients: Option<[&mut [f32]; 2]>,
        inputs: [&[f32]; 2],
        scale: f32,
    ) -> (f64, RowLoss) {
        let places = gradients.as_mut().map(|views| views.each_mut().map(|view| &mut **view));
        if let RowRule::Elements(term) = self.rule {
            let (value, loss) = term.row(simd, buffer, places, inputs, scale);
            // The term of the rule has no divergence to give, so it takes its own pass of the row.
            let with_sums = self.with_sums.then(|| self.kl.row(simd, buffer, None, inputs, 1.0));
            return (value, with_sums.map_or(loss, |(_, kl)| kl));
        }
        let (kl, loss) = self.kl.row(simd, buffer, places, inputs, scale);
        match self.rule {
            RowRule::Sum(rule) => {
                // The chain rule, by one factor for the row.
                let (value, slope) = rule(kl);
                for gradient in gradients.into_iter().flatten() {
                    scale_row(simd, gradient, slope as f32);
                }
                (value, loss)
            }
            // A factor of 0 belongs to a column of finite gradients: its mean is at most λ.
            RowRule::Columns(factors) if !factors.is_empty() => {
                for gradient in gradients.into_iter().flatten() {
                    multiply(simd, gradient, factors);
                }
                (kl, loss)
            }
            _ => (kl, loss),
        }
    }
}

/// Overwrites `out[j]` with `KL(N(mu[j], exp(logvar[j])) ‖ prior)` of latent dimension j of one row, each
/// within the bounds of the [module](self).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ; [`Error::Config`](crate::Error::Config) if the prior is invalid.
pub fn per_dimension(
    simd: InstructionSet,
    out: &mut [f32],
    mu: &[f32],
    logvar: &[f32],
    prior: Prior,
) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    prior.validate()?;
    expect_length("mu", out.len(), mu.len())?;
    expect_length("logvar", out.len(), logvar.len())?;
    simd.dispatch(ZipOp([out], [mu, logvar], NormalKl::new(prior)));
    Ok(())
}

impl Lanewise<1, 2> for NormalKl {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, _: [S::f32s; 1], inputs: [S::f32s; 2]) -> [S::f32s; 1] {
        [self.lane(simd, inputs).0]
    }
}

/// Overwrites `out[j]` with the mean over a batch of latent dimension j's divergence, in nats.
///
/// Dimensions near 0 carry nothing of the data: the posterior has collapsed onto the prior there.
///
/// # Errors
/// As the methods of [`LossTerm`]; [`Error::Shape`](crate::Error::Shape) if `out` does not have one element for each
/// dimension, or the batch has no rows.
pub fn dimension_means(compute: &Compute, out: &mut [f64], inputs: KlInputs<'_>) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    let KlInputs { mu, logvar, prior } = inputs;
    prior.validate()?;
    expect_length("out", mu.ncols(), out.len())?;
    check_all(&[("mu", mu), ("logvar", logvar)])?;
    let rows = divisor(inputs, Reduction::BatchMean)?;
    // One chain a column, in row order.
    column_sums(compute, ValueOf(NormalKl::new(prior)), [mu, logvar], out);
    out.iter_mut().for_each(|sum| *sum /= rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::{Conformance, element, ulp};
    use crate::loss::testing::reference;
    use crate::simd::InstructionSet;
    use proptest::prelude::*;

    const STANDARD: NormalKl = NormalKl { mean: 0.0, inverse_variance: 1.0, log_variance: 0.0 };
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
            term: STANDARD,
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
    fn has_the_published_values() {
        for (mu, sigma, kl) in
            [(0.0, 1.0, 0.0), (1.5, 1.0, 1.125), (0.0, 2.0, 0.80685), (0.0, 0.1, 1.80759)]
        {
            for set in InstructionSet::available() {
                let (found, _) = element(set, STANDARD, [mu, 2.0 * f32::ln(sigma)]);
                assert!((found - kl).abs() < 5e-6, "{set}: KL({mu}, {sigma}) = {found}");
            }
        }
    }

    #[test]
    fn handles_infinities_and_nan() {
        let (infinity, nan) = (f32::INFINITY, f32::NAN);
        for set in InstructionSet::available() {
            for mu in [infinity, -infinity, 2e19] {
                assert_eq!(element(set, STANDARD, [mu, 0.0]), (f64::INFINITY, [mu, 0.0]));
            }
            for (v, dv) in [(infinity, infinity), (88.8, infinity), (-infinity, -0.5)] {
                assert_eq!(element(set, STANDARD, [1.0, v]), (f64::INFINITY, [1.0, dv]));
            }
            let (value, [dmu, dv]) = element(set, STANDARD, [nan, 1.0]);
            assert!(value.is_nan() && dmu.is_nan() && dv.is_finite());
            let (value, [dmu, dv]) = element(set, STANDARD, [1.0, nan]);
            assert!(value.is_nan() && dmu == 1.0 && dv.is_nan());
        }
    }

    const PRIOR: Prior = Prior { mean: -0.75, std: 2.5 };

    fn twin(inputs: [f64; 2]) -> (f64, [f64; 2]) {
        let NormalKl { mean, inverse_variance, log_variance } = NormalKl::new(PRIOR);
        reference::normal_kl(inputs, [mean, inverse_variance, log_variance].map(f64::from))
    }

    #[test]
    fn conforms_with_another_prior() {
        let logvars: Vec<f32> = (-100..=100).map(|i| 1.8 + i as f32 / 37.0).collect();
        let mut elements: Vec<[f32; 2]> = Vec::new();
        for &v in &logvars {
            elements.extend([0.0, -0.75, 1e-4, 0.7, -1.5, 3.0, 100.0].map(|mu| [mu, v]));
        }
        Conformance {
            term: NormalKl::new(PRIOR),
            twin,
            elements: elements.clone(),
            // |v − ln s²| is below 3.
            value_ulps: 3.0 + 3.0,
            value_size: |_, value| value,
            gradient_ulps: [2.0, 2.0 + 3.0],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: elements.into_iter().filter(|e| e[0] != -0.75).collect(),
        }
        .check();
    }

    proptest! {
        /// The two forms in print, in f32, differ by the rounding of their largest term alone.
        #[test]
        fn agrees_with_the_published_forms(
            mu in -8.0_f32..8.0, v in -12.0_f32..8.0, mean in -2.0_f32..2.0, std in 0.1_f32..10.0,
        ) {
            let set = InstructionSet::detect();
            let (kl, _) = element(set, NormalKl::new(Prior::default()), [mu, v]);
            let other = -0.5 * (1.0 + v - v.exp() - mu * mu);
            let largest = 1.0_f32.max(v.abs()).max(v.exp()).max(mu * mu);
            let bound = 3.0 * ulp(largest.into());
            prop_assert!((kl - f64::from(other)).abs() <= bound, "{} {}", kl, other);

            let (kl, _) = element(set, NormalKl::new(Prior { mean, std }), [mu, v]);
            let (variance, distance) = (v.exp() / (std * std), (mu - mean) / std);
            let log_ratio = v / 2.0 - std.ln();
            let other = 0.5 * (variance + distance * distance - 1.0) - log_ratio;
            // u = v − ln s² is rounded before it is an exponent: |u| ULP of e^u.
            let u = 2.0 * log_ratio.abs() + 1.0;
            let largest = 1.0_f32.max(u * variance).max(distance * distance).max(v.abs());
            let bound = 4.0 * ulp(largest.into());
            prop_assert!((kl - f64::from(other)).abs() <= bound, "{} {}", kl, other);
        }
    }
}
