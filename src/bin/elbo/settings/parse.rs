//! From the words of the command line to what is asked for.

use super::effective::effective;
use super::expand;
use crate::args::{Cli, Command};
use crate::failure::{Failure, Result};
use crate::output::say;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;

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
    use clap::Parser;

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
