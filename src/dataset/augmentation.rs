//! Random augmentation of the data: dynamic binarization and uniform dequantization.

use crate::error::{Error, Result};
use crate::random::{COLUMN_LIMIT, INDEX_LIMIT, RowKey, Stream, fill_uniform_row};
use crate::simd::InstructionSet;
use crate::simd::lanes::{Lanewise, zip};
use pulp::{Simd, WithSimd};
use std::fmt;
use std::str::FromStr;

/// Random change of each row, drawn anew every time the row is read, in training and in evaluation.
///
/// With u the uniform number in [0, 1) of (seed, stream, step, row, column), see
/// [`random`](crate::random):
///
/// | | | for |
/// |---|---|---|
/// | `Binarize` | `t ← 1 if u < t, else 0` | gray values as probabilities of ink: Salakhutdinov & Murray 2008, Burda et al. 2016 |
/// | `Dequantize` | `x ← (x·(L − 1) + u)/L` | densities on `L` gray levels: Uria et al. 2013, Theis et al. 2016 |
///
/// Binarization keeps 0 and 1. Dequantized level k of L (the value k/(L − 1)) is uniform on
/// [k/L, (k + 1)/L), rounds twice and stays below 1; the log-density of a model of it, less `D·ln L`, bounds
/// the log-probability of the level from below. Values outside [0, 1] and NaN stay unchanged: the
/// likelihood names them in its error.
///
/// ```
/// use elbo::Augmentation;
///
/// assert_eq!("dequantize".parse::<Augmentation>()?, Augmentation::Dequantize { levels: 256 });
/// assert_eq!("dequantize:16".parse::<Augmentation>()?.to_string(), "dequantize:16");
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(rename_all = "lowercase"))]
pub enum Augmentation {
    /// No change.
    #[default]
    None,
    /// Replaces each value by a draw from the Bernoulli distribution with that probability.
    #[cfg_attr(feature = "safetensors", serde(rename = "binarise", alias = "binarize"))]
    Binarize,
    /// Spreads each gray level evenly over its part of [0, 1).
    #[cfg_attr(feature = "safetensors", serde(rename = "dequantise", alias = "dequantize"))]
    Dequantize {
        /// Number L of gray levels; 256 if only the name is given.
        levels: u32,
    },
}

impl Augmentation {
    /// Name: `none`, `binarize` or `dequantize`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Binarize => "binarize",
            Self::Dequantize { .. } => "dequantize",
        }
    }

    /// Checks the number of gray levels.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than 2 gray levels or more than 65,536.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::Dequantize { levels } if !(2..=1 << 16).contains(&levels) => {
                Err(Error::config("levels", "from 2 to 65536", levels))
            }
            _ => Ok(()),
        }
    }

    /// Stream of random numbers used in training; `None` without augmentation.
    #[must_use]
    pub fn training_stream(self) -> Option<Stream> {
        match self {
            Self::None => None,
            Self::Binarize => Some(Stream::Binarize),
            Self::Dequantize { .. } => Some(Stream::Dequantize),
        }
    }

    /// Stream of random numbers used in evaluation; `None` without augmentation.
    #[must_use]
    pub fn evaluation_stream(self) -> Option<Stream> {
        match self {
            Self::None => None,
            Self::Binarize => Some(Stream::EvaluateBinarize),
            Self::Dequantize { .. } => Some(Stream::EvaluateDequantize),
        }
    }

    /// Augments `values`, row `row` of step `step`, in place with the random numbers of a seed and stream.
    ///
    /// A [`Trainer`](crate::train::Trainer) uses [`Self::training_stream`], an evaluation
    /// [`Self::evaluation_stream`].
    ///
    /// ```
    /// use elbo::{Augmentation, random::Stream, simd::InstructionSet};
    ///
    /// let mut row = [0.0, 0.5, 1.0];
    /// let simd = InstructionSet::detect();
    /// Augmentation::Binarize.apply(simd, &mut row, 1, Stream::Binarize, 0, 0)?;
    /// assert!(row[0] == 0.0 && (row[1] == 0.0 || row[1] == 1.0) && row[2] == 1.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for a setting outside its domain, a step or row of 2⁴⁸ or above, or more than
    /// 2²⁶ values.
    pub fn apply(
        self,
        simd: InstructionSet,
        values: &mut [f32],
        seed: u64,
        stream: Stream,
        step: u64,
        row: u64,
    ) -> Result<()> {
        self.validate()?;
        for (setting, value) in [("step", step), ("row", row)] {
            if value >= INDEX_LIMIT {
                return Err(Error::config(setting, "below 2^48", value));
            }
        }
        if values.len() > COLUMN_LIMIT {
            return Err(Error::config("values", "at most 2^26 columns", values.len()));
        }
        simd.dispatch(Augment(self, values, RowKey::new(seed, stream, step, row)));
        Ok(())
    }

    /// Augments a row in place, without its padding, with the random numbers of `key`.
    #[inline(always)]
    pub(crate) fn augment_row<S: Simd>(self, simd: S, row: &mut [f32], key: RowKey) {
        if self != Self::None {
            simd.vectorize(Augment(self, row, key));
        }
    }
}

