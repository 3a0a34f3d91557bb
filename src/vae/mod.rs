//! The model: an MLP variational autoencoder, its forward passes and its training step.
//!
//! ```text
//! x [B, D] → dense+ReLU … → μ|logvar [B, 2Z] → z = μ + e^{logvar/2}·ε → dense+ReLU … → logits [B, D]
//! loss = reconstruction(logits, x) + β·KL(N(μ, e^{logvar}) ‖ N(0, 1))
//! ```
//!
//! [`Config`] says how wide the layers are, [`Vae`] holds the weights and runs them,
//! [`Trainer`](crate::train::Trainer) trains them. The likelihood is Bernoulli from logits: data
//! lie in [0, 1].

pub(crate) mod block;
mod config;
mod evaluation;
#[cfg(feature = "safetensors")]
pub(crate) mod file;
mod objective;
mod parameters;
pub(crate) mod workspace;

pub use config::{Config, ConfigBuilder};
pub use evaluation::Evaluation;
pub use objective::Objective;
pub use parameters::Parameters;

use crate::compute::Compute;
use crate::error::{Result, expect_shape};
use crate::random::{Generator, Stream};
use block::{Block, Output};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

/// Rows that one task of an inference takes.
const TASK_ROWS: usize = 64;

/// A variational autoencoder: a configuration and its weights.
///
/// ```
/// use elbo::{Compute, vae::{Config, Vae}};
/// use ndarray::Array2;
///
/// let vae = Vae::new(Config::builder(12, 2).hidden(&[8]).build()?, 1);
/// let x = Array2::from_elem((5, 12), 0.5_f32);
/// let compute = Compute::serial();
/// let code = vae.encode(&compute, x.view())?;
/// assert_eq!((code.mu.dim(), code.logvar.dim()), ((5, 2), (5, 2)));
/// let pixels = vae.decode(&compute, code.mu.view())?;
/// assert_eq!(pixels, vae.reconstruct(&compute, x.view())?);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone)]
pub struct Vae {
    config: Config,
    parameters: Parameters,
}

/// The approximate posterior of some rows: a diagonal Gaussian for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The means, `[B, Z]`.
    pub mu: Array2<f32>,
    /// The logarithms of the variances, `[B, Z]`.
    pub logvar: Array2<f32>,
}

impl Vae {
    /// A model with the initial weights of `seed` (see [`Parameters::initialised`]).
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let parameters = Parameters::initialised(&config, seed);
        Self { config, parameters }
    }

    /// The widths of its layers.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its weights.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its weights, to be overwritten.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The posterior of each row of x `[B, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if x does not have D columns.
    pub fn encode(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Encoded> {
        let (rows, latent) = (x.nrows(), self.config.latent());
        expect_shape("x", [rows, self.config.features()], x.shape())?;
        let mut heads = Array2::zeros((rows, 2 * latent));
        self.each_task(compute, x, heads.view_mut(), |block, x, mut heads| {
            block.gather_rows(x);
            block.encode(compute.simd(), &self.parameters);
            for (i, mut to) in heads.outer_iter_mut().enumerate() {
                to.as_slice_mut().expect("contiguous rows").copy_from_slice(block.heads.row(i));
            }
        });
        let (mu, logvar) = heads.view().split_at(Axis(1), latent);
        Ok(Encoded { mu: mu.to_owned(), logvar: logvar.to_owned() })
    }

    /// The logits `[B, D]` of latent codes z `[B, Z]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if z does not have Z columns.
    pub fn decode_logits(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.decode_to(compute, z, Output::Logits)
    }

    /// The probabilities `σ(logits)` `[B, D]` of latent codes z `[B, Z]`: the mean of the
    /// Bernoulli likelihood, in [0, 1].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if z does not have Z columns.
    pub fn decode(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.decode_to(compute, z, Output::Probabilities)
    }

    fn decode_to(
        &self,
        compute: &Compute,
        z: ArrayView2<'_, f32>,
        output: Output,
    ) -> Result<Array2<f32>> {
        expect_shape("z", [z.nrows(), self.config.latent()], z.shape())?;
        let mut out = Array2::zeros((z.nrows(), self.config.features()));
        self.each_task(compute, z, out.view_mut(), |block, z, mut out| {
            block.decode(compute.simd(), &self.parameters, z, output);
            for (i, mut to) in out.outer_iter_mut().enumerate() {
                to.as_slice_mut().expect("contiguous rows").copy_from_slice(block.output().row(i));
            }
        });
        Ok(out)
    }

    /// What the model makes of x `[B, D]`: `decode(μ(x))`, without noise.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if x does not have D columns.
    pub fn reconstruct(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.decode(compute, self.encode(compute, x)?.mu.view())
    }

    /// `count` samples `[count, D]`: the probabilities of codes drawn from the prior N(0, 1).
    /// Sample i is a function of the seed and i alone.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the model is wider than the generator's rows.
    pub fn sample(&self, compute: &Compute, count: usize, seed: u64) -> Result<Array2<f32>> {
        let mut z = Array2::zeros((count, self.config.latent()));
        Generator::new(seed).normal(compute.simd(), z.view_mut(), Stream::Prior, 0, 0)?;
        self.decode(compute, z.view())
    }

    /// Runs `work` on corresponding rows of `from` and `to`, a task's worth at a time, each with
    /// a block of its own.
    fn each_task(
        &self,
        compute: &Compute,
        from: ArrayView2<'_, f32>,
        mut to: ArrayViewMut2<'_, f32>,
        work: impl Fn(&mut Block, ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>) + Sync,
    ) {
        let mut tasks: Vec<_> = from
            .axis_chunks_iter(Axis(0), TASK_ROWS)
            .zip(to.axis_chunks_iter_mut(Axis(0), TASK_ROWS))
            .map(|(from, to)| (from, Some(to)))
            .collect();
        // One block for each thread's share of the tasks, not for each task.
        let share = tasks.len().div_ceil(compute.threads()).max(1);
        let mut shares: Vec<_> = tasks.chunks_mut(share).collect();
        compute.for_each_mut(&mut shares, |_, tasks| {
            let rows = tasks.first().map_or(0, |(from, _)| from.nrows());
            let mut block = Block::new(self.parameters.layout(), rows);
            for (from, to) in tasks.iter_mut() {
                work(&mut block, *from, to.take().expect("each task runs once"));
            }
        });
    }
}

impl std::fmt::Debug for Vae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vae({}, {} parameters)", self.config, self.config.parameters())
    }
}
