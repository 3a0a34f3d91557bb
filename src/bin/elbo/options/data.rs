//! Options for a model and for data that go through it.

use super::reading::ReadingOptions;
use super::values::named;
use crate::data::domain::{Accepted, DomainCheck, LikelihoodSource};
use crate::data::labels::{self, Labeled};
use crate::data::scaling::Scaling;
use crate::data::{Data, DataDescription, ReadOptions, ReadPlan};
use crate::failure::{Failure, Result};
use crate::model::{self, ModelMetadata};
use crate::output::{Console, Inputs, Target};
use crate::text::counted;
use clap::Args;
use elbo::Augmentation;
use elbo::vae::Vae;
use std::path::PathBuf;

/// Augmentation of the data, in training and in evaluation alike.
#[derive(Debug, Args)]
pub struct AugmentOption {
    /// Augmentation: none, binarize or dequantize[:N]
    ///
    /// Applied at each pass. binarize: draw each value as 0 or 1 with its value as the probability of 1; dequantize: spread each of
    /// 256 gray levels (or N) uniformly over its share of [0, 1]. Validation and test data are augmented
    /// too.
    #[arg(long, value_name = "NAME", default_value = "none", help_heading = "Data",
          value_parser = named::<Augmentation>)]
    pub augment: Augmentation,
}

impl AugmentOption {
    /// Returns an error for data that were mapped to [-1, 1].
    pub fn check(&self, signed: bool) -> Result<()> {
        if signed && self.augment != Augmentation::None {
            return Err(Failure::Usage(
                "--augment and --signed cannot be used together: augmentation needs data from 0 to 1"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Args)]
pub struct ModelFile {
    /// Model file, such as elbo-out/model.safetensors
    ///
    /// Written by `elbo train`, or a PyTorch state dict in safetensors format.
    #[arg(long, short, value_name = "FILE")]
    pub model: PathBuf,
}

#[derive(Debug, Args)]
pub struct ModelAndData {
    #[command(flatten)]
    pub model: ModelFile,

    /// Data, in any format of `elbo train`; - for standard input
    ///
    /// Columns, scaling and image size are those of the training data.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,

    /// Labels of --data, one per row
    ///
    /// In any format of `elbo train`. A conditional model requires them; figures and tables of other models
    /// show them [default: labels that come with the data: of --label-column or else of the column that the
    /// model was trained with, or of images in one directory per class].
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Clip values outside the training range (models of --scale min-max)
    ///
    /// With a likelihood of [0, 1] they are clipped in any case, and a warning counts the rows.
    #[arg(long)]
    pub clip_to_range: bool,

    /// Map data from [0, 1] to [-1, 1] (models not written by elbo)
    ///
    /// A model of `elbo train --signed` does so without this option.
    #[arg(long)]
    pub signed: bool,

    #[command(flatten)]
    pub reading: ReadingOptions,
}

impl ModelFile {
    pub fn open(&self) -> Result<(Vae, ModelMetadata)> {
        model::open(&self.model)
    }

    /// Opens the model for results that go to `out`, once it is certain that they can be written there and
    /// replace neither a file that the call reads nor anything but an earlier result.
    pub fn open_for(&self, out: Target, others: Files) -> Result<(Vae, ModelMetadata)> {
        let model = model::file_of(&self.model);
        let own = ("--model", Some(&model));
        let mut inputs = Inputs::new([own].into_iter().chain(others.iter().copied()))?;
        inputs.add_run_of(&model);
        out.check("--out", &inputs)?;
        self.open()
    }
}

/// Files of options, of which some may not be given.
pub type Files<'a> = &'a [(&'static str, Option<&'a PathBuf>)];

impl ModelAndData {
    /// Opens the model and the data for results that go to `out`, as [`ModelFile::open_for`] does.
    pub fn open_for(&self, out: Target, accepted: Accepted) -> Result<(Vae, ModelMetadata, Data)> {
        let files = [("--data", Some(&self.data)), ("--labels", self.labels.as_ref())];
        let opened = self.model.open_for(out, &files)?;
        self.read(opened, Augmentation::None, accepted)
    }

    /// Reads the model, its metadata, and data that have its width, its range and its conditions.
    pub fn open(
        &self,
        augmentation: Augmentation,
        accepted: Accepted,
    ) -> Result<(Vae, ModelMetadata, Data)> {
        self.read(self.model.open()?, augmentation, accepted)
    }

    fn read(
        &self,
        (vae, mut notes): (Vae, ModelMetadata),
        augmentation: Augmentation,
        accepted: Accepted,
    ) -> Result<(Vae, ModelMetadata, Data)> {
        let config = vae.config();
        let conditional = config.conditions() > 0;
        let like = Some(&notes.data);
        let labeled = conditional && self.labels.is_none();
        let options = &self.reading.read();
        let options = &ReadOptions { labels_apart: self.labels.is_some(), ..options.clone() };
        let mut data = Data::read(&self.data, ReadPlan { options, like, labeled, fixed: true })?;
        // Files not written by elbo do not say how their data were read.
        notes.data.signed |= self.signed;
        data.signed = notes.data.signed;
        data.conditional = conditional;
        let file = self.model.model.display();
        data.check_width(config.features(), &format!("the model {file}"))?;
        // Checks that --size fits, even if nothing is drawn.
        self.reading.image.of(config.features(), data.image)?;
        data.scaling = self.scaling(&notes.data, config.features())?;
        let (likelihood, chosen) = (config.likelihood(), LikelihoodSource::Model);
        DomainCheck { likelihood, augmentation, chosen, accepted }.run(&mut data)?;
        self.label(&mut data, &notes.data, config.conditions())?;
        data.warnings
            .iter()
            .for_each(|warning| Console { quiet: true, silent: false }.warn(warning));
        Ok((vae, notes, data))
    }

    fn scaling(&self, notes: &DataDescription, features: usize) -> Result<Scaling> {
        let mut scaling = notes.scaling.clone();
        if scaling.features().is_some_and(|found| found != features) {
            return Err(Failure::Run(format!(
                "{}: damaged: its scaling is for another number of features",
                self.model.model.display()
            )));
        }
        if self.clip_to_range {
            match &mut scaling {
                Scaling::MinMax { clip, .. } => *clip = true,
                _ => {
                    return Err(Failure::Usage(
                        "--clip-to-range applies only to models of `elbo train --scale min-max`"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(scaling)
    }

    /// Gives each row its class; figures of a model without conditions show it.
    fn label(&self, data: &mut Data, notes: &DataDescription, classes: usize) -> Result<()> {
        let raw = match &self.labels {
            Some(path) => {
                let header = notes.label_column.as_deref();
                let of = &data.name;
                let labeled = Labeled { rows: data.len(), of, header, classes: &notes.classes };
                Some(labels::read(path, &labeled)?)
            }
            None => data.found.take(),
        };
        let Some(raw) = raw else {
            if classes == 0 {
                return Ok(());
            }
            return Err(Failure::Usage(format!(
                "--labels: missing; the model is conditional on {} and requires the label of each row",
                counted(classes, "class")
            )));
        };
        data.labels = Some(match classes {
            0 => raw.for_figures(notes)?,
            classes => raw.among(classes, &notes.classes)?,
        });
        Ok(())
    }
}
