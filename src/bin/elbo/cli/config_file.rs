//! Options of `elbo train` in layers: a preset, a configuration file, the checkpoint of an interrupted run, and
//! the command line.
//!
//! The layers are merged as data, before anything is validated: a later layer replaces the options of an
//! earlier one and drops those that depended on what it replaced. The merged options are then parsed as one
//! command line, so there is one parser, one set of domains and one set of messages.

use crate::commands::train::{Preset, saved_settings};
use crate::failure::{Failure, Result};
use crate::options::dependent::{DEPENDENT, Dependent, USUAL_WITH, replaced_by};
use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// Options of one call, which are neither read from a file nor written to one.
pub const OF_A_CALL: [&str; 11] = [
    "config",
    "preset",
    "resume",
    "out",
    "overwrite",
    "json",
    "quiet",
    "threads",
    "simd",
    "help",
    "version",
];

/// Options that are allowed beside `--resume`: those that change no step that is done already.
const BESIDE_RESUME: [&str; 8] =
    ["resume", "epochs", "patience", "threads", "simd", "json", "quiet", "checkpoint-every"];

/// Makes `elbo train` accept any value of any option, and `=false` for switches: values are parsed when the
/// layers are merged.
pub fn lenient(command: Command) -> Command {
    command.mut_subcommand("train", |train| {
        train.mut_args(|option| match option.get_action() {
            ArgAction::SetTrue => option
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(["true", "false"]),
            ArgAction::Set => option.value_parser(ValueParser::os_string()),
            _ => option,
        })
    })
}

/// The options of a call of `elbo train`, merged from all layers.
pub struct Merged {
    options: BTreeMap<String, Setting>,
    /// Options of a file or a preset that a later layer dropped, each with the note that says so.
    dropped: Vec<(String, String)>,
}

struct Setting {
    value: OsString,
    /// Name of the file or the preset that it comes from; `None` for the command line.
    origin: Option<String>,
}

impl Merged {
    /// Merges the layers of a call; `matches` are those of [`lenient`] options, `train` the strict ones.
    pub fn read(train: &Command, matches: &ArgMatches) -> Result<Self> {
        let typed = typed(train, matches);
        let mut merged = Self { options: BTreeMap::new(), dropped: Vec::new() };
        let mut add = |origin: &str, text: &str| -> Result<()> {
            merged.cover(train, Some(origin), parse(train, origin, text)?);
            Ok(())
        };
        if let Some(name) = typed.get("preset") {
            // An unknown name is left to the parser.
            let preset = name.to_str().and_then(|name| Preset::from_str(name, true).ok());
            if let Some(preset) = preset {
                add(&format!("--preset {}", name.display()), preset.text())?;
            }
        }
        if let Some(path) = typed.get("config") {
            let path = Path::new(path);
            let text = fs::read_to_string(path).map_err(|error| {
                let expected =
                    "expected a TOML file of options, such as the run.toml of an earlier run";
                Failure::Run(format!("{}: cannot read: {error}; {expected}", path.display()))
            })?;
            add(&path.display().to_string(), &text).map_err(|failure| {
                let is_toml = path.extension().is_some_and(|extension| extension == "toml");
                let hint = "--config reads options in TOML; for data use --data";
                if is_toml { failure } else { Failure::Usage(format!("{failure}; {hint}")) }
            })?;
        }
        if let Some(folder) = typed.get("resume") {
            refuse_beside_resume(&typed)?;
            add("the checkpoint", &saved_settings(Path::new(folder))?)?;
            let out = BTreeMap::from([("out".to_owned(), folder.clone())]);
            merged.cover(train, Some("--resume"), out);
        }
        merged.cover(train, None, typed);
        Ok(merged)
    }

