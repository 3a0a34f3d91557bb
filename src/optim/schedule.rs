//! The learning rate over time: a factor on the optimizer's lr, step by step.
//!
//! # Formula
//! With `step` and `epoch` the steps and epochs done before the one at hand:
//!
//! ```text
//! factor = warm-up · decay
//! warm-up  = min(1, (step + 1)/warm_up)                       1 without
//! step     = factor^⌊epoch/epochs⌋
//! cosine   = floor + (1 − floor)·½(1 + cos(π·t/T))            t = min(step or epoch, T)
//! plateau  = factor^(number of reductions so far)             see PlateauState
//! ```
//!
//! The factors are those of PyTorch's `LinearLR` (from 1/warm_up), `StepLR`, `CosineAnnealingLR` up to
//! its end (Loshchilov & Hutter 2017; beyond it the floor stays, where PyTorch rises again) and
//! `ReduceLROnPlateau` with its threshold of 1e-4.

use crate::error::{Error, Result};
use crate::math::scalar::{cos_pi, powi};

/// How the learning rate changes as training goes on; default: not at all.
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
    /// Steps over which the factor rises in a line from `1/warm_up` to 1; default 0, none.
    pub warm_up: u64,
    /// What it is multiplied by; default nothing.
    pub decay: Decay,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Decay {
    /// It does not.
    #[default]
    Constant,
    /// Every few epochs it is multiplied by a factor.
    Step {
        /// Epochs between two falls, at least 1.
        epochs: u64,
        /// What it is multiplied by, above 0 and at most 1.
        factor: f64,
    },
    /// Along half a period of the cosine, to a floor where it stays.
    Cosine {
        /// How long it falls.
        over: Span,
        /// The fraction that is left at the end, 0 to 1.
        floor: f64,
    },
    /// When the loss has stopped falling it is multiplied by a factor; see [`PlateauState`].
    Plateau {
        /// Epochs without a better loss that are forgiven; the next one brings the reduction.
        patience: u64,
        /// What it is multiplied by, above 0 and below 1.
        factor: f64,
    },
}

/// A length of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Span {
    /// So many updates of the weights.
    Steps(u64),
    /// So many passes over the data.
    Epochs(u64),
}

impl Span {
    /// How many of its units.
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

    /// Fraction of this span that is over after `step` steps and `epoch` epochs, from 0 to 1; 1 for
    /// an empty span.
    #[must_use]
    pub fn progress(self, step: u64, epoch: u64) -> f64 {
        let (done, count) = (self.elapsed(step, epoch), self.count());
        if done >= count { 1.0 } else { done as f64 / count as f64 }
    }
}

/// What a [plateau](Decay::Plateau) remembers. A loss is better if it is below the best one by more
/// than 1e-4 of that one's magnitude; NaN never is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct PlateauState {
    /// The best loss so far.
    pub best: Option<f64>,
    /// Epochs since then, or since the last reduction.
    pub bad_epochs: u64,
    /// The factor on the learning rate that has come of it.
    pub factor: f64,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { best: None, bad_epochs: 0, factor: 1.0 }
    }
}

/// By how much of the best loss a better one is below it.
const THRESHOLD: f64 = 1e-4;

impl LearningRateSchedule {
    /// # Errors
    /// [`Error::Config`] for a factor or a floor outside its domain, or no epochs or steps where
    /// there must be some.
    pub fn validate(&self) -> Result<()> {
        let expect_factor = |factor: f64, highest: f64| {
            if factor > 0.0 && factor <= highest {
                return Ok(());
            }
            Err(Error::config("factor", "a number above 0 and below 1", factor))
        };
        match self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { epochs: 0, .. } => Err(Error::config("epochs", "at least 1", 0)),
            Decay::Step { factor, .. } => expect_factor(factor, 1.0),
            Decay::Cosine { over, .. } if over.count() == 0 => {
                Err(Error::config("over", "at least 1", 0))
            }
            Decay::Cosine { floor, .. } if !(0.0..=1.0).contains(&floor) => {
                Err(Error::config("floor", "a number from 0 to 1", floor))
            }
            Decay::Cosine { .. } => Ok(()),
            Decay::Plateau { factor, .. } => expect_factor(factor, 1.0 - f64::EPSILON / 2.0),
        }
    }

    /// What the learning rate is multiplied by after `step` steps and `epoch` epochs. Of a plateau
    /// the [state's factor](PlateauState::factor) comes on top.
    #[must_use]
    pub fn factor(&self, step: u64, epoch: u64) -> f64 {
        let warm_up =
            if step < self.warm_up { (step + 1) as f64 / self.warm_up as f64 } else { 1.0 };
        warm_up
            * match self.decay {
                Decay::Constant | Decay::Plateau { .. } => 1.0,
                Decay::Step { epochs, factor } => powi(factor, epoch / epochs.max(1)),
                Decay::Cosine { over, floor } => {
                    let wave = 1.0 + cos_pi(over.progress(step, epoch));
                    floor + (1.0 - floor) * 0.5 * wave
                }
            }
    }

    /// Notes the loss of an epoch, and tells whether it reduced the learning rate. Without a plateau
    /// nothing happens.
    pub fn observe(&self, state: &mut PlateauState, loss: f64) -> bool {
        let Decay::Plateau { patience, factor } = self.decay else { return false };
        let better = match state.best {
            None => !loss.is_nan(),
            Some(best) => loss < best - THRESHOLD * best.abs(),
        };
        if better {
            (state.best, state.bad_epochs) = (Some(loss), 0);
            return false;
        }
        state.bad_epochs += 1;
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
    fn the_factors_of_pytorch() {
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
    fn the_plateaus_of_pytorch() {
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
    fn beyond_the_end() {
        let decay = Decay::Cosine { over: Span::Epochs(8), floor: 0.25 };
        let schedule = LearningRateSchedule { warm_up: 0, decay };
        assert_eq!(schedule.factor(0, 8), 0.25);
        assert_eq!(schedule.factor(u64::MAX, u64::MAX), 0.25);
    }

    #[test]
    fn settings_outside_their_domain_are_named() {
        for (decay, message) in [
            (Decay::Step { epochs: 0, factor: 0.5 }, "`epochs`: expected at least 1, found 0"),
            (
                Decay::Step { epochs: 1, factor: f64::NAN },
                "`factor`: expected a number above 0 and below 1, found NaN",
            ),
            (
                Decay::Plateau { patience: 0, factor: 1.0 },
                "`factor`: expected a number above 0 and below 1, found 1",
            ),
            (
                Decay::Cosine { over: Span::Steps(0), floor: 0.0 },
                "`over`: expected at least 1, found 0",
            ),
            (
                Decay::Cosine { over: Span::Steps(1), floor: 1.5 },
                "`floor`: expected a number from 0 to 1, found 1.5",
            ),
        ] {
            let schedule = LearningRateSchedule { warm_up: 0, decay };
            assert_eq!(schedule.validate().unwrap_err().to_string(), message);
        }
    }
}
