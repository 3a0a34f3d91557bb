//! `run.toml`: the options of a run, whether typed, read from a file or left at their default.

use super::config_file::OF_A_CALL;
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path;
use toml::Value;

/// Writes every option of `elbo train` that has a value, under the headings of its help. Paths are absolute, so
/// the file means the same in any directory.
pub fn effective(train: &Command, matches: &ArgMatches) -> String {
    let mut text = String::from(
        "# The options of this run: `elbo train --config` with this file repeats it.\n",
    );
    let piped = ["data", "validation", "test", "labels", "validation-labels", "test-labels"];
    let piped = piped.into_iter().find(|name| {
        matches.get_raw(name.replace('-', "_").as_str()).into_iter().flatten().any(is_stream)
    });
    if let Some(name) = piped {
        let _ = writeln!(
            text,
            "# It read --{name} from standard input or a pipe: repeating or resuming it needs the same bytes there."
        );
    }
    let mut sections: Vec<(&str, String)> = vec![("Options", String::new())];
    for option in train.get_arguments() {
        let Some(name) = option.get_long().filter(|name| !OF_A_CALL.contains(name)) else {
            continue;
        };
        let Some(value) = value(option, matches) else { continue };
        let heading = option.get_help_heading().unwrap_or("Options");
        let known = sections.iter().position(|(name, _)| *name == heading);
        let section = known.unwrap_or_else(|| {
            sections.push((heading, String::new()));
            sections.len() - 1
        });
        let _ = writeln!(sections[section].1, "{name} = {value}");
    }
    for (heading, lines) in sections {
        let _ = write!(text, "\n# {heading}\n{lines}");
    }
    text
}

/// Returns true for standard input and for pipes of the shell, whose contents are gone after the run.
fn is_stream(path: &OsStr) -> bool {
    let path = path.to_string_lossy();
    path == "-"
        || path == "/dev/stdin"
        || path.starts_with("/dev/fd/")
        || path.starts_with("/proc/self/fd/")
}

fn value(option: &Arg, matches: &ArgMatches) -> Option<Value> {
    let raw = matches.get_raw(option.get_id().as_str())?;
    let parts: Vec<_> = raw.map(|part| part.to_string_lossy()).collect();
    let text = parts.join(",");
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return Some(Value::Boolean(text == "true"));
    }
    if option.get_value_parser().type_id() == ValueParser::path_buf().type_id() && text != "-" {
        let full = path::absolute(&text).ok().and_then(|path| path.to_str().map(str::to_owned));
        return Some(Value::String(full.unwrap_or(text)));
    }
    // As a number only if it is read back in the same spelling.
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Some(Value::Integer(number));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number.to_string() == text => {
            Some(Value::Float(number))
        }
        _ => Some(Value::String(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition;

    /// Writes the options of a command line.
    fn written(line: &str) -> String {
        let command = definition();
        let matches = command.clone().try_get_matches_from(line.split(' ')).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        effective(command.find_subcommand("train").unwrap(), matches)
    }

    #[test]
    fn reads_back_what_it_writes() {
        let text = written(
            "elbo train --hidden 512,256 --beta 0.30 --anneal linear --layer-norm --quiet --seed \
             18446744073709551615 --data a.npy --out x",
        );
        for line in [
            "hidden = \"512,256\"",
            "beta = \"0.30\"",
            "anneal = \"linear\"",
            "layer-norm = true",
            "signed = false",
            "seed = \"18446744073709551615\"",
            "latent = 20",
            "# Model",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        // Each heading stands once.
        let mut headings: Vec<_> = text.lines().filter(|line| line.starts_with("# ")).collect();
        let count = headings.len();
        headings.sort_unstable();
        headings.dedup();
        assert_eq!(headings.len(), count, "{text}");
        for absent in ["out", "quiet", "anneal-over", "threads"] {
            assert!(!text.lines().any(|line| line.starts_with(&format!("{absent} "))), "{absent}");
        }
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert!(path::Path::new(table["data"].as_str().unwrap()).is_absolute());
        let again: Vec<String> = table
            .iter()
            .filter(|(_, value)| value.as_bool() != Some(false))
            .map(|(name, value)| match crate::cli::config_file::written(value) {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            })
            .collect();
        assert_eq!(written(&format!("elbo train {}", again.join(" "))), text);
    }
}
