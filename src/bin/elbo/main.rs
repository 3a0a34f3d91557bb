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
mod ranks;
#[cfg(test)]
mod scratch;
mod text;

use ranks::Ranks;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (ranks, started) = Ranks::start();
    let outcome = started.and_then(|()| run(&ranks));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ranks.report(&failure),
    }
}

fn run(ranks: &Ranks) -> failure::Result<()> {
    match ranks.agree(cli::parse(ranks))? {
        Some(cli) => cli.run(ranks),
        None => Ok(()),
    }
}
