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
//! # Method
//! 1. `w`, the part of the target on the wrong side: `1−t` for `l > 0`, else `t`. Then
//!    `max(l,0) − l·t = |l|·w`, which neither cancels nor, with w = 0, depends on l.
//! 2. `ln(1+e^{−|l|})` and `σ(−|l|)` share one exponential.
//! 3. The loss is `|l|·w + ln(1+e^{−|l|})` in one fused multiply-add of terms of one sign; where
//!    w = 0 the product is left out, since ∞·0 is no number and the loss there is 0.
//! 4. The gradient is `w − σ(−|l|)` with the sign of −l: a saturated logit on the right side keeps
//!    the gradient's leading digits, which `1 − 1` would lose.
//!
//! # Contract, of every function here
//! - Targets lie anywhere in [0, 1]; −0 is 0.
//! - Each element of the loss is within 4 ULP and each gradient (before scaling) within 4 ULP of
//!   the larger of σ(−|l|) and w.
//! - `l = +∞, t = 1` and `l = −∞, t = 0` give 0 with gradient 0; an infinite logit with any other
//!   target gives +∞ with gradient `1−t` or `−t`. A NaN logit gives NaN for the total and for its
//!   own gradient. ±0 are alike: ln 2, gradient ½ − t.
//! - A sum of n elements is within 8.4e-7 relative of the exact one, whatever n is.
//!
//! Source: the identity is the one that `torch.nn.functional.binary_cross_entropy_with_logits`
//! documents; steps 1, 3 and 4 are arranged for this crate.

use super::Reduction;
use super::batch::TermRows;
use super::term::{Range, Term, ValueOf, row};
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term: inputs logit and target, gradient with respect to the logit.
#[derive(Clone, Copy)]
pub(crate) struct Bernoulli;

impl Term<2, 1> for Bernoulli {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let positive = simd.greater_than_f32s(l, zero);
        let wrong = simd.select_f32s(positive, simd.sub_f32s(one, t), t);
        let magnitude = simd.abs_f32s(l);
        let (softplus, sigmoid) = tails(simd, magnitude);

        let loss = simd.mul_add_f32s(magnitude, wrong, softplus);
        let loss = simd.select_f32s(simd.equal_f32s(wrong, zero), softplus, loss);
        let rising = simd.sub_f32s(wrong, sigmoid);
        let falling = simd.sub_f32s(sigmoid, wrong);
        (loss, [simd.select_f32s(positive, rising, falling)])
    }
}

/// `eʳ = 1 + r + r²·(c₀ + c₁r + …)` on ±½ ln 2 to a relative 2⁻²⁸ (Remez).
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_39, 0.008_368_745, 0.001_381_454];
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
/// Beyond this `e^{−a}` is taken for 0: it is below the least normal f32.
const UNDERFLOW: f32 = 87.336_54;

/// `ln(1+e^{−a})` and `σ(−a) = e^{−a}/(1+e^{−a})` for a ≥ 0.
///
/// Only half of what a general exponential and logarithm must do: the exponent never overflows and
/// the logarithm's argument is between 1 and 2, where one polynomial serves and needs no table, no
/// second division and no case.
#[inline(always)]
fn tails<S: Simd>(simd: S, a: S::f32s) -> (S::f32s, S::f32s) {
    let one = simd.splat_f32s(1.0);
    // −a = n·ln 2 + r. Adding 1.5·2²³ + 127 rounds n to a whole number and leaves its biased
    // exponent in the lowest bits.
    let round = simd.splat_f32s(12_582_912.0 + 127.0);
    let shifted = simd.negate_mul_add_f32s(a, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let bits = simd.transmute_u32s_f32s(shifted);
    let power = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)));
    let minus_r = simd.mul_add_f32s(n, simd.splat_f32s(std::f32::consts::LN_2), a);
    let r = simd.negate_mul_add_f32s(n, simd.splat_f32s(-1.904_654_3e-9), simd.neg_f32s(minus_r));
    let mut tail = simd.splat_f32s(EXP[4]);
    for i in (0..4).rev() {
        tail = simd.mul_add_f32s(tail, r, simd.splat_f32s(EXP[i]));
    }
    let e = simd.mul_add_f32s(simd.mul_add_f32s(tail, r, one), r, one);
    let e = simd.mul_f32s(e, power);
    let underflow = simd.greater_than_f32s(a, simd.splat_f32s(UNDERFLOW));
    let e = simd.select_f32s(underflow, simd.splat_f32s(0.0), e);

    let mut tail = simd.splat_f32s(LOG1P[8]);
    for i in (0..8).rev() {
        tail = simd.mul_add_f32s(tail, e, simd.splat_f32s(LOG1P[i]));
    }
    let softplus = simd.mul_add_f32s(simd.mul_f32s(tail, e), e, e);
    (softplus, simd.div_f32s(e, simd.add_f32s(e, one)))
}

