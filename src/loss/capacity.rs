//! Capacity: a KL divergence that is held at C nats instead of being pushed to 0.
//!
//! | [`CapacityPer`] | value | gradient |
//! |---|---|---|
//! | `Batch` | `B·γ·\|mean_i KL_i − C\|` | `γ·sign(mean KL − C)·∂KL_i` |
//! | `Sample` | `Σ_i γ·\|KL_i − C\|` | `γ·sign(KL_i − C)·∂KL_i` |
//!
//! each reduced, with KL_i the divergence of example i, summed over its latent dimensions. C is usually
//! raised from 0 as training goes on, so that the posterior learns to carry a little more at a time. The
//! paper's formula does not say which of the two it means; they differ: the mean over the batch lets
//! one example carry more and another less.
//!
//! # Method
//! 1. The scalar rule is `Capacity::value_and_slope`. At KL = C the gradient is 0.
//! 2. The sign of the batch is known only after all of it: `Batch` takes two passes for its gradients, one
//!    for its value. `Sample` takes one.
//!
//! # Contract
//! KL has the bounds and edges of [`kl`](super::kl). A NaN in μ or logvar gives NaN.
//!
//! Source: Burgess, Higgins, Pal, Matthey, Watters, Desjardins & Lerchner, "Understanding
//! disentangling in β-VAE" (2018).

use super::Reduction;
use super::kernel::batch::RowSums;
use super::kl::{Kl, NormalKl, PenaltyRow, RowRule};
use super::term::sealed::Sealed;
use super::term::{Arrays, Coupling, KlGradients, KlInputs, KlPenalty, LossTerm, RowPlan, kl_rows};
use crate::Compute;
use crate::error::{Error, Result, expect_non_negative};

/// A KL penalty that holds the divergence at C nats.
///
/// ```
/// use elbo::{Compute, loss::{Capacity, CapacityPer, KlInputs, LossTerm, Prior, Reduction}};
/// use ndarray::array;
///
/// // KL of 2 and 0 nats, a mean of 1.
/// let (mu, logvar) = (array![[2.0], [0.0]], array![[0.0], [0.0]]);
/// let inputs = KlInputs { mu: mu.view(), logvar: logvar.view(), prior: Prior::default() };
/// let (compute, reduction) = (Compute::serial(), Reduction::BatchMean);
/// let batch = Capacity { gamma: 10.0, nats: 1.0, per: CapacityPer::Batch };
/// assert_eq!(batch.forward(&compute, inputs, reduction)?, 0.0);
/// let sample = Capacity { per: CapacityPer::Sample, ..batch };
/// assert_eq!(sample.forward(&compute, inputs, reduction)?, 10.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// The weight γ of the distance; 1,000 in the paper.
    pub gamma: f32,
    /// The capacity C, in nats per example.
    pub nats: f32,
    /// The divergence that is held at C.
    pub per: CapacityPer,
}

/// The divergence that a capacity holds at C: two objectives, which differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum CapacityPer {
    /// The mean of the batch: `γ·|mean_i KL_i − C|`.
    Batch,
    /// Each example: `γ·mean_i |KL_i − C|`.
    Sample,
}

impl Capacity {
    /// Checks γ and C.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        expect_non_negative("gamma", self.gamma)?;
        expect_non_negative("capacity", self.nats)
    }

    /// `γ·|KL − C|` and its derivative with respect to the KL, for the sum of one example or the mean
    /// of the batch. At KL = C the derivative is 0; NaN stays NaN in both.
    pub(crate) fn value_and_slope(self, kl: f64) -> (f64, f64) {
        let (gamma, distance) = (f64::from(self.gamma), kl - f64::from(self.nats));
        // `signum` has no zero.
        let sign = if distance == 0.0 { 0.0 } else { distance.signum() };
        (gamma * distance.abs(), gamma * sign)
    }
}

impl Sealed for Capacity {}
impl KlPenalty for Capacity {}

impl LossTerm for Capacity {
    type Inputs<'a> = KlInputs<'a>;
    type Gradients<'a> = KlGradients<'a>;

    fn validate(&self, inputs: KlInputs<'_>) -> Result<()> {
        Capacity::validate(self)?;
        inputs.prior.validate()
    }

    fn couple(&self, compute: &Compute, inputs: KlInputs<'_>) -> Result<Coupling> {
        let [rows, _] = inputs.shape();
        if self.per != CapacityPer::Batch || rows == 0 {
            return Ok(Coupling::default());
        }
        // 2. The first pass.
        let sum = Kl.forward(compute, inputs, Reduction::Sum)?;
        let (value, slope) = self.value_and_slope(sum / rows as f64);
        // The batch counts its mean B times, so that every reduction divides the same sum.
        Ok(Coupling { value: Some(rows as f64 * value), slope, ..Coupling::default() })
    }

