//! The Bernoulli loss of a rounded sigmoid: what a network that ends in one minimizes.

use super::BernoulliProbability;
use crate::loss::Reduction;
use crate::loss::batch::TermRows;
use crate::loss::term::{Range, Term, ValueOf};
use crate::math::sigmoid::sigmoid;
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term: inputs logit and target, gradient with respect to the logit.
#[derive(Clone, Copy)]
pub(crate) struct SigmoidProbabilities;

impl Term<2, 1> for SigmoidProbabilities {
    const ACCEPTS: Option<Range> = Some(Range::UNIT);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let x = sigmoid(simd, l);
        let (loss, [dx]) = BernoulliProbability.lane(simd, [x, t]);
        let slope = simd.mul_f32s(x, simd.sub_f32s(simd.splat_f32s(1.0), x));
        (loss, [simd.mul_f32s(dx, slope)])
    }
}

/// The Bernoulli loss of `x = σ(logits[B, D])`, rounded to f32, against `targets[B, D]`, reduced.
///
/// ```text
/// loss(l, t) = −[t·max(ln x,−100) + (1−t)·max(ln(1−x),−100)],  x = σ(l)
/// dlogits    = (x−t)·x(1−x) / max(x(1−x), 1e−12)
/// ```
///
/// Where [`bernoulli`](crate::loss::bernoulli) is the same formula without rounding, this is what
/// `torch.sigmoid` followed by `torch.nn.functional.binary_cross_entropy` computes: from l = 16.7 on x is
/// 1, the loss of a wrong pixel 100 and its gradient 0. It is here for comparison with such
/// networks. The value is that of [`forward`](super::forward) at σ(l), to the bit; the gradient is
/// within 1 ULP of that one's times x(1−x).
///
/// # Errors
/// As [`forward`](super::forward).
///
/// ```
/// use elbo::{Compute, loss::{Reduction, bernoulli, probabilities}};
/// use ndarray::array;
///
/// let (l, t) = (array![[40.0]], array![[0.0]]);
/// let (compute, reduction) = (Compute::serial(), Reduction::Sum);
/// assert_eq!(probabilities::forward_sigmoid(&compute, l.view(), t.view(), reduction)?, 100.0);
/// assert_eq!(bernoulli::forward(&compute, l.view(), t.view(), reduction)?, 40.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_sigmoid(
    compute: &Compute,
    logits: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = [("logits", logits), ("targets", targets)];
    TermRows::new(ValueOf(SigmoidProbabilities), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dlogits[B, D]` with the gradient of [`forward_sigmoid`], whose value it returns, to its
/// bits.
///
/// # Errors
/// As [`forward_sigmoid`]; what `dlogits` then holds is unspecified.
pub fn forward_backward_sigmoid(
    compute: &Compute,
    dlogits: ArrayViewMut2<f32>,
    logits: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let gradients = [("dlogits", dlogits)];
    let inputs = [("logits", logits), ("targets", targets)];
    TermRows::new(SigmoidProbabilities, gradients, inputs, 1.0, reduction)?.reduced(compute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::element;
    use crate::loss::reference;
    use crate::math;
    use crate::simd::InstructionSet;

    #[test]
    fn the_parts_one_after_the_other() {
        for i in -240..=240 {
            for t in [0.0, 0.3, 1.0] {
                let l = i as f32 / 5.0;
                let mut x = [f32::NAN];
                math::sigmoid(InstructionSet::SCALAR, &mut x, &[l]).unwrap();
                let (value, [dx]) =
                    element(InstructionSet::SCALAR, BernoulliProbability, [x[0], t]);
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
    fn moderate_logits_have_the_loss_from_logits() {
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
    fn a_wrong_pixel_is_dead() {
        for set in InstructionSet::available() {
            assert_eq!(element(set, SigmoidProbabilities, [20.0, 0.0]), (100.0, [0.0]));
            let (value, [gradient]) = element(set, SigmoidProbabilities, [f32::NAN, 0.5]);
            assert!(value.is_nan() && gradient.is_nan());
        }
    }
}
