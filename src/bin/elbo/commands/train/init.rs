//! `--init`: the weights that a run starts from.

use crate::data::DataDescription;
use crate::data::train_test::TrainTestSplit;
use crate::failure::{Failure, Result};
use crate::model::{self, ModelMetadata};
use crate::text::{counted, listed};
use elbo::vae::{Config, Parameters, Vae};
use std::path::Path;

/// A model that a run starts from.
pub struct InitialModel<'a> {
    path: &'a Path,
    vae: Vae,
    metadata: ModelMetadata,
}

impl<'a> InitialModel<'a> {
    pub fn open(path: &'a Path) -> Result<Self> {
        let (vae, metadata) = model::open(path)?;
        Ok(Self { path, vae, metadata })
    }

    /// Names of the columns that the weights belong to.
    pub fn columns(&self) -> &[String] {
        &self.metadata.data.columns
    }

    /// Returns an error if the weights belong to other columns, images or classes than those of the data, and a
    /// warning if they belong to another scaling. Of a model of another program nothing is known.
    pub fn check(&self, split: &TrainTestSplit) -> Result<Option<String>> {
        let (before, now) = (&self.metadata.data, &split.description());
        let (model, data) = (self.path.display(), &split.data.name);
        let wrong = |reason: String| Err(Failure::Usage(format!("--init {model}: {reason}")));
        if before.has_names() && now.has_names() && before.columns != now.columns {
            let lacks = |names: &[String], name: &String| !names.contains(name);
            if let Some(name) = before.columns.iter().find(|name| lacks(&now.columns, name)) {
                return wrong(format!(
                    "the model was trained on a column '{name}', which {data} does not have; the columns to train \
                     on are {}",
                    listed(&now.columns)
                ));
            }
            if let Some(name) = now.columns.iter().find(|name| lacks(&before.columns, name)) {
                return wrong(format!(
                    "{data} has a column '{name}', which the model was not trained on; its columns are {}; exclude \
                     others with --drop-columns",
                    listed(&before.columns)
                ));
            }
        }
        if let (Some(was), Some(is)) = (before.image, now.image)
            && was != is
        {
            return wrong(format!(
                "the model was trained on images of {was}; those of {data} are {is}"
            ));
        }
        let is_known = self.metadata.training.is_some() || !before.classes.is_empty();
        let conditions = self.vae.config().conditions();
        if conditions > 0 && split.classes() > 0 && is_known && before.classes != now.classes {
            return wrong(format!(
                "the model has {}; {data} has {}",
                classes(before, conditions),
                classes(now, split.classes())
            ));
        }
        let (was, is) = (scale(before), scale(now));
        Ok((self.metadata.training.is_some() && was != is).then(|| {
            format!(
                "--init {model}: the model was trained on rows that were {was}; those of this run are {is}, so \
                 its weights do not fit them (see --scale and --signed)"
            )
        }))
    }
}

/// Names or number of classes, for messages.
fn classes(data: &DataDescription, count: usize) -> String {
    match data.classes.is_empty() {
        true => format!("{} numbered from 0", counted(count, "class")),
        false => format!("the classes {}", listed(&data.classes)),
    }
}

/// Kind of scaling, whose values differ between data sets.
fn scale(data: &DataDescription) -> String {
    let preparation = data.preparation();
    match preparation.is_empty() {
        true => "not scaled".to_owned(),
        false => preparation.join(" and ").replace("scaled and clipped", "scaled"),
    }
}

/// Returns a model of this configuration with the weights of a model file.
pub fn from_weights(source: &InitialModel, config: Config) -> Result<Vae> {
    let InitialModel { path, vae: source, .. } = source;
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
