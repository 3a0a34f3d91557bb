//! The Bernoulli likelihood with a weight for the ones.

use super::{exp_of_minus, softplus_sigmoid};
use crate::Compute;
use crate::error::{Result, expect_non_negative};
use crate::loss::Reduction;
use crate::loss::batch::TermRows;
use crate::loss::term::{Range, Term, ValueOf};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term with the positive weight p: inputs logit and target, gradient with respect to the
/// logit.
///
/// With c = p·t + 1 − t and a = |l| the loss is `a·w + c·ln(1+e^{−a})` and the gradient
/// `w − c·σ(−a)` with the sign of l, where `w` is 1−t for a positive logit and p·t for a negative
/// one: the method of [`Bernoulli`](super::Bernoulli).
#[derive(Clone, Copy)]
pub(crate) struct WeightedBernoulli(pub(crate) f32);

impl Term<2, 1> for WeightedBernoulli {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    const SPLIT: bool = true;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        self.second(simd, inputs, self.first(simd, inputs))
    }

    #[inline(always)]
    fn first<S: Simd>(self, simd: S, [l, _]: [S::f32s; 2]) -> S::f32s {
        exp_of_minus(simd, simd.abs_f32s(l))
    }

    #[inline(always)]
    fn second<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2], e: S::f32s) -> (S::f32s, [S::f32s; 1]) {
        let (positive, wrong, weight) = self.weights(simd, l, t);
        let (softplus, sigmoid) = softplus_sigmoid(simd, e);
        let linear = simd.mul_f32s(simd.abs_f32s(l), wrong);
        let loss = simd.mul_add_f32s(weight, softplus, linear);
        let away = simd.negate_mul_add_f32s(weight, sigmoid, wrong);
        (loss, [simd.select_f32s(positive, away, simd.neg_f32s(away))])
    }

    const MENDS: bool = true;

    #[inline(always)]
    fn mend<S: Simd>(
        self,
        simd: S,
        [l, t]: [S::f32s; 2],
        (loss, [dlogit]): (S::f32s, [S::f32s; 1]),
    ) -> (S::f32s, [S::f32s; 1]) {
        // ∞·0 of a certain and right prediction, or of one whose weight is 0.
        let zero = simd.splat_f32s(0.0);
        let (_, wrong, _) = self.weights(simd, l, t);
        let certain = simd.equal_f32s(simd.abs_f32s(l), simd.splat_f32s(f32::INFINITY));
        let right = simd.and_m32s(certain, simd.equal_f32s(wrong, zero));
        let loss = simd.select_f32s(right, zero, loss);
        let number = simd.equal_f32s(l, l);
        (loss, [simd.select_f32s(number, dlogit, simd.splat_f32s(f32::NAN))])
    }
}

impl WeightedBernoulli {
    /// Whether the logit is positive, `w` and `c`.
    #[inline(always)]
    fn weights<S: Simd>(self, simd: S, l: S::f32s, t: S::f32s) -> (S::m32s, S::f32s, S::f32s) {
        let ones = simd.mul_f32s(simd.splat_f32s(self.0), t);
        let zeros = simd.sub_f32s(simd.splat_f32s(1.0), t);
        let positive = simd.less_than_f32s(simd.splat_f32s(0.0), l);
        (positive, simd.select_f32s(positive, zeros, ones), simd.add_f32s(ones, zeros))
    }
}