    /// Adds a layer above the others.
    fn cover(&mut self, train: &Command, origin: Option<&str>, layer: BTreeMap<String, OsString>) {
        let held = self.rules(train);
        let mut above = BTreeSet::new();
        for (name, value) in &layer {
            self.options.remove(name);
            let option = option(train, name).expect("a known option");
            let value = &in_known_case(option, value);
            if is_taken_back(option, value) {
                continue;
            }
            if !is_default(option, value) {
                for other in
                    replaced_by(name).into_iter().filter(|other| !layer.contains_key(*other))
                {
                    self.drop_option(train, other, &format!("--{name} replaces it"));
                }
            }
            above.insert(name.clone());
            let setting = Setting { value: value.clone(), origin: origin.map(str::to_owned) };
            self.options.insert(name.clone(), setting);
        }
        // Options below that depended on what was replaced; and those that depended on these.
        loop {
            let holds = self.rules(train);
            let lost = held.iter().find(|name| {
                self.options.contains_key(**name)
                    && !above.contains(**name)
                    && !holds.contains(name)
            });
            let Some(lost) = lost else { break };
            let usual = USUAL_WITH.iter().map(|(_, rule)| rule);
            let rule = DEPENDENT.iter().chain(usual).find(|rule| rule.option == *lost);
            let reason =
                rule.map_or_else(String::new, |Dependent { on, values, .. }| match values {
                    [] => format!("it requires --{on}"),
                    values => format!("it applies only with --{on} {}", values.join(" or ")),
                });
            self.drop_option(train, lost, &reason);
        }
    }

    /// Removes an option that something else replaces, and keeps a note of it if it came from a file or a preset.
    fn drop_option(&mut self, train: &Command, name: &str, reason: &str) {
        let Some(Setting { value, origin: Some(origin) }) = self.options.remove(name) else {
            return;
        };
        let Some(option) = option(train, name).filter(|option| !is_default(option, &value)) else {
            return;
        };
        let value = if is_switch(option) { String::new() } else { format!(" {}", value.display()) };
        let note = format!("note: --{name}{value} of {origin} is dropped: {reason}");
        self.dropped.push((name.to_owned(), note));
    }

    /// Notes of the options of files and presets that were dropped and not given again.
    pub fn notes(&self) -> Vec<String> {
        let dropped = self.dropped.iter().filter(|(name, _)| !self.options.contains_key(name));
        dropped.map(|(_, note)| note.clone()).collect()
    }

    /// The options that come from a preset or a file, each with its origin. The directory of a resumed run is given
    /// on the command line.
    pub fn origins(&self) -> Vec<(String, String)> {
        let origin =
            |(name, setting): (&String, &Setting)| Some((name.clone(), setting.origin.clone()?));
        self.options.iter().filter(|(name, _)| *name != "out").filter_map(origin).collect()
    }

    /// Returns the dependent options whose condition holds.
    fn rules(&self, train: &Command) -> Vec<&'static str> {
        let value = |name: &str| match self.options.get(name) {
            Some(setting) => setting.value.to_str().map(str::to_owned),
            None => option(train, name)?.get_default_values().first()?.to_str().map(str::to_owned),
        };
        let usual = USUAL_WITH.iter().filter(|(start, rule)| {
            value(rule.option).is_some_and(|value| value.to_lowercase().starts_with(start))
        });
        DEPENDENT
            .iter()
            .chain(usual.map(|(_, rule)| rule))
            .filter(|rule| rule.holds(value(rule.on).as_deref()))
            .map(|rule| rule.option)
            .collect()
    }

    /// The merged options as a command line.
    pub fn arguments(&self, train: &Command) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["elbo".into(), "train".into()];
        for (name, Setting { value, .. }) in &self.options {
            let mut argument = OsString::from(format!("--{name}"));
            if !option(train, name).is_some_and(is_switch) {
                argument.push("=");
                argument.push(value);
            }
            arguments.push(argument);
        }
        arguments
    }

    /// Returns the file or the preset that an option comes from; `None` for the command line.
    pub fn origin(&self, name: &str) -> Option<&str> {
        self.options.get(name)?.origin.as_deref()
    }
}

