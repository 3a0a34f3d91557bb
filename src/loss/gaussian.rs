//! Gaussian likelihood with a log-variance that is fixed, shared, one a feature, or the batch's best.
//!
//! For a mean `m` (the decoder's output), a target `t` and a log-variance `s`:
//!
//! ```text
//! loss(m, s, t) = ½((t−m)²e^{−s} + s + ln 2π)
//! dpredictions  = (m−t)e^{−s}
//! dlogvar       = ½(1 − (t−m)²e^{−s})        summed over what shares s
//! ```
//!
//! and with the variance that is best for the n elements of a batch, σ*² = mean (t−m)²:
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
//! 2. The best variance takes q of the whole batch before there is a gradient: two passes.
//! 3. With one s a feature, each element has its own exponential; dlogvar is a sum over rows, a
//!    chain in row order in f64.
//!
//! # Contract, of every function here
//! - Targets are finite; a prediction or log-variance that is NaN gives NaN for the total. A square
//!   beyond f32's range is +∞, and so is e^{−s} for s < −88.72, where a feature that is met exactly
//!   gives NaN: keep s above that.
//! - Each element is within 4 ULP of its largest term, each gradient (before scaling) within 3 ULP
//!   (`dlogvar`: of the larger of ½ and the other term).
//! - A batch met exactly has σ* = 0: the loss is −∞ and the gradient 0.
//!
//! Sources: Kingma & Welling (2013), appendix C.2; Rybkin, Daniilidis & Levine, "Simple and Effective
//! VAE Training with Calibrated Decoders" (2021), for the shared and the batch's best variance.

use super::Reduction;
use super::batch::TermRows;
use super::squared_error::SquaredError;
use super::term::{Range, Term, ValueOf};
use crate::error::{Error, expect_length};
use crate::math::exp::exp;
use crate::math::scalar;
use crate::{Compute, Result};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// ln 2π.
const LN_2_PI: f64 = 1.837_877_066_409_345_5;

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
        let dm = simd.mul_f32s(difference, exp(simd, simd.neg_f32s(s)));
        let sum = simd.mul_add_f32s(difference, dm, s);
        let value = simd.mul_add_f32s(half, sum, simd.splat_f32s((LN_2_PI / 2.0) as f32));
        let ds = simd.negate_mul_add_f32s(simd.mul_f32s(half, difference), dm, half);
        (value, [dm, ds])
    }
}

/// [`FeatureGaussian`] with the gradient of the mean alone.
#[derive(Clone, Copy)]
struct OfTheMean;

impl Term<3, 1> for OfTheMean {
    const ACCEPTS: Option<Range> = FeatureGaussian::ACCEPTS;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 3]) -> (S::f32s, [S::f32s; 1]) {
        let (value, [dm, _]) = FeatureGaussian.lane(simd, inputs);
        (value, [dm])
    }
}

/// The gradient of the log-variance as a value.
#[derive(Clone, Copy)]
struct OfTheLogVariance;

impl Term<3, 0> for OfTheLogVariance {
    const ACCEPTS: Option<Range> = FeatureGaussian::ACCEPTS;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 3]) -> (S::f32s, [S::f32s; 0]) {
        let (_, [_, ds]) = FeatureGaussian.lane(simd, inputs);
        (ds, [])
    }
}

/// The loss of `features` elements with the squared error `q` and one log-variance, and its
/// derivative by that.
pub(crate) fn row_from_squares(q: f64, features: usize, logvar: f64) -> (f64, f64) {
    let (n, scaled) = (features as f64, q * scalar::exp(-logvar));
    (0.5 * (scaled + n * (logvar + LN_2_PI)), 0.5 * (n - scaled))
}

/// The best variance for `elements` elements with the squared error `q`, and their loss under it.
pub(crate) fn optimal(q: f64, elements: f64) -> (f64, f64) {
    let variance = q / elements;
    (variance, 0.5 * elements * (LN_2_PI + scalar::ln(variance) + 1.0))
}