/// The Bernoulli loss of `logits[B, D]` against `targets[B, D]` with the ones weighted by
/// `positive_weight`, reduced: a weight above 1 for pixels that are rarely on.
///
/// ```text
/// loss(l, t) = −p·t·ln σ(l) − (1−t)·ln(1−σ(l))  =  (1−t)·l + (1+(p−1)t)·ln(1+e^{−l})
/// dlogits    = (p·t + 1 − t)·σ(l) − p·t
/// ```
///
/// `pos_weight` of `torch.nn.BCEWithLogitsLoss`. With p ≠ 1 it is no likelihood, and the loss no
/// bound. Each element is within 4 ULP, each gradient (before scaling) within 4 ULP of the larger
/// of its two terms; edges are as the [module](super) documents them.
///
/// # Errors
/// As [`forward`](super::forward); [`Error::Config`](crate::Error::Config) for a weight that is
/// negative or not finite.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, bernoulli}};
/// use ndarray::array;
///
/// let (logits, targets) = (array![[0.0, 0.0]], array![[1.0, 0.0]]);
/// let loss = bernoulli::forward_weighted(
///     &Compute::serial(), logits.view(), targets.view(), 3.0, Reduction::Sum)?;
/// assert!((loss - 4.0 * std::f64::consts::LN_2).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_weighted(
    compute: &Compute,
    logits: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    positive_weight: f32,
    reduction: Reduction,
) -> Result<f64> {
    expect_non_negative("positive_weight", positive_weight)?;
    let term = ValueOf(WeightedBernoulli(positive_weight));
    let inputs = [("logits", logits), ("targets", targets)];
    TermRows::new(term, [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dlogits[B, D]` with the gradient of [`forward_weighted`], whose value it returns, to
/// its bits.
///
/// # Errors
/// As [`forward_weighted`]; what `dlogits` then holds is unspecified.
pub fn forward_backward_weighted(
    compute: &Compute,
    dlogits: ArrayViewMut2<f32>,
    logits: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    positive_weight: f32,
    reduction: Reduction,
) -> Result<f64> {
    expect_non_negative("positive_weight", positive_weight)?;
    let term = WeightedBernoulli(positive_weight);
    let inputs = [("logits", logits), ("targets", targets)];
    TermRows::new(term, [("dlogits", dlogits)], inputs, 1.0, reduction)?.reduced(compute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::bernoulli::Bernoulli;
    use crate::loss::conformance::{Conformance, element};
    use crate::loss::reference;
    use crate::simd::InstructionSet;

    const TARGETS: [f32; 6] = [0.0, 1e-30, 0.1, 0.5, 0.9, 1.0];

    fn elements() -> Vec<[f32; 2]> {
        let logits = (-200..=200).map(|i| i as f32 / 16.0);
        let large = [1e-30, 1e-6, 20.0, 87.0, 88.8, 104.5, 1e4].into_iter();
        let logits = logits.chain(large.flat_map(|l| [l, -l]));
        logits.flat_map(|l| TARGETS.map(|t| [l, t])).collect()
    }

    #[test]
    fn conforms() {
        Conformance {
            term: WeightedBernoulli(2.75),
            twin: |inputs| reference::weighted_bernoulli(inputs, 2.75),
            elements: elements(),
            value_ulps: 4.0,
            value_size: |_, value| value,
            gradient_ulps: [4.0],
            underflow: 3.0 * f64::from(f32::MIN_POSITIVE),
            gradient_size: |[l, t], _| {
                let wrong = if l > 0.0 { 1.0 - t } else { 2.75 * t };
                [wrong.max((2.75 * t + 1.0 - t) / (1.0 + l.abs().exp()))]
            },
            smooth: elements().into_iter().filter(|e| e[0] != 0.0 && e[0].abs() < 15.0).collect(),
        }
        .check();
    }

    #[test]
    fn the_weight_one_is_no_weight() {
        let set = InstructionSet::detect();
        for inputs in elements() {
            let (weighted, [dweighted]) = element(set, WeightedBernoulli(1.0), inputs);
            let (plain, [dplain]) = element(set, Bernoulli, inputs);
            assert!((weighted - plain).abs() <= 4e-7 * plain, "{inputs:?}: {weighted} {plain}");
            assert!((dweighted - dplain).abs() <= 2e-7, "{inputs:?}: {dweighted} {dplain}");
        }
    }

    #[test]
    fn infinite_logits() {
        let infinity = f32::INFINITY;
        for set in InstructionSet::available() {
            let found = |p, l, t| element(set, WeightedBernoulli(p), [l, t]);
            assert_eq!(found(3.0, infinity, 1.0), (0.0, [0.0]));
            assert_eq!(found(3.0, -infinity, 0.0), (0.0, [0.0]));
            assert_eq!(found(3.0, -infinity, 0.5), (f64::INFINITY, [-1.5]));
            assert_eq!(found(3.0, infinity, 0.25), (f64::INFINITY, [0.75]));
            assert_eq!(found(0.0, -infinity, 1.0), (0.0, [0.0]));
            let (value, [gradient]) = found(2.0, f32::NAN, 0.5);
            assert!(value.is_nan() && gradient.is_nan());
        }
    }

    #[test]
    fn weights_that_are_none() {
        let x = ndarray::array![[0.5]];
        for weight in [-1.0, f32::NAN, f32::INFINITY] {
            let compute = Compute::serial();
            let error = forward_weighted(&compute, x.view(), x.view(), weight, Reduction::Sum);
            assert!(error.unwrap_err().to_string().starts_with("`positive_weight`: expected"));
        }
    }
}
