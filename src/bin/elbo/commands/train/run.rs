//! The epochs of a run: steps, tests, checkpoints, and when to stop.

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
use crate::output::thousands;
use crate::output::{Folder, quoted, say, write_file};
use elbo::optim::Span;
use elbo::train::{Options, Trainer};
use elbo::vae::{Evaluation, EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use std::io::Write;
use std::time::{Duration, Instant};

/// A run on its way.
pub struct TrainingRun<'a> {
    pub args: &'a TrainOptions,
    pub sets: &'a TrainTestSplit,
    pub compute: &'a Compute,
    pub folder: &'a Folder,
    pub trainer: Trainer,
    pub state: RunState,
}

/// A run at its end.
pub struct Outcome {
    /// The model that is kept.
    pub vae: Vae,
    /// What its file is to say, but for history and scores.
    pub notes: TrainingMetadata,
    /// All epochs, those after the model's included.
    pub history: Vec<EpochRecord>,
    pub tested: Evaluation,
    pub warnings: Vec<String>,
    /// Training images over training time, over all epochs.
    pub images_per_second: f64,
    pub settings: String,
}

impl Outcome {
    /// The losses after the model's epoch.
    pub fn kept(&self) -> &EpochRecord {
        &self.history[self.notes.epoch - 1]
    }
}

/// The model of the lowest test loss so far.
struct Best {
    vae: Vae,
    /// As of its epoch; without a history.
    notes: TrainingMetadata,
    /// Its test, unless it comes from a file.
    tested: Option<Evaluation>,
}

/// Why the steps of an epoch have stopped.
enum Pause {
    EpochOver,
    CheckpointDue,
    Interrupted,
}

