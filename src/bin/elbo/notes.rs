//! What the tool keeps in a model file beside the model: how the data were read, and how training went.

use crate::history::Epoch;
use crate::quantiles::Quantiles;
use crate::scaling::Scaling;
use elbo::vae::Objective;
use serde::{Deserialize, Serialize};

/// The tool's notes in a model file. A file from elsewhere has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    pub data: DataNotes,
    /// Of a trained model.
    pub training: Option<TrainingNotes>,
}

/// How the data became numbers, and become data again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataNotes {
    /// Names of the features (of a table without a header their numbers from 1 on); empty where they
    /// have none.
    pub columns: Vec<String>,
    /// Where a row is an image.
    pub image: Option<ImageShape>,
    /// Whether pictures were resized to that shape.
    pub resized: bool,
    /// What was done to each feature, before anything else.
    pub scaling: Scaling,
    /// Whether rows were mapped to 2x − 1.
    pub signed: bool,
    /// Names of the classes in their order; empty where they are numbers.
    pub classes: Vec<String>,
    /// The column of a table that the labels came from.
    pub label_column: Option<String>,
}

impl DataNotes {
    /// Whether rows have columns with names, and are no pictures.
    pub fn is_table(&self) -> bool {
        !self.columns.is_empty() && self.image.is_none()
    }

    /// In a line.
    pub fn describe(&self, features: usize) -> String {
        let mut parts = vec![match (&self.image, self.columns.is_empty()) {
            (Some(ImageShape { height, width, channels: 1 }), _) => {
                format!("gray images of {height} × {width}")
            }
            (Some(ImageShape { height, width, .. }), _) => {
                format!("color images of {height} × {width}")
            }
            (None, true) => format!("{features} features"),
            (None, false) => format!("{features} columns: {}", self.columns.join(", ")),
        }];
        parts.extend(self.preparation().into_iter().map(str::to_owned));
        if !self.classes.is_empty() {
            parts.push(format!("classes {}", self.classes.join(", ")));
        }
        parts.join("; ")
    }

    /// What was done to the data before the model saw them.
    pub fn preparation(&self) -> Vec<&'static str> {
        let scaled = match &self.scaling {
            Scaling::None => None,
            Scaling::Standardize { .. } => Some("standardized"),
            Scaling::MinMax { clip: false, .. } => Some("scaled to [0, 1]"),
            Scaling::MinMax { clip: true, .. } => Some("scaled and clipped to [0, 1]"),
        };
        scaled.into_iter().chain(self.signed.then_some("mapped to [-1, 1]")).collect()
    }
}

/// The shape of an image: rows of pixels, a pixel's channels side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: usize,
}

/// How a model came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingNotes {
    pub objective: Objective,
    pub seed: u64,
    /// Rows trained on.
    pub rows: usize,
    /// The epoch after which the model was as it is here.
    pub epoch: usize,
    /// Every epoch of the run until this file was written.
    pub history: Vec<Epoch>,
    /// Of each latent dimension, over the test data, in nats.
    pub kl_per_dimension: Vec<f64>,
    /// The variance of each latent dimension's mean over the test data.
    pub mu_variance: Vec<f64>,
    /// Of the training rows' negative ELBO; none where the likelihood gives a row alone no score.
    pub scores: Option<Quantiles>,
}
