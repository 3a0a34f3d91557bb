//! The training loop.

use super::Options;
use crate::compute::Compute;
use crate::dataset::Dataset;
use crate::error::{Error, Result, expect_shape};
use crate::loss::Elbo;
use crate::optim::clip::global_norm;
use crate::optim::{PlateauState, UpdateRule};
use crate::random::Generator;
use crate::vae::step::Workspace;
use crate::vae::step::batch::{Batch, Indices, Noise, NoiseKey, Pass, Purpose};
use crate::vae::step::sink::{Start, StoreGradient, UpdateWithAdam};
use crate::vae::step::terms::{LossSums, StepObjective};
use crate::vae::{Likelihood, Parameters, Vae, Variance};
use ndarray::ArrayView2;

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
    compute: Compute,
    /// First part of the optimizer's state: Adam's first moment, SGD's velocity.
    pub(super) first_moment: Parameters,
    /// Second part of the optimizer's state: Adam's second moment, Adamax's norm.
    pub(super) second_moment: Parameters,
    /// The stored gradient, where one was asked for or needed.
    gradient: Option<Parameters>,
    workspace: Workspace,
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
    rows: usize,
    loss: f64,
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
        self.rows += step.rows;
        self.loss += rows * per_example.loss;
        self.reconstruction += rows * per_example.reconstruction;
        self.kl += rows * per_example.kl;
        (self.beta, self.learning_rate) = (step.beta, step.learning_rate);
    }
}

/// Result of one step, with its loss in nats per example beside the objective's own reduction.
struct Outcome {
    step: Step,
    per_example: Elbo,
}

