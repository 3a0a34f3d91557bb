//! Learning-rate schedules: a factor on the optimizer's lr, step by step.
//!
//! # Formula
//! With `step` and `epoch` the steps and epochs completed before the current one:
//!
//! ```text
//! factor = warm-up · decay
//! warm-up  = min(1, (step + 1)/warm_up)                       1 if warm_up = 0
//! step     = factor^⌊epoch/epochs⌋
//! cosine   = floor + (1 − floor)·½(1 + cos(π·t/T))            t = min(step or epoch, T)
//! plateau  = factor^(number of reductions so far)             see PlateauState
//! ```
//!
//! The factors are those of PyTorch's `LinearLR` (from 1/warm_up), `StepLR`, `CosineAnnealingLR` up to
//! its end (Loshchilov & Hutter 2017; after it the factor stays at the floor, where PyTorch's rises
//! again) and `ReduceLROnPlateau` with its threshold of 1e-4. They are computed in f64 without functions
//! of the platform; their error is a few 2⁻⁵³, and n·2⁻⁵³ after n reductions.

use crate::error::{Error, Result};
use crate::math::scalar::{cos_pi, powi};

/// Change of the learning rate during training; default none.
///
/// ```
/// use elbo::optim::schedule::{Decay, LearningRateSchedule, Span};
///
/// let decay = Decay::Cosine { over: Span::Epochs(30), floor: 0.0 };
/// let schedule = LearningRateSchedule { warm_up: 100, decay };
/// assert_eq!(schedule.factor(0, 0), 0.01);
/// assert_eq!(schedule.factor(99, 0), 1.0);
/// assert!((schedule.factor(7035, 15) - 0.5).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct LearningRateSchedule {
    /// Steps over which the factor rises linearly from `1/warm_up` to 1; default 0, no warm-up.
    pub warm_up: u64,
    /// Decay after the warm-up; default none.
    pub decay: Decay,
}

/// Decay of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Decay {
    /// No decay.
    #[default]
    Constant,
    /// Multiplication by a factor every few epochs.
    Step {
        /// Epochs between two multiplications, at least 1.
        epochs: u64,
        /// Factor, in (0, 1].
        factor: f64,
    },
    /// Half a period of the cosine, from 1 to a floor.
    Cosine {
        /// Length of the decay.
        over: Span,
        /// Fraction of the learning rate that remains at the end, in [0, 1].
        floor: f64,
    },
    /// Multiplication by a factor whenever the loss has stopped falling; see [`PlateauState`].
    Plateau {
        /// Epochs without a better loss that are tolerated; the next one triggers the reduction.
        patience: u64,
        /// Factor, in (0, 1).
        factor: f64,
    },
}

/// Length of a part of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Span {
    /// A number of updates of the weights.
    Steps(u64),
    /// A number of passes over the data.
    Epochs(u64),
}

impl Span {
    /// Number of steps or epochs.
    #[must_use]
    pub fn count(self) -> u64 {
        let (Self::Steps(count) | Self::Epochs(count)) = self;
        count
    }

    /// The part of `step` steps and `epoch` epochs that counts toward this span: one of the two.
    pub(crate) fn elapsed(self, step: u64, epoch: u64) -> u64 {
        match self {
            Self::Steps(_) => step,
            Self::Epochs(_) => epoch,
        }
    }

    /// Returns `true` if this span is over after `step` steps and `epoch` epochs.
    pub(crate) fn is_over(self, step: u64, epoch: u64) -> bool {
        self.elapsed(step, epoch) >= self.count()
    }

    /// Fraction of this span that is over after `step` steps and `epoch` epochs, from 0 to 1; 1 for
    /// an empty span.
    #[must_use]
    pub fn progress(self, step: u64, epoch: u64) -> f64 {
        // The limit comes first: an empty span is over, and does not divide 0 by 0.
        let (done, count) = (self.elapsed(step, epoch), self.count());
        if done >= count { 1.0 } else { done as f64 / count as f64 }
    }
}

/// State of a [plateau](Decay::Plateau) schedule between epochs.
///
/// A loss is better if it is below the best one by more than 1e-4 of the best one's magnitude. NaN and ±∞
/// never are; the first finite loss always is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct PlateauState {
    /// Best loss so far.
    pub best: Option<f64>,
    /// Epochs since the best loss or the last reduction, whichever is later.
    pub bad_epochs: u64,
    /// Product of the reductions so far: the factor on the learning rate.
    pub factor: f64,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { best: None, bad_epochs: 0, factor: 1.0 }
    }
}

