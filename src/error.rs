//! Error type of the crate, and the checks that several modules share.

use std::fmt::Display;
use std::path::PathBuf;

/// Failure of a function of this crate, with a message that says what is wrong, where, and what to do.
///
/// New variants may be added: match with a wildcard arm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Array whose shape does not fit the other arguments or the model.
    #[error("`{argument}`: expected {expected}, found {found}")]
    Shape {
        /// Argument, by its name in the function's signature.
        argument: &'static str,
        /// Expected shape or length, such as `shape [2, 784]` (rows, columns) or `length 784`.
        expected: String,
        /// Shape or length of the argument.
        found: String,
    },

    /// Array whose rows are not contiguous in memory.
    #[error(
        "`{argument}`: rows must be contiguous (column stride 1, rows not overlapping), \
         found strides {strides:?}; convert it with `.as_standard_layout()`"
    )]
    Layout {
        /// Argument, by its name in the function's signature.
        argument: &'static str,
        /// Strides of the argument, in elements.
        strides: Vec<isize>,
    },

    /// Target that the likelihood does not accept.
    #[error(
        "row {row}, column {column}: {value} is outside {accepted}; scale the data into that range, \
         or choose {}",
        other_likelihood(*value, accepted)
    )]
    TargetOutOfRange {
        /// Row of the data.
        row: usize,
        /// Column of the data.
        column: usize,
        /// Value at that position.
        value: f32,
        /// Range that the likelihood accepts, such as `[0, 1]`.
        accepted: &'static str,
    },

    /// NaN or ±∞ in the data.
    #[error(
        "row {row}, column {column}: {value} in the data{}; remove the row or replace the value",
        at_step(*step)
    )]
    NotFiniteData {
        /// Row of the data.
        row: usize,
        /// Column of the data.
        column: usize,
        /// Value at that position.
        value: f32,
        /// Training step that read the row, if it was read in training.
        step: Option<u64>,
    },

    /// Loss that is NaN or ±∞.
    #[error(
        "the loss of row {row} is not finite{}: the {term} is {value}; {}",
        at_step(*step),
        advice(*step, "check the row for extreme values")
    )]
    NotFiniteLoss {
        /// Term of the loss: `reconstruction` or `KL divergence`.
        term: &'static str,
        /// Row of the data.
        row: usize,
        /// Value of the term for that row, in nats.
        value: f64,
        /// Training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// Gradient whose norm, or the square of it, is NaN or ±∞.
    #[error(
        "the norm of the gradient is {norm}{}; {}",
        at_step(*step),
        advice(*step, "it can be neither clipped nor applied")
    )]
    NotFiniteGradient {
        /// Norm of the gradient.
        norm: f64,
        /// Training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// Loss of a batch that is NaN or ±∞ although that of each row is finite.
    #[error(
        "the {term} of the batch is {value}{}; {}",
        at_step(*step),
        advice(*step, "check the rows for extreme values")
    )]
    NotFiniteBatch {
        /// Term of the loss, such as `total correlation`.
        term: &'static str,
        /// Value of the term, in nats.
        value: f64,
        /// Training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// Update that would make a weight or the optimizer's state NaN or ±∞.
    #[error(
        "the update of the weights is not finite{}; the weights were not changed; try a smaller \
         learning rate",
        at_step(*step)
    )]
    NotFiniteUpdate {
        /// Training step. The weights are those before the step.
        step: Option<u64>,
    },

    /// Batch whose optimal variance is 0, or so small that its inverse overflows.
    #[error(
        "the optimal variance of the {} is {variance:e}{}: they are reconstructed exactly; choose a \
         fixed or a learned variance{}",
        if step.is_some() { "rows of the batch" } else { "rows" },
        at_step(*step),
        if step.is_some() { "; the weights were not changed" } else { "" }
    )]
    NoVariance {
        /// Mean squared error of the rows.
        variance: f64,
        /// Training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// NaN or ±∞ in the condition of a row.
    #[error(
        "row {row}: the condition's column {column} is {value}{}; remove the row or replace the value",
        at_step(*step)
    )]
    NotFiniteCondition {
        /// Row of the data.
        row: usize,
        /// Column of the condition.
        column: usize,
        /// Value at that position.
        value: f32,
        /// Training step that read the row, if it was read in training.
        step: Option<u64>,
    },

    /// Memory that this machine does not have.
    #[error("{what} needs {}, {}; {remedy}", gigabytes(*needed), limit(*available))]
    Memory {
        /// The purpose of the memory.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes that the machine, or the process's control group, has; `None` if it has enough and
        /// the allocation was refused all the same.
        available: Option<u64>,
        /// Settings to change.
        remedy: &'static str,
    },

    /// Failure of another rank ([`distributed`](crate::distributed)).
    #[error("rank {rank}: {message}")]
    Rank {
        /// Number of the rank.
        rank: usize,
        /// Message of its error.
        message: String,
    },

    /// Trainer that a panic, or the end of another rank, interrupted while the weights were changing.
    #[error(
        "an update of the weights was interrupted; some of them are those of the step before: \
         resume from a checkpoint"
    )]
    Interrupted,

    /// Log-variance whose exponential overflows.
    #[error(
        "latent dimension {dimension} of row {row}: exp({}logvar) overflows at logvar = {value}{}; \
         clamp logvar (`logvar_clamp`), or {}",
        if *value < 0.0 { "-" } else { "" },
        at_step(*step),
        if step.is_some() {
            "try a smaller learning rate; the weights were not changed"
        } else {
            "check the row for extreme values"
        }
    )]
    LogvarOverflow {
        /// Row of the data.
        row: usize,
        /// Latent dimension, counted from 0.
        dimension: usize,
        /// Output of the encoder for it.
        value: f32,
        /// Training step, if it was in training. The weights are those before the step.
        step: Option<u64>,
    },

    /// Invalid setting, found when a configuration is built or a function is called.
    #[error("`{setting}`: expected {expected}, found {found}")]
    Config {
        /// Setting, by the name of its field, builder method or argument.
        setting: &'static str,
        /// Values that are accepted.
        expected: &'static str,
        /// Value that was given.
        found: String,
    },

    /// Instruction set that is unknown or that this machine does not have.
    #[error("instruction set `{requested}`: this machine has {available} (or use `auto`)")]
    InstructionSet {
        /// Name that was requested.
        requested: String,
        /// Names of the available sets.
        available: String,
    },

    /// Threads that the operating system refused.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// Number of threads requested.
        threads: usize,
        /// Message of the operating system.
        reason: String,
    },

    /// File that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },

    /// File that is damaged or not a model file.
    #[error("{}: {reason}", path.display())]
    ModelFile {
        /// Path of the file.
        path: PathBuf,
        /// Problem with the file and what was expected.
        reason: String,
    },
}

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