/// `dlogits = scale·(σ(logits) − targets)`, overwritten; returns the row's loss, unscaled.
///
/// Data outside [0, 1] is not looked for here: the caller has checked it.
#[inline(always)]
pub(crate) fn bernoulli_row<S: Simd>(
    simd: S,
    dlogits: &mut [f32],
    logits: &[f32],
    targets: &[f32],
    scale: f32,
) -> f64 {
    row(simd, Bernoulli, [dlogits], [logits, targets], scale).sum
}

/// The value of [`bernoulli_row`], to the same bits, without the gradients.
#[inline(always)]
pub(crate) fn bernoulli_row_value<S: Simd>(simd: S, logits: &[f32], targets: &[f32]) -> f64 {
    row(simd, ValueOf(Bernoulli), [], [logits, targets], 1.0).sum
}

/// The Bernoulli loss of `logits[B, D]` against `targets[B, D]`, reduced, in nats.
///
/// Formula, domain, error bounds and the rules for ±∞, NaN and −0 are the
/// [module's](self).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::TargetOutOfRange`](crate::Error::TargetOutOfRange) for the first target, in row order,
/// outside [0, 1], or [`Error::NotFiniteData`](crate::Error::NotFiniteData) if it is NaN or ±∞.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, bernoulli}};
/// use ndarray::array;
///
/// let (logits, targets) = (array![[0.0, 2.0]], array![[1.0, 0.25]]);
/// let loss = bernoulli::forward(
///     &Compute::serial(), logits.view(), targets.view(), Reduction::Sum)?;
/// // ln 2 and ¾·2 + ln(1 + e⁻²)
/// assert!((loss - (0.693_147 + 1.5 + 0.126_928)).abs() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward(
    compute: &Compute,
    logits: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = [("logits", logits), ("targets", targets)];
    TermRows::new(ValueOf(Bernoulli), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dlogits[B, D]` with the gradient of [`forward`], whose value it returns.
///
/// `dlogits = (σ(logits) − targets)/n`, with n = 1, B or B·D by `reduction`. The value has the
/// bits of [`forward`]'s.
///
/// # Errors
/// As [`forward`]; what `dlogits` then holds is unspecified.
pub fn forward_backward(
    compute: &Compute,
    dlogits: ArrayViewMut2<f32>,
    logits: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = [("logits", logits), ("targets", targets)];
    TermRows::new(Bernoulli, [("dlogits", dlogits)], inputs, 1.0, reduction)?.reduced(compute)
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
            value_ulps: 4.0,
            gradient_ulps: [4.0],
            underflow: f64::from(f32::MIN_POSITIVE),
            gradient_size: |[l, t], _| {
                let wrong = if l > 0.0 { 1.0 - t } else { t };
                [wrong.max(1.0 / (1.0 + l.abs().exp()))]
            },
            smooth: elements(ordinary.filter(|&l| l != 0.0).collect()),
        }
        .check();
    }

    #[test]
    fn infinite_logits() {
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
}
