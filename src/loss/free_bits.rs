//! Free bits: a KL divergence that costs nothing more once it is small.
//!
//! Below λ nats the divergence is not pushed further down, so that the posterior of a dimension,
//! or of an example, keeps something of the data. Three objectives go by this name:
//!
//! | [`FreeBitsPer`] | value | gradient |
//! |---|---|---|
//! | `Element` | `Σ_ij max(λ, KL_ij)` | that of KL_ij where KL_ij > λ |
//! | `Dimension` | `B·Σ_j max(λ, mean_i KL_ij)` | that of column j where its mean exceeds λ |
//! | `Sample` | `Σ_i max(λ, Σ_j KL_ij)` | that of row i where its sum exceeds λ |
//!
//! each reduced, so that the mean over the batch of the second is `Σ_j max(λ, mean_i KL_ij)`. The
//! first asks λ of every dimension for every example, the second of every dimension on average
//! over the batch (Kingma et al., equation 15, with one group a dimension), the third of every
//! example in all. λ is in nats each time, so λ of the third compares with λ·Z of the others.
//!
//! # Method
//! 1. The scalar rule is `FreeBits::value_and_slope`; the lane term of `Element` is the same rule in
//!    registers. At KL = λ the gradient is 0.
//! 2. A column's mean is known only after the whole batch: `Dimension` takes two passes over μ and v, and
//!    memory for 2·Z numbers. The others take one pass.
//!
//! # Contract
//! KL_ij has the bounds and edges of [`kl`]; λ is exact. A NaN in μ or logvar gives NaN.
//!
//! Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling, "Improved Variational Inference
//! with Inverse Autoregressive Flow" (2016), appendix C.8.

use super::kernel::batch::RowSums;
use super::kernel::{Range, Term};
use super::kl::{self, NormalKl, PenaltyRow, Prior, RowRule};
use super::term::sealed::Sealed;
use super::term::{Arrays, Coupling, KlGradients, KlInputs, KlPenalty, LossTerm, RowPlan, kl_rows};
use crate::Compute;
use crate::error::{Error, Result, expect_non_negative};
use pulp::Simd;

/// A KL penalty that costs nothing more once it is at or below λ.
///
/// ```
/// use elbo::{Compute, loss::{FreeBits, FreeBitsPer, KlInputs, LossTerm, Prior, Reduction}};
/// use ndarray::array;
///
/// let (mu, logvar) = (array![[2.0, 0.1]], array![[0.0, 0.0]]);
/// let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior: Prior::default() };
/// let free_bits = FreeBits { lambda: 0.5, per: FreeBitsPer::Element };
/// let loss = free_bits.forward(&Compute::serial(), inputs, Reduction::Sum)?;
/// assert_eq!(loss, 2.0 + 0.5);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FreeBits {
    /// The threshold λ in nats: of an element, a dimension or an example.
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
        expect_non_negative("lambda", self.lambda)
    }

    /// `max(λ, KL)` and its derivative with respect to the KL, for the sum of one example or the mean
    /// of one dimension. At KL = λ the derivative is 0; NaN stays NaN.
    pub(crate) fn value_and_slope(self, kl: f64) -> (f64, f64) {
        let lambda = f64::from(self.lambda);
        // Comparisons with NaN are false.
        if kl <= lambda { (lambda, 0.0) } else { (kl, 1.0) }
    }

    /// The rule of each element as a term.
    pub(crate) fn elements(self, prior: Prior) -> ElementFreeBits {
        ElementFreeBits { kl: NormalKl::new(prior), lambda: self.lambda }
    }
}

/// The term max(λ, KL): inputs μ and v, gradients with respect to both.
#[derive(Clone, Copy)]
pub(crate) struct ElementFreeBits {
    kl: NormalKl,
    lambda: f32,
}

impl Term<2, 2> for ElementFreeBits {
    const ACCEPTS: Option<Range> = None;

