//! The training loop.

use super::Options;
use super::shards::Shards;
use crate::compute::Compute;
use crate::dataset::Dataset;
use crate::distributed::SingleProcess;
use crate::error::{Error, Result, expect_shape};
use crate::loss::Elbo;
use crate::memory::expect_memory;
use crate::optim::clip::global_norm;
use crate::optim::{Bounds, PlateauState, UpdateRule};
use crate::random::Generator;
#[cfg(feature = "safetensors")]
use crate::random::INDEX_LIMIT;
use crate::simd::environment::FloatEnvironment;
use crate::vae::step::Workspace;
use crate::vae::step::batch::{Batch, Indices, Noise, NoiseKey, Pass, Purpose};
use crate::vae::step::sink::{StoredGradient, UpdateWithAdam};
use crate::vae::step::terms::{LossSums, StepObjective};
use crate::vae::{Parameters, Vae};
use ndarray::ArrayView2;
use std::sync::Arc;

/// Result of one training step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// Number of the epoch, counted from 1.
    pub epoch: u64,
    /// Rows in the batch.
    pub rows: usize,
    /// The loss before the update, as the objective reduces it.
    pub loss: f64,
    /// The reconstruction term of the loss.
    pub reconstruction: f64,
    /// The KL divergence itself, whatever the penalty.
    pub kl: f64,
    /// β at this step.
    pub beta: f32,
    /// Learning rate at this step.
    pub learning_rate: f64,
}

/// Result of one epoch: means over its rows, in nats per example, whatever the reduction.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epoch {
    /// Number of the epoch, counted from 1.
    pub epoch: u64,
    /// Rows of its steps.
    pub rows: usize,
    /// The loss, with the weights of each step.
    pub loss: f64,
    /// The reconstruction term.
    pub reconstruction: f64,
    /// The KL divergence itself, whatever the penalty.
    pub kl: f64,
    /// β at the last step.
    pub beta: f32,
    /// Learning rate at the last step.
    pub learning_rate: f64,
}

/// A model in training.
///
/// ```
/// use elbo::{Compute, train::{Options, Trainer}, vae::{Config, Vae}};
/// use ndarray::Array2;
///
/// let data = Array2::from_shape_fn((200, 12), |(r, c)| f32::from(u8::from((r + c) % 4 < 2)));
/// let vae = Vae::new(Config::builder(12, 2).hidden(&[16]).build()?, 1);
/// let mut trainer = Trainer::new(vae, Options { batch: 32, ..Options::default() }, Compute::serial())?;
/// let first = trainer.epoch(&data, |step| assert!(step.loss.is_finite()))?;
/// let second = trainer.epoch(&data, |_| ())?;
/// assert!(second.loss < first.loss);
/// # Ok::<(), elbo::Error>(())
/// ```
pub struct Trainer {
    pub(super) vae: Vae,
    pub(super) options: Options,
    pub(super) compute: Compute,
    /// First part of the optimizer's state: Adam's first moment, SGD's velocity.
    pub(super) first_moment: Parameters,
    /// Second part of the optimizer's state: Adam's second moment, Adamax's norm.
    pub(super) second_moment: Parameters,
    /// Memory for a gradient, where one was asked for or needed.
    pub(super) gradient: StoredGradient,
    /// Set if it holds the gradient that a caller asked for, at the weights as they are.
    has_gradient: bool,
    /// Upper bounds on the magnitudes of weights and moments.
    pub(super) bounds: Bounds,
    /// Set while the weights change: a panic leaves it set.
    pub(super) is_updating: bool,
    pub(super) workspace: Workspace,
    pub(super) sharded: Shards,
    pub(super) progress: Progress,
    /// The order of the rows in the current epoch, and the epoch it was drawn for.
    order: Vec<u32>,
    order_epoch: Option<u64>,
}

/// Progress of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Progress {
    /// Steps done.
    pub(super) step: u64,
    /// Epochs done.
    pub(super) epoch: u64,
    /// Rows done of the current epoch.
    pub(super) position: usize,
    /// Their sums; between two epochs, those of the last one.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub(super) sums: EpochSums,
    /// State of a schedule that waits for a plateau.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub(super) plateau: PlateauState,
}

