//! Gaussian likelihood whose log-variance is shared, one a feature, or the optimum of the batch.
//!
//! For a mean `m` (the decoder's output), a target `t` and a log-variance `s`:
//!
//! ```text
//! loss(m, s, t) = ½((t−m)²e^{−s} + s + ln 2π)
//! dpredictions  = (m−t)e^{−s}
//! dlogvar       = ½(1 − (t−m)²e^{−s})        summed over what shares s
//! ```
//!
//! and with the variance that maximizes the likelihood of a batch of n elements, σ*² = mean (t−m)²:
//!
//! ```text
//! loss         = n/2·(ln 2πσ*² + 1)
//! dpredictions = (m−t)/σ*²
//! ```
//!
//! # Derivation
//! −ln of the density (2πe^s)^{−½}·exp(−½(t−m)²e^{−s}). It is least in s where n = Σ(t−m)²e^{−s}, so
//! e^s = σ*²; there its derivative by s vanishes, and the gradient by m is that with s held fixed.
//!
//! # Method
//! 1. With one s for all, a row needs q = Σ(t−m)² alone: the loss is ½(q·e^{−s} + D(s + ln 2π)) in
//!    f64. The kernel is that of [`squared_error`](super::squared_error), its gradient scaled by ½e^{−s}.
//! 2. The optimal variance takes q of the whole batch before there is a gradient: two passes, or one for
//!    the value.
//! 3. With one s a feature, each element has its own exponential; dlogvar is a sum over rows, a
//!    chain in row order in f64.
//!
//! # Contract
//! - Targets are finite; a prediction or log-variance that is NaN gives NaN for the total. With one s a
//!   feature, and d = m − t in f32:
//!
//!   | s | d = 0 | other d | d = ±∞ |
//!   |---|---|---|---|
//!   | −∞ | NaN | NaN | NaN |
//!   | below −88.72, where e^{−s} is ∞ | NaN | +∞ | +∞ |
//!   | up to 103.97 | ½(s + ln 2π) | +∞ if ½d²e^{−s} is beyond f32, else finite | +∞ |
//!   | above, where e^{−s} is 0 | ½(s + ln 2π) | ½(s + ln 2π) | NaN |
//!   | +∞ | +∞ | +∞ | NaN |
//!
//!   Keep s above −88: a feature that is met exactly has no loss below that.
//! - With one s a feature, and a = ½(t−m)²e^{−s}: each element is within 2⁻²⁴·(7a + |s| + ln 2π), `dpredictions`
//!   (before scaling) within 3 ULP, and each term of `dlogvar` within 2⁻²⁴·(6a + ½). (Each rounding counts
//!   2⁻²⁴ of its result, the exponential 2⁻²³: (m−t)e^{−s} is off by 4, its product with m−t by 5, and the
//!   sums round at the size of what they add.) From s = 87.3 on e^{−s} is subnormal and has fewer digits: its
//!   error is 2⁻¹⁴⁹ there.
//! - With one s for all, the total is within 1e-6 of the sum of the magnitudes of its terms.
//! - A batch met exactly has σ* = 0: the loss is −∞ and the gradient 0.
//!
//! Sources: Kingma & Welling (2013), appendix C.2; Rybkin, Daniilidis & Levine, "Simple and Effective
//! VAE Training with Calibrated Decoders" (2021), for the shared and the optimal variance.

use super::Reduction;
use super::kernel::batch::{RowKernel, RowSums, check_all};
use super::kernel::sums::column_sums;
use super::kernel::{Range, RowLoss, StageBuffer, Term, ValueOf, row_with};
use super::squared_error::SquaredError;
use super::term::sealed::Sealed;
use super::term::{
    Coupling, LossTerm, Reconstruction, ReconstructionInputs, RowPlan, divisor, reconstruction_rows,
};
use crate::Compute;
use crate::error::{Result, expect_length};
use crate::math::exp::exp;
use crate::math::scalar;
use crate::simd::environment::FloatEnvironment;
use crate::simd::sum::sum_rows;
use ndarray::{ArrayView1, ArrayViewMut2};
use pulp::Simd;

/// ln 2π.
const LN_2_PI: f64 = 1.837_877_066_409_345_5;

