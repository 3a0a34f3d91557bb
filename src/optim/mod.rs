//! Optimizers, element-wise and therefore indifferent to the order in which weights lie.
//!
//! | [`Optimizer`] | update, after the moments | weight decay | source |
//! |---|---|---|---|
//! | [`Adam`] | `w −= lr·m̂/(√v̂ + ε)` | added to the gradient | Kingma & Ba 2015 |
//! | [`AdamW`] | the same | `w ← w − lr·wd·w` before | Loshchilov & Hutter 2019 |
//! | [`Sgd`] | `w −= lr·m`, or `lr·(g + μm)` | added to the gradient | Polyak 1964, Nesterov 1983 |
//! | [`Adamax`] | `w −= lr·m̂/u` | added to the gradient | Kingma & Ba 2015, §7.1 |
//!
//! Each has the arithmetic and the defaults of its namesake in `torch.optim`. All keep what they
//! remember of earlier steps in two buffers of the size of the weights, `m` and `v`, zero before the
//! first step; SGD leaves `v` alone. Weight decay is of all parameters, as in PyTorch: biases, gains
//! and learned variances too. A weight whose value, gradient and moments are zero stays zero.
//!
//! Before the step a gradient may be [clipped](clip); a [schedule] changes lr as training goes on.

pub mod adam;
pub mod adamax;
pub mod adamw;
pub mod clip;
mod rule;
pub mod schedule;
pub mod sgd;

pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub use clip::Clip;
pub(crate) use rule::Rule;
pub use schedule::{Decay, LearningRateSchedule, PlateauState, Span};
pub use sgd::Sgd;

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How weights follow their gradients.
///
/// ```
/// use elbo::optim::{AdamW, Optimizer, Sgd};
///
/// let optimizer = Optimizer::from(AdamW { weight_decay: 0.1, ..AdamW::default() });
/// assert_eq!(optimizer.name(), "adamw");
/// assert_eq!("sgd".parse::<Optimizer>()?, Sgd::default().into());
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "lowercase"))]
pub enum Optimizer {
    /// Adam, the default.
    Adam(Adam),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Stochastic gradient descent, with or without momentum.
    Sgd(Sgd),
    /// Adam with the maximum norm in place of the second moment.
    Adamax(Adamax),
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adam(Adam::default())
    }
}

impl Optimizer {
    /// `adam`, `adamw`, `sgd` or `adamax`: what [`FromStr`] reads.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
            Self::Sgd(_) => "sgd",
            Self::Adamax(_) => "adamax",
        }
    }

    /// lr, the step size.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Adam(adam) => adam.learning_rate,
            Self::AdamW(adamw) => adamw.learning_rate,
            Self::Sgd(sgd) => sgd.learning_rate,
            Self::Adamax(adamax) => adamax.learning_rate,
        }
    }

    /// The same optimizer with another step size.
    #[must_use]
    pub fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        *match &mut self {
            Self::Adam(adam) => &mut adam.learning_rate,
            Self::AdamW(adamw) => &mut adamw.learning_rate,
            Self::Sgd(sgd) => &mut sgd.learning_rate,
            Self::Adamax(adamax) => &mut adamax.learning_rate,
        } = learning_rate;
        self
    }

    /// The same optimizer with another weight decay.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        *match &mut self {
            Self::Adam(adam) => &mut adam.weight_decay,
            Self::AdamW(adamw) => &mut adamw.weight_decay,
            Self::Sgd(sgd) => &mut sgd.weight_decay,
            Self::Adamax(adamax) => &mut adamax.weight_decay,
        } = weight_decay;
        self
    }

    /// # Errors
    /// [`Error::Config`] for a setting outside its domain; see the `validate` of each optimizer.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Adam(adam) => adam.validate(),
            Self::AdamW(adamw) => adamw.validate(),
            Self::Sgd(sgd) => sgd.validate(),
            Self::Adamax(adamax) => adamax.validate(),
        }
    }

    /// What step `t`, counted from 1, does to every weight, the learning rate multiplied by `rate`.
    pub(crate) fn at_step(&self, t: u64, rate: f64) -> Rule {
        match self {
            Self::Adam(adam) => adam.at_step(t, rate),
            Self::AdamW(adamw) => adamw.at_step(t, rate),
            Self::Sgd(sgd) => sgd.at_step(rate),
            Self::Adamax(adamax) => adamax.at_step(t, rate),
        }
    }
}

impl From<Adam> for Optimizer {
    fn from(adam: Adam) -> Self {
        Self::Adam(adam)
    }
}

impl From<AdamW> for Optimizer {
    fn from(adamw: AdamW) -> Self {
        Self::AdamW(adamw)
    }
}

impl From<Sgd> for Optimizer {
    fn from(sgd: Sgd) -> Self {
        Self::Sgd(sgd)
    }
}

impl From<Adamax> for Optimizer {
    fn from(adamax: Adamax) -> Self {
        Self::Adamax(adamax)
    }
}

/// Its [name](Optimizer::name).
impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Optimizer {
    type Err = Error;

    /// The optimizer of that [name](Optimizer::name), with its default settings.
    ///
    /// # Errors
    /// [`Error::Config`] for another name.
    fn from_str(name: &str) -> Result<Self> {
        let all: [Self; 4] = [
            Adam::default().into(),
            AdamW::default().into(),
            Sgd::default().into(),
            Adamax::default().into(),
        ];
        let found = all.into_iter().find(|optimizer| optimizer.name() == name);
        found.ok_or_else(|| Error::config("optimizer", "adam, adamw, sgd or adamax", name))
    }
}

/// An ε: with 0, a weight without gradient would become 0/0.
fn expect_epsilon(value: f64) -> Result<()> {
    if value.is_finite() && value >= f64::from(f32::MIN_POSITIVE) {
        return Ok(());
    }
    Err(Error::config("epsilon", "a finite number of at least 1.2e-38", value))
}

#[cfg(test)]
mod tests;
