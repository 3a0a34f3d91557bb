//! Why the tool stopped: one line, and the exit code that goes with it.

use std::fmt;
use std::process::ExitCode;

/// What `error: …` says.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that makes no sense: exit code 2.
    Usage(String),
    /// Something went wrong on the way: exit code 1.
    Run(String),
    /// The user stopped a run: exit code 130, as a shell has it for Ctrl-C.
    Interrupted(String),
}

/// The tool's result.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The exit code of an interrupted process: 128 and the signal's number.
    pub const INTERRUPTED: i32 = 130;

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Run(_) => ExitCode::from(1),
            Self::Interrupted(_) => ExitCode::from(Self::INTERRUPTED as u8),
        }
    }
}

/// One line, whatever the message holds: file names may contain line breaks.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(message) | Self::Run(message) | Self::Interrupted(message)) = self;
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

/// The library's settings that are not called as the option they come from.
const OPTIONS: [(&str, &str); 12] = [
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
    ("samples", "--importance-samples"),
];

/// The library's error under the name of the option that brought it about: `special` for settings
/// whose option depends on where they come from.
pub fn option_for(special: &[(&str, &str)], error: elbo::Error) -> Failure {
    match error {
        // Settings come from the command line and nowhere else.
        elbo::Error::Config { setting, expected, found } => {
            let known = special.iter().chain(&OPTIONS).find(|(name, _)| *name == setting);
            let option = known.map_or_else(
                || format!("--{}", setting.replace(['_', ' '], "-")),
                |(_, option)| (*option).to_owned(),
            );
            Failure::Usage(format!("{option}: expected {expected}, found {found}"))
        }
        elbo::Error::InstructionSet { .. } => Failure::Usage(error.to_string()),
        elbo::Error::LogvarOverflow { .. } => {
            Failure::Run(format!("{error} (--logvar-clamp -10,10; --lr)"))
        }
        _ => Failure::Run(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_names_of_their_options() {
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
