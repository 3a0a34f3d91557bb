//! Stochastic gradient descent with momentum, with the arithmetic of `torch.optim.SGD`.
//!
//! # Formula
//! ```text
//! g ← g + wd·w
//! m ← μ·m + g                       (m = g in the first step: the buffer starts at zero)
//! w ← w − lr·m                      heavy ball (Polyak 1964)
//! w ← w − lr·(g + μ·m)              with `nesterov` (Sutskever et al. 2013)
//! ```
//!
//! Dampening is 0. With μ = 0 both are plain gradient descent. A momentum smaller than the least
//! normal number becomes 0, as a [moment of Adam](super::adam) does.

use super::rule::{Rule, without_subnormals};
use crate::error::{Error, Result, expect_below_one, expect_length, expect_non_negative};
use crate::simd::InstructionSet;
use crate::simd::lanes::Lanewise;
use pulp::Simd;

/// The settings of stochastic gradient descent.
///
/// ```
/// use elbo::optim::Sgd;
///
/// let sgd = Sgd { momentum: 0.9, nesterov: true, ..Sgd::default() };
/// assert!(sgd.validate().is_ok());
/// assert!(Sgd { momentum: 0.0, ..sgd }.validate().is_err()); // nothing to look ahead along
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Sgd {
    /// lr, the step size; default 0.001.
    pub learning_rate: f64,
    /// μ, what is left of the momentum after a step; default 0.
    pub momentum: f64,
    /// Whether the gradient is that of where the momentum leads; default not. Needs a momentum.
    pub nesterov: bool,
    /// wd, times the weight added to the gradient; default 0.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 1e-3, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

impl Sgd {
    /// # Errors
    /// [`Error::Config`] for a learning rate or a weight decay that is negative or not finite, a
    /// momentum outside [0, 1), or Nesterov's without one.
    pub fn validate(&self) -> Result<()> {
        expect_non_negative("learning_rate", self.learning_rate)?;
        expect_below_one("momentum", self.momentum)?;
        expect_non_negative("weight_decay", self.weight_decay)?;
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::config("nesterov", "a momentum above 0 with it", "momentum 0"));
        }
        Ok(())
    }

    /// The rule of any step, with the learning rate times `rate`.
    pub(super) fn at_step(&self, rate: f64) -> Rule {
        Rule::Sgd(Constants {
            minus_learning_rate: (-self.learning_rate * rate) as f32,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
            weight_decay: self.weight_decay as f32,
        })
    }
}

/// What one step does to every weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    minus_learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
}

impl Lanewise<2, 1> for Constants {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [w, m]: [S::f32s; 2], [g]: [S::f32s; 1]) -> [S::f32s; 2] {
        let g = simd.mul_add_f32s(simd.splat_f32s(self.weight_decay), w, g);
        let momentum = simd.splat_f32s(self.momentum);
        let m = without_subnormals(simd, simd.mul_add_f32s(momentum, m, g));
        let direction = if self.nesterov { simd.mul_add_f32s(momentum, m, g) } else { m };
        [simd.mul_add_f32s(simd.splat_f32s(self.minus_learning_rate), direction, w), m]
    }
}

/// One step on the caller's own flat buffers: updates the weights `w` and the momentum `m` in place,
/// from the gradient `g`.
///
/// ```
/// use elbo::{optim::{Sgd, sgd}, simd::InstructionSet};
///
/// let descent = Sgd { learning_rate: 0.5, momentum: 0.5, ..Sgd::default() };
/// let (mut w, mut m) = ([4.0_f32], [0.0]);
/// sgd::step(InstructionSet::detect(), &descent, &mut w, &mut m, &[2.0])?;
/// sgd::step(InstructionSet::detect(), &descent, &mut w, &mut m, &[2.0])?;
/// assert_eq!((w, m), ([1.5], [3.0]));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] for settings outside their domain, [`Error::Shape`] if the lengths differ.
pub fn step(
    simd: InstructionSet,
    sgd: &Sgd,
    w: &mut [f32],
    m: &mut [f32],
    g: &[f32],
) -> Result<()> {
    sgd.validate()?;
    expect_length("m", w.len(), m.len())?;
    expect_length("g", w.len(), g.len())?;
    sgd.at_step(1.0).step(simd, [w, m, &mut []], g);
    Ok(())
}
