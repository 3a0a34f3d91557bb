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
use crate::options::dependent::conflict;
use crate::options::values::count;
use crate::output::{Console, say};
use crate::ranks::Ranks;
use crate::text::quoted;
use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use completions::CompletionsOptions;
use config_file::{Merged, lenient};
use elbo::Compute;
use elbo::simd::InstructionSet;
use man::ManOptions;
use run_toml::effective;
use std::ffi::OsString;
use std::path::Path;

/// Train and use MLP variational autoencoders
///
/// The results have the same bits on any number of threads and with any instruction set.
#[derive(Debug, Parser)]
#[command(
    name = "elbo",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    args_override_self = true,
    after_long_help = "\
Results go to standard output or to the file of --out; progress, notes and warnings go to standard error.

A file is replaced only if elbo wrote it and nobody changed it since, as a mark in figures, ONNX files and manual \
pages tells; any other file, and every table, array or model, only with --overwrite. Files that the command reads \
are never replaced.

Exit codes: 0 success, 1 failure, 2 wrong usage, 129 hung up (SIGHUP), 130 interrupted (Ctrl-C), 143 terminated \
(SIGTERM).

Examples:
  elbo train
  elbo train --help
  elbo sample --model elbo-out/model.safetensors --out samples.png"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    machine: Machine,
}

/// Options of every command. None of them changes a bit of a result.
#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
struct Machine {
    /// Threads [default: all that the process may use]
    ///
    /// On several ranks, those that a machine has for all of them are divided among them.
    #[arg(long, global = true, value_name = "N", value_parser = count(4096),
          allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set: auto, avx2, avx512, neon or scalar
    ///
    /// auto is the widest that the processor has. v3 (AVX2 and FMA) and v4 (AVX-512) are accepted too.
    #[arg(long, global = true, value_name = "SET", default_value = "auto", value_parser = simd())]
    simd: InstructionSet,

    /// Print no progress, notes or summaries
    ///
    /// Results, warnings and errors are printed.
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl Machine {
    fn compute(&self, ranks: &Ranks) -> Result<Compute> {
        // All ranks count together, whether or not they need to.
        let available = ranks.threads();
        ranks.agree(Ok(Compute::new(self.simd, self.threads.unwrap_or(available))?))
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
    pub fn run(&self, ranks: &Ranks) -> Result<()> {
        let compute = self.machine.compute(ranks)?;
        let console = Console { quiet: self.machine.quiet, silent: !ranks.is_first() };
        if ranks.count() > 1 && !matches!(self.command, Command::Train(_)) {
            let reason = "of all commands, only `elbo train` runs on several ranks; start this one without mpirun";
            return ranks.agree(Err(Failure::Usage(reason.to_owned())));
        }
        match &self.command {
            Command::Train(args) => train::run(args, &compute, console, ranks)
                .map_err(|failure| explained(failure, &args.origins)),
            Command::Eval(args) => eval::run(args, &compute, console),
            Command::Score(args) => score::run(args, &compute, console),
            Command::Inspect(args) => inspect::run(args),
            Command::Sample(args) => sample::run(args, &compute, console),
            Command::Reconstruct(args) => reconstruct::run(args, &compute, console),
            Command::Encode(args) => encode::run(args, &compute, console),
            Command::Traverse(args) => traverse::run(args, &compute),
            Command::Interpolate(args) => interpolate::run(args, &compute),
            Command::Plot(args) => plot::run(args, &compute),
            Command::Bench(args) => bench::run(args, &compute),
            Command::Convert(args) => convert::run(args, console),
            Command::Export(args) => export::run(args, console),
            Command::Completions(args) => completions::run(args, definition()),
            Command::Man(args) => man::run(args, definition(), console),
        }
    }
}

/// The definition of the command line. Names among the values of an option are accepted in any letter case.
pub fn definition() -> clap::Command {
    fn in_any_case(command: clap::Command) -> clap::Command {
        command
            .mut_args(|option| {
                let has_value = !matches!(option.get_action(), clap::ArgAction::SetTrue);
                match has_value && !option.get_possible_values().is_empty() {
                    true => option.ignore_case(true),
                    false => option,
                }
            })
            .mut_subcommands(in_any_case)
    }
    in_any_case(Cli::command())
}

fn simd() -> impl TypedValueParser<Value = InstructionSet> {
    StringValueParser::new().try_map(|name| name.to_lowercase().parse::<InstructionSet>())
}

/// Reads the command line. Returns `None` after help or the version was printed, by rank 0.
pub fn parse(ranks: &Ranks) -> Result<Option<Cli>> {
    let mut command = definition();
    command.build();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match matched(&command, &arguments) {
        Ok(cli) => Ok(Some(cli)),
        Err(Unmatched::Failure(failure)) => Err(failure),
        Err(Unmatched::Clap(error)) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                if ranks.is_first() {
                    say(error.render().to_string().trim_end())?;
                }
                Ok(None)
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Failure::Help(error.render().to_string()))
            }
            _ => Err(Failure::Usage(with_remedy(&error, &arguments))),
        },
    }
}

