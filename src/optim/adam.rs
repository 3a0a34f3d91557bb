//! Adam (Kingma & Ba 2015), with the arithmetic of `torch.optim.Adam`.
//!
//! # Formula
//! At step t = 1, 2, …, with gradient g:
//!
//! ```text
//! 1.  m ← m + (1−β₁)(g − m)
//! 2.  v ← β₂·v + (1−β₂)·g²
//! 3.  w ← w − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)
//! ```
//!
//! ε stands outside the root and after the bias correction, as in PyTorch (the paper's
//! Algorithm 1 has it there too; its "efficient" variant moves it). The bias corrections depend
//! on t alone: they are computed once per step, in f64, and rounded to f32.
//!
//! A moment smaller than the least normal number (1.2e-38) becomes 0. Without a v of that size the
//! denominator is smaller by at most 1.1e-19/√(1−β₂ᵗ), which ε must outweigh: it is 1e-16 or more, and the
//! step longer by a factor of at most 1 + 1.1e-19/(ε·√(1−β₂ᵗ)). With the defaults that is 1 + 3.5e-10.
//!
//! With a weight decay wd above 0, g is the gradient plus wd·w, which is the gradient of the loss plus
//! ½·wd·|w|². The decay passes through the moments, so weights with large gradients decay least;
//! [`AdamW`](super::AdamW) decays all alike.
//!
//! # Method
//! One function on registers (`Constants::update`) serves both the pass over flat buffers and the
//! weight-gradient tile that is updated while it is still in registers, so both give the same bits. (With
//! weight decay the gradient is stored first and the pass over flat buffers follows.) A weight stays as
//! it is while its gradient and moments are zero, so the padding of a panel remains zero.
//!
//! # Error
//! One step from given f32 buffers, with a = max(|m|, |g|), besides what a moment that becomes 0 changes:
//!
//! ```text
//! m   2⁻²¹·a        v   2⁻²²·v        w   2⁻²⁴·|w| + 2⁻²⁰·lr/(1−β₁ᵗ)·a/(√v/√(1−β₂ᵗ) + ε)
//! ```
//!
//! With weight decay the bound is that of the gradient `g + wd·w` after its rounding, 2⁻²³·(|g| + wd·|w|).

use super::Bounds;
use super::update::{Regularized, checked_step, expect_epsilon, flush_subnormals};
use crate::error::{Result, expect_below_one, expect_non_negative_f32};
use crate::math::scalar::powi;
use crate::simd::InstructionSet;
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::Lanewise;
use pulp::Simd;

/// Least ε. √v of a v that is flushed to 0 may be 1.1e-19.
const LEAST_EPSILON: f64 = 1e-16;

/// Settings of Adam.
///
/// ```
/// use elbo::optim::Adam;
///
/// let adam = Adam { learning_rate: 3e-4, ..Adam::default() };
/// assert_eq!((adam.beta1, adam.beta2, adam.epsilon), (0.9, 0.999, 1e-8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Adam {
    /// Step size lr; default 0.001.
    pub learning_rate: f64,
    /// Decay β₁ of the first moment; default 0.9.
    pub beta1: f64,
    /// Decay β₂ of the second moment; default 0.999.
    pub beta2: f64,
    /// Constant ε that is added to the root of the second moment, 1e-16 or more; default 1e-8.
    pub epsilon: f64,
    /// Weight decay wd: this times the weight is added to the gradient; default 0.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl Adam {
    /// Checks that every setting is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a learning rate or a weight decay that is negative
    /// or above the largest f32, an ε below 1e-16, or a β outside [0, 1).
    pub fn validate(&self) -> Result<()> {
        expect_non_negative_f32("learning_rate", self.learning_rate)?;
        expect_epsilon(self.epsilon, LEAST_EPSILON, "a number from 1e-16 to 3.4e38")?;
        expect_below_one("beta1", self.beta1)?;
        expect_below_one("beta2", self.beta2)?;
        expect_non_negative_f32("weight_decay", self.weight_decay)
    }

    /// Constants of step `t`, counted from 1, with the learning rate multiplied by `rate` and without
    /// weight decay.
    pub(super) fn constants(&self, t: u64, rate: f64) -> Constants {
        // The differences from 1 are taken in f64: 1 − β₂ alone would lose ten bits in f32.
        Constants {
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            minus_step_size: (-self.learning_rate * rate / (1.0 - powi(self.beta1, t))) as f32,
            root_correction: (1.0 / (1.0 - powi(self.beta2, t)).sqrt()) as f32,
            epsilon: self.epsilon as f32,
            decay: 1.0,
        }
    }

    /// [`Self::constants`], applied to the gradient with weight decay.
    pub(super) fn regularized(&self, t: u64, rate: f64) -> Regularized<Constants> {
        Regularized { weight_decay: self.weight_decay as f32, rule: self.constants(t, rate) }
    }
}

