//! The model: an MLP variational autoencoder, its forward passes and its training step.
//!
//! ```text
//! x|c [B, D+C] → hidden layers … → μ|logvar [B, 2Z] → z = μ + e^{logvar/2}·ε
//! z|c [B, Z+C] → hidden layers … → output [B, D]
//! loss = reconstruction(output, x) + β·KL(N(μ, e^{logvar}) ‖ N(m, s²))
//! ```
//!
//! [`Config`] describes the layers and the meaning of the output ([`Likelihood`]), [`Vae`] holds the
//! weights and runs them, [`Objective`] defines the loss, and [`Trainer`](crate::train::Trainer)
//! minimizes it. A hidden layer is a dense layer, a layer normalization if there is one, the
//! activation, and in training dropout if there is any. c is a condition, such as a label.

mod config;
mod dimensions;
mod draw;
mod evaluation;
mod inference;
mod likelihood;
#[cfg(feature = "safetensors")]
pub(crate) mod model_file;
mod objective;
mod parameters;
#[cfg(feature = "safetensors")]
mod state_dict;
pub(crate) mod step;

pub use config::{Config, ConfigBuilder};
pub use draw::DrawOptions;
pub use evaluation::{
    ACTIVE_VARIANCE, COLLAPSED_KL, Evaluation, EvaluationOptions, MarginalLikelihood, Scores,
};
pub use inference::Inference;
pub use likelihood::{Likelihood, Variance};
pub use objective::{Annealing, Objective, Penalty};
pub use parameters::Parameters;
#[cfg(feature = "safetensors")]
pub use state_dict::Naming;

