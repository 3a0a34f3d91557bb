//! Options of `elbo train` that come from elsewhere than the command line: a preset, a file, the
//! checkpoint of an interrupted run.
//!
//! They are put in front of what was typed, as if they had been typed too: there is one parser, one
//! set of domains and one set of messages, and what is typed wins because it comes last.

use crate::commands::train::Preset;
use crate::commands::train::saved_settings;
use crate::failure::{Failure, Result};
use clap::{Arg, ArgAction, Command, ValueEnum};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// Options that belong to one call and are neither read from a file nor written to one.
pub const OF_A_CALL: [&str; 10] =
    ["config", "preset", "resume", "out", "json", "quiet", "threads", "simd", "help", "version"];

/// What may be said beside `--resume`: nothing that would make it another run.
const BESIDE_RESUME: [&str; 7] =
    ["resume", "threads", "simd", "json", "quiet", "checkpoint-every", "help"];

/// A command line with what was added to it.
pub struct Expanded {
    pub arguments: Vec<OsString>,
    /// Options that were added, and where each comes from.
    added: Vec<(String, String)>,
}

impl Expanded {
    /// Where the option comes from that a message is about; `None` if it was typed.
    pub fn origin(&self, message: &str) -> Option<&str> {
        let named = |name: &str| {
            ["'", " ", "=", "["].iter().any(|end| message.contains(&format!("'--{name}{end}")))
        };
        let (_, origin) = self.added.iter().find(|(name, _)| named(name))?;
        Some(origin)
    }
}

/// Puts the options of `--preset`, `--config` and `--resume` in front of those typed after `train`.
pub fn expand(arguments: Vec<OsString>, command: &Command) -> Result<Expanded> {
    let as_typed = |arguments| Ok(Expanded { arguments, added: Vec::new() });
    let Some(at) = place_of_train(&arguments) else { return as_typed(arguments) };
    let train = command.find_subcommand("train").expect("a command of this tool");
    let typed = &arguments[at + 1..];

    let mut layers = Layers { train, options: BTreeMap::new() };
    if let Some(name) = value_of(typed, "preset") {
        // A name that there is not is left to the parser.
        if let Some(preset) = name.to_str().and_then(|name| Preset::from_str(name, false).ok()) {
            layers.add(&format!("--preset {}", name.display()), preset.text())?;
        }
    }
    if let Some(path) = value_of(typed, "config") {
        let path = Path::new(path);
        let text = fs::read_to_string(path).map_err(|error| {
            let expected =
                "expected a TOML file of options, such as the run.toml of an earlier run";
            Failure::Run(format!("{}: cannot read: {error}; {expected}", path.display()))
        })?;
        layers.add(&path.display().to_string(), &text)?;
    }
    if let Some(folder) = value_of(typed, "resume") {
        refuse_beside_resume(typed)?;
        let folder = Path::new(folder);
        layers.add("the checkpoint", &saved_settings(folder)?)?;
        layers.insert("out", folder.as_os_str().to_owned(), "--resume");
    }

    let mut rest = Vec::new();
    for token in typed {
        match switched(token, train) {
            // `--layer-norm=false` takes back what a file says.
            Some((name, on)) => {
                layers.options.remove(name);
                if on {
                    rest.push(OsString::from(format!("--{name}")));
                }
            }
            None => rest.push(token.clone()),
        }
    }
    let mut expanded = arguments[..=at].to_vec();
    let mut added = Vec::new();
    for (name, (value, origin)) in layers.options {
        // What is there anyway is not said: an option may be at odds with others only if it is.
        if option(train, &name).is_some_and(|option| is_default(option, &value)) {
            continue;
        }
        if value_of(&rest, &name).is_none() {
            added.push((name.clone(), origin));
        }
        let mut option = OsString::from(format!("--{name}"));
        if !is_switch(train, &name) {
            option.push("=");
            option.push(value);
        } else if value == "false" {
            continue;
        }
        expanded.push(option);
    }
    expanded.extend(rest);
    Ok(Expanded { arguments: expanded, added })
}

/// Where `train` stands, if that is the command: options of the whole tool may come before it.
fn place_of_train(arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(option) = arguments.get(at)?.to_str().filter(|text| text.starts_with("--")) {
        at += if option.contains('=') { 1 } else { 2 };
    }
    (arguments.get(at)? == "train").then_some(at)
}

/// The last value given to an option, after it or behind an equals sign.
fn value_of<'a>(tokens: &'a [OsString], name: &str) -> Option<&'a OsStr> {
    let mut found = None;
    for (i, token) in tokens.iter().enumerate() {
        let Some(text) = token.to_str().and_then(|text| text.strip_prefix("--")) else { continue };
        if text == name {
            found = tokens.get(i + 1).map(OsString::as_os_str);
        } else if let Some((before, after)) = text.split_once('=')
            && before == name
        {
            found = Some(OsStr::new(after));
        }
    }
    found
}

/// `--layer-norm=true` and `--layer-norm=false`.
fn switched<'a>(token: &'a OsString, train: &Command) -> Option<(&'a str, bool)> {
    let (name, value) = token.to_str()?.strip_prefix("--")?.split_once('=')?;
    let on = value.parse().ok()?;
    is_switch(train, name).then_some((name, on))
}

fn option<'a>(train: &'a Command, name: &str) -> Option<&'a Arg> {
    train.get_arguments().find(|option| option.get_long() == Some(name))
}

fn is_default(option: &Arg, value: &OsStr) -> bool {
    matches!(option.get_default_values(), [default] if default.as_os_str() == value)
}

fn is_switch(train: &Command, name: &str) -> bool {
    option(train, name).is_some_and(|option| matches!(option.get_action(), ArgAction::SetTrue))
}

