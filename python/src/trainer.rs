//! Training.

use crate::Compute;
use crate::data::Data;
use crate::errors::OrRaise;
use crate::model::Model;
use crate::settings::{read, write};
use elbo::train::{self, Epoch, Options};
use elbo::vae::Vae;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// Time between two looks at the interpreter's signals. Each takes the interpreter's lock, which another thread may
/// hold for 5 ms; Ctrl-C takes effect at the first step that ends after this time.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(20);

/// A model in training: its weights, the state of the optimizer, and the progress.
#[pyclass(frozen, module = "elbo_vae._core")]
pub struct Trainer {
    trainer: Mutex<train::Trainer>,
    compute: elbo::Compute,
}

impl Trainer {
    /// Never waits: a thread that waited with the interpreter's lock would keep the one in training from taking it.
    fn lock(&self) -> PyResult<MutexGuard<'_, train::Trainer>> {
        match self.trainer.try_lock() {
            Ok(trainer) => Ok(trainer),
            Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err(
                "the trainer is in use by another thread; wait until it has finished",
            )),
            // A panic between two steps leaves the trainer usable; one in an update is an error of each later step.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        }
    }
}

#[pymethods]
impl Trainer {
    /// Starts training from the weights of a model, which is copied. `options` is JSON.
    #[new]
    #[pyo3(signature = (model, options, compute=None))]
    fn new(model: &Model, options: &str, compute: Option<&Compute>) -> PyResult<Self> {
        let options = read::<Options>("options", options)?;
        let (vae, compute) = (Vae::clone(&*model.vae()?), crate::compute(compute));
        let trainer = train::Trainer::new(vae, options, compute.clone()).or_raise()?;
        Ok(Self { trainer: Mutex::new(trainer), compute })
    }

    /// Resumes from a checkpoint, to the bits of a run that was never interrupted.
    #[staticmethod]
    #[pyo3(signature = (path, compute=None))]
    fn resume(py: Python<'_>, path: PathBuf, compute: Option<&Compute>) -> PyResult<Self> {
        let compute = crate::compute(compute);
        let of_trainer = compute.clone();
        let trainer = py.detach(|| train::Trainer::resume(&path, of_trainer)).or_raise()?;
        Ok(Self { trainer: Mutex::new(trainer), compute })
    }

    /// Writes a checkpoint.
    fn save_checkpoint(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let trainer = self.lock()?;
        let trainer = &*trainer;
        py.detach(|| trainer.save_checkpoint(&path)).or_raise()
    }

    /// Trains to the end of the current epoch, or on the whole next one.
    ///
    /// Returns the number of the epoch, its rows, and the means over them, in nats: the loss, the reconstruction, the KL
    /// divergence; then beta and the learning rate of the last step. Ctrl-C raises `KeyboardInterrupt` between two
    /// steps; the trainer can go on from there.
    fn epoch(
        &self,
        py: Python<'_>,
        data: &Data,
    ) -> PyResult<(u64, usize, f64, f64, f64, f32, f64)> {
        let borrowed = data.borrow(py)?;
        let rows = borrowed.rows();
        let mut trainer = self.lock()?;
        let (trainer, compute) = (&mut *trainer, &self.compute);
        let trained = py.detach(|| {
            compute.install(|| -> PyResult<Epoch> {
                let mut looked = Instant::now();
                while trainer.step(&rows).or_raise()?.is_some() {
                    if looked.elapsed() >= BETWEEN_SIGNALS {
                        Python::attach(|py| py.check_signals())?;
                        looked = Instant::now();
                    }
                }
                Ok(trainer.epoch_so_far())
            })
        })?;
        let Epoch { epoch, rows, loss, reconstruction, kl, beta, learning_rate, .. } = trained;
        Ok((epoch, rows, loss, reconstruction, kl, beta, learning_rate))
    }

    /// Passes a validation loss to a schedule that waits for a plateau.
    fn observe(&self, loss: f64) -> PyResult<()> {
        self.lock()?.observe(loss);
        Ok(())
    }

    /// A copy of the model as it is now.
    fn model(&self) -> PyResult<Model> {
        Ok(self.lock()?.vae().clone().into())
    }

    /// The training options as JSON.
    #[getter]
    fn options(&self) -> PyResult<String> {
        Ok(write(self.lock()?.options()))
    }

    /// Steps done so far.
    #[getter]
    fn steps(&self) -> PyResult<u64> {
        Ok(self.lock()?.steps())
    }

    /// Epochs done so far.
    #[getter]
    fn epochs(&self) -> PyResult<u64> {
        Ok(self.lock()?.epochs())
    }

    /// True if the weight of the KL divergence and the capacity have reached the values at the end of their schedules.
    #[getter]
    fn is_objective_final(&self) -> PyResult<bool> {
        let trainer = self.lock()?;
        Ok(trainer.options().objective.is_final_at(trainer.steps(), trainer.epochs()))
    }
}
