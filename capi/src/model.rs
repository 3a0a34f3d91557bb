//! Models: configuration, files, evaluation.

use crate::arguments::{Matrix, Place, end, path, shared};
use crate::compute::elbo_compute;
use crate::data::{CallerRows, elbo_dataset};
use crate::optimizers::flag;
use crate::status::{Failure, Outcome, elbo_status, guard};
use elbo_rust::layers::activation::Activation;
use elbo_rust::loss::Prior;
use elbo_rust::vae::{Config, Evaluation, EvaluationOptions, Likelihood, Vae, Variance};
use std::sync::Arc;

/// Activation of the hidden layers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_activation {
    /// max(x, 0).
    ELBO_RELU = 0,
    /// x, or `activation_parameter` * x below 0.
    ELBO_LEAKY_RELU = 1,
    /// x, or `activation_parameter` * (exp(x) - 1) below 0.
    ELBO_ELU = 2,
    /// x Phi(x), with the normal distribution function.
    ELBO_GELU = 3,
    /// The approximation of the same by a hyperbolic tangent.
    ELBO_GELU_TANH = 4,
    /// x sigmoid(x), also called swish.
    ELBO_SILU = 5,
    /// ln(1 + exp(x)).
    ELBO_SOFTPLUS = 6,
    /// tanh(x).
    ELBO_TANH = 7,
    /// 1 / (1 + exp(-x)).
    ELBO_SIGMOID = 8,
}

/// Likelihood: the meaning of the decoder's outputs. The terms are those of elbo_reconstruction_kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_likelihood {
    /// ELBO_BERNOULLI of logits. Data in [0, 1].
    ELBO_LIKELIHOOD_BERNOULLI = 0,
    /// ELBO_WEIGHTED_BERNOULLI with `likelihood_parameter` for its weight. Data in [0, 1].
    ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI = 1,
    /// ELBO_SIGMOID_PROBABILITIES. Data in [0, 1].
    ELBO_LIKELIHOOD_BERNOULLI_PROBABILITIES = 2,
    /// ELBO_CONTINUOUS_BERNOULLI. Data in [0, 1].
    ELBO_LIKELIHOOD_CONTINUOUS_BERNOULLI = 3,
    /// ELBO_SQUARED_ERROR. Finite data.
    ELBO_LIKELIHOOD_SQUARED_ERROR = 4,
    /// ELBO_TANH_SQUARED_ERROR. Data in [-1, 1].
    ELBO_LIKELIHOOD_TANH_SQUARED_ERROR = 5,
    /// Gaussian with the variance `likelihood_parameter`. Finite data.
    ELBO_LIKELIHOOD_GAUSSIAN = 6,
    /// Gaussian with one learned variance.
    ELBO_LIKELIHOOD_GAUSSIAN_LEARNED = 7,
    /// Gaussian with a learned variance of each feature.
    ELBO_LIKELIHOOD_GAUSSIAN_PER_FEATURE = 8,
    /// Gaussian with the variance that maximizes the likelihood of the batch. Rows cannot be scored.
    ELBO_LIKELIHOOD_GAUSSIAN_OPTIMAL = 9,
}

