//! `elbo convert`: conversion between elbo's model files and the state dicts of other programs.

use crate::failure::{Failure, Result};
use crate::model::{self, ModelMetadata};
use crate::options::overwrite::OverwriteOption;
use crate::output::{Console, Inputs, is_stdout};
use clap::{Args, ValueEnum};
use elbo::layers::activation::Activation;
use elbo::vae::{Likelihood, Naming, Vae, Variance};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Convert a model file to a PyTorch state dict, or a state dict to a model file
#[derive(Debug, Args)]
#[command(after_long_help = "\
Layouts:
  elbo     names of elbo, with the configuration
  classic  the VAE of pytorch/examples: fc1, fc21, fc22, fc3, fc4
  pythae   the default networks of pythae's VAE: encoder.layers.0.0 and so on
  map      the names in --map

IN may have any of the first three layouts. --to sets the layout of OUT. --map describes OUT with --to map, \
otherwise IN. A prefix that all names of IN have in common, such as module. or _orig_mod., is ignored. Weights \
are [out, in] as in PyTorch, in float32, and are copied bit by bit. A model is refused \
if the layout of OUT cannot represent it: other activations, layer normalization, conditions, or more hidden \
layers; with pythae, also hidden widths other than 512.

A model read from classic or pythae gets the Bernoulli likelihood, whose mean is their sigmoid output. That is \
the loss of the classic example and of pythae's reconstruction_loss=\"bce\". Pythae's default, half the squared \
error of the sigmoid, is not available here: codes, reconstructions and samples of such a model are the same, \
but `elbo eval` and `elbo train` use the Bernoulli loss.

A mapping is a TOML file of elbo's names = other names, for layers (their .weight and .bias) or single \
tensors. It also sets what the names do not determine:

  activation = \"gelu\"              # as --activation of `elbo train`; default relu
  likelihood = \"gaussian\"          # as --likelihood; default bernoulli
  variance = \"per-feature\"         # for gaussian; default 1
  [names]
  \"encoder.0\" = \"enc.0\"
  mu = \"to_mean\"
  logvar = \"to_logvar\"
  \"decoder.0\" = \"dec.0\"
  \"decoder.1\" = \"dec.2\"
  \"likelihood.logvar\" = \"log_noise\"

Layer normalizations are encoder_norm.0, decoder_norm.0 and so on. Without [names], the names are elbo's.

Examples:
  elbo convert elbo-out/model.safetensors classic.safetensors --to classic
  python3 -c \"import safetensors.torch as s; model.load_state_dict(s.load_file('classic.safetensors'))\"
  python3 -c \"import safetensors.torch as s; s.save_file(model.state_dict(), 'pythae.safetensors')\"
  elbo convert pythae.safetensors model.safetensors
  elbo convert mine.safetensors model.safetensors --map mine.toml
  elbo convert model.safetensors mine.safetensors --to map --map mine.toml")]
pub struct ConvertOptions {
    /// Read the model from IN, a model file or a PyTorch state dict
    ///
    /// In the safetensors format.
    #[arg(value_name = "IN")]
    pub input: PathBuf,

    /// Write the converted model to OUT
    #[arg(value_name = "OUT")]
    pub out: PathBuf,

    /// Set the layout of OUT: elbo, classic, pythae or map
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t = LayoutName::Elbo,
          hide_possible_values = true)]
    pub to: LayoutName,

    /// Read a mapping of names from FILE
    ///
    /// For OUT with --to map, otherwise for IN.
    #[arg(long, value_name = "FILE", required_if_eq("to", "map"))]
    pub map: Option<PathBuf>,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum LayoutName {
    Elbo,
    Classic,
    Pythae,
    Map,
}

pub fn run(args: &ConvertOptions, console: Console) -> Result<()> {
    check_out(args)?;
    let map = args.map.as_deref().map(read_mapping).transpose()?;
    let (from, to) = match args.to {
        LayoutName::Map => (None, map),
        LayoutName::Elbo => (map, None),
        LayoutName::Classic => (map, Some(Naming::classic())),
        LayoutName::Pythae => (map, Some(Naming::pythae())),
    };
    let (vae, notes) = match &from {
        Some(naming) => {
            (Vae::load_as(model::file_of(&args.input), naming)?, ModelMetadata::default())
        }
        None => model::open(&args.input)?,
    };
    // The library renames the file to OUT once it is complete.
    let written = match &to {
        Some(naming) => vae.save_as(&args.out, naming),
        None if notes == ModelMetadata::default() => vae.save(&args.out),
        None => vae.save_with(&args.out, &notes),
    };
    written.map_err(|error| {
        Failure::Run(match error {
            elbo::Error::Io { path, source } => {
                format!("{}: cannot write: {source}", path.display())
            }
            elbo::Error::ModelFile { reason, .. } => {
                format!("{}: {reason}", args.input.display())
            }
            error => error.to_string(),
        })
    })?;
    let prepared = notes.data.preparation().join(" and ");
    if to.is_some() && !prepared.is_empty() {
        console.note(&format!(
            "note: the model was trained on data {prepared}; a state dict does not record this"
        ));
    }
    let config = vae.config();
    console.note(&format!(
        "{config}, {} layers, {} likelihood: {}",
        config.activation(),
        config.likelihood().name(),
        args.out.display()
    ));
    Ok(())
}