/// Sums over the rows of an epoch's steps, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct EpochSums {
    pub(super) rows: usize,
    pub(super) loss: f64,
    reconstruction: f64,
    kl: f64,
    /// β at the last step.
    beta: f32,
    /// Learning rate at the last step.
    learning_rate: f64,
}

impl EpochSums {
    fn add(&mut self, Outcome { step, per_example }: &Outcome) {
        let rows = step.rows as f64;
        self.rows = self.rows.saturating_add(step.rows);
        self.loss += rows * per_example.loss;
        self.reconstruction += rows * per_example.reconstruction;
        self.kl += rows * per_example.kl;
        (self.beta, self.learning_rate) = (step.beta, step.learning_rate);
    }
}

#[cfg(feature = "safetensors")]
impl Progress {
    /// Checks the progress that a checkpoint claims.
    ///
    /// # Errors
    /// The reason why no run can have made it.
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        let Self { step, epoch, position, sums, plateau } = *self;
        // Half the steps that random numbers can tell apart: no run has done as many, and one
        // that goes on from there will not do the other half.
        if step.max(epoch) >= INDEX_LIMIT / 2 {
            return Err(format!(
                "a checkpoint after {step} steps and {epoch} epochs; expected fewer than 2^47"
            ));
        }
        let rows = [position, sums.rows].map(|rows| rows as u64);
        if let Some(rows) = rows.into_iter().find(|&rows| rows > MAX_ROWS) {
            return Err(format!(
                "a checkpoint after {rows} rows of an epoch; expected at most 2^32"
            ));
        }
        let EpochSums { loss, reconstruction, kl, beta, learning_rate, .. } = sums;
        let sums = [loss, reconstruction, kl, f64::from(beta), learning_rate];
        if let Some(sum) = sums.iter().find(|sum| !sum.is_finite()) {
            return Err(format!(
                "a checkpoint whose epoch has a mean of {sum}; expected finite ones"
            ));
        }
        plateau.validate().map_err(|error| error.to_string())
    }
}

/// Norm of a gradient whose square overflows f32.
pub(super) const LARGEST_GRADIENT: f64 = 1.8e19;

/// Limit on the rows of a data set, whose numbers have 32 bits in the order of an epoch.
const MAX_ROWS: u64 = 1 << 32;

/// Result of one step, with its loss in nats per example beside the objective's own reduction.
struct Outcome {
    step: Step,
    per_example: Elbo,
}