/// Columns drawn at once: whole groups of random numbers, few enough for the stack.
const CHUNK: usize = 512;

/// A row without its padding, and its key.
struct Augment<'a>(Augmentation, &'a mut [f32], RowKey);

impl WithSimd for Augment<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(augmentation, row, mut key) = self;
        let mut uniform = [0.0; CHUNK];
        for row in row.chunks_mut(CHUNK) {
            let uniform = &mut uniform[..row.len()];
            fill_uniform_row(simd, uniform, key);
            match augmentation {
                Augmentation::None => {}
                Augmentation::Binarize => zip(simd, [row], [uniform], Binarize),
                Augmentation::Dequantize { levels } => {
                    zip(simd, [row], [uniform], Dequantize(levels as f32));
                }
            }
            key = key.skip(CHUNK);
        }
    }
}

/// Returns `new` where x is in [0, 1], else x itself.
#[inline(always)]
fn where_accepted<S: Simd>(simd: S, x: S::f32s, new: S::f32s) -> S::f32s {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    // Both comparisons are false for NaN, which stays.
    let new = simd.select_f32s(simd.greater_than_or_equal_f32s(x, zero), new, x);
    simd.select_f32s(simd.less_than_or_equal_f32s(x, one), new, x)
}

#[derive(Clone, Copy)]
struct Binarize;

impl Lanewise<1, 1> for Binarize {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [t]: [S::f32s; 1], [u]: [S::f32s; 1]) -> [S::f32s; 1] {
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        // u < 1, so t = 1 always gives 1, and u ≥ 0, so t = 0 never does.
        let drawn = simd.select_f32s(simd.less_than_f32s(u, t), one, zero);
        [where_accepted(simd, t, drawn)]
    }
}

/// Dequantization with a number of levels.
#[derive(Clone, Copy)]
struct Dequantize(f32);

impl Lanewise<1, 1> for Dequantize {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::f32s; 1], [u]: [S::f32s; 1]) -> [S::f32s; 1] {
        let highest = simd.splat_f32s(self.0 - 1.0);
        let spread = simd.div_f32s(simd.mul_add_f32s(x, highest, u), simd.splat_f32s(self.0));
        // Rounding may reach 1, which is outside of [0, 1).
        let below = simd.splat_f32s(1.0 - f32::EPSILON / 2.0);
        let spread = simd.select_f32s(simd.greater_than_f32s(spread, below), below, spread);
        [where_accepted(simd, x, spread)]
    }
}

