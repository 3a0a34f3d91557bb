//! `checkpoint.safetensors`: the state of an interrupted run, in one file.
//!
//! The library's part holds the weights, the moments, the options and the position in the data; the tool's part
//! holds the history and the command-line options. The file is written whole or not at all, so a run that is
//! killed resumes from its last checkpoint.

use crate::data::DataDescription;
use crate::data::train_test::TrainTestSplit;
use crate::failure::{Failure, Result};
use crate::model::history::{self, EpochRecord};
use crate::model::{ModelMetadata, TrainingMetadata};
use crate::output::OutputDirectory;
use crate::text::quoted;
use elbo::Compute;
use elbo::train::Trainer;
use elbo::vae::Vae;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

pub const NAME: &str = "checkpoint.safetensors";

/// An interrupted run.
pub struct Checkpoint {
    pub trainer: Trainer,
    pub state: RunState,
}

/// The tool's part of a checkpoint: the metadata of a model, and the state of the run.
#[derive(Serialize, Deserialize)]
struct CheckpointMetadata {
    #[serde(flatten)]
    model: ModelMetadata,
    run: RunState,
}

/// State of a run beside its trainer.
#[derive(Clone, Serialize, Deserialize)]
pub struct RunState {
    /// The options, in the format of `run.toml`.
    pub settings: String,
    /// Completed epochs.
    #[serde(with = "history::stored")]
    pub history: Vec<EpochRecord>,
    /// Training time of all completed epochs.
    pub training_seconds: f64,
    /// Training time of the current epoch.
    pub epoch_seconds: f64,
    /// Metadata of the model after the last epoch, without a history.
    #[serde(skip)]
    pub last: Option<TrainingMetadata>,
    train_rows: usize,
    #[serde(rename = "test_rows")]
    validation_rows: usize,
    /// Fingerprint of the data.
    fingerprint: u64,
}

impl RunState {
    pub fn new(split: &TrainTestSplit, settings: &str) -> Result<Self> {
        Ok(Self {
            settings: settings.to_owned(),
            history: Vec::new(),
            training_seconds: 0.0,
            epoch_seconds: 0.0,
            last: None,
            train_rows: split.train.len(),
            validation_rows: split.validation.rows.len(),
            fingerprint: split.fingerprint()?,
        })
    }

    /// Returns the metadata with the history so far.
    pub fn with_history(&self, notes: &TrainingMetadata) -> TrainingMetadata {
        TrainingMetadata { history: history::timeless(&self.history), ..notes.clone() }
    }

    /// Checks that the data set has not changed since the run started.
    pub fn expect_same(&self, split: &TrainTestSplit) -> Result<()> {
        let found = (split.train.len(), split.validation.rows.len());
        if found == (self.train_rows, self.validation_rows) {
            if split.fingerprint()? == self.fingerprint {
                return Ok(());
            }
            return Err(Failure::Run(format!(
                "{}: the data have changed since the run started: the file was edited or replaced",
                split.data.name
            )));
        }
        Err(Failure::Run(format!(
            "{}: {} training and {} validation rows; the run started with {} and {}: are these the same \
             files?",
            split.data.name, found.0, found.1, self.train_rows, self.validation_rows
        )))
    }
}

impl Checkpoint {
    pub fn read(folder: &Path, compute: &Compute) -> Result<Self> {
        let path = folder.join(NAME);
        let (trainer, notes) = Trainer::resume_with::<CheckpointMetadata>(&path, compute.clone())
            .map_err(|error| unreadable(&path, error))?;
        let CheckpointMetadata { model, run } = notes.ok_or_else(|| foreign(&path))?;
        Ok(Self { trainer, state: RunState { last: model.training, ..run } })
    }
}

/// Writes a checkpoint, replacing an older one.
pub fn write(
    folder: &OutputDirectory,
    trainer: &Trainer,
    state: &RunState,
    data: DataDescription,
) -> Result<()> {
    let training = state.last.as_ref().map(|last| state.with_history(last));
    let model = ModelMetadata { data, training };
    let notes = CheckpointMetadata { model, run: state.clone() };
    Ok(trainer.save_checkpoint_with(folder.join(NAME), &notes)?)
}

/// Returns the options of the run whose checkpoint is in a directory.
pub fn saved_settings(folder: &Path) -> Result<String> {
    let path = folder.join(NAME);
    let (_, notes) =
        Vae::load_with::<CheckpointMetadata>(&path).map_err(|e| unreadable(&path, e))?;
    Ok(notes.ok_or_else(|| foreign(&path))?.run.settings)
}

fn unreadable(path: &Path, error: elbo::Error) -> Failure {
    let expected = "expected the directory of an interrupted `elbo train`";
    Failure::Run(match error {
        elbo::Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            format!("{}: no checkpoint; {expected}", path.display())
        }
        elbo::Error::Io { source, .. } => {
            format!("{}: cannot read: {source}; {expected}", path.display())
        }
        error => format!("{error}; {expected}"),
    })
}

fn foreign(path: &Path) -> Failure {
    Failure::Run(format!(
        "{}: this checkpoint was not written by `elbo train`: it does not name its data",
        path.display()
    ))
}

/// Returns an error if the directory holds the checkpoint of an unfinished run.
pub fn refuse_unfinished(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    if !path.exists() {
        return Ok(());
    }
    let folder = quoted(folder);
    Err(Failure::Run(format!(
        "{}: the checkpoint of an unfinished run; resume it with `elbo train --resume {folder}`, remove \
         it, or choose another --out",
        path.display()
    )))
}

/// Removes the checkpoint of a finished run.
pub fn remove(folder: &OutputDirectory) -> Result<()> {
    let path = folder.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::Run(format!("{}: cannot remove: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