/// Constants of one step, the same for every weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    /// −lr/(1−β₁ᵗ)
    minus_step_size: f32,
    /// 1/√(1−β₂ᵗ)
    root_correction: f32,
    epsilon: f32,
    /// Factor on the weight before the step: 1 − lr·wd with decoupled decay, else 1, which changes no bit.
    pub(super) decay: f32,
}

impl Constants {
    /// Bounds after a step: m is a mean of m and g, v one of v and g², and the denominator at least ε.
    pub(super) fn bounds_after(&self, Bounds { w, m, v }: Bounds, g: f64) -> Bounds {
        let m = m.max(g);
        let v = f64::from(self.beta2) * v + f64::from(self.one_minus_beta2) * g * g;
        let step = f64::from(self.minus_step_size).abs() * m / f64::from(self.epsilon);
        Bounds { w: f64::from(self.decay).abs() * w + step, m, v }
    }

    /// Returns the new weight and moments.
    #[inline(always)]
    pub(crate) fn update<S: Simd>(
        self,
        simd: S,
        [w, m, v]: [S::f32s; 3],
        g: S::f32s,
    ) -> [S::f32s; 3] {
        // 1. In this form m approaches g with two roundings, and stays exactly where g = m.
        let m = simd.mul_add_f32s(simd.sub_f32s(g, m), simd.splat_f32s(self.one_minus_beta1), m);
        // 2. ((1−β₂)·g)·g in this order: g² alone overflows sooner.
        let v = simd.mul_add_f32s(
            simd.mul_f32s(simd.splat_f32s(self.one_minus_beta2), g),
            g,
            simd.mul_f32s(simd.splat_f32s(self.beta2), v),
        );
        // Zeros stay zeros: m = v = g = 0 gives a ratio of 0/ε.
        let (m, v) = (flush_subnormals(simd, m), flush_subnormals(simd, v));
        // 3. Root and division are exactly rounded; approximate instructions differ between processors.
        let denominator = simd.mul_add_f32s(
            simd.sqrt_f32s(v),
            simd.splat_f32s(self.root_correction),
            simd.splat_f32s(self.epsilon),
        );
        let ratio = simd.div_f32s(m, denominator);
        // The decoupled decay of AdamW acts on the weight before the step.
        let w = simd.mul_f32s(w, simd.splat_f32s(self.decay));
        let w = simd.mul_add_f32s(simd.splat_f32s(self.minus_step_size), ratio, w);
        [w, m, v]
    }
}

impl Lanewise<3, 1> for Constants {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, old: [S::f32s; 3], [g]: [S::f32s; 1]) -> [S::f32s; 3] {
        self.update(simd, old, g)
    }
}

