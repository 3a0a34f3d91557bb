//! Metadata of the tool in a model file: the data and the training.

use super::history::{self, EpochRecord};
use super::quantiles::Quantiles;
use crate::data::DataDescription;
use elbo::vae::Objective;
use serde::{Deserialize, Serialize};

/// Metadata in a model file; files that another program wrote have none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelMetadata {
    pub data: DataDescription,
    /// Training of the model; `None` if another program trained it.
    pub training: Option<TrainingMetadata>,
}

/// Training of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingMetadata {
    pub objective: Objective,
    pub seed: u64,
    /// Number of training rows.
    pub rows: usize,
    /// Epoch after which the model was saved.
    pub epoch: usize,
    /// Epochs of the run until the file was written.
    #[serde(with = "history::stored")]
    pub history: Vec<EpochRecord>,
    /// KL divergence of each latent dimension over the validation data, in nats.
    pub kl_per_dimension: Vec<f64>,
    /// Variance of the mean of each latent dimension over the validation data.
    pub mu_variance: Vec<f64>,
    /// Quantiles of the negative ELBO of training rows; `None` if the likelihood does not score single rows.
    pub scores: Option<Quantiles>,
}
