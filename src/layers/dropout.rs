//! Inverted dropout, with counter-based random numbers: the same units are dropped on any thread.
//!
//! # Formula
//! With the probability p and the [uniform number](crate::random) u of (seed, [`Stream::Dropout`], step,
//! row, column), in [0, 1):
//!
//! ```text
//! y_i = x_i/(1 − p)  if u_i ≥ p,  else 0          dx_i = dy_i/(1 − p)  if u_i ≥ p,  else 0
//! ```
//!
//! The mean over u is x, so the trained network runs without dropout and without rescaling. Both passes
//! multiply by the same factor: the forward pass also multiplies the derivative of the activation
//! (its [slope](super::activation)) by it, and the backward pass needs no mask.
//!
//! # Contract
//! `p` is rounded to f32; since u is a multiple of 2⁻²⁴, a unit is dropped with probability
//! `⌈p·2²⁴⌉/2²⁴`. The factor `1/(1 − p)` is computed in f64 and rounded once, and its product rounds once.
//! A dropped element becomes 0 with the sign of x; NaN and ±∞ become NaN and stay visible. With p = 0 no
//! bit changes.
//!
//! Sources: Srivastava et al., "Dropout" (2014); `torch.nn.Dropout` for the scaling in training.

use crate::error::{Error, Result, expect_below_one, expect_length};
use crate::random::{COLUMN_LIMIT, INDEX_LIMIT, RowKey, Stream, fill_uniform_row};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, zip};
use pulp::{Simd, WithSimd};

/// Multiplies two arrays by 0 or `scale`, depending on a uniform number.
#[derive(Clone, Copy)]
struct Mask {
    probability: f32,
    scale: f32,
}

impl Lanewise<2, 1> for Mask {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        simd: S,
        [y, slope]: [S::f32s; 2],
        [uniform]: [S::f32s; 1],
    ) -> [S::f32s; 2] {
        let dropped = simd.less_than_f32s(uniform, simd.splat_f32s(self.probability));
        let scale = simd.splat_f32s(self.scale);
        // Multiplied, not selected: NaN and ±∞ must not become 0.
        let factor = simd.select_f32s(dropped, simd.splat_f32s(0.0), scale);
        [simd.mul_f32s(y, factor), simd.mul_f32s(slope, factor)]
    }
}

/// Columns drawn at once: whole groups of random numbers, few enough for the stack.
const CHUNK: usize = 512;

/// A row without its padding: `y`, `slope`, the probability and the key of the row.
struct MaskRow<'a>(&'a mut [f32], &'a mut [f32], f32, RowKey);

impl WithSimd for MaskRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(y, slope, probability, mut key) = self;
        let scale = (1.0 / (1.0 - f64::from(probability))) as f32;
        let mask = Mask { probability, scale };
        // The numbers are drawn into 2 KiB on the stack, and used at once.
        let mut uniform = [0.0; CHUNK];
        for (y, slope) in y.chunks_mut(CHUNK).zip(slope.chunks_mut(CHUNK)) {
            let uniform = &mut uniform[..y.len()];
            fill_uniform_row(simd, uniform, key);
            zip(simd, [y, slope], [uniform], mask);
            // The next chunk continues the same row of random numbers.
            key = key.skip(CHUNK);
        }
    }
}

/// Multiplies `y` and `slope`, one row without its padding, by the factors of the row `key`. The
/// probability is in [0, 1).
#[inline(always)]
pub(crate) fn mask_row<S: Simd>(
    simd: S,
    y: &mut [f32],
    slope: &mut [f32],
    probability: f32,
    key: RowKey,
) {
    simd.vectorize(MaskRow(y, slope, probability, key));
}

/// Multiplies `y` and `slope`, which belong to row `row` of step `step`, by 0 or `1/(1 − probability)`.
///
/// ```
/// use elbo::{layers::dropout, simd::InstructionSet};
///
/// let (mut y, mut slope) = ([1.0; 1000], [1.0; 1000]);
/// dropout::mask(InstructionSet::detect(), &mut y, &mut slope, 0.2, 1, 0, 0)?;
/// assert!(y.iter().all(|&y| y == 0.0 || y == 1.25) && y == slope);
/// let dropped = y.iter().filter(|&&y| y == 0.0).count();
/// assert!((150..250).contains(&dropped));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] for a probability outside [0, 1), a step or row of 2⁴⁸ or above, or more than 2²⁶
/// columns; [`Error::Shape`] if the lengths differ.
pub fn mask(
    simd: InstructionSet,
    y: &mut [f32],
    slope: &mut [f32],
    probability: f32,
    seed: u64,
    step: u64,
    row: u64,
) -> Result<()> {
    expect_below_one("dropout", probability)?;
    expect_length("slope", y.len(), slope.len())?;
    for (setting, value) in [("step", step), ("row", row)] {
        if value >= INDEX_LIMIT {
            return Err(Error::config(setting, "below 2^48", value));
        }
    }
    if y.len() > COLUMN_LIMIT {
        return Err(Error::config("y", "at most 2^26 columns", y.len()));
    }
    // Seed, step, row and column are all that a factor depends on.
    let key = RowKey::new(seed, Stream::Dropout, step, row);
    simd.dispatch(MaskRow(y, slope, probability, key));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use ndarray::Array2;

    #[test]
    fn matches_the_uniform_numbers_on_every_instruction_set() {
        let (seed, step, row) = (7, (1 << 40) + 3, 11);
        for n in (0..=67).chain([511, 512, 513, 1100]) {
            let mut uniform = Array2::zeros((1, n));
            let generator = Generator::new(seed);
            let portable = InstructionSet::SCALAR;
            generator.uniform(portable, uniform.view_mut(), Stream::Dropout, step, row).unwrap();
            for probability in [0.0, 0.1, 0.5, 0.999] {
                let scale = (1.0 / (1.0 - f64::from(probability))) as f32;
                for set in InstructionSet::available() {
                    let start: Vec<f32> = (0..n).map(|i| i as f32 - 20.5).collect();
                    let (mut y, mut slope) = (start.clone(), vec![1.0; n]);
                    mask(set, &mut y, &mut slope, probability, seed, step, row).unwrap();
                    for (i, &u) in uniform.iter().enumerate() {
                        let factor = if u >= probability { scale } else { 0.0 };
                        assert_eq!(
                            [y[i], slope[i]],
                            [start[i] * factor, factor],
                            "{set}, {i} of {n}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn keeps_nan_and_infinity_visible() {
        let (mut y, mut slope) = ([f32::NAN; 64], [f32::INFINITY; 64]);
        mask(InstructionSet::detect(), &mut y, &mut slope, 0.5, 1, 0, 0).unwrap();
        assert!(y.iter().chain(&slope).all(|v| !v.is_finite()));
    }

    #[test]
    fn rejects_invalid_arguments_by_name() {
        let run = |probability, step| {
            mask(InstructionSet::detect(), &mut [0.0], &mut [0.0], probability, 1, step, 0)
                .unwrap_err()
                .to_string()
        };
        for probability in [1.0, -0.1, f32::NAN] {
            let message = run(probability, 0);
            let expected = "`dropout`: expected a number in [0, 1), found ";
            assert!(message.starts_with(expected), "{message}");
        }
        assert_eq!(run(0.5, 1 << 48), "`step`: expected below 2^48, found 281474976710656");
    }
}
