//! Training objectives: the weight of the KL divergence, its schedule, and the penalties in its place.

use super::config::Config;
use super::step::terms::{StepObjective, StepPenalty};
use crate::error::{Error, Result, expect_non_negative};
use crate::loss::importance::Estimator;
use crate::loss::total_correlation::TcWeights;
use crate::loss::{Capacity, CapacityPer, FreeBits, FreeBitsPer, Reduction};
use crate::math::scalar::cos_pi;
use crate::optim::Span;

/// The training objective: `reconstruction + β·KL`, or another penalty in place of the divergence.
///
/// Settings are checked by [`Self::validate`], which every function that takes an objective calls.
///
/// ```
/// use elbo::optim::Span;
/// use elbo::loss::FreeBitsPer;
/// use elbo::vae::{Annealing, Objective, Penalty};
///
/// assert_eq!(Objective::default().beta, 1.0); // the evidence lower bound
///
/// let beta_vae = Objective { beta: 4.0, ..Objective::default() };
/// let annealing = Annealing::Linear { from: 0.0, over: Span::Epochs(10) };
/// let warm_up = Objective { annealing, ..Objective::default() };
/// let penalty = Penalty::FreeBits { lambda: 0.1, per: FreeBitsPer::Dimension };
/// let free_bits = Objective { penalty, ..Objective::default() };
/// assert!(free_bits.validate().is_ok());
/// assert_eq!(beta_vae.beta_at(0, 0), 4.0);
/// assert_eq!(warm_up.beta_at(1234, 5), 0.5);
///
/// let error = Objective { penalty: Penalty::importance(5), ..beta_vae }.validate().unwrap_err();
/// assert!(error.to_string().starts_with("`beta`: expected 1 with importance weighting"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Objective {
    /// β, the weight of the KL divergence (Higgins et al. 2017); default 1, the evidence lower
    /// bound. Under an annealing schedule, the weight at its end.
    pub beta: f32,
    /// Reduction of both terms; default [`Reduction::BatchMean`], nats per example. See [`Reduction`]
    /// for what `Mean` does to β.
    pub reduction: Reduction,
    /// Schedule of β; default constant.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub annealing: Annealing,
    /// The term that β weighs; default the KL divergence.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub penalty: Penalty,
}

/// Annealing schedule of the weight of the KL divergence. `t` counts the steps or epochs done, from
/// 0; T is the span.
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
        /// Number of times that the weight starts again from 0.
        cycles: u32,
        /// Fraction of a cycle in which the weight grows: above 0, at most 1.
        ratio: f32,
        /// T.
        over: Span,
    },
}

/// The term that keeps the latent code near its prior.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Penalty {
    /// The KL divergence: `β·KL`.
    #[default]
    Kl,
    /// Free bits: the KL divergence, with no cost below a threshold
    /// ([`loss::free_bits`](crate::loss::free_bits)).
    FreeBits {
        /// λ, the threshold, in nats: of an element, a dimension or an example.
        lambda: f32,
        /// The divergence that is compared with λ.
        per: FreeBitsPer,
    },
    /// `γ·|KL − C|`, C growing linearly from 0 (Burgess et al. 2018;
    /// [`loss::capacity`](crate::loss::capacity)). Has its own weight: β is 1.
    Capacity {
        /// γ.
        gamma: f32,
        /// C at the end of the span, in nats per example.
        capacity: f32,
        /// Span over which C grows.
        over: Span,
        /// The divergence that is held at C.
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
        /// Estimator of the encoder's gradient.
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
                if over.count() < 2 * u64::from(cycles) {
                    let expected = "a span of at least two steps or epochs a cycle: in a single one \
                                    the weight would stay at 0";
                    return Err(Error::config("annealing", expected, over.count()));
                }
                over
            }
        };
        span("annealing", over)
    }

    /// The weight after `step` steps and `epoch` epochs, on the way to `beta`.
    fn at(self, beta: f32, step: u64, epoch: u64) -> f32 {
        let between = |from: f32, progress: f64| {
            (f64::from(from) + (f64::from(beta) - f64::from(from)) * progress) as f32
        };
        match self {
            Self::Constant => beta,
            Self::Linear { from, over } => between(from, over.progress(step, epoch)),
            Self::Cosine { from, over } => {
                between(from, 0.5 * (1.0 - cos_pi(over.progress(step, epoch))))
            }
            Self::Cyclical { cycles, ratio, over } => {
                let done = over.elapsed(step, epoch);
                if done >= over.count() {
                    return beta;
                }
                let period = over.count().div_ceil(u64::from(cycles)).max(1);
                let position = (done % period) as f64 / period as f64;
                between(0.0, (position / f64::from(ratio)).min(1.0))
            }
        }
    }
}

impl Annealing {
    /// Returns `true` if the weight has its last value after `step` steps and `epoch` epochs.
    fn is_final_at(self, step: u64, epoch: u64) -> bool {
        match self {
            Self::Constant => true,
            Self::Linear { over, .. } | Self::Cosine { over, .. } => over.is_over(step, epoch),
            Self::Cyclical { cycles, ratio, over } => {
                let (done, count) = (over.elapsed(step, epoch), over.count());
                let period = count.div_ceil(u64::from(cycles)).max(1);
                // The last cycle is shorter than the others if their number does not divide the span.
                let last = count.saturating_sub(1) / period * period;
                let position = done.saturating_sub(last) as f64 / period as f64;
                done >= count || (done >= last && position >= f64::from(ratio))
            }
        }
    }
}