use crate::compute::Compute;
use crate::error::{Error, Result, expect_shape};
use crate::random::{Generator, Stream};
use crate::simd::environment::FloatEnvironment;
use ndarray::{Array2, ArrayView2, Axis, concatenate};

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
    /// Creates a model with the initial weights of `seed` (see [`Parameters::initialized`]).
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let parameters = Parameters::initialized(&config, seed);
        Self { config, parameters }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The weights, to be overwritten.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Allocates memory to run the model in, for calls without allocation.
    #[must_use]
    pub fn inference(&self, compute: &Compute) -> Inference<'_> {
        Inference::new(&self.config, &self.parameters, compute, usize::MAX)
    }

    /// The posterior of each row of x `[B, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if x does not have D columns, or if the model has conditions
    /// ([`Self::encode_given`]).
    pub fn encode(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Encoded> {
        self.config.expect_unconditional()?;
        self.encode_wide(compute, x)
    }

    /// The posterior of each row of x `[B, D]`, given its condition `[B, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit the model or each other.
    pub fn encode_given(
        &self,
        compute: &Compute,
        x: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Result<Encoded> {
        expect_shape("x", [x.nrows(), self.config.features()], x.shape())?;
        self.encode_wide(compute, self.beside("x", x, conditions)?.view())
    }

    fn encode_wide(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Encoded> {
        let dim = (x.nrows(), self.config.latent());
        let (mut mu, mut logvar) = (Array2::zeros(dim), Array2::zeros(dim));
        let mut inference = Inference::new(&self.config, &self.parameters, compute, x.nrows());
        inference.encode(mu.view_mut(), logvar.view_mut(), x)?;
        Ok(Encoded { mu, logvar })
    }

    /// The decoder's output `[B, D]` of latent codes z `[B, Z]`: the logits of a Bernoulli
    /// likelihood.
    ///
    /// # Errors
    /// [`Error::Shape`] if z does not have Z columns (Z + C with conditions: z|c).
    pub fn decode_logits(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let mut logits = Array2::zeros((z.nrows(), self.config.features()));
        Inference::new(&self.config, &self.parameters, compute, z.nrows())
            .decode_logits(logits.view_mut(), z)?;
        Ok(logits)
    }

    /// The mean `[B, D]` of the [`Likelihood`] for latent codes z `[B, Z]`: for Bernoulli the
    /// probabilities `σ(logits)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if z does not have Z columns, or if the model has conditions
    /// ([`Self::decode_given`]).
    pub fn decode(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.config.expect_unconditional()?;
        self.decode_wide(compute, z)
    }

    /// The mean of the likelihood for latent codes, given the condition `[B, C]` of each.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit the model or each other.
    pub fn decode_given(
        &self,
        compute: &Compute,
        z: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Result<Array2<f32>> {
        expect_shape("z", [z.nrows(), self.config.latent()], z.shape())?;
        self.decode_wide(compute, self.beside("z", z, conditions)?.view())
    }

    fn decode_wide(&self, compute: &Compute, z: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let mut pixels = Array2::zeros((z.nrows(), self.config.features()));
        Inference::new(&self.config, &self.parameters, compute, z.nrows())
            .decode(pixels.view_mut(), z)?;
        Ok(pixels)
    }

    /// The reconstruction of x `[B, D]`: `decode(μ(x))`, without noise.
    ///
    /// # Errors
    /// [`Error::Shape`] if x does not have D columns, or if the model has conditions
    /// ([`Self::reconstruct_given`]).
    pub fn reconstruct(&self, compute: &Compute, x: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.config.expect_unconditional()?;
        let mut pixels = Array2::zeros((x.nrows(), self.config.features()));
        Inference::new(&self.config, &self.parameters, compute, x.nrows())
            .reconstruct(pixels.view_mut(), x)?;
        Ok(pixels)
    }

    /// The reconstruction of x `[B, D]`, given the condition `[B, C]` of each row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit the model or each other.
    pub fn reconstruct_given(
        &self,
        compute: &Compute,
        x: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Result<Array2<f32>> {
        let code = self.encode_given(compute, x, conditions)?;
        self.decode_given(compute, code.mu.view(), conditions)
    }

    /// Draws `count` samples `[count, D]`: the means of the likelihood for codes drawn from the prior
    /// ([`Self::sample_data`] draws from the likelihood, too).
    /// Sample i is a function of the seed and i alone.
    ///
    /// # Errors
    /// [`Error::Config`] if the model is wider than the generator's rows, [`Error::Shape`] if it has
    /// conditions ([`Self::sample_given`]).
    pub fn sample(&self, compute: &Compute, count: usize, seed: u64) -> Result<Array2<f32>> {
        self.config.expect_unconditional()?;
        self.decode_wide(compute, self.prior_codes(compute, count, seed)?.view())
    }

    /// Draws a sample for each condition `[count, C]`. The code of sample i is that of
    /// [`Self::sample`].
    ///
    /// # Errors
    /// [`Error::Config`] if the model is wider than the generator's rows, [`Error::Shape`] if the
    /// conditions are not C wide.
    pub fn sample_given(
        &self,
        compute: &Compute,
        conditions: ArrayView2<'_, f32>,
        seed: u64,
    ) -> Result<Array2<f32>> {
        let z = self.prior_codes(compute, conditions.nrows(), seed)?;
        self.decode_given(compute, z.view(), conditions)
    }

    /// Codes drawn from the prior: `m + s·ε`.
    fn prior_codes(&self, compute: &Compute, count: usize, seed: u64) -> Result<Array2<f32>> {
        let _environment = FloatEnvironment::standard();
        let mut z = Array2::zeros((count, self.config.latent()));
        Generator::new(seed).normal(compute.simd(), z.view_mut(), Stream::Prior, 0, 0)?;
        let prior = self.config.prior();
        if !prior.is_standard() {
            z.mapv_inplace(|epsilon| epsilon.mul_add(prior.std, prior.mean));
        }
        Ok(z)
    }

    /// An array with the conditions to its right.
    fn beside(
        &self,
        argument: &'static str,
        array: ArrayView2<'_, f32>,
        conditions: ArrayView2<'_, f32>,
    ) -> Result<Array2<f32>> {
        let expected = [array.nrows(), self.config.conditions()];
        expect_shape("conditions", expected, conditions.shape())?;
        concatenate(Axis(1), &[array, conditions])
            .map_err(|_| Error::shape(argument, expected, conditions.shape()))
    }
}

impl std::fmt::Debug for Vae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vae({}, {} parameters)", self.config, self.config.parameters())
    }
}