/// A loss and its derivative by the log-variance that all elements share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    /// The reduced loss, in nats.
    pub loss: f64,
    /// Its derivative by the log-variance.
    pub dlogvar: f64,
}

/// A loss under the variance that is best for the batch, and that variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimal {
    /// The reduced loss, in nats.
    pub loss: f64,
    /// σ*², the mean squared error.
    pub variance: f64,
}

fn squares(
    compute: &Compute,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
) -> Result<f64> {
    let inputs = [("predictions", predictions), ("targets", targets)];
    TermRows::new(ValueOf(SquaredError), [], inputs, 1.0, Reduction::Sum)?.reduced(compute)
}

fn divisor(reduction: Reduction, predictions: ArrayView2<f32>) -> Result<f64> {
    let (rows, columns) = predictions.dim();
    reduction.divisor(rows, columns).ok_or_else(|| Error::Shape {
        argument: "predictions",
        expected: "at least one element to take the mean of".to_owned(),
        found: format!("{:?}", [rows, columns]),
    })
}

/// The loss of `predictions[B, D]` against `targets[B, D]` under one log-variance, reduced, in nats.
///
/// Formula, domain and error bounds are the [module's](self).
///
/// # Errors
/// [`Error::Shape`] if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`] if rows are not contiguous;
/// [`Error::NotFiniteData`] for the first target, in row order, that
/// is NaN or ±∞.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, gaussian}};
/// use ndarray::array;
///
/// let (m, t) = (array![[1.0, 0.0]], array![[0.0, 0.0]]);
/// let loss = gaussian::forward(&Compute::serial(), m.view(), t.view(), 0.0, Reduction::Sum)?;
/// assert!((loss - (0.5 + std::f64::consts::TAU.ln())).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward(
    compute: &Compute,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    logvar: f32,
    reduction: Reduction,
) -> Result<f64> {
    let divisor = divisor(reduction, predictions)?;
    let q = squares(compute, predictions, targets)?;
    Ok(row_from_squares(q, predictions.len(), logvar.into()).0 / divisor)
}

/// Overwrites `dpredictions[B, D]` with the gradient of [`forward`], whose value it returns with
/// its derivative by the log-variance.
///
/// `dpredictions = (m−t)e^{−s}/n`, with n = 1, B or B·D by `reduction`. The value has the bits of
/// [`forward`]'s.
///
/// # Errors
/// As [`forward`]; what `dpredictions` then holds is unspecified.
pub fn forward_backward(
    compute: &Compute,
    dpredictions: ArrayViewMut2<f32>,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    logvar: f32,
    reduction: Reduction,
) -> Result<Shared> {
    let weight = (0.5 * scalar::exp(-f64::from(logvar))) as f32;
    let inputs = [("predictions", predictions), ("targets", targets)];
    let gradients = [("dpredictions", dpredictions)];
    let rows = TermRows::new(SquaredError, gradients, inputs, weight, reduction)?;
    let divisor = rows.divisor();
    let q = rows.sum(compute)?;
    let (loss, dlogvar) = row_from_squares(q, predictions.len(), logvar.into());
    Ok(Shared { loss: loss / divisor, dlogvar: dlogvar / divisor })
}

