//! `--init`: the weights that a run starts from.

use crate::failure::{Failure, Result};
use crate::model;
use elbo::vae::{Config, Parameters, Vae};
use std::path::Path;

/// Returns a model of this configuration with the weights of a model file.
pub fn from_weights(path: &Path, config: Config) -> Result<Vae> {
    let (source, _) = model::open(path)?;
    let wrong = |found: &str, wanted: &str| {
        Failure::Usage(format!(
            "--init {}: the model has {found}; the options of this run ask for {wanted}",
            path.display()
        ))
    };
    let (found, wanted) = (source.config().activation(), config.activation());
    if found != wanted {
        return Err(wrong(&format!("--activation {found}"), &wanted.to_string()));
    }
    // The seed plays no part: all weights are replaced.
    let mut vae = Vae::new(config, 1);
    let [found, wanted] = [source.parameters(), vae.parameters()].map(shapes);
    for (name, shape) in &wanted {
        match found.iter().find(|(other, _)| other == name) {
            Some((_, other)) if other == shape => {}
            Some((_, other)) => {
                return Err(wrong(&format!("{name} of {other}"), shape));
            }
            None => return Err(wrong(&format!("no {name}"), &format!("one of {shape}"))),
        }
    }
    if let Some((name, shape)) =
        found.iter().find(|(name, _)| !wanted.iter().any(|(w, _)| w == name))
    {
        return Err(wrong(&format!("{name} of {shape}"), "none"));
    }
    copy(source.parameters(), vae.parameters_mut())?;
    Ok(vae)
}

/// Names and shapes of all tensors; a bias has the rows of its weight.
fn shapes(parameters: &Parameters) -> Vec<(String, String)> {
    let layers = parameters.names().filter_map(|name| {
        let weight = parameters.weight(name)?;
        Some((format!("{name}.weight"), format!("shape {:?}", weight.shape())))
    });
    let vectors = parameters.vectors().filter_map(|name| {
        Some((name.to_owned(), format!("length {}", parameters.vector(name)?.len())))
    });
    layers.chain(vectors).collect()
}

fn copy(from: &Parameters, to: &mut Parameters) -> Result<()> {
    for name in from.names().map(str::to_owned).collect::<Vec<_>>() {
        if let (Some(weight), Some(bias)) = (from.weight(&name), from.bias(&name)) {
            to.set(&name, weight.view(), bias.view())?;
        }
    }
    for name in from.vectors().map(str::to_owned).collect::<Vec<_>>() {
        if let Some(vector) = from.vector(&name) {
            to.set_vector(&name, vector.view())?;
        }
    }
    Ok(())
}
