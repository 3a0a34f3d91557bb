//! The model that a run keeps, and its evaluation.

use super::checkpoint::RunState;
use crate::model::TrainingMetadata;
use crate::model::history::EpochRecord;
use elbo::train::Trainer;
use elbo::vae::{Evaluation, Vae};

/// A finished run.
pub struct Outcome {
    /// The last or the best model.
    pub kept: Kept,
    pub trainer: Trainer,
    pub state: RunState,
    pub validated: Evaluation,
    /// On the test data, if there are any.
    pub tested: Option<Evaluation>,
    /// Warnings that were printed during the run.
    pub warned: Vec<String>,
    /// Warnings to print at its end.
    pub warnings: Vec<String>,
    /// Training images per second of training time, over all epochs.
    pub images_per_second: f64,
}

impl Outcome {
    /// Returns the losses after the model's epoch.
    pub fn kept_epoch(&self) -> &EpochRecord {
        &self.state.history[self.kept.notes.epoch - 1]
    }
}

/// The model to keep: of the lowest validation loss so far, or of the last epoch.
pub struct Kept {
    pub vae: Vae,
    /// Metadata after its epoch; history and scores are added when the file is written.
    pub notes: TrainingMetadata,
    /// `None` if an earlier process trained the model.
    pub validated: Option<Evaluation>,
}
