//! Capacity: a divergence that is held at C nats instead of being pushed to 0.
//!
//! ```text
//! of the batch   γ·|mean_i KL_i − C|        gradient γ·sign(mean KL − C)·∂(mean KL)
//! per sample     mean_i γ·|KL_i − C|        gradient γ·sign(KL_i − C)·∂KL_i / B
//! ```
//!
//! with KL_i the divergence of example i, summed over its latent dimensions. C is usually raised
//! from 0 as training goes on, so that the posterior learns to carry a little more at a time. The
//! paper's formula does not say which of the two it means; they differ: the mean over the batch lets
//! one example carry more and another less.
//!
//! # Contract, of every function here
//! KL has the bounds and edges of [`kl`]. At KL = C the gradient is 0.
//!
//! Source: Burgess, Higgins, Pal, Matthey, Watters, Desjardins & Lerchner, "Understanding
//! disentangling in β-VAE" (2018).

use super::Reduction;
use super::batch::{TermRows, total};
use super::kl::{self, NormalKl, Prior};
use super::row_sums::{FunctionOfRows, RowFunction};
use super::term::ValueOf;
use crate::Compute;
use crate::error::{Result, expect_non_negative};
use ndarray::{ArrayView2, ArrayViewMut2};

/// A KL divergence that is held at C nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// γ, the weight of the distance; 1,000 in the paper.
    pub gamma: f32,
    /// C, in nats per example.
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
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a number that is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        expect_non_negative("gamma", self.gamma)?;
        expect_non_negative("capacity", self.nats)
    }

    /// `γ·|KL − C|` and its derivative with respect to the KL, for the sum of one example or the mean
    /// of the batch. At KL = C the derivative is 0; NaN stays NaN in both.
    pub(crate) fn value_and_slope(self, kl: f64) -> (f64, f64) {
        distance(kl, [self.gamma.into(), self.nats.into()])
    }

    fn of_rows(self) -> RowFunction {
        RowFunction { parameters: [self.gamma.into(), self.nats.into()], function: distance }
    }
}

fn distance(kl: f64, [gamma, nats]: [f64; 2]) -> (f64, f64) {
    let distance = kl - nats;
    // `signum` has no zero.
    let sign = if distance == 0.0 { 0.0 } else { distance.signum() };
    (gamma * distance.abs(), gamma * sign)
}

/// `γ·|mean_i KL_i − C|` over `mu[B, Z]` and `logvar[B, Z]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ or there is no row;
/// [`Error::Layout`](crate::Error::Layout) if rows are not contiguous;
/// [`Error::Config`](crate::Error::Config) for a capacity or prior that is none.
///
/// ```
/// use elbo::{Compute, loss::{CapacityPer, capacity::{self, Capacity}, kl::Prior}};
/// use ndarray::array;
///
/// // KL of 2 and 0 nats, a mean of 1.
/// let (mu, logvar) = (array![[2.0], [0.0]], array![[0.0], [0.0]]);
/// let (compute, prior) = (Compute::serial(), Prior::default());
/// let target = Capacity { gamma: 10.0, nats: 1.0, per: CapacityPer::Batch };
/// let (mu, logvar) = (mu.view(), logvar.view());
/// assert_eq!(capacity::forward_batch(&compute, mu, logvar, target, prior)?, 0.0);
/// assert_eq!(capacity::forward_samples(&compute, mu, logvar, target, prior)?, 10.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn forward_batch(
    compute: &Compute,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    capacity: Capacity,
    prior: Prior,
) -> Result<f64> {
    capacity.validate()?;
    let kl = kl::forward_prior(compute, mu, logvar, prior, Reduction::BatchMean)?;
    Ok(capacity.value_and_slope(kl).0)
}

