//! The epochs of a run: steps, validation, checkpoints, and early stopping.

use super::checkpoint::{self, RunState, steps_of_an_epoch};
use super::divergence;
use super::evaluation::{HeldOutEvaluation, LeftOutRows};
use super::files::{CHECKPOINT, HISTORY_SO_FAR, MODEL, RUN, remove_others};
use super::history_log::HistoryLog;
use super::interrupt;
use super::options::{Keep, TrainOptions};
use super::outcome::{Kept, Outcome};
use super::outputs;
use super::progress::Progress;
use super::warnings::{self, warnings};
use crate::data::DataView;
use crate::data::train_test::{HeldOutPart, TrainTestSplit};
use crate::failure::{Failure, Result};
use crate::model;
use crate::model::history::EpochRecord;
use crate::model::usable::{LeftOut, OfUsable};
use crate::model::{ModelMetadata, TrainingMetadata};
use crate::output::{Console, OutputDirectory, write_file};
use crate::ranks::Ranks;
use crate::text::{counted, quoted, thousands};
use elbo::optim::Span;
use elbo::train::{Options, Trainer};
use elbo::vae::{Evaluation, EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use std::time::{Duration, Instant};

/// A run under way.
pub struct TrainingRun<'a> {
    pub args: &'a TrainOptions,
    /// Length of the run.
    pub epochs: usize,
    /// Epochs without improvement after which it stops.
    pub patience: Option<usize>,
    pub split: &'a TrainTestSplit,
    pub compute: &'a Compute,
    pub console: Console,
    pub folder: &'a OutputDirectory,
    pub ranks: &'a Ranks,
    pub trainer: Trainer,
    pub state: RunState,
    /// True if the checkpoint in the directory is of this run.
    pub has_checkpoint: bool,
    pub left_out: LeftOutRows,
}

/// The reason to pause between steps.
enum Pause {
    EpochOver,
    CheckpointDue,
    Interrupted,
}

