//! The one error type of the crate.

use std::fmt::Display;
use std::path::PathBuf;

/// What went wrong, in words that say what would be right.
///
/// New variants may come: match with a wildcard arm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array whose shape does not fit the others or the model.
    #[error("`{argument}`: expected {expected}, found {found}")]
    Shape {
        /// The argument, by its name in the function's signature.
        argument: &'static str,
        /// What would fit, such as `shape [2, 784]` (rows, columns) or `length 784`.
        expected: String,
        /// The shape or length that was given.
        found: String,
    },

    /// An array whose rows are not contiguous in memory.
    #[error(
        "`{argument}`: rows must be contiguous (column stride 1, rows not overlapping), \
         found strides {strides:?}; pass `.as_standard_layout()` of it"
    )]
    Layout {
        /// The argument, by its name in the function's signature.
        argument: &'static str,
        /// The strides that were given, in elements.
        strides: Vec<isize>,
    },

    /// A target that the likelihood does not accept.
    #[error(
        "row {row}, column {column}: {value} is outside {accepted}; \
         scale the data into that range{}",
        other_likelihood(*value, accepted)
    )]
    TargetOutOfRange {
        /// The row of the data.
        row: usize,
        /// The column of the data.
        column: usize,
        /// The value found there.
        value: f32,
        /// The range that the likelihood accepts, such as `[0, 1]`.
        accepted: &'static str,
    },

    /// NaN or ±∞ in the data.
    #[error("row {row}, column {column}: {value} in the data{}", at_step(*step))]
    NotFiniteData {
        /// The row of the data.
        row: usize,
        /// The column of the data.
        column: usize,
        /// The value found there.
        value: f32,
        /// The training step that met it, if it was met in training.
        step: Option<u64>,
    },

    /// A loss that is NaN or ±∞.
    #[error(
        "the {term} of row {row} is {value}{}",
        match step {
            Some(step) => format!(
                ", at step {step}; the weights were left as they were: try a smaller learning rate"
            ),
            None => "; the weights of this model do not make sense of this row".to_owned(),
        }
    )]
    NotFiniteLoss {
        /// `reconstruction` or `KL divergence`.
        term: &'static str,
        /// The row of the data.
        row: usize,
        /// The loss of that row, in nats.
        value: f64,
        /// The training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// A gradient whose norm is NaN or ±∞, or whose square would be.
    #[error(
        "the norm of the gradient is {norm}{}",
        match step {
            Some(step) => format!(
                ", at step {step}; the weights were left as they were: try a smaller learning rate"
            ),
            None => "; neither clipping nor a step can be made of it".to_owned(),
        }
    )]
    NotFiniteGradient {
        /// The norm.
        norm: f64,
        /// The training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// A log-variance whose exponential is no longer a number to compute with.
    #[error(
        "latent dimension {dimension} of row {row}: exp({}logvar) overflows at logvar = {value}{}; \
         a soft clamp of logvar keeps it in bounds, and so may a smaller learning rate or data of \
         moderate size",
        if *value < 0.0 { "-" } else { "" },
        match step {
            Some(step) => format!(", at step {step}; the weights were left as they were"),
            None => String::new(),
        }
    )]
    LogvarOverflow {
        /// The row of the data.
        row: usize,
        /// The latent dimension, counted from 0.
        dimension: usize,
        /// The encoder's logvar.
        value: f32,
        /// The training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// A setting that makes no sense, found when the configuration is built.
    #[error("`{setting}`: expected {expected}, found {found}")]
    Config {
        /// The setting, by the name of its builder method.
        setting: &'static str,
        /// What would be accepted.
        expected: &'static str,
        /// What was given.
        found: String,
    },

    /// An instruction set that is unknown or not there.
    #[error("instruction set `{requested}`: this machine has {available} (or `auto`)")]
    InstructionSet {
        /// The name asked for.
        requested: String,
        /// The names that can be had.
        available: String,
    },

    /// A thread pool that the operating system refused.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the operating system said.
        reason: String,
    },

    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A model file that is damaged or not a model file.
    #[error("{}: {reason}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

