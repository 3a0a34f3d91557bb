//! Training on rows that the caller's functions fill.

use crate::arguments::{Place, path, shared};
use crate::compute::elbo_compute;
use crate::data::{CallerRows, elbo_dataset};
use crate::handle::{Exclusive, end_unless_lent};
use crate::loss::{capacity_per, elbo_penalty_kind, elbo_per, elbo_reduction, free_bits_per};
use crate::model::{elbo_evaluation, elbo_model, evaluate};
use crate::optimizers::elbo_optimizer;
use crate::status::elbo_status::ELBO_CALLBACK;
use crate::status::{Failure, Outcome, elbo_status, guard};
use elbo_rust::Augmentation;
use elbo_rust::loss::importance::Estimator;
use elbo_rust::optim::{Clip, Decay, LearningRateSchedule, Span};
use elbo_rust::train::{Epoch, Options, Step, Trainer};
use elbo_rust::vae::{Annealing, EvaluationOptions, Objective, Penalty};
use std::ffi::{c_char, c_void};

/// Unit of a span of training.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_span_unit {
    /// Updates of the weights.
    ELBO_STEPS = 0,
    /// Passes over the data.
    ELBO_EPOCHS = 1,
}

/// Length of a part of training.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_span {
    /// One of `elbo_span_unit`.
    pub unit: i32,
    /// Number of them.
    pub count: u64,
}

/// Course of the weight beta during training.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_annealing {
    /// beta from the first step on.
    ELBO_ANNEALING_CONSTANT = 0,
    /// From `annealing_from` to beta in a straight line.
    ELBO_ANNEALING_LINEAR = 1,
    /// The same along half a period of the cosine.
    ELBO_ANNEALING_COSINE = 2,
    /// From 0 to beta in each of `annealing_cycles` cycles, over the fraction `annealing_ratio` of a cycle.
    ELBO_ANNEALING_CYCLICAL = 3,
}

/// Estimator of the encoder's gradient with importance weighting.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_estimator {
    /// The gradient of the bound itself (Burda et al. 2016).
    ELBO_IWAE = 0,
    /// Doubly reparameterized (Tucker et al. 2019): the same mean, less noise.
    ELBO_DREG = 1,
}

/// Clipping of the gradient.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_clip {
    /// None.
    ELBO_CLIP_NONE = 0,
    /// `clip_limit` is the largest magnitude of a weight's gradient.
    ELBO_CLIP_VALUE = 1,
    /// `clip_limit` is the largest norm of all gradients together.
    ELBO_CLIP_NORM = 2,
}

/// Decay of the learning rate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_decay {
    /// None.
    ELBO_DECAY_CONSTANT = 0,
    /// Multiplication by `decay_factor` every `decay_epochs` epochs.
    ELBO_DECAY_STEP = 1,
    /// Half a period of the cosine over `decay_over`, from 1 to `decay_floor`.
    ELBO_DECAY_COSINE = 2,
    /// Multiplication by `decay_factor` once the loss of `elbo_trainer_observe` has not fallen for more than
    /// `decay_epochs` epochs.
    ELBO_DECAY_PLATEAU = 3,
}

/// Augmentation of the data, drawn anew each time a row is seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_augmentation {
    /// None.
    ELBO_AUGMENTATION_NONE = 0,
    /// Each value becomes 1 with its own probability, otherwise 0.
    ELBO_AUGMENTATION_BINARIZE = 1,
    /// Each of `augmentation_levels` gray levels is spread evenly over its part of [0, 1).
    ELBO_AUGMENTATION_DEQUANTIZE = 2,
}