impl TrainingRun<'_> {
    /// Trains to the last epoch and writes the results with `write`. If anything fails, the model to keep is
    /// written all the same.
    pub fn run(
        mut self,
        train: &DataView<'_>,
        write: impl FnOnce(&Outcome) -> Result<()>,
    ) -> Result<Outcome> {
        let rows = train.row_count();
        let mut kept = self.ranks.agree(self.kept_so_far())?;
        match self.epochs(train, &mut kept) {
            Ok(()) => {}
            Err(failure @ (Failure::Run(_) | Failure::OtherRank(_) | Failure::Diverged { .. })) => {
                return Err(self.failed(kept.as_ref(), failure));
            }
            Err(interrupted) => return self.ranks.agree(Err(interrupted)),
        }
        if kept.is_none() {
            kept = self.last_epoch();
        }
        let kept = kept.expect("an epoch is done");
        let evaluated = self.evaluate(&kept);
        let (validated, tested, warnings) = match self.agree(evaluated) {
            Ok(evaluations) => evaluations,
            Err(failure) => return Err(self.failed(Some(&kept), failure)),
        };
        let Self {
            split,
            compute,
            folder,
            args,
            ranks,
            trainer,
            state,
            has_checkpoint,
            left_out,
            ..
        } = self;
        let warned = left_out.into_warnings();
        let images_per_second = rate(rows * state.history.len(), state.training_seconds);
        let outcome = Outcome {
            kept,
            trainer,
            state,
            validated,
            tested,
            warned,
            warnings,
            images_per_second,
        };
        let written = if ranks.is_first() { write(&outcome) } else { Ok(()) };
        let failed = written.map_err(|failure| {
            let Outcome { kept, state, .. } = &outcome;
            let rescued = outputs::rescue(folder, kept, (state, has_checkpoint), split, compute);
            let message = divergence::message(&failure, args, split.is_table());
            after_failure(rescued.is_ok().then_some(kept), state, args, message)
        });
        ranks.agree(failed)?;
        Ok(outcome)
    }

    /// Trains all epochs that are left.
    fn epochs(&mut self, train: &DataView<'_>, kept: &mut Option<Kept>) -> Result<()> {
        let rows = train.row_count();
        let stopping = &self.args.stopping;
        let epochs = self.epochs;
        let an_epoch = steps_of_an_epoch(self.trainer.options(), rows);
        let (all, done) = (an_epoch * epochs as u64, self.trainer.steps());
        let noun = self.split.noun();
        let hidden = self.console.quiet || self.console.silent;
        let mut progress = Progress::new(all, done, epochs, noun, hidden);
        let mut log = HistoryLog::new(self.folder.join(HISTORY_SO_FAR));
        if stopping.checkpoint_every.is_some() && stopping.resume.is_none() && !self.args.overwrite
        {
            self.checkpoint(kept.as_ref())?;
        }
        while self.state.history.len() < epochs && !self.out_of_patience() {
            let paused = self.steps(train, &mut progress);
            match self.agree(paused)? {
                Pause::CheckpointDue => self.checkpoint(kept.as_ref())?,
                Pause::Interrupted => return Err(self.interrupted(kept.as_ref())?),
                Pause::EpochOver => {
                    let (epoch, validated, left_out) = self.end_of_epoch(rows)?;
                    // Until an epoch counts, the last model is the one to keep.
                    let best = self.best_epoch().unwrap_or(epoch.epoch);
                    if stopping.keep() == Keep::Last || best == epoch.epoch {
                        *kept = self.last_epoch();
                        kept.iter_mut().for_each(|kept| kept.validated = Some(validated.clone()));
                    }
                    self.ranks.first(|| log.write(&self.state.history))?;
                    progress.end_of_epoch(epoch.epoch, || {
                        self.console.note(&line(&epoch, epochs, noun));
                        self.warn_of(left_out, HeldOutPart::Validation);
                    });
                    if self.ranks.signal(interrupt::requested())?.is_some() {
                        return Err(self.interrupted(kept.as_ref())?);
                    }
                    if let Some(Span::Epochs(every)) = stopping.checkpoint_every
                        && (epoch.epoch as u64).is_multiple_of(every)
                    {
                        self.checkpoint(kept.as_ref())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Trains until the epoch is over, a checkpoint is due or a signal was received.
    fn steps(&mut self, train: &DataView<'_>, progress: &mut Progress) -> Result<Pause> {
        let every = match self.args.stopping.checkpoint_every {
            Some(Span::Steps(steps)) => Some(steps),
            _ => None,
        };
        let before = Duration::from_secs_f64(self.state.epoch_seconds);
        let (trainer, split, began) = (&mut self.trainer, self.split, Instant::now());
        let alone = self.ranks.count() == 1;
        let pause = self.compute.install(|| -> Result<Pause> {
            let step = |trainer: &mut Trainer| {
                if interrupt::requested().is_some() {
                    trainer.ask_to_stop();
                }
                let stepped = trainer.step(train);
                // Several ranks fail together or go on together; a file that has changed meanwhile is noticed at the
                // end of the epoch.
                if !alone && let Ok(step) = stepped {
                    return Ok(step);
                }
                split.used(stepped).map_err(|failure| train.locate(failure, "training"))
            };
            while let Some(step) = step(trainer)? {
                progress.step(&step, || (trainer.epoch_so_far(), before + began.elapsed()));
                if trainer.is_to_stop() || alone && interrupt::requested().is_some() {
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

    /// Validates the model and records the epoch. Returns the rows that the validation left out, too.
    fn end_of_epoch(&mut self, rows: usize) -> Result<(EpochRecord, Evaluation, Vec<LeftOut>)> {
        let time = std::mem::take(&mut self.state.epoch_seconds);
        self.state.training_seconds += time;
        let validated = self.split.used(Ok(())).and_then(|()| self.validate(self.trainer.vae()));
        let (validated, left_out) = self.agree(validated)?;
        self.ranks.expect_same(validated.loss.to_bits(), || {
            "its validation loss differs from that of rank 0".to_owned()
        })?;
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
        Ok((epoch, validated, left_out))
    }

    fn evaluation(&self) -> HeldOutEvaluation<'_> {
        let Options { objective, augmentation, seed, .. } = *self.trainer.options();
        let options = EvaluationOptions { objective, augmentation, seed };
        HeldOutEvaluation { split: self.split, compute: self.compute, options }
    }

    fn validate(&self, vae: &Vae) -> Result<(Evaluation, Vec<LeftOut>)> {
        self.evaluation().validate(vae)
    }

    fn warn_of(&mut self, left_out: Vec<LeftOut>, part: HeldOutPart) {
        if let Some(warning) = self.left_out.warning(left_out, part, self.split) {
            self.console.warn(warning);
        }
    }

    fn best_epoch(&self) -> Option<usize> {
        self.state.best_epoch()
    }

    fn out_of_patience(&self) -> bool {
        self.state.out_of_patience(self.patience)
    }

    /// Returns the model to keep of a run that is resumed. The file of the best model may be ahead of the
    /// checkpoint; the run then repeats that epoch, with the same bits.
    fn kept_so_far(&self) -> Result<Option<Kept>> {
        if self.state.history.is_empty() {
            return Ok(None);
        }
        if self.args.stopping.keep() == Keep::Last {
            let epoch = steps_of_an_epoch(self.trainer.options(), self.split.train.len());
            let between_epochs = self.trainer.steps() == epoch * self.state.history.len() as u64;
            return Ok(self.last_epoch().filter(|_| between_epochs));
        }
        let (vae, notes) = model::open(&self.folder.join(MODEL))?;
        Ok(notes.training.map(|notes| Kept { vae, notes, validated: None }))
    }

    /// Returns the model as it is now, after the last epoch.
    fn last_epoch(&self) -> Option<Kept> {
        let notes = self.state.last.clone()?;
        Some(Kept { vae: self.trainer.vae().clone(), notes, validated: None })
    }

    /// Writes a checkpoint of the current state, at rank 0.
    fn checkpoint(&mut self, kept: Option<&Kept>) -> Result<()> {
        self.ranks.first(|| self.write_checkpoint(kept))?;
        self.has_checkpoint = true;
        Ok(())
    }

    fn write_checkpoint(&self, kept: Option<&Kept>) -> Result<()> {
        let data = self.split.description();
        let best = kept.filter(|_| self.args.stopping.keep() == Keep::Best);
        if let Some(Kept { vae, notes, .. }) = best {
            let training = Some(self.state.with_history(notes));
            let notes = ModelMetadata { data: data.clone(), training };
            vae.save_with(self.folder.join(MODEL), &notes)?;
        }
        // Until its first epoch is over, a run has nothing to put in the place of an older one.
        let begun = !self.args.overwrite || !self.state.history.is_empty();
        if begun {
            let settings = self.state.settings.as_bytes();
            write_file(&self.folder.join(RUN), |file| file.write_all(settings))?;
        }
        checkpoint::write(self.folder, &self.trainer, &self.state, data)?;
        if self.args.overwrite && begun {
            let own = [Some(CHECKPOINT), Some(RUN), Some(HISTORY_SO_FAR), best.map(|_| MODEL)];
            remove_others(self.folder.path(), &own.into_iter().flatten().collect::<Vec<_>>());
        }
        Ok(())
    }

    fn interrupted(&mut self, kept: Option<&Kept>) -> Result<Failure> {
        self.checkpoint(kept)?;
        let message = format!(
            "interrupted after step {} ({} of {} done); resume with: elbo train --resume {}",
            thousands(self.trainer.steps() as f64),
            self.state.history.len(),
            counted(self.epochs, "epoch"),
            quoted(&self.args.out)
        );
        let signal = self.ranks.signal(interrupt::requested())?.unwrap_or_default();
        Ok(Failure::Interrupted { signal, message })
    }

    /// Makes the failure of any rank that of all, with its remedies.
    fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.ranks.count() == 1 {
            return outcome;
        }
        self.ranks.agree(outcome.map_err(|failure| match failure {
            Failure::Diverged { .. } => {
                Failure::Run(divergence::message(&failure, self.args, self.split.is_table()))
            }
            other => other,
        }))
    }

    /// Writes the model to keep, if there is one, and returns the failure that ended the run.
    fn failed(&self, kept: Option<&Kept>, failure: Failure) -> Failure {
        let message = divergence::message(&failure, self.args, self.split.is_table());
        let rescued = kept.filter(|kept| {
            let run = (&self.state, self.has_checkpoint);
            !self.ranks.is_first()
                || outputs::rescue(self.folder, kept, run, self.split, self.compute).is_ok()
        });
        let failure = after_failure(rescued, &self.state, self.args, message);
        self.ranks.agree::<()>(Err(failure)).expect_err("a failure of all ranks")
    }

    /// Evaluates the model to keep on the validation and test data, and returns the warnings.
    fn evaluate(&mut self, kept: &Kept) -> Result<(Evaluation, Option<Evaluation>, Vec<String>)> {
        let vae = &kept.vae;
        let validated = match &kept.validated {
            Some(validated) => validated.clone(),
            None => {
                let (validated, left_out) = self.validate(vae)?;
                self.warn_of(left_out, HeldOutPart::Validation);
                validated
            }
        };
        let mut tested = None;
        // The one time that the test data are used.
        if let Some(OfUsable { result, left_out }) = self.evaluation().test(vae)? {
            self.warn_of(left_out, HeldOutPart::Test);
            tested = result;
        }
        let parts = self.evaluation().decompose(vae, warnings::ROWS)?;
        let warnings = parts.map_or_else(Vec::new, |parts| warnings(&validated, &parts));
        Ok((validated, tested, warnings))
    }
}

/// Returns the failure of a run, with the model that was kept.
fn after_failure(
    kept: Option<&Kept>,
    state: &RunState,
    args: &TrainOptions,
    message: String,
) -> Failure {
    let Some(kept) = kept else { return Failure::Run(message) };
    let which = if args.stopping.keep() == Keep::Best { "best" } else { "last" };
    Failure::Run(format!(
        "{message}; kept the {which} model, of epoch {} of {}: {}",
        kept.notes.epoch,
        state.history.len(),
        args.out.join(MODEL).display()
    ))
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
