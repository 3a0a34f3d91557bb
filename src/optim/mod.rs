//! Optimizers: element-wise updates of weights, in whatever order they lie.
//!
//! | [`Optimizer`] | update, after the moments | weight decay | source |
//! |---|---|---|---|
//! | [`Adam`] | `w −= lr·m̂/(√v̂ + ε)` | added to the gradient | Kingma & Ba 2015 |
//! | [`AdamW`] | the same | `w ← w − lr·wd·w` before | Loshchilov & Hutter 2019 |
//! | [`Sgd`] | `w −= lr·m`, or `lr·(g + μm)` | added to the gradient | Polyak 1964, Nesterov 1983 |
//! | [`Adamax`] | `w −= lr·m̂/u` | added to the gradient | Kingma & Ba 2015, §7.1 |
//!
//! Each has the arithmetic and the defaults of its namesake in `torch.optim`. The state between steps is
//! two buffers of the size of the weights, `m` and `v`, zero before the first step; SGD leaves `v`
//! alone. Weight decay applies to all parameters, as in PyTorch: also to biases, gains and learned
//! variances. A weight whose value, gradient and moments are zero stays zero.
//!
//! A gradient may be [clipped](clip) before the step; a [schedule] changes lr during training.

pub mod adam;
pub mod adamax;
pub mod adamw;
mod bounds;
pub mod clip;
pub mod schedule;
pub mod sgd;
mod step;
mod update;

pub use adam::Adam;
pub use adamax::Adamax;
pub use adamw::AdamW;
pub(crate) use bounds::Bounds;
pub use clip::Clip;
pub use schedule::{Decay, LearningRateSchedule, PlateauState, Span};
pub use sgd::Sgd;
pub(crate) use step::UpdateRule;

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Rule by which weights follow their gradients.
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
    /// Name that [`FromStr`] reads: `adam`, `adamw`, `sgd` or `adamax`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
            Self::Sgd(_) => "sgd",
            Self::Adamax(_) => "adamax",
        }
    }

    /// Learning rate and weight decay, which all optimizers have.
    fn rates(&mut self) -> (&mut f64, &mut f64) {
        match self {
            Self::Adam(adam) => (&mut adam.learning_rate, &mut adam.weight_decay),
            Self::AdamW(adamw) => (&mut adamw.learning_rate, &mut adamw.weight_decay),
            Self::Sgd(sgd) => (&mut sgd.learning_rate, &mut sgd.weight_decay),
            Self::Adamax(adamax) => (&mut adamax.learning_rate, &mut adamax.weight_decay),
        }
    }

    /// Step size lr.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        // `rates` borrows mutably; a copy of five numbers spares a second list of fields.
        let mut copy = *self;
        *copy.rates().0
    }

    /// Returns the same optimizer with another step size.
    #[must_use]
    pub fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        *self.rates().0 = learning_rate;
        self
    }

    /// Returns the same optimizer with another weight decay.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        *self.rates().1 = weight_decay;
        self
    }

    /// Checks that every setting is within its domain.
    ///
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

    /// Update of step `t`, counted from 1, with the learning rate multiplied by `rate`.
    pub(crate) fn at_step(&self, t: u64, rate: f64) -> UpdateRule {
        match self {
            // `g + 0·w` would spread a NaN of w and cost an operation, so it is a rule of its own.
            Self::Adam(adam) if adam.weight_decay == 0.0 => {
                UpdateRule::Adam(adam.constants(t, rate))
            }
            Self::Adam(adam) => UpdateRule::AdamL2(adam.regularized(t, rate)),
            Self::AdamW(adamw) => UpdateRule::Adam(adamw.constants(t, rate)),
            Self::Sgd(sgd) => UpdateRule::Sgd(sgd.constants(rate)),
            Self::Adamax(adamax) => UpdateRule::Adamax(adamax.constants(t, rate)),
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

/// Writes the [name](Optimizer::name).
impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Optimizer {
    type Err = Error;

    /// Returns the optimizer of that [name](Optimizer::name), with its default settings.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name.
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

#[cfg(test)]
mod tests;
