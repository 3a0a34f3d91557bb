//! What training minimizes.

use super::step::terms::{Rule, Terms};
use super::{Config, Likelihood, Variance};
use crate::error::{Error, Result, expect_non_negative};
use crate::loss::importance::Estimator;
use crate::loss::{CapacityPer, FreeBitsPer, Reduction};
use crate::math::scalar::cos_pi;
use crate::optim::Span;

/// `loss = reconstruction + β·KL`, or one of the objectives that weigh the divergence otherwise.
///
/// ```
/// use elbo::optim::Span;
/// use elbo::loss::FreeBitsPer;
/// use elbo::vae::{Annealing, Objective, Penalty};
///
/// assert_eq!(Objective::default().beta, 1.0); // the evidence lower bound
///
/// let beta_vae = Objective { beta: 4.0, ..Objective::default() };
/// let warm_up = Objective::builder()
///     .annealing(Annealing::Linear { from: 0.0, over: Span::Epochs(10) })
///     .build()?;
/// let free_bits = Objective::builder()
///     .penalty(Penalty::FreeBits { lambda: 0.1, per: FreeBitsPer::Dimension })
///     .build()?;
/// assert_eq!(beta_vae.beta_at(0, 0), 4.0);
/// assert_eq!(warm_up.beta_at(1234, 5), 0.5);
///
/// let error = Objective::builder().beta(2.0).penalty(Penalty::importance(5)).build().unwrap_err();
/// assert!(error.to_string().starts_with("`beta`: expected 1 with importance weighting"));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Objective {
    /// β, the weight of the KL divergence (Higgins et al. 2017); default 1, the evidence lower
    /// bound. With an annealing, the weight at its end.
    pub beta: f32,
    /// How both terms are reduced; default [`Reduction::BatchMean`], nats per example. See
    /// [`Reduction`] for what `Mean` does to β.
    pub reduction: Reduction,
    /// How β comes to its value; default at once.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub annealing: Annealing,
    /// What β weighs; default the KL divergence as it is.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub penalty: Penalty,
}

/// How the weight of the KL divergence grows. `t` counts the steps or epochs done, from 0; T is the
/// span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Annealing {
    /// β from the first step on.
    #[default]
    Constant,
    /// `from + (β − from)·min(1, t/T)` (Bowman et al. 2016, Sønderby et al. 2016).
    Linear {
        /// The weight at the beginning.
        from: f32,
        /// T.
        over: Span,
    },
    /// `from + (β − from)·½(1 − cos(π·min(1, t/T)))`.
    Cosine {
        /// The weight at the beginning.
        from: f32,
        /// T.
        over: Span,
    },
    /// `β·min(1, τ/ratio)`, `τ = (t mod P)/P`, `P = ⌈T/cycles⌉`; β after T (Fu et al. 2019).
    Cyclical {
        /// How often the weight starts again from 0.
        cycles: u32,
        /// The part of a cycle in which the weight grows: above 0, at most 1.
        ratio: f32,
        /// T.
        over: Span,
    },
}

/// What stands in the place of the KL divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Penalty {
    /// The KL divergence: `β·KL`.
    #[default]
    Kl,
    /// The KL divergence where it is above a threshold, which it costs nothing to stay below
    /// ([`loss::free_bits`](crate::loss::free_bits)).
    FreeBits {
        /// λ, the threshold, in nats: of an element, a dimension or an example.
        lambda: f32,
        /// What the threshold is for.
        per: FreeBitsPer,
    },
    /// `γ·|KL − C|`, C growing linearly from 0 (Burgess et al. 2018;
    /// [`loss::capacity`](crate::loss::capacity)). Has its own weight: β is 1.
    Capacity {
        /// γ.
        gamma: f32,
        /// C at the end of the span, in nats per example.
        capacity: f32,
        /// How long C grows.
        over: Span,
        /// Whose KL is held to C.
        per: CapacityPer,
    },
    /// β-TCVAE (Chen et al. 2018; [`loss::total_correlation`](crate::loss::total_correlation)):
    /// `α·MI + β·TC + γ·KL_d`, with β that of the objective.
    TotalCorrelation {
        /// α, the weight of the mutual information of index and code; 1 in the paper.
        alpha: f32,
        /// γ, the weight of the dimension-wise KL divergence; 1 in the paper.
        gamma: f32,
    },
    /// The importance-weighted bound (Burda et al. 2016; [`loss::importance`](crate::loss::importance)):
    /// `−ln mean_k p(x, z_k)/q(z_k|x)`. Has no weight: β is 1.
    Importance {
        /// k, the samples of each example.
        samples: usize,
        /// How the encoder's gradient is estimated.
        estimator: Estimator,
    },
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            beta: 1.0,
            reduction: Reduction::BatchMean,
            annealing: Annealing::Constant,
            penalty: Penalty::Kl,
        }
    }
}