fn refuse_beside_resume(typed: &[OsString]) -> Result<()> {
    let name = |token: &OsString| {
        let text = token.to_str()?.strip_prefix("--")?;
        Some(text.split('=').next().unwrap_or(text).to_owned())
    };
    let foreign = |name: &String| !BESIDE_RESUME.contains(&name.as_str());
    let Some(name) = typed.iter().filter_map(name).find(foreign) else { return Ok(()) };
    Err(Failure::Usage(format!(
        "--{name}: a resumed run keeps the options it began with; begin another one with --config \
         DIR/run.toml --{name} … and a new --out"
    )))
}

/// Options by name, each with where it comes from; a later layer covers an earlier one.
struct Layers<'a> {
    train: &'a Command,
    options: BTreeMap<String, (OsString, String)>,
}

impl Layers<'_> {
    fn insert(&mut self, name: &str, value: OsString, origin: &str) {
        self.options.insert(name.to_owned(), (value, origin.to_owned()));
    }

    fn add(&mut self, origin: &str, text: &str) -> Result<()> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or("", |span| &text[..span.start]);
            let line = 1 + before.matches('\n').count();
            Failure::Usage(format!("{origin}: line {line}: {}", error.message()))
        })?;
        for (key, value) in table {
            let name = key.replace('_', "-");
            if option(self.train, &name).is_none() || OF_A_CALL.contains(&name.as_str()) {
                return Err(Failure::Usage(format!("{origin}: {key}: {}", self.unknown(&name))));
            }
            let wrong = |expected: &str| {
                Failure::Usage(format!("{origin}: {key} = {value}; expected {expected}"))
            };
            let value = match &value {
                Value::Boolean(_) if !is_switch(self.train, &name) => {
                    return Err(wrong("a value, as `elbo help train` describes it"));
                }
                Value::Boolean(on) => on.to_string(),
                _ if is_switch(self.train, &name) => return Err(wrong("true or false")),
                value => {
                    written(value).ok_or_else(|| wrong("a string, a number, or a list of these"))?
                }
            };
            self.insert(&name, value.into(), origin);
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        if OF_A_CALL.contains(&name) {
            return "this option belongs to the command line".to_owned();
        }
        let names = self.train.get_arguments().filter_map(Arg::get_long);
        let near = names.min_by_key(|known| distance(known, name));
        let near = near.filter(|near| distance(near, name) <= 2);
        let near = near.map_or(String::new(), |near| format!("; is it {near}?"));
        format!("no option of `elbo train`{near}")
    }
}

/// A value as one would type it.
pub fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Array(values) => {
            let values: Option<Vec<_>> = values.iter().map(written).collect();
            Some(values?.join(","))
        }
        Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let least = (row[j] + 1).min(row[j + 1] + 1).min(diagonal + usize::from(from != to));
            diagonal = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn expanded(line: &str) -> Result<Vec<String>> {
        let arguments = line.split(' ').map(OsString::from).collect();
        let expanded = expand(arguments, &Cli::command())?;
        Ok(expanded.arguments.into_iter().map(|a| a.into_string().unwrap()).collect())
    }

    fn layers(text: &str) -> Result<BTreeMap<String, (OsString, String)>> {
        let command = Cli::command();
        let train = command.find_subcommand("train").unwrap();
        let mut layers = Layers { train, options: BTreeMap::new() };
        layers.add("run.toml", text)?;
        Ok(layers.options)
    }

    #[test]
    fn a_command_line_without_files_is_left_alone() {
        for line in [
            "elbo",
            "elbo train",
            "elbo --threads 2 train --latent 3",
            "elbo sample --out train --config x",
            "elbo --threads",
        ] {
            assert_eq!(expanded(line).unwrap().join(" "), line);
        }
    }

    #[test]
    fn a_preset_comes_before_what_is_typed() {
        let line = expanded("elbo --threads=1 train --preset beta-vae --beta 2").unwrap().join(" ");
        let beta = line.find("--beta=4").expect("the preset's own");
        assert!(line.starts_with("elbo --threads=1 train --") && line.ends_with("--beta 2"));
        assert!(beta < line.find("--preset").unwrap(), "{line}");
    }

    #[test]
    fn values_of_every_type_are_written_as_they_would_be_typed() {
        let options = layers(
            "hidden = [512, 256]\nlr = 1e-3\nlayer_norm = true\nbeta = 4\nanneal = 'linear'",
        );
        let options = options.unwrap();
        let value = |name: &str| options[name].0.to_str().unwrap();
        assert_eq!(value("hidden"), "512,256");
        assert_eq!(value("lr"), "0.001");
        assert_eq!([value("layer-norm"), value("beta"), value("anneal")], ["true", "4", "linear"]);
    }

    #[test]
    fn a_file_that_is_wrong_is_told_where() {
        let message = |text: &str| layers(text).unwrap_err().to_string();
        assert_eq!(
            message("latnet = 3"),
            "run.toml: latnet: no option of `elbo train`; is it latent?"
        );
        assert_eq!(message("out = 'x'"), "run.toml: out: this option belongs to the command line");
        assert_eq!(message("layer-norm = 1"), "run.toml: layer-norm = 1; expected true or false");
        assert!(message("latent = true").starts_with("run.toml: latent = true; expected a value"));
        assert!(message("[model]\nlatent = 3").contains("model: no option"));
        assert!(message("latent = 3\nbeta = ").starts_with("run.toml: line 2: "));
    }

    #[test]
    fn every_preset_can_be_parsed() {
        for preset in Preset::value_variants() {
            let name = preset.to_possible_value().unwrap().get_name().to_owned();
            let line = expanded(&format!("elbo train --preset {name}")).unwrap();
            assert!(line.len() > 4, "{name} says nothing");
            Cli::command().try_get_matches_from(line).unwrap();
        }
    }
}
