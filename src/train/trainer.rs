//! The training loop.

use super::Options;
use crate::compute::Compute;
use crate::dataset::Dataset;
use crate::error::{Error, Result, expect_shape};
use crate::loss::Elbo;
use crate::random::{Generator, Stream};
use crate::vae::block::{Batch, Noise, Selection};
use crate::vae::workspace::{StoreGradient, Sums, UpdateWithAdam, Workspace};
use crate::vae::{Parameters, Vae};
use ndarray::ArrayView2;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Its number, counted from 1.
    pub step: u64,
    /// Its epoch, counted from 1.
    pub epoch: u64,
    /// Rows in its batch.
    pub rows: usize,
    /// The loss before the update, as the objective reduces it.
    pub loss: f64,
    /// The reconstruction term of the loss.
    pub reconstruction: f64,
    /// The KL divergence, before it is weighed with β.
    pub kl: f64,
}

/// What one epoch did: means over its rows, in nats per example, whatever the reduction.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epoch {
    /// Its number, counted from 1.
    pub epoch: u64,
    /// Rows in the steps counted here.
    pub rows: usize,
    /// Reconstruction + β·KL.
    pub loss: f64,
    /// The reconstruction term.
    pub reconstruction: f64,
    /// The KL divergence, before it is weighed with β.
    pub kl: f64,
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
    /// What the optimiser remembers.
    pub(super) first_moment: Parameters,
    pub(super) second_moment: Parameters,
    /// The gradient, where someone has asked for it.
    gradient: Option<Parameters>,
    workspace: Workspace,
    pub(super) progress: Progress,
    /// The order of the rows in the current epoch, and the epoch it was drawn for.
    order: Vec<u32>,
    order_epoch: Option<u64>,
}

/// How far training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Progress {
    /// Steps done.
    pub(super) step: u64,
    /// Epochs done.
    pub(super) epoch: u64,
    /// Rows done of the current epoch.
    pub(super) position: usize,
}

impl Trainer {
    /// Starts training `vae`, on `compute`.
    ///
    /// # Errors
    /// [`Error::Config`] for options outside their domain.
    pub fn new(vae: Vae, options: Options, compute: Compute) -> Result<Self> {
        options.validate()?;
        let layout = vae.parameters().layout().clone();
        Ok(Self {
            first_moment: Parameters::of_layout(layout.clone()),
            second_moment: Parameters::of_layout(layout.clone()),
            gradient: None,
            workspace: Workspace::new(layout),
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

    /// How it trains.
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

    /// Does the next batch of the current epoch: gathers its rows, draws its noise, and updates
    /// the weights. `None` if the epoch is over; the call after that begins the next one.
    ///
    /// Once warm, a step does not allocate: the first one makes room, and the first of an epoch
    /// draws the order of the rows into memory that is kept. (Outside of
    /// [`Compute::install`], entering a pool of several threads may let rayon's own queue grow.)
    ///
    /// # Errors
    /// [`Error::Shape`] if the data do not fit the model, [`Error::Config`] if there are no rows
    /// or more than 2³² of them, and at data that the likelihood does not accept or a loss that
    /// is not finite an error that names row and step; the weights are then those before the
    /// step, and the same batch comes next.
    pub fn step(&mut self, data: &dyn Dataset) -> Result<Option<Step>> {
        Ok(self.next_batch(data)?.map(|(step, _)| step))
    }

    /// [`Self::step`], with the sums that its loss was reduced from.
    fn next_batch(&mut self, data: &dyn Dataset) -> Result<Option<(Step, Sums)>> {
        self.vae.check_data(data)?;
        let rows = data.row_count();
        if self.progress.position >= rows {
            self.progress.position = 0;
            self.progress.epoch += 1;
            return Ok(None);
        }
        self.draw_order(rows)?;
        let first = self.progress.position;
        let end = rows.min(first.saturating_add(self.options.batch));
        // The order is lent out for the step: `self` is borrowed as a whole.
        let order = std::mem::take(&mut self.order);
        let noise = self.counter_noise();
        let batch = Batch { data, selection: Selection::Listed(&order[first..end]), noise };
        let result = self.train_on(&batch);
        self.order = order;
        let step = result?;
        self.progress.position = end;
        Ok(Some(step))
    }

    /// Does what is left of the current epoch (all of the next one, if nothing is left), calling
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
            let per_example = crate::vae::Objective {
                beta: self.options.objective.beta,
                ..crate::vae::Objective::default()
            };
            let (mut rows, mut total) = (0, Sums::default());
            // An epoch whose last batch is done already is over: this call does the next one.
            if self.progress.position >= data.row_count() {
                self.next_batch(data)?;
            }
            while let Some((step, sums)) = self.next_batch(data)? {
                rows += step.rows;
                total.reconstruction += sums.reconstruction;
                total.kl += sums.kl;
                on_step(&step);
            }
            let Elbo { loss, reconstruction, kl, .. } =
                per_example.reduce(self.vae.config(), rows, total);
            Ok(Epoch { epoch: self.progress.epoch, rows, loss, reconstruction, kl })
        })
    }

