//! Free bits: a divergence that costs nothing more once it is small.
//!
//! Below λ nats the KL divergence is not pushed further down, so that the posterior of a dimension,
//! or of an example, keeps something of the data. Three objectives go by this name:
//!
//! | functions | value | gradient |
//! |---|---|---|
//! | `…_elements` | `Σ_ij max(λ, KL_ij)`, reduced | that of KL_ij where KL_ij > λ |
//! | `…_dimensions` | `Σ_j max(λ, mean_i KL_ij)` | that of the mean, in columns where it exceeds λ |
//! | `…_samples` | `Σ_i max(λ, Σ_j KL_ij)`, reduced | that of row i where its sum exceeds λ |
//!
//! The first asks λ of every dimension for every example, the second of every dimension on average
//! over the batch (Kingma et al., equation 15, with one group a dimension), the third of every
//! example in all. λ is in nats each time, so λ of the third compares with λ·Z of the others.
//!
//! # Method
//! A column's mean is known only after the whole batch: the second takes two passes over μ and v, the
//! others one. At KL = λ the gradient is 0.
//!
//! # Contract, of every function here
//! KL_ij has the bounds and edges of [`kl`]; λ is exact. A NaN in μ or logvar gives NaN.
//!
//! Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling, "Improved Variational Inference
//! with Inverse Autoregressive Flow" (2016), appendix C.8.

use super::Reduction;
use super::batch::{TermRows, total};
use super::kl::{self, NormalKl, Prior};
use super::row_sums::{FunctionOfRows, RowFunction};
use super::term::{Range, Term, ValueOf};
use crate::Compute;
use crate::error::{Result, expect_non_negative};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::Simd;

/// The term max(λ, KL): inputs μ and v, gradients with respect to both.
#[derive(Clone, Copy)]
pub(crate) struct ElementFreeBits {
    pub(crate) kl: NormalKl,
    pub(crate) lambda: f32,
}

impl Term<2, 2> for ElementFreeBits {
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 2]) -> (S::f32s, [S::f32s; 2]) {
        let (kl, [dmu, dlogvar]) = self.kl.lane(simd, inputs);
        let lambda = simd.splat_f32s(self.lambda);
        let zero = simd.splat_f32s(0.0);
        // False for NaN, which stays.
        let free = simd.less_than_or_equal_f32s(kl, lambda);
        let gradients = [simd.select_f32s(free, zero, dmu), simd.select_f32s(free, zero, dlogvar)];
        (simd.select_f32s(free, lambda, kl), gradients)
    }
}

/// A KL divergence that costs nothing more once it is at or below λ.
///
/// ```
/// use elbo::loss::{FreeBits, FreeBitsPer};
///
/// let free_bits = FreeBits { lambda: 0.5, per: FreeBitsPer::Element };
/// assert!(free_bits.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FreeBits {
    /// λ, the threshold in nats: of an element, a dimension or an example.
    pub lambda: f32,
    /// The divergence that is compared with λ.
    pub per: FreeBitsPer,
}

/// The divergence that free bits compare with λ: three objectives in use, which differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum FreeBitsPer {
    /// Each latent dimension of each example: `Σ_ij max(λ, KL_ij)`.
    Element,
    /// The mean over the batch of each latent dimension: `Σ_j max(λ, mean_i KL_ij)` (Kingma et al.
    /// 2016, equation 15).
    Dimension,
    /// Each example: `Σ_i max(λ, KL_i)`.
    Sample,
}

impl FreeBits {
    /// Checks the threshold.
    ///
    /// # Errors
    /// [`Error::Config`] if λ is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        validate(self.lambda, Prior::default())
    }

    /// `max(λ, KL)` and its derivative with respect to the KL, for the sum of one example or the mean
    /// of one dimension. At KL = λ the derivative is 0; NaN stays NaN.
    pub(crate) fn value_and_slope(self, kl: f64) -> (f64, f64) {
        let lambda = f64::from(self.lambda);
        // Comparisons with NaN are false.
        if kl <= lambda { (lambda, 0.0) } else { (kl, 1.0) }
    }
}

