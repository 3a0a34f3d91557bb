//! The command line: from its words to a command and its options.

mod completions;
mod config_file;
mod man;
mod run_toml;

use crate::commands::bench::{self, BenchOptions};
use crate::commands::convert::{self, ConvertOptions};
use crate::commands::encode::{self, EncodeOptions};
use crate::commands::eval::{self, EvalOptions};
use crate::commands::export::{self, ExportOptions};
use crate::commands::inspect::{self, InspectOptions};
use crate::commands::interpolate::{self, InterpolateOptions};
use crate::commands::plot::{self, PlotOptions};
use crate::commands::reconstruct::{self, ReconstructOptions};
use crate::commands::sample::{self, SampleOptions};
use crate::commands::score::{self, ScoreOptions};
use crate::commands::train::{self, TrainOptions};
use crate::commands::traverse::{self, TraverseOptions};
use crate::failure::{Failure, Result};
use crate::options::values::count;
use crate::output::say;
use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use completions::CompletionsOptions;
use config_file::expand;
use elbo::Compute;
use elbo::simd::InstructionSet;
use man::ManOptions;
use run_toml::effective;
use std::ffi::OsString;

/// Train and use MLP variational autoencoders: the same bits on any thread count and any
/// instruction set.
#[derive(Debug, Parser)]
#[command(name = "elbo", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    machine: Machine,
}

/// How the work is done. Neither option changes a bit of any result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
struct Machine {
    /// Threads to compute on [default: as many as the process may use]
    #[arg(long, global = true, value_name = "N", value_parser = count(4096), allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set: auto (the widest there is), scalar, v3 (AVX2 and FMA), v4 (AVX-512),
    /// neon
    #[arg(long, global = true, value_name = "SET", default_value = "auto", value_parser = simd())]
    simd: InstructionSet,
}

impl Machine {
    /// The instruction set and the threads that were asked for.
    fn compute(&self) -> Result<Compute> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Compute::new(self.simd, self.threads.unwrap_or_else(available))?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<TrainOptions>),
    Eval(Box<EvalOptions>),
    Score(ScoreOptions),
    Inspect(InspectOptions),
    Sample(SampleOptions),
    Reconstruct(ReconstructOptions),
    Encode(EncodeOptions),
    Traverse(TraverseOptions),
    Interpolate(InterpolateOptions),
    Plot(PlotOptions),
    Bench(BenchOptions),
    Convert(ConvertOptions),
    Export(ExportOptions),
    Completions(CompletionsOptions),
    Man(ManOptions),
}

impl Cli {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        let compute = self.machine.compute()?;
        match &self.command {
            Command::Train(args) => train::run(args, &compute),
            Command::Eval(args) => eval::run(args, &compute),
            Command::Score(args) => score::run(args, &compute),
            Command::Inspect(args) => inspect::run(args),
            Command::Sample(args) => sample::run(args, &compute),
            Command::Reconstruct(args) => reconstruct::run(args, &compute),
            Command::Encode(args) => encode::run(args, &compute),
            Command::Traverse(args) => traverse::run(args, &compute),
            Command::Interpolate(args) => interpolate::run(args, &compute),
            Command::Plot(args) => plot::run(args, &compute),
            Command::Bench(args) => bench::run(args, &compute),
            Command::Convert(args) => convert::run(args),
            Command::Export(args) => export::run(args),
            Command::Completions(args) => completions::run(args, Self::command()),
            Command::Man(args) => man::run(args, Self::command()),
        }
    }
}

fn simd() -> impl TypedValueParser<Value = InstructionSet> {
    StringValueParser::new().try_map(|name| name.parse::<InstructionSet>())
}

/// Reads the command line. `None` if it asked for help or the version, which are then printed.
pub fn parse() -> Result<Option<Cli>> {
    let command = Cli::command();
    let expanded = expand(std::env::args_os().collect(), &command)?;
    let error = match matched(command, &expanded.arguments) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            say(error.render().to_string().trim_end())?;
            Ok(None)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let command = Cli::command();
            let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
            Err(Failure::Usage(format!(
                "expected a command: {}; `elbo --help` says more",
                names.join(", ")
            )))
        }
        _ => {
            let message = one_line(&error.render().to_string());
            let origin = expanded.origin(&message).map(|origin| format!("{origin}: "));
            Err(Failure::Usage(format!("{}{message}", origin.unwrap_or_default())))
        }
    }
}

fn matched(
    command: clap::Command,
    arguments: &[OsString],
) -> std::result::Result<Cli, clap::Error> {
    let matches = command.clone().try_get_matches_from(arguments)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Command::Train(train), Some((name, matches))) = (&mut cli.command, matches.subcommand())
    {
        let command = command.find_subcommand(name).expect("it was matched");
        train.settings = effective(command, matches);
    }
    Ok(cli)
}

/// Clap's message without the usage that it repeats, in one line.
fn one_line(message: &str) -> String {
    let mut line = String::new();
    for part in message.lines().map(str::trim).take_while(|part| !part.starts_with("Usage:")) {
        if part.is_empty() || part.starts_with("For more information") {
            continue;
        }
        if let Some(tip) = part.strip_prefix("tip: ") {
            line.push_str("; ");
            line.push_str(tip);
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(part.strip_prefix("error: ").unwrap_or(part));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_documented() {
        fn check(name: &str, command: &clap::Command) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(name), "{name}: no example");
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{name}: {option}");
            }
            for below in command.get_subcommands() {
                check(&format!("{name} {}", below.get_name()), below);
            }
        }
        for command in Cli::command().get_subcommands() {
            check(&format!("elbo {}", command.get_name()), command);
        }
    }

    #[test]
    fn a_message_is_one_line_that_names_the_option() {
        let cases = [
            (
                "train --latent 0",
                "invalid value '0' for '--latent <Z>': expected a whole number from 1 to 16777216",
            ),
            (
                "train --lr NaN",
                "invalid value 'NaN' for '--lr <RATE>': expected a number above 0, such as 0.001",
            ),
            (
                "train --hidden 400,0",
                "invalid value '400,0' for '--hidden <WIDTHS>': expected widths from 1 to \
                 16777216, separated by commas, such as 512,256; or none",
            ),
            (
                "sample --model m --out x.jpg",
                "invalid value 'x.jpg' for '--out <FILE>': \
                 expected a name that ends in .png, .svg, .npy or .csv",
            ),
            ("eval --model m", "the following required arguments were not provided: --data <FILE>"),
            (
                "train --latnet 3",
                "unexpected argument '--latnet' found; a similar argument exists: '--latent'",
            ),
        ];
        for (line, message) in cases {
            let words = std::iter::once("elbo").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(one_line(&error.render().to_string()), message);
        }
    }
}
