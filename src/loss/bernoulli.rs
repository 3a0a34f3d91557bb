//! Bernoulli likelihood from logits: binary cross-entropy fused with the sigmoid.
//!
//! For a logit `l` and a target `t` in [0, 1], with σ(l) = 1/(1+e^{−l}):
//!
//! ```text
//! loss(l, t) = −t·ln σ(l) − (1−t)·ln(1−σ(l))  =  max(l,0) − l·t + ln(1+e^{−|l|})
//! dlogits    = σ(l) − t
//! ```
//!
//! # Derivation
//! −ln σ(l) = ln(1+e^{−l}) and −ln(1−σ(l)) = l + ln(1+e^{−l}); their mean weighted by t and 1−t
//! is (1−t)·l + ln(1+e^{−l}), and ln(1+e^{−l}) = max(−l,0) + ln(1+e^{−|l|}) never overflows.
//! The derivative of (1−t)·l + ln(1+e^{−l}) is 1 − t − σ(−l) = σ(l) − t.
//!
//! With a weight p of the ones the first term is p times as large. With c = p·t + 1 − t:
//!
//! ```text
//! loss(l, t) = −p·t·ln σ(l) − (1−t)·ln(1−σ(l))  =  (1−t)·l + c·ln(1+e^{−l})
//! dlogits    = c·σ(l) − p·t
//! ```
//!
//! # Method
//! 1. `w = |t − [l > 0]|`, the part of the target on the wrong side: `1−t` for a positive logit,
//!    `t` for a negative one. Then `max(l,0) − l·t = |l|·w`, which does not cancel.
//! 2. `e = e^{−|l|}`, from which both `ln(1+e)` and `σ(−|l|) = e/(1+e)` follow. This is a loop of
//!    its own (`Term::TWO_STAGE`).
//! 3. The loss is `|l|·w + ln(1+e)` in one fused multiply-add of terms of one sign.
//! 4. The gradient is `w − σ(−|l|)` with the sign of l: a saturated logit on the right side keeps
//!    the gradient's leading digits, which `1 − 1` would lose.
//! 5. There are no cases and no masks. Where l is infinite and w = 0, `∞·0` makes the row's sum NaN,
//!    and `Term::fix_nonfinite` computes such a row again with the limit, 0, in its place.
//! 6. With a weight, `w` is `1−t` or `p·t`, the loss `|l|·w + c·ln(1+e)` and the gradient
//!    `w − c·σ(−|l|)` with the sign of l.
//!
//! # Contract
//! - Targets lie anywhere in [0, 1]; −0 is 0.
//! - Each element of the loss is within 3 ULP or 1.2e-38, and each gradient (before scaling) within
//!   3 ULP of the larger of σ(−|l|) and w, or 1.2e-38: `e^{−|l|}` below f32's normal range is 0.
//! - By pairs, with the loss and the gradient of each:
//!
//!   | l | t = 0, −0 | t in (0, 1) | t = 1 | any other t |
//!   |---|---|---|---|---|
//!   | −∞ | 0, 0 | +∞, −t | +∞, −1 | an error |
//!   | ±0 | ln 2, ½ | ln 2, ½ − t | ln 2, −½ | an error |
//!   | other finite | finite | finite | finite | an error |
//!   | +∞ | +∞, 1 | +∞, 1 − t | 0, 0 | an error |
//!   | NaN | NaN, NaN | NaN, NaN | NaN, NaN | an error |
//! - With a weight each element is within 3.5·2⁻²³ of itself, relative, and each gradient within 4·2⁻²³ of the
//!   larger of its terms, where neither is subnormal.
//! - A sum of n elements is within 8.4e-7 relative of the exact one, whatever n is.
//!
//! Source: the identity is the one that `torch.nn.functional.binary_cross_entropy_with_logits`
//! documents; the arrangement of the steps is this crate's.

use super::kernel::{Range, Term};
use super::term::sealed::Sealed;
use super::term::{Elementwise, Reconstruction};
use crate::error::{Result, expect_non_negative};
use crate::math::exp::exp_of_minus;
use crate::math::polynomial::linear;
use pulp::Simd;