/// Clap's reasons are help texts, too; ours are failures.
enum Unmatched {
    Clap(clap::Error),
    Failure(Failure),
}

impl From<clap::Error> for Unmatched {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

impl From<Failure> for Unmatched {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn matched(command: &clap::Command, arguments: &[OsString]) -> std::result::Result<Cli, Unmatched> {
    let Ok(matches) = lenient(with_switch_values(definition())).try_get_matches_from(arguments)
    else {
        // The strict parser has the same objection, and the help text.
        let matches = command.clone().try_get_matches_from(arguments)?;
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let Some(("train", matches)) = matches.subcommand() else {
        // The strict parser has the better messages, and the help text.
        let matches = match with_switch_values(definition()).try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(_) => command.clone().try_get_matches_from(arguments)?,
        };
        if let Some((name, matches)) = matches.subcommand() {
            let below = command.find_subcommand(name).expect("a command that was parsed");
            check(below, matches).map_err(|(_, failure)| failure)?;
        }
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let train = command.find_subcommand("train").expect("a command of this tool");
    let merged = Merged::read(train, matches)?;
    let origins = merged.origins();
    let from = |option: Option<&str>, failure: String| match option.and_then(|o| merged.origin(o)) {
        Some(origin) => Failure::Usage(format!("{origin}: {failure}")),
        None => explained(Failure::Usage(failure), &origins),
    };
    let matches = match command.clone().try_get_matches_from(merged.arguments(train)) {
        Ok(matches) => matches,
        Err(error) => {
            // Clap names the option as its help does.
            let wrong = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(wrong)) => Some(wrong),
                _ => None,
            };
            let mut options = train.get_arguments();
            let option = options.find(|option| Some(&option.to_string()) == wrong);
            let name = option.and_then(clap::Arg::get_long);
            return Err(from(name, with_remedy(&error, arguments)).into());
        }
    };
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Command::Train(options), Some((_, matches))) = (&mut cli.command, matches.subcommand())
    {
        check(train, matches)
            .map_err(|(option, failure)| from(Some(option), failure.to_string()))?;
        options.settings = effective(train, matches);
        options.notes = merged.notes();
        options.origins = origins;
    }
    Ok(cli)
}

/// Makes every command accept `=false` for its switches; `elbo train` has its own way, [`lenient`].
fn with_switch_values(command: clap::Command) -> clap::Command {
    let names: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = command.mut_args(|option| match option.get_action() {
        clap::ArgAction::SetTrue => option
            .action(clap::ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(clap::value_parser!(bool)),
        _ => option,
    });
    let others = names.into_iter().filter(|name| name != "train");
    others.fold(command, |command, name| command.mut_subcommand(name, with_switch_values))
}

/// Words of the library for what an option asks for.
const WORDS: [(&str, &str); 6] = [
    ("importance weighting", "importance-samples"),
    ("a capacity", "capacity"),
    ("the penalty", "capacity"),
    ("the penalty", "free-bits"),
    ("the penalty", "importance-samples"),
    ("the penalty", "total-correlation"),
];

/// Adds the origins of options of a preset or a file to a message that names them, other than in the commands that
/// it suggests.
fn explained(failure: Failure, origins: &[(String, String)]) -> Failure {
    let add = |message: String| {
        let outside: String = message.split('`').step_by(2).collect();
        let mentioned = |name: &str| {
            let option = format!("--{name}");
            outside.match_indices(&option).any(|(at, _)| {
                let rest = &outside[at + option.len()..];
                !rest.starts_with(|c: char| c == '-' || c.is_ascii_alphanumeric())
            })
        };
        let described = |name: &str| {
            WORDS.iter().any(|(words, option)| *option == name && outside.contains(words))
        };
        let named = origins.iter().filter(|(name, _)| mentioned(name) || described(name));
        let parts: Vec<_> =
            named.map(|(name, origin)| format!("--{name} is from {origin}")).collect();
        if parts.is_empty() { message } else { format!("{message} ({})", parts.join(", ")) }
    };
    match failure {
        Failure::Usage(message) => Failure::Usage(add(message)),
        Failure::Run(message) => Failure::Run(add(message)),
        other => other,
    }
}

/// Returns an error for options that do not go together.
fn check(
    command: &clap::Command,
    matches: &clap::ArgMatches,
) -> std::result::Result<(), (&'static str, Failure)> {
    let id = |name: &str| {
        let is = |option: &&clap::Arg| option.get_long() == Some(name);
        command.get_arguments().find(is).map(|option| option.get_id().as_str())
    };
    conflict(
        |name| {
            let Some(id) = id(name) else { return false };
            let is_off = matches.get_raw(id).and_then(Iterator::last).is_some_and(|v| v == "false");
            matches.value_source(id) == Some(ValueSource::CommandLine) && !is_off
        },
        |name| {
            let id = id(name)?;
            let option = command.get_arguments().find(|option| option.get_id() == id)?;
            let switch = matches!(option.get_action(), clap::ArgAction::SetTrue);
            let value = matches.get_raw(id).and_then(Iterator::last);
            let given = matches.value_source(id) == Some(ValueSource::CommandLine)
                && value.is_none_or(|value| value != "false");
            let value = value.map(|value| value.to_string_lossy().into_owned());
            Some(value.filter(|_| given || !switch))
        },
    )
}

/// Puts clap's message in one line; names the option for a file that was given without one.
fn with_remedy(error: &clap::Error, arguments: &[OsString]) -> String {
    let line = one_line(&error.render().to_string());
    let is_unexpected = |word: &&str| line == format!("unexpected argument '{word}' found");
    if let Some(word) = ["true", "false"].into_iter().find(is_unexpected) {
        let switch = arguments
            .windows(2)
            .filter(|pair| pair[1] == word)
            .filter_map(|pair| pair[0].to_str())
            .find(|switch| switch.starts_with("--"));
        let switch = switch.unwrap_or("--quiet");
        return format!("{line}; the value of a switch follows =, as in {switch}={word}");
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word))
            if error.kind() == ErrorKind::UnknownArgument
                && !word.starts_with('-')
                && Path::new(word).exists() =>
        {
            let model = word.ends_with(".safetensors")
                || Path::new(word).join("model.safetensors").exists();
            let option = if model { "--model" } else { "--data" };
            format!("{line}; to read this file, use {option} {}", quoted(Path::new(word)))
        }
        _ => line,
    }
}