/// Shape and settings of a model. `elbo_config_init` sets the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_config {
    /// Features: the width D of a row.
    pub features: usize,
    /// Latent dimensions Z.
    pub latent: usize,
    /// Width C of the condition of a row; 0 for none.
    pub conditions: usize,
    /// Widths of the encoder's hidden layers, from the data inwards.
    pub encoder: *const usize,
    /// Number of them; 0 for a linear encoder, and `encoder` may then be null.
    pub encoder_layers: usize,
    /// Widths of the decoder's hidden layers, from the latent code outwards; null for those of the encoder in
    /// reverse.
    pub decoder: *const usize,
    /// Number of them; ignored if `decoder` is null.
    pub decoder_layers: usize,
    /// One of `elbo_activation`.
    pub activation: i32,
    /// ELBO_LEAKY_RELU: slope, in [0, 1). ELBO_ELU: alpha.
    pub activation_parameter: f32,
    /// 1 for a layer normalization before each activation, otherwise 0.
    pub layer_norm: i32,
    /// Probability that a hidden unit is dropped in training, in [0, 1).
    pub dropout: f32,
    /// One of `elbo_likelihood`.
    pub likelihood: i32,
    /// ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI: weight of a one. ELBO_LIKELIHOOD_GAUSSIAN: the variance.
    pub likelihood_parameter: f32,
    /// Mean of the prior of each latent dimension.
    pub prior_mean: f32,
    /// Standard deviation of the prior.
    pub prior_std: f32,
    /// 1 to bend log-variances softly into [logvar_low, logvar_high], otherwise 0.
    pub logvar_clamp: i32,
    /// Lower bound, at least -80.
    pub logvar_low: f32,
    /// Upper bound, at most 80.
    pub logvar_high: f32,
}

/// A model: its configuration and its weights, which do not change. May be used by several threads at the same time.
pub struct elbo_model {
    pub(crate) vae: Arc<Vae>,
}

impl elbo_model {
    pub(crate) fn of(vae: Vae) -> Self {
        Self { vae: Arc::new(vae) }
    }
}

/// Loss of a model on a data set: means over its rows, in nats per example.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct elbo_evaluation {
    /// Rows evaluated.
    pub rows: usize,
    /// The negative evidence lower bound.
    pub loss: f64,
    /// Its reconstruction term, of one draw of the noise for each row.
    pub reconstruction: f64,
    /// Its KL divergence from the prior.
    pub kl: f64,
    /// Latent dimensions whose mean varies over the data, with a variance above 0.01.
    pub active_units: usize,
}

impl elbo_evaluation {
    fn of(evaluation: &Evaluation) -> Self {
        let Evaluation { rows, loss, reconstruction, kl, .. } = *evaluation;
        Self { rows, loss, reconstruction, kl, active_units: evaluation.active_units() }
    }
}

/// Evaluates a model on the caller's rows.
///
/// # Safety
/// The pointers are null or the caller's, as the header says.
pub(crate) unsafe fn evaluate(
    vae: &Vae,
    compute: *const elbo_compute,
    evaluation: *mut elbo_evaluation,
    data: *const elbo_dataset,
    options: EvaluationOptions,
) -> Outcome<()> {
    let place = Place::new("evaluation", evaluation)?;
    // SAFETY: by the contract.
    unsafe {
        let compute = shared("compute", compute)?.here()?;
        let data = CallerRows::new(data, vae.config())?;
        place.put(elbo_evaluation::of(&vae.evaluate(compute, &data, &options)?));
    }
    Ok(())
}

/// Sets the defaults: no hidden layers, ReLU, Bernoulli likelihood, prior N(0, 1), no conditions.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_config_init(
    config: *mut elbo_config,
    features: usize,
    latent: usize,
) -> elbo_status {
    guard("elbo_config_init", || {
        let place = Place::new("config", config)?;
        let defaults = elbo_config {
            features,
            latent,
            conditions: 0,
            encoder: std::ptr::null(),
            encoder_layers: 0,
            decoder: std::ptr::null(),
            decoder_layers: 0,
            activation: elbo_activation::ELBO_RELU as i32,
            activation_parameter: 0.0,
            layer_norm: 0,
            dropout: 0.0,
            likelihood: elbo_likelihood::ELBO_LIKELIHOOD_BERNOULLI as i32,
            likelihood_parameter: 0.0,
            prior_mean: 0.0,
            prior_std: 1.0,
            logvar_clamp: 0,
            logvar_low: 0.0,
            logvar_high: 0.0,
        };
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.put(defaults) };
        Ok(())
    })
}