/// Builds an [`Objective`], and refuses what makes no sense.
#[derive(Clone, Copy, Debug)]
pub struct ObjectiveBuilder(Objective);

impl ObjectiveBuilder {
    /// β, the weight of the KL divergence; default 1.
    #[must_use]
    pub fn beta(mut self, beta: f32) -> Self {
        self.0.beta = beta;
        self
    }

    /// How β comes to its value; default at once.
    #[must_use]
    pub fn annealing(mut self, annealing: Annealing) -> Self {
        self.0.annealing = annealing;
        self
    }

    /// What β weighs; default the KL divergence as it is.
    #[must_use]
    pub fn penalty(mut self, penalty: Penalty) -> Self {
        self.0.penalty = penalty;
        self
    }

    /// How the terms are reduced; default the mean over the batch.
    #[must_use]
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.0.reduction = reduction;
        self
    }

    /// The objective.
    ///
    /// # Errors
    /// As [`Objective::validate`].
    pub fn build(self) -> Result<Objective> {
        self.0.validate()?;
        Ok(self.0)
    }
}

impl Penalty {
    /// The importance-weighted bound of `samples` samples, with the estimator of Burda et al.
    #[must_use]
    pub fn importance(samples: usize) -> Self {
        Self::Importance { samples, estimator: Estimator::Iwae }
    }
}

impl Annealing {
    /// `constant`, `linear`, `cosine` or `cyclical`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Linear { .. } => "linear",
            Self::Cosine { .. } => "cosine",
            Self::Cyclical { .. } => "cyclical",
        }
    }

    fn validate(self) -> Result<()> {
        let over = match self {
            Self::Constant => return Ok(()),
            Self::Linear { from, over } | Self::Cosine { from, over } => {
                expect_non_negative("annealing", from)?;
                over
            }
            Self::Cyclical { cycles, ratio, over } => {
                if cycles == 0 {
                    return Err(Error::config("annealing", "at least one cycle", cycles));
                }
                if !(ratio > 0.0 && ratio <= 1.0) {
                    let expected = "a ratio above 0 and at most 1";
                    return Err(Error::config("annealing", expected, ratio));
                }
                let (_, all) = done(over, 0, 0);
                if all < 2 * u64::from(cycles) {
                    let expected = "a span of at least two steps or epochs a cycle: in a single one \
                                    the weight would stay at 0";
                    return Err(Error::config("annealing", expected, format!("{all}")));
                }
                over
            }
        };
        span("annealing", over)
    }

    /// The weight after so many steps and epochs, on the way to `beta`.
    fn at(self, beta: f32, step: u64, epoch: u64) -> f32 {
        let toward = |from: f32, share: f64| {
            (f64::from(from) + (f64::from(beta) - f64::from(from)) * share) as f32
        };
        match self {
            Self::Constant => beta,
            Self::Linear { from, over } => toward(from, share(over, step, epoch)),
            Self::Cosine { from, over } => {
                let share = share(over, step, epoch);
                toward(from, 0.5 * (1.0 - cos_pi(share)))
            }
            Self::Cyclical { cycles, ratio, over } => {
                let (done, all) = done(over, step, epoch);
                if done >= all {
                    return beta;
                }
                let period = all.div_ceil(u64::from(cycles)).max(1);
                let position = (done % period) as f64 / period as f64;
                toward(0.0, (position / f64::from(ratio)).min(1.0))
            }
        }
    }
}

/// What of a span is done, and the whole.
fn done(over: Span, step: u64, epoch: u64) -> (u64, u64) {
    match over {
        Span::Steps(all) => (step, all),
        Span::Epochs(all) => (epoch, all),
    }
}

fn share(over: Span, step: u64, epoch: u64) -> f64 {
    let (done, all) = done(over, step, epoch);
    if done >= all { 1.0 } else { done as f64 / all as f64 }
}

fn span(setting: &'static str, over: Span) -> Result<()> {
    let (_, all) = done(over, 0, 0);
    if all > 0 {
        return Ok(());
    }
    Err(Error::config(setting, "at least one step or epoch", all))
}

impl Objective {
    /// Starts from the evidence lower bound.
    #[must_use]
    pub fn builder() -> ObjectiveBuilder {
        ObjectiveBuilder(Self::default())
    }