/// Checks that OUT can be written and is not a file that the command reads.
fn check_out(args: &ConvertOptions) -> Result<()> {
    let input = model::file_of(&args.input);
    let inputs = Inputs::new([("IN", Some(&input)), ("--map", args.map.as_ref())])?;
    let exists = args.out.exists() && !args.out.is_dir();
    if is_stdout(&args.out) || (exists && !args.out.is_file()) {
        return Err(Failure::Usage(format!("OUT {}: expected a regular file", args.out.display())));
    }
    args.overwrite.of(&args.out).check("OUT", &inputs)
}

/// Another program's names for elbo's tensors, and the settings that names do not determine.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    activation: Option<String>,
    likelihood: Option<String>,
    variance: Option<toml::Value>,
    #[serde(default)]
    names: BTreeMap<String, String>,
}

/// Reads a mapping file.
fn read_mapping(path: &Path) -> Result<Naming> {
    let wrong = |reason: String| Failure::Run(format!("{}: {reason}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot read: {error}")))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> std::result::Result<Naming, String> {
    let map: Mapping = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        format!("{line}{}; see the example in `elbo help convert`", error.message())
    })?;
    let mut naming = Naming::new(map.names).map_err(|error| match error {
        elbo::Error::Config { expected, found, .. } => {
            format!("[names]: expected {expected}, found {found}")
        }
        error => error.to_string(),
    })?;
    if let Some(name) = &map.activation {
        let activation =
            name.to_lowercase().parse::<Activation>().map_err(|error| error.to_string())?;
        naming = naming.activation(activation);
    }
    let name = map.likelihood.map(|name| name.to_lowercase());
    let gaussian = name.as_deref() == Some("gaussian");
    if map.variance.is_some() && !gaussian {
        return Err("variance: applies only to likelihood = \"gaussian\"".to_owned());
    }
    let likelihood = match name.as_deref() {
        None | Some("bernoulli") => Likelihood::Bernoulli,
        Some("continuous-bernoulli") => Likelihood::ContinuousBernoulli,
        Some("squared-error") => Likelihood::SquaredError,
        Some("tanh-squared-error") => Likelihood::TanhSquaredError,
        Some("gaussian") => Likelihood::Gaussian(variance(map.variance)?),
        Some(other) => {
            return Err(format!(
                "likelihood: expected bernoulli, continuous-bernoulli, squared-error, \
                 tanh-squared-error or gaussian, found {other}"
            ));
        }
    };
    Ok(naming.likelihood(likelihood))
}

fn variance(value: Option<toml::Value>) -> std::result::Result<Variance, String> {
    let fixed = |variance: f64| {
        let single = variance as f32;
        (single > 0.0 && single.is_finite()).then_some(Variance::Fixed(single))
    };
    let variance = match &value {
        None => Some(Variance::Fixed(1.0)),
        Some(toml::Value::Integer(n)) => fixed(*n as f64),
        Some(toml::Value::Float(v)) => fixed(*v),
        Some(toml::Value::String(name)) => match &name.to_lowercase()[..] {
            "shared" => Some(Variance::Shared),
            "per-feature" => Some(Variance::PerFeature),
            "optimal" => Some(Variance::Optimal),
            _ => None,
        },
        Some(_) => None,
    };
    variance.ok_or_else(|| {
        "variance: expected a number above 0, \"shared\", \"per-feature\" or \"optimal\"".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_sets_names_activation_and_likelihood() {
        let text = "activation = \"Leaky-ReLU:0.2\"\nlikelihood = \"Gaussian\"\nvariance = 2\n\
                    [names]\nmu = \"a\"\n\"encoder.0\" = \"b.c\"\n";
        let expected = Naming::new([("encoder.0", "b.c"), ("mu", "a")])
            .unwrap()
            .activation(Activation::LeakyRelu { slope: 0.2 })
            .likelihood(Likelihood::Gaussian(Variance::Fixed(2.0)));
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), Naming::new::<&str, &str>([]).unwrap());
    }

    #[test]
    fn rejects_invalid_mappings_with_a_message_each() {
        for (text, part) in [
            ("activation = \"swish\"", "expected relu, leaky-relu"),
            ("\nlikelihood = 3", "line 2: invalid type: integer"),
            ("likelihood = \"poisson\"", "likelihood: expected bernoulli, "),
            ("variance = 1", "variance: applies only to likelihood = \"gaussian\""),
            ("likelihood = \"gaussian\"\nvariance = -1", "variance: expected a number above 0"),
            (
                "likelihood = \"gaussian\"\nvariance = \"big\"",
                "variance: expected a number above 0",
            ),
            ("[layers]\nmu = \"a\"", "line 1: unknown field `layers`"),
            ("[names]\nmu = \"a\"\nlogvar = \"a\"", "[names]: expected each name once, found"),
            ("mu = ", "line 1: "),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