/// The Bernoulli negative log-likelihood of logits.
///
/// `dlogits = (σ(logits) − targets)/n`; domain, error bounds and edges are the [module's](self).
///
/// ```
/// use elbo::{Compute, loss::{Bernoulli, LossTerm, ReconstructionInputs, Reduction}};
/// use ndarray::array;
///
/// let (logits, targets) = (array![[0.0, 2.0]], array![[1.0, 0.25]]);
/// let inputs = ReconstructionInputs { outputs: logits.view(), targets: targets.view() };
/// let loss = Bernoulli.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// // ln 2 and ¾·2 + ln(1 + e⁻²)
/// assert!((loss - (0.693_147 + 1.5 + 0.126_928)).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bernoulli;

impl Sealed for Bernoulli {}
impl Reconstruction for Bernoulli {}
impl Elementwise for Bernoulli {}

impl Term<2, 1> for Bernoulli {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    const TWO_STAGE: bool = true;

    #[inline(always)]
    fn stage1<S: Simd>(self, simd: S, [l, _]: [S::f32s; 2]) -> S::f32s {
        // 2.
        exp_of_minus(simd, simd.abs_f32s(l))
    }

    #[inline(always)]
    fn stage2<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2], e: S::f32s) -> (S::f32s, [S::f32s; 1]) {
        // 1. Without a mask: ½ with the sign of l, plus ½.
        let bits = simd.transmute_u32s_f32s(l);
        let sign = simd.and_u32s(bits, simd.splat_u32s(SIGN));
        let half = simd.splat_u32s(0.5_f32.to_bits());
        let half_of_sign = simd.transmute_f32s_u32s(simd.or_u32s(sign, half));
        // 1 for positive logits, 0 for negative ones.
        let right = simd.add_f32s(half_of_sign, simd.splat_f32s(0.5));
        let wrong = simd.abs_f32s(simd.sub_f32s(t, right));

        let magnitude = simd.abs_f32s(l);
        let (softplus, sigmoid) = softplus_sigmoid(simd, e);
        // 3.
        let loss = simd.mul_add_f32s(magnitude, wrong, softplus);
        // 4.
        let away = simd.transmute_u32s_f32s(simd.sub_f32s(wrong, sigmoid));
        (loss, [simd.transmute_f32s_u32s(simd.xor_u32s(away, sign))])
    }

    const FIXES_NONFINITE: bool = true;

    #[inline(always)]
    fn fix_nonfinite<S: Simd>(
        self,
        simd: S,
        [l, t]: [S::f32s; 2],
        (loss, [dlogit]): (S::f32s, [S::f32s; 1]),
    ) -> (S::f32s, [S::f32s; 1]) {
        // 5. ∞·0 of a certain and right prediction. NaN is equal to nothing.
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let infinity = simd.splat_f32s(f32::INFINITY);
        let sure = simd.equal_f32s(l, infinity);
        let sure = simd.and_m32s(sure, simd.equal_f32s(t, one));
        let sure_not = simd.equal_f32s(l, simd.neg_f32s(infinity));
        let sure_not = simd.and_m32s(sure_not, simd.equal_f32s(t, zero));
        let loss = simd.select_f32s(simd.or_m32s(sure, sure_not), zero, loss);
        // `exp_of_minus` has turned a NaN into ∞.
        let number = simd.equal_f32s(l, l);
        (loss, [simd.select_f32s(number, dlogit, simd.splat_f32s(f32::NAN))])
    }
}