/// Relative improvement that counts as a better loss.
const THRESHOLD: f64 = 1e-4;

impl PlateauState {
    /// Checks that a schedule can have left this state.
    ///
    /// # Errors
    /// [`Error::Config`] for a factor outside [0, 1] or a best loss that is not finite.
    pub fn validate(&self) -> Result<()> {
        // Written so that NaN fails. 0 is what very many reductions round to.
        if !(0.0..=1.0).contains(&self.factor) {
            return Err(Error::config("plateau factor", "a number in [0, 1]", self.factor));
        }
        match self.best {
            Some(best) if !best.is_finite() => {
                Err(Error::config("plateau best", "a finite loss", best))
            }
            _ => Ok(()),
        }
    }
}

impl LearningRateSchedule {
    /// Checks that every setting is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`] for a factor or a floor outside its domain, or a span of no epochs or steps.
    pub fn validate(&self) -> Result<()> {
        match self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { epochs: 0, .. } => Err(Error::config("epochs", "at least 1", 0)),
            // Written so that NaN fails.
            Decay::Step { factor, .. } if !(factor > 0.0 && factor <= 1.0) => {
                Err(Error::config("factor", "a number in (0, 1]", factor))
            }
            Decay::Step { .. } => Ok(()),
            Decay::Cosine { over, .. } if over.count() == 0 => {
                Err(Error::config("over", "at least 1", 0))
            }
            Decay::Cosine { floor, .. } if !(0.0..=1.0).contains(&floor) => {
                Err(Error::config("floor", "a number in [0, 1]", floor))
            }
            Decay::Cosine { .. } => Ok(()),
            Decay::Plateau { factor, .. } if !(factor > 0.0 && factor < 1.0) => {
                Err(Error::config("factor", "a number in (0, 1)", factor))
            }
            Decay::Plateau { .. } => Ok(()),
        }
    }

    /// Factor on the learning rate after `step` steps and `epoch` epochs.
    ///
    /// Does not include the [factor of a plateau](PlateauState::factor).
    #[must_use]
    pub fn factor(&self, step: u64, epoch: u64) -> f64 {
        let warm_up =
            // The first step has 1/warm_up, not 0.
            if step < self.warm_up { (step + 1) as f64 / self.warm_up as f64 } else { 1.0 };
        warm_up
            * match self.decay {
                // The factor of a plateau depends on losses, and is kept in its state.
                Decay::Constant | Decay::Plateau { .. } => 1.0,
                // By repeated squaring: the same number on every platform.
                Decay::Step { epochs, factor } => powi(factor, epoch / epochs.max(1)),
                Decay::Cosine { over, floor } => {
                    // ½(1 + cos πx) falls from 1 to 0 while x rises from 0 to 1.
                    let wave = 1.0 + cos_pi(over.progress(step, epoch));
                    floor + (1.0 - floor) * 0.5 * wave
                }
            }
    }

    /// Records the loss of an epoch and returns whether that reduced the learning rate.
    ///
    /// Does nothing for schedules other than a plateau.
    pub fn observe(&self, state: &mut PlateauState, loss: f64) -> bool {
        let Decay::Plateau { patience, factor } = self.decay else { return false };
        let better = match state.best {
            // NaN and ±∞ are never better, and never stay the best: ∞ − 1e-4·∞ is NaN.
            _ if !loss.is_finite() => false,
            Some(best) if best.is_finite() => loss < best - THRESHOLD * best.abs(),
            _ => true,
        };
        if better {
            (state.best, state.bad_epochs) = (Some(loss), 0);
            return false;
        }
        // The patience starts anew after a reduction, as in PyTorch without a cooldown.
        state.bad_epochs = state.bad_epochs.saturating_add(1);
        let reduce = state.bad_epochs > patience;
        if reduce {
            state.bad_epochs = 0;
            state.factor *= factor;
        }
        reduce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> serde_json::Value {
        let text = include_str!("../../tests/golden/optimizers.json");
        serde_json::from_str::<serde_json::Value>(text).unwrap()["schedules"].clone()
    }

    fn numbers(values: &serde_json::Value) -> Vec<f64> {
        values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    #[test]
    fn factors_match_pytorch() {
        let steps = |over| Decay::Cosine { over, floor: 0.1 };
        for (name, warm_up, decay) in [
            ("step", 0, Decay::Step { epochs: 3, factor: 0.5 }),
            ("cosine", 0, steps(Span::Steps(8))),
            ("cosine", 0, steps(Span::Epochs(8))),
            ("warm_up", 5, Decay::Constant),
        ] {
            let schedule = LearningRateSchedule { warm_up, decay };
            schedule.validate().unwrap();
            for (i, expected) in (0..).zip(numbers(&golden()[name])) {
                let found = schedule.factor(i, i);
                assert!((found - expected).abs() < 1e-14, "{name} {i}: {found} {expected}");
            }
        }
    }

    #[test]
    fn plateaus_match_pytorch() {
        let decay = Decay::Plateau { patience: 2, factor: 0.5 };
        let schedule = LearningRateSchedule { decay, ..LearningRateSchedule::default() };
        let mut state = PlateauState::default();
        let golden = golden();
        for (loss, expected) in
            numbers(&golden["losses"]).into_iter().zip(numbers(&golden["plateau"]))
        {
            assert_eq!(state.factor, expected, "before {loss}");
            schedule.observe(&mut state, loss);
        }
        assert_eq!(state.best, Some(2.0));
        // A loss below 0 is better when it falls.
        let mut state = PlateauState { best: Some(-100.0), ..PlateauState::default() };
        schedule.observe(&mut state, -99.995);
        assert_eq!(state.bad_epochs, 1);
        schedule.observe(&mut state, f64::NAN);
        assert!(schedule.observe(&mut state, -100.005));
        schedule.observe(&mut state, -100.02);
        assert_eq!(state, PlateauState { best: Some(-100.02), bad_epochs: 0, factor: 0.5 });
    }

    #[test]
    fn plateaus_go_on_after_losses_that_are_not_finite() {
        let decay = Decay::Plateau { patience: 1, factor: 0.5 };
        let schedule = LearningRateSchedule { decay, ..LearningRateSchedule::default() };
        for first in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let mut state = PlateauState::default();
            assert!(!schedule.observe(&mut state, first));
            assert_eq!(state, PlateauState { bad_epochs: 1, ..PlateauState::default() });
            for loss in [3.0, 2.0, 1.0] {
                assert!(!schedule.observe(&mut state, loss));
                assert_eq!(state, PlateauState { best: Some(loss), ..PlateauState::default() });
            }
            // As a file of another program may hold it.
            state.best = Some(first);
            schedule.observe(&mut state, 4.0);
            assert_eq!(state.best, Some(4.0));
        }
        let mut state = PlateauState { bad_epochs: u64::MAX, ..PlateauState::default() };
        assert!(schedule.observe(&mut state, f64::NAN));
    }

    #[test]
    fn rejects_states_that_no_schedule_leaves() {
        let plateau = |factor, best| PlateauState { factor, best, bad_epochs: 0 };
        plateau(1.0, None).validate().unwrap();
        plateau(0.0, Some(-1.0)).validate().unwrap();
        for factor in [1e300, -1.0, 1.5, f64::NAN] {
            let message = plateau(factor, None).validate().unwrap_err().to_string();
            let expected = "`plateau factor`: expected a number in [0, 1], found ";
            assert!(message.starts_with(expected), "{message}");
        }
        let message = plateau(1.0, Some(f64::INFINITY)).validate().unwrap_err().to_string();
        assert_eq!(message, "`plateau best`: expected a finite loss, found inf");
    }

    #[test]
    fn stays_at_the_floor_after_the_end() {
        let decay = Decay::Cosine { over: Span::Epochs(8), floor: 0.25 };
        let schedule = LearningRateSchedule { warm_up: 0, decay };
        assert_eq!(schedule.factor(0, 8), 0.25);
        assert_eq!(schedule.factor(u64::MAX, u64::MAX), 0.25);
    }

    #[test]
    fn rejects_invalid_settings_by_name() {
        for (decay, message) in [
            (Decay::Step { epochs: 0, factor: 0.5 }, "`epochs`: expected at least 1, found 0"),
            (
                Decay::Step { epochs: 1, factor: f64::NAN },
                "`factor`: expected a number in (0, 1], found NaN",
            ),
            (
                Decay::Plateau { patience: 0, factor: 1.0 },
                "`factor`: expected a number in (0, 1), found 1",
            ),
            (
                Decay::Cosine { over: Span::Steps(0), floor: 0.0 },
                "`over`: expected at least 1, found 0",
            ),
            (
                Decay::Cosine { over: Span::Steps(1), floor: 1.5 },
                "`floor`: expected a number in [0, 1], found 1.5",
            ),
        ] {
            let schedule = LearningRateSchedule { warm_up: 0, decay };
            assert_eq!(schedule.validate().unwrap_err().to_string(), message);
        }
    }
}