impl elbo_config {
    /// # Safety
    /// The widths are the caller's, as the header says.
    unsafe fn read(&self) -> Outcome<Config> {
        let widths = |name, pointer, layers| -> Outcome<Vec<usize>> {
            if layers > 1000 {
                return Err(Failure::option(name, "at most 1000 hidden layers", layers));
            }
            // SAFETY: by the contract.
            Ok(unsafe { Matrix::vector(name, pointer, layers)?.slice() }.to_vec())
        };
        let encoder = widths("encoder", self.encoder, self.encoder_layers)?;
        let mut builder = Config::builder(self.features, self.latent).hidden(&encoder);
        if !self.decoder.is_null() {
            builder = builder.decoder(&widths("decoder", self.decoder, self.decoder_layers)?);
        }
        builder = builder
            .conditions(self.conditions)
            .activation(self.activation()?)
            .layer_norm(flag("layer_norm", self.layer_norm)?)
            .dropout(self.dropout)
            .likelihood(self.likelihood()?)
            .prior(Prior { mean: self.prior_mean, std: self.prior_std });
        if flag("logvar_clamp", self.logvar_clamp)? {
            builder = builder.logvar_clamp(self.logvar_low, self.logvar_high);
        }
        Ok(builder.build()?)
    }

    fn activation(&self) -> Outcome<Activation> {
        use elbo_activation::*;
        let parameter = self.activation_parameter;
        Ok(match self.activation {
            code if code == ELBO_RELU as i32 => Activation::Relu,
            code if code == ELBO_LEAKY_RELU as i32 => Activation::LeakyRelu { slope: parameter },
            code if code == ELBO_ELU as i32 => Activation::Elu { alpha: parameter },
            code if code == ELBO_GELU as i32 => Activation::Gelu,
            code if code == ELBO_GELU_TANH as i32 => Activation::GeluTanh,
            code if code == ELBO_SILU as i32 => Activation::Silu,
            code if code == ELBO_SOFTPLUS as i32 => Activation::Softplus,
            code if code == ELBO_TANH as i32 => Activation::Tanh,
            code if code == ELBO_SIGMOID as i32 => Activation::Sigmoid,
            code => return Err(Failure::option("activation", "a value of elbo_activation", code)),
        })
    }

    fn likelihood(&self) -> Outcome<Likelihood> {
        use elbo_likelihood::*;
        let parameter = self.likelihood_parameter;
        Ok(match self.likelihood {
            code if code == ELBO_LIKELIHOOD_BERNOULLI as i32 => Likelihood::Bernoulli,
            code if code == ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI as i32 => {
                Likelihood::WeightedBernoulli { pos_weight: parameter }
            }
            code if code == ELBO_LIKELIHOOD_BERNOULLI_PROBABILITIES as i32 => {
                Likelihood::BernoulliProbabilities
            }
            code if code == ELBO_LIKELIHOOD_CONTINUOUS_BERNOULLI as i32 => {
                Likelihood::ContinuousBernoulli
            }
            code if code == ELBO_LIKELIHOOD_SQUARED_ERROR as i32 => Likelihood::SquaredError,
            code if code == ELBO_LIKELIHOOD_TANH_SQUARED_ERROR as i32 => {
                Likelihood::TanhSquaredError
            }
            code if code == ELBO_LIKELIHOOD_GAUSSIAN as i32 => {
                Likelihood::Gaussian(Variance::Fixed(parameter))
            }
            code if code == ELBO_LIKELIHOOD_GAUSSIAN_LEARNED as i32 => {
                Likelihood::Gaussian(Variance::Shared)
            }
            code if code == ELBO_LIKELIHOOD_GAUSSIAN_PER_FEATURE as i32 => {
                Likelihood::Gaussian(Variance::PerFeature)
            }
            code if code == ELBO_LIKELIHOOD_GAUSSIAN_OPTIMAL as i32 => {
                Likelihood::Gaussian(Variance::Optimal)
            }
            code => return Err(Failure::option("likelihood", "a value of elbo_likelihood", code)),
        })
    }
}

