//! Model files, and what the tool keeps in them beside the model.

pub mod decode;
pub mod history;
mod metadata;
mod quantiles;

pub use metadata::{ModelMetadata, TrainingMetadata};
pub use quantiles::Quantiles;

use crate::failure::{Failure, Result};
use elbo::vae::{Likelihood, Vae};
use std::path::Path;

/// The model in a file, and the tool's notes about it; empty ones if it comes from elsewhere.
pub fn open(path: &Path) -> Result<(Vae, ModelMetadata)> {
    let opened = Vae::load_with::<ModelMetadata>(path);
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

/// Whether outputs of such a model lie in [−1, 1] and are shown mapped to gray.
pub fn is_signed(likelihood: Likelihood) -> bool {
    likelihood == Likelihood::TanhSquaredError
}