/// The Gaussian negative log-likelihood of predictions, by its variance.
///
/// `dpredictions = (m−t)e^{−s}/n`; [`Self::backward_logvar`] has the gradient of s.
///
/// ```
/// use elbo::{Compute, loss::{Gaussian, LossTerm, ReconstructionInputs, Reduction, SquaredError}};
/// use ndarray::array;
///
/// let (m, t) = (array![[3.0, 1.0]], array![[0.0, 0.0]]);
/// let inputs = ReconstructionInputs { outputs: m.view(), targets: t.view() };
/// let compute = Compute::serial();
/// let optimal = Gaussian::Optimal.forward(&compute, inputs, Reduction::Sum)?;
/// // The optimal variance is the mean squared error, 5; no other has a smaller loss.
/// assert_eq!(SquaredError.forward(&compute, inputs, Reduction::Mean)?, 5.0);
/// for variance in [4.9_f32, 5.1] {
///     let other = Gaussian::Shared { logvar: variance.ln() };
///     assert!(other.forward(&compute, inputs, Reduction::Sum)? > optimal);
/// }
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gaussian<'v> {
    /// One variance for all elements, fixed or learned.
    Shared {
        /// The logarithm s of the variance.
        logvar: f32,
    },
    /// One variance for each feature.
    PerFeature {
        /// The logarithm of each variance; D of them.
        logvar: &'v [f32],
    },
    /// The variance that maximizes the likelihood of the batch, which is the mean squared error.
    ///
    /// A batch without elements has none and is an error, whatever the reduction.
    Optimal,
}

impl Gaussian<'_> {
    /// Overwrites `dlogvar` with the derivatives of [`forward`](LossTerm::forward) with respect to the
    /// log-variances: one element for [`Shared`](Self::Shared), D for [`PerFeature`](Self::PerFeature),
    /// none for [`Optimal`](Self::Optimal). Takes a pass of its own.
    ///
    /// # Errors
    /// As [`forward`](LossTerm::forward), and [`Error::Shape`](crate::Error::Shape) if `dlogvar` has another length; targets that
    /// are not finite give NaN with [`PerFeature`](Self::PerFeature).
    ///
    /// ```
    /// use elbo::{Compute, loss::{Gaussian, ReconstructionInputs, Reduction}};
    /// use ndarray::array;
    ///
    /// let (m, t) = (array![[1.0, 0.0], [3.0, 2.0]], array![[0.0, 0.0], [0.0, 0.0]]);
    /// let inputs = ReconstructionInputs { outputs: m.view(), targets: t.view() };
    /// let mut dlogvar = [0.0; 2];
    /// let gaussian = Gaussian::PerFeature { logvar: &[0.0, 0.0] };
    /// gaussian.backward_logvar(&Compute::serial(), &mut dlogvar, inputs, Reduction::Sum)?;
    /// // ½(1 − 1) + ½(1 − 9) and ½(1 − 0) + ½(1 − 4)
    /// assert_eq!(dlogvar, [-4.0, -1.0]);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn backward_logvar(
        &self,
        compute: &Compute,
        dlogvar: &mut [f64],
        inputs: ReconstructionInputs<'_>,
        reduction: Reduction,
    ) -> Result<()> {
        let _environment = FloatEnvironment::standard();
        self.validate(inputs)?;
        let ReconstructionInputs { outputs, targets } = inputs;
        let divisor = divisor(inputs, reduction)?;
        match *self {
            Gaussian::Shared { logvar } => {
                expect_length("dlogvar", 1, dlogvar.len())?;
                // 1. ∂/∂s of ½(q·e^{−s} + n·s).
                let q = SquaredError.forward(compute, inputs, Reduction::Sum)?;
                dlogvar[0] = row_from_squares(q, outputs.len(), logvar.into()).1 / divisor;
            }
            Gaussian::PerFeature { logvar } => {
                expect_length("dlogvar", logvar.len(), dlogvar.len())?;
                check_all(&[("outputs", outputs), ("targets", targets)])?;
                // A view with row stride 0: the same log-variances under every row.
                let logvar = ArrayView1::from(logvar);
                let logvar = logvar.broadcast(outputs.dim()).expect("a vector as long as a row");
                // 3.
                column_sums(compute, LogvarGradient, [outputs, logvar, targets], dlogvar);
                dlogvar.iter_mut().for_each(|sum| *sum /= divisor);
            }
            Gaussian::Optimal => expect_length("dlogvar", 0, dlogvar.len())?,
        }
        Ok(())
    }
}