fn span(setting: &'static str, over: Span) -> Result<()> {
    if over.count() > 0 {
        return Ok(());
    }
    Err(Error::config(setting, "at least one step or epoch", over.count()))
}

impl Objective {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting outside its domain, for a β or an annealing beside a penalty
    /// that has its own weight (capacity) or none (importance weighting), and for a `Mean` over elements
    /// with a penalty that sums over latent dimensions.
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

    /// Checks the settings, and that the model can be trained on this objective.
    pub(crate) fn validate_for(&self, config: &Config) -> Result<()> {
        self.validate()?;
        if config.has_optimal_variance() && matches!(self.penalty, Penalty::Importance { .. }) {
            let expected = "a fixed or learned variance with importance weighting: the optimal one \
                            is that of a batch, and an example alone has no likelihood under it";
            return Err(Error::config("variance", expected, "optimal"));
        }
        Ok(())
    }

    /// β after `steps` steps and `epochs` epochs.
    #[must_use]
    pub fn beta_at(&self, steps: u64, epochs: u64) -> f32 {
        self.annealing.at(self.beta, steps, epochs)
    }

    /// The capacity C after `steps` steps and `epochs` epochs, in nats; 0 for other penalties.
    #[must_use]
    pub fn capacity_at(&self, steps: u64, epochs: u64) -> f32 {
        match self.penalty {
            Penalty::Capacity { capacity, over, .. } => {
                (f64::from(capacity) * over.progress(steps, epochs)) as f32
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

    /// Returns `true` if β and the capacity C have the values at the end of their schedules after `steps`
    /// steps and `epochs` epochs, and keep them from then on. For cyclical annealing this is the end of the
    /// rise in the last cycle, not of an earlier one.
    ///
    /// Losses from before that time are those of another objective, so early stopping and the selection of
    /// the best model should begin with it, as a [plateau](crate::optim::Decay::Plateau) does.
    ///
    /// ```
    /// use elbo::optim::Span;
    /// use elbo::vae::{Annealing, Objective};
    ///
    /// let annealing = Annealing::Linear { from: 0.0, over: Span::Epochs(10) };
    /// let objective = Objective { annealing, ..Objective::default() };
    /// assert!(!objective.is_final_at(5000, 9) && objective.is_final_at(5001, 10));
    /// ```
    #[must_use]
    pub fn is_final_at(&self, steps: u64, epochs: u64) -> bool {
        let capacity = match self.penalty {
            Penalty::Capacity { over, .. } => over.is_over(steps, epochs),
            _ => true,
        };
        capacity && self.annealing.is_final_at(steps, epochs)
    }

    /// The objective after `steps` steps and `epochs` epochs.
    pub(crate) fn at(&self, steps: u64, epochs: u64) -> StepObjective {
        let beta = self.beta_at(steps, epochs);
        let (weight, penalty) = match self.penalty {
            Penalty::Kl => (beta, StepPenalty::Kl),
            Penalty::FreeBits { lambda, per } => {
                (beta, StepPenalty::FreeBits(FreeBits { lambda, per }))
            }
            Penalty::Capacity { gamma, per, .. } => {
                let nats = self.capacity_at(steps, epochs);
                (gamma, StepPenalty::Capacity(Capacity { gamma: 1.0, nats, per }))
            }
            Penalty::TotalCorrelation { alpha, gamma } => {
                (1.0, StepPenalty::TotalCorrelation(TcWeights { alpha, beta, gamma }))
            }
            Penalty::Importance { estimator, .. } => (1.0, StepPenalty::Importance(estimator)),
        };
        StepObjective { weight, penalty, samples: self.samples(), reduction: self.reduction }
    }

    /// The objective at the end of its schedules, which an evaluation computes.
    pub(crate) fn at_the_end(&self) -> StepObjective {
        self.at(u64::MAX, u64::MAX)
    }
}

/// Limit on the samples of an example: more are taken for a typing error.
const MAX_SAMPLES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_is_final_from_the_step_on_that_no_later_one_differs_from() {
        let schedules = |over| {
            let cyclical = move |(cycles, ratio)| Annealing::Cyclical { cycles, ratio, over };
            let cyclical = [(1, 0.5), (2, 1.0), (3, 0.3), (4, 0.5), (5, 0.01)].map(cyclical);
            let others =
                [Annealing::Linear { from: 0.5, over }, Annealing::Cosine { from: 3.0, over }];
            cyclical.into_iter().chain(others)
        };
        for count in 10..40 {
            for annealing in schedules(Span::Steps(count)) {
                let objective = Objective { beta: 2.0, annealing, ..Objective::default() };
                for step in 0..50 {
                    let kept = (step..100).all(|later| objective.beta_at(later, 0) == 2.0);
                    assert_eq!(objective.is_final_at(step, 0), kept, "{annealing:?} {step}");
                }
            }
            for annealing in schedules(Span::Epochs(count)) {
                let objective = Objective { beta: 2.0, annealing, ..Objective::default() };
                let first = (0..=count).find(|&epoch| objective.is_final_at(0, epoch));
                let kept = |epoch: &u64| (*epoch..100).all(|at| objective.beta_at(9999, at) == 2.0);
                assert_eq!(first, (0..=count).find(kept), "{annealing:?}");
            }
            let over = Span::Steps(count);
            let per = CapacityPer::Batch;
            let penalty = Penalty::Capacity { gamma: 1.0, capacity: 7.0, over, per };
            let objective = Objective { penalty, ..Objective::default() };
            assert!(!objective.is_final_at(count - 1, 99) && objective.is_final_at(count, 0));
        }
        assert!(Objective::default().is_final_at(0, 0));
    }
}
