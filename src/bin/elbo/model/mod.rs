//! Model files and the metadata that the tool stores in them.

pub mod decode;
mod explain;
pub mod history;
mod metadata;
mod quantiles;
pub mod usable;

pub use explain::{Explained, Explanations};
pub use metadata::{ModelMetadata, TrainingMetadata};
pub use quantiles::Quantiles;

use crate::failure::{Failure, Result};
use elbo::vae::{Likelihood, Vae};
use std::path::{Path, PathBuf};

/// Path of the model that a path stands for: that of a directory of `elbo train` is in the directory.
pub fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() }
}

/// Opens a model file, or that of a directory; the metadata are empty if another program wrote it.
pub fn open(path: &Path) -> Result<(Vae, ModelMetadata)> {
    let opened = Vae::load_with::<ModelMetadata>(file_of(path));
    opened.map(|(vae, metadata)| (vae, metadata.unwrap_or_default())).map_err(|error| match error {
        elbo::Error::Io { path, source } => Failure::cannot_read(&path.display(), &source),
        error => {
            Failure::Run(format!("{error}; expected a model.safetensors written by `elbo train`"))
        }
    })
}

/// Returns true if the outputs of a model are in [−1, 1]; figures map them to gray.
pub fn is_signed(likelihood: Likelihood) -> bool {
    likelihood == Likelihood::TanhSquaredError
}