impl Sealed for Gaussian<'_> {}
impl Reconstruction for Gaussian<'_> {}

impl LossTerm for Gaussian<'_> {
    type Inputs<'a> = ReconstructionInputs<'a>;
    type Gradients<'a> = ArrayViewMut2<'a, f32>;

    fn validate(&self, inputs: ReconstructionInputs<'_>) -> Result<()> {
        match *self {
            Gaussian::Shared { .. } => Ok(()),
            Gaussian::PerFeature { logvar } => {
                expect_length("logvar", inputs.outputs.ncols(), logvar.len())
            }
            // Its variance is a mean over all elements.
            Gaussian::Optimal => divisor(inputs, Reduction::Mean).map(|_| ()),
        }
    }

    fn couple(&self, compute: &Compute, inputs: ReconstructionInputs<'_>) -> Result<Coupling> {
        let mut coupling = Coupling::default();
        match *self {
            // 1. (m−t)e^{−s} from 2(m−t).
            Gaussian::Shared { logvar } => coupling.slope = 0.5 * scalar::exp(-f64::from(logvar)),
            Gaussian::PerFeature { .. } => {}
            // 2. The first pass.
            Gaussian::Optimal => {
                let q = SquaredError.forward(compute, inputs, Reduction::Sum)?;
                let (variance, value) = optimal(q, inputs.outputs.len() as f64);
                coupling.value = Some(value);
                // A batch met exactly has nothing to gain: 0, not 0·∞.
                coupling.slope = if variance == 0.0 { 0.0 } else { 0.5 / variance };
            }
        }
        Ok(coupling)
    }

    fn rows(
        &self,
        plan: RowPlan<'_>,
        gradients: Option<Self::Gradients<'_>>,
        inputs: Self::Inputs<'_>,
    ) -> Result<impl RowSums<2>> {
        let kernel = match *self {
            Gaussian::PerFeature { logvar } => GaussianRow::Features(logvar),
            Gaussian::Shared { .. } | Gaussian::Optimal => GaussianRow::Squares,
        };
        reconstruction_rows(kernel, plan.scale, gradients, inputs)
    }

    fn value(&self, sum: f64, elements: f64) -> f64 {
        match *self {
            Gaussian::Shared { logvar } => {
                row_from_squares(sum, elements as usize, logvar.into()).0
            }
            Gaussian::PerFeature { .. } | Gaussian::Optimal => sum,
        }
    }

    fn complete(&self, sums: &mut [f64], columns: usize) {
        // The bits of the batch: rows are added in the same order.
        let logvar = match *self {
            Gaussian::Shared { logvar } => logvar.into(),
            Gaussian::PerFeature { .. } => return,
            Gaussian::Optimal => scalar::ln(sum_rows(sums) / (sums.len() as f64 * columns as f64)),
        };
        for sum in sums {
            *sum = match logvar {
                // Every row is met exactly.
                f64::NEG_INFINITY => f64::NEG_INFINITY,
                logvar => row_from_squares(*sum, columns, logvar).0,
            };
        }
    }
}

/// The rows of a Gaussian.
#[derive(Clone, Copy)]
enum GaussianRow<'a> {
    /// The squared error, of which the value is made afterwards.
    Squares,
    /// The loss itself, with the log-variance of each feature.
    Features(&'a [f32]),
}

impl RowKernel<2, 1> for GaussianRow<'_> {
    const ACCEPTS: Option<Range> = Some(Range::FINITE);

    #[inline(always)]
    fn row<S: Simd>(
        self,
        simd: S,
        buffer: &mut StageBuffer,
        gradients: Option<[&mut [f32]; 1]>,
        [m, t]: [&[f32]; 2],
        scale: f32,
    ) -> (f64, RowLoss) {
        let loss = match (self, gradients) {
            (Self::Squares, gradients) => {
                return SquaredError.row(simd, buffer, gradients, [m, t], scale);
            }
            (Self::Features(s), Some(dm)) => {
                row_with(simd, MeanGradient, buffer, dm, [m, s, t], scale)
            }
            (Self::Features(s), None) => {
                row_with(simd, ValueOf(MeanGradient), buffer, [], [m, s, t], 1.0)
            }
        };
        (loss.sum, loss)
    }
}

