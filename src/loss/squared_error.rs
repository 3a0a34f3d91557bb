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
//! [`TanhSquaredError`] is the squared error of `x = tanh l`, for data in [−1, 1]:
//!
//! ```text
//! doutputs = 2(x−t)(1−x²)
//! ```
//!
//! # Method
//! 1. 1 − tanh² is 4e/(1+e)² with e = e^{−2|l|}: an output that has gone far keeps a gradient where the
//!    difference of 1 and the square of 1 would be 0.
//!
//! # Contract
//! - Targets are finite. A prediction that is NaN gives NaN for the total and for its own gradient;
//!   ±∞ gives +∞ and the gradient ±∞. A square beyond f32's range is +∞.
//! - Each element of the loss is within 2 ULP, each gradient (before scaling) within 1 ULP.
//! - With a tanh: targets lie in [−1, 1]. x is within 2 ULP, 2·2⁻²³·|x|, so an element of the loss within
//!   2⁻²³·(4·|x·(x−t)| + 1.5·(x−t)²) and the square of the error of x, and a gradient (before scaling) within
//!   8 ULP relative to x or x−t, whichever is larger. NaN gives NaN; ±∞ gives x = ±1 with gradient 0.

use super::kernel::{Range, Term};
use super::term::sealed::Sealed;
use super::term::{Elementwise, Reconstruction};
use crate::math::exp::exp_of_minus;
use crate::math::tanh::tanh;
use pulp::Simd;

/// The squared error of predictions.
///
/// `dpredictions = 2(x−t)/n`; domain, error bounds and edges are the [module's](self).
///
/// ```
/// use elbo::{Compute, loss::{LossTerm, ReconstructionInputs, Reduction, SquaredError}};
/// use ndarray::array;
///
/// let (x, t) = (array![[1.0, -1.0]], array![[0.5, 1.0]]);
/// let inputs = ReconstructionInputs { outputs: x.view(), targets: t.view() };
/// let loss = SquaredError.forward(&Compute::serial(), inputs, Reduction::Mean)?;
/// assert_eq!(loss, (0.25 + 4.0) / 2.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SquaredError;

impl Sealed for SquaredError {}
impl Reconstruction for SquaredError {}
impl Elementwise for SquaredError {}

impl Term<2, 1> for SquaredError {
    const ACCEPTS: Option<Range> = Some(Range::FINITE);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [x, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        // The factor 2 of the gradient is an addition, and exact.
        let difference = simd.sub_f32s(x, t);
        (simd.mul_f32s(difference, difference), [simd.add_f32s(difference, difference)])
    }
}

/// The squared error of the hyperbolic tangent of outputs.
///
/// ```
/// use elbo::{Compute, loss::{LossTerm, ReconstructionInputs, Reduction, TanhSquaredError}};
/// use ndarray::array;
///
/// let (l, t) = (array![[0.0, 30.0]], array![[-0.5, 0.5]]);
/// let inputs = ReconstructionInputs { outputs: l.view(), targets: t.view() };
/// let loss = TanhSquaredError.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// assert_eq!(loss, 0.25 + 0.25);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TanhSquaredError;

impl Sealed for TanhSquaredError {}
impl Reconstruction for TanhSquaredError {}
impl Elementwise for TanhSquaredError {}

impl Term<2, 1> for TanhSquaredError {
    const ACCEPTS: Option<Range> = Some(Range::SYMMETRIC);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [l, t]: [S::f32s; 2]) -> (S::f32s, [S::f32s; 1]) {
        let difference = simd.sub_f32s(tanh(simd, l), t);
        // 1. The 2 of 2(x−t) makes 8 of the 4.
        let magnitude = simd.abs_f32s(l);
        let e = exp_of_minus(simd, simd.add_f32s(magnitude, magnitude));
        let sum = simd.add_f32s(e, simd.splat_f32s(1.0));
        let eight = simd.mul_f32s(simd.splat_f32s(8.0), e);
        let slope = simd.div_f32s(eight, simd.mul_f32s(sum, sum));
        (simd.mul_f32s(difference, difference), [simd.mul_f32s(difference, slope)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::{Conformance, element};
    use crate::loss::testing::reference;
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
    fn handles_infinities_and_nan() {
        for set in InstructionSet::available() {
            for x in [f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(element(set, SquaredError, [x, 0.5]), (f64::INFINITY, [x]));
            }
            let (value, [gradient]) = element(set, SquaredError, [f32::NAN, 0.5]);
            assert!(value.is_nan() && gradient.is_nan());
        }
    }

    #[test]
    fn tanh_conforms() {
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
            // For these elements; `exhaustive` has the contract itself.
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
    fn tanh_handles_infinities_and_nan() {
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