/// Overwrites `dmu[B, Z]` and `dlogvar[B, Z]` with the gradients of [`forward_batch`], whose value
/// it returns, to its bits.
///
/// # Errors
/// As [`forward_batch`], and then the gradients are left as they were.
pub fn forward_backward_batch(
    compute: &Compute,
    mut dmu: ArrayViewMut2<f32>,
    mut dlogvar: ArrayViewMut2<f32>,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    capacity: Capacity,
    prior: Prior,
) -> Result<f64> {
    capacity.validate()?;
    prior.validate()?;
    let gradients = [("dmu", dmu.view_mut()), ("dlogvar", dlogvar.view_mut())];
    let inputs = [("mu", mu), ("logvar", logvar)];
    let term = NormalKl::new(prior);
    let rows = TermRows::new(term, gradients, inputs, capacity.gamma, Reduction::BatchMean)?;
    let (value, slope) = capacity.value_and_slope(rows.reduced(compute)?);
    // The gradients have γ in them; what is left is the sign.
    if slope <= 0.0 {
        for mut gradients in [dmu.view_mut(), dlogvar.view_mut()] {
            gradients.mapv_inplace(|g| if slope < 0.0 { -g } else { 0.0 });
        }
    }
    Ok(value)
}

/// `mean_i γ·|KL_i − C|` over `mu[B, Z]` and `logvar[B, Z]`.
///
/// # Errors
/// As [`forward_batch`].
pub fn forward_samples(
    compute: &Compute,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    capacity: Capacity,
    prior: Prior,
) -> Result<f64> {
    capacity.validate()?;
    prior.validate()?;
    let term = ValueOf(NormalKl::new(prior));
    let inputs = [("mu", mu), ("logvar", logvar)];
    let rows = TermRows::new(term, [], inputs, 1.0, Reduction::BatchMean)?;
    let divisor = rows.divisor();
    let [sum] = total(compute, FunctionOfRows { rows, of: capacity.of_rows() })?;
    Ok(sum / divisor)
}

/// Overwrites `dmu[B, Z]` and `dlogvar[B, Z]` with the gradients of [`forward_samples`], whose
/// value it returns, to its bits.
///
/// # Errors
/// As [`forward_batch`], and then the gradients are left as they were.
pub fn forward_backward_samples(
    compute: &Compute,
    dmu: ArrayViewMut2<f32>,
    dlogvar: ArrayViewMut2<f32>,
    mu: ArrayView2<f32>,
    logvar: ArrayView2<f32>,
    capacity: Capacity,
    prior: Prior,
) -> Result<f64> {
    capacity.validate()?;
    prior.validate()?;
    let gradients = [("dmu", dmu), ("dlogvar", dlogvar)];
    let inputs = [("mu", mu), ("logvar", logvar)];
    let rows = TermRows::new(NormalKl::new(prior), gradients, inputs, 1.0, Reduction::BatchMean)?;
    let divisor = rows.divisor();
    let [sum] = total(compute, FunctionOfRows { rows, of: capacity.of_rows() })?;
    Ok(sum / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference;
    use crate::simd::InstructionSet;
    use ndarray::Array2;

    #[test]
    fn both_are_the_distance_with_its_gradient() {
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
                let (m, v, prior) = (mu.view(), logvar.view(), Prior::default());
                for of_batch in [true, false] {
                    let mut gradients = [mu.clone(), mu.clone()];
                    let [a, b] = gradients.each_mut().map(|g| g.view_mut());
                    let (value, alone, expected) = if of_batch {
                        (
                            forward_backward_batch(&compute, a, b, m, v, capacity, prior),
                            forward_batch(&compute, m, v, capacity, prior),
                            30.0 * (mean - target).abs(),
                        )
                    } else {
                        (
                            forward_backward_samples(&compute, a, b, m, v, capacity, prior),
                            forward_samples(&compute, m, v, capacity, prior),
                            30.0 * by_row / 70.0,
                        )
                    };
                    let value = value.unwrap();
                    assert_eq!(value, alone.unwrap());
                    assert!((value - expected).abs() < 1e-5 * expected, "{value} {expected}");
                    for ((i, j), &dmu) in gradients[0].indexed_iter() {
                        let kl = if of_batch { mean } else { sums[i] };
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
    fn at_the_capacity_there_is_no_gradient() {
        let capacity = Capacity { gamma: 5.0, nats: 2.0, per: CapacityPer::Sample };
        assert_eq!(capacity.value_and_slope(2.0), (0.0, 0.0));
        assert_eq!(capacity.value_and_slope(1.0), (5.0, -5.0));
        let (value, slope) = capacity.value_and_slope(f64::NAN);
        assert!(value.is_nan() && slope.is_nan());
        let message = Capacity { gamma: -1.0, ..capacity }.validate().unwrap_err().to_string();
        assert_eq!(message, "`gamma`: expected a non-negative finite number, found -1");
    }
}