/// [`FreeBits::value_and_slope`] as the old functions call it.
fn free(kl: f64, lambda: f64) -> (f64, f64) {
    FreeBits { lambda: lambda as f32, per: FreeBitsPer::Sample }.value_and_slope(kl)
}

fn validate(lambda: f32, prior: Prior) -> Result<()> {
    expect_non_negative("lambda", lambda)?;
    prior.validate()
}

/// `Σ_ij max(λ, KL_ij)`, reduced, over `mu[B, Z]` and `logvar[B, Z]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or a mean has nothing to reduce;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::Config`](crate::Error::Config) for a λ that is negative or not finite, or no prior.
///
/// ```
/// use elbo::{Compute, loss::{Reduction, free_bits, kl::Prior}};
/// use ndarray::array;
///
/// let (mu, logvar) = (array![[2.0, 0.1]], array![[0.0, 0.0]]);
/// let (compute, prior) = (Compute::serial(), Prior::default());
/// let (mu, logvar) = (mu.view(), logvar.view());
/// let loss =
///     free_bits::forward_elements(&compute, mu, logvar, 0.5, prior, Reduction::Sum)?;
/// assert_eq!(loss, 2.0 + 0.5);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_elements(
    compute: &Compute,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    lambda: f32,
    prior: Prior,
    reduction: Reduction,
) -> Result<f64> {
    validate(lambda, prior)?;
    let term = ValueOf(ElementFreeBits { kl: NormalKl::new(prior), lambda });
    let inputs = [("mu", mu), ("logvar", logvar)];
    TermRows::new(term, [], inputs, 1.0, reduction)?.reduced(compute)
}

/// Overwrites `dmu[B, Z]` and `dlogvar[B, Z]` with the gradients of [`forward_elements`], whose
/// value it returns, to its bits.
///
/// # Errors
/// As [`forward_elements`], and then the gradients are left as they were.
pub fn forward_backward_elements(
    compute: &Compute,
    dmu: ArrayViewMut2<f32>,
    dlogvar: ArrayViewMut2<f32>,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    lambda: f32,
    prior: Prior,
    reduction: Reduction,
) -> Result<f64> {
    validate(lambda, prior)?;
    let term = ElementFreeBits { kl: NormalKl::new(prior), lambda };
    let gradients = [("dmu", dmu), ("dlogvar", dlogvar)];
    let inputs = [("mu", mu), ("logvar", logvar)];
    TermRows::new(term, gradients, inputs, 1.0, reduction)?.reduced(compute)
}

/// `Σ_j max(λ, mean_i KL_ij)` over `mu[B, Z]` and `logvar[B, Z]`, in nats per example. Overwrites
/// `means` (Z of them) with `mean_i KL_ij`.
///
/// # Errors
/// As [`forward_elements`], and for no rows or `means` of another length.
pub fn forward_dimensions(
    compute: &Compute,
    means: &mut [f64],
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    lambda: f32,
    prior: Prior,
) -> Result<f64> {
    validate(lambda, prior)?;
    kl::dimension_means(compute, means, mu, logvar, prior)?;
    Ok(means.iter().map(|&mean| free(mean, lambda.into()).0).sum())
}

/// Overwrites `dmu[B, Z]` and `dlogvar[B, Z]` with the gradients of [`forward_dimensions`], whose
/// value it returns, to its bits, and `means` as it does.
///
/// # Errors
/// As [`forward_dimensions`]; what the gradients then hold is unspecified.
pub fn forward_backward_dimensions(
    compute: &Compute,
    mut dmu: ArrayViewMut2<f32>,
    mut dlogvar: ArrayViewMut2<f32>,
    means: &mut [f64],
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    lambda: f32,
    prior: Prior,
) -> Result<f64> {
    let loss = forward_dimensions(compute, means, mu, logvar, lambda, prior)?;
    let reduction = Reduction::BatchMean;
    let (a, b) = (dmu.view_mut(), dlogvar.view_mut());
    kl::forward_backward_prior(compute, a, b, mu, logvar, prior, reduction)?;
    for mut gradients in [dmu, dlogvar] {
        for mut row in gradients.rows_mut() {
            for (gradient, &mean) in row.iter_mut().zip(&*means) {
                // Not a product: 0·∞ would be NaN.
                if free(mean, lambda.into()).1 == 0.0 {
                    *gradient = 0.0;
                }
            }
        }
    }
    Ok(loss)
}

