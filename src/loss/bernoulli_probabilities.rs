//! Bernoulli likelihood from probabilities, as `torch.nn.BCELoss` computes it.
//!
//! For a probability `x` and a target `t`, both in [0, 1]:
//!
//! ```text
//! loss(x, t)     = −[t·max(ln x, −100) + (1−t)·max(ln(1−x), −100)]
//! dprobabilities = (x−t) / max(x(1−x), 1e−12)
//! ```
//!
//! The floor of −100 keeps the loss finite at x = 0 and x = 1. The gradient is that of the loss
//! without the floor, its denominator kept from 0.
//!
//! Prefer [`bernoulli`](super::bernoulli): once a sigmoid has rounded to 0 or 1, multiplying this
//! gradient by the sigmoid's slope gives 0, and a wrong pixel never recovers.
//!
//! # Of a rounded sigmoid
//! [`SigmoidProbabilities`] takes logits, and is the loss of `x = σ(l)` rounded to f32:
//!
//! ```text
//! dlogits = (x−t)·x(1−x) / max(x(1−x), 1e−12)
//! ```
//!
//! Where [`bernoulli`](super::bernoulli) is the same formula without rounding, this is what
//! `torch.sigmoid` followed by `torch.nn.functional.binary_cross_entropy` computes: from l = 16.7 on x is
//! 1, the loss of a wrong pixel 100 and its gradient 0. It is here for comparison with such
//! networks.
//!
//! # Contract
//! - Targets lie in [0, 1]; −0 is 0. A probability that is NaN or outside [0, 1] gives NaN for the
//!   total and for its own gradient.
//! - Each element of the loss is within 3 ULP, each gradient (before scaling) within 3.5: three roundings of up
//!   to one ULP of the quotient, and its own.
//! - `ln(1−x)` is computed as `log1p(−x)`, exact to the last digits for small x.
//! - From a sigmoid: the value is that of σ(l), to the bit; the gradient is within 1 ULP of that one's
//!   times x(1−x).
//!
//! Source: PyTorch's documentation of `BCELoss` (the floor) and the floor of its derivative.

use super::kernel::{Range, Term};
use super::term::sealed::Sealed;
use super::term::{Elementwise, Reconstruction};
use crate::math::log::{log, log1p};
use crate::math::sigmoid::sigmoid;
use pulp::Simd;

/// The floor of the logarithms.
const LOG_FLOOR: f32 = -100.0;
/// The floor of the gradient's denominator.
const VARIANCE_FLOOR: f32 = 1e-12;

/// The Bernoulli negative log-likelihood of probabilities.
///
/// `dprobabilities = (x−t)/max(x(1−x), 1e−12)/n`; domain, error bounds and edges are the
/// [module's](self).
///
/// ```
/// use elbo::{Compute, loss::{BernoulliProbabilities, LossTerm, ReconstructionInputs, Reduction}};
/// use ndarray::array;
///
/// // A certain and wrong prediction costs 100 nats, not infinitely many.
/// let (x, t) = (array![[0.0]], array![[1.0]]);
/// let inputs = ReconstructionInputs { outputs: x.view(), targets: t.view() };
/// let loss = BernoulliProbabilities.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// assert_eq!(loss, 100.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BernoulliProbabilities;

impl Sealed for BernoulliProbabilities {}
impl Reconstruction for BernoulliProbabilities {}
impl Elementwise for BernoulliProbabilities {}

impl Term<2, 1> for BernoulliProbabilities {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [x, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let one = simd.splat_f32s(1.0);
        let floor = simd.splat_f32s(LOG_FLOOR);
        // Floors before the products: 0·(−∞) does not occur.
        let log_x = at_least(simd, log(simd, x), floor);
        let log_1_x = at_least(simd, log1p(simd, simd.neg_f32s(x)), floor);
        // (t−1)·ln(1−x) − t·ln x: both terms positive.
        let rest = simd.mul_f32s(simd.sub_f32s(t, one), log_1_x);
        let loss = simd.negate_mul_add_f32s(t, log_x, rest);

        // x(1−x) is negative exactly where x is outside [0, 1].
        let variance = simd.mul_f32s(x, simd.sub_f32s(one, x));
        let valid = simd.greater_than_or_equal_f32s(variance, simd.splat_f32s(0.0));
        let denominator = at_least(simd, variance, simd.splat_f32s(VARIANCE_FLOOR));
        let gradient = simd.div_f32s(simd.sub_f32s(x, t), denominator);
        (loss, [simd.select_f32s(valid, gradient, simd.splat_f32s(f32::NAN))])
    }
}

/// `x`, or `floor` where x is less; NaN stays NaN.
#[inline(always)]
fn at_least<S: Simd>(simd: S, x: S::f32s, floor: S::f32s) -> S::f32s {
    simd.select_f32s(simd.less_than_f32s(x, floor), floor, x)
}