/// [`Bernoulli`] with a weight for the ones: above 1 for pixels that are rarely on.
///
/// `pos_weight` of `torch.nn.BCEWithLogitsLoss`. With p ≠ 1 it is no likelihood, and the loss no
/// bound. `dlogits = (c·σ(l) − p·t)/n`; domain, error bounds and edges are the [module's](self).
///
/// ```
/// use elbo::{Compute, loss::{LossTerm, ReconstructionInputs, Reduction, WeightedBernoulli}};
/// use ndarray::array;
///
/// let (logits, targets) = (array![[0.0, 0.0]], array![[1.0, 0.0]]);
/// let inputs = ReconstructionInputs { outputs: logits.view(), targets: targets.view() };
/// let term = WeightedBernoulli { pos_weight: 3.0 };
/// let loss = term.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// assert!((loss - 4.0 * std::f64::consts::LN_2).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightedBernoulli {
    /// The weight p of the ones: finite, 0 or more.
    pub pos_weight: f32,
}

impl Sealed for WeightedBernoulli {}
impl Reconstruction for WeightedBernoulli {}

impl Elementwise for WeightedBernoulli {
    fn check(&self) -> Result<()> {
        expect_non_negative("pos_weight", self.pos_weight)
    }
}

impl Term<2, 1> for WeightedBernoulli {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    const TWO_STAGE: bool = true;

    #[inline(always)]
    fn stage1<S: Simd>(self, simd: S, [l, _]: [S::f32s; 2]) -> S::f32s {
        // 2.
        exp_of_minus(simd, simd.abs_f32s(l))
    }

    #[inline(always)]
    fn stage2<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2], e: S::f32s) -> (S::f32s, [S::f32s; 1]) {
        // 1. and 6.
        let (positive, wrong, weight) = self.weights(simd, l, t);
        let (softplus, sigmoid) = softplus_sigmoid(simd, e);
        let linear = simd.mul_f32s(simd.abs_f32s(l), wrong);
        let loss = simd.mul_add_f32s(weight, softplus, linear);
        let away = simd.negate_mul_add_f32s(weight, sigmoid, wrong);
        (loss, [simd.select_f32s(positive, away, simd.neg_f32s(away))])
    }

    const FIXES_NONFINITE: bool = true;

    #[inline(always)]
    fn fix_nonfinite<S: Simd>(
        self,
        simd: S,
        [l, t]: [S::f32s; 2],
        (loss, [dlogit]): (S::f32s, [S::f32s; 1]),
    ) -> (S::f32s, [S::f32s; 1]) {
        // 5. ∞·0 of a certain and right prediction, or of one whose weight is 0.
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
    /// The mask of positive logits, `w` and `c`.
    #[inline(always)]
    fn weights<S: Simd>(self, simd: S, l: S::f32s, t: S::f32s) -> (S::m32s, S::f32s, S::f32s) {
        let ones = simd.mul_f32s(simd.splat_f32s(self.pos_weight), t);
        let zeros = simd.sub_f32s(simd.splat_f32s(1.0), t);
        let positive = simd.less_than_f32s(simd.splat_f32s(0.0), l);
        (positive, simd.select_f32s(positive, zeros, ones), simd.add_f32s(ones, zeros))
    }
}

