//! Adamax (Kingma & Ba 2015, §7.1), with the arithmetic of `torch.optim.Adamax`.
//!
//! # Formula
//! At step t = 1, 2, …, with gradient g:
//!
//! ```text
//! 1.  g ← g + wd·w
//! 2.  m ← m + (1−β₁)(g − m)
//! 3.  u ← max(β₂·u, |g| + ε)
//! 4.  w ← w − lr/(1−β₁ᵗ) · m/u
//! ```
//!
//! Adam with the exponentially weighted ∞-norm of the past gradients in place of their 2-norm: a step is
//! never longer than about lr, and u needs no bias correction. ε stands inside the maximum, as in
//! PyTorch, so that u of a weight that never had a gradient becomes ε, not 0, and the weight stays.
//! m is set to 0 below the least normal number, as in [Adam](super::adam). A gradient of NaN makes
//! m, u and w NaN. What a flushed m would have moved the weight is at most lr/(1−β₁ᵗ)·1.2e-38/ε.
//!
//! # Error
//! One step from given f32 buffers, with a = max(|m|, |g|) and g rounded as in [Adam](super::adam), as
//! long as m does not become 0:
//!
//! ```text
//! m   2⁻²¹·a        u   2⁻²³·u        w   2⁻²⁴·|w| + 2⁻²⁰·lr/(1−β₁ᵗ)·a/u
//! ```

use super::Bounds;
use super::update::{Regularized, checked_step, expect_epsilon, flush_subnormals};
use crate::error::{Result, expect_below_one, expect_length, expect_non_negative_f32};
use crate::math::scalar::powi;
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::Lanewise;
use pulp::Simd;

/// Settings of Adamax.
///
/// ```
/// assert_eq!(elbo::optim::Adamax::default().learning_rate, 0.002);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Adamax {
    /// Step size lr; default 0.002.
    pub learning_rate: f64,
    /// Decay β₁ of the first moment; default 0.9.
    pub beta1: f64,
    /// Decay β₂ of the norm; default 0.999.
    pub beta2: f64,
    /// Constant ε that is added to the magnitude of each gradient; default 1e-8.
    pub epsilon: f64,
    /// Weight decay wd: this times the weight is added to the gradient; default 0.
    pub weight_decay: f64,
}

impl Default for Adamax {
    fn default() -> Self {
        Self { learning_rate: 2e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl Adamax {
    /// Checks that every setting is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a learning rate or a weight decay that is negative
    /// or above the largest f32, an ε below 1.2e-38, or a β outside [0, 1).
    pub fn validate(&self) -> Result<()> {
        expect_non_negative_f32("learning_rate", self.learning_rate)?;
        expect_epsilon(self.epsilon, 1.2e-38, "a number from 1.2e-38 to 3.4e38")?;
        expect_below_one("beta1", self.beta1)?;
        expect_below_one("beta2", self.beta2)?;
        expect_non_negative_f32("weight_decay", self.weight_decay)
    }

    /// Constants of step `t`, counted from 1, with the learning rate multiplied by `rate`.
    pub(super) fn constants(&self, t: u64, rate: f64) -> Regularized<Constants> {
        let rule = Constants {
            // Differences from 1 in f64, as in Adam; u needs no bias correction.
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            epsilon: self.epsilon as f32,
            minus_step_size: (-self.learning_rate * rate / (1.0 - powi(self.beta1, t))) as f32,
        };
        Regularized { weight_decay: self.weight_decay as f32, rule }
    }
}

/// Constants of one step, the same for every weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    one_minus_beta1: f32,
    beta2: f32,
    epsilon: f32,
    /// −lr/(1−β₁ᵗ)
    minus_step_size: f32,
}

impl Constants {
    /// Bounds after a step: m is a mean of m and g, and u at least ε.
    pub(super) fn bounds_after(&self, Bounds { w, m, v: u }: Bounds, g: f64) -> Bounds {
        let (m, epsilon) = (m.max(g), f64::from(self.epsilon));
        let step = f64::from(self.minus_step_size).abs() * m / epsilon;
        Bounds { w: w + step, m, v: (f64::from(self.beta2) * u).max(g + epsilon) }
    }
}

impl Lanewise<3, 1> for Constants {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [w, m, u]: [S::f32s; 3], [g]: [S::f32s; 1]) -> [S::f32s; 3] {
        // 1 is done by `Regularized`.
        // 2.
        let m = simd.mul_add_f32s(simd.sub_f32s(g, m), simd.splat_f32s(self.one_minus_beta1), m);
        let m = flush_subnormals(simd, m);
        // 3. The comparison is false for NaN on either side; a past NaN stays in m.
        let past = simd.mul_f32s(simd.splat_f32s(self.beta2), u);
        let present = simd.add_f32s(simd.abs_f32s(g), simd.splat_f32s(self.epsilon));
        let u = simd.select_f32s(simd.greater_than_f32s(past, present), past, present);
        // 4. u is at least ε, so the quotient is finite.
        let step = simd.splat_f32s(self.minus_step_size);
        [simd.mul_add_f32s(step, simd.div_f32s(m, u), w), m, u]
    }
}

/// Takes one step of Adamax on the caller's own flat buffers: updates the weights `w`, the first moment `m`
/// and the norm `u` in place, from the gradient `g`. `t` counts the steps from 1.
///
/// ```
/// use elbo::{optim::{Adamax, adamax}, simd::InstructionSet};
///
/// let (mut w, mut m, mut u) = ([1.0_f32], [0.0], [0.0]);
/// adamax::step(InstructionSet::detect(), &Adamax::default(), 1, &mut w, &mut m, &mut u, &[123.0])?;
/// assert!((w[0] - 0.998).abs() < 1e-6 && u == [123.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for settings outside their domain or `t` = 0,
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn step(
    simd: InstructionSet,
    adamax: &Adamax,
    t: u64,
    w: &mut [f32],
    m: &mut [f32],
    u: &mut [f32],
    g: &[f32],
) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    adamax.validate()?;
    expect_length("u", w.len(), u.len())?;
    checked_step(simd, t, adamax.constants(t, 1.0), [w, m, u], g)
}
