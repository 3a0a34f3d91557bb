//! AdamW (Loshchilov & Hutter 2019), with the arithmetic of `torch.optim.AdamW`.
//!
//! # Formula
//! ```text
//! 1.  w ← (1 − lr·wd)·w
//! 2.  m, v, w as in Adam, with the gradient of the loss alone
//! ```
//!
//! The decay does not pass through the moments: each weight shrinks by the same fraction per step,
//! whatever its gradients. A schedule that scales lr scales the decay with it. The factor is computed
//! once per step, in f64, and rounded to f32; its product with the weight rounds once. Like [`Adam`],
//! the step runs on weight gradients that are still in registers.
//!
//! # Error
//! As in [Adam](super::adam), plus 2⁻²³·|w| for the decay.

use super::adam::{Adam, Constants};
use super::update::checked_step;
use crate::error::{Error, Result, expect_non_negative_f32};
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;

/// Settings of AdamW.
///
/// ```
/// use elbo::optim::AdamW;
///
/// assert_eq!(AdamW::default().weight_decay, 0.01);
/// assert!(AdamW { learning_rate: 0.5, weight_decay: 2.5, ..AdamW::default() }.validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct AdamW {
    /// Step size lr; default 0.001.
    pub learning_rate: f64,
    /// Decay β₁ of the first moment; default 0.9.
    pub beta1: f64,
    /// Decay β₂ of the second moment; default 0.999.
    pub beta2: f64,
    /// Constant ε that is added to the root of the second moment; default 1e-8.
    pub epsilon: f64,
    /// Weight decay wd: a weight loses the fraction lr·wd each step; default 0.01.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { learning_rate, beta1, beta2, epsilon, .. } = Adam::default();
        Self { learning_rate, beta1, beta2, epsilon, weight_decay: 0.01 }
    }
}

impl AdamW {
    /// The same settings without weight decay.
    fn adam(&self) -> Adam {
        let Self { learning_rate, beta1, beta2, epsilon, .. } = *self;
        Adam { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0 }
    }

    /// Checks that every setting is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Adam`], and for a weight decay with lr·wd above 1, which would change
    /// the sign of every weight in each step.
    pub fn validate(&self) -> Result<()> {
        self.adam().validate()?;
        expect_non_negative_f32("weight_decay", self.weight_decay)?;
        // A schedule only makes lr smaller, so this holds for every step.
        if self.learning_rate * self.weight_decay > 1.0 {
            let expected = "at most 1 / learning_rate";
            return Err(Error::config("weight_decay", expected, self.weight_decay));
        }
        Ok(())
    }

    /// Constants of step `t`, counted from 1, with the learning rate multiplied by `rate`.
    pub(super) fn constants(&self, t: u64, rate: f64) -> Constants {
        // 2. The constants of Adam, whose step also multiplies by the factor of 1.
        let mut constants = self.adam().constants(t, rate);
        // 1. Rounded to f32 once; a decay of lr·wd below 2⁻²⁵ (3e-8) rounds to none.
        constants.decay = (1.0 - self.learning_rate * rate * self.weight_decay) as f32;
        constants
    }
}

/// Takes one step of AdamW on the caller's own flat buffers: updates the weights `w` and the moments `m`
/// and `v` in place, from the gradient `g`. `t` counts the steps from 1.
///
/// ```
/// use elbo::{optim::{AdamW, adamw}, simd::InstructionSet};
///
/// let adamw = AdamW { weight_decay: 1.0, ..AdamW::default() };
/// let (mut w, mut m, mut v) = ([1.0_f32], [0.0], [0.0]);
/// adamw::step(InstructionSet::detect(), &adamw, 1, &mut w, &mut m, &mut v, &[0.0])?;
/// assert!((w[0] - 0.999).abs() < 1e-7); // no gradient: the decay alone
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] for settings outside their domain or `t` = 0, [`Error::Shape`] if the lengths
/// differ.
pub fn step(
    simd: InstructionSet,
    adamw: &AdamW,
    t: u64,
    w: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    g: &[f32],
) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    adamw.validate()?;
    checked_step(simd, t, adamw.constants(t, 1.0), [w, m, v], g)
}