    fn rows(
        &self,
        plan: RowPlan<'_>,
        gradients: Option<Self::Gradients<'_>>,
        inputs: Self::Inputs<'_>,
    ) -> Result<impl RowSums<2>> {
        let kl = NormalKl::new(inputs.prior);
        let rule = match self.per {
            // The slope is in the plan's scale.
            CapacityPer::Batch => RowRule::<NormalKl, _>::Columns(&[]),
            CapacityPer::Sample => RowRule::Sum(|kl| self.value_and_slope(kl)),
        };
        kl_rows(PenaltyRow { kl, rule, with_sums: false }, plan.scale, gradients, inputs)
    }

    fn separable(&self) -> Result<()> {
        match self.per {
            CapacityPer::Batch => Err(Error::config(
                "per",
                "a capacity of samples for the value of one example",
                "batch",
            )),
            CapacityPer::Sample => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::reference;
    use crate::loss::{Prior, Reduction};
    use crate::simd::InstructionSet;
    use ndarray::Array2;

    #[test]
    fn both_forms_are_the_distance_with_its_gradient() {
        let mu = Array2::from_shape_fn((70, 5), |(i, j)| ((i * 3 + j * 7) % 23) as f32 / 15.0);
        let logvar = Array2::from_shape_fn((70, 5), |(i, j)| ((i + j * 5) % 19) as f32 / 9.0 - 1.5);
        let exact = |i, j| {
            let inputs: [f32; 2] = [mu[[i, j]], logvar[[i, j]]];
            reference::standard_normal_kl(inputs.map(f64::from))
        };
        let sums: Vec<f64> = (0..70).map(|i| (0..5).map(|j| exact(i, j).0).sum()).collect();
        let mean = sums.iter().sum::<f64>() / 70.0;
        for nats in [mean as f32 * 0.5, mean as f32 * 1.5] {
            let capacity = Capacity { gamma: 30.0, nats, per: CapacityPer::Batch };
            let target = f64::from(nats);
            let by_row: f64 = sums.iter().map(|sum| (sum - target).abs()).sum();
            for set in InstructionSet::available() {
                let compute = Compute::new(set, 2).unwrap();
                let (mu, logvar, prior) = (mu.view(), logvar.view(), Prior::default());
                let inputs = KlInputs { mu, logvar, prior };
                for per in [CapacityPer::Batch, CapacityPer::Sample] {
                    let capacity = Capacity { per, ..capacity };
                    let mut gradients = [mu.to_owned(), mu.to_owned()];
                    let [dmu, dlogvar] = gradients.each_mut().map(|g| g.view_mut());
                    let (views, reduction) = (KlGradients { dmu, dlogvar }, Reduction::BatchMean);
                    let value = capacity.forward_backward(&compute, views, inputs, reduction);
                    let value = value.unwrap();
                    assert_eq!(value, capacity.forward(&compute, inputs, reduction).unwrap());
                    let expected = match per {
                        CapacityPer::Batch => 30.0 * (mean - target).abs(),
                        CapacityPer::Sample => 30.0 * by_row / 70.0,
                    };
                    assert!((value - expected).abs() < 1e-5 * expected, "{value} {expected}");
                    for ((i, j), &dmu) in gradients[0].indexed_iter() {
                        let kl = if per == CapacityPer::Batch { mean } else { sums[i] };
                        let slope = 30.0 / 70.0 * (kl - target).signum();
                        let (_, [exact_mu, exact_v]) = exact(i, j);
                        assert!((f64::from(dmu) - slope * exact_mu).abs() < 1e-6);
                        let dlogvar = f64::from(gradients[1][[i, j]]);
                        assert!((dlogvar - slope * exact_v).abs() < 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn has_no_gradient_at_the_capacity() {
        let capacity = Capacity { gamma: 5.0, nats: 2.0, per: CapacityPer::Sample };
        assert_eq!(capacity.value_and_slope(2.0), (0.0, 0.0));
        assert_eq!(capacity.value_and_slope(1.0), (5.0, -5.0));
        let (value, slope) = capacity.value_and_slope(f64::NAN);
        assert!(value.is_nan() && slope.is_nan());
        let message = Capacity { gamma: -1.0, ..capacity }.validate().unwrap_err().to_string();
        assert_eq!(message, "`gamma`: expected a non-negative finite number, found -1");
    }
}