    /// # Errors
    /// [`Error::Config`] for a setting outside its domain, and for combinations that make no sense:
    /// a β or an annealing beside a penalty that has its own weight (capacity) or none (importance
    /// weighting), a `Mean` over elements of what is a sum over latent dimensions.
    pub fn validate(&self) -> Result<()> {
        expect_non_negative("beta", self.beta)?;
        self.annealing.validate()?;
        let own_weight = match self.penalty {
            Penalty::Kl => None,
            Penalty::FreeBits { lambda, .. } => {
                expect_non_negative("lambda", lambda)?;
                None
            }
            Penalty::Capacity { gamma, capacity, over, .. } => {
                expect_non_negative("gamma", gamma)?;
                expect_non_negative("capacity", capacity)?;
                span("capacity", over)?;
                Some("1 with a capacity, whose weight is gamma")
            }
            Penalty::TotalCorrelation { alpha, gamma } => {
                expect_non_negative("alpha", alpha)?;
                expect_non_negative("gamma", gamma)?;
                None
            }
            Penalty::Importance { samples, .. } => {
                if !(1..=MAX_SAMPLES).contains(&samples) {
                    return Err(Error::config("samples", "from 1 to 65536", samples));
                }
                Some("1 with importance weighting, which is a bound as it stands")
            }
        };
        if let Some(expected) = own_weight {
            if self.beta != 1.0 {
                return Err(Error::config("beta", expected, self.beta));
            }
            if self.annealing != Annealing::Constant {
                let expected = "none where beta is not a weight: the penalty has its own";
                return Err(Error::config("annealing", expected, self.annealing.name()));
            }
        }
        let element_wise = matches!(
            self.penalty,
            Penalty::Kl | Penalty::FreeBits { per: FreeBitsPer::Element, .. }
        );
        if self.reduction == Reduction::Mean && !element_wise {
            let expected = "sum or batch mean: the penalty adds up latent dimensions, and a mean \
                            over elements would divide its nats by Z";
            return Err(Error::config("reduction", expected, "mean"));
        }
        Ok(())
    }

    /// Fails where the model cannot be trained on this objective.
    pub(crate) fn validate_for(&self, config: &Config) -> Result<()> {
        self.validate()?;
        let optimal = config.likelihood() == Likelihood::Gaussian(Variance::Optimal);
        if optimal && matches!(self.penalty, Penalty::Importance { .. }) {
            let expected = "a fixed or learned variance with importance weighting: the optimal one \
                            is that of a batch, and an example alone has no likelihood under it";
            return Err(Error::config("variance", expected, "optimal"));
        }
        Ok(())
    }

    /// β after so many steps and epochs.
    #[must_use]
    pub fn beta_at(&self, steps: u64, epochs: u64) -> f32 {
        self.annealing.at(self.beta, steps, epochs)
    }

    /// The capacity C after so many steps and epochs, in nats; 0 for other penalties.
    #[must_use]
    pub fn capacity_at(&self, steps: u64, epochs: u64) -> f32 {
        match self.penalty {
            Penalty::Capacity { capacity, over, .. } => {
                (f64::from(capacity) * share(over, steps, epochs)) as f32
            }
            _ => 0.0,
        }
    }

    /// Latent samples of each example: more than one with importance weighting alone.
    #[must_use]
    pub fn samples(&self) -> usize {
        match self.penalty {
            Penalty::Importance { samples, .. } => samples,
            _ => 1,
        }
    }

    /// What is to be computed after so many steps and epochs.
    pub(crate) fn at(&self, steps: u64, epochs: u64) -> Terms {
        let beta = self.beta_at(steps, epochs);
        let capacity = self.capacity_at(steps, epochs);
        let (weight, rule) = match self.penalty {
            Penalty::Kl => (beta, Rule::Kl),
            Penalty::FreeBits { lambda, per } => {
                let rule = match per {
                    FreeBitsPer::Element => Rule::ElementFreeBits { lambda },
                    FreeBitsPer::Dimension => Rule::DimensionFreeBits { lambda },
                    FreeBitsPer::Sample => Rule::SampleFreeBits { lambda },
                };
                (beta, rule)
            }
            Penalty::Capacity { gamma, per: CapacityPer::Batch, .. } => {
                (gamma, Rule::BatchCapacity { capacity })
            }
            Penalty::Capacity { gamma, per: CapacityPer::Sample, .. } => {
                (gamma, Rule::SampleCapacity { capacity })
            }
            Penalty::TotalCorrelation { alpha, gamma } => {
                (1.0, Rule::TotalCorrelation { alpha, beta, gamma })
            }
            Penalty::Importance { estimator, .. } => (1.0, Rule::Importance { estimator }),
        };
        Terms { weight, rule, samples: self.samples(), reduction: self.reduction }
    }

    /// What an evaluation computes: the objective at the end of its annealing.
    pub(crate) fn at_the_end(&self) -> Terms {
        self.at(u64::MAX, u64::MAX)
    }
}

/// More samples of an example than this are a slip of the keyboard.
const MAX_SAMPLES: usize = 1 << 16;