/// Training options. `elbo_train_options_init` sets the defaults; the numbers of what is not chosen are ignored.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_train_options {
    /// Rows of a batch; 128. The last batch of an epoch may be shorter.
    pub batch: usize,
    /// Batches whose gradients are added up for one step; 1.
    pub accumulate: usize,
    /// Shards of a batch, a power of two; 1.
    pub shards: usize,
    /// Seed of the order of the rows and of the noise; 1.
    pub seed: u64,
    /// The optimizer; Adam.
    pub optimizer: elbo_optimizer,
    /// Weight of the penalty; 1.
    pub beta: f32,
    /// One of `elbo_reduction`; ELBO_BATCH_MEAN.
    pub reduction: i32,
    /// One of `elbo_annealing`; ELBO_ANNEALING_CONSTANT.
    pub annealing: i32,
    /// Weight at the beginning of linear or cosine annealing.
    pub annealing_from: f32,
    /// Cycles of cyclical annealing.
    pub annealing_cycles: u32,
    /// Fraction of a cycle in which the weight grows, in (0, 1].
    pub annealing_ratio: f32,
    /// Length of the annealing.
    pub annealing_over: elbo_span,
    /// One of `elbo_penalty_kind`; ELBO_KL.
    pub penalty: i32,
    /// ELBO_FREE_BITS, ELBO_CAPACITY: one of `elbo_per`.
    pub per: i32,
    /// ELBO_FREE_BITS: the threshold, in nats.
    pub lambda: f32,
    /// ELBO_CAPACITY: the weight. ELBO_TOTAL_CORRELATION: the weight of the dimension-wise KL divergence.
    pub gamma: f32,
    /// ELBO_TOTAL_CORRELATION: the weight of the mutual information.
    pub alpha: f32,
    /// ELBO_CAPACITY: the capacity at the end, in nats per example.
    pub capacity: f32,
    /// ELBO_CAPACITY: the span over which it grows from 0.
    pub capacity_over: elbo_span,
    /// ELBO_IMPORTANCE: samples of each example.
    pub samples: usize,
    /// ELBO_IMPORTANCE: one of `elbo_estimator`.
    pub estimator: i32,
    /// One of `elbo_clip`; ELBO_CLIP_NONE.
    pub clip: i32,
    /// The limit.
    pub clip_limit: f32,
    /// One of `elbo_decay`; ELBO_DECAY_CONSTANT.
    pub decay: i32,
    /// Steps over which the learning rate rises from 0; 0 for no warm-up.
    pub warm_up: u64,
    /// Epochs of ELBO_DECAY_STEP and ELBO_DECAY_PLATEAU.
    pub decay_epochs: u64,
    /// Factor of ELBO_DECAY_STEP and ELBO_DECAY_PLATEAU.
    pub decay_factor: f64,
    /// Length of ELBO_DECAY_COSINE.
    pub decay_over: elbo_span,
    /// Fraction of the learning rate that ELBO_DECAY_COSINE leaves, in [0, 1].
    pub decay_floor: f64,
    /// One of `elbo_augmentation`; ELBO_AUGMENTATION_NONE.
    pub augmentation: i32,
    /// Levels of ELBO_AUGMENTATION_DEQUANTIZE, such as 256.
    pub augmentation_levels: u32,
}

/// Result of one training step.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct elbo_step {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// Number of the epoch, counted from 1.
    pub epoch: u64,
    /// Rows of the batch; 0 if there was no step, because the epoch was over.
    pub rows: usize,
    /// The loss before the update, as the objective reduces it.
    pub loss: f64,
    /// Its reconstruction term.
    pub reconstruction: f64,
    /// The KL divergence, whatever the penalty.
    pub kl: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Weight beta of the step.
    pub beta: f32,
}

/// Result of one epoch: means over its rows, in nats per example, whatever the reduction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct elbo_epoch {
    /// Number of the epoch, counted from 1.
    pub epoch: u64,
    /// Rows of its steps.
    pub rows: usize,
    /// The loss, with the weights of each step.
    pub loss: f64,
    /// Its reconstruction term.
    pub reconstruction: f64,
    /// The KL divergence, whatever the penalty.
    pub kl: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Weight beta of the last step.
    pub beta: f32,
}

/// A function of the caller that sees each step of an epoch. Returns 0 to go on; another number ends the epoch with
/// ELBO_CALLBACK, after the step. It is called from the thread that called `elbo_trainer_epoch`, and must not throw a
/// C++ exception or leave by longjmp.
pub type elbo_on_step =
    Option<unsafe extern "C" fn(context: *mut c_void, step: *const elbo_step) -> i32>;

/// A model in training. One call at a time uses a handle (ELBO_BUSY otherwise).
pub struct elbo_trainer {
    trainer: Exclusive<(Trainer, elbo_compute)>,
}

