//! Continuous Bernoulli likelihood: a density on [0, 1], from logits.
//!
//! For a logit `l` and a target `t` in [0, 1]:
//!
//! ```text
//! loss(l, t) = −l·t + ln((e^l − 1)/l)
//! dlogits    = m(l) − t,    m(l) = 1/(1 − e^{−l}) − 1/l
//! ```
//!
//! The Bernoulli loss of gray values is not a likelihood: e^{−loss} does not integrate to 1 over
//! t in [0, 1]. This one does. `m(l)`, the mean of the density, is the image that a decoder's logit stands
//! for; σ(l) is a parameter and further from ½ than the mean. The loss is minus the logarithm
//! of a density and may be negative.
//!
//! # Derivation
//! ∫₀¹ e^{lt} dt = (e^l − 1)/l normalizes e^{lt}; the derivative of its logarithm is the mean of t,
//! e^l/(e^l − 1) − 1/l = m(l).
//!
//! # Method
//! With a = |l|, as [`bernoulli`](super::bernoulli) does it:
//! 1. `w = |t − [l > 0]|`: then −l·t + max(l, 0) = a·w, and the loss is `a·w + h(a)` with
//!    `h(a) = ln((1 − e^{−a})/a)`, the gradient `w − r(a)` with the sign of l, and
//!    `r(a) = m(−a) = 1/a − 1/(e^a − 1)`. Neither e^l nor m near 1 appears.
//! 2. For a < 2 the series: `r = ½ − a·p(a²)`, `h = −a/2 + a²·q(a²)`, five terms each, minimax on
//!    [0, 4] to a relative 2⁻²⁶ (Lawson); the leading ones are 1/12 and 1/24.
//! 3. From 2 on the formulas as they stand lose less than two bits.
//! 4. Rows whose sum is NaN again with the limits at ±∞, by `Term::fix_nonfinite`.
//!
//! # Contract
//! - Targets lie anywhere in [0, 1]; −0 is 0.
//! - Each element of the loss is within 4 ULP of the larger of |l|·w and |h|, each gradient (before
//!   scaling) within 3 ULP of the larger of r and w, the mean within 2 ULP; 1e-38 besides.
//! - At l = +∞ and l = −∞ the density is a point at 1 or 0: the loss is −∞ there, with gradient 0, and
//!   +∞ at any other target, with gradient `1−t` or `−t`. A NaN logit gives NaN for the total and
//!   for its own gradient. At ±0 the loss is 0 and the gradient ½ − t.
//!
//! Source: Loaiza-Ganem & Cunningham, "The continuous Bernoulli: fixing a pervasive error in
//! variational autoencoders" (2019).

use super::kernel::{Range, Term};
use super::term::sealed::Sealed;
use super::term::{Elementwise, Reconstruction};
use crate::Result;
use crate::error::expect_length;
use crate::math::exp::exp;
use crate::math::log::log;
use crate::math::polynomial::horner;
use crate::simd::InstructionSet;
use crate::simd::lanes::{MapOp, Unary};
use pulp::Simd;

/// The |l| from which the formulas take over from the series.
const SPLIT: f32 = 2.0;
/// `p` of `1/a − 1/(e^a − 1) = ½ − a·p(a²)`.
const MEAN: [f32; 5] =
    [0.083_333_336, -0.001_388_878_8, 3.304_820_4e-5, -8.118_529e-7, 1.637_590_3e-8];
/// `q` of `ln((1 − e^{−a})/a) = −a/2 + a²·q(a²)`.
const NORMALIZER: [f32; 5] =
    [0.041_666_668, -3.472_213_6e-4, 5.509_688e-6, -1.020_627e-7, 1.704_196_9e-9];

/// The continuous Bernoulli negative log-likelihood of logits.
///
/// `dlogits = (m(logits) − targets)/n`; domain, error bounds and edges are the [module's](self).
///
/// ```
/// use elbo::{Compute, loss::{ContinuousBernoulli, LossTerm, ReconstructionInputs, Reduction}};
/// use ndarray::array;
///
/// // The uniform density, and 2·e^{2t}/(e² − 1) at t = 1.
/// let (logits, targets) = (array![[0.0, 2.0]], array![[0.3, 1.0]]);
/// let inputs = ReconstructionInputs { outputs: logits.view(), targets: targets.view() };
/// let loss = ContinuousBernoulli.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// assert!((loss + (2.313_035_3_f64).ln()).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContinuousBernoulli;

impl Sealed for ContinuousBernoulli {}
impl Reconstruction for ContinuousBernoulli {}
impl Elementwise for ContinuousBernoulli {}

