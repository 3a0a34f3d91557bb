//! Opening a model and the data that are to go through it.

use crate::args::{Input, Model};
use crate::data::{Data, Plan, is_picture};
use crate::failure::{Failure, Result};
use crate::labels;
use crate::notes::{DataNotes, Notes};
use crate::range::{self, Chosen};
use crate::scaling::Scaling;
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
    /// As [`Self::open`], for results that go to `out`, which must be none of the files that are read.
    pub fn open_for(&self, out: &Path) -> Result<(Vae, Notes, Data)> {
        self.spare(out)?;
        self.open(Augmentation::None)
    }

    fn spare(&self, out: &Path) -> Result<()> {
        // What is not there yet is none of them.
        let Ok(place) = out.canonicalize() else { return Ok(()) };
        let read = [("--data", Some(&self.data)), ("--labels", self.labels.as_ref())];
        for (option, path) in read {
            let Some(read) = path.and_then(|path| path.canonicalize().ok()) else { continue };
            if place == read || (read.is_dir() && is_picture(&place) && place.starts_with(&read)) {
                return Err(Failure::Usage(format!(
                    "--out {}: {option} reads this file, and it would be replaced; choose another name",
                    out.display()
                )));
            }
        }
        Ok(())
    }

    /// The model, its notes, and data of its width, its range and its conditions.
    pub fn open(&self, augmentation: Augmentation) -> Result<(Vae, Notes, Data)> {
        let (vae, mut notes) = self.model.open()?;
        let config = vae.config();
        let conditional = config.conditions() > 0;
        if conditional && self.labels.is_some() && self.reading.label_column.is_some() {
            return Err(Failure::Usage("--labels and --label-column: choose one".to_owned()));
        }
        let like = Some(&notes.data);
        let labeled = conditional && self.labels.is_none();
        let mut data = Data::read(&self.data, Plan { options: &self.reading, like, labeled })?;
        // Of a model from elsewhere nobody knows how its data were read.
        notes.data.signed |= self.signed;
        data.signed = notes.data.signed;
        data.conditional = conditional;
        let file = self.model.model.display();
        data.check_width(config.features(), &format!("the model {file}"))?;
        data.scaling = self.scaling(&notes.data, config.features())?;
        range::check(&data, config.likelihood(), augmentation, Chosen::ByModel)?;
        self.label(&mut data, &notes.data, config.conditions())?;
        Ok((vae, notes, data))
    }

    fn scaling(&self, notes: &DataNotes, features: usize) -> Result<Scaling> {
        let mut scaling = notes.scaling.clone();
        if scaling.features().is_some_and(|found| found != features) {
            return Err(Failure::Run(format!(
                "{}: the notes on its data are for another number of features; damaged",
                self.model.model.display()
            )));
        }
        if self.clip_to_range {
            match &mut scaling {
                Scaling::MinMax { clip, .. } => *clip = true,
                _ => {
                    return Err(Failure::Usage(
                        "--clip-to-range belongs to a model of `elbo train --scale min-max`"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(scaling)
    }

    /// Gives each row its class. A model without conditions shows them in pictures.
    fn label(&self, data: &mut Data, notes: &DataNotes, classes: usize) -> Result<()> {
        let raw = match &self.labels {
            Some(path) => Some(labels::read(path, data.len(), &data.name)?),
            None => data.found.take(),
        };
        let Some(raw) = raw else {
            if classes == 0 {
                return Ok(());
            }
            return Err(Failure::Usage(format!(
                "--labels: missing; the model is conditional, with {classes} classes, and wants the label \
                 of each row"
            )));
        };
        data.labels = Some(match classes {
            0 => raw.for_pictures(notes)?,
            classes => raw.among(classes, &notes.classes)?,
        });
        Ok(())
    }
}

/// Whether outputs of such a model lie in [−1, 1] and are shown mapped to gray.
pub fn is_signed(likelihood: Likelihood, by_option: bool) -> bool {
    by_option || likelihood == Likelihood::TanhSquaredError
}