/// Takes one step of Adam on the caller's own flat buffers: updates the weights `w` and the moments
/// `m` and `v` in place, from the gradient `g`. `t` counts the steps from 1.
///
/// ```
/// use elbo::{optim::{Adam, adam}, simd::InstructionSet};
///
/// let (mut w, mut m, mut v) = ([1.0_f32], [0.0], [0.0]);
/// adam::step(InstructionSet::detect(), &Adam::default(), 1, &mut w, &mut m, &mut v, &[123.0])?;
/// assert!((w[0] - 0.999).abs() < 1e-6); // the first step is lr, whatever the gradient
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for settings outside their domain or `t` = 0,
/// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
pub fn step(
    simd: InstructionSet,
    adam: &Adam,
    t: u64,
    w: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    g: &[f32],
) -> Result<()> {
    let _environment = FloatEnvironment::standard();
    adam.validate()?;
    // `g + 0·w` would turn the sign of a zero gradient and spread a NaN of w.
    if adam.weight_decay == 0.0 {
        checked_step(simd, t, adam.constants(t, 1.0), [w, m, v], g)
    } else {
        checked_step(simd, t, adam.regularized(t, 1.0), [w, m, v], g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula in f64.
    fn twin(adam: &Adam, t: u64, [w, m, v]: [f64; 3], g: f64) -> [f64; 3] {
        let m = adam.beta1 * m + (1.0 - adam.beta1) * g;
        let v = adam.beta2 * v + (1.0 - adam.beta2) * g * g;
        let m_hat = m / (1.0 - adam.beta1.powf(t as f64));
        let v_hat = v / (1.0 - adam.beta2.powf(t as f64));
        [w - adam.learning_rate * m_hat / (v_hat.sqrt() + adam.epsilon), m, v]
    }

    #[test]
    fn follows_the_formula_over_a_hundred_steps() {
        let adam = Adam::default();
        for simd in InstructionSet::available() {
            let n = 19;
            let (mut w, mut m, mut v) = (vec![0.5_f32; n], vec![0.0; n], vec![0.0; n]);
            let mut exact = vec![[0.5, 0.0, 0.0]; n];
            for t in 1..=100 {
                let g: Vec<f32> =
                    (0..n).map(|i| ((i as f32 + 1.0) * t as f32 * 0.37).sin()).collect();
                step(simd, &adam, t, &mut w, &mut m, &mut v, &g).unwrap();
                for i in 0..n {
                    exact[i] = twin(&adam, t, exact[i], f64::from(g[i]));
                    // A step is at most about lr; its f32 rounding is far below.
                    assert!((f64::from(w[i]) - exact[i][0]).abs() < 2e-7 * t as f64, "{simd}");
                }
            }
        }
    }

    #[test]
    fn gives_the_same_bits_at_every_length_on_every_instruction_set() {
        for n in 0..=67 {
            let g: Vec<f32> = (0..n).map(|i| (i as f32 - 30.0) * 1e-3).collect();
            let run = |simd| {
                let (mut w, mut m, mut v) = (vec![0.25; n], vec![0.5; n], vec![0.125; n]);
                step(simd, &Adam::default(), 7, &mut w, &mut m, &mut v, &g).unwrap();
                [w, m, v].map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            let expected = run(InstructionSet::SCALAR);
            for simd in InstructionSet::available() {
                assert_eq!(run(simd), expected, "{simd}, n={n}");
            }
        }
    }

    #[test]
    fn keeps_weights_without_gradients() {
        let (mut w, mut m, mut v) = ([0.0, -1.5], [0.0; 2], [0.0; 2]);
        step(InstructionSet::detect(), &Adam::default(), 1, &mut w, &mut m, &mut v, &[0.0; 2])
            .unwrap();
        assert_eq!((w, m, v), ([0.0, -1.5], [0.0; 2], [0.0; 2]));
    }

    #[test]
    fn moments_decay_to_zero_without_subnormals() {
        for simd in InstructionSet::available() {
            let (mut w, mut m, mut v) = ([1.0; 17], [1e-3; 17], [1e-35; 17]);
            m[3] = -1e-3;
            m[5] = f32::NAN;
            for t in 1..=8000 {
                let g = [0.0; 17];
                step(simd, &Adam::default(), t, &mut w, &mut m, &mut v, &g).unwrap();
                assert!(
                    m.iter().chain(&v).all(|moment| !moment.is_subnormal()),
                    "{simd}, step {t}"
                );
            }
            assert!(m.iter().enumerate().all(|(i, &m)| if i == 5 { m.is_nan() } else { m == 0.0 }));
            assert!(v.iter().all(|&v| v == 0.0));
        }
    }

    /// Gradients whose squares are below f32, with the least ε: the step is that of the formula to 4 %.
    #[test]
    fn steps_on_vanishing_gradients_have_their_length() {
        let adam = Adam { epsilon: 1e-16, ..Adam::default() };
        for simd in InstructionSet::available() {
            for g in [1e-18_f32, -3.4e-18, 3.5e-18, 1e-17, 1e-20, 1e-30] {
                let (mut w, mut m, mut v) = ([0.0_f32], [0.0], [0.0]);
                let mut exact = [0.0; 3];
                for t in 1..=20 {
                    step(simd, &adam, t, &mut w, &mut m, &mut v, &[g]).unwrap();
                    exact = twin(&adam, t, exact, f64::from(g));
                    let error = (f64::from(w[0]) - exact[0]).abs();
                    assert!(error <= 0.04 * exact[0].abs(), "{simd}, {g}: {} {}", w[0], exact[0]);
                }
            }
        }
    }

    #[test]
    fn rejects_invalid_settings_by_name() {
        for (adam, setting) in [
            (Adam { learning_rate: f64::NAN, ..Adam::default() }, "learning_rate"),
            (Adam { learning_rate: -1.0, ..Adam::default() }, "learning_rate"),
            (Adam { beta1: 1.0, ..Adam::default() }, "beta1"),
            (Adam { beta2: -0.1, ..Adam::default() }, "beta2"),
            (Adam { epsilon: f64::INFINITY, ..Adam::default() }, "epsilon"),
            (Adam { epsilon: 9.9e-17, ..Adam::default() }, "epsilon"),
            (Adam { epsilon: 0.0, ..Adam::default() }, "epsilon"),
        ] {
            let message = adam.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
        }
    }
}