impl elbo_span {
    fn of(span: Option<Span>) -> Self {
        let (unit, count) = match span {
            Some(Span::Epochs(count)) => (elbo_span_unit::ELBO_EPOCHS, count),
            Some(Span::Steps(count)) => (elbo_span_unit::ELBO_STEPS, count),
            None => (elbo_span_unit::ELBO_STEPS, 0),
        };
        Self { unit: unit as i32, count }
    }

    fn read(self, setting: &str) -> Outcome<Span> {
        match self.unit {
            unit if unit == elbo_span_unit::ELBO_STEPS as i32 => Ok(Span::Steps(self.count)),
            unit if unit == elbo_span_unit::ELBO_EPOCHS as i32 => Ok(Span::Epochs(self.count)),
            unit => Err(Failure::option(setting, "a unit of elbo_span_unit", unit)),
        }
    }
}

impl elbo_train_options {
    fn defaults() -> Self {
        let Options { batch, accumulate, shards, seed, optimizer, .. } = Options::default();
        let none = elbo_span::of(None);
        Self {
            batch,
            accumulate,
            shards,
            seed,
            optimizer: elbo_optimizer::of(optimizer),
            beta: Objective::default().beta,
            reduction: elbo_reduction::ELBO_BATCH_MEAN as i32,
            annealing: elbo_annealing::ELBO_ANNEALING_CONSTANT as i32,
            annealing_from: 0.0,
            annealing_cycles: 4,
            annealing_ratio: 0.5,
            annealing_over: none,
            penalty: elbo_penalty_kind::ELBO_KL as i32,
            per: elbo_per::ELBO_PER_SAMPLE as i32,
            lambda: 0.0,
            gamma: 1.0,
            alpha: 1.0,
            capacity: 0.0,
            capacity_over: none,
            samples: 1,
            estimator: elbo_estimator::ELBO_IWAE as i32,
            clip: elbo_clip::ELBO_CLIP_NONE as i32,
            clip_limit: 0.0,
            decay: elbo_decay::ELBO_DECAY_CONSTANT as i32,
            warm_up: 0,
            decay_epochs: 0,
            decay_factor: 1.0,
            decay_over: none,
            decay_floor: 0.0,
            augmentation: elbo_augmentation::ELBO_AUGMENTATION_NONE as i32,
            augmentation_levels: 256,
        }
    }

    fn read(&self) -> Outcome<Options> {
        Ok(Options {
            batch: self.batch,
            accumulate: self.accumulate,
            shards: self.shards,
            seed: self.seed,
            optimizer: self.optimizer.read()?,
            objective: Objective {
                beta: self.beta,
                reduction: crate::loss::reduction(self.reduction)?,
                annealing: self.annealing()?,
                penalty: self.penalty()?,
            },
            clip: self.clip()?,
            schedule: LearningRateSchedule { warm_up: self.warm_up, decay: self.decay()? },
            augmentation: self.augmentation()?,
        })
    }

    fn annealing(&self) -> Outcome<Annealing> {
        use elbo_annealing::*;
        let (from, cycles, ratio) =
            (self.annealing_from, self.annealing_cycles, self.annealing_ratio);
        let over = || self.annealing_over.read("annealing_over");
        Ok(match self.annealing {
            code if code == ELBO_ANNEALING_CONSTANT as i32 => Annealing::Constant,
            code if code == ELBO_ANNEALING_LINEAR as i32 => {
                Annealing::Linear { from, over: over()? }
            }
            code if code == ELBO_ANNEALING_COSINE as i32 => {
                Annealing::Cosine { from, over: over()? }
            }
            code if code == ELBO_ANNEALING_CYCLICAL as i32 => {
                Annealing::Cyclical { cycles, ratio, over: over()? }
            }
            code => return Err(Failure::option("annealing", "a value of elbo_annealing", code)),
        })
    }

