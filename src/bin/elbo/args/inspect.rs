//! `elbo inspect`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Inspect {
    /// The model: a model.safetensors or checkpoint.safetensors that `elbo train` wrote, or a PyTorch
    /// state dict in that format
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Print one line of JSON: config (of the model), parameters, layers, and data and training, the notes
    /// of `elbo train`
    #[arg(long)]
    pub json: bool,
}
