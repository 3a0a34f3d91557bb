//! Opening a model and the data that are to go through it.

use crate::args::{Input, Model};
use crate::data::Data;
use crate::failure::{Failure, Result};
use crate::labels;
use crate::notes::Notes;
use crate::range::{self, Chosen};
use elbo::Augmentation;
use elbo::vae::{Likelihood, Vae};
use std::path::Path;

/// The model in a file, and the tool's notes about it; empty ones if it comes from elsewhere.
pub fn open(path: &Path) -> Result<(Vae, Notes)> {
    let opened = Vae::load_with::<Notes>(path);
    opened.map(|(vae, notes)| (vae, notes.unwrap_or_default())).map_err(|error| {
        let expected = "expected a model.safetensors that `elbo train` wrote";
        Failure::Run(match error {
            elbo::Error::Io { path, source } => {
                format!("{}: cannot read: {source}; {expected}", path.display())
            }
            error => format!("{error}; {expected}"),
        })
    })
}

impl Model {
    pub fn open(&self) -> Result<(Vae, Notes)> {
        open(&self.model)
    }
}

impl Input {
    /// The model, its notes, and data of its width, its range and its conditions.
    pub fn open(&self, augmentation: Augmentation) -> Result<(Vae, Notes, Data)> {
        let (vae, notes, data) = self.open_labelled(augmentation)?;
        if data.labels.is_some() && vae.config().conditions() == 0 {
            return Err(Failure::Usage(
                "--labels: the model has no conditions; `elbo train --labels` makes one that has"
                    .to_owned(),
            ));
        }
        Ok((vae, notes, data))
    }

    /// As [`Self::open`], where labels are of use to a model without conditions too.
    pub fn open_labelled(&self, augmentation: Augmentation) -> Result<(Vae, Notes, Data)> {
        let (vae, notes) = self.model.open()?;
        let config = vae.config();
        let mut data = Data::read(&self.data)?;
        data.signed = self.signed;
        data.check_width(config.features(), &format!("the model {}", self.model.model.display()))?;
        range::check(&data, config.likelihood(), augmentation, Chosen::ByModel)?;
        match (&self.labels, config.conditions()) {
            (None, 0) => {}
            (Some(path), 0) => data.label(labels::read(path)?)?,
            (None, classes) => {
                return Err(Failure::Usage(format!(
                    "--labels: missing; the model is conditional, with {classes} classes, and wants \
                     the label of each row"
                )));
            }
            (Some(path), classes) => data.label(labels::read(path)?.of_classes(classes)?)?,
        }
        Ok((vae, notes, data))
    }
}

/// Whether outputs of such a model lie in [−1, 1] and are shown mapped to grey.
pub fn is_signed(likelihood: Likelihood, by_option: bool) -> bool {
    by_option || likelihood == Likelihood::TanhSquaredError
}