/// The options that were typed, with their last values.
fn typed(train: &Command, matches: &ArgMatches) -> BTreeMap<String, OsString> {
    let mut typed = BTreeMap::new();
    for option in train.get_arguments() {
        let (id, Some(name)) = (option.get_id().as_str(), option.get_long()) else { continue };
        if matches.try_contains_id(id).is_ok_and(|known| known)
            && matches.value_source(id) == Some(ValueSource::CommandLine)
            && let Some(value) = matches.get_raw(id).and_then(Iterator::last)
        {
            typed.insert(name.to_owned(), value.to_owned());
        }
    }
    typed
}

/// Returns whether a value takes the option back, as if it had not been given.
fn is_taken_back(option: &Arg, value: &OsString) -> bool {
    let name = option.get_long().unwrap_or_default();
    if is_switch(option) {
        return value == "false";
    }
    // Of some options, `none` is a value.
    let takes_none = ["hidden", "encoder", "decoder", "scale", "augment"].contains(&name);
    let takes_zero = !["patience", "test-fraction"].contains(&name);
    let is_none = value.to_str().is_some_and(|value| value.eq_ignore_ascii_case("none"));
    (is_none && !takes_none) || (value == "0" && !takes_zero)
}

/// The value in the spelling of the option's list of values, whatever its letter case.
fn in_known_case(option: &Arg, value: &OsString) -> OsString {
    let known = option.get_possible_values();
    let typed = value.to_string_lossy();
    let known = known.iter().find(|known| known.matches(&typed, true));
    known.map_or_else(|| value.clone(), |known| known.get_name().into())
}

fn option<'a>(train: &'a Command, name: &str) -> Option<&'a Arg> {
    let is = |option: &&Arg| {
        option.get_long() == Some(name)
            || option.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    train.get_arguments().find(is)
}

fn is_default(option: &Arg, value: &OsString) -> bool {
    matches!(option.get_default_values(), [default] if default.as_os_str() == value)
}

fn is_switch(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

fn refuse_beside_resume(typed: &BTreeMap<String, OsString>) -> Result<()> {
    match typed.keys().find(|name| !BESIDE_RESUME.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Failure::Usage(format!(
            "--{name} cannot be used with --resume: a resumed run keeps its options; start another run with \
             --config DIR/run.toml --{name} … and a new --out"
        ))),
    }
}

/// The options in a TOML file.
fn parse(train: &Command, origin: &str, text: &str) -> Result<BTreeMap<String, OsString>> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = 1 + before.matches('\n').count();
        Failure::Usage(format!("{origin}: line {line}: {}", error.message()))
    })?;
    let mut options = BTreeMap::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let wrong = |reason: String| Failure::Usage(format!("{origin}: {key}{reason}"));
        let Some(known) = option(train, &name) else {
            return Err(wrong(format!(": {}", unknown(train, &name))));
        };
        let name = known.get_long().unwrap_or_default().to_owned();
        if OF_A_CALL.contains(&name.as_str()) {
            return Err(wrong(": this option can only be given on the command line".to_owned()));
        }
        let expected = |what: &str| wrong(format!(" = {value}; expected {what}"));
        let text = match &value {
            Value::Boolean(on) if is_switch(known) => on.to_string(),
            _ if is_switch(known) => return Err(expected("true or false")),
            Value::Boolean(_) => {
                return Err(expected("a value (see `elbo train --help`)"));
            }
            value => {
                written(value).ok_or_else(|| expected("a string, a number, or a list of these"))?
            }
        };
        options.insert(name, text.into());
    }
    Ok(options)
}

fn unknown(train: &Command, name: &str) -> String {
    let options = train.get_arguments().filter(|option| !option.is_hide_set());
    let names = options.filter_map(Arg::get_long);
    let near = names.map(|known| (strsim::levenshtein(known, name), known)).min();
    let near = near.filter(|(distance, _)| *distance <= 2);
    let near = near.map_or(String::new(), |(_, near)| format!("; did you mean {near}?"));
    format!("not an option of `elbo train`{near}")
}