impl TrainingRun<'_> {
    pub fn run(mut self, train: &DataView<'_>) -> Result<Outcome> {
        let rows = train.row_count();
        let stopping = &self.args.stopping;
        let epochs = self.args.course.epochs;
        let an_epoch = steps_of_an_epoch(self.trainer.options(), rows);
        let (all, done) = (an_epoch * epochs as u64, self.trainer.steps());
        let noun = self.sets.noun();
        let mut progress = Progress::new(all, done, epochs, noun, self.args.quiet);
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
                    let (epoch, tested) = self.end_of_epoch(rows)?;
                    if stopping.keep() == Keep::Best && self.best_epoch() == Some(epoch.epoch) {
                        let notes = self.state.last.clone().expect("an epoch is done");
                        let (vae, tested) = (self.trainer.vae().clone(), Some(tested));
                        best = Some(Best { vae, notes, tested });
                    } else {
                        last = Some(tested);
                    }
                    log.write(&self.state.history)?;
                    if !self.args.quiet {
                        progress.suspend(|| say(&line(&epoch, epochs, noun)))?;
                    }
                    if interrupt::requested() {
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

    /// Steps until there is something else to do.
    fn steps(&mut self, train: &DataView<'_>, progress: &mut Progress) -> Result<Pause> {
        let every = match self.args.stopping.checkpoint_every {
            Some(Span::Steps(steps)) => Some(steps),
            _ => None,
        };
        let before = Duration::from_secs_f64(self.state.epoch_seconds);
        let (trainer, sets, began) = (&mut self.trainer, self.sets, Instant::now());
        let pause = self.compute.install(|| -> Result<Pause> {
            while let Some(step) = sets.used(trainer.step(train))? {
                progress.step(&step, || (trainer.epoch_so_far(), before + began.elapsed()));
                if interrupt::requested() {
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

    /// Tests, and notes what the epoch came to.
    fn end_of_epoch(&mut self, rows: usize) -> Result<(EpochRecord, Evaluation)> {
        let time = std::mem::take(&mut self.state.epoch_seconds);
        self.state.training_seconds += time;
        let tested = self.test(self.trainer.vae())?;
        self.trainer.observe(tested.loss);
        let trained = self.trainer.epoch_so_far();
        let epoch = EpochRecord {
            epoch: self.state.history.len() + 1,
            train_loss: trained.loss,
            train_reconstruction: trained.reconstruction,
            train_kl: trained.kl,
            test_loss: tested.loss,
            test_reconstruction: tested.reconstruction,
            test_kl: tested.kl,
            test_active_units: tested.active_units(),
            beta: trained.beta,
            learning_rate: trained.learning_rate,
            images_per_second: Some(rate(rows, time)),
        };
        self.state.history.push(epoch.clone());
        self.state.last = Some(TrainingMetadata {
            objective: self.trainer.options().objective,
            seed: self.args.course.seed,
            rows,
            epoch: epoch.epoch,
            history: Vec::new(),
            kl_per_dimension: tested.kl_per_dimension.clone(),
            mu_variance: tested.mu_variance.clone(),
            scores: None,
        });
        Ok((epoch, tested))
    }

    fn testing(&self) -> EvaluationOptions {
        let Options { objective, augmentation, seed, .. } = *self.trainer.options();
        EvaluationOptions { objective, augmentation, seed }
    }

    fn test(&self, vae: &Vae) -> Result<Evaluation> {
        self.sets.used(vae.evaluate(self.compute, &self.sets.test_view(), &self.testing()))
    }

    /// The epoch of the lowest test loss, the first of several.
    fn best_epoch(&self) -> Option<usize> {
        history::best(&self.state.history).map(|epoch| epoch.epoch)
    }

    fn out_of_patience(&self) -> bool {
        let since = |best| self.state.history.len() - best;
        let (patience, best) = (self.args.stopping.patience, self.best_epoch());
        patience.zip(best).is_some_and(|(patience, best)| since(best) >= patience)
    }

    /// The best model of a run that is resumed. Its file may be ahead of the checkpoint: then the run comes
    /// by that epoch again, with the same bits.
    fn best_so_far(&self) -> Result<Option<Best>> {
        if self.args.stopping.keep() == Keep::Last || self.state.history.is_empty() {
            return Ok(None);
        }
        let (vae, notes) = model::open(&self.folder.join(MODEL))?;
        Ok(notes.training.map(|notes| Best { vae, notes, tested: None }))
    }

    /// Writes what the run needs to go on from here.
    fn checkpoint(&self, best: Option<&Best>) -> Result<()> {
        let data = self.sets.notes();
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
        Ok(Failure::Interrupted(format!(
            "interrupted after step {} ({} of {} epochs done); go on with: elbo train --resume {}",
            thousands(self.trainer.steps() as f64),
            self.state.history.len(),
            self.args.course.epochs,
            quoted(&self.args.out)
        )))
    }

    /// `last` is the test of the last epoch, unless that was done by an earlier process.
    fn outcome(self, best: Option<Best>, last: Option<Evaluation>, rows: usize) -> Result<Outcome> {
        let testing = self.testing();
        let kept = best.unwrap_or_else(|| Best {
            vae: self.trainer.vae().clone(),
            notes: self.state.last.clone().expect("an epoch is done"),
            tested: last,
        });
        let Best { vae, notes, tested } = kept;
        let tested = tested.map_or_else(|| self.test(&vae), Ok)?;
        let seen = self.sets.test_data().view(self.sets.first_of_test(warnings::ROWS));
        let parts = self.sets.used(vae.decompose(self.compute, &seen, &testing))?;
        let RunState { history, training_seconds, settings, .. } = self.state;
        Ok(Outcome {
            warnings: warnings(&tested, &parts),
            vae,
            notes,
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

/// Rows a second, to a tenth.
fn rate(rows: usize, seconds: f64) -> f64 {
    (10.0 * rows as f64 / seconds.max(1e-9)).round() / 10.0
}

fn line(epoch: &EpochRecord, epochs: usize, rows: &str) -> String {
    format!(
        "epoch {:>width$}/{epochs}: loss {:.2} in training, {:.2} in the test \
         (reconstruction {:.2}, KL {:.2}), {} {rows}/s",
        epoch.epoch,
        epoch.train_loss,
        epoch.test_loss,
        epoch.test_reconstruction,
        epoch.test_kl,
        thousands(epoch.images_per_second.unwrap_or(f64::NAN)),
        width = epochs.to_string().len(),
    )
}
