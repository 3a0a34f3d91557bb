//! AdamW (Loshchilov & Hutter 2019), with the arithmetic of `torch.optim.AdamW`.
//!
//! # Formula
//! ```text
//! w ← (1 − lr·wd)·w
//! m, v, w as in Adam, with the gradient alone
//! ```
//!
//! The decay does not pass through the moments: each weight shrinks by the same fraction a step,
//! whatever its gradients. A schedule that scales lr scales the decay with it. The factor is computed
//! once a step, in f64, and rounded to f32; its product with the weight rounds once. The step runs on
//! the weight gradient in registers, as that of [`Adam`] does.

use super::Adam;
use super::rule::{Rule, expect_step};
use crate::error::{Error, Result, expect_non_negative};
use crate::simd::InstructionSet;

/// The settings of AdamW.
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
    /// lr, the step size; default 0.001.
    pub learning_rate: f64,
    /// β₁, the decay of the first moment; default 0.9.
    pub beta1: f64,
    /// β₂, the decay of the second moment; default 0.999.
    pub beta2: f64,
    /// ε, added to the root of the second moment; default 1e-8.
    pub epsilon: f64,
    /// wd, times lr the fraction that a weight loses each step; default 0.01.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { learning_rate, beta1, beta2, epsilon, .. } = Adam::default();
        Self { learning_rate, beta1, beta2, epsilon, weight_decay: 0.01 }
    }
}

impl AdamW {
    /// Adam without the decay.
    fn adam(&self) -> Adam {
        let Self { learning_rate, beta1, beta2, epsilon, .. } = *self;
        Adam { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0 }
    }

    /// # Errors
    /// [`Error::Config`] as for [`Adam`], and for a weight decay of which lr·wd is above 1: the
    /// weights would change their sign every step.
    pub fn validate(&self) -> Result<()> {
        self.adam().validate()?;
        expect_non_negative("weight_decay", self.weight_decay)?;
        if self.learning_rate * self.weight_decay > 1.0 {
            let expected = "at most 1 / learning_rate";
            return Err(Error::config("weight_decay", expected, self.weight_decay));
        }
        Ok(())
    }

    /// The rule of step `t`, counted from 1, with the learning rate times `rate`.
    pub(super) fn at_step(&self, t: u64, rate: f64) -> Rule {
        let mut constants = self.adam().constants(t, rate);
        constants.decay = (1.0 - self.learning_rate * rate * self.weight_decay) as f32;
        Rule::Adam(constants)
    }
}

/// One step of AdamW on the caller's own flat buffers: updates the weights `w` and the moments `m`
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
    adamw.validate()?;
    expect_step(t)?;
    adamw.at_step(t, 1.0).checked_step(simd, w, m, v, g)
}
