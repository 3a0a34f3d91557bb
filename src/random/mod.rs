//! Counter-based random numbers: the same on any thread, in any order.
//!
//! A number depends on `(seed, stream, step, row, column)` alone. There is no state to advance
//! or to share, so a row may be drawn by any thread, twice, or not at all, and a run that is
//! resumed at step 1000 draws the same numbers as an uninterrupted one.
//!
//! # The mapping
//! Philox 4×32-10 ([`philox4x32`]) turns a counter of four 32-bit words under a key of two into
//! four random words. With `stream` as the number of the [`Stream`] and all fields in bits:
//!
//! | word | bits |
//! |---|---|
//! | `key[0]`, `key[1]` | the seed's low and high half |
//! | `counter[0]` | block (24) + stream·2²⁴ |
//! | `counter[1]` | the row's low 32 bits |
//! | `counter[2]` | the step's low 32 bits |
//! | `counter[3]` | bits 32..48 of the row + (bits 32..48 of the step)·2¹⁶ |
//!
//! Rows and steps are below 2⁴⁸, columns below 2²⁶. Sixteen consecutive blocks serve 64
//! consecutive columns: column `c` takes word `⌊c/16⌋ mod 4` of block `16·⌊c/64⌋ + c mod 16`. So
//! a register of any width holds neighboring columns and nothing has to be transposed.
//!
//! - **Uniform**: the high 24 bits of the word, times 2⁻²⁴: exact, in [0, 1).
//! - **Normal**: the Box-Muller transform of words (0, 1) of a block, and of words (2, 3). The
//!   first word gives `u = (word | 1)·2⁻³²`, rounded to `f32` and never 0, the second the angle
//!   `θ = 2π·word·2⁻³²`; the two normal numbers are `√(−2·ln u)·cos θ` at the first word's
//!   column and `√(−2·ln u)·sin θ` at the second's. They lie within ±6.67, and differ from
//!   these formulas in exact arithmetic by less than [`NORMAL_ERROR`].
//!
//! The four words of block `b` are those of columns `c`, `c+16`, `c+32` and `c+48`, where
//! `c = 64·⌊b/16⌋ + b mod 16`. Drawing one column of a row by hand:
//!
//! ```
//! use elbo::random::{Generator, Stream, philox4x32};
//! use elbo::simd::InstructionSet;
//! use ndarray::Array2;
//!
//! let (seed, step, row, column) = (7_u64, 3_u64, 5_u64, 83_usize);
//! let block = (16 * (column / 64) + column % 16) as u32;
//! let words = philox4x32(
//!     [block | (Stream::Evaluate as u32) << 24, row as u32, step as u32, 0],
//!     [seed as u32, (seed >> 32) as u32],
//! );
//! let word = words[column / 16 % 4];
//!
//! let mut rows = Array2::zeros((1, 100));
//! Generator::new(seed).uniform(InstructionSet::detect(), rows.view_mut(), Stream::Evaluate, step, row)?;
//! assert_eq!(rows[[0, column]], (word >> 8) as f32 / 16_777_216.0);
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! # Sources
//! Salmon, Moraes, Dror & Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011), for
//! Philox; Box & Muller, *A note on the generation of random normal deviates* (1958).

mod fill;
mod philox;
mod shuffle;
#[cfg(test)]
mod statistics;

pub use fill::NORMAL_ERROR;
pub(crate) use fill::{RowKey, fill_normal_row, fill_normal_rows, fill_uniform_row};
pub use philox::philox4x32;

use crate::error::{Error, Result};
use crate::simd::InstructionSet;
use ndarray::ArrayViewMut2;
use pulp::{Simd, WithSimd};

/// Purpose of a random number. Streams of one seed are independent of each other.
///
/// The values are part of the bits contract: they never change, and a new purpose takes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Stream {
    /// Weights and biases before the first step.
    Initialize = 0,
    /// The noise of the reparameterization in training.
    Noise = 1,
    /// The order of the examples in an epoch.
    Shuffle = 2,
    /// Latent codes drawn from the prior.
    Prior = 3,
    /// The noise of the reparameterization in evaluation.
    Evaluate = 4,
    /// Dropout masks of hidden layers in training.
    Dropout = 5,
    /// Gray values drawn as black or white in training.
    Binarize = 6,
    /// Gray levels spread over their intervals in training.
    Dequantize = 7,
    /// Gray values drawn as black or white in evaluation.
    EvaluateBinarize = 8,
    /// Gray levels spread over their intervals in evaluation.
    EvaluateDequantize = 9,
    /// Data drawn from the likelihood.
    Data = 10,
}

/// Rows and steps must be below this.
pub(crate) const INDEX_LIMIT: u64 = 1 << 48;

/// A row must not be longer than this.
pub(crate) const COLUMN_LIMIT: usize = 1 << 26;

/// Generator of the random numbers of one seed.
///
/// ```
/// use elbo::random::{Generator, Stream};
/// use elbo::simd::InstructionSet;
/// use ndarray::{Array2, s};
///
/// let generator = Generator::new(1);
/// let mut noise = Array2::zeros((128, 20));
/// generator.normal(InstructionSet::detect(), noise.view_mut(), Stream::Noise, 42, 0)?;
///
/// // Rows 100 to 127 alone, on the portable instruction set: the same bits.
/// let mut part = Array2::zeros((28, 20));
/// generator.normal(InstructionSet::SCALAR, part.view_mut(), Stream::Noise, 42, 100)?;
/// assert_eq!(part, noise.slice(s![100.., ..]));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generator {
    seed: u64,
}