impl Term<2, 1> for ContinuousBernoulli {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        // 1.
        let a = simd.abs_f32s(l);
        let zero = simd.splat_f32s(0.0);
        let positive = simd.less_than_f32s(zero, l);
        let right = simd.select_f32s(positive, simd.splat_f32s(1.0), zero);
        let wrong = simd.abs_f32s(simd.sub_f32s(t, right));

        let parts = Parts::of(simd, a);
        let square = simd.mul_f32s(a, a);
        // 2.
        let near = horner(simd, square, NORMALIZER);
        let near = simd.mul_add_f32s(near, square, simd.mul_f32s(simd.splat_f32s(-0.5), a));
        // 3.
        let far = log(simd, simd.div_f32s(parts.rest, a));
        let normalizer = simd.select_f32s(parts.is_near, near, far);
        let loss = simd.mul_add_f32s(a, wrong, normalizer);

        let away = simd.sub_f32s(wrong, parts.mean(simd, a, square));
        (loss, [simd.select_f32s(positive, away, simd.neg_f32s(away))])
    }

    const FIXES_NONFINITE: bool = true;

    #[inline(always)]
    fn fix_nonfinite<S: Simd>(
        self,
        simd: S,
        [l, t]: [S::f32s; 2],
        (loss, dlogit): (S::f32s, [S::f32s; 1]),
    ) -> (S::f32s, [S::f32s; 1]) {
        // 4. ∞·w − ∞.
        let infinity = simd.splat_f32s(f32::INFINITY);
        let certain = simd.equal_f32s(simd.abs_f32s(l), infinity);
        let target = simd.select_f32s(
            simd.equal_f32s(l, infinity),
            simd.splat_f32s(1.0),
            simd.splat_f32s(0.0),
        );
        let hit = simd.equal_f32s(t, target);
        let limit = simd.select_f32s(hit, simd.neg_f32s(infinity), infinity);
        (simd.select_f32s(certain, limit, loss), dlogit)
    }
}

/// Intermediate results that value and mean share.
struct Parts<S: Simd> {
    is_near: S::m32s,
    /// e^{−a}.
    e: S::f32s,
    /// 1 − e^{−a}.
    rest: S::f32s,
}

impl<S: Simd> Parts<S> {
    #[inline(always)]
    fn of(simd: S, a: S::f32s) -> Self {
        let e = exp(simd, simd.neg_f32s(a));
        let is_near = simd.less_than_f32s(a, simd.splat_f32s(SPLIT));
        Self { is_near, e, rest: simd.sub_f32s(simd.splat_f32s(1.0), e) }
    }

    /// r(a).
    #[inline(always)]
    fn mean(&self, simd: S, a: S::f32s, square: S::f32s) -> S::f32s {
        // 2.
        let near = horner(simd, square, MEAN);
        let near = simd.negate_mul_add_f32s(near, a, simd.splat_f32s(0.5));
        // 3.
        let inverse = simd.div_f32s(simd.splat_f32s(1.0), a);
        let far = simd.sub_f32s(inverse, simd.div_f32s(self.e, self.rest));
        simd.select_f32s(self.is_near, near, far)
    }
}

/// `m(l)`, the mean of the density: ½ at 0, 1 at +∞, 0 at −∞.
#[inline(always)]
pub(crate) fn mean_lane<S: Simd>(simd: S, l: S::f32s) -> S::f32s {
    let a = simd.abs_f32s(l);
    let below = Parts::of(simd, a).mean(simd, a, simd.mul_f32s(a, a));
    // m(l) = 1 − m(−l), so that only the mean below ½ needs a formula.
    let above = simd.sub_f32s(simd.splat_f32s(1.0), below);
    simd.select_f32s(simd.less_than_f32s(simd.splat_f32s(0.0), l), above, below)
}

/// [`mean`] a register at a time.
#[derive(Clone, Copy)]
pub(crate) struct ContinuousBernoulliMean;

impl Unary for ContinuousBernoulliMean {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        mean_lane(simd, x)
    }
}