/// Puts clap's message in one line, without the usage.
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
    fn command_line_is_consistent() {
        definition().debug_assert();
    }

    fn parsed(line: &str) -> std::result::Result<Cli, String> {
        let mut command = definition();
        command.build();
        let words: Vec<OsString> =
            std::iter::once("elbo").chain(line.split(' ')).map(OsString::from).collect();
        matched(&command, &words).map_err(|unmatched| match unmatched {
            Unmatched::Clap(error) => one_line(&error.render().to_string()),
            Unmatched::Failure(failure) => failure.to_string(),
        })
    }

    #[test]
    fn every_command_accepts_repeated_options_and_switches_that_are_off() {
        for line in [
            "score --model m --data d --seed 1 --seed 2 --clip-to-range=false",
            "eval --model m --data d --json=false --total-correlation=false --tc-alpha 1 --seed 1 --seed 2",
            "sample --model m --out s.npy --out t.npy --signed --signed=false",
            "train --layer-norm --layer-norm=false --latent 2 --latent 3",
            "inspect m --json=false",
            "bench --quiet=false",
            "--quiet=false reconstruct --model m --data d --out r.npy --rgb=true",
        ] {
            let cli = parsed(line);
            // Without the switch, what depends on it is refused as before.
            if line.contains("tc-alpha") {
                assert!(cli.unwrap_err().starts_with("--tc-alpha requires --total-correlation"));
            } else if let Err(message) = cli {
                panic!("{line}: {message}");
            }
        }
        assert!(parsed("sample --model m --out s.npy -q").unwrap().machine.quiet);
        assert!(!parsed("sample --model m --out s.npy -q --quiet=false").unwrap().machine.quiet);
    }

    #[test]
    fn each_option_replaces_those_of_a_preset_or_names_the_preset() {
        use clap::ValueEnum;
        let replacements = [
            "--likelihood bernoulli",
            "--likelihood bernoulli-probabilities",
            "--likelihood continuous-bernoulli",
            "--likelihood squared-error",
            "--likelihood gaussian",
            "--likelihood gaussian --variance optimal",
            "--likelihood gaussian --variance 0.5",
            "--likelihood squared-error --output tanh",
            "--pos-weight 2",
            "--likelihood bernoulli --pos-weight 2",
            "--variance none",
            "--variance shared",
            "--output tanh",
            "--anneal none",
            "--anneal linear",
            "--anneal cosine",
            "--anneal cyclical",
            "--beta none",
            "--beta 2",
            "--capacity 25",
            "--capacity 25 --capacity-over 9",
            "--free-bits 0.1",
            "--total-correlation",
            "--importance-samples 5",
            "--importance-samples none",
            "--estimator none",
            "--total-correlation=false",
            "--reduction mean",
            "--reduction sum",
            "--optimizer sgd",
            "--optimizer AdamW",
            "--schedule cosine",
            "--schedule plateau",
            "--schedule step",
            "--hidden none",
            "--hidden 8",
            "--encoder 8",
            "--decoder none",
            "--patience none",
            "--patience 0",
            "--patience 3",
            "--keep last",
            "--scale none",
            "--scale min-max",
            "--scale standardize",
            "--signed",
            "--augment none",
            "--augment binarize",
            "--augment dequantize",
            "--dropout none",
            "--activation none",
            "--latent none",
            "--batch 1",
            "--batch none",
            "--lr none",
            "--epochs none",
            "--clip-norm 1",
            "--clip-value 1",
        ];
        let mut refused = 0;
        for preset in train::Preset::value_variants() {
            let preset = preset.to_possible_value().unwrap().get_name().to_owned();
            for replacement in replacements {
                let line = format!("train --preset {preset} {replacement}");
                let result = parsed(&line).and_then(|cli| {
                    let Command::Train(args) = cli.command else { panic!("{line}") };
                    let checked = train::check(&args, 12);
                    checked.map_err(|failure| explained(failure, &args.origins).to_string())
                });
                if let Err(message) = result {
                    refused += 1;
                    assert!(message.contains(&format!("--preset {preset}")), "{line}: {message}");
                    // Without hidden layers nothing can be dropped out.
                    let is_dropout =
                        replacement == "--hidden none" && message.contains("--dropout");
                    assert!(!replacement.ends_with(" none") || is_dropout, "{line}: {message}");
                }
            }
        }
        assert!((1..40).contains(&refused), "{refused}");
    }

    #[test]
    fn names_are_accepted_in_any_letter_case() {
        for line in [
            "train --optimizer ADAMW --likelihood Gaussian --variance Per-Feature --activation GELU",
            "train --preset Tabular --scale MIN-MAX --schedule Cosine --decay-over 3EPOCHS --keep Best",
            "train --preset TABULAR --patience None --likelihood Squared-Error --output TANH",
            "train --hidden NONE --augment Binarize --anneal Linear --anneal-over 3Epochs",
            "train --scale STANDARDISE --likelihood GAUSSIAN",
            "eval --model m --data d --augment NONE --stream Never",
            "sample --model m --out s.npy --draw MEAN",
            "traverse --model m --out s.npy --dimensions ALL",
            "convert a b --to Classic",
            "export --model m --onnx ALL --out d",
            "completions BASH",
            "inspect m --simd Scalar",
        ] {
            if let Err(message) = parsed(line) {
                panic!("{line}: {message}");
            }
        }
        let settings = |line: &str| match parsed(line).unwrap().command {
            Command::Train(args) => args.settings,
            _ => panic!("{line}"),
        };
        // What depends on a name does not depend on its letter case, and run.toml has the usual one.
        let upper = "train --data d --scale STANDARDISE --likelihood GAUSSIAN --optimizer SGD --momentum 0.9";
        assert_eq!(settings(upper), settings(&upper.to_lowercase().replace("dise", "dize")));
        for line in
            ["train --likelihood Bernoulli --variance 1", "train --anneal CYCLICAL --anneal-from 0"]
        {
            assert!(parsed(line).unwrap_err().contains("applies only with"), "{line}");
        }
    }

    #[test]
    fn every_option_has_help() {
        fn check(name: &str, command: &clap::Command) {
            let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(name), "{name}: no example");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && !help.starts_with("Of "), "{name}: {option}");
            }
            // -h has one line per option: none is wrapped at 100 columns.
            let short = command.clone().term_width(100).render_help().to_string();
            let wrapped = short.lines().find(|line| line.starts_with("          "));
            assert_eq!(wrapped, None, "{name}:\n{short}");
            for below in command.get_subcommands() {
                check(&format!("{name} {}", below.get_name()), below);
            }
        }
        for command in definition().get_subcommands() {
            check(&format!("elbo {}", command.get_name()), command);
        }
    }

    #[test]
    fn message_is_one_line_that_names_the_option() {
        let cases = [
            (
                "train --latent 0",
                "invalid value '0' for '--latent <Z>': expected a whole number from 1 to 16777216",
            ),
            ("train --lr NaN", "invalid value 'NaN' for '--lr <RATE>': expected a number above 0"),
            (
                "train --hidden 400,0",
                "invalid value '400,0' for '--hidden <WIDTHS>': expected widths from 1 to \
                 16777216, separated by commas, such as 512,256; or none",
            ),
            (
                "sample --model m --out x.jpg",
                "invalid value 'x.jpg' for '--out <FILE>': \
                 expected a file name that ends in .png, .svg, .npy or .csv, or - for CSV on standard \
                 output",
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