    fn penalty(&self) -> Outcome<Penalty> {
        use elbo_penalty_kind::*;
        let Self { lambda, gamma, alpha, capacity, samples, .. } = *self;
        Ok(match self.penalty {
            code if code == ELBO_KL as i32 => Penalty::Kl,
            code if code == ELBO_FREE_BITS as i32 => {
                Penalty::FreeBits { lambda, per: free_bits_per(self.per)? }
            }
            code if code == ELBO_CAPACITY as i32 => {
                let over = self.capacity_over.read("capacity_over")?;
                Penalty::Capacity { gamma, capacity, over, per: capacity_per(self.per)? }
            }
            code if code == ELBO_TOTAL_CORRELATION as i32 => {
                Penalty::TotalCorrelation { alpha, gamma }
            }
            code if code == ELBO_IMPORTANCE as i32 => {
                let estimator = match self.estimator {
                    code if code == elbo_estimator::ELBO_IWAE as i32 => Estimator::Iwae,
                    code if code == elbo_estimator::ELBO_DREG as i32 => Estimator::Dreg,
                    code => {
                        return Err(Failure::option(
                            "estimator",
                            "a value of elbo_estimator",
                            code,
                        ));
                    }
                };
                Penalty::Importance { samples, estimator }
            }
            code => return Err(Failure::option("penalty", "a value of elbo_penalty_kind", code)),
        })
    }

    fn clip(&self) -> Outcome<Option<Clip>> {
        use elbo_clip::*;
        Ok(match self.clip {
            code if code == ELBO_CLIP_NONE as i32 => None,
            code if code == ELBO_CLIP_VALUE as i32 => Some(Clip::Value(self.clip_limit)),
            code if code == ELBO_CLIP_NORM as i32 => Some(Clip::Norm(self.clip_limit)),
            code => return Err(Failure::option("clip", "a value of elbo_clip", code)),
        })
    }

    fn decay(&self) -> Outcome<Decay> {
        use elbo_decay::*;
        let (epochs, factor, floor) = (self.decay_epochs, self.decay_factor, self.decay_floor);
        Ok(match self.decay {
            code if code == ELBO_DECAY_CONSTANT as i32 => Decay::Constant,
            code if code == ELBO_DECAY_STEP as i32 => Decay::Step { epochs, factor },
            code if code == ELBO_DECAY_COSINE as i32 => {
                Decay::Cosine { over: self.decay_over.read("decay_over")?, floor }
            }
            code if code == ELBO_DECAY_PLATEAU as i32 => {
                Decay::Plateau { patience: epochs, factor }
            }
            code => return Err(Failure::option("decay", "a value of elbo_decay", code)),
        })
    }

    fn augmentation(&self) -> Outcome<Augmentation> {
        use elbo_augmentation::*;
        let levels = self.augmentation_levels;
        Ok(match self.augmentation {
            code if code == ELBO_AUGMENTATION_NONE as i32 => Augmentation::None,
            code if code == ELBO_AUGMENTATION_BINARIZE as i32 => Augmentation::Binarize,
            code if code == ELBO_AUGMENTATION_DEQUANTIZE as i32 => {
                Augmentation::Dequantize { levels }
            }
            code => {
                return Err(Failure::option("augmentation", "a value of elbo_augmentation", code));
            }
        })
    }
}

impl elbo_step {
    /// No step: the epoch with this number is over.
    fn none(epoch: u64) -> Self {
        let (loss, reconstruction, kl, learning_rate, beta) = (0.0, 0.0, 0.0, 0.0, 0.0);
        Self { step: 0, epoch, rows: 0, loss, reconstruction, kl, learning_rate, beta }
    }
}

impl From<&Step> for elbo_step {
    fn from(step: &Step) -> Self {
        Self {
            step: step.step,
            epoch: step.epoch,
            rows: step.rows,
            loss: step.loss,
            reconstruction: step.reconstruction,
            kl: step.kl,
            learning_rate: step.learning_rate,
            beta: step.beta,
        }
    }
}

impl From<Epoch> for elbo_epoch {
    fn from(epoch: Epoch) -> Self {
        Self {
            epoch: epoch.epoch,
            rows: epoch.rows,
            loss: epoch.loss,
            reconstruction: epoch.reconstruction,
            kl: epoch.kl,
            learning_rate: epoch.learning_rate,
            beta: epoch.beta,
        }
    }
}

/// A function of the caller that sees steps, with its context.
struct OnStep {
    call: elbo_on_step,
    context: *mut c_void,
}

// SAFETY: only the calling thread of an epoch calls it; the bound is that of `Compute::install`, which runs its work
// there.
unsafe impl Sync for OnStep {}

