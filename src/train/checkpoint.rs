//! Checkpoints: a model file that also holds what training needs to go on.
//!
//! On top of the model's tensors a checkpoint holds what the optimiser remembers (moments, SGD's
//! velocity, Adamax's norm) under the same names with `adam.first.` and `adam.second.` before them,
//! and in its metadata the options and how far training has come. A checkpoint is a model file: [`Vae::load`] reads it and ignores the rest.

use super::trainer::Progress;
use super::{Options, Trainer};
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::random::INDEX_LIMIT;
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
        // Half the steps that random numbers can tell apart: no run has done as many, and one
        // that goes on from there will not do the other half.
        if progress.step.max(progress.epoch) >= INDEX_LIMIT / 2 {
            return Err(Error::ModelFile {
                path: path.to_owned(),
                reason: format!(
                    "a checkpoint after {} steps and {} epochs; expected fewer than 2^47",
                    progress.step, progress.epoch
                ),
            });
        }
        let mut trainer = Self::new(vae, options, compute)?;
        tensors.fill(FIRST, &mut trainer.first_moment)?;
        tensors.fill(SECOND, &mut trainer.second_moment)?;
        trainer.progress = progress;
        Ok(trainer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Adam;
    use crate::vae::Config;

    fn trainer(learning_rate: f64) -> Trainer {
        let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
        let optimiser = Adam { learning_rate, ..Adam::default() }.into();
        Trainer::new(vae, Options { optimiser, ..Options::default() }, Compute::serial()).unwrap()
    }

    fn resumed(trainer: &Trainer, test: &str) -> Result<Trainer> {
        let folder = std::env::temp_dir().join(format!("elbo-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("checkpoint.safetensors");
        trainer.save_checkpoint(&path).unwrap();
        let resumed = Trainer::resume(&path, Compute::serial());
        std::fs::remove_dir_all(&folder).unwrap();
        resumed
    }

    #[test]
    fn options_keep_their_last_bit() {
        // The first one is read wrong by a parser of decimals that is right nearly always.
        for rate in [0.116_315_530_687_884_03, 1e-3, 1.0 / 3.0, f64::MIN_POSITIVE, 5e-324] {
            let trainer = trainer(rate);
            let rate_after =
                resumed(&trainer, "options").unwrap().options().optimiser.learning_rate();
            assert_eq!(rate_after.to_bits(), rate.to_bits());
        }
    }

    #[test]
    fn progress_that_no_run_can_have_made_is_refused() {
        for (step, epoch) in [(u64::MAX, 0), (0, u64::MAX), (1 << 47, 1), (1, 1 << 47)] {
            let mut trainer = trainer(1e-3);
            trainer.progress = Progress { step, epoch, ..Progress::default() };
            let message = resumed(&trainer, "progress").err().unwrap().to_string();
            assert!(message.contains("expected fewer than 2^47"), "{message}");
        }
    }
}
