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
}

/// The tool's result.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Run(_) => ExitCode::from(1),
        }
    }
}

/// One line, whatever the message holds: file names may contain line breaks.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(message) | Self::Run(message)) = self;
        for (i, line) in message.lines().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, line.trim())?;
        }
        Ok(())
    }
}

impl From<elbo::Error> for Failure {
    fn from(error: elbo::Error) -> Self {
        match error {
            // Settings come from the command line and nowhere else.
            elbo::Error::Config { .. } | elbo::Error::InstructionSet { .. } => {
                Self::Usage(error.to_string())
            }
            _ => Self::Run(error.to_string()),
        }
    }
}
