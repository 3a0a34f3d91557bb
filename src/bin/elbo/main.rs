//! The command-line tool `elbo`: trains variational autoencoders and uses them.
#![forbid(unsafe_code)]

mod args;
mod array_file;
mod bench;
mod completions;
mod convert;
mod data;
mod decoded;
mod delimited;
mod diagnosis;
mod eval;
mod export;
mod failure;
mod generate;
mod history;
mod inspect;
mod interpolate;
mod labels;
mod man;
mod model;
mod notes;
mod onnx;
mod output;
mod part;
mod pictures;
mod plot;
mod quantiles;
mod range;
mod scaling;
mod score;
mod sets;
mod settings;
mod train;
mod traverse;

use args::Command;
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
    let Some(cli) = settings::parse()? else { return Ok(()) };
    let compute = cli.machine.compute()?;
    match &cli.command {
        Command::Train(args) => train::run(args, &compute),
        Command::Eval(args) => eval::run(args, &compute),
        Command::Score(args) => score::run(args, &compute),
        Command::Inspect(args) => inspect::run(args),
        Command::Sample(args) => generate::sample(args, &compute),
        Command::Reconstruct(args) => generate::reconstruct(args, &compute),
        Command::Encode(args) => generate::encode(args, &compute),
        Command::Traverse(args) => traverse::run(args, &compute),
        Command::Interpolate(args) => interpolate::run(args, &compute),
        Command::Plot(args) => plot::run(args, &compute),
        Command::Bench(args) => bench::run(args, &compute),
        Command::Convert(args) => convert::run(args),
        Command::Export(args) => export::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