/// `Σ_i max(λ, Σ_j KL_ij)`, reduced, over `mu[B, Z]` and `logvar[B, Z]`.
///
/// # Errors
/// As [`forward_elements`].
pub fn forward_samples(
    compute: &Compute,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    lambda: f32,
    prior: Prior,
    reduction: Reduction,
) -> Result<f64> {
    validate(lambda, prior)?;
    let term = ValueOf(NormalKl::new(prior));
    let inputs = [("mu", mu), ("logvar", logvar)];
    let rows = TermRows::new(term, [], inputs, 1.0, reduction)?;
    let divisor = rows.divisor();
    let [sum] = total(compute, FunctionOfRows { rows, of: at_least(lambda) })?;
    Ok(sum / divisor)
}

/// Overwrites `dmu[B, Z]` and `dlogvar[B, Z]` with the gradients of [`forward_samples`], whose
/// value it returns, to its bits.
///
/// # Errors
/// As [`forward_samples`], and then the gradients are left as they were.
pub fn forward_backward_samples(
    compute: &Compute,
    dmu: ArrayViewMut2<f32>,
    dlogvar: ArrayViewMut2<f32>,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    lambda: f32,
    prior: Prior,
    reduction: Reduction,
) -> Result<f64> {
    validate(lambda, prior)?;
    let gradients = [("dmu", dmu), ("dlogvar", dlogvar)];
    let inputs = [("mu", mu), ("logvar", logvar)];
    let rows = TermRows::new(NormalKl::new(prior), gradients, inputs, 1.0, reduction)?;
    let divisor = rows.divisor();
    let [sum] = total(compute, FunctionOfRows { rows, of: at_least(lambda) })?;
    Ok(sum / divisor)
}