/// The loss of `predictions[B, D]` against `targets[B, D]` with the log-variances `logvar[D]`,
/// reduced, in nats.
///
/// # Errors
/// As [`forward`], and for a `logvar` of another length.
pub fn forward_features(
    compute: &Compute,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    logvar: ArrayView1<f32>,
    reduction: Reduction,
) -> Result<f64> {
    let inputs = with_features(predictions, &logvar, targets)?;
    TermRows::new(ValueOf(OfTheMean), [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dpredictions[B, D]` and `dlogvar` (D of them) with the gradients of
/// [`forward_features`], whose value it returns, to its bits.
///
/// # Errors
/// As [`forward_features`]; what the gradients then hold is unspecified.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, gaussian}};
/// use ndarray::{Array2, array};
///
/// let (m, t) = (array![[1.0, 0.0], [3.0, 2.0]], array![[0.0, 0.0], [0.0, 0.0]]);
/// let (logvar, mut dm, mut dlogvar) = (array![0.0, 0.0], Array2::zeros((2, 2)), [0.0; 2]);
/// gaussian::forward_backward_features(
///     &Compute::serial(), dm.view_mut(), &mut dlogvar,
///     m.view(), t.view(), logvar.view(), Reduction::Sum,
/// )?;
/// assert_eq!(dm, m);
/// // ½(1 − 1) + ½(1 − 9) and ½(1 − 0) + ½(1 − 4)
/// assert_eq!(dlogvar, [-4.0, -1.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_backward_features(
    compute: &Compute,
    dpredictions: ArrayViewMut2<f32>,
    dlogvar: &mut [f64],
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    logvar: ArrayView1<f32>,
    reduction: Reduction,
) -> Result<f64> {
    expect_length("dlogvar", predictions.ncols(), dlogvar.len())?;
    let inputs = with_features(predictions, &logvar, targets)?;
    let gradients = [("dpredictions", dpredictions)];
    let rows = TermRows::new(OfTheMean, gradients, inputs, 1.0, reduction)?;
    let divisor = rows.divisor();
    let loss = rows.reduced(compute)?;
    TermRows::new(OfTheLogVariance, [], inputs, 1.0, Reduction::Sum)?.column_sums(compute, dlogvar);
    dlogvar.iter_mut().for_each(|sum| *sum /= divisor);
    Ok(loss)
}

type Named<'a> = (&'static str, ArrayView2<'a, f32>);

fn with_features<'a>(
    predictions: ArrayView2<'a, f32>,
    logvar: &'a ArrayView1<f32>,
    targets: ArrayView2<'a, f32>,
) -> Result<[Named<'a>; 3]> {
    expect_length("logvar", predictions.ncols(), logvar.len())?;
    let logvar = logvar.broadcast(predictions.dim()).expect("a vector as long as a row");
    Ok([("predictions", predictions), ("logvar", logvar), ("targets", targets)])
}

/// The loss of `predictions[B, D]` against `targets[B, D]` under the variance that is best for this
/// batch, reduced, in nats, and that variance.
///
/// # Errors
/// As [`forward`]; a batch without elements has no variance whatever the reduction.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, gaussian}};
/// use ndarray::array;
///
/// let (m, t) = (array![[3.0, 1.0]], array![[0.0, 0.0]]);
/// let best = gaussian::forward_optimal(&Compute::serial(), m.view(), t.view(), Reduction::Sum)?;
/// assert_eq!(best.variance, 5.0);
/// // No other variance does better.
/// for logvar in [5.1_f32.ln(), 4.9_f32.ln()] {
///     let compute = Compute::serial();
///     let other = gaussian::forward(&compute, m.view(), t.view(), logvar, Reduction::Sum)?;
///     assert!(other > best.loss);
/// }
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_optimal(
    compute: &Compute,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<Optimal> {
    divisor(Reduction::Mean, predictions)?;
    let divisor = divisor(reduction, predictions)?;
    let q = squares(compute, predictions, targets)?;
    let (variance, loss) = optimal(q, predictions.len() as f64);
    Ok(Optimal { loss: loss / divisor, variance })
}

/// Overwrites `dpredictions[B, D]` with the gradient of [`forward_optimal`], whose value it
/// returns: `(m−t)/σ*²/n`, with n = 1, B or B·D by `reduction`.
///
/// # Errors
/// As [`forward_optimal`]; what `dpredictions` then holds is unspecified.
pub fn forward_backward_optimal(
    compute: &Compute,
    dpredictions: ArrayViewMut2<f32>,
    predictions: ArrayView2<f32>,
    targets: ArrayView2<f32>,
    reduction: Reduction,
) -> Result<Optimal> {
    let best = forward_optimal(compute, predictions, targets, reduction)?;
    let weight = if best.variance == 0.0 { 0.0 } else { 0.5 / best.variance };
    let inputs = [("predictions", predictions), ("targets", targets)];
    let gradients = [("dpredictions", dpredictions)];
    TermRows::new(SquaredError, gradients, inputs, weight as f32, reduction)?.sum(compute)?;
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::Conformance;
    use crate::loss::reference;
    use crate::simd::InstructionSet;
    use ndarray::{Array1, Array2};

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

    /// One log-variance for all is every feature's own; the best one has no gradient.
    #[test]
    fn the_forms_agree() {
        let compute = Compute::serial();
        let [m, t] = batch(70, 19);
        let mut gradients = [const { None }; 3].map(|_: Option<()>| Array2::zeros(m.dim()));
        let [a, b, c] = gradients.each_mut().map(|g| g.view_mut());
        let best = forward_backward_optimal(&compute, a, m.view(), t.view(), Reduction::BatchMean);
        let best = best.unwrap();
        let logvar = best.variance.ln() as f32;
        let (m_view, t_view) = (m.view(), t.view());
        let shared =
            forward_backward(&compute, b, m_view, t_view, logvar, Reduction::BatchMean).unwrap();
        let mut dlogvar = [f64::NAN; 19];
        let all = Array1::from_elem(19, logvar);
        let features = forward_backward_features(
            &compute,
            c,
            &mut dlogvar,
            m_view,
            t_view,
            all.view(),
            Reduction::BatchMean,
        )
        .unwrap();
        let sum: f64 = dlogvar.iter().sum();
        assert!((best.loss - shared.loss).abs() < 1e-6 * best.loss.abs());
        assert!((features - shared.loss).abs() < 1e-6 * best.loss.abs());
        assert!(shared.dlogvar.abs() < 1e-5 && (sum - shared.dlogvar).abs() < 1e-5);
        for (&a, (&b, &c)) in gradients[0].iter().zip(gradients[1].iter().zip(&gradients[2])) {
            assert!((a - b).abs() <= 5e-7 * a.abs() && (a - c).abs() <= 5e-7 * a.abs());
        }
    }

    #[test]
    fn neither_threads_nor_sets_change_a_bit() {
        for (rows, columns) in [(1, 1), (3, 17), (130, 300)] {
            let [m, t] = batch(rows, columns);
            let logvar = Array1::from_shape_fn(columns, |j| (j % 7) as f32 / 3.0 - 1.0);
            let run = |set, threads| {
                let compute = Compute::new(set, threads).unwrap();
                let (mut dm, mut dlogvar) = (Array2::zeros(m.dim()), vec![f64::NAN; columns]);
                let loss = forward_backward_features(
                    &compute,
                    dm.view_mut(),
                    &mut dlogvar,
                    m.view(),
                    t.view(),
                    logvar.view(),
                    Reduction::Sum,
                );
                (loss.unwrap(), dm, dlogvar)
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
    fn a_batch_met_exactly() {
        let compute = Compute::serial();
        let [m, _] = batch(2, 3);
        let mut dm = Array2::from_elem(m.dim(), f32::NAN);
        let best =
            forward_backward_optimal(&compute, dm.view_mut(), m.view(), m.view(), Reduction::Sum);
        let best = best.unwrap();
        assert_eq!((best.loss, best.variance), (f64::NEG_INFINITY, 0.0));
        assert!(dm.iter().all(|&g| g == 0.0));
    }

    #[test]
    fn shapes_that_do_not_fit() {
        let compute = Compute::serial();
        let [m, t] = batch(2, 3);
        let logvar = Array1::zeros(2);
        let error = forward_features(&compute, m.view(), t.view(), logvar.view(), Reduction::Sum);
        let message = error.unwrap_err().to_string();
        assert_eq!(message, "`logvar`: expected length 3, found length 2");
        let [empty, _] = batch(0, 3);
        let error = forward_optimal(&compute, empty.view(), empty.view(), Reduction::Sum);
        assert!(error.unwrap_err().to_string().starts_with("`predictions`: expected at least one"));
    }
}