    #[inline(always)]
    fn lane<S: Simd>(self, simd: S, inputs: [S::f32s; 2]) -> (S::f32s, [S::f32s; 2]) {
        // The divergence and its gradients first, whether they count or not.
        let (kl, [dmu, dlogvar]) = self.kl.lane(simd, inputs);
        let lambda = simd.splat_f32s(self.lambda);
        let zero = simd.splat_f32s(0.0);
        // 1. As `value_and_slope`: false for NaN, which stays. Selecting does not make NaN of 0·∞.
        let free = simd.less_than_or_equal_f32s(kl, lambda);
        let gradients = [simd.select_f32s(free, zero, dmu), simd.select_f32s(free, zero, dlogvar)];
        (simd.select_f32s(free, lambda, kl), gradients)
    }
}

impl Sealed for FreeBits {}
impl KlPenalty for FreeBits {}

impl LossTerm for FreeBits {
    type Inputs<'a> = KlInputs<'a>;
    type Gradients<'a> = KlGradients<'a>;

    fn validate(&self, inputs: KlInputs<'_>) -> Result<()> {
        FreeBits::validate(self)?;
        inputs.prior.validate()
    }

    fn couple(&self, compute: &Compute, inputs: KlInputs<'_>) -> Result<Coupling> {
        let [rows, columns] = inputs.shape();
        if self.per != FreeBitsPer::Dimension || rows == 0 {
            return Ok(Coupling::default());
        }
        // 2. The first pass.
        let mut means = vec![0.0; columns];
        kl::dimension_means(compute, &mut means, inputs)?;
        // λ is compared with the mean of each column, and the batch counts every mean B times.
        let (mut value, mut factors) = (0.0, vec![0.0; columns]);
        for (mean, factor) in means.into_iter().zip(&mut factors) {
            let (bounded, slope) = self.value_and_slope(mean);
            value += bounded;
            *factor = slope as f32;
        }
        Ok(Coupling { value: Some(rows as f64 * value), factors, ..Coupling::default() })
    }

    fn rows(
        &self,
        plan: RowPlan<'_>,
        gradients: Option<Self::Gradients<'_>>,
        inputs: Self::Inputs<'_>,
    ) -> Result<impl RowSums<2>> {
        let rule = match self.per {
            FreeBitsPer::Element => RowRule::Elements(self.elements(inputs.prior)),
            FreeBitsPer::Dimension => RowRule::Columns(&plan.coupling.factors),
            FreeBitsPer::Sample => RowRule::Sum(|kl| self.value_and_slope(kl)),
        };
        let kl = NormalKl::new(inputs.prior);
        let row = PenaltyRow { kl, rule, with_sums: plan.with_sums };
        kl_rows(row, plan.scale, gradients, inputs)
    }