/// The Bernoulli negative log-likelihood of a sigmoid that is rounded to f32.
///
/// ```
/// use elbo::{Compute, loss::{Bernoulli, LossTerm, ReconstructionInputs, Reduction}};
/// use elbo::loss::SigmoidProbabilities;
/// use ndarray::array;
///
/// let (l, t) = (array![[40.0]], array![[0.0]]);
/// let inputs = ReconstructionInputs { outputs: l.view(), targets: t.view() };
/// let (compute, reduction) = (Compute::serial(), Reduction::Sum);
/// assert_eq!(SigmoidProbabilities.forward(&compute, inputs, reduction)?, 100.0);
/// assert_eq!(Bernoulli.forward(&compute, inputs, reduction)?, 40.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SigmoidProbabilities;

impl Sealed for SigmoidProbabilities {}
impl Reconstruction for SigmoidProbabilities {}
impl Elementwise for SigmoidProbabilities {}

impl Term<2, 1> for SigmoidProbabilities {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let x = sigmoid(simd, l);
        let (loss, [dx]) = BernoulliProbabilities.lane(simd, [x, t]);
        // σ' from the rounded σ, as PyTorch computes it.
        let slope = simd.mul_f32s(x, simd.sub_f32s(simd.splat_f32s(1.0), x));
        (loss, [simd.mul_f32s(dx, slope)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::{Conformance, element};
    use crate::loss::testing::reference;
    use crate::math;
    use crate::simd::InstructionSet;

    const TARGETS: [f32; 8] = [0.0, -0.0, 1e-30, 0.1, 0.5, 0.9, 1.0 - 6e-8, 1.0];

    #[test]
    fn conforms() {
        let ordinary = (1..500).map(|i| i as f32 / 500.0);
        let edges = [0.0, -0.0, 1e-45, 1e-40, 1e-38, 1e-20, 1e-12, 1e-8, 1.0 - 6e-8, 1.0];
        let elements = |probabilities: Vec<f32>| -> Vec<[f32; 2]> {
            probabilities.iter().flat_map(|&x| TARGETS.map(|t| [x, t])).collect()
        };
        let mut all = elements(ordinary.clone().chain(edges).collect());
        // All roundings of the gradient go the same way: 3.07 ULP.
        all.push([0.147_109_66, 0.022_025_399]);
        Conformance {
            term: BernoulliProbabilities,
            twin: reference::bernoulli_probability,
            elements: all,
            value_ulps: 3.0,
            value_size: |_, value| value,
            gradient_ulps: [3.5],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: elements(ordinary.filter(|&x| x > 0.2 && x < 0.8).collect()),
        }
        .check();
    }

    #[test]
    fn gives_nan_outside_the_unit_interval() {
        for x in [-1e-45, -1.0, 1.0 + 1.2e-7, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            for t in [0.0, 0.3, 1.0] {
                for set in InstructionSet::available() {
                    let (value, [gradient]) = element(set, BernoulliProbabilities, [x, t]);
                    assert!(value.is_nan() && gradient.is_nan(), "{set} {x} {t}: {value}");
                }
            }
        }
    }

    #[test]
    fn sigmoid_has_the_value_of_its_parts() {
        for i in -240..=240 {
            for t in [0.0, 0.3, 1.0] {
                let l = i as f32 / 5.0;
                let mut x = [f32::NAN];
                math::sigmoid(InstructionSet::SCALAR, &mut x, &[l]).unwrap();
                let (value, [dx]) =
                    element(InstructionSet::SCALAR, BernoulliProbabilities, [x[0], t]);
                let exact = f64::from(dx) * f64::from(x[0]) * (1.0 - f64::from(x[0]));
                for set in InstructionSet::available() {
                    let (found, [dlogit]) = element(set, SigmoidProbabilities, [l, t]);
                    assert_eq!(found, value, "{set} {l} {t}");
                    let error = (f64::from(dlogit) - exact).abs();
                    assert!(
                        error <= 1.3e-7 * exact.abs() + 1e-38,
                        "{set} {l} {t}: {dlogit} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn sigmoid_agrees_with_the_loss_from_moderate_logits() {
        let set = InstructionSet::detect();
        for i in -40..=40 {
            for t in [0.0, 0.3, 1.0] {
                let l = i as f32 / 10.0;
                let (found, [dlogit]) = element(set, SigmoidProbabilities, [l, t]);
                let (value, [exact]) = reference::bernoulli([l.into(), t.into()]);
                assert!((found - value).abs() < 4e-6 * value.max(0.02), "{l} {t}: {found} {value}");
                assert!((f64::from(dlogit) - exact).abs() < 3e-7, "{l} {t}: {dlogit} {exact}");
            }
        }
    }

    #[test]
    fn sigmoid_has_no_gradient_once_saturated() {
        for set in InstructionSet::available() {
            assert_eq!(element(set, SigmoidProbabilities, [20.0, 0.0]), (100.0, [0.0]));
            let (value, [gradient]) = element(set, SigmoidProbabilities, [f32::NAN, 0.5]);
            assert!(value.is_nan() && gradient.is_nan());
        }
    }
}