/// The term with a log-variance for each feature: inputs mean, log-variance and target, gradients
/// with respect to the first two.
#[derive(Clone, Copy)]
pub(crate) struct FeatureGaussian;

impl Term<3, 2> for FeatureGaussian {
    const ACCEPTS: Option<Range> = Some(Range::FINITE);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, [m, s, t]: [S::f32s; 3]) -> (S::f32s, [S::f32s; 2]) {
        let half = simd.splat_f32s(0.5);
        let difference = simd.sub_f32s(m, t);
        // 3.
        let dm = simd.mul_f32s(difference, exp(simd, simd.neg_f32s(s)));
        // (m−t)·dm is the scaled square: no second product with e^{−s}.
        let sum = simd.mul_add_f32s(difference, dm, s);
        let value = simd.mul_add_f32s(half, sum, simd.splat_f32s((LN_2_PI / 2.0) as f32));
        // ½ − ½(m−t)·dm.
        let ds = simd.negate_mul_add_f32s(simd.mul_f32s(half, difference), dm, half);
        (value, [dm, ds])
    }
}

/// [`FeatureGaussian`] with the gradient of the mean only.
#[derive(Clone, Copy)]
struct MeanGradient;

impl Term<3, 1> for MeanGradient {
    const ACCEPTS: Option<Range> = Some(Range::FINITE);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 3]) -> (S::f32s, [S::f32s; 1]) {
        let (value, [dm, _]) = FeatureGaussian.lane(simd, inputs);
        (value, [dm])
    }
}

/// The gradient of the log-variance, as a value.
#[derive(Clone, Copy)]
struct LogvarGradient;

impl Term<3, 0> for LogvarGradient {
    const ACCEPTS: Option<Range> = Some(Range::FINITE);

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 3]) -> (S::f32s, [S::f32s; 0]) {
        let (_, [_, ds]) = FeatureGaussian.lane(simd, inputs);
        (ds, [])
    }
}

/// The loss of `features` elements with the squared error `q` and one log-variance, and its
/// derivative by that.
pub(crate) fn row_from_squares(q: f64, features: usize, logvar: f64) -> (f64, f64) {
    // 1. In f64, once a row or batch.
    let (n, scaled) = (features as f64, q * scalar::exp(-logvar));
    (0.5 * (scaled + n * (logvar + LN_2_PI)), 0.5 * (n - scaled))
}

