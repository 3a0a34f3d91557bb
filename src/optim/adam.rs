//! Adam (Kingma & Ba 2015), with the arithmetic of `torch.optim.Adam`.
//!
//! # Formula
//! At step t = 1, 2, …, with gradient g:
//!
//! ```text
//! m ← m + (1−β₁)(g − m)
//! v ← β₂·v + (1−β₂)·g²
//! w ← w − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)
//! ```
//!
//! ε stands outside the root and after the bias correction, as in PyTorch (the paper's
//! Algorithm 1 has it there too; its "efficient" variant moves it). The bias corrections depend
//! on t alone: they are computed once a step, in f64, and rounded to f32.
//!
//! A moment smaller than the least normal number (1.2e-38) becomes 0. Without a gradient, as
//! behind a ReLU that is never active, m falls by a tenth a step, and would after some hundred
//! steps rest for ever at a few subnormal steps above 0: numbers of no effect, with which
//! processors compute many times slower.
//!
//! With a weight decay wd above 0, g is the gradient plus wd·w: that of the loss plus ½·wd·|w|². The
//! decay passes through the moments, so that weights with large gradients decay least;
//! [`AdamW`](super::AdamW) decays all alike.
//!
//! # Method
//! One function on registers (`Constants::update`) serves both the pass over flat buffers and
//! the weight-gradient tile that is updated while it is still in registers, so both give the
//! same bits (without weight decay; with one, the gradient is stored and the pass over flat buffers
//! follows). A weight whose gradient and moments are zero stays as it is: the padding of a
//! panel remains zero for ever.

use super::expect_epsilon;
use super::rule::{Regularized, Rule, expect_step, without_subnormals};
use crate::error::{Result, expect_below_one, expect_non_negative};
use crate::math::scalar::powi;
use crate::simd::InstructionSet;
use crate::simd::lanes::Lanewise;
use pulp::Simd;

/// The settings of Adam.
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
    /// lr, the step size; default 0.001.
    pub learning_rate: f64,
    /// β₁, the decay of the first moment; default 0.9.
    pub beta1: f64,
    /// β₂, the decay of the second moment; default 0.999.
    pub beta2: f64,
    /// ε, added to the root of the second moment; default 1e-8.
    pub epsilon: f64,
    /// wd, times the weight added to the gradient; default 0.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl Adam {
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a learning rate or a weight decay that is negative
    /// or not finite, an ε that is not above zero (in f32), or a β outside [0, 1).
    pub fn validate(&self) -> Result<()> {
        expect_non_negative("learning_rate", self.learning_rate)?;
        expect_epsilon(self.epsilon)?;
        expect_below_one("beta1", self.beta1)?;
        expect_below_one("beta2", self.beta2)?;
        expect_non_negative("weight_decay", self.weight_decay)
    }

    /// The rule of step `t`, counted from 1, with the learning rate times `rate`.
    pub(super) fn at_step(&self, t: u64, rate: f64) -> Rule {
        let rule = self.constants(t, rate);
        if self.weight_decay == 0.0 {
            return Rule::Adam(rule);
        }
        Rule::AdamL2(Regularized { weight_decay: self.weight_decay as f32, rule })
    }

    /// The step without weight decay.
    pub(super) fn constants(&self, t: u64, rate: f64) -> Constants {
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
}

/// What one step of Adam does to every weight.
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
    /// By what the weight is multiplied before: 1 − lr·wd with decoupled decay. 1 changes no bit.
    pub(super) decay: f32,
}

impl Constants {
    /// New weight and moments from the old ones and the gradient.
    #[inline(always)]
    pub(crate) fn update<S: Simd>(
        self,
        simd: S,
        [w, m, v]: [S::f32s; 3],
        g: S::f32s,
    ) -> [S::f32s; 3] {
        let m = simd.mul_add_f32s(simd.sub_f32s(g, m), simd.splat_f32s(self.one_minus_beta1), m);
        let v = simd.mul_add_f32s(
            simd.mul_f32s(simd.splat_f32s(self.one_minus_beta2), g),
            g,
            simd.mul_f32s(simd.splat_f32s(self.beta2), v),
        );
        let (m, v) = (without_subnormals(simd, m), without_subnormals(simd, v));
        let denominator = simd.mul_add_f32s(
            simd.sqrt_f32s(v),
            simd.splat_f32s(self.root_correction),
            simd.splat_f32s(self.epsilon),
        );
        let ratio = simd.div_f32s(m, denominator);
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

/// One step of Adam on the caller's own flat buffers: updates the weights `w` and the moments
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
    adam.validate()?;
    expect_step(t)?;
    adam.at_step(t, 1.0).checked_step(simd, w, m, v, g)
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
    fn same_bits_at_every_length_on_every_instruction_set() {
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
    fn a_weight_that_never_had_a_gradient_stays() {
        let (mut w, mut m, mut v) = ([0.0, -1.5], [0.0; 2], [0.0; 2]);
        step(InstructionSet::detect(), &Adam::default(), 1, &mut w, &mut m, &mut v, &[0.0; 2])
            .unwrap();
        assert_eq!((w, m, v), ([0.0, -1.5], [0.0; 2], [0.0; 2]));
    }

    #[test]
    fn moments_without_a_gradient_fall_to_zero_and_not_to_subnormal_numbers() {
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

    #[test]
    fn settings_outside_their_domain_are_named() {
        for (adam, setting) in [
            (Adam { learning_rate: f64::NAN, ..Adam::default() }, "learning_rate"),
            (Adam { learning_rate: -1.0, ..Adam::default() }, "learning_rate"),
            (Adam { beta1: 1.0, ..Adam::default() }, "beta1"),
            (Adam { beta2: -0.1, ..Adam::default() }, "beta2"),
            (Adam { epsilon: f64::INFINITY, ..Adam::default() }, "epsilon"),
        ] {
            let message = adam.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
        }
    }
}
