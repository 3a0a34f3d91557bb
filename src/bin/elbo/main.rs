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
#[cfg(test)]
mod scratch;
mod text;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If standard error is closed, there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}{failure}", failure.label());
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
