//! Opening a model and the data that are to go through it.

use crate::args::{Input, Model};
use crate::data::Data;
use crate::failure::{Failure, Result};
use elbo::vae::Vae;

impl Model {
    pub fn open(&self) -> Result<Vae> {
        Vae::load(&self.model).map_err(|error| {
            let expected = "expected a model.safetensors that `elbo train` wrote";
            Failure::Run(match error {
                elbo::Error::Io { path, source } => {
                    format!("{}: cannot read: {source}; {expected}", path.display())
                }
                error => format!("{error}; {expected}"),
            })
        })
    }
}

impl Input {
    /// The model, and data of its width.
    pub fn open(&self) -> Result<(Vae, Data)> {
        let vae = self.model.open()?;
        let data = Data::read(&self.data)?;
        let features = vae.config().features();
        data.check_width(features, &format!("the model {}", self.model.model.display()))?;
        Ok((vae, data))
    }
}
