//! The command-line tool `elbo`: trains variational autoencoders and uses them.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod data;
mod failure;
mod figure;
mod model;
mod onnx;
mod options;
mod output;

use failure::Failure;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let label = if matches!(failure, Failure::Interrupted(_)) { "" } else { "error: " };
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "{label}{failure}");
            failure.exit_code()
        }
    }
}

fn run() -> failure::Result<()> {
    match cli::parse()? {
        Some(cli) => cli.run(),
        None => Ok(()),
    }
}
