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
//! 1. `w = |t − [l > 0]|`, the part of the target on the wrong side: `1−t` for a positive logit,
//!    `t` for a negative one. Then `max(l,0) − l·t = |l|·w`, which does not cancel.
//! 2. `e = e^{−|l|}`, from which both `ln(1+e)` and `σ(−|l|) = e/(1+e)` follow. This is a loop of
//!    its own (`Term::SPLIT`).
//! 3. The loss is `|l|·w + ln(1+e)` in one fused multiply-add of terms of one sign.
//! 4. The gradient is `w − σ(−|l|)` with the sign of l: a saturated logit on the right side keeps
//!    the gradient's leading digits, which `1 − 1` would lose.
//! 5. There are no cases and no masks. Where l is infinite and w = 0, `∞·0` makes the row's sum NaN,
//!    and `Term::mend` computes such a row again with the limit, 0, in its place.
//!
//! # Contract, of every function here
//! - Targets lie anywhere in [0, 1]; −0 is 0.
//! - Each element of the loss is within 3 ULP or 1.2e-38, and each gradient (before scaling) within
//!   3 ULP of the larger of σ(−|l|) and w, or 1.2e-38: `e^{−|l|}` below f32's normal range is 0.
//! - `l = +∞, t = 1` and `l = −∞, t = 0` give 0 with gradient 0; an infinite logit with any other
//!   target gives +∞ with gradient `1−t` or `−t`. A NaN logit gives NaN for the total and for its
//!   own gradient. At ±0 the loss is ln 2 and the gradient ½ − t.
//! - A sum of n elements is within 8.4e-7 relative of the exact one, whatever n is.
//!
//! Source: the identity is the one that `torch.nn.functional.binary_cross_entropy_with_logits`
//! documents; the arrangement of the steps is this crate's.

pub(crate) mod weighted;

pub use weighted::{forward_backward_weighted, forward_weighted};

use super::Reduction;
use super::batch::TermRows;
use super::term::{Range, Term, ValueOf};
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term: inputs logit and target, gradient with respect to the logit.
#[derive(Clone, Copy)]
pub(crate) struct Bernoulli;

impl Term<2, 1> for Bernoulli {
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
        let bits = simd.transmute_u32s_f32s(l);
        let sign = simd.and_u32s(bits, simd.splat_u32s(SIGN));
        let half = simd.splat_u32s(0.5_f32.to_bits());
        let half_of_sign = simd.transmute_f32s_u32s(simd.or_u32s(sign, half));
        // 1 for positive logits, 0 for negative ones.
        let right = simd.add_f32s(half_of_sign, simd.splat_f32s(0.5));
        let wrong = simd.abs_f32s(simd.sub_f32s(t, right));

        let magnitude = simd.abs_f32s(l);
        let (softplus, sigmoid) = softplus_sigmoid(simd, e);
        let loss = simd.mul_add_f32s(magnitude, wrong, softplus);
        let away = simd.transmute_u32s_f32s(simd.sub_f32s(wrong, sigmoid));
        (loss, [simd.transmute_f32s_u32s(simd.xor_u32s(away, sign))])
    }

    const MENDS: bool = true;

    #[inline(always)]
    fn mend<S: Simd>(
        self,
        simd: S,
        [l, t]: [S::f32s; 2],
        (loss, [dlogit]): (S::f32s, [S::f32s; 1]),
    ) -> (S::f32s, [S::f32s; 1]) {
        // ∞·0 of a certain and right prediction. NaN is equal to nothing.
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let infinity = simd.splat_f32s(f32::INFINITY);
        let sure = simd.equal_f32s(l, infinity);
        let sure = simd.and_m32s(sure, simd.equal_f32s(t, one));
        let sure_not = simd.equal_f32s(l, simd.neg_f32s(infinity));
        let sure_not = simd.and_m32s(sure_not, simd.equal_f32s(t, zero));
        let loss = simd.select_f32s(simd.or_m32s(sure, sure_not), zero, loss);
        // `exp_of_minus` has lost a NaN.
        let number = simd.equal_f32s(l, l);
        (loss, [simd.select_f32s(number, dlogit, simd.splat_f32s(f32::NAN))])
    }
}

/// The sign of a float.
const SIGN: u32 = 1 << 31;
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
/// Here `n` is −127, whose exponent makes 2ⁿ zero, and so `e^{−a}`.
const LIMIT: f32 = 88.0;

/// `e^{−a}` for a ≥ 0; NaN is taken for ∞.
///
/// Half of what a general exponential must do: it never overflows. Masks are dear in AVX-512 (about
/// one operation in a cycle), so the range ends by an integer minimum.
#[inline(always)]
pub(crate) fn exp_of_minus<S: Simd>(simd: S, a: S::f32s) -> S::f32s {
    let bits = simd.min_u32s(simd.transmute_u32s_f32s(a), simd.splat_u32s(LIMIT.to_bits()));
    let a = simd.transmute_f32s_u32s(bits);
    // −a = n·ln 2 − r. Adding 1.5·2²³ + 127 rounds n to a whole number and leaves its biased
    // exponent in the lowest bits.
    let round = simd.splat_f32s(12_582_912.0 + 127.0);
    let shifted = simd.negate_mul_add_f32s(a, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let bits = simd.transmute_u32s_f32s(shifted);
    let power = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)));
    let r = simd.mul_add_f32s(n, simd.splat_f32s(std::f32::consts::LN_2), a);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-1.904_654_3e-9), r);
    // 1 − e^{−r} = r + r²·(−c₀ + c₁r − …), in Estrin's order: the loop is bound by how long
    // operations wait for each other as much as by their number.
    let square = simd.mul_f32s(r, r);
    let c01 = linear(simd, EXP[1], -EXP[0], r);
    let c23 = linear(simd, EXP[3], -EXP[2], r);
    let c234 = simd.mul_add_f32s(simd.splat_f32s(-EXP[4]), square, c23);
    let tail = simd.mul_add_f32s(c234, square, c01);
    let fall = simd.mul_add_f32s(tail, square, r);
    simd.negate_mul_add_f32s(fall, power, power)
}

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

/// `slope·x + offset`.
#[inline(always)]
fn linear<S: Simd>(simd: S, slope: f32, offset: f32, x: S::f32s) -> S::f32s {
    simd.mul_add_f32s(simd.splat_f32s(slope), x, simd.splat_f32s(offset))
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
    use crate::loss::conformance::{Conformance, element, same};
    use crate::loss::reference;
    use crate::loss::term::row;
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
    fn exceptional_logits_within_rows() {
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
