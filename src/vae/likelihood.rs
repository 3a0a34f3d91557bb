//! Likelihoods: the meaning of the decoder's output.

use crate::dataset::Augmentation;
use crate::error::{Error, Result, expect_positive};
use crate::loss::kernel::Range;

/// The likelihood p(x|z): the meaning of the decoder's last layer, the data it accepts, and the
/// reconstruction it gives.
///
/// With `l` an output of the last layer and `t` the datum:
///
/// | likelihood | negative log-likelihood of an element | data | reconstruction |
/// |---|---|---|---|
/// | [`Bernoulli`](Self::Bernoulli) | [`loss::Bernoulli`](crate::loss::Bernoulli) of logits | [0, 1] | `σ(l)` |
/// | [`WeightedBernoulli`](Self::WeightedBernoulli) | the same, ones weighing `pos_weight` times as much | [0, 1] | `σ(l)` |
/// | [`BernoulliProbabilities`](Self::BernoulliProbabilities) | [`loss::SigmoidProbabilities`](crate::loss::SigmoidProbabilities) | [0, 1] | `σ(l)` |
/// | [`ContinuousBernoulli`](Self::ContinuousBernoulli) | [`loss::ContinuousBernoulli`](crate::loss::ContinuousBernoulli) | [0, 1] | its mean, `1/(1−e^{−l}) − 1/l` |
/// | [`SquaredError`](Self::SquaredError) | [`loss::SquaredError`](crate::loss::SquaredError), `(l−t)²` | finite | `l` |
/// | [`TanhSquaredError`](Self::TanhSquaredError) | `(tanh l − t)²` | [−1, 1] | `tanh l` |
/// | [`Gaussian`](Self::Gaussian) | [`loss::Gaussian`](crate::loss::Gaussian), `½((t−l)²/σ² + ln σ² + ln 2π)` | finite | `l` |
///
/// # Which one
/// - Black and white, or gray values read as probabilities: `Bernoulli`. From logits, not from
///   probabilities: a saturated sigmoid has no gradient left, the logit still has ±1.
/// - Gray values read as numbers in [0, 1]: `ContinuousBernoulli`, which is a density there
///   (Loaiza-Ganem & Cunningham 2019), or a Gaussian.
/// - Any other numbers, such as standardized columns of a table: `Gaussian`. A learned or optimal
///   variance balances itself against the KL divergence (Rybkin et al. 2021); a fixed one
///   is a choice of β: σ² = ½ is the squared error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Likelihood {
    /// Bernoulli, from logits.
    #[default]
    Bernoulli,
    /// Bernoulli, from logits, for data with few ones.
    WeightedBernoulli {
        /// Weight of a one relative to a zero: above 0.
        pos_weight: f32,
    },
    /// Bernoulli, from probabilities, with the clamps and the vanishing gradient of
    /// `torch.nn.BCELoss` after a sigmoid: to repeat results of others.
    BernoulliProbabilities,
    /// Continuous Bernoulli, from logits.
    ContinuousBernoulli,
    /// Squared error of the output as it is.
    SquaredError,
    /// Squared error of the output's hyperbolic tangent.
    TanhSquaredError,
    /// Gaussian, the output its mean.
    Gaussian(Variance),
}

/// The variance σ² of a Gaussian likelihood.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Variance {
    /// σ² as given: above 0.
    Fixed(f32),
    /// One, learned with the weights: `likelihood.logvar`, which starts at ln σ² = 0 and moves by
    /// about a learning rate a step. A [`Trainer`](crate::train::Trainer) keeps σ² at 10⁻⁶ or above:
    /// on data without variance it would fall without bound.
    Shared,
    /// One for each feature, learned with the weights, as `Shared`.
    PerFeature,
    /// The variance that maximizes the likelihood of the batch: its mean squared error (σ-VAE, Rybkin
    /// et al. 2021). In an evaluation, that of all rows evaluated. A batch that is reconstructed exactly
    /// has none, which is an error ([`Error::NoVariance`]).
    Optimal,
}

impl Likelihood {
    /// The name: `bernoulli`, `weighted-bernoulli`, `bernoulli-probabilities`,
    /// `continuous-bernoulli`, `squared-error`, `tanh-squared-error`, `gaussian`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bernoulli => "bernoulli",
            Self::WeightedBernoulli { .. } => "weighted-bernoulli",
            Self::BernoulliProbabilities => "bernoulli-probabilities",
            Self::ContinuousBernoulli => "continuous-bernoulli",
            Self::SquaredError => "squared-error",
            Self::TanhSquaredError => "tanh-squared-error",
            Self::Gaussian(_) => "gaussian",
        }
    }

    /// The function of the decoder's last layer that is its reconstruction, for messages.
    #[cfg(feature = "safetensors")]
    pub(crate) fn output(self) -> &'static str {
        match self {
            _ if self.is_bernoulli() => "a sigmoid",
            Self::ContinuousBernoulli => "the mean of a continuous Bernoulli",
            Self::TanhSquaredError => "a tanh",
            _ => "the last layer as it is",
        }
    }

    /// Range of the data.
    pub(crate) fn accepts(self) -> Range {
        match self {
            _ if self.is_bernoulli() => Range::UNIT,
            Self::ContinuousBernoulli => Range::UNIT,
            Self::TanhSquaredError => Range::SYMMETRIC,
            _ => Range::FINITE,
        }
    }

    /// Checks that an augmentation makes data that this likelihood describes.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid augmentation, binarized data under a density, or dequantized
    /// data under a Bernoulli likelihood.
    pub(crate) fn validate_augmentation(self, augmentation: Augmentation) -> Result<()> {
        augmentation.validate()?;
        let (fits, expected) = match augmentation {
            Augmentation::None => return Ok(()),
            Augmentation::Binarize => (
                self.is_bernoulli(),
                "a Bernoulli likelihood beside binarized data: a density of zeros and ones has no \
                 bound",
            ),
            Augmentation::Dequantize { .. } => (
                !self.is_bernoulli() && self != Self::TanhSquaredError,
                "a density on [0, 1] beside dequantized data, such as the continuous Bernoulli or a \
                 Gaussian",
            ),
        };
        if fits { Ok(()) } else { Err(Error::config("likelihood", expected, self.name())) }
    }

    /// Number of learned variances: 0, 1, or one for each feature.
    pub(crate) fn learned_variances(self, features: usize) -> usize {
        match self {
            Self::Gaussian(Variance::Shared) => 1,
            Self::Gaussian(Variance::PerFeature) => features,
            _ => 0,
        }
    }

    /// Returns `true` if values are logarithms of probabilities or densities.
    pub(crate) fn is_normalized(self) -> bool {
        !matches!(
            self,
            Self::SquaredError | Self::TanhSquaredError | Self::WeightedBernoulli { .. }
        )
    }

    /// Returns `true` if data are probabilities of a one.
    pub(crate) fn is_bernoulli(self) -> bool {
        matches!(
            self,
            Self::Bernoulli | Self::WeightedBernoulli { .. } | Self::BernoulliProbabilities
        )
    }

    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Self::WeightedBernoulli { pos_weight } => expect_positive("pos_weight", pos_weight),
            Self::Gaussian(Variance::Fixed(variance)) => expect_positive("variance", variance),
            _ => Ok(()),
        }
    }
}
