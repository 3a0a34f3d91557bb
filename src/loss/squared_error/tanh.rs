//! The squared error of a hyperbolic tangent: for data in [−1, 1].

use crate::loss::Reduction;
use crate::loss::batch::TermRows;
use crate::loss::bernoulli::exp_of_minus;
use crate::loss::term::{Range, Term, ValueOf};
use crate::math::tanh::tanh;
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term: inputs decoder output and target, gradient with respect to the output.
///
/// 1 − tanh² is 4e/(1+e)² with e = e^{−2|l|}: an output that has gone far keeps a gradient where the
/// difference of 1 and the square of 1 would be 0.
#[derive(Clone, Copy)]
pub(crate) struct TanhSquaredError;

impl Term<2, 1> for TanhSquaredError {
    const ACCEPTS: Option<Range> = Some(Range::SYMMETRIC);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let difference = simd.sub_f32s(tanh(simd, l), t);
        let magnitude = simd.abs_f32s(l);
        let e = exp_of_minus(simd, simd.add_f32s(magnitude, magnitude));
        let sum = simd.add_f32s(e, simd.splat_f32s(1.0));
        let eight = simd.mul_f32s(simd.splat_f32s(8.0), e);
        let slope = simd.div_f32s(eight, simd.mul_f32s(sum, sum));
        (simd.mul_f32s(difference, difference), [simd.mul_f32s(difference, slope)])
    }
}

/// The squared error of `tanh(outputs[B, D])` against `targets[B, D]`, reduced.
///
/// ```text
/// loss(l, t) = (x−t)²,  x = tanh l
/// doutputs   = 2(x−t)(1−x²)
/// ```
///
/// Targets lie in [−1, 1]. x is within 2 ULP, so an element of the loss within 4 ULP of the larger of
/// itself and |x·(x−t)|, and a gradient (before scaling) within 8 ULP, each relative to x or x−t,
/// whichever is larger. NaN gives NaN; ±∞ gives x = ±1 with gradient 0.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::TargetOutOfRange`](crate::Error::TargetOutOfRange) for the first target, in row order,
/// outside [−1, 1], or [`Error::NotFiniteData`](crate::Error::NotFiniteData) if it is NaN or ±∞.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, squared_error}};
/// use ndarray::array;
///
/// let (l, t) = (array![[0.0, 30.0]], array![[-0.5, 0.5]]);
/// let compute = Compute::serial();
/// let loss = squared_error::forward_tanh(&compute, l.view(), t.view(), Reduction::Sum)?;
/// assert_eq!(loss, 0.25 + 0.25);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_tanh(
    compute: &Compute,
    outputs: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = [("outputs", outputs), ("targets", targets)];
    TermRows::new(ValueOf(TanhSquaredError), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `doutputs[B, D]` with the gradient of [`forward_tanh`], whose value it returns, to its
/// bits.
///
/// # Errors
/// As [`forward_tanh`]; what `doutputs` then holds is unspecified.
pub fn forward_backward_tanh(
    compute: &Compute,
    doutputs: ArrayViewMut2<f32>,
    outputs: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let gradients = [("doutputs", doutputs)];
    let inputs = [("outputs", outputs), ("targets", targets)];
    TermRows::new(TanhSquaredError, gradients, inputs, 1.0, reduction)?.reduced(compute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::{Conformance, element};
    use crate::loss::reference;
    use crate::simd::InstructionSet;

    #[test]
    fn conforms() {
        let outputs =
            (-240..=240).map(|i| i as f32 / 40.0).chain([1e-20, -1e-6, 12.0, -30.0, 60.0]);
        let elements: Vec<[f32; 2]> =
            outputs.flat_map(|l| [-1.0, -0.35, 0.0, 0.2, 0.99, 1.0].map(|t| [l, t])).collect();
        fn size([l, t]: [f64; 2]) -> f64 {
            (l.tanh() - t).abs().max(l.tanh().abs())
        }
        Conformance {
            term: TanhSquaredError,
            twin: reference::tanh_squared_error,
            elements: elements.clone(),
            value_ulps: 4.0,
            value_size: |inputs, value| value.max(size(inputs) * value.sqrt()),
            gradient_ulps: [8.0],
            // The square of the error of x.
            underflow: 2e-14,
            gradient_size: |inputs, _| [2.0 * size(inputs) / inputs[0].cosh().powi(2)],
            smooth: elements
                .into_iter()
                .filter(|e| e[0].abs() < 3.0 && (e[0].tanh() - e[1]).abs() > 0.1)
                .collect(),
        }
        .check();
    }

    #[test]
    fn outputs_that_are_not_finite() {
        for set in InstructionSet::available() {
            let found = |l| element(set, TanhSquaredError, [l, 0.5]);
            assert_eq!(found(f32::INFINITY), (0.25, [0.0]));
            let (value, [gradient]) = found(f32::NEG_INFINITY);
            assert!(value == 2.25 && gradient == 0.0);
            let (value, [gradient]) = found(f32::NAN);
            assert!(value.is_nan() && gradient.is_nan());
        }
    }
}
