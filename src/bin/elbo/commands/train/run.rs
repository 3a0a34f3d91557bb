//! The epochs of a run: steps, validation, checkpoints, and early stopping.

use super::checkpoint::{self, RunState};
use super::files::{HISTORY_SO_FAR, MODEL, RUN};
use super::history_log::HistoryLog;
use super::interrupt;
use super::options::{Keep, TrainOptions};
use super::progress::Progress;
use super::warnings::{self, warnings};
use crate::data::DataView;
use crate::data::train_test::TrainTestSplit;
use crate::failure::{Failure, Result};
use crate::model;
use crate::model::history::{self, EpochRecord};
use crate::model::{ModelMetadata, TrainingMetadata};
use crate::output::{Console, OutputDirectory, write_file};
use crate::text::{quoted, thousands};
use elbo::optim::Span;
use elbo::train::{Options, Trainer};
use elbo::vae::{Evaluation, EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use std::time::{Duration, Instant};

/// A run under way.
pub struct TrainingRun<'a> {
    pub args: &'a TrainOptions,
    pub split: &'a TrainTestSplit,
    pub compute: &'a Compute,
    pub console: Console,
    pub folder: &'a OutputDirectory,
    pub trainer: Trainer,
    pub state: RunState,
}

/// A finished run.
pub struct Outcome {
    /// The last or the best model.
    pub vae: Vae,
    /// Metadata of its file, without history and scores.
    pub notes: TrainingMetadata,
    /// All epochs, including those after the model's.
    pub history: Vec<EpochRecord>,
    pub validated: Evaluation,
    /// On the test data, if there are any.
    pub tested: Option<Evaluation>,
    pub warnings: Vec<String>,
    /// Training images per second of training time, over all epochs.
    pub images_per_second: f64,
    pub settings: String,
}

impl Outcome {
    /// Returns the losses after the model's epoch.
    pub fn kept(&self) -> &EpochRecord {
        &self.history[self.notes.epoch - 1]
    }
}

/// The model of the lowest validation loss so far.
struct Best {
    vae: Vae,
    /// Metadata after its epoch, without a history.
    notes: TrainingMetadata,
    /// `None` if the model was read from a file.
    validated: Option<Evaluation>,
}

/// The reason to pause between steps.
enum Pause {
    EpochOver,
    CheckpointDue,
    Interrupted,
}