impl OnStep {
    fn call(&self, step: &Step) -> Outcome<()> {
        let Some(call) = self.call else { return Ok(()) };
        let seen = elbo_step::from(step);
        // SAFETY: a function of the caller with its context, and a step that lives as long as the call.
        match unsafe { call(self.context, &seen) } {
            0 => Ok(()),
            code => {
                let message = format!("`on_step` returned {code} after step {}", step.step);
                Err(Failure::new(ELBO_CALLBACK, message))
            }
        }
    }
}

/// Sets the defaults: batches of 128 rows, Adam, the negative evidence lower bound per example.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_train_options_init(options: *mut elbo_train_options) -> elbo_status {
    guard("elbo_train_options_init", || {
        let place = Place::new("options", options)?;
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.put(elbo_train_options::defaults()) };
        Ok(())
    })
}

/// Starts training a copy of `model` on the threads of `compute`. The same model, options and data give the same
/// weights, bit for bit, on any number of threads, and those of the tool `elbo train`.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED; ELBO_OPTION for options outside their domains or that do not go with each
/// other or with the model; ELBO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_new(
    trainer: *mut *mut elbo_trainer,
    model: *const elbo_model,
    compute: *const elbo_compute,
    options: *const elbo_train_options,
) -> elbo_status {
    guard("elbo_trainer_new", || {
        let place = Place::new("trainer", trainer)?;
        let make = || {
            // SAFETY: handles and structures are the caller's, by the contract of the header.
            let (model, compute, options) = unsafe {
                (shared("model", model)?, shared("compute", compute)?, shared("options", options)?)
            };
            let (vae, threads) = ((*model.vae).clone(), compute.here()?.clone());
            let trainer = Trainer::new(vae, options.read()?, threads)?;
            Ok(elbo_trainer { trainer: Exclusive::new((trainer, compute.clone())) })
        };
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.fill(make) }
    })
}

/// Goes on with training from a checkpoint of `elbo_trainer_save_checkpoint` or of the tool, to the bits of a run
/// that was never interrupted.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_IO, ELBO_MODEL_FILE, ELBO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_resume(
    trainer: *mut *mut elbo_trainer,
    path: *const c_char,
    compute: *const elbo_compute,
) -> elbo_status {
    guard("elbo_trainer_resume", || {
        let place = Place::new("trainer", trainer)?;
        let make = || {
            // SAFETY: handles and texts are the caller's, by the contract of the header.
            let (path, compute) = unsafe { (self::path(path)?, shared("compute", compute)?) };
            let trainer = Trainer::resume(path, compute.here()?.clone())?;
            Ok(elbo_trainer { trainer: Exclusive::new((trainer, compute.clone())) })
        };
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.fill(make) }
    })
}

/// Trains on the next batch of the current epoch. `step->rows` is 0 if the epoch was over: the next call begins
/// another. `step` may be null.
///
/// Once warm, a step does not allocate: the first step makes room for whole batches, and the first of an epoch
/// draws the order of the rows.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY; ELBO_CALLBACK if a function of `data` returns another number than 0;
/// ELBO_DATA and ELBO_NOT_FINITE with the step and the first faulty row; ELBO_OPTION without a row; ELBO_MEMORY. The
/// weights are then those before the step, and the same batch comes next. ELBO_INTERRUPTED and ELBO_INTERNAL after
/// a fault of the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_step(
    trainer: *mut elbo_trainer,
    step: *mut elbo_step,
    data: *const elbo_dataset,
) -> elbo_status {
    guard("elbo_trainer_step", || {
        let place = (!step.is_null()).then(|| Place::new("step", step)).transpose()?;
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("trainer", trainer.cast_const()) }?.trainer.with(|(trainer, compute)| {
            compute.here()?;
            // SAFETY: structures of the caller, by the contract of the header.
            let data = unsafe { CallerRows::new(data, trainer.vae().config()) }?;
            let done = trainer.step(&data)?;
            let found = done.as_ref().map(elbo_step::from);
            let found = found.unwrap_or_else(|| elbo_step::none(trainer.epochs()));
            if let Some(place) = place {
                // SAFETY: memory of the caller, by the contract of the header.
                unsafe { place.put(found) };
            }
            Ok(())
        })
    })
}