/// The sign of a float.
const SIGN: u32 = 1 << 31;
/// `ln(1+e) = e + e²·(c₀ + c₁e + …)` on [0, 1] to a relative 2⁻²⁷ (Remez).
const LOG1P: [f32; 9] = [
    -0.499_999_33,
    0.333_305_1,
    -0.249_585_87,
    0.196_954,
    -0.153_553_95,
    0.106_805_54,
    -0.057_664_43,
    0.020_204_58,
    -0.003_318_471_6,
];
/// `ln(1+e)` and `e/(1+e)` for e from 0 to 1: a logarithm that needs no reduction of its range.
#[inline(always)]
fn softplus_sigmoid<S: Simd>(simd: S, e: S::f32s) -> (S::f32s, S::f32s) {
    let square = simd.mul_f32s(e, e);
    let fourth = simd.mul_f32s(square, square);
    let c01 = linear(simd, LOG1P[1], LOG1P[0], e);
    let c23 = linear(simd, LOG1P[3], LOG1P[2], e);
    let c45 = linear(simd, LOG1P[5], LOG1P[4], e);
    let c67 = linear(simd, LOG1P[7], LOG1P[6], e);
    let low = simd.mul_add_f32s(c23, square, c01);
    let high = simd.mul_add_f32s(c67, square, c45);
    let high = simd.mul_add_f32s(simd.splat_f32s(LOG1P[8]), fourth, high);
    let tail = simd.mul_add_f32s(high, fourth, low);
    let softplus = simd.mul_add_f32s(tail, square, e);
    (softplus, simd.div_f32s(e, simd.add_f32s(e, simd.splat_f32s(1.0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::loss::kernel::{ValueOf, row};
    use crate::loss::testing::conformance::{Conformance, element, same};
    use crate::loss::testing::reference;
    use crate::loss::{LossTerm, ReconstructionInputs, Reduction};
    use crate::simd::InstructionSet;
    use pulp::WithSimd;

    const TARGETS: [f32; 8] = [0.0, -0.0, 1e-30, 0.1, 0.5, 0.9, 1.0 - 6e-8, 1.0];

    #[test]
    fn conforms() {
        let ordinary = (-400..=400).map(|i| i as f32 / 32.0);
        let tiny = [0.0, 1e-45, 1e-40, 1e-38, 1e-20, 1e-8, 6e-8, 1e-4];
        let large = [16.6, 17.4, 20.0, 87.0, 88.0, 88.8, 103.0, 104.5, 1e4, 3e38];
        let signed = tiny.into_iter().chain(large).flat_map(|l| [l, -l]);
        let elements = |logits: Vec<f32>| -> Vec<[f32; 2]> {
            logits.iter().flat_map(|&l| TARGETS.map(|t| [l, t])).collect()
        };
        Conformance {
            term: Bernoulli,
            twin: reference::bernoulli,
            elements: elements(ordinary.clone().chain(signed).collect()),
            value_ulps: 3.0,
            value_size: |_, value| value,
            gradient_ulps: [3.0],
            underflow: f64::from(f32::MIN_POSITIVE),
            gradient_size: |[l, t], _| {
                let wrong = if l > 0.0 { 1.0 - t } else { t };
                [wrong.max(1.0 / (1.0 + l.abs().exp()))]
            },
            smooth: elements(ordinary.filter(|&l| l != 0.0).collect()),
        }
        .check();
    }

    /// Exceptional logits in every place of a row leave the other elements as they were.
    #[test]
    fn keeps_exceptional_logits_to_themselves() {
        struct Row<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
        impl WithSimd for Row<'_> {
            type Output = (f64, f64);
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
                let value = row(simd, ValueOf(Bernoulli), [], [self.1, self.2], 1.0).sum;
                (row(simd, Bernoulli, [self.0], [self.1, self.2], 1.0).sum, value)
            }
        }
        const COLUMNS: usize = 16 * 16 + 16 + 5;
        let targets: Vec<f32> = (0..COLUMNS).map(|i| [1.0, 0.0, 0.3][i % 3]).collect();
        let ordinary: Vec<f32> = (0..COLUMNS).map(|i| (i % 37) as f32 / 3.0 - 6.0).collect();
        let sets = InstructionSet::available();
        for set in sets {
            let mut expected = [0.0; COLUMNS];
            let (sum, value) = set.dispatch(Row(&mut expected, &ordinary, &targets));
            assert_eq!(sum, value);
            for place in 0..COLUMNS {
                for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                    let mut logits = ordinary.clone();
                    logits[place] = special;
                    let mut dlogits = [f32::NAN; COLUMNS];
                    let (sum, value) = set.dispatch(Row(&mut dlogits, &logits, &targets));
                    let (own, [dlogit]) = element(set, Bernoulli, [special, targets[place]]);
                    assert!(same(sum, value), "{set} {place} {special}");
                    match own {
                        0.0 => assert!(sum.is_finite() && sum < 2e3, "{set} {place} {special}"),
                        _ => assert!(same(sum, own), "{set} {place} {special}: {sum}"),
                    }
                    assert!(same(dlogits[place].into(), dlogit.into()), "{set} {place} {special}");
                    dlogits[place] = expected[place];
                    assert_eq!(dlogits, expected, "{set} {place} {special}");
                }
            }
        }
    }

    #[test]
    fn handles_infinite_logits() {
        let infinity = f32::INFINITY;
        for set in InstructionSet::available() {
            assert_eq!(element(set, Bernoulli, [infinity, 1.0]), (0.0, [0.0]));
            assert_eq!(element(set, Bernoulli, [-infinity, 0.0]), (0.0, [0.0]));
            assert_eq!(element(set, Bernoulli, [-infinity, -0.0]), (0.0, [0.0]));
            let infinite = f64::INFINITY;
            assert_eq!(element(set, Bernoulli, [infinity, 0.25]), (infinite, [0.75]));
            assert_eq!(element(set, Bernoulli, [infinity, 0.0]), (infinite, [1.0]));
            assert_eq!(element(set, Bernoulli, [-infinity, 0.25]), (infinite, [-0.25]));
            assert_eq!(element(set, Bernoulli, [-infinity, 1.0]), (infinite, [-1.0]));
            for t in [0.0, 0.5, 1.0] {
                let (value, [gradient]) = element(set, Bernoulli, [f32::NAN, t]);
                assert!(value.is_nan() && gradient.is_nan(), "{set} {t}");
            }
        }
    }

    const WEIGHTED_TARGETS: [f32; 6] = [0.0, 1e-30, 0.1, 0.5, 0.9, 1.0];

    fn weighted_elements() -> Vec<[f32; 2]> {
        let logits = (-200..=200).map(|i| i as f32 / 16.0);
        let large = [1e-30, 1e-6, 20.0, 87.0, 88.8, 104.5, 1e4].into_iter();
        let logits = logits.chain(large.flat_map(|l| [l, -l]));
        logits.flat_map(|l| WEIGHTED_TARGETS.map(|t| [l, t])).collect()
    }

    #[test]
    fn conforms_with_a_weight() {
        Conformance {
            term: WeightedBernoulli { pos_weight: 2.75 },
            twin: |inputs| reference::weighted_bernoulli(inputs, 2.75),
            elements: weighted_elements(),
            // An ULP is at most 2⁻²³ of the size.
            value_ulps: 3.5,
            value_size: |_, value| value,
            gradient_ulps: [4.0],
            underflow: 3.0 * f64::from(f32::MIN_POSITIVE),
            gradient_size: |[l, t], _| {
                let wrong = if l > 0.0 { 1.0 - t } else { 2.75 * t };
                [wrong.max((2.75 * t + 1.0 - t) / (1.0 + l.abs().exp()))]
            },
            smooth: weighted_elements()
                .into_iter()
                .filter(|e| e[0] != 0.0 && e[0].abs() < 15.0)
                .collect(),
        }
        .check();
    }

    #[test]
    fn agrees_with_the_unweighted_loss_at_weight_one() {
        let set = InstructionSet::detect();
        for inputs in weighted_elements() {
            let (weighted, [dweighted]) =
                element(set, WeightedBernoulli { pos_weight: 1.0 }, inputs);
            let (plain, [dplain]) = element(set, Bernoulli, inputs);
            assert!((weighted - plain).abs() <= 4e-7 * plain, "{inputs:?}: {weighted} {plain}");
            assert!((dweighted - dplain).abs() <= 2e-7, "{inputs:?}: {dweighted} {dplain}");
        }
    }

    #[test]
    fn handles_infinite_logits_with_a_weight() {
        let infinity = f32::INFINITY;
        for set in InstructionSet::available() {
            let found = |p, l, t| element(set, WeightedBernoulli { pos_weight: p }, [l, t]);
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
    fn rejects_invalid_weights() {
        let x = ndarray::array![[0.5]];
        let inputs = ReconstructionInputs { outputs: x.view(), targets: x.view() };
        for pos_weight in [-1.0, f32::NAN, f32::INFINITY] {
            let term = WeightedBernoulli { pos_weight };
            let error = term.forward(&Compute::serial(), inputs, Reduction::Sum).unwrap_err();
            assert!(error.to_string().starts_with("`pos_weight`: expected"));
        }
    }
}