impl TrainingRun<'_> {
    pub fn run(mut self, train: &DataView<'_>) -> Result<Outcome> {
        let rows = train.row_count();
        let stopping = &self.args.stopping;
        let epochs = self.args.length.epochs;
        let an_epoch = steps_of_an_epoch(self.trainer.options(), rows);
        let (all, done) = (an_epoch * epochs as u64, self.trainer.steps());
        let noun = self.split.noun();
        let mut progress = Progress::new(all, done, epochs, noun, self.console.quiet);
        let mut log = HistoryLog::new(self.folder.join(HISTORY_SO_FAR));
        let (mut best, mut last) = (self.best_so_far()?, None);
        if stopping.checkpoint_every.is_some() && stopping.resume.is_none() {
            self.checkpoint(best.as_ref())?;
        }
        while self.state.history.len() < epochs && !self.out_of_patience() {
            match self.steps(train, &mut progress)? {
                Pause::CheckpointDue => self.checkpoint(best.as_ref())?,
                Pause::Interrupted => return Err(self.interrupted(best.as_ref())?),
                Pause::EpochOver => {
                    let (epoch, validated) = self.end_of_epoch(rows)?;
                    if stopping.keep() == Keep::Best && self.best_epoch() == Some(epoch.epoch) {
                        let notes = self.state.last.clone().expect("an epoch is done");
                        let (vae, validated) = (self.trainer.vae().clone(), Some(validated));
                        best = Some(Best { vae, notes, validated });
                    } else {
                        last = Some(validated);
                    }
                    log.write(&self.state.history)?;
                    progress.suspend(|| self.console.note(&line(&epoch, epochs, noun)));
                    if interrupt::requested().is_some() {
                        return Err(self.interrupted(best.as_ref())?);
                    }
                    if let Some(Span::Epochs(every)) = stopping.checkpoint_every
                        && (epoch.epoch as u64).is_multiple_of(every)
                    {
                        self.checkpoint(best.as_ref())?;
                    }
                }
            }
        }
        drop(progress);
        self.outcome(best, last, rows)
    }

    /// Trains until the epoch is over, a checkpoint is due or a signal was received.
    fn steps(&mut self, train: &DataView<'_>, progress: &mut Progress) -> Result<Pause> {
        let every = match self.args.stopping.checkpoint_every {
            Some(Span::Steps(steps)) => Some(steps),
            _ => None,
        };
        let before = Duration::from_secs_f64(self.state.epoch_seconds);
        let (trainer, split, began) = (&mut self.trainer, self.split, Instant::now());
        let pause = self.compute.install(|| -> Result<Pause> {
            while let Some(step) = split.used(trainer.step(train))? {
                progress.step(&step, || (trainer.epoch_so_far(), before + began.elapsed()));
                if interrupt::requested().is_some() {
                    return Ok(Pause::Interrupted);
                }
                if every.is_some_and(|every| step.step.is_multiple_of(every)) {
                    return Ok(Pause::CheckpointDue);
                }
            }
            Ok(Pause::EpochOver)
        });
        self.state.epoch_seconds += began.elapsed().as_secs_f64();
        pause
    }

    /// Validates the model and records the epoch.
    fn end_of_epoch(&mut self, rows: usize) -> Result<(EpochRecord, Evaluation)> {
        let time = std::mem::take(&mut self.state.epoch_seconds);
        self.state.training_seconds += time;
        let validated = self.validate(self.trainer.vae())?;
        self.trainer.observe(validated.loss);
        let trained = self.trainer.epoch_so_far();
        let epoch = EpochRecord {
            epoch: self.state.history.len() + 1,
            train_loss: trained.loss,
            train_reconstruction: trained.reconstruction,
            train_kl: trained.kl,
            validation_loss: validated.loss,
            validation_reconstruction: validated.reconstruction,
            validation_kl: validated.kl,
            validation_active_units: validated.active_units(),
            beta: trained.beta,
            learning_rate: trained.learning_rate,
            images_per_second: Some(rate(rows, time)),
        };
        self.state.history.push(epoch.clone());
        self.state.last = Some(TrainingMetadata {
            objective: self.trainer.options().objective,
            seed: self.args.length.seed,
            rows,
            epoch: epoch.epoch,
            history: Vec::new(),
            kl_per_dimension: validated.kl_per_dimension.clone(),
            mu_variance: validated.mu_variance.clone(),
            scores: None,
        });
        Ok((epoch, validated))
    }

    fn evaluation(&self) -> EvaluationOptions {
        let Options { objective, augmentation, seed, .. } = *self.trainer.options();
        EvaluationOptions { objective, augmentation, seed }
    }

    fn validate(&self, vae: &Vae) -> Result<Evaluation> {
        let rows = self.split.validation_view();
        self.split.used(vae.evaluate(self.compute, &rows, &self.evaluation()))
    }

    /// Returns the epoch of the lowest validation loss, the first of several.
    fn best_epoch(&self) -> Option<usize> {
        history::best(&self.state.history).map(|epoch| epoch.epoch)
    }

    fn out_of_patience(&self) -> bool {
        let since = |best| self.state.history.len() - best;
        let (patience, best) = (self.args.stopping.patience, self.best_epoch());
        patience.zip(best).is_some_and(|(patience, best)| since(best) >= patience)
    }

    /// Returns the best model of a run that is resumed. Its file may be ahead of the checkpoint; the run then
    /// repeats that epoch, with the same bits.
    fn best_so_far(&self) -> Result<Option<Best>> {
        if self.args.stopping.keep() == Keep::Last || self.state.history.is_empty() {
            return Ok(None);
        }
        let (vae, notes) = model::open(&self.folder.join(MODEL))?;
        Ok(notes.training.map(|notes| Best { vae, notes, validated: None }))
    }

    /// Writes a checkpoint of the current state.
    fn checkpoint(&self, best: Option<&Best>) -> Result<()> {
        let data = self.split.description();
        if let Some(Best { vae, notes, .. }) = best {
            let training = Some(self.state.with_history(notes));
            let notes = ModelMetadata { data: data.clone(), training };
            vae.save_with(self.folder.join(MODEL), &notes)?;
        }
        write_file(&self.folder.join(RUN), |file| file.write_all(self.state.settings.as_bytes()))?;
        checkpoint::write(self.folder, &self.trainer, &self.state, data)
    }

    fn interrupted(&self, best: Option<&Best>) -> Result<Failure> {
        self.checkpoint(best)?;
        let message = format!(
            "interrupted after step {} ({} of {} epochs done); resume with: elbo train --resume {}",
            thousands(self.trainer.steps() as f64),
            self.state.history.len(),
            self.args.length.epochs,
            quoted(&self.args.out)
        );
        let signal = interrupt::requested().unwrap_or_default();
        Ok(Failure::Interrupted { signal, message })
    }

    /// Returns the model to keep; `last` is the validation of the last epoch, unless an earlier process did it.
    fn outcome(self, best: Option<Best>, last: Option<Evaluation>, rows: usize) -> Result<Outcome> {
        let options = self.evaluation();
        let kept = best.unwrap_or_else(|| Best {
            vae: self.trainer.vae().clone(),
            notes: self.state.last.clone().expect("an epoch is done"),
            validated: last,
        });
        let Best { vae, notes, validated } = kept;
        let validated = validated.map_or_else(|| self.validate(&vae), Ok)?;
        // The one time that the test data are used.
        let test = self.split.test_view();
        let tested = test.map(|rows| vae.evaluate(self.compute, &rows, &options));
        let tested = tested.map(|result| self.split.used(result)).transpose()?;
        let seen =
            self.split.validation_data().view(self.split.first_of_validation(warnings::ROWS));
        let parts = self.split.used(vae.decompose(self.compute, &seen, &options))?;
        let RunState { history, training_seconds, settings, .. } = self.state;
        Ok(Outcome {
            warnings: warnings(&validated, &parts),
            vae,
            notes,
            validated,
            tested,
            images_per_second: rate(rows * history.len(), training_seconds),
            history,
            settings,
        })
    }
}

pub fn steps_of_an_epoch(options: &Options, rows: usize) -> u64 {
    rows.div_ceil(options.batch.saturating_mul(options.accumulate)) as u64
}

/// Rows per second, to a tenth.
fn rate(rows: usize, seconds: f64) -> f64 {
    (10.0 * rows as f64 / seconds.max(1e-9)).round() / 10.0
}

fn line(epoch: &EpochRecord, epochs: usize, rows: &str) -> String {
    format!(
        "epoch {:>width$}/{epochs}: train {:.2}, validation {:.2} (reconstruction {:.2}, KL {:.2}), \
         {} {rows}/s",
        epoch.epoch,
        epoch.train_loss,
        epoch.validation_loss,
        epoch.validation_reconstruction,
        epoch.validation_kl,
        thousands(epoch.images_per_second.unwrap_or(f64::NAN)),
        width = epochs.to_string().len(),
    )
}