/// Overwrites `out[i]` with `m(logits[i])`, the mean of the density: the reconstruction to show.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ; `out` is then left as it was.
///
/// ```
/// use elbo::{loss::continuous_bernoulli, simd::InstructionSet};
///
/// let mut mean = [f32::NAN; 3];
/// continuous_bernoulli::mean(InstructionSet::detect(), &mut mean, &[0.0, 10.0, -10.0])?;
/// assert_eq!(mean[0], 0.5);
/// // 1/(1 − e⁻¹⁰) − 1/10; σ(10) would be 0.99995.
/// assert!((mean[1] - 0.900_045).abs() < 1e-6 && (mean[2] - 0.099_955).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn mean(simd: InstructionSet, out: &mut [f32], logits: &[f32]) -> Result<()> {
    expect_length("out", logits.len(), out.len())?;
    simd.dispatch(MapOp(out, logits, ContinuousBernoulliMean));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::{Conformance, element, ulp};
    use crate::loss::testing::reference;

    const TARGETS: [f32; 8] = [0.0, -0.0, 1e-30, 0.1, 0.5, 0.9, 1.0 - 6e-8, 1.0];

    #[test]
    fn conforms() {
        let ordinary = (-400..=400).map(|i| i as f32 / 32.0);
        let tiny = [0.0, 1e-45, 1e-40, 1e-38, 1e-20, 1e-8, 1e-4, 1.999_999_9, 2.000_000_2];
        let large = [16.6, 17.4, 20.0, 87.0, 88.0, 88.8, 103.0, 104.5, 1e4, 1e30];
        let signed = tiny.into_iter().chain(large).flat_map(|l| [l, -l]);
        let elements = |logits: Vec<f32>| -> Vec<[f32; 2]> {
            logits.iter().flat_map(|&l| TARGETS.map(|t| [l, t])).collect()
        };
        fn sizes([l, t]: [f64; 2]) -> [f64; 2] {
            let wrong = if l > 0.0 { 1.0 - t } else { t };
            let (normalizer, [mean]) = reference::continuous_bernoulli([-l.abs(), 0.0]);
            [(l.abs() * wrong).max(normalizer.abs()), wrong.max(mean)]
        }
        Conformance {
            term: ContinuousBernoulli,
            twin: reference::continuous_bernoulli,
            elements: elements(ordinary.clone().chain(signed).collect()),
            value_ulps: 4.0,
            value_size: |inputs, _| sizes(inputs)[0],
            gradient_ulps: [3.0],
            underflow: f64::from(f32::MIN_POSITIVE),
            gradient_size: |inputs, _| [sizes(inputs)[1]],
            smooth: elements(ordinary.filter(|&l| l != 0.0).collect()),
        }
        .check();
    }

    #[test]
    fn mean_is_within_two_ulp() {
        let logits: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 / 997.0).collect();
        let mut expected = vec![f32::NAN; logits.len()];
        mean(InstructionSet::SCALAR, &mut expected, &logits).unwrap();
        for (&l, &found) in logits.iter().zip(&expected) {
            let exact = reference::continuous_bernoulli([l.into(), 0.0]).1[0];
            let error = (f64::from(found) - exact).abs() / ulp(exact);
            assert!(error <= 2.0, "m({l}) = {found}, {exact}: {error} ULP");
        }
        for set in InstructionSet::available() {
            let mut found = vec![f32::NAN; logits.len()];
            mean(set, &mut found, &logits).unwrap();
            assert_eq!(found, expected, "{set}");
            let mut found = [f32::NAN; 5];
            let edges = [f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::NAN, -1e4];
            mean(set, &mut found, &edges).unwrap();
            assert_eq!(found[..3], [1.0, 0.0, 0.5]);
            assert!(found[3].is_nan() && (found[4] - 1e-4).abs() < 1e-11);
        }
    }

    /// Σ e^{−loss(l, t)} over a fine grid of t: a density.
    #[test]
    fn integrates_to_one() {
        for l in [-9.0, -1.0, 0.0, 0.3, 4.0] {
            let n = 1000;
            let point = |i| (f64::from(i) + 0.5) / f64::from(n);
            let density = |i| (-reference::continuous_bernoulli([l, point(i)]).0).exp();
            let sum: f64 = (0..n).map(density).sum();
            assert!((sum / f64::from(n) - 1.0).abs() < 1e-5, "{l}: {sum}");
        }
    }

    #[test]
    fn handles_infinite_logits() {
        let (infinity, infinite) = (f32::INFINITY, f64::INFINITY);
        for set in InstructionSet::available() {
            let found = |l, t| element(set, ContinuousBernoulli, [l, t]);
            assert_eq!(found(infinity, 1.0), (-infinite, [0.0]));
            assert_eq!(found(-infinity, 0.0), (-infinite, [0.0]));
            assert_eq!(found(-infinity, -0.0), (-infinite, [0.0]));
            assert_eq!(found(infinity, 0.25), (infinite, [0.75]));
            assert_eq!(found(-infinity, 0.25), (infinite, [-0.25]));
            for t in [0.0, 0.5, 1.0] {
                let (value, [gradient]) = found(f32::NAN, t);
                assert!(value.is_nan() && gradient.is_nan(), "{set} {t}");
            }
        }
    }
}