/// A TOML value as it would be typed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition;

    fn train() -> Command {
        let mut command = definition();
        command.build();
        command.find_subcommand("train").unwrap().clone()
    }

    /// The options that a command line comes to, without the files it names.
    fn merged(line: &str) -> String {
        let matches = lenient(definition()).try_get_matches_from(line.split(' ')).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let train = train();
        let arguments = Merged::read(&train, matches).unwrap().arguments(&train);
        let words: Vec<_> = arguments[2..].iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    /// Merges layers of TOML, the last one on top.
    fn layers(texts: &[&str]) -> Merged {
        let train = train();
        let mut merged = Merged { options: BTreeMap::new(), dropped: Vec::new() };
        for (i, text) in texts.iter().enumerate() {
            let origin = format!("{i}.toml");
            merged.cover(&train, Some(&origin), parse(&train, &origin, text).unwrap());
        }
        merged
    }

    fn names(merged: &Merged) -> String {
        merged.options.keys().cloned().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keeps_a_command_line_without_files() {
        assert_eq!(merged("elbo train"), "");
        assert_eq!(
            merged("elbo --threads 2 train --latent 3 -q"),
            "--latent=3 --quiet --threads=2"
        );
        assert_eq!(
            merged("elbo train --latent 3 --latent 4 --layer-norm"),
            "--latent=4 --layer-norm"
        );
        assert_eq!(merged("elbo train --layer-norm=false --free-bits none"), "");
        assert_eq!(merged("elbo train --dropout none --test-fraction 0 --latent none"), "");
        assert_eq!(merged("elbo train --hidden none --scale none"), "--hidden=none --scale=none");
        assert_eq!(
            merged("elbo train --optimizer AdamW --scale MIN-MAX"),
            "--optimizer=adamw --scale=min-max"
        );
        assert_eq!(merged("elbo train --encoder none --learning-rate 1"), "--encoder=none --lr=1");
    }

    #[test]
    fn command_line_replaces_options_of_a_preset() {
        let line = merged("elbo train --preset beta-vae --beta 2");
        assert!(line.contains("--beta=2") && line.contains("--anneal=linear"), "{line}");
        for (line, kept, dropped) in [
            ("tabular --likelihood squared-error", "--scale", "--variance"),
            ("tabular --likelihood bernoulli", "--hidden", "--scale"),
            ("beta-vae --anneal none", "--beta", "--anneal"),
            ("beta-vae --capacity 25", "--latent", "--beta"),
            ("iwae --free-bits 0.1", "--augment", "--estimator"),
            ("tabular --patience 0", "--epochs", "--patience"),
        ] {
            let line = merged(&format!("elbo train --preset {line}"));
            assert!(line.contains(kept) && !line.contains(dropped), "{line}");
        }
    }

    #[test]
    fn notes_name_each_dropped_option_and_its_origin() {
        let notes = |layer: &str| {
            let lower = "likelihood = 'gaussian'\nvariance = 'shared'\nscale = 'standardize'\nbeta = 4\nanneal = \
                         'linear'\nanneal-over = '9epochs'\nreduction = 'batch-mean'\nsigned = true";
            layers(&[lower, layer]).notes().join("\n")
        };
        let of = "of 0.toml is dropped";
        assert_eq!(
            notes("likelihood = 'squared-error'"),
            format!("note: --variance shared {of}: it applies only with --likelihood gaussian")
        );
        assert_eq!(
            notes("capacity = 9"),
            format!(
                "note: --anneal linear {of}: --capacity replaces it\nnote: --beta 4 {of}: --capacity replaces \
                 it\nnote: --anneal-over 9epochs {of}: it requires --anneal"
            )
        );
        assert_eq!(
            notes("likelihood = 'bernoulli'\nvariance = 'none'"),
            format!(
                "note: --scale standardize {of}: it applies only with --likelihood gaussian or squared-error\n\
                 note: --signed {of}: it applies only with --likelihood gaussian or squared-error"
            )
        );
        assert_eq!(
            notes("anneal = 'none'\nbeta = 1"),
            format!("note: --anneal-over 9epochs {of}: it requires --anneal")
        );
        assert_eq!(notes("latent = 3"), "");
        assert_eq!(notes("variance = 'none'\nbeta = 'none'"), "");
        // Dropped and given again.
        let merged = layers(&[
            "variance = 'shared'\nlikelihood = 'gaussian'",
            "likelihood = 'bernoulli'",
            "likelihood = 'gaussian'\nvariance = 2",
        ]);
        assert_eq!(merged.notes(), [""; 0]);
    }

    #[test]
    fn later_layer_drops_what_depended_on_a_replaced_choice() {
        let kept = |lower, upper| names(&layers(&[lower, upper]));
        assert_eq!(kept("optimizer = 'sgd'\nmomentum = 0.9", "optimizer = 'adam'"), "optimizer");
        assert_eq!(
            kept("data = 'a'\nlabels = 'b'\ntest = 'c'", "test-fraction = 0.2"),
            "data labels test-fraction"
        );
        assert_eq!(kept("data = 'a'\nlabels = 'b'", "data = 'c'"), "data");
        assert_eq!(kept("free-bits = 1\nfree-bits-per = 'sample'", "capacity = 25"), "capacity");
        assert_eq!(kept("capacity = 25\ncapacity-gamma = 3", "beta = 4"), "beta");
        // A default value replaces nothing else.
        assert_eq!(kept("capacity = 25", "reduction = 'batch-mean'"), "capacity reduction");
        // Wrong within one layer stays wrong.
        assert_eq!(kept("cycles = 3", "latent = 2"), "cycles latent");
        assert_eq!(
            kept("clip-norm = 1\nclip-value = 2", "latent = 2"),
            "clip-norm clip-value latent"
        );
    }

    #[test]
    fn writes_values_of_every_type_as_they_are_typed() {
        let merged = layers(&[
            "hidden = [512, 256]\nlr = 1e-3\nlayer_norm = true\nbeta = 4\noptimiser = 'adamw'",
        ]);
        let value = |name: &str| merged.options[name].value.to_str().unwrap();
        assert_eq!([value("hidden"), value("lr"), value("beta")], ["512,256", "0.001", "4"]);
        assert_eq!([value("layer-norm"), value("optimizer")], ["true", "adamw"]);
        assert_eq!(merged.origin("beta"), Some("0.toml"));
    }

    #[test]
    fn message_says_where_a_file_is_wrong() {
        let message = |text: &str| parse(&train(), "run.toml", text).unwrap_err().to_string();
        assert_eq!(
            message("latnet = 3"),
            "run.toml: latnet: not an option of `elbo train`; did you mean latent?"
        );
        assert_eq!(
            message("out = 'x'"),
            "run.toml: out: this option can only be given on the command line"
        );
        assert_eq!(message("layer-norm = 1"), "run.toml: layer-norm = 1; expected true or false");
        assert!(message("latent = true").contains("run.toml: latent = true; expected a value"));
        assert!(message("[model]\nlatent = 3").contains("model: not an option"));
        assert!(message("latent = 3\nbeta = ").contains("run.toml: line 2: "));
    }

    #[test]
    fn every_preset_can_be_parsed() {
        for preset in Preset::value_variants() {
            let name = preset.to_possible_value().unwrap().get_name().to_owned();
            let line = merged(&format!("elbo train --preset {name}"));
            assert!(line.split(' ').count() > 4, "{name}: {line}");
            let line = format!("elbo train {line}");
            definition().try_get_matches_from(line.split(' ')).unwrap();
        }
    }
}