impl Generator {
    /// Creates the generator of `seed`; every seed is as good as any other.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// Overwrites `out[i][c]` with the uniform number in [0, 1) of `(stream, step, first_row + i,
    /// c)`: a multiple of 2⁻²⁴, by the mapping of the [module](self).
    ///
    /// # Errors
    /// [`Error::Layout`] if the rows of `out` are not contiguous; [`Error::Config`] if `step` or
    /// a row reaches 2⁴⁸ or there are more than 2²⁶ columns.
    pub fn uniform(
        self,
        simd: InstructionSet,
        out: ArrayViewMut2<'_, f32>,
        stream: Stream,
        step: u64,
        first_row: u64,
    ) -> Result<()> {
        let (seed, distribution) = (self.seed, Distribution::Uniform);
        Fill { out, seed, stream, step, first_row, distribution }.check_and_run(simd)
    }

    /// Overwrites `out[i][c]` with the normal number (mean 0, variance 1) of `(stream, step,
    /// first_row + i, c)`, by the mapping of the [module](self): finite, within ±6.67, off by
    /// less than [`NORMAL_ERROR`].
    ///
    /// # Errors
    /// [`Error::Layout`] if the rows of `out` are not contiguous; [`Error::Config`] if `step` or
    /// a row reaches 2⁴⁸ or there are more than 2²⁶ columns.
    pub fn normal(
        self,
        simd: InstructionSet,
        out: ArrayViewMut2<'_, f32>,
        stream: Stream,
        step: u64,
        first_row: u64,
    ) -> Result<()> {
        let (seed, distribution) = (self.seed, Distribution::Normal);
        Fill { out, seed, stream, step, first_row, distribution }.check_and_run(simd)
    }

    /// Overwrites `out` with a random order of `0..out.len()`, each of the `n!` orders equally
    /// likely: the order of epoch `epoch`, from [`Stream::Shuffle`].
    ///
    /// # Method
    /// Fisher-Yates: `out` starts as 0, 1, 2 …; then for `i` from `n − 1` down to 1, elements `i`
    /// and `j` change places, `j` uniform on `0..=i`. For `j` the next word of the stream is
    /// multiplied by `i + 1`: the product's high half is `j`, unless its low half is below
    /// `2³² mod (i + 1)`; then the word is skipped, so that no `j` is favored (Lemire 2019).
    /// The words are those of the blocks of step `epoch` in ascending order: after 2²⁴ blocks
    /// of row 0 come those of row 1.
    ///
    /// # Errors
    /// [`Error::Config`] if `epoch` is 2⁴⁸ or above, or `out` is longer than 2³².
    ///
    /// ```
    /// let mut order = [0; 5];
    /// elbo::random::Generator::new(1).permutation(0, &mut order)?;
    /// order.sort();
    /// assert_eq!(order, [0, 1, 2, 3, 4]);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn permutation(self, epoch: u64, out: &mut [u32]) -> Result<()> {
        if epoch >= INDEX_LIMIT {
            return Err(Error::config("epoch", "below 2^48", epoch));
        }
        // An index is one word of the stream.
        if out.len() as u64 > 1 << 32 {
            return Err(Error::config("out", "at most 2^32 elements", out.len()));
        }
        shuffle::permutation(self.seed, epoch, out);
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Distribution {
    Uniform,
    Normal,
}

/// Rows of one distribution, on one instruction set.
struct Fill<'a> {
    out: ArrayViewMut2<'a, f32>,
    seed: u64,
    stream: Stream,
    step: u64,
    first_row: u64,
    distribution: Distribution,
}

impl Fill<'_> {
    fn check_and_run(self, simd: InstructionSet) -> Result<()> {
        let (step, first_row) = (self.step, self.first_row);
        let (rows, columns) = self.out.dim();
        // These are fields of the counter: a larger number would spill into the next one's bits.
        if step >= INDEX_LIMIT {
            return Err(Error::config("step", "below 2^48", step));
        }
        if first_row.checked_add(rows as u64).is_none_or(|end| end > INDEX_LIMIT) {
            let found = format!("{first_row} and {rows} rows");
            return Err(Error::config("first_row", "the last row below 2^48", found));
        }
        if columns > COLUMN_LIMIT {
            return Err(Error::config("out", "at most 2^26 columns", columns));
        }
        if self.out.is_empty() {
            return Ok(());
        }
        // Rows may be apart, and a single column may have any stride.
        if columns > 1 && self.out.strides()[1] != 1 {
            return Err(Error::Layout { argument: "out", strides: self.out.strides().to_vec() });
        }
        simd.dispatch(self);
        Ok(())
    }
}

impl WithSimd for Fill<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for (row, mut out) in (self.first_row..).zip(self.out.rows_mut()) {
            let out = out.as_slice_mut().expect("the layout was checked");
            // Rows share nothing but the seed: any part of them may be drawn alone.
            let key = RowKey::new(self.seed, self.stream, self.step, row);
            match self.distribution {
                Distribution::Uniform => fill_uniform_row(simd, out, key),
                Distribution::Normal => fill_normal_row(simd, out, key),
            }
        }
    }
}
