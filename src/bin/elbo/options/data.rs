//! A model, data for it, and what is done to them on the way.

use super::reading::ReadingOptions;
use super::values::{HeightWidth, named};
use crate::data::domain::{self, LikelihoodSource};
use crate::data::formats::images::is_picture;
use crate::data::labels;
use crate::data::scaling::Scaling;
use crate::data::{Data, DataDescription, ImageShape, Plan};
use crate::failure::{Failure, Result};
use crate::model::{self, ModelMetadata};
use clap::Args;
use elbo::Augmentation;
use elbo::vae::Vae;
use std::path::{Path, PathBuf};

/// What is done to the data each time they are seen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct AugmentOption {
    /// What is done to the data each time they are seen, in training and test alike: none, binarize (each
    /// value a draw of 0 or 1, of which it is the probability) or dequantize (each of 256 gray levels
    /// spread over its share of 0 to 1; dequantize:16 for 16 levels)
    #[arg(long, value_name = "NAME", default_value = "none", value_parser = named::<Augmentation>)]
    pub augment: Augmentation,
}

impl AugmentOption {
    /// That it has something to work on.
    pub fn check(&self, signed: bool) -> Result<()> {
        if signed && self.augment != Augmentation::None {
            return Err(Failure::Usage(
                "--augment works on data from 0 to 1, and --signed makes them -1 to 1; choose one"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// A trained model.
#[derive(Clone, Debug, Args)]
pub struct ModelFile {
    /// The model: a model.safetensors that `elbo train` wrote, or a PyTorch state dict in that
    /// format
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
}

/// A trained model and data for it.
#[derive(Debug, Args)]
pub struct ModelAndData {
    #[command(flatten)]
    pub model: ModelFile,

    /// The data, in any format of `elbo train`; columns, scaling and the size of pictures are those the
    /// model was trained with
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,

    /// The labels of --data, as for `elbo train`: a conditional model wants them, of another one pictures
    /// and tables show them [default: those that come with the rows: of --label-column, else of the column
    /// that the model's labels came from, or of pictures in one folder for each class]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Of a model of --scale min-max: read a number outside of the training rows' range as the nearer end
    /// of it
    #[arg(long)]
    pub clip_to_range: bool,

    /// Map data from 0 to 1, or bytes, to -1 to 1 by 2x - 1: of a model from elsewhere that was trained so
    /// (the file of `elbo train --signed` says so itself)
    #[arg(long)]
    pub signed: bool,

    #[command(flatten)]
    pub reading: ReadingOptions,
}

/// How rows are shown as images.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub struct ImageSize {
    /// Height and width in pixels of an image in pictures, such as 28x28 [default: those of the data's
    /// images where a command reads some, else the most nearly square]
    #[arg(long, value_name = "HxW")]
    pub shape: Option<HeightWidth>,
}

impl ImageSize {
    /// The shape of the rows of such data as images; `None` if they are those of a table, and nobody said
    /// what they look like.
    pub fn images(&self, features: usize, data: &DataDescription) -> Result<Option<ImageShape>> {
        if data.is_table() && self.shape.is_none() {
            return Ok(None);
        }
        self.of(features, data.image).map(Some)
    }

    /// The shape of images of `features` elements, of which the data or the model may know something.
    pub fn of(&self, features: usize, known: Option<ImageShape>) -> Result<ImageShape> {
        let Some(HeightWidth([height, width])) = self.shape else {
            return Ok(known
                .filter(|known| known.elements() == features)
                .unwrap_or_else(|| ImageShape::nearly_square(features)));
        };
        // Three numbers a pixel are its colors.
        for channels in [1, 3] {
            if height.checked_mul(width).and_then(|n| n.checked_mul(channels)) == Some(features) {
                return Ok(ImageShape { height, width, channels });
            }
        }
        Err(Failure::Usage(format!(
            "--shape {height}x{width}: expected height × width to be {features}, \
             the elements of a row (or a third of them, for colors)"
        )))
    }
}

impl ModelFile {
    pub fn open(&self) -> Result<(Vae, ModelMetadata)> {
        model::open(&self.model)
    }
}

impl ModelAndData {
    /// As [`Self::open`], for results that go to `out`, which must be none of the files that are read.
    pub fn open_for(&self, out: &Path) -> Result<(Vae, ModelMetadata, Data)> {
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
    pub fn open(&self, augmentation: Augmentation) -> Result<(Vae, ModelMetadata, Data)> {
        let (vae, mut notes) = self.model.open()?;
        let config = vae.config();
        let conditional = config.conditions() > 0;
        if conditional && self.labels.is_some() && self.reading.label_column.is_some() {
            return Err(Failure::Usage("--labels and --label-column: choose one".to_owned()));
        }
        let like = Some(&notes.data);
        let labeled = conditional && self.labels.is_none();
        let mut data =
            Data::read(&self.data, Plan { options: &self.reading.read(), like, labeled })?;
        // Of a model from elsewhere nobody knows how its data were read.
        notes.data.signed |= self.signed;
        data.signed = notes.data.signed;
        data.conditional = conditional;
        let file = self.model.model.display();
        data.check_width(config.features(), &format!("the model {file}"))?;
        data.scaling = self.scaling(&notes.data, config.features())?;
        domain::check(&data, config.likelihood(), augmentation, LikelihoodSource::Model)?;
        self.label(&mut data, &notes.data, config.conditions())?;
        Ok((vae, notes, data))
    }

    fn scaling(&self, notes: &DataDescription, features: usize) -> Result<Scaling> {
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
    fn label(&self, data: &mut Data, notes: &DataDescription, classes: usize) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_must_fit() {
        let shape = ImageSize { shape: Some("20x30".parse().unwrap()) };
        let image = |height, width, channels| ImageShape { height, width, channels };
        assert_eq!(shape.of(600, None).unwrap(), image(20, 30, 1));
        assert_eq!(shape.of(1800, None).unwrap(), image(20, 30, 3));
        assert!(matches!(shape.of(784, None), Err(Failure::Usage(_))));
        let known = Some(image(10, 20, 3));
        assert_eq!(ImageSize { shape: None }.of(600, known).unwrap(), image(10, 20, 3));
        assert_eq!(ImageSize { shape: None }.of(600, None).unwrap(), image(24, 25, 1));
        assert!("28".parse::<HeightWidth>().is_err() && "0x3".parse::<HeightWidth>().is_err());
    }
}
