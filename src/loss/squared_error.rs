//! Squared error, as `torch.nn.MSELoss` has it: without the ½ of the Gaussian likelihood.
//!
//! For a prediction `x` and a target `t`:
//!
//! ```text
//! loss(x, t)   = (x−t)²
//! dpredictions = 2(x−t)
//! ```
//!
//! It is twice the negative log-likelihood of a Gaussian of variance 1, less its constant
//! `½·ln 2π`: to read the total as nats under that Gaussian, halve it.
//!
//! # Contract, of every function here
//! - Targets are finite. A prediction that is NaN gives NaN for the total and for its own gradient;
//!   ±∞ gives +∞ and the gradient ±∞. A square beyond f32's range is +∞.
//! - Each element of the loss is within 2 ULP, each gradient (before scaling) within 1 ULP.

pub(crate) mod tanh;

pub use tanh::{forward_backward_tanh, forward_tanh};

use super::Reduction;
use super::batch::TermRows;
use super::term::{Range, Term, ValueOf};
use crate::{Compute, Result};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term: inputs prediction and target, gradient with respect to the prediction.
#[derive(Clone, Copy)]
pub(crate) struct SquaredError;

impl Term<2, 1> for SquaredError {
    const ACCEPTS: Option<Range> = Some(Range::FINITE);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [x, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let difference = simd.sub_f32s(x, t);
        (simd.mul_f32s(difference, difference), [simd.add_f32s(difference, difference)])
    }
}

/// The squared error of `predictions[B, D]` against `targets[B, D]`, reduced.
///
/// Formula, domain and error bounds are the [module's](self).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::NotFiniteData`](crate::Error::NotFiniteData) for the first target, in row order, that
/// is NaN or ±∞.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, squared_error}};
/// use ndarray::array;
///
/// let (x, t) = (array![[1.0, -1.0]], array![[0.5, 1.0]]);
/// let loss = squared_error::forward(&Compute::serial(), x.view(), t.view(), Reduction::Mean)?;
/// assert_eq!(loss, (0.25 + 4.0) / 2.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward(
    compute: &Compute,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = [("predictions", predictions), ("targets", targets)];
    TermRows::new(ValueOf(SquaredError), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dpredictions[B, D]` with the gradient of [`forward`], whose value it returns.
///
/// `dpredictions = 2(x−t)/n`, with n = 1, B or B·D by `reduction`. The value has the bits of
/// [`forward`]'s.
///
/// # Errors
/// As [`forward`]; what `dpredictions` then holds is unspecified.
pub fn forward_backward(
    compute: &Compute,
    dpredictions: ArrayViewMut2<f32>,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let gradients = [("dpredictions", dpredictions)];
    let inputs = [("predictions", predictions), ("targets", targets)];
    TermRows::new(SquaredError, gradients, inputs, 1.0, reduction)?.reduced(compute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::{Conformance, element};
    use crate::loss::reference;
    use crate::simd::InstructionSet;

    #[test]
    fn conforms() {
        let values: Vec<f32> = (-20..=20).map(|i| i as f32 / 7.0).collect();
        let pairs = |some: &[f32]| -> Vec<[f32; 2]> {
            some.iter().flat_map(|&x| values.iter().map(move |&t| [x, t + 0.01])).collect()
        };
        let mut elements = pairs(&values);
        elements.extend(pairs(&[0.0, -0.0, 1e-40, 1e-8, 1e10, -1e19, 1e25, f32::MAX]));
        Conformance {
            term: SquaredError,
            twin: reference::squared_error,
            elements,
            value_ulps: 2.0,
            value_size: |_, value| value,
            gradient_ulps: [1.0],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: pairs(&values),
        }
        .check();
    }

    #[test]
    fn predictions_that_are_not_finite() {
        for set in InstructionSet::available() {
            for x in [f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(element(set, SquaredError, [x, 0.5]), (f64::INFINITY, [x]));
            }
            let (value, [gradient]) = element(set, SquaredError, [f32::NAN, 0.5]);
            assert!(value.is_nan() && gradient.is_nan());
        }
    }
}
