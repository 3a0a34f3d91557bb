//! Checkpoints: a model file that also holds what training needs to go on.
//!
//! Beside the model's tensors a checkpoint holds the optimizer's state (moments, SGD's velocity,
//! Adamax's norm) under the same names with the prefixes `adam.first.` and `adam.second.`, and in its
//! metadata the options and the progress of training. A checkpoint is a model file:
//! [`Vae::load`](crate::vae::Vae::load) reads it and ignores the rest.

use super::trainer::Progress;
use super::{Options, Trainer};
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::optim::Bounds;
use crate::vae::model_file::{self, ModelFile, Nothing, Opened};
use std::path::Path;

const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";

#[derive(serde::Serialize, serde::Deserialize)]
struct Training {
    options: Options,
    progress: Progress,
}

impl Trainer {
    /// Writes a checkpoint to `path`, between any two steps. `path` never holds half of one.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write_checkpoint::<()>(path.as_ref(), None)
    }

    /// Writes a checkpoint with the caller's notes in its metadata, as
    /// [`Vae::save_with`](crate::vae::Vae::save_with) does.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    ///
    /// # Panics
    /// If the notes cannot be JSON: a map whose keys are no strings.
    pub fn save_checkpoint_with(
        &self,
        path: impl AsRef<Path>,
        notes: &impl serde::Serialize,
    ) -> Result<()> {
        self.write_checkpoint(path.as_ref(), Some(notes))
    }

    fn write_checkpoint<N: serde::Serialize>(&self, path: &Path, notes: Option<&N>) -> Result<()> {
        let training = Training { options: self.options.clone(), progress: self.progress };
        let moments = [(FIRST, &self.first_moment), (SECOND, &self.second_moment)];
        model_file::save(path, &self.vae, Some(training), notes, &moments)
    }

    /// Resumes from a checkpoint, to the bits of a run that was never interrupted.
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
    /// [`Error::Io`] if the file cannot be read, [`Error::ModelFile`] if it is not a complete checkpoint
    /// (a model file without training state, for example).
    pub fn resume(path: impl AsRef<Path>, compute: Compute) -> Result<Self> {
        Ok(Self::resume_with::<Nothing>(path, compute)?.0)
    }

    /// Resumes from a checkpoint and reads the notes of [`Self::save_checkpoint_with`], `None` if the file
    /// has none.
    ///
    /// # Errors
    /// As [`Self::resume`]; [`Error::ModelFile`] if the notes are not of type `N`.
    pub fn resume_with<N: serde::de::DeserializeOwned>(
        path: impl AsRef<Path>,
        compute: Compute,
    ) -> Result<(Self, Option<N>)> {
        let path = path.as_ref();
        let file = ModelFile::read(path)?;
        let Opened { vae, training, notes, tensors } = file.open::<Training, N>()?;
        let Some(Training { options, progress }) = training else {
            return Err(Error::ModelFile {
                path: path.to_owned(),
                reason: "a model without the state of its training: not a checkpoint".to_owned(),
            });
        };
        let refuse = |reason| Error::ModelFile { path: path.to_owned(), reason };
        progress.validate().map_err(refuse)?;
        let mut trainer = Self::new(vae, options, compute)?;
        tensors.fill(FIRST, &mut trainer.first_moment)?;
        tensors.fill(SECOND, &mut trainer.second_moment)?;
        // It is a mean of squares, or a norm; its root is taken.
        if let Some(value) = trainer.second_moment.iter().find(|&&value| value < 0.0) {
            return Err(refuse(format!(
                "{value} among the tensors `{SECOND}…`; expected none below 0"
            )));
        }
        let (first, second) = (&trainer.first_moment, &trainer.second_moment);
        trainer.bounds = Bounds::measure([trainer.vae.parameters(), first, second]);
        trainer.progress = progress;
        Ok((trainer, notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Adam;
    use crate::vae::{Config, Vae};

    fn trainer(learning_rate: f64) -> Trainer {
        let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
        let optimizer = Adam { learning_rate, ..Adam::default() }.into();
        Trainer::new(vae, Options { optimizer, ..Options::default() }, Compute::serial()).unwrap()
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
                resumed(&trainer, "options").unwrap().options().optimizer.learning_rate();
            assert_eq!(rate_after.to_bits(), rate.to_bits());
        }
    }

    #[test]
    fn an_epoch_keeps_its_means_and_a_file_its_notes() {
        let data = ndarray::Array2::from_shape_fn((10, 3), |(r, c)| ((r + c) % 2) as f32);
        let compute = Compute::serial;
        let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
        let options = Options { batch: 4, ..Options::default() };
        let mut whole = Trainer::new(vae.clone(), options.clone(), compute()).unwrap();
        let mut halted = Trainer::new(vae, options, compute()).unwrap();
        let epoch = whole.epoch(&data, |_| ()).unwrap();
        assert_eq!((epoch.epoch, epoch.rows), (1, 10));

        halted.step(&data).unwrap();
        assert_eq!((halted.epoch_so_far().epoch, halted.epoch_so_far().rows), (1, 4));
        let folder = std::env::temp_dir().join(format!("elbo-notes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("checkpoint.safetensors");
        halted.save_checkpoint_with(&path, &("a note", 3)).unwrap();
        let (mut resumed, notes) = Trainer::resume_with::<(String, u32)>(&path, compute()).unwrap();
        assert_eq!(notes, Some(("a note".to_owned(), 3)));
        assert_eq!(resumed.epoch(&data, |_| ()).unwrap(), epoch);
        assert_eq!(resumed.epoch_so_far(), epoch);
        assert_eq!(resumed.vae().parameters()[..], whole.vae().parameters()[..]);

        // Notes of another kind are an error, and none are none.
        let error = Trainer::resume_with::<u32>(&path, compute()).err().unwrap().to_string();
        assert!(error.contains("metadata `elbo`"), "{error}");
        halted.save_checkpoint(&path).unwrap();
        assert_eq!(Trainer::resume_with::<u32>(&path, compute()).unwrap().1, None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn rejects_sums_plateaus_and_moments_that_no_run_can_have_left() {
        let refuse = |change: &dyn Fn(&mut Trainer), expected: &str| {
            let mut trainer = trainer(1e-3);
            change(&mut trainer);
            let message = resumed(&trainer, "hostile").err().unwrap().to_string();
            assert!(message.contains(expected), "{message}");
        };
        refuse(
            &|trainer| trainer.progress.sums.rows = usize::MAX,
            "rows of an epoch; expected at most 2^32",
        );
        refuse(
            &|trainer| trainer.progress.position = 1 << 40,
            "after 1099511627776 rows of an epoch",
        );
        refuse(&|trainer| trainer.progress.plateau.factor = 1e300, "`plateau factor`: expected");
        refuse(&|trainer| trainer.progress.plateau.factor = -1.0, "found -1");
        refuse(
            &|trainer| {
                let negative = ndarray::ArrayView2::from_shape((1, 3), &[1.0, -1.0, 0.0]).unwrap();
                let bias = ndarray::ArrayView1::from(&[0.0]);
                trainer.second_moment.set("mu", negative, bias).unwrap();
            },
            "-1 among the tensors `adam.second.…`; expected none below 0",
        );
        // Many epochs without a better loss are no fault.
        let mut patient = trainer(1e-3);
        patient.progress.plateau.bad_epochs = u64::MAX;
        assert!(resumed(&patient, "patient").is_ok());
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