fn at_step(step: Option<u64>) -> String {
    step.map_or_else(String::new, |step| format!(" at step {step}"))
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB of memory", bytes as f64 / 1e9)
}

fn limit(available: Option<u64>) -> String {
    available.map_or_else(
        || "which the system refuses".to_owned(),
        |bytes| format!("and this machine has {:.1} GB", bytes as f64 / 1e9),
    )
}

/// Advice for a number that is not finite: in training, or `otherwise`.
fn advice(step: Option<u64>, otherwise: &'static str) -> &'static str {
    if step.is_some() {
        "the weights were not changed; try a smaller learning rate"
    } else {
        otherwise
    }
}

/// A likelihood that accepts the value.
fn other_likelihood(value: f32, accepted: &str) -> &'static str {
    if accepted == "[0, 1]" && (-1.0..0.0).contains(&value) {
        "a squared error with tanh output (for data in [-1, 1]) or a Gaussian likelihood"
    } else {
        "a likelihood that accepts any number, such as Gaussian or squared error"
    }
}

impl Error {
    /// Adds the training step at which the error occurred.
    pub(crate) fn at(mut self, now: u64) -> Self {
        if let Self::NotFiniteData { step, .. }
        | Self::NotFiniteLoss { step, .. }
        | Self::NotFiniteGradient { step, .. }
        | Self::NotFiniteBatch { step, .. }
        | Self::NotFiniteUpdate { step }
        | Self::NotFiniteCondition { step, .. }
        | Self::NoVariance { step, .. }
        | Self::LogvarOverflow { step, .. } = &mut self
        {
            *step = Some(now);
        }
        self
    }

