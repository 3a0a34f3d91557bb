//! `checkpoint.safetensors`: what an interrupted run needs to go on, in one file.
//!
//! The library's checkpoint holds weights, moments, options and the place in the data; the tool's notes
//! beside them the history and the options as they were typed. The file is whole or not there, so a run
//! that is killed goes on from its last one.

use crate::data::DataDescription;
use crate::data::train_test::TrainTestSplit;
use crate::failure::{Failure, Result};
use crate::model::history::{self, EpochRecord};
use crate::model::{ModelMetadata, TrainingMetadata};
use crate::output::{Folder, quoted};
use elbo::Compute;
use elbo::train::Trainer;
use elbo::vae::Vae;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

pub const NAME: &str = "checkpoint.safetensors";

/// A run as it was.
pub struct Checkpoint {
    pub trainer: Trainer,
    pub state: RunState,
}

/// The tool's notes in a checkpoint: those of a model, for a checkpoint is one, and what a run needs
/// besides.
#[derive(Serialize, Deserialize)]
struct CheckpointMetadata {
    #[serde(flatten)]
    model: ModelMetadata,
    run: RunState,
}

/// What a run is beside its trainer.
#[derive(Clone, Serialize, Deserialize)]
pub struct RunState {
    /// The options, as `run.toml` has them.
    pub settings: String,
    /// Epochs done.
    pub history: Vec<EpochRecord>,
    /// Spent on the training of all epochs done.
    pub training_seconds: f64,
    /// Spent on the training of the current epoch.
    pub epoch_seconds: f64,
    /// What the model's file would say after the last epoch; without a history.
    #[serde(skip)]
    pub last: Option<TrainingMetadata>,
    train_rows: usize,
    test_rows: usize,
    /// Of the data.
    fingerprint: u64,
}

impl RunState {
    pub fn new(sets: &TrainTestSplit, settings: &str) -> Result<Self> {
        Ok(Self {
            settings: settings.to_owned(),
            history: Vec::new(),
            training_seconds: 0.0,
            epoch_seconds: 0.0,
            last: None,
            train_rows: sets.train.len(),
            test_rows: sets.test.len(),
            fingerprint: sets.fingerprint()?,
        })
    }

    /// Metadata with the history so far.
    pub fn with_history(&self, notes: &TrainingMetadata) -> TrainingMetadata {
        TrainingMetadata { history: history::timeless(&self.history), ..notes.clone() }
    }

    /// That the data are what they were.
    pub fn expect_same(&self, sets: &TrainTestSplit) -> Result<()> {
        let found = (sets.train.len(), sets.test.len());
        if found == (self.train_rows, self.test_rows) {
            if sets.fingerprint()? == self.fingerprint {
                return Ok(());
            }
            return Err(Failure::Run(format!(
                "{}: not the numbers that the run began with: the file has changed, or another one \
                 stands in its place",
                sets.data.name
            )));
        }
        Err(Failure::Run(format!(
            "{}: {} rows to train on and {} to test; the run began with {} and {}: are these the same \
             files?",
            sets.data.name, found.0, found.1, self.train_rows, self.test_rows
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

/// Writes a checkpoint, in the place of an older one.
pub fn write(
    folder: &Folder,
    trainer: &Trainer,
    state: &RunState,
    data: DataDescription,
) -> Result<()> {
    let training = state.last.as_ref().map(|last| state.with_history(last));
    let model = ModelMetadata { data, training };
    let notes = CheckpointMetadata { model, run: state.clone() };
    Ok(trainer.save_checkpoint_with(folder.join(NAME), &notes)?)
}

/// The options of the run whose checkpoint is in a folder.
pub fn saved_settings(folder: &Path) -> Result<String> {
    let path = folder.join(NAME);
    let (_, notes) =
        Vae::load_with::<CheckpointMetadata>(&path).map_err(|e| unreadable(&path, e))?;
    Ok(notes.ok_or_else(|| foreign(&path))?.run.settings)
}

fn unreadable(path: &Path, error: elbo::Error) -> Failure {
    let expected = "expected a folder in which `elbo train` was interrupted";
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
        "{}: a checkpoint, but not of `elbo train`: it does not say which data it was trained on",
        path.display()
    ))
}

/// A new run must not cover what an older one may want to go on from.
pub fn refuse_unfinished(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    if !path.exists() {
        return Ok(());
    }
    let folder = quoted(folder);
    Err(Failure::Run(format!(
        "{}: the checkpoint of an unfinished run; go on with `elbo train --resume {folder}`, or remove \
         it, or choose another --out",
        path.display()
    )))
}

/// A run at its end needs none.
pub fn remove(folder: &Folder) -> Result<()> {
    let path = folder.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::Run(format!("{}: cannot remove: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
