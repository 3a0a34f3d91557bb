//! Mapping files: another program's names for this crate's tensors, and what names do not tell.

use crate::failure::{Failure, Result};
use elbo::layers::activation::Activation;
use elbo::vae::{Likelihood, Naming, Variance};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    activation: Option<String>,
    likelihood: Option<String>,
    variance: Option<toml::Value>,
    #[serde(default)]
    names: BTreeMap<String, String>,
}

/// Reads a mapping file.
pub fn read(path: &Path) -> Result<Naming> {
    let wrong = |reason: String| Failure::Run(format!("{}: {reason}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot read: {error}")))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> std::result::Result<Naming, String> {
    let map: Map = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        format!("{line}{}; expected a mapping (`elbo help convert` shows one)", error.message())
    })?;
    let mut naming = Naming::new(map.names).map_err(|error| match error {
        elbo::Error::Config { expected, found, .. } => {
            format!("[names]: expected {expected}, found {found}")
        }
        error => error.to_string(),
    })?;
    if let Some(name) = &map.activation {
        let activation = name.parse::<Activation>().map_err(|error| error.to_string())?;
        naming = naming.activation(activation);
    }
    let gaussian = map.likelihood.as_deref() == Some("gaussian");
    if map.variance.is_some() && !gaussian {
        return Err("variance: it belongs to likelihood = \"gaussian\"".to_owned());
    }
    let likelihood = match map.likelihood.as_deref() {
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
        Some(toml::Value::String(name)) => match name.as_str() {
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
    fn a_mapping_says_names_and_what_they_do_not_tell() {
        let text = "activation = \"leaky-relu:0.2\"\nlikelihood = \"gaussian\"\nvariance = 2\n\
                    [names]\nmu = \"a\"\n\"encoder.0\" = \"b.c\"\n";
        let expected = Naming::new([("encoder.0", "b.c"), ("mu", "a")])
            .unwrap()
            .activation(Activation::LeakyRelu { slope: 0.2 })
            .likelihood(Likelihood::Gaussian(Variance::Fixed(2.0)));
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), Naming::new::<&str, &str>([]).unwrap());
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        for (text, part) in [
            ("activation = \"swish\"", "expected relu, leaky-relu"),
            ("\nlikelihood = 3", "line 2: invalid type: integer"),
            ("likelihood = \"poisson\"", "likelihood: expected bernoulli, "),
            ("variance = 1", "variance: it belongs to likelihood = \"gaussian\""),
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