fn at_step(step: Option<u64>) -> String {
    step.map_or_else(String::new, |step| format!(", at step {step}"))
}

/// The likelihood that does accept such a value.
fn other_likelihood(value: f32, accepted: &str) -> &'static str {
    if accepted == "[0, 1]" && (-1.0..0.0).contains(&value) {
        ", or, if they lie in [-1, 1], choose the squared error with a tanh output or a Gaussian \
         likelihood"
    } else {
        ", or choose a likelihood of any numbers: a Gaussian or the squared error"
    }
}

impl Error {
    /// The same error, met at this training step.
    pub(crate) fn at(mut self, now: u64) -> Self {
        if let Self::NotFiniteData { step, .. }
        | Self::NotFiniteLoss { step, .. }
        | Self::NotFiniteGradient { step, .. }
        | Self::LogvarOverflow { step, .. } = &mut self
        {
            *step = Some(now);
        }
        self
    }

    /// A shape that is not the expected one.
    pub(crate) fn shape(argument: &'static str, expected: [usize; 2], found: &[usize]) -> Self {
        Self::Shape {
            argument,
            expected: format!("shape {expected:?}"),
            found: format!("{found:?}"),
        }
    }

    /// A setting outside its domain.
    pub(crate) fn config(
        setting: &'static str,
        expected: &'static str,
        found: impl Display,
    ) -> Self {
        Self::Config { setting, expected, found: found.to_string() }
    }
}

/// Returns an error unless `value` is finite and at least 0.
pub(crate) fn expect_non_negative<T: Copy + Display + Into<f64>>(
    setting: &'static str,
    value: T,
) -> Result<()> {
    let number = value.into();
    if number.is_finite() && number >= 0.0 {
        return Ok(());
    }
    Err(Error::config(setting, "a non-negative finite number", value))
}

/// Returns an error unless `value` is finite and above 0.
pub(crate) fn expect_positive<T: Copy + Display + Into<f64>>(
    setting: &'static str,
    value: T,
) -> Result<()> {
    let number = value.into();
    if number.is_finite() && number > 0.0 {
        return Ok(());
    }
    Err(Error::config(setting, "a positive finite number", value))
}

/// Returns an error unless `value` is in [0, 1).
pub(crate) fn expect_below_one<T: Copy + Display + Into<f64>>(
    setting: &'static str,
    value: T,
) -> Result<()> {
    if (0.0..1.0).contains(&value.into()) {
        return Ok(());
    }
    Err(Error::config(setting, "a number in [0, 1)", value))
}

/// Returns an error unless an array has the expected shape.
pub(crate) fn expect_shape(
    argument: &'static str,
    expected: [usize; 2],
    found: &[usize],
) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::shape(argument, expected, found)) }
}

/// Returns an error unless a slice has the expected length.
pub(crate) fn expect_length(argument: &'static str, expected: usize, found: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape {
        argument,
        expected: format!("length {expected}"),
        found: format!("length {found}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_where_and_what_would_be_right() {
        let cases = [
            (
                Error::shape("targets", [2, 784], &[2, 783]),
                "`targets`: expected shape [2, 784], found [2, 783]",
            ),
            (
                Error::TargetOutOfRange { row: 3, column: 5, value: 1.5, accepted: "[0, 1]" },
                "row 3, column 5: 1.5 is outside [0, 1]; scale the data into that range, or choose a \
                 likelihood of any numbers: a Gaussian or the squared error",
            ),
            (
                Error::NotFiniteData { row: 3, column: 5, value: f32::NAN, step: Some(7) },
                "row 3, column 5: NaN in the data, at step 7",
            ),
            (
                Error::TargetOutOfRange { row: 0, column: 1, value: -0.5, accepted: "[0, 1]" },
                "row 0, column 1: -0.5 is outside [0, 1]; scale the data into that range, or, if \
                 they lie in [-1, 1], choose the squared error with a tanh output or a Gaussian \
                 likelihood",
            ),
            (Error::config("latent", "at least 1", 0), "`latent`: expected at least 1, found 0"),
        ];
        for (error, message) in cases {
            assert_eq!(error.to_string(), message);
        }
    }
}
