//! Conversions of β between the ways in which codes weigh the two terms.
//!
//! Papers and programs write the same objective with different sums and means, and a weight copied
//! from one to another is often off by a factor of hundreds. With D features and Z latent
//! dimensions, `rec` and `KL` each summed over their columns for one example, the weight w of each
//! convention stands for β in nats per example, `rec + β·KL`:
//!
//! | [`Convention`] | loss | β | β for w = 1, D = 784, Z = 20 |
//! |---|---|---|---|
//! | [`SumSum`](Convention::SumSum) | sums over everything (PyTorch's classic example) | w | 1 |
//! | [`BatchMean`](Convention::BatchMean) | `mean_i rec_i + w·mean_i KL_i`: the evidence lower bound | w | 1 |
//! | [`MeanMean`](Convention::MeanMean) | mean over B·D, plus w times the mean over B·Z | w·D/Z | 39.2 |
//! | [`MeanSum`](Convention::MeanSum) | mean over B·D, plus `w·mean_i KL_i` | w·D | 784 |
//! | [`Normalized`](Convention::Normalized) | β_norm = β·Z/D of the β-VAE paper | w·D/Z | 39.2 |
//!
//! `MeanSum` is that of the PyTorch-VAE collection, `mse_loss + kld_weight·kld_loss`, whose
//! configurations set kld_weight = 0.00025: with its pictures of 3·64·64 = 12,288 numbers, β = 3.07
//! against the summed squared error. Higgins et al. call Z/D times β normalized, so that models of
//! different sizes compare; it is the weight of `MeanMean` by another way.
//!
//! # The squared error is not the Gaussian's
//! A sum of squares (x−t)² is twice the Gaussian negative log-likelihood with variance 1, less its
//! constant. `(x−t)² + β·KL` therefore weighs the KL as `½(x−t)² + (β/2)·KL` does:
//! [`as_gaussian`] gives the standard deviation under which the KL has the weight 1.
//!
//! Sources: Higgins et al., "β-VAE: Learning Basic Visual Concepts with a Constrained Variational
//! Framework" (2017), section 4.2; Rybkin et al. (2021) for β as a variance.

use crate::error::{Error, Result, expect_positive};

/// The reductions of the two terms before they are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub enum Convention {
    /// Both summed over everything.
    SumSum,
    /// Both summed over columns, then the mean over the batch.
    BatchMean,
    /// Both the mean over all their elements.
    MeanMean,
    /// The reconstruction the mean over all elements, the KL summed over latent dimensions and then
    /// the mean over the batch.
    MeanSum,
    /// β·Z/D.
    Normalized,
}

impl Convention {
    /// β, the weight in nats per example, for the weight 1.
    fn unit(self, features: f64, latent: f64) -> f64 {
        match self {
            Self::SumSum | Self::BatchMean => 1.0,
            Self::MeanMean | Self::Normalized => features / latent,
            Self::MeanSum => features,
        }
    }

    /// The weight of convention `to` that stands for the same objective as `weight` of this one, for
    /// `features` D and `latent` Z.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no features or no latent dimensions.
    ///
    /// ```
    /// use elbo::loss::beta_convention::Convention;
    ///
    /// let beta = Convention::MeanSum.convert(0.00025, Convention::BatchMean, 3 * 64 * 64, 128)?;
    /// assert!((beta - 3.072).abs() < 1e-12);
    /// let back = Convention::BatchMean.convert(beta, Convention::MeanSum, 3 * 64 * 64, 128)?;
    /// assert!((back - 0.00025).abs() < 1e-15);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn convert(self, weight: f64, to: Self, features: usize, latent: usize) -> Result<f64> {
        for (setting, size) in [("features", features), ("latent", latent)] {
            if size == 0 {
                return Err(Error::config(setting, "at least 1", size));
            }
        }
        let (features, latent) = (features as f64, latent as f64);
        Ok(weight * self.unit(features, latent) / to.unit(features, latent))
    }
}

/// The standard deviation σ for which `Σ(x−t)² + β·KL`, both summed over columns, is 2σ² times the
/// Gaussian's negative evidence lower bound, less its constant: σ² = β/2.
///
/// Dividing by β, `Σ(x−t)²/β + KL` is the bound under a Gaussian with 2σ² = β.
///
/// # Errors
/// [`Error::Config`] if β is not positive and finite.
///
/// ```
/// use elbo::loss::beta_convention::as_gaussian;
///
/// assert_eq!(as_gaussian(2.0)?, 1.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn as_gaussian(beta: f64) -> Result<f64> {
    expect_positive("beta", beta)?;
    Ok((beta / 2.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::loss::{Bernoulli, Elbo, Kl, Prior, Reduction, elbo};
    use ndarray::Array2;

    const ALL: [Convention; 5] = [
        Convention::SumSum,
        Convention::BatchMean,
        Convention::MeanMean,
        Convention::MeanSum,
        Convention::Normalized,
    ];

    #[test]
    fn converts_there_and_back() {
        for from in ALL {
            for to in ALL {
                let there = from.convert(0.7, to, 784, 20).unwrap();
                let back = to.convert(there, from, 784, 20).unwrap();
                assert!((back - 0.7).abs() < 1e-15, "{from:?} {to:?}");
            }
        }
        assert!(Convention::MeanSum.convert(1.0, Convention::SumSum, 0, 2).is_err());
        assert!(as_gaussian(0.0).is_err() && as_gaussian(f64::NAN).is_err());
    }

    /// Every convention's loss is that of `BatchMean` times a constant.
    #[test]
    fn losses_are_proportional() {
        let (rows, features, latent) = (6, 56, 7);
        let spread = |columns: usize, salt: usize| {
            Array2::from_shape_fn((rows, columns), |(i, j)| {
                ((i * 31 + j * 7 + salt) % 17) as f32 / 17.0
            })
        };
        let arrays = [(features, 0), (features, 3), (latent, 5), (latent, 11)];
        let [logits, targets, mu, logvar] = arrays.map(|(columns, salt)| spread(columns, salt));
        let terms = |reduction| {
            let inputs = elbo::Inputs {
                outputs: logits.view(),
                targets: targets.view(),
                mu: mu.view(),
                logvar: logvar.view(),
                prior: Prior::default(),
            };
            let terms = elbo::Terms { reconstruction: Bernoulli, penalty: Kl, beta: 1.0 };
            elbo::forward(&Compute::serial(), terms, inputs, reduction).unwrap()
        };
        let Elbo { reconstruction, kl, .. } = terms(Reduction::BatchMean);
        let beta = 4.0;
        let expected = reconstruction + beta * kl;
        let mean = terms(Reduction::Mean);
        let sum = terms(Reduction::Sum);
        let cases = [
            (Convention::SumSum, sum.reconstruction, sum.kl, rows as f64),
            (Convention::MeanMean, mean.reconstruction, mean.kl, 1.0 / features as f64),
            (Convention::MeanSum, mean.reconstruction, kl, 1.0 / features as f64),
        ];
        for (convention, reconstruction, kl, factor) in cases {
            let weight = Convention::BatchMean.convert(beta, convention, features, latent).unwrap();
            let loss = reconstruction + weight * kl;
            assert!((loss - factor * expected).abs() < 1e-12 * loss, "{convention:?}");
        }
    }
}