impl Trainer {
    /// Starts training `vae`, on `compute`.
    ///
    /// # Errors
    /// [`Error::Config`] for options that are invalid or do not fit this model.
    pub fn new(vae: Vae, options: Options, compute: Compute) -> Result<Self> {
        options.validate_for(vae.config())?;
        let layout = vae.parameters().layout().clone();
        Ok(Self {
            first_moment: Parameters::of_layout(layout.clone()),
            second_moment: Parameters::of_layout(layout.clone()),
            gradient: None,
            workspace: Workspace::new(vae.config(), layout),
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
    pub fn observe(&mut self, loss: f64) {
        self.options.schedule.observe(&mut self.progress.plateau, loss);
    }

    /// Trains on the next batch of the current epoch: gathers its rows, draws its noise, and updates
    /// the weights. Returns `None` if the epoch is over; the call after that begins the next one.
    ///
    /// Once warm, a step does not allocate: the first step makes room, and the first of an epoch
    /// draws the order of the rows into memory that is kept. (Outside of
    /// [`Compute::install`], entering a pool of several threads may let rayon's own queue grow.)
    ///
    /// # Errors
    /// [`Error::Shape`] if the data do not fit the model, [`Error::Config`] if there are no rows
    /// or more than 2³² of them, and at data that the likelihood does not accept, a loss that
    /// is not finite, a logvar whose exponential overflows or a gradient that cannot be clipped an
    /// error that names the step and, where there is one, the row; the weights are then those
    /// before the step, and the same batch comes next.
    pub fn step(&mut self, data: &dyn Dataset) -> Result<Option<Step>> {
        Ok(self.next_batch(data)?.map(|outcome| outcome.step))
    }

    fn next_batch(&mut self, data: &dyn Dataset) -> Result<Option<Outcome>> {
        self.vae.check_data(data)?;
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
        data.prefetch(&order[end..rows.min(end.saturating_add(size))]);
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
    /// Runs inside the thread pool from the first step to the last.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn epoch(
        &mut self,
        data: &dyn Dataset,
        mut on_step: impl FnMut(&Step) + Send,
    ) -> Result<Epoch> {
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
        let batch = self.batch_with_noise(data, noise)?;
        self.gradient_of(&batch)
    }

    /// Computes the loss and the [gradient](Self::gradient) of some rows of a data set with the noise
    /// of the next step. Weights and moments do not change.
    ///
    /// # Errors
    /// As [`Self::step`]; [`Error::Config`] if a row is beyond the end of the data.
    pub fn gradient_of_rows(&mut self, data: &dyn Dataset, rows: &[u32]) -> Result<Elbo> {
        self.vae.check_data(data)?;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= data.row_count()) {
            return Err(Error::config("rows", "numbers below that of the data's rows", row));
        }
        if rows.is_empty() {
            return Err(Error::config("rows", "at least one row", 0));
        }
        let batch = self.batch(data, Indices::List(rows), Noise::Drawn);
        self.gradient_of(&batch)
    }

    /// The stored gradient of the last batch that had one; `None` before.
    #[must_use]
    pub fn gradient(&self) -> Option<&Parameters> {
        self.gradient.as_ref()
    }

    /// The stored gradient, to be changed before it is applied.
    pub fn gradient_mut(&mut self) -> Option<&mut Parameters> {
        self.gradient.as_mut()
    }

    /// Updates the weights with the stored gradient by one step of the optimizer, without clipping.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no stored gradient.
    pub fn apply_gradient(&mut self) -> Result<()> {
        let rule = self.rule();
        let Some(gradient) = &self.gradient else {
            return Err(Error::config(
                "gradient",
                "a call of `gradient_of_rows` or `gradient_with_noise` first",
                "none",
            ));
        };
        let (m, v) = (&mut self.first_moment, &mut self.second_moment);
        rule.step_flat(&self.compute, [self.vae.parameters_mut(), m, v], gradient);
        self.progress.step += 1;
        Ok(())
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
    fn objective(&self) -> StepObjective {
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
        self.vae.check_data(data)?;
        let rows = data.row_count();
        let samples = self.options.objective.samples();
        expect_shape("noise", [rows * samples, self.vae.config().latent()], noise.shape())?;
        Ok(self.batch(data, Indices::Range(0, rows), Noise::Given(noise)))
    }

    fn draw_order(&mut self, rows: usize) -> Result<()> {
        let epoch = self.progress.epoch;
        if self.order_epoch != Some(epoch) || self.order.len() != rows {
            if rows as u64 > 1 << 32 {
                return Err(Error::config("data", "at most 4294967296 rows", rows));
            }
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
        let sums = self.workspace.forward_backward(&self.compute, &pass);
        sums.map_err(|error| error.at(self.progress.step + 1))
    }

    /// Trains for one step on a batch, `at_once` rows at a time. Adam updates each weight while its
    /// gradient is in registers; gradients that come in parts, are clipped, may overflow or belong to
    /// another optimizer are stored first.
    fn train_on(&mut self, batch: &Batch<'_>, at_once: usize) -> Result<Outcome> {
        let compute = self.compute.clone();
        compute.install(|| {
            let (objective, rows) = (self.objective(), batch.len());
            let (rule, rate) = (self.rule(), self.rate());
            let mut fused = rule.fused().filter(|_| rows <= at_once && self.options.clip.is_none());
            let mut sums = LossSums::default();
            for (index, part) in batch.parts(at_once).enumerate() {
                sums += self.forward_backward(&part, objective, rows)?;
                if self.may_overflow(sums, rows) {
                    fused = None;
                }
                if fused.is_none() {
                    self.store_gradient(if index == 0 { Start::Zero } else { Start::Stored });
                }
            }
            if let Some(adam) = fused {
                self.workspace.weight_gradients(
                    &self.compute,
                    UpdateWithAdam {
                        adam,
                        weights: self.vae.parameters_mut(),
                        first: &mut self.first_moment,
                        second: &mut self.second_moment,
                    },
                );
                self.progress.step += 1;
            } else {
                self.check_gradient()?;
                self.apply_gradient()?;
            }
            self.bound_variance();
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

    /// Returns `true` if a gradient may overflow f32 though the loss does not: it is then stored and
    /// checked before it reaches the weights.
    fn may_overflow(&self, sums: LossSums, rows: usize) -> bool {
        const LARGE_LOSS: f64 = 1e12;
        const SMALL_VARIANCE: f32 = 1e-12;
        let each = (sums.reconstruction.abs() + sums.kl + sums.penalty.abs()) / rows as f64;
        let Likelihood::Gaussian(Variance::Fixed(variance)) = self.vae.config().likelihood() else {
            return each > LARGE_LOSS;
        };
        each > LARGE_LOSS || variance < SMALL_VARIANCE
    }

    /// Clips the stored gradient if the options say so.
    ///
    /// # Errors
    /// [`Error::NotFiniteGradient`] if it is not finite, or so large that its square overflows.
    fn check_gradient(&mut self) -> Result<()> {
        const LARGEST: f64 = 1.8e19;
        let Some(gradient) = &mut self.gradient else { return Ok(()) };
        let step = self.progress.step + 1;
        let Some(clip) = &self.options.clip else {
            let norm = global_norm(&self.compute, gradient);
            if norm < LARGEST {
                return Ok(());
            }
            return Err(Error::NotFiniteGradient { norm, step: Some(step) });
        };
        clip.apply(&self.compute, gradient).map(|_| ()).map_err(|error| error.at(step))
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
            let sums = self.forward_backward(batch, objective, rows)?;
            self.store_gradient(Start::Zero);
            Ok(objective.reduce(self.vae.config(), rows, sums))
        })
    }

    /// Stores the weight gradients of the last forward and backward pass.
    fn store_gradient(&mut self, start: Start) {
        let layout = self.vae.parameters().layout();
        let gradient = self.gradient.get_or_insert_with(|| Parameters::of_layout(layout.clone()));
        self.workspace.weight_gradients(&self.compute, StoreGradient { gradient, start });
    }
}