impl Trainer {
    /// Starts training `vae`, on `compute`.
    ///
    /// # Errors
    /// [`Error::Config`] for options that are invalid or do not fit this model, and for weights that are
    /// NaN or ±∞; [`Error::Memory`] if the machine does not have room for the optimizer's state.
    pub fn new(mut vae: Vae, options: Options, compute: Compute) -> Result<Self> {
        options.validate_for(vae.config())?;
        let layout = vae.parameters().layout().clone();
        let weights = vae.parameters_mut();
        // A caller may have written between the weights of a layer and those of the next.
        weights.clear_padding();
        let bounds = Bounds::measure([weights, &[], &[]]);
        if let Some(weight) = weights.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::config("weights", "finite ones", weight));
        }
        expect_memory(
            2 * size_of_val(&weights[..]) as u64,
            || format!("the state of the optimizer for a model {}", vae.config()),
            "make the model narrower",
        )?;
        Ok(Self {
            has_gradient: false,
            bounds,
            is_updating: false,
            first_moment: Parameters::of_layout(layout.clone()),
            second_moment: Parameters::of_layout(layout.clone()),
            gradient: StoredGradient::default(),
            workspace: Workspace::new(vae.config(), layout, Purpose::Training),
            sharded: Shards::on(Arc::new(SingleProcess)),
            progress: Progress::default(),
            order: Vec::new(),
            order_epoch: None,
            vae,
            options,
            compute,
        })
    }

    /// The model as it is now.
    #[must_use]
    pub fn vae(&self) -> &Vae {
        &self.vae
    }

    /// The trained model.
    #[must_use]
    pub fn into_vae(self) -> Vae {
        self.vae
    }

    /// The training options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Steps done so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.progress.step
    }

    /// Epochs done so far.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.progress.epoch
    }

    /// Passes the loss of an epoch, best that of a validation set, to a schedule that
    /// [waits for a plateau](crate::optim::Decay::Plateau). Other schedules ignore it.
    ///
    /// Ignored until the weight of the KL divergence and the capacity are
    /// [final](crate::vae::Objective::is_final_at): a loss that falls or rises with them is no plateau.
    pub fn observe(&mut self, loss: f64) {
        let _environment = FloatEnvironment::standard();
        let Progress { step, epoch, .. } = self.progress;
        if self.options.objective.is_final_at(step, epoch) {
            self.options.schedule.observe(&mut self.progress.plateau, loss);
        }
    }

    /// Trains on the next batch of the current epoch: gathers its rows, draws its noise, and updates
    /// the weights. Returns `None` if the epoch is over; the call after that begins the next one.
    ///
    /// Once warm, a step does not allocate: the first step makes room for whole batches, and the first
    /// of an epoch draws the order of the rows into memory that is kept. (The first gradient so large that it
    /// must be looked at before it reaches the weights makes room for itself.) Steps of several shards or ranks allocate
    /// what they send.
    ///
    /// After a step without an error all weights and moments are finite.
    ///
    /// # Errors
    /// [`Error::Shape`] if the data do not fit the model, [`Error::Config`] if there are no rows
    /// or more than 2³² of them, [`Error::Memory`] if the machine does not have room for a batch; and at
    /// data that the likelihood does not accept, a loss, a gradient or an update that is not finite, or
    /// a logvar whose exponential overflows, an error that names the step and, where there is one, the
    /// row: the first in the order of the batch, on any number of threads. The weights are then those
    /// before the step, and the same batch comes next.
    ///
    /// # Panics
    /// If the data set panics. The panic is passed on once all threads have come to rest; weights and
    /// progress are those before the step, and training may go on. (Should a panic interrupt an update
    /// of the weights, which runs no code of the caller, all later steps return
    /// [`Error::Interrupted`].)
    pub fn step(&mut self, data: &dyn Dataset) -> Result<Option<Step>> {
        let _environment = FloatEnvironment::standard();
        Ok(self.next_batch(data)?.map(|outcome| outcome.step))
    }

    fn next_batch(&mut self, data: &dyn Dataset) -> Result<Option<Outcome>> {
        self.check_data(data)?;
        let rows = data.row_count();
        if self.progress.position >= rows {
            self.progress.position = 0;
            self.progress.epoch += 1;
            return Ok(None);
        }
        self.draw_order(rows)?;
        let first = self.progress.position;
        if first == 0 {
            self.progress.sums = EpochSums::default();
        }
        let Options { batch: at_once, accumulate, .. } = self.options;
        let size = at_once.saturating_mul(accumulate);
        let end = rows.min(first.saturating_add(size));
        // The order is lent out for the step: `self` is borrowed as a whole.
        let order = std::mem::take(&mut self.order);
        let next = &order[end..rows.min(end.saturating_add(size))];
        data.prefetch(&next[self.own_rows(next.len())]);
        let batch = self.batch(data, Indices::List(&order[first..end]), Noise::Drawn);
        let result = self.train_on(&batch, at_once);
        self.order = order;
        let outcome = result?;
        self.progress.position = end;
        self.progress.sums.add(&outcome);
        Ok(Some(outcome))
    }

    /// Trains to the end of the current epoch (on all of the next one, if nothing is left), calling
    /// `on_step` after each step.
    ///
    /// Keeps the threads of its [`Compute`] to itself from the first step to the last.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn epoch(
        &mut self,
        data: &dyn Dataset,
        mut on_step: impl FnMut(&Step) + Send,
    ) -> Result<Epoch> {
        let _environment = FloatEnvironment::standard();
        let compute = self.compute.clone();
        compute.install(|| {
            // An epoch whose last batch is done already is over: this call does the next one.
            if self.progress.position >= data.row_count() {
                self.next_batch(data)?;
            }
            while let Some(Outcome { step, .. }) = self.next_batch(data)? {
                on_step(&step);
            }
            Ok(self.epoch_so_far())
        })
    }

    /// Means of the current epoch over all its steps so far, those before a checkpoint included;
    /// between two epochs, those of the last one.
    #[must_use]
    pub fn epoch_so_far(&self) -> Epoch {
        let Progress { epoch, position, sums, .. } = self.progress;
        let rows = sums.rows.max(1) as f64;
        Epoch {
            epoch: epoch + u64::from(position > 0),
            rows: sums.rows,
            loss: sums.loss / rows,
            reconstruction: sums.reconstruction / rows,
            kl: sums.kl / rows,
            beta: sums.beta,
            learning_rate: sums.learning_rate,
        }
    }

    /// Trains for one step on all rows of `data` with this noise ε `[B·k, Z]`, outside of any epoch.
    /// (k is 1 without importance weighting; the samples of a row come one after the other.)
    ///
    /// # Errors
    /// As [`Self::step`], and [`Error::Shape`] if the noise does not fit.
    pub fn step_with_noise(
        &mut self,
        data: &dyn Dataset,
        noise: ArrayView2<'_, f32>,
    ) -> Result<Step> {
        let _environment = FloatEnvironment::standard();
        let batch = self.batch_with_noise(data, noise)?;
        Ok(self.train_on(&batch, usize::MAX)?.step)
    }

    /// Computes the loss of all rows of `data` with this noise ε `[B·k, Z]`, and its gradient, which is
    /// [`Self::gradient`] from then on. Weights and moments do not change.
    ///
    /// It serves a caller's own optimizer, clipping, or averaging over several machines, before
    /// [`Self::apply_gradient`]. The two together give the bits of [`Self::step_with_noise`] if
    /// nothing is clipped.
    ///
    /// # Errors
    /// As [`Self::step_with_noise`].
    pub fn gradient_with_noise(
        &mut self,
        data: &dyn Dataset,
        noise: ArrayView2<'_, f32>,
    ) -> Result<Elbo> {
        let _environment = FloatEnvironment::standard();
        let batch = self.batch_with_noise(data, noise)?;
        self.gradient_of(&batch)
    }

    /// Computes the loss and the [gradient](Self::gradient) of some rows of a data set with the noise
    /// of the next step. Weights and moments do not change.
    ///
    /// # Errors
    /// As [`Self::step`]; [`Error::Config`] if a row is beyond the end of the data.
    pub fn gradient_of_rows(&mut self, data: &dyn Dataset, rows: &[u32]) -> Result<Elbo> {
        let _environment = FloatEnvironment::standard();
        self.check_data(data)?;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= data.row_count()) {
            return Err(Error::config("rows", "numbers below that of the data's rows", row));
        }
        if rows.is_empty() {
            return Err(Error::config("rows", "at least one row", 0));
        }
        let batch = self.batch(data, Indices::List(rows), Noise::Drawn);
        self.gradient_of(&batch)
    }

    /// The gradient of the last [`Self::gradient_of_rows`] or [`Self::gradient_with_noise`]; `None`
    /// before one, and once the weights have changed.
    #[must_use]
    pub fn gradient(&self) -> Option<&Parameters> {
        self.gradient.sums.as_ref().filter(|_| self.has_gradient)
    }

    /// The [gradient](Self::gradient), to be changed before it is applied.
    pub fn gradient_mut(&mut self) -> Option<&mut Parameters> {
        self.gradient.sums.as_mut().filter(|_| self.has_gradient)
    }

    /// Updates the weights with the [gradient](Self::gradient) by one step of the optimizer, without
    /// clipping, and keeps learned variances at their bound, as [`Self::step`] does. The gradient is used
    /// up: each one is applied once.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no gradient; [`Error::NotFiniteGradient`] or
    /// [`Error::NotFiniteUpdate`] if the gradient or the weights after the step are not finite: weights,
    /// moments and gradient are then those before.
    pub fn apply_gradient(&mut self) -> Result<()> {
        let _environment = FloatEnvironment::standard();
        self.expect_whole()?;
        let Some(gradient) = self.gradient.sums.as_mut().filter(|_| self.has_gradient) else {
            return Err(Error::config(
                "gradient",
                "a call of `gradient_of_rows` or `gradient_with_noise` since the last step",
                "none",
            ));
        };
        // A caller may have written there: the weights between two layers stay 0.
        gradient.clear_padding();
        let compute = self.compute.clone();
        compute.install(|| {
            let norm = self.gradient_norm()?;
            self.update(norm)
        })
    }

    /// Updates the weights with the stored gradient, whose norm this is.
    ///
    /// # Errors
    /// [`Error::NotFiniteUpdate`] if a weight or a moment would not be finite.
    fn update(&mut self, norm: f64) -> Result<()> {
        let (rule, step) = (self.rule(), self.progress.step + 1);
        // 1e-6 for the rounding of the norm, 1e-18 for squares that have underflowed in it.
        let bounds = self.bounds_after(rule, norm * (1.0 + 1e-6) + 1e-18);
        let gradient = self.gradient.sums.as_ref().expect("a stored gradient");
        let (m, v) = (&mut self.first_moment, &mut self.second_moment);
        let w = self.vae.parameters_mut();
        if bounds.is_none() && !rule.stays_finite(&self.compute, [w, m, v], gradient) {
            return Err(Error::NotFiniteUpdate { step: Some(step) });
        }
        self.is_updating = true;
        rule.step_flat(&self.compute, [&mut *w, &mut *m, &mut *v], gradient);
        let measured = || Bounds::measure([w, m, v]);
        self.bounds = bounds.unwrap_or_else(measured);
        self.finish_update();
        Ok(())
    }

    fn finish_update(&mut self) {
        self.bound_variance();
        self.progress.step += 1;
        (self.is_updating, self.has_gradient) = (false, false);
    }

    /// Bounds on weights and moments after a step with a gradient of at most this magnitude; `None` if
    /// they do not show that all of them stay finite.
    pub(super) fn bounds_after(&mut self, rule: UpdateRule, gradient: f64) -> Option<Bounds> {
        rule.bounds_after(self.bounds, gradient).or_else(|| {
            // The bounds have grown faster than what they bound.
            let Self { vae, first_moment, second_moment, .. } = self;
            self.bounds = Bounds::measure([vae.parameters(), first_moment, second_moment]);
            rule.bounds_after(self.bounds, gradient)
        })
    }

    /// Checks the data, and that the trainer can go on.
    fn check_data(&self, data: &dyn Dataset) -> Result<()> {
        self.expect_whole()?;
        if data.row_count() as u64 > MAX_ROWS {
            return Err(Error::config("data", "at most 4294967296 rows", data.row_count()));
        }
        self.vae.check_data(data, self.options.objective.samples())
    }

    fn expect_whole(&self) -> Result<()> {
        if self.is_updating { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Factor on the learning rate at the next step.
    fn rate(&self) -> f64 {
        let Progress { step, epoch, plateau, .. } = self.progress;
        self.options.schedule.factor(step, epoch) * plateau.factor
    }

    /// The optimizer's update at the next step.
    fn rule(&self) -> UpdateRule {
        self.options.optimizer.at_step(self.progress.step + 1, self.rate())
    }

    /// The objective at the next step.
    pub(super) fn objective(&self) -> StepObjective {
        self.options.objective.at(self.progress.step, self.progress.epoch)
    }

    fn batch<'b>(
        &self,
        data: &'b dyn Dataset,
        indices: Indices<'b>,
        noise: Noise<'b>,
    ) -> Batch<'b> {
        let Options { seed, augmentation, .. } = self.options;
        let key = NoiseKey { seed, step: self.progress.step, purpose: Purpose::Training };
        Batch { data, indices, noise, key, augmentation }
    }

    fn batch_with_noise<'b>(
        &self,
        data: &'b dyn Dataset,
        noise: ArrayView2<'b, f32>,
    ) -> Result<Batch<'b>> {
        self.check_data(data)?;
        let rows = data.row_count();
        let samples = self.options.objective.samples();
        expect_shape("noise", [rows * samples, self.vae.config().latent()], noise.shape())?;
        Ok(self.batch(data, Indices::Range(0, rows), Noise::Given(noise)))
    }

    fn draw_order(&mut self, rows: usize) -> Result<()> {
        let epoch = self.progress.epoch;
        if self.order_epoch != Some(epoch) || self.order.len() != rows {
            self.order.resize(rows, 0);
            Generator::new(self.options.seed).permutation(epoch, &mut self.order)?;
            self.order_epoch = Some(epoch);
        }
        Ok(())
    }

    /// Forward and backward pass of one part of a batch of `rows` rows.
    fn forward_backward(
        &mut self,
        part: &Batch<'_>,
        objective: StepObjective,
        rows: usize,
    ) -> Result<LossSums> {
        let config = self.vae.config();
        let scales = objective.scales(config, rows);
        let weights = self.vae.parameters();
        let pass = Pass { config, weights, batch: part, objective, scales };
        let sums = self.workspace.forward_backward(&self.compute, &pass, &mut self.gradient);
        sums.map_err(|error| error.at(self.progress.step + 1))
    }

    /// Trains for one step on a batch, `at_once` rows at a time.
    fn train_on(&mut self, batch: &Batch<'_>, at_once: usize) -> Result<Outcome> {
        let compute = self.compute.clone();
        compute.install(|| {
            let (objective, rows) = (self.objective(), batch.len());
            let rate = self.rate();
            self.has_gradient = false;
            let (sums, bounds) = if self.shards() == 1 {
                self.chain_step(batch, at_once)?
            } else {
                let rule = Some(self.rule());
                let rule =
                    rule.filter(|rule| rule.fused().is_some() && self.options.clip.is_none());
                self.shard_step(batch, at_once, rule)?
            };
            if let Some(bounds) = bounds {
                self.bounds = bounds;
                self.finish_update();
            } else {
                let norm = self.clip_gradient()?;
                self.update(norm)?;
            }
            self.compare_weights()?;
            let config = self.vae.config();
            let Elbo { loss, reconstruction, kl, .. } = objective.reduce(config, rows, sums);
            let Progress { step, epoch, .. } = self.progress;
            let step = Step {
                step,
                epoch: epoch + 1,
                rows,
                loss,
                reconstruction,
                kl,
                beta: self.options.objective.beta_at(step - 1, epoch),
                learning_rate: self.options.optimizer.learning_rate() * rate,
            };
            Ok(Outcome { step, per_example: objective.per_example().reduce(config, rows, sums) })
        })
    }

    /// A step whose gradient is one chain over the rows of the batch. Adam updates each weight while its gradient is in
    /// registers; gradients that come in parts, are clipped, may overflow or belong to another optimizer are stored.
    /// Returns the sums of the loss, and the bounds after the update unless the gradient is stored.
    fn chain_step(
        &mut self,
        batch: &Batch<'_>,
        at_once: usize,
    ) -> Result<(LossSums, Option<Bounds>)> {
        let (objective, rows, rule) = (self.objective(), batch.len(), self.rule());
        let mut fused = rule.fused().filter(|_| rows <= at_once && self.options.clip.is_none());
        let (mut sums, mut bounds) = (LossSums::default(), None);
        self.gradient.has_rows = false;
        for part in batch.parts(at_once) {
            sums += self.forward_backward(&part, objective, rows)?;
            if fused.is_some() {
                let bound = self.workspace.gradient_bound();
                bounds = self.bounds_after(rule, bound).filter(|_| bound < LARGEST_GRADIENT / 2.0);
                fused = fused.filter(|_| bounds.is_some());
            }
            if fused.is_none() {
                self.store_gradient()?;
            }
        }
        if let (Some(adam), Some(_)) = (fused, bounds) {
            self.is_updating = true;
            let parameters =
                [self.vae.parameters_mut(), &mut self.first_moment, &mut self.second_moment];
            let (earlier, parameters) =
                (self.gradient.rows_so_far(), parameters.map(|p| &mut p[..]));
            let update = UpdateWithAdam::new(adam, earlier, parameters);
            self.workspace.weight_gradients(&self.compute, update);
        }
        Ok((sums, bounds))
    }

    /// Clips the stored gradient if the options say so. Returns its norm before.
    ///
    /// # Errors
    /// [`Error::NotFiniteGradient`] if it is not finite, or so large that its square overflows.
    fn clip_gradient(&mut self) -> Result<f64> {
        let Some(clip) = &self.options.clip else { return self.gradient_norm() };
        let gradient = self.gradient.sums.as_mut().expect("a stored gradient");
        let step = self.progress.step + 1;
        clip.apply(&self.compute, gradient).map_err(|error| error.at(step))
    }

    /// Norm of the stored gradient.
    ///
    /// # Errors
    /// [`Error::NotFiniteGradient`] if it is not finite, or so large that its square overflows.
    fn gradient_norm(&self) -> Result<f64> {
        let gradient = self.gradient.sums.as_ref().expect("a stored gradient");
        let norm = global_norm(&self.compute, gradient);
        if norm < LARGEST_GRADIENT {
            return Ok(norm);
        }
        Err(Error::NotFiniteGradient { norm, step: Some(self.progress.step + 1) })
    }

    /// Keeps learned variances at 10⁻⁶ or above: on a feature that never changes the likelihood grows
    /// without bound as σ² falls.
    fn bound_variance(&mut self) {
        /// ln 10⁻⁶.
        const LEAST: f32 = -13.815_511;
        for logvar in self.vae.parameters_mut().learned_logvar_mut() {
            if *logvar < LEAST {
                *logvar = LEAST;
            }
        }
    }

    /// Computes the loss of a batch and stores its gradient.
    fn gradient_of(&mut self, batch: &Batch<'_>) -> Result<Elbo> {
        let compute = self.compute.clone();
        compute.install(|| {
            let (objective, rows) = (self.objective(), batch.len());
            (self.has_gradient, self.gradient.has_rows) = (false, false);
            let sums = if self.shards() == 1 {
                let sums = self.forward_backward(batch, objective, rows)?;
                self.store_gradient()?;
                sums
            } else {
                self.shard_step(batch, usize::MAX, None)?.0
            };
            self.has_gradient = true;
            Ok(objective.reduce(self.vae.config(), rows, sums))
        })
    }

    /// Adds the weight gradients of the last forward and backward pass to the stored ones.
    ///
    /// # Errors
    /// [`Error::Memory`] if the machine does not have the memory for the gradient.
    fn store_gradient(&mut self) -> Result<()> {
        let sink = self.gradient.sink(self.vae.parameters().layout())?;
        self.workspace.weight_gradients(&self.compute, sink);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vae::Config;
    use ndarray::Array2;

    #[test]
    fn interrupted_updates_end_the_training() {
        let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
        let mut trainer = Trainer::new(vae, Options::default(), Compute::serial()).unwrap();
        let (data, noise) = (Array2::<f32>::zeros((4, 3)), Array2::zeros((4, 1)));
        trainer.gradient_of_rows(&data, &[0, 1]).unwrap();
        // As a panic between two weights would leave it.
        trainer.is_updating = true;
        let errors = [
            trainer.step(&data).err(),
            trainer.epoch(&data, |_| ()).err(),
            trainer.step_with_noise(&data, noise.view()).err(),
            trainer.gradient_with_noise(&data, noise.view()).err(),
            trainer.gradient_of_rows(&data, &[0]).err(),
            trainer.apply_gradient().err(),
        ];
        for error in errors {
            assert!(matches!(error, Some(Error::Interrupted)), "{error:?}");
        }
    }

    #[test]
    fn bounds_hold_over_many_steps_of_every_kind() {
        use crate::optim::{Adam, AdamW, Adamax, Clip, Optimizer, Sgd};
        let data = Array2::from_shape_fn((40, 6), |(r, c)| ((r * c) % 5) as f32 / 4.0);
        let optimizers: [Optimizer; 5] = [
            Adam { learning_rate: 0.1, epsilon: 1e-16, ..Adam::default() }.into(),
            Adam { weight_decay: 0.1, ..Adam::default() }.into(),
            AdamW { learning_rate: 0.5, weight_decay: 1.0, ..AdamW::default() }.into(),
            Sgd { momentum: 0.9, weight_decay: 0.1, ..Sgd::default() }.into(),
            Adamax::default().into(),
        ];
        for optimizer in optimizers {
            for clip in [None, Some(Clip::Value(0.01))] {
                let vae = Vae::new(Config::builder(6, 2).hidden(&[5]).build().unwrap(), 1);
                let options = Options { batch: 16, optimizer, clip, ..Options::default() };
                let mut trainer = Trainer::new(vae, options, Compute::serial()).unwrap();
                for _ in 0..60 {
                    trainer.step(&data).unwrap();
                    let (w, m, v) =
                        (trainer.vae.parameters(), &trainer.first_moment, &trainer.second_moment);
                    let found = Bounds::measure([w, m, v]);
                    let bounds = trainer.bounds;
                    let hold = found.w <= bounds.w && found.m <= bounds.m && found.v <= bounds.v;
                    assert!(hold, "{optimizer:?}: {found:?} {bounds:?}");
                }
                // Without clipping, Adam does not even store the gradient.
                let is_fused = trainer.rule().fused().is_some() && clip.is_none();
                assert_eq!(trainer.gradient.sums.is_none(), is_fused, "{optimizer:?}");
            }
        }
    }
}