    /// Does one step on the rows of x `[B, D]` with this noise ε `[B, Z]`, outside of any epoch.
    ///
    /// # Errors
    /// As [`Self::step`], and [`Error::Shape`] if the noise does not fit.
    pub fn step_with_noise(
        &mut self,
        x: ArrayView2<'_, f32>,
        noise: ArrayView2<'_, f32>,
    ) -> Result<Step> {
        self.vae.check_data(&x)?;
        expect_shape("noise", [x.nrows(), self.vae.config().latent()], noise.shape())?;
        let selection = Selection::From(0, x.nrows());
        let (step, _) =
            self.train_on(&Batch { data: &x, selection, noise: Noise::Given(noise) })?;
        Ok(step)
    }

    /// The loss of x `[B, D]` with this noise ε `[B, Z]`, and its gradient, which is
    /// [`Self::gradient`] from then on. Neither weights nor moments change.
    ///
    /// For a caller's own optimiser, for clipping, or for averaging over several machines; then
    /// [`Self::apply_gradient`]. The two together give the bits of [`Self::step_with_noise`].
    ///
    /// # Errors
    /// As [`Self::step_with_noise`].
    pub fn gradient_with_noise(
        &mut self,
        x: ArrayView2<'_, f32>,
        noise: ArrayView2<'_, f32>,
    ) -> Result<Elbo> {
        self.vae.check_data(&x)?;
        expect_shape("noise", [x.nrows(), self.vae.config().latent()], noise.shape())?;
        let selection = Selection::From(0, x.nrows());
        self.gradient_of(&Batch { data: &x, selection, noise: Noise::Given(noise) })
    }

    /// The loss and the [gradient](Self::gradient) of some rows of a data set with the noise
    /// of the next step. Neither weights nor moments change.
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
        let noise = self.counter_noise();
        self.gradient_of(&Batch { data, selection: Selection::Listed(rows), noise })
    }

    /// The last gradient that was asked for; `None` if none was.
    #[must_use]
    pub fn gradient(&self) -> Option<&Parameters> {
        self.gradient.as_ref()
    }

    /// As [`Self::gradient`], to be changed before it is applied.
    pub fn gradient_mut(&mut self) -> Option<&mut Parameters> {
        self.gradient.as_mut()
    }

    /// One step of the optimiser with the gradient as it is now.
    ///
    /// # Errors
    /// [`Error::Config`] if no gradient was asked for.
    pub fn apply_gradient(&mut self) -> Result<()> {
        let Some(gradient) = &self.gradient else {
            return Err(Error::config("gradient", "a call of `gradient_of_rows` before", "none"));
        };
        let t = self.progress.step + 1;
        self.options.optimiser.at_step(t, 1.0).step_flat(
            &self.compute,
            self.vae.parameters_mut(),
            &mut self.first_moment,
            &mut self.second_moment,
            gradient,
        );
        self.progress.step = t;
        Ok(())
    }

    fn counter_noise<'n>(&self) -> Noise<'n> {
        Noise::Counter { seed: self.options.seed, stream: Stream::Noise, step: self.progress.step }
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

    /// The first region of a step.
    fn forward_backward(&mut self, batch: &Batch<'_>) -> Result<(Elbo, Sums)> {
        let rows = batch.selection.len();
        let (objective, config) = (self.options.objective, self.vae.config());
        let scales = objective.scales(config, rows);
        let sums = self
            .workspace
            .forward_backward(&self.compute, self.vae.parameters(), batch, scales)
            .map_err(|error| error.at(self.progress.step + 1))?;
        Ok((objective.reduce(config, rows, sums), sums))
    }

    /// Both regions, the weights updated as their gradients come.
    fn train_on(&mut self, batch: &Batch<'_>) -> Result<(Step, Sums)> {
        let compute = self.compute.clone();
        compute.install(|| {
            let (Elbo { loss, reconstruction, kl, .. }, sums) = self.forward_backward(batch)?;
            let step = self.progress.step + 1;
            let rule = self.options.optimiser.at_step(step, 1.0);
            if let Some(adam) = rule.fused() {
                self.workspace.weight_gradients(
                    &self.compute,
                    UpdateWithAdam {
                        adam,
                        weights: self.vae.parameters_mut(),
                        first: &mut self.first_moment,
                        second: &mut self.second_moment,
                    },
                );
                self.progress.step = step;
            } else {
                self.store_gradient();
                self.apply_gradient()?;
            }
            let (epoch, rows) = (self.progress.epoch + 1, batch.selection.len());
            Ok((Step { step, epoch, rows, loss, reconstruction, kl }, sums))
        })
    }

    /// Both regions, the gradients stored.
    fn gradient_of(&mut self, batch: &Batch<'_>) -> Result<Elbo> {
        let compute = self.compute.clone();
        compute.install(|| {
            let (elbo, _) = self.forward_backward(batch)?;
            self.store_gradient();
            Ok(elbo)
        })
    }

    /// The second region, the gradients stored.
    fn store_gradient(&mut self) {
        let layout = self.vae.parameters().layout();
        let gradient = self.gradient.get_or_insert_with(|| Parameters::of_layout(layout.clone()));
        self.workspace.weight_gradients(&self.compute, StoreGradient(gradient));
    }
}
