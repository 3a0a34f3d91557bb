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
//! gradient by the sigmoid's slope gives 0, and a wrong pixel stays wrong for ever.
//!
//! # Contract, of every function here
//! - Targets lie in [0, 1]; −0 is 0. A probability that is NaN or outside [0, 1] gives NaN for the
//!   total and for its own gradient.
//! - Each element of the loss and each gradient (before scaling) is within 3 ULP.
//! - `ln(1−x)` is computed as `log1p(−x)`, exact to the last digits for small x.
//!
//! Source: PyTorch's documentation of `BCELoss` (the floor) and the floor of its derivative.

pub(crate) mod sigmoid;

pub use sigmoid::{forward_backward_sigmoid, forward_sigmoid};

use super::Reduction;
use super::batch::TermRows;
use super::term::{Range, Term, ValueOf};
use crate::math::log::{log, log1p};
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The least logarithm that counts.
const LOG_FLOOR: f32 = -100.0;
/// The least denominator of the gradient.
const VARIANCE_FLOOR: f32 = 1e-12;

/// The term: inputs probability and target, gradient with respect to the probability.
#[derive(Clone, Copy)]
pub(crate) struct BernoulliProbability;

impl Term<2, 1> for BernoulliProbability {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [x, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let one = simd.splat_f32s(1.0);
        let floor = simd.splat_f32s(LOG_FLOOR);
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

/// The Bernoulli loss of `probabilities[B, D]` against `targets[B, D]`, reduced, in nats.
///
/// Formula, domain and error bounds are the [module's](self).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::TargetOutOfRange`](crate::Error::TargetOutOfRange) for the first target, in row order,
/// outside [0, 1], or [`Error::NotFiniteData`](crate::Error::NotFiniteData) if it is NaN or ±∞.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, probabilities}};
/// use ndarray::array;
///
/// // A certain and wrong prediction costs 100 nats, not infinitely many.
/// let (x, t) = (array![[0.0]], array![[1.0]]);
/// let loss = probabilities::forward(&Compute::serial(), x.view(), t.view(), Reduction::Sum)?;
/// assert_eq!(loss, 100.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward(
    compute: &Compute,
    probabilities: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = [("probabilities", probabilities), ("targets", targets)];
    TermRows::new(ValueOf(BernoulliProbability), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dprobabilities[B, D]` with the gradient of [`forward`], whose value it returns.
///
/// `dprobabilities = (x−t)/max(x(1−x), 1e−12)/n`, with n = 1, B or B·D by `reduction`. The value
/// has the bits of [`forward`]'s.
///
/// # Errors
/// As [`forward`]; what `dprobabilities` then holds is unspecified.
pub fn forward_backward(
    compute: &Compute,
    dprobabilities: ArrayViewMut2<f32>,
    probabilities: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let gradients = [("dprobabilities", dprobabilities)];
    let inputs = [("probabilities", probabilities), ("targets", targets)];
    TermRows::new(BernoulliProbability, gradients, inputs, 1.0, reduction)?.reduced(compute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::{Conformance, element};
    use crate::loss::reference;
    use crate::simd::InstructionSet;

    const TARGETS: [f32; 8] = [0.0, -0.0, 1e-30, 0.1, 0.5, 0.9, 1.0 - 6e-8, 1.0];

    #[test]
    fn conforms() {
        let ordinary = (1..500).map(|i| i as f32 / 500.0);
        let edges = [0.0, -0.0, 1e-45, 1e-40, 1e-38, 1e-20, 1e-12, 1e-8, 1.0 - 6e-8, 1.0];
        let elements = |probabilities: Vec<f32>| -> Vec<[f32; 2]> {
            probabilities.iter().flat_map(|&x| TARGETS.map(|t| [x, t])).collect()
        };
        Conformance {
            term: BernoulliProbability,
            twin: reference::bernoulli_probability,
            elements: elements(ordinary.clone().chain(edges).collect()),
            value_ulps: 3.0,
            value_size: |_, value| value,
            gradient_ulps: [3.0],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: elements(ordinary.filter(|&x| x > 0.2 && x < 0.8).collect()),
        }
        .check();
    }

    #[test]
    fn no_probability() {
        for x in [-1e-45, -1.0, 1.0 + 1.2e-7, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            for t in [0.0, 0.3, 1.0] {
                for set in InstructionSet::available() {
                    let (value, [gradient]) = element(set, BernoulliProbability, [x, t]);
                    assert!(value.is_nan() && gradient.is_nan(), "{set} {x} {t}: {value}");
                }
            }
        }
    }
}