fn at_least(lambda: f32) -> RowFunction {
    RowFunction { parameters: [lambda.into(), 0.0], function: |kl, [lambda, _]| free(kl, lambda) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::conformance::Conformance;
    use crate::loss::reference;
    use crate::simd::InstructionSet;
    use ndarray::Array2;

    #[test]
    fn conforms() {
        let mut elements = Vec::new();
        for i in -60..=60 {
            elements.extend([0.0, 0.2, -0.9, 1.5, 3.0].map(|mu| [mu, i as f32 / 17.0]));
        }
        let far = |&[mu, v]: &[f32; 2]| {
            (reference::standard_normal_kl([mu.into(), v.into()]).0 - 0.25).abs() > 0.01
        };
        Conformance {
            term: ElementFreeBits { kl: NormalKl::new(Prior::default()), lambda: 0.25 },
            twin: |inputs| reference::element_free_bits(inputs, 0.25),
            elements: elements.clone(),
            value_ulps: 3.0,
            value_size: |_, value| value,
            gradient_ulps: [0.0, 1.0],
            underflow: 0.0,
            gradient_size: |_, gradients| gradients,
            smooth: elements.into_iter().filter(far).collect(),
        }
        .check();
    }

    /// Rows and columns whose divergences lie on either side of any λ between.
    fn batch() -> [Array2<f32>; 2] {
        let mu = |i: usize, j: usize| ((i * 7 + j * 5) % 11) as f32 / 8.0 * (j as f32 / 9.0);
        let logvar = |i: usize, j: usize| -(((i * 3 + j) % 13) as f32) / 20.0 * (i as f32 / 70.0);
        [
            Array2::from_shape_fn((130, 21), |(i, j)| mu(i, j)),
            Array2::from_shape_fn((130, 21), |(i, j)| logvar(i, j)),
        ]
    }

    fn exact(mu: f32, v: f32) -> (f64, [f64; 2]) {
        reference::standard_normal_kl([mu.into(), v.into()])
    }

    #[test]
    fn dimensions_by_their_means() {
        let [mu, logvar] = batch();
        let (rows, columns) = mu.dim();
        let lambda = 0.1;
        let sums: Vec<f64> = (0..columns)
            .map(|j| (0..rows).map(|i| exact(mu[[i, j]], logvar[[i, j]]).0).sum())
            .collect();
        let means: Vec<f64> = sums.iter().map(|sum| sum / rows as f64).collect();
        assert!(means.iter().any(|&m| m < 0.09) && means.iter().any(|&m| m > 0.11));
        let value: f64 = means.iter().map(|mean| mean.max(f64::from(0.1_f32))).sum();
        let mut expected = None;
        for set in InstructionSet::available() {
            for threads in [1, 3] {
                let compute = Compute::new(set, threads).unwrap();
                let mut gradients = [mu.clone(), mu.clone()];
                let [dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
                let mut found = vec![f64::NAN; columns];
                let loss = forward_backward_dimensions(
                    &compute,
                    dmu,
                    dlogvar,
                    &mut found,
                    mu.view(),
                    logvar.view(),
                    lambda,
                    Prior::default(),
                )
                .unwrap();
                assert!((loss - value).abs() < 1e-6 * value);
                for ((i, j), &dmu) in gradients[0].indexed_iter() {
                    assert!((found[j] - means[j]).abs() < 1e-6 * means[j]);
                    let (_, exact) = exact(mu[[i, j]], logvar[[i, j]]);
                    let kept = if means[j] > 0.1 { 1.0 / rows as f64 } else { 0.0 };
                    assert!((f64::from(dmu) - kept * exact[0]).abs() < 1e-8);
                    assert!((f64::from(gradients[1][[i, j]]) - kept * exact[1]).abs() < 1e-8);
                }
                let all = (loss, found, gradients);
                assert_eq!(*expected.get_or_insert(all.clone()), all, "{set}, {threads}");
            }
        }
    }

    #[test]
    fn samples_by_their_sums() {
        let [mu, logvar] = batch();
        let (rows, columns) = mu.dim();
        let sum = |i| (0..columns).map(|j| exact(mu[[i, j]], logvar[[i, j]]).0).sum::<f64>();
        let sums: Vec<f64> = (0..rows).map(sum).collect();
        let lambda = (sums.iter().sum::<f64>() / rows as f64) as f32;
        assert!(sums.iter().all(|&sum| (sum - f64::from(lambda)).abs() > 1e-5));
        let value: f64 = sums.iter().map(|sum| sum.max(lambda.into())).sum();
        let mut expected = None;
        for set in InstructionSet::available() {
            for threads in [1, 3] {
                let compute = Compute::new(set, threads).unwrap();
                let mut gradients = [mu.clone(), mu.clone()];
                let [dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
                let (reduction, prior) = (Reduction::Sum, Prior::default());
                let (m, v) = (mu.view(), logvar.view());
                let loss = forward_backward_samples(
                    &compute, dmu, dlogvar, m, v, lambda, prior, reduction,
                );
                let loss = loss.unwrap();
                assert!((loss - value).abs() < 1e-6 * value, "{loss} {value}");
                let alone = forward_samples(&compute, m, v, lambda, prior, reduction).unwrap();
                assert_eq!(loss, alone);
                for ((i, j), &dmu) in gradients[0].indexed_iter() {
                    let (_, exact) = exact(mu[[i, j]], logvar[[i, j]]);
                    let kept = if sums[i] > f64::from(lambda) { 1.0 } else { 0.0 };
                    assert!((f64::from(dmu) - kept * exact[0]).abs() < 1e-6);
                    assert!((f64::from(gradients[1][[i, j]]) - kept * exact[1]).abs() < 1e-6);
                }
                let all = (loss, gradients);
                assert_eq!(*expected.get_or_insert(all.clone()), all, "{set}, {threads}");
            }
        }
    }

    #[test]
    fn nan_is_not_free() {
        assert!(free(f64::NAN, 1.0).0.is_nan());
        let (mu, logvar) = (ndarray::array![[f32::NAN]], ndarray::array![[0.0]]);
        let (compute, prior) = (Compute::serial(), Prior::default());
        let (mu, logvar) = (mu.view(), logvar.view());
        let loss = forward_elements(&compute, mu, logvar, 1.0, prior, Reduction::Sum);
        assert!(loss.unwrap().is_nan());
        let error = forward_elements(&compute, mu, logvar, -1.0, prior, Reduction::Sum);
        assert!(error.unwrap_err().to_string().starts_with("`lambda`: expected"));
    }
}
