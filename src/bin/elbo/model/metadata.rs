//! What the tool keeps in a model file beside the model: how the data were read, and how training went.

use super::history::{self, EpochRecord};
use super::quantiles::Quantiles;
use crate::data::DataDescription;
use elbo::vae::Objective;
use serde::{Deserialize, Serialize};

/// The tool's notes in a model file. A file from elsewhere has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelMetadata {
    pub data: DataDescription,
    /// Of a trained model.
    pub training: Option<TrainingMetadata>,
}

/// How a model came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingMetadata {
    pub objective: Objective,
    pub seed: u64,
    /// Rows trained on.
    pub rows: usize,
    /// The epoch after which the model was as it is here.
    pub epoch: usize,
    /// Every epoch of the run until this file was written.
    #[serde(with = "history::stored")]
    pub history: Vec<EpochRecord>,
    /// Of each latent dimension, over the validation data, in nats.
    pub kl_per_dimension: Vec<f64>,
    /// The variance of each latent dimension's mean over the validation data.
    pub mu_variance: Vec<f64>,
    /// Of the training rows' negative ELBO; none where the likelihood gives a row alone no score.
    pub scores: Option<Quantiles>,
}