/// Writes the [name](Augmentation::name), followed by a colon and the levels if they are not 256.
impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Dequantize { levels } if *levels != 256 => write!(f, ":{levels}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Augmentation {
    type Err = Error;

    /// Parses `none`, `binarize`, `dequantize`, or `dequantize:` and the number of levels.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name or a number of levels outside its domain.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::config("augmentation", "none, binarize or dequantize", text);
        let augmentation = match text.split_once(':') {
            None if text == "none" => Self::None,
            None if matches!(text, "binarize" | "binarise") => Self::Binarize,
            None if matches!(text, "dequantize" | "dequantise") => Self::Dequantize { levels: 256 },
            Some(("dequantize" | "dequantise", levels)) => {
                Self::Dequantize { levels: levels.parse().map_err(|_| unknown())? }
            }
            _ => return Err(unknown()),
        };
        augmentation.validate()?;
        Ok(augmentation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use ndarray::Array2;

    fn augmented(set: InstructionSet, augmentation: Augmentation, row: &[f32]) -> Vec<f32> {
        let mut row = row.to_vec();
        let stream = augmentation.training_stream().unwrap_or(Stream::Noise);
        augmentation.apply(set, &mut row, 3, stream, 5, 8).unwrap();
        row
    }

    fn uniform(stream: Stream, n: usize) -> Vec<f32> {
        let mut uniform = Array2::zeros((1, n));
        let generator = Generator::new(3);
        generator.uniform(InstructionSet::SCALAR, uniform.view_mut(), stream, 5, 8).unwrap();
        uniform.into_raw_vec_and_offset().0
    }

    #[test]
    fn follow_the_uniform_numbers_on_every_instruction_set() {
        for n in (0..=67).chain([511, 512, 513, 1100]) {
            let row: Vec<f32> = (0..n).map(|i| (i * 37 % 256) as f32 / 255.0).collect();
            let u = uniform(Stream::Binarize, n);
            let binary: Vec<f32> =
                row.iter().zip(u).map(|(&t, u)| f32::from(u8::from(u < t))).collect();
            let u = uniform(Stream::Dequantize, n);
            for set in InstructionSet::available() {
                assert_eq!(augmented(set, Augmentation::None, &row), row, "{set}");
                assert_eq!(augmented(set, Augmentation::Binarize, &row), binary, "{set}");
                let found = augmented(set, Augmentation::Dequantize { levels: 256 }, &row);
                for i in 0..n {
                    let level = f64::from(i as u32 * 37 % 256);
                    let exact = (level + f64::from(u[i])) / 256.0;
                    assert!((f64::from(found[i]) - exact).abs() < 1.3e-7, "{set}: {}", found[i]);
                }
            }
        }
    }

    #[test]
    fn black_and_white_stay_and_means_are_kept() {
        let set = InstructionSet::detect();
        for value in [0.0, 1.0] {
            assert_eq!(augmented(set, Augmentation::Binarize, &[value; 999]), [value; 999]);
        }
        let row = [0.3_f32; 100_000];
        let drawn = augmented(set, Augmentation::Binarize, &row);
        let mean = drawn.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        assert!((mean - 0.3).abs() < 0.006, "{mean}"); // four standard errors
        // White stays below 1, also where rounding would bring it there.
        for levels in [2, 256, 1 << 16] {
            let drawn = augmented(set, Augmentation::Dequantize { levels }, &[1.0; 100_000]);
            assert!(drawn.iter().all(|&v| v < 1.0 && v >= 1.0 - 1.0 / levels as f32), "{levels}");
        }
    }

    #[test]
    fn leaves_invalid_values_for_the_likelihood() {
        let bad = [f32::NAN, -0.1, 1.1, f32::INFINITY, f32::NEG_INFINITY, 1.000_000_1];
        for set in InstructionSet::available() {
            for augmentation in [Augmentation::Binarize, Augmentation::Dequantize { levels: 256 }] {
                let found = augmented(set, augmentation, &bad);
                let same = found.iter().zip(&bad).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{set}, {augmentation}: {found:?}");
            }
        }
    }

    #[test]
    fn names_and_settings_round_trip() {
        let levels = |levels| Augmentation::Dequantize { levels };
        for augmentation in [Augmentation::None, Augmentation::Binarize, levels(256), levels(16)] {
            assert_eq!(augmentation.to_string().parse::<Augmentation>().unwrap(), augmentation);
        }
        assert_eq!(
            "dynamic".parse::<Augmentation>().unwrap_err().to_string(),
            "`augmentation`: expected none, binarize or dequantize, found dynamic"
        );
        assert_eq!(
            "dequantize:1".parse::<Augmentation>().unwrap_err().to_string(),
            "`levels`: expected from 2 to 65536, found 1"
        );
    }

    #[test]
    fn training_and_evaluation_use_separate_streams() {
        let streams = |augmentation: Augmentation| {
            [augmentation.training_stream(), augmentation.evaluation_stream()]
                .map(|stream| stream.map(|stream| stream as u8))
        };
        assert_eq!(streams(Augmentation::None), [None, None]);
        assert_eq!(streams(Augmentation::Binarize), [Some(6), Some(8)]);
        assert_eq!(streams(Augmentation::Dequantize { levels: 2 }), [Some(7), Some(9)]);
    }
}
