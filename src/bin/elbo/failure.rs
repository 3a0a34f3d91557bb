//! Reasons for the tool to stop, each one line with its exit code.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// A message, by exit code.
#[derive(Debug)]
pub enum Failure {
    /// Help that is printed because the command is missing: exit code 2.
    Help(String),
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// Something failed during the work: exit code 1.
    Run(String),
    /// Another rank failed: exit code 1.
    OtherRank(String),
    /// A loss, a gradient or a variance is not finite: exit code 1. `place` is the file and the row, where known.
    Diverged { place: Option<String>, error: elbo::Error },
    /// A signal ended a run: exit code 128 and the number of the signal.
    Interrupted { signal: i32, message: String },
}

/// The tool's result.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Failure to read a file.
    pub fn cannot_read(name: &dyn fmt::Display, error: &dyn fmt::Display) -> Self {
        Self::Run(format!("{name}: cannot read: {error}"))
    }

    /// Failure to write a file.
    pub fn cannot_write(path: &Path, error: &dyn fmt::Display) -> Self {
        Self::Run(format!("{}: cannot write: {error}", path.display()))
    }

    /// Returns the exit code of a process that a signal ended, as shells have it: 129 for SIGHUP, 130 for Ctrl-C,
    /// 143 for SIGTERM.
    pub fn signal_code(signal: i32) -> i32 {
        128 + signal
    }

    /// Returns what stands before the message.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Usage(_) | Self::Run(_) | Self::OtherRank(_) | Self::Diverged { .. } => "error: ",
            Self::Help(_) | Self::Interrupted { .. } => "",
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code() as u8)
    }

    /// Returns the number of the exit code.
    pub fn code(&self) -> i32 {
        match self {
            Self::Help(_) | Self::Usage(_) => 2,
            Self::Run(_) | Self::OtherRank(_) | Self::Diverged { .. } => 1,
            Self::Interrupted { signal, .. } => Self::signal_code(*signal),
        }
    }
}

/// One line, even if a file name in the message contains line breaks; help as it is.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self {
            Self::Diverged { place, error } => &format!(
                "{}; check the row for extreme values",
                what_diverged(place.as_deref(), error)
            ),
            Self::Help(text) => return f.write_str(text.trim_end()),
            Self::Usage(message)
            | Self::Run(message)
            | Self::OtherRank(message)
            | Self::Interrupted { message, .. } => message,
        };
        for (i, line) in message.lines().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, line.trim())?;
        }
        Ok(())
    }
}

impl From<elbo::Error> for Failure {
    fn from(error: elbo::Error) -> Self {
        option_for(&[], error)
    }
}

/// Settings of the library whose option has another name.
const OPTIONS: [(&str, &str); 13] = [
    ("annealing", "--anneal"),
    ("augmentation", "--augment"),
    ("clip", "--clip-norm or --clip-value"),
    ("conditions", "--labels"),
    ("factor", "--decay-factor"),
    ("features", "--data"),
    ("floor", "--decay-floor"),
    ("lambda", "--free-bits"),
    ("learning_rate", "--lr"),
    ("levels", "--augment"),
    ("over", "--decay-over"),
    ("ranks", "mpirun -n"),
    ("samples", "--importance-samples"),
];

/// Converts an error of the library, naming the option in place of the setting; `special` names the options of
/// settings that several options set.
pub fn option_for(special: &[(&str, &str)], error: elbo::Error) -> Failure {
    match error {
        elbo::Error::Config { setting, expected, found } => {
            let known = special.iter().chain(&OPTIONS).find(|(name, _)| *name == setting);
            let option = known.map_or_else(
                || format!("--{}", setting.replace(['_', ' '], "-")),
                |(_, option)| (*option).to_owned(),
            );
            Failure::Usage(format!("{option}: expected {expected}, found {found}"))
        }
        elbo::Error::InstructionSet { .. } => Failure::Usage(error.to_string()),
        elbo::Error::Rank { .. } => Failure::OtherRank(error.to_string()),
        elbo::Error::LogvarOverflow { .. }
        | elbo::Error::NotFiniteLoss { .. }
        | elbo::Error::NotFiniteGradient { .. }
        | elbo::Error::NotFiniteBatch { .. }
        | elbo::Error::NotFiniteUpdate { .. } => Failure::Diverged { place: None, error },
        _ => Failure::Run(error.to_string()),
    }
}

/// Returns what is not finite and where, without the library's advice.
pub fn what_diverged(place: Option<&str>, error: &elbo::Error) -> String {
    let message = error.to_string();
    let what = message.split_once("; ").map_or(message.as_str(), |(what, _)| what);
    place.map_or_else(|| what.to_owned(), |place| format!("{place}: {what}"))
}

/// Returns the number of the row that an error of the library is about.
pub fn row_of(error: &mut elbo::Error) -> Option<&mut usize> {
    match error {
        elbo::Error::TargetOutOfRange { row, .. }
        | elbo::Error::NotFiniteData { row, .. }
        | elbo::Error::NotFiniteCondition { row, .. }
        | elbo::Error::NotFiniteLoss { row, .. }
        | elbo::Error::LogvarOverflow { row, .. } => Some(row),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_named_without_advice_for_training() {
        use elbo::Error;
        for (error, what) in [
            (
                Error::LogvarOverflow { row: 56, dimension: 4, value: 132.8, step: Some(92) },
                "latent dimension 4 of row 56: exp(logvar) overflows at logvar = 132.8 at step 92",
            ),
            (
                Error::LogvarOverflow { row: 56, dimension: 4, value: -132.8, step: None },
                "latent dimension 4 of row 56: exp(-logvar) overflows at logvar = -132.8",
            ),
            (
                Error::NotFiniteLoss { term: "KL divergence", row: 3, value: f64::NAN, step: None },
                "the loss of row 3 is not finite: the KL divergence is NaN",
            ),
            (
                Error::NotFiniteGradient { norm: f64::INFINITY, step: Some(2) },
                "the norm of the gradient is inf at step 2",
            ),
            (
                Error::NotFiniteBatch { term: "total correlation", value: f64::NAN, step: Some(2) },
                "the total correlation of the batch is NaN at step 2",
            ),
            (
                Error::NotFiniteUpdate { step: Some(7) },
                "the update of the weights is not finite at step 7",
            ),
        ] {
            assert_eq!(what_diverged(None, &error), what);
            assert_eq!(what_diverged(Some("x: row 3"), &error), format!("x: row 3: {what}"));
            let failure = option_for(&[], error);
            assert!(matches!(failure, Failure::Diverged { .. }), "{failure}");
            assert_eq!(failure.to_string(), format!("{what}; check the row for extreme values"));
        }
    }

    #[test]
    fn names_the_option_of_a_setting() {
        let message = |special: &[_], setting| {
            let error = elbo::Error::Config { setting, expected: "1", found: "2".to_owned() };
            option_for(special, error).to_string()
        };
        assert_eq!(message(&[], "pos_weight"), "--pos-weight: expected 1, found 2");
        assert_eq!(message(&[], "prior std"), "--prior-std: expected 1, found 2");
        assert_eq!(message(&[], "lambda"), "--free-bits: expected 1, found 2");
        let special = [("gamma", "--tc-gamma")];
        assert_eq!(message(&special, "gamma"), "--tc-gamma: expected 1, found 2");
    }
}