    /// Error for an unexpected shape.
    pub(crate) fn shape(argument: &'static str, expected: [usize; 2], found: &[usize]) -> Self {
        Self::Shape {
            argument,
            expected: format!("shape {expected:?}"),
            found: format!("{found:?}"),
        }
    }

    /// Error for a setting outside its domain.
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

/// Returns `true` if a number is finite when it is rounded to f32.
pub(crate) fn fits_f32(value: f64) -> bool {
    (value as f32).is_finite()
}

/// Returns an error unless `value` is at least 0 and finite when it is rounded to f32.
pub(crate) fn expect_non_negative_f32(setting: &'static str, value: f64) -> Result<()> {
    expect_non_negative(setting, value)?;
    if fits_f32(value) {
        return Ok(());
    }
    Err(Error::config(setting, "a number of at most 3.4e38", value))
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
    fn messages_name_place_and_remedy() {
        let cases = [
            (
                Error::shape("targets", [2, 784], &[2, 783]),
                "`targets`: expected shape [2, 784], found [2, 783]",
            ),
            (
                Error::TargetOutOfRange { row: 3, column: 5, value: 1.5, accepted: "[0, 1]" },
                "row 3, column 5: 1.5 is outside [0, 1]; scale the data into that range, or choose a \
                 likelihood that accepts any number, such as Gaussian or squared error",
            ),
            (
                Error::NotFiniteData { row: 3, column: 5, value: f32::NAN, step: Some(7) },
                "row 3, column 5: NaN in the data at step 7; remove the row or replace the value",
            ),
            (
                Error::TargetOutOfRange { row: 0, column: 1, value: -0.5, accepted: "[0, 1]" },
                "row 0, column 1: -0.5 is outside [0, 1]; scale the data into that range, or choose a \
                 squared error with tanh output (for data in [-1, 1]) or a Gaussian likelihood",
            ),
            (
                Error::NotFiniteLoss { term: "KL divergence", row: 3, value: f64::NAN, step: None },
                "the loss of row 3 is not finite: the KL divergence is NaN; check the row for \
                 extreme values",
            ),
            (
                Error::NotFiniteGradient { norm: f64::INFINITY, step: Some(7) },
                "the norm of the gradient is inf at step 7; the weights were not changed; try a \
                 smaller learning rate",
            ),
            (
                Error::LogvarOverflow { row: 3, dimension: 1, value: -90.0, step: Some(7) },
                "latent dimension 1 of row 3: exp(-logvar) overflows at logvar = -90 at step 7; clamp \
                 logvar (`logvar_clamp`), or try a smaller learning rate; the weights were not changed",
            ),
            (Error::config("latent", "at least 1", 0), "`latent`: expected at least 1, found 0"),
            (
                Error::NotFiniteBatch { term: "loss", value: f64::INFINITY, step: None },
                "the loss of the batch is inf; check the rows for extreme values",
            ),
            (
                Error::NotFiniteUpdate { step: None }.at(3),
                "the update of the weights is not finite at step 3; the weights were not changed; try \
                 a smaller learning rate",
            ),
            (
                Error::NoVariance { variance: 0.0, step: None }.at(3),
                "the optimal variance of the rows of the batch is 0e0 at step 3: they are reconstructed \
                 exactly; choose a fixed or a learned variance; the weights were not changed",
            ),
            (
                Error::NoVariance { variance: 1e-42, step: None },
                "the optimal variance of the rows is 1e-42: they are reconstructed exactly; \
                 choose a fixed or a learned variance",
            ),
            (
                Error::Memory {
                    what: "a model 9-8-9".to_owned(),
                    needed: 58_500_000_000,
                    available: Some(16_000_000_000),
                    remedy: "make it narrower",
                },
                "a model 9-8-9 needs 58.5 GB of memory, and this machine has 16.0 GB; make it narrower",
            ),
        ];
        for (error, message) in cases {
            assert_eq!(error.to_string(), message);
        }
    }
}