/// Makes a model with the initial weights of `seed`. The same configuration and seed give the same weights on any
/// machine.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED; ELBO_OPTION for a setting outside its domain; ELBO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_new(
    model: *mut *mut elbo_model,
    config: *const elbo_config,
    seed: u64,
) -> elbo_status {
    guard("elbo_model_new", || {
        let place = Place::new("model", model)?;
        // SAFETY: structures and memory are the caller's, by the contract of the header.
        unsafe {
            place.fill(|| Ok(elbo_model::of(Vae::new(shared("config", config)?.read()?, seed))))
        }
    })
}

/// Reads a model from a file of `elbo_model_save`, of the tool `elbo`, of a checkpoint, or of a PyTorch module in the
/// safetensors format.
///
/// Errors: ELBO_NULL; ELBO_IO if the file cannot be read; ELBO_MODEL_FILE if it is damaged or another file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_load(
    model: *mut *mut elbo_model,
    path: *const std::ffi::c_char,
) -> elbo_status {
    guard("elbo_model_load", || {
        let place = Place::new("model", model)?;
        // SAFETY: texts and memory are the caller's, by the contract of the header.
        unsafe { place.fill(|| Ok(elbo_model::of(Vae::load(self::path(path)?)?))) }
    })
}

/// Writes the model to a file, which never holds half a model. The same model gives the same bytes.
///
/// Errors: ELBO_NULL; ELBO_IO if the file cannot be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_save(
    model: *const elbo_model,
    path: *const std::ffi::c_char,
) -> elbo_status {
    guard("elbo_model_save", || {
        // SAFETY: handles and texts are the caller's, by the contract of the header.
        unsafe { shared("model", model)?.vae.save(self::path(path)?)? };
        Ok(())
    })
}

/// Returns the features: the width D of a row; 0 for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_features(model: *const elbo_model) -> usize {
    // SAFETY: a handle, by the contract of the header.
    unsafe { shared("model", model) }.map_or(0, |model| model.vae.config().features())
}

/// Returns the number Z of latent dimensions; 0 for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_latent(model: *const elbo_model) -> usize {
    // SAFETY: a handle, by the contract of the header.
    unsafe { shared("model", model) }.map_or(0, |model| model.vae.config().latent())
}

/// Returns the width C of the condition of a row, 0 if the model has none; 0 for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_conditions(model: *const elbo_model) -> usize {
    // SAFETY: a handle, by the contract of the header.
    unsafe { shared("model", model) }.map_or(0, |model| model.vae.config().conditions())
}

/// Returns the number of weights; 0 for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_parameters(model: *const elbo_model) -> usize {
    // SAFETY: a handle, by the contract of the header.
    unsafe { shared("model", model) }.map_or(0, |model| model.vae.config().parameters())
}

/// Writes the loss of the model on all rows of `data` to `evaluation`. The noise of a row is a function of `seed`
/// and of the number of the row. Allocates.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_CALLBACK; ELBO_OPTION without a row; ELBO_DATA for data that the
/// likelihood does not accept, with the row; ELBO_NOT_FINITE; ELBO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_evaluate(
    model: *const elbo_model,
    compute: *const elbo_compute,
    evaluation: *mut elbo_evaluation,
    data: *const elbo_dataset,
    seed: u64,
) -> elbo_status {
    guard("elbo_model_evaluate", || {
        let options = EvaluationOptions { seed, ..EvaluationOptions::default() };
        // SAFETY: handles and structures are the caller's, by the contract of the header.
        unsafe { evaluate(&shared("model", model)?.vae, compute, evaluation, data, options) }
    })
}

/// Frees the model. Inferences and trainers made from it keep what they need. Nothing happens for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_model_free(model: *mut elbo_model) {
    guard("elbo_model_free", || {
        // SAFETY: a handle that is not used any more, by the contract of the header.
        unsafe { end(model) };
        Ok(())
    });
}
