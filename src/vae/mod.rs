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
mod inference;
mod objective;
mod parameters;
pub(crate) mod workspace;

pub use config::{Config, ConfigBuilder};
pub use evaluation::Evaluation;
pub use inference::Inference;
pub use objective::Objective;
pub use parameters::Parameters;

use crate::compute::Compute;
use crate::error::Result;
use crate::random::{Generator, Stream};
use ndarray::{Array2, ArrayView2};

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

    /// Memory to run the model in, for calls without allocation.
    #[must_use]
    pub fn inference(&self, compute: &Compute) -> Inference<'_> {
        Inference::new(self, compute, usize::MAX)
    }

    /// The posterior of each row of x `[B, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if x does not have D columns.
    pub fn encode(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Encoded> {
        let dim = (x.nrows(), self.config.latent());
        let (mut mu, mut logvar) = (Array2::zeros(dim), Array2::zeros(dim));
        let mut inference = Inference::new(self, compute, x.nrows());
        inference.encode(mu.view_mut(), logvar.view_mut(), x)?;
        Ok(Encoded { mu, logvar })
    }

    /// The logits `[B, D]` of latent codes z `[B, Z]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if z does not have Z columns.
    pub fn decode_logits(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let mut logits = Array2::zeros((z.nrows(), self.config.features()));
        Inference::new(self, compute, z.nrows()).decode_logits(logits.view_mut(), z)?;
        Ok(logits)
    }

    /// The probabilities `σ(logits)` `[B, D]` of latent codes z `[B, Z]`: the mean of the
    /// Bernoulli likelihood, in [0, 1].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if z does not have Z columns.
    pub fn decode(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let mut pixels = Array2::zeros((z.nrows(), self.config.features()));
        Inference::new(self, compute, z.nrows()).decode(pixels.view_mut(), z)?;
        Ok(pixels)
    }

    /// What the model makes of x `[B, D]`: `decode(μ(x))`, without noise.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if x does not have D columns.
    pub fn reconstruct(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let mut pixels = Array2::zeros((x.nrows(), self.config.features()));
        Inference::new(self, compute, x.nrows()).reconstruct(pixels.view_mut(), x)?;
        Ok(pixels)
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
}

impl std::fmt::Debug for Vae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vae({}, {} parameters)", self.config, self.config.parameters())
    }
}
