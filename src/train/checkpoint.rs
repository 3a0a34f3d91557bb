//! Checkpoints: a model file that also holds what training needs to go on.
//!
//! On top of the model's tensors a checkpoint holds Adam's moments under the same names with
//! `adam.first.` and `adam.second.` before them, and in its metadata the options and how far
//! training has come. A checkpoint is a model file: [`Vae::load`] reads it and ignores the rest.

use super::trainer::Progress;
use super::{Options, Trainer};
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::vae::Vae;
use crate::vae::file::{self, ModelFile};
use std::path::Path;

const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";

#[derive(serde::Serialize, serde::Deserialize)]
struct Training {
    options: Options,
    progress: Progress,
}

impl Trainer {
    /// Writes a checkpoint to `path`, at any point between two steps; `path` never holds half of
    /// one.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        let training = Training { options: self.options.clone(), progress: self.progress };
        let moments = [(FIRST, &self.first_moment), (SECOND, &self.second_moment)];
        file::save(path.as_ref(), &self.vae, Some(training), &moments)
    }

    /// Goes on from a checkpoint, to the bits of a run that was never interrupted.
    ///
    /// ```
    /// # use elbo::{Compute, train::{Options, Trainer}, vae::{Config, Vae}};
    /// # use ndarray::Array2;
    /// # let folder = std::env::temp_dir().join(format!("elbo-doc-checkpoint-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder).unwrap();
    /// # let data = Array2::from_elem((64, 6), 0.5_f32);
    /// # let vae = Vae::new(Config::builder(6, 2).hidden(&[4]).build()?, 1);
    /// let mut trainer = Trainer::new(vae, Options { batch: 16, ..Options::default() }, Compute::serial())?;
    /// trainer.step(&data)?;
    /// trainer.save_checkpoint(folder.join("checkpoint.safetensors"))?;
    /// trainer.step(&data)?;
    ///
    /// let mut resumed = Trainer::resume(folder.join("checkpoint.safetensors"), Compute::serial())?;
    /// resumed.step(&data)?;
    /// assert_eq!(resumed.vae().parameters()[..], trainer.vae().parameters()[..]);
    /// # std::fs::remove_dir_all(&folder).unwrap();
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::ModelFile`] if it is not a whole
    /// checkpoint (a model file without the state of its training, say).
    pub fn resume(path: impl AsRef<Path>, compute: Compute) -> Result<Self> {
        let path = path.as_ref();
        let file = ModelFile::read(path)?;
        let (vae, training, tensors): (Vae, Option<Training>, _) = file.open()?;
        let Some(Training { options, progress }) = training else {
            return Err(Error::ModelFile {
                path: path.to_owned(),
                reason: "a model without the state of its training: not a checkpoint".to_owned(),
            });
        };
        let mut trainer = Self::new(vae, options, compute)?;
        tensors.fill(FIRST, &mut trainer.first_moment)?;
        tensors.fill(SECOND, &mut trainer.second_moment)?;
        trainer.progress = progress;
        Ok(trainer)
    }
}