/// The optimal variance of `elements` elements with the squared error `q`, and their loss under it.
pub(crate) fn optimal(q: f64, elements: f64) -> (f64, f64) {
    // 2. Under σ*² the scaled squares sum to n: n/2·(ln 2πσ*² + 1).
    let variance = q / elements;
    (variance, 0.5 * elements * (LN_2_PI + scalar::ln(variance) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::Conformance;
    use crate::loss::testing::reference;
    use crate::simd::InstructionSet;
    use ndarray::Array2;

    #[test]
    fn conforms() {
        let mut elements = Vec::new();
        for i in -12..=12 {
            for s in [-20.0, -4.0, -0.7, 0.0, 0.3, 2.0, 9.0] {
                elements.extend([-2.0, -0.35, 0.01, 1.0].map(|t| [i as f32 / 5.0, s, t]));
            }
        }
        fn scaled([m, s, t]: [f64; 3]) -> f64 {
            0.5 * (m - t) * (m - t) * (-s).exp()
        }
        Conformance {
            term: FeatureGaussian,
            twin: reference::gaussian,
            elements: elements.clone(),
            value_ulps: 4.0,
            value_size: |inputs, _| scaled(inputs).max(0.5 * inputs[1].abs()).max(LN_2_PI / 2.0),
            gradient_ulps: [3.0, 3.0],
            underflow: 0.0,
            gradient_size: |inputs, [dm, _]| [dm, scaled(inputs).max(0.5)],
            smooth: elements.into_iter().filter(|[_, s, _]| s.abs() < 5.0).collect(),
        }
        .check();
    }

    fn batch(rows: usize, columns: usize) -> [Array2<f32>; 2] {
        [3, 5].map(|salt| {
            Array2::from_shape_fn((rows, columns), |(i, j)| {
                ((i * 31 + j * 17 * salt + salt) % 97) as f32 / 40.0 - 1.2
            })
        })
    }

    fn inputs([m, t]: &[Array2<f32>; 2]) -> ReconstructionInputs<'_> {
        ReconstructionInputs { outputs: m.view(), targets: t.view() }
    }

    /// One log-variance for all is every feature's own; the optimal one has no gradient.
    #[test]
    fn forms_agree() {
        let compute = Compute::serial();
        let batch = batch(70, 19);
        let inputs = inputs(&batch);
        let squares = SquaredError.forward(&compute, inputs, Reduction::Mean).unwrap();
        let logvar = squares.ln() as f32;
        let all = [logvar; 19];
        let terms =
            [Gaussian::Optimal, Gaussian::Shared { logvar }, Gaussian::PerFeature { logvar: &all }];
        let found = terms.map(|term| {
            let mut dm = Array2::zeros(batch[0].dim());
            let reduction = Reduction::BatchMean;
            let value = term.forward_backward(&compute, dm.view_mut(), inputs, reduction);
            let mut examples = [f64::NAN; 70];
            term.per_example(&compute, &mut examples, inputs).unwrap();
            (value.unwrap(), dm, examples)
        });
        let optimal = &found[0];
        for other in &found[1..] {
            assert!((other.0 - optimal.0).abs() < 1e-6 * optimal.0.abs());
            for (&a, &b) in optimal.1.iter().zip(&other.1) {
                assert!((a - b).abs() <= 5e-7 * a.abs());
            }
            for (a, b) in optimal.2.iter().zip(other.2) {
                assert!((a - b).abs() <= 2e-6 * a.abs().max(19.0));
            }
        }
        let (mut shared, mut features) = ([f64::NAN], [f64::NAN; 19]);
        terms[1].backward_logvar(&compute, &mut shared, inputs, Reduction::BatchMean).unwrap();
        terms[2].backward_logvar(&compute, &mut features, inputs, Reduction::BatchMean).unwrap();
        let sum: f64 = features.iter().sum();
        assert!(shared[0].abs() < 1e-5 && (sum - shared[0]).abs() < 1e-5, "{shared:?} {sum}");
    }

    #[test]
    fn logvar_gradient_does_not_depend_on_threads_or_sets() {
        for (rows, columns) in [(1, 1), (3, 17), (130, 300)] {
            let batch = batch(rows, columns);
            let logvar: Vec<f32> = (0..columns).map(|j| (j % 7) as f32 / 3.0 - 1.0).collect();
            let run = |set, threads| {
                let compute = Compute::new(set, threads).unwrap();
                let mut dlogvar = vec![f64::NAN; columns];
                Gaussian::PerFeature { logvar: &logvar }
                    .backward_logvar(&compute, &mut dlogvar, inputs(&batch), Reduction::Sum)
                    .unwrap();
                dlogvar
            };
            let expected = run(InstructionSet::SCALAR, 1);
            for set in InstructionSet::available() {
                for threads in [1, 2, 5] {
                    assert_eq!(run(set, threads), expected, "{set}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn has_no_gradient_for_an_exact_batch() {
        let compute = Compute::serial();
        let [m, _] = batch(2, 3);
        let exact = [m.clone(), m];
        let mut dm = Array2::from_elem((2, 3), f32::NAN);
        let views = inputs(&exact);
        let loss =
            Gaussian::Optimal.forward_backward(&compute, dm.view_mut(), views, Reduction::Sum);
        assert_eq!(loss.unwrap(), f64::NEG_INFINITY);
        assert!(dm.iter().all(|&g| g == 0.0));
        let mut examples = [0.0; 2];
        Gaussian::Optimal.per_example(&compute, &mut examples, views).unwrap();
        assert_eq!(examples, [f64::NEG_INFINITY; 2]);
    }

    #[test]
    fn rejects_shapes_that_do_not_fit() {
        let compute = Compute::serial();
        let fits = batch(2, 3);
        let features = Gaussian::PerFeature { logvar: &[0.0; 2] };
        let error = features.forward(&compute, inputs(&fits), Reduction::Sum);
        let message = error.unwrap_err().to_string();
        assert_eq!(message, "`logvar`: expected length 3, found length 2");
        let empty = batch(0, 3);
        let error = Gaussian::Optimal.forward(&compute, inputs(&empty), Reduction::Sum);
        assert!(error.unwrap_err().to_string().starts_with("`outputs`: expected at least one"));
    }
}