/// Trains to the end of the current epoch, or on all of the next one if nothing is left. `on_step`, which may be
/// null, sees each step with `context`; `epoch` may be null.
///
/// Errors: as `elbo_trainer_step`; ELBO_CALLBACK also if `on_step` returns another number than 0. Training can go on
/// where it ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_epoch(
    trainer: *mut elbo_trainer,
    epoch: *mut elbo_epoch,
    data: *const elbo_dataset,
    on_step: elbo_on_step,
    context: *mut c_void,
) -> elbo_status {
    guard("elbo_trainer_epoch", || {
        let place = (!epoch.is_null()).then(|| Place::new("epoch", epoch)).transpose()?;
        let on_step = OnStep { call: on_step, context };
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("trainer", trainer.cast_const()) }?.trainer.with(|(trainer, compute)| {
            // SAFETY: structures of the caller, by the contract of the header.
            let data = unsafe { CallerRows::new(data, trainer.vae().config()) }?;
            // The threads stay with the trainer from the first step to the last.
            let found = compute.here()?.install(|| {
                let on_step = &on_step;
                let mut is_first = true;
                loop {
                    match trainer.step(&data)? {
                        Some(step) => on_step.call(&step)?,
                        // The epoch before this one ends here if its last step was one of `elbo_trainer_step`.
                        None if is_first => {}
                        None => return Ok::<_, Failure>(trainer.epoch_so_far()),
                    }
                    is_first = false;
                }
            })?;
            if let Some(place) = place {
                // SAFETY: memory of the caller, by the contract of the header.
                unsafe { place.put(found.into()) };
            }
            Ok(())
        })
    })
}

/// Passes the loss of an epoch, best that of a validation set, to ELBO_DECAY_PLATEAU. Other schedules ignore it.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY; ELBO_OPTION for a loss that is NaN or infinite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_observe(
    trainer: *mut elbo_trainer,
    loss: f64,
) -> elbo_status {
    guard("elbo_trainer_observe", || {
        if !loss.is_finite() {
            return Err(Failure::option("loss", "a finite number", loss));
        }
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("trainer", trainer.cast_const()) }?.trainer.with(|(trainer, _)| {
            trainer.observe(loss);
            Ok(())
        })
    })
}

/// Writes the loss of the weights as they are on all rows of `data` to `evaluation`, as `elbo_model_evaluate` does,
/// with the negative evidence lower bound for the loss.
///
/// Errors: as `elbo_model_evaluate`, and ELBO_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_evaluate(
    trainer: *mut elbo_trainer,
    evaluation: *mut elbo_evaluation,
    data: *const elbo_dataset,
    seed: u64,
) -> elbo_status {
    guard("elbo_trainer_evaluate", || {
        // SAFETY: a handle of the caller, by the contract of the header.
        unsafe { shared("trainer", trainer.cast_const()) }?.trainer.with(|(trainer, compute)| {
            let options = EvaluationOptions { seed, ..EvaluationOptions::default() };
            // SAFETY: structures and memory are the caller's, by the contract of the header.
            unsafe { evaluate(trainer.vae(), &raw const *compute, evaluation, data, options) }
        })
    })
}

/// Makes a model of the weights as they are.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_model(
    trainer: *const elbo_trainer,
    model: *mut *mut elbo_model,
) -> elbo_status {
    guard("elbo_trainer_model", || {
        let place = Place::new("model", model)?;
        // SAFETY: handles and memory are the caller's, by the contract of the header.
        unsafe {
            place.fill(|| {
                let trainer = shared("trainer", trainer)?;
                trainer.trainer.with(|(trainer, _)| Ok(elbo_model::of(trainer.vae().clone())))
            })
        }
    })
}

/// Writes the state of the training to a file, for `elbo_trainer_resume`. It is a model file, too.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY, ELBO_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_save_checkpoint(
    trainer: *const elbo_trainer,
    path: *const c_char,
) -> elbo_status {
    guard("elbo_trainer_save_checkpoint", || {
        // SAFETY: handles and texts are the caller's, by the contract of the header.
        let (trainer, path) = unsafe { (shared("trainer", trainer)?, self::path(path)?) };
        trainer.trainer.with(|(trainer, _)| Ok(trainer.save_checkpoint(path)?))
    })
}

/// Frees the trainer, unless a call is using it. Nothing happens for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_trainer_free(trainer: *mut elbo_trainer) {
    // SAFETY: a handle of the caller, by the contract of the header.
    unsafe { end_unless_lent("elbo_trainer_free", trainer, |handle| &handle.trainer) }
}
