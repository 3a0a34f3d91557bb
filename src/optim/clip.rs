//! Gradient clipping, by value and by global norm (Pascanu, Mikolov & Bengio 2013).
//!
//! # Formula
//! ```text
//! value c:  g_i ← max(−c, min(c, g_i))
//! norm c:   g ← g·c/(‖g‖ + 10⁻⁶)   if that makes it shorter,   ‖g‖ = √Σ g_i² over all weights
//! ```
//!
//! The same as `clip_grad_value_` and `clip_grad_norm_` of PyTorch. Clipping by norm keeps the direction
//! of the gradient; clipping by value changes it.
//!
//! # Method
//! 1. The squares of each share of 16,384 weights are summed over canonical lanes
//!    ([`simd`](crate::simd)).
//! 2. The shares are summed in f64 by a tree whose shape depends on the number of weights alone, so the
//!    bits depend on neither threads nor instruction set.
//! 3. The factor is computed in f64 and rounded to f32; each product rounds once.
//!
//! # Error
//! Norm: 5e-7 relative, unless a square overflows (a gradient above 1.8e19 gives ∞) or underflows
//! (gradients below 1e-19 count for less than they are).

use super::update::SHARE;
use crate::compute::Compute;
use crate::error::{Error, Result, expect_positive};
use crate::simd::environment::FloatEnvironment;
use crate::simd::lanes::{Lanewise, Multiply, Scale, ZipOp};
use crate::simd::sum::sum_row;
use pulp::{Simd, WithSimd};
use std::fmt;

/// Limit on the gradient.
///
/// ```
/// use elbo::{Compute, optim::Clip};
///
/// let mut gradient = [3.0, -4.0];
/// assert_eq!(Clip::Norm(1.0).apply(&Compute::serial(), &mut gradient)?, 5.0);
/// assert!((gradient[0] - 0.6).abs() < 1e-6 && (gradient[1] + 0.8).abs() < 1e-6);
/// Clip::Value(0.7).apply(&Compute::serial(), &mut gradient)?;
/// assert_eq!(gradient[1], -0.7);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "snake_case"))]
pub enum Clip {
    /// Largest magnitude of a single weight's gradient.
    Value(f32),
    /// Largest norm of all gradients together.
    Norm(f32),
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(limit) => write!(f, "value {limit}"),
            Self::Norm(limit) => write!(f, "norm {limit}"),
        }
    }
}

impl Clip {
    /// Checks that the limit is within its domain.
    ///
    /// # Errors
    /// [`Error::Config`] for a limit that is not positive and finite.
    pub fn validate(&self) -> Result<()> {
        let (Self::Value(limit) | Self::Norm(limit)) = *self;
        expect_positive("clip", limit)
    }

    /// Clips `gradient` in place and returns its norm before.
    ///
    /// # Errors
    /// [`Error::Config`] for a limit outside its domain, [`Error::NotFiniteGradient`] if the norm is
    /// not finite; the gradient is then left unchanged.
    pub fn apply(&self, compute: &Compute, gradient: &mut [f32]) -> Result<f64> {
        let _environment = FloatEnvironment::standard();
        self.validate()?;
        let norm = global_norm(compute, gradient);
        // Before the gradient changes: a factor of 0 or NaN would hide what went wrong.
        if !norm.is_finite() {
            return Err(Error::NotFiniteGradient { norm, step: None });
        }
        match *self {
            Self::Value(limit) => map_in_place(compute, gradient, Limit(limit)),
            Self::Norm(limit) => {
                // 3. Adding 10⁻⁶ is PyTorch's guard against a norm of 0.
                let factor = f64::from(limit) / (norm + 1e-6);
                // Shorter gradients keep their bits.
                if factor < 1.0 {
                    map_in_place(compute, gradient, Scale(factor as f32));
                }
            }
        }
        Ok(norm)
    }
}

/// Euclidean norm of all elements together, 0 for an empty slice.
///
/// A NaN or ±∞ among them gives NaN or ∞. Error and order of summation are those of the
/// [module](self).
#[must_use]
pub fn global_norm(compute: &Compute, gradient: &[f32]) -> f64 {
    let _environment = FloatEnvironment::standard();
    sum_of_squares(compute, gradient).sqrt()
}

/// Position at which more than one share is cut in two: after half of the shares.
fn half(elements: usize) -> usize {
    elements.div_ceil(SHARE) / 2 * SHARE
}

/// Steps 1 and 2: the tree over the shares.
fn sum_of_squares(compute: &Compute, elements: &[f32]) -> f64 {
    if elements.len() <= SHARE {
        // 1.
        return compute.simd().dispatch(SquareSum(elements));
    }
    // 2. Both halves are added in f64, the left one first, whichever thread is done first.
    let (left, right) = elements.split_at(half(elements.len()));
    let (left, right) =
        compute.join(|| sum_of_squares(compute, left), || sum_of_squares(compute, right));
    left + right
}

