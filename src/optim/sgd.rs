//! Stochastic gradient descent with momentum, with the arithmetic of `torch.optim.SGD`.
//!
//! # Formula
//! ```text
//! 1.  g ← g + wd·w
//! 2.  m ← μ·m + g                   (m = g in the first step: the buffer starts at zero)
//! 3.  w ← w − lr·m                  heavy ball (Polyak 1964)
//!     w ← w − lr·(g + μ·m)          with `nesterov` (Sutskever et al. 2013)
//! ```
//!
//! Dampening is 0. With μ = 0 both are plain gradient descent. A momentum smaller than the least
//! normal number becomes 0, like a [moment of Adam](super::adam).
//!
//! # Error
//! One step from given f32 buffers, with a = μ·|m| + |g| + wd·|w|, as long as m does not become 0:
//!
//! ```text
//! m   2⁻²²·a        w   2⁻²⁴·|w| + 2⁻²⁰·lr·a
//! ```

use super::Bounds;
use super::update::flush_subnormals;
use crate::error::{Error, Result, expect_below_one, expect_length, expect_non_negative_f32};
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::{Lanewise, ZipOp};
use pulp::Simd;

/// Settings of stochastic gradient descent.
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
    /// Step size lr; default 0.001.
    pub learning_rate: f64,
    /// Momentum μ: the fraction of m that a step keeps; default 0.
    pub momentum: f64,
    /// Nesterov's variant, which looks ahead along the momentum; default off. Requires a momentum.
    pub nesterov: bool,
    /// Weight decay wd: this times the weight is added to the gradient; default 0.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 1e-3, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

impl Sgd {
    /// Checks that every setting is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`] for a learning rate or a weight decay that is negative or above the largest
    /// f32, a momentum outside [0, 1), or Nesterov's variant without a momentum.
    pub fn validate(&self) -> Result<()> {
        expect_non_negative_f32("learning_rate", self.learning_rate)?;
        expect_below_one("momentum", self.momentum)?;
        expect_non_negative_f32("weight_decay", self.weight_decay)?;
        // With μ = 0, g + μ·m is the plain gradient, and the option would silently do nothing.
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::config(
                "nesterov",
                "a momentum above 0 with Nesterov's variant",
                "momentum 0",
            ));
        }
        Ok(())
    }

    /// Constants of any step, with the learning rate multiplied by `rate`.
    pub(super) fn constants(&self, rate: f64) -> Constants {
        Constants {
            minus_learning_rate: (-self.learning_rate * rate) as f32,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
            weight_decay: self.weight_decay as f32,
        }
    }
}

/// Constants of one step, the same for every weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    minus_learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
}

impl Constants {
    /// Bounds after a step, each term of the sums at its largest; v does not change.
    pub(super) fn bounds_after(&self, Bounds { w, m, v }: Bounds, g: f64) -> Bounds {
        let momentum = f64::from(self.momentum);
        let g = g + f64::from(self.weight_decay) * w;
        let m = momentum * m + g;
        let direction = if self.nesterov { g + momentum * m } else { m };
        Bounds { w: w + f64::from(self.minus_learning_rate).abs() * direction, m, v }
    }
}

impl Lanewise<2, 1> for Constants {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [w, m]: [S::f32s; 2], [g]: [S::f32s; 1]) -> [S::f32s; 2] {
        // 1. With wd = 0 the gradient keeps its value.
        let g = simd.mul_add_f32s(simd.splat_f32s(self.weight_decay), w, g);
        // 2.
        let momentum = simd.splat_f32s(self.momentum);
        let m = flush_subnormals(simd, simd.mul_add_f32s(momentum, m, g));
        // 3. Nesterov's direction looks one step further along the new momentum.
        let direction = if self.nesterov { simd.mul_add_f32s(momentum, m, g) } else { m };
        // w − lr·direction in one rounding; lr is negated once, not for each weight.
        [simd.mul_add_f32s(simd.splat_f32s(self.minus_learning_rate), direction, w), m]
    }
}

/// Takes one step on the caller's own flat buffers: updates the weights `w` and the momentum `m` in place,
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
    let _environment = FloatEnvironment::standard();
    sgd.validate()?;
    expect_length("m", w.len(), m.len())?;
    expect_length("g", w.len(), g.len())?;
    simd.dispatch(ZipOp([w, m], [g], sgd.constants(1.0)));
    Ok(())
}