    fn separable(&self) -> Result<()> {
        match self.per {
            FreeBitsPer::Dimension => Err(Error::config(
                "per",
                "free bits of elements or samples for the value of one example",
                "dimension",
            )),
            FreeBitsPer::Element | FreeBitsPer::Sample => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::conformance::Conformance;
    use crate::loss::testing::reference;
    use crate::loss::{Prior, Reduction};
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
            term: FreeBits { lambda: 0.25, per: FreeBitsPer::Element }.elements(Prior::default()),
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

    /// Value and gradients of the sum over the batch on any instruction set and number of threads.
    fn run(free_bits: FreeBits, [mu, logvar]: &[Array2<f32>; 2]) -> (f64, [Array2<f32>; 2]) {
        let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior: Prior::default() };
        let mut expected = None;
        for set in InstructionSet::available() {
            for threads in [1, 3] {
                let compute = Compute::new(set, threads).unwrap();
                let mut gradients = [mu.clone(), mu.clone()];
                let [dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
                let views = KlGradients { dmu, dlogvar };
                let loss = free_bits.forward_backward(&compute, views, inputs, Reduction::Sum);
                let found = (loss.unwrap(), gradients);
                let alone = free_bits.forward(&compute, inputs, Reduction::Sum).unwrap();
                assert_eq!(found.0, alone);
                assert_eq!(*expected.get_or_insert(found.clone()), found, "{set}, {threads}");
            }
        }
        expected.unwrap()
    }

    /// Compares with the twin, whose gradients are kept where `kept(i, j)`.
    fn compare(
        found: (f64, [Array2<f32>; 2]),
        value: f64,
        [mu, logvar]: &[Array2<f32>; 2],
        kept: impl Fn(usize, usize) -> bool,
    ) {
        let (loss, [dmu, dlogvar]) = found;
        assert!((loss - value).abs() < 1e-6 * value, "{loss} {value}");
        for ((i, j), &dmu) in dmu.indexed_iter() {
            let (_, exact) = exact(mu[[i, j]], logvar[[i, j]]);
            let factor = if kept(i, j) { 1.0 } else { 0.0 };
            assert!((f64::from(dmu) - factor * exact[0]).abs() < 1e-6);
            assert!((f64::from(dlogvar[[i, j]]) - factor * exact[1]).abs() < 1e-6);
        }
    }

    #[test]
    fn compares_the_mean_of_each_dimension() {
        let batch = batch();
        let [mu, logvar] = &batch;
        let (rows, columns) = mu.dim();
        let sum = |j| (0..rows).map(|i| exact(mu[[i, j]], logvar[[i, j]]).0).sum::<f64>();
        let means: Vec<f64> = (0..columns).map(|j| sum(j) / rows as f64).collect();
        assert!(means.iter().any(|&m| m < 0.09) && means.iter().any(|&m| m > 0.11));
        let lambda = f64::from(0.1_f32);
        let value: f64 = means.iter().map(|mean| rows as f64 * mean.max(lambda)).sum();
        let found = run(FreeBits { lambda: 0.1, per: FreeBitsPer::Dimension }, &batch);
        compare(found, value, &batch, |_, j| means[j] > lambda);
    }

    #[test]
    fn compares_the_sum_of_each_sample() {
        let batch = batch();
        let [mu, logvar] = &batch;
        let (rows, columns) = mu.dim();
        let sum = |i| (0..columns).map(|j| exact(mu[[i, j]], logvar[[i, j]]).0).sum::<f64>();
        let sums: Vec<f64> = (0..rows).map(sum).collect();
        let lambda = (sums.iter().sum::<f64>() / rows as f64) as f32;
        assert!(sums.iter().all(|&sum| (sum - f64::from(lambda)).abs() > 1e-5));
        let value: f64 = sums.iter().map(|sum| sum.max(lambda.into())).sum();
        let found = run(FreeBits { lambda, per: FreeBitsPer::Sample }, &batch);
        compare(found, value, &batch, |i, _| sums[i] > f64::from(lambda));
    }

    #[test]
    fn keeps_nan_and_rejects_invalid_thresholds() {
        for per in [FreeBitsPer::Element, FreeBitsPer::Dimension, FreeBitsPer::Sample] {
            let free_bits = FreeBits { lambda: 1.0, per };
            assert!(free_bits.value_and_slope(f64::NAN).0.is_nan());
            assert_eq!(free_bits.value_and_slope(1.0), (1.0, 0.0));
            assert_eq!(free_bits.value_and_slope(1.5), (1.5, 1.0));
            let (mu, logvar) = (ndarray::array![[f32::NAN]], ndarray::array![[0.0]]);
            let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior: Prior::default() };
            let compute = Compute::serial();
            assert!(free_bits.forward(&compute, inputs, Reduction::Sum).unwrap().is_nan());
            let negative = FreeBits { lambda: -1.0, per };
            let error = negative.forward(&compute, inputs, Reduction::Sum).unwrap_err();
            assert!(error.to_string().starts_with("`lambda`: expected"));
        }
    }
}