/// Step 1: the sum of the squares of one share.
struct SquareSum<'a>(&'a [f32]);

impl WithSimd for SquareSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        sum_row(simd, self.0, [self.0], Multiply)
    }
}

/// Limits each element to [−c, c].
#[derive(Clone, Copy)]
struct Limit(f32);

impl Lanewise<1, 0> for Limit {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [g]: [S::f32s; 1], []: [S::f32s; 0]) -> [S::f32s; 1] {
        // Comparisons with NaN are false, so NaN would stay; `apply` has rejected it.
        let (high, low) = (simd.splat_f32s(self.0), simd.splat_f32s(-self.0));
        let g = simd.select_f32s(simd.greater_than_f32s(g, high), high, g);
        [simd.select_f32s(simd.less_than_f32s(g, low), low, g)]
    }
}

/// Replaces every element by a function of it.
fn map_in_place(compute: &Compute, gradient: &mut [f32], f: impl Lanewise<1, 0> + Send + Sync) {
    if gradient.len() <= SHARE {
        return compute.simd().dispatch(ZipOp([gradient], [], f));
    }
    // Element by element: the cuts serve the threads alone.
    let (left, right) = gradient.split_at_mut(half(gradient.len()));
    compute.join(|| map_in_place(compute, left, f), || map_in_place(compute, right, f));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;

    fn gradient(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 70.0 - 0.7).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn matches_pytorch() {
        let text = include_str!("../../tests/golden/optimizers.json");
        let golden: serde_json::Value = serde_json::from_str(text).unwrap();
        let numbers = |values: &serde_json::Value| -> Vec<f64> {
            values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let start = numbers(&golden["gradients"][0]);
        let golden = &golden["clipped"];
        for set in InstructionSet::available() {
            let compute = Compute::new(set, 1).unwrap();
            for (clip, name) in [(Clip::Norm(1.5), "by_norm"), (Clip::Value(0.5), "by_value")] {
                let mut g: Vec<f32> = start.iter().map(|&g| g as f32).collect();
                let norm = clip.apply(&compute, &mut g).unwrap();
                assert!((norm / golden["norm"].as_f64().unwrap() - 1.0).abs() < 5e-7, "{norm}");
                for (found, expected) in g.iter().zip(numbers(&golden[name])) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 2e-7 * expected.abs(), "{set}, {clip}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn gives_the_same_bits_on_every_thread_count_and_instruction_set() {
        for n in (0..=67).chain([16_383, 16_384, 16_385, 100_003]) {
            let start = gradient(n);
            let exact = start.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let run = |compute: &Compute, clip: Clip| {
                let mut g = start.clone();
                let norm = clip.apply(compute, &mut g).unwrap();
                (norm.to_bits(), bits(&g))
            };
            for clip in [Clip::Norm(0.3), Clip::Norm(1e9), Clip::Value(0.3)] {
                let serial = Compute::new(InstructionSet::SCALAR, 1).unwrap();
                let expected = run(&serial, clip);
                let norm = f64::from_bits(expected.0);
                assert!((norm - exact).abs() <= 5e-7 * exact, "n={n}: {norm} {exact}");
                for set in InstructionSet::available() {
                    for threads in [1, 3] {
                        let compute = Compute::new(set, threads).unwrap();
                        assert_eq!(run(&compute, clip), expected, "{set}, {threads}, n={n}");
                    }
                }
            }
        }
    }

    #[test]
    fn leaves_short_gradients_unchanged() {
        let mut g = gradient(40);
        Clip::Norm(1e3).apply(&Compute::serial(), &mut g).unwrap();
        Clip::Value(1e3).apply(&Compute::serial(), &mut g).unwrap();
        assert_eq!(bits(&g), bits(&gradient(40)));
    }

    #[test]
    fn rejects_non_finite_gradients_and_invalid_limits() {
        for (value, found) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "inf"), (2e19, "inf")] {
            let mut g = gradient(40);
            g[17] = value;
            for clip in [Clip::Norm(1.0), Clip::Value(1.0)] {
                let before = bits(&g);
                let message = clip.apply(&Compute::serial(), &mut g).unwrap_err().to_string();
                assert!(message.starts_with(&format!("the norm of the gradient is {found}")));
                assert_eq!(bits(&g), before);
            }
        }
        for limit in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let message = Clip::Norm(limit).validate().unwrap_err().to_string();
            assert!(message.starts_with("`clip`: expected a positive finite number"), "{message}");
        }
    }
}
