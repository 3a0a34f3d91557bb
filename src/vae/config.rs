//! The shape of a model.

use super::{Likelihood, Variance};
use crate::error::{Error, Result, expect_below_one};
use crate::gemm::PanelLayout;
use crate::layers::activation::Activation;
use crate::loss::Prior;
use crate::memory::expect_memory;

/// Shape of a model: D features → encoder → Z latent dimensions → decoder → D, its activation,
/// normalization and dropout, its likelihood and its prior.
///
/// ```
/// use elbo::vae::{Config, Likelihood};
///
/// let config = Config::builder(784, 20).hidden(&[400]).build()?;
/// assert_eq!(config.to_string(), "784-400-20-400-784");
/// assert_eq!(config.parameters(), 652_824);
///
/// let conditional = Config::builder(64, 8)
///     .encoder(&[128, 64])
///     .decoder(&[96])
///     .activation("gelu".parse()?)
///     .layer_norm(true)
///     .dropout(0.1)
///     .conditions(10) // one-hot labels, say
///     .likelihood(Likelihood::ContinuousBernoulli)
///     .build()?;
/// assert_eq!(conditional.conditions(), 10);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(remote = "Self"))]
pub struct Config {
    features: usize,
    encoder: Vec<usize>,
    latent: usize,
    decoder: Vec<usize>,
    #[cfg_attr(feature = "safetensors", serde(default))]
    conditions: usize,
    #[cfg_attr(feature = "safetensors", serde(default))]
    activation: Activation,
    #[cfg_attr(feature = "safetensors", serde(default))]
    layer_norm: bool,
    #[cfg_attr(feature = "safetensors", serde(default))]
    dropout: f32,
    #[cfg_attr(feature = "safetensors", serde(default))]
    likelihood: Likelihood,
    #[cfg_attr(feature = "safetensors", serde(default))]
    prior: Prior,
    #[cfg_attr(feature = "safetensors", serde(default))]
    logvar_clamp: Option<[f32; 2]>,
}

// Deserialization goes through the derived function and then through the checks of the builder.
#[cfg(feature = "safetensors")]
impl serde::Serialize for Config {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(feature = "safetensors")]
impl<'de> serde::Deserialize<'de> for Config {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        Self::deserialize(deserializer)?.validate().map_err(serde::de::Error::custom)
    }
}

/// Limit on a width: a layer between two of this size no longer fits any machine.
const MAX_WIDTH: usize = 1 << 24;

/// Limit on the hidden layers of each side: the tensors of a model file are looked up one by one.
const MAX_LAYERS: usize = 1000;

/// Limit on the number of weights: 8 GiB of them, and as much for each of Adam's moments. More are
/// taken for a typing error.
const MAX_PARAMETERS: usize = 1 << 31;

/// Builds a [`Config`].
#[derive(Clone, Debug)]
pub struct ConfigBuilder(Config);

impl Config {
    /// Starts from D = `features` and Z = `latent`, with one hidden layer of 400 each side.
    #[must_use]
    pub fn builder(features: usize, latent: usize) -> ConfigBuilder {
        ConfigBuilder(Self {
            features,
            encoder: vec![400],
            latent,
            decoder: vec![400],
            conditions: 0,
            activation: Activation::Relu,
            layer_norm: false,
            dropout: 0.0,
            likelihood: Likelihood::Bernoulli,
            prior: Prior::default(),
            logvar_clamp: None,
        })
    }

    /// D, the width of a row of data.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// Z, the number of latent dimensions.
    #[must_use]
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// The widths of the encoder's hidden layers, from the data inwards.
    #[must_use]
    pub fn encoder(&self) -> &[usize] {
        &self.encoder
    }

    /// The widths of the decoder's hidden layers, from the latent code outwards.
    #[must_use]
    pub fn decoder(&self) -> &[usize] {
        &self.decoder
    }

    /// C, the width of the condition vector that encoder and decoder see beside their input; 0 for
    /// none.
    #[must_use]
    pub fn conditions(&self) -> usize {
        self.conditions
    }

    /// The activation of the hidden layers.
    #[must_use]
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns `true` if each hidden layer is normalized before its activation.
    #[must_use]
    pub fn layer_norm(&self) -> bool {
        self.layer_norm
    }

    /// The probability that a hidden unit is dropped in training.
    #[must_use]
    pub fn dropout(&self) -> f32 {
        self.dropout
    }

    /// The likelihood: the meaning of the output.
    #[must_use]
    pub fn likelihood(&self) -> Likelihood {
        self.likelihood
    }

    /// The prior of each latent dimension.
    #[must_use]
    pub fn prior(&self) -> Prior {
        self.prior
    }

    /// The interval that logvar is softly clamped to, if it is.
    #[must_use]
    pub fn logvar_clamp(&self) -> Option<[f32; 2]> {
        self.logvar_clamp
    }

    /// Number of learned parameters: weights, biases, gains, shifts and variances.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let dense = self.layers().map(|(inputs, outputs)| (inputs + 1).saturating_mul(outputs));
        let hidden = self.encoder.iter().chain(&self.decoder);
        let norms = hidden.map(|&width| if self.layer_norm { 2 * width } else { 0 });
        let variances = self.likelihood.learned_variances(self.features);
        dense.chain(norms).chain([variances]).fold(0, usize::saturating_add)
    }

    /// Returns `true` if a pass needs no memory besides the layers' outputs: plain layers, and no clamp
    /// of logvar.
    pub(crate) fn is_plain(&self) -> bool {
        self.has_plain_layers() && self.logvar_clamp.is_none()
    }

    /// Returns `true` if hidden layers have a ReLU and nothing else behind them.
    pub(crate) fn has_plain_layers(&self) -> bool {
        self.activation == Activation::Relu && !self.layer_norm && self.dropout == 0.0
    }

    /// Returns `true` if the variance of the likelihood is that of the batch.
    #[must_use]
    pub fn has_optimal_variance(&self) -> bool {
        self.likelihood == Likelihood::Gaussian(Variance::Optimal)
    }

    /// `[inputs, outputs]` of each dense layer in the order of the forward pass. The two heads,
    /// `mu` and `logvar`, are one layer of 2·Z outputs: they share their input.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (usize, usize)> {
        let [x, z] = [self.features, self.latent].map(|width| width + self.conditions);
        let encoder = std::iter::once(x).chain(self.encoder.iter().copied());
        let decoder = std::iter::once(z).chain(self.decoder.iter().copied());
        let encoder_outputs = self.encoder.iter().copied().chain([2 * self.latent]);
        let decoder_outputs = self.decoder.iter().copied().chain([self.features]);
        encoder.zip(encoder_outputs).chain(decoder.zip(decoder_outputs))
    }

    /// Checks that the machine has memory for the weights, with the padding of each layer.
    ///
    /// # Errors
    /// [`Error::Memory`] with the bytes needed.
    pub(crate) fn expect_memory(&self) -> Result<()> {
        let elements = |(inputs, outputs)| PanelLayout { inputs, outputs }.len() as u64;
        let bytes: u64 = self.layers().map(|layer| elements(layer) * size_of::<f32>() as u64).sum();
        expect_memory(bytes, || format!("a model {self}"), "make it narrower")
    }

    /// # Errors
    /// [`Error::Shape`] if the model has conditions.
    pub(super) fn expect_unconditional(&self) -> Result<()> {
        if self.conditions == 0 {
            return Ok(());
        }
        Err(Error::Shape {
            argument: "conditions",
            expected: format!(
                "{} a row, as the model has them (the functions that end in `_given`)",
                self.conditions
            ),
            found: "none".to_owned(),
        })
    }

    /// Checks the configuration, from a builder or from a file.
    pub(crate) fn validate(self) -> Result<Self> {
        let width = "from 1 to 16777216";
        let in_range = |n: usize| (1..=MAX_WIDTH).contains(&n);
        if !in_range(self.features) {
            return Err(Error::config("features", width, self.features));
        }
        if !in_range(self.latent) {
            return Err(Error::config("latent", width, self.latent));
        }
        for (setting, widths) in [("encoder", &self.encoder), ("decoder", &self.decoder)] {
            if widths.len() > MAX_LAYERS {
                return Err(Error::config(setting, "at most 1000 hidden layers", widths.len()));
            }
            if let Some(wrong) = widths.iter().find(|&&n| !in_range(n)) {
                let expected = "widths from 1 to 16777216";
                return Err(Error::config(setting, expected, format!("{wrong} in {widths:?}")));
            }
        }
        if self.conditions > MAX_WIDTH {
            return Err(Error::config("conditions", "at most 16777216", self.conditions));
        }
        self.activation.validate()?;
        expect_below_one("dropout", self.dropout)?;
        if self.layer_norm && self.encoder.is_empty() && self.decoder.is_empty() {
            let expected = "a hidden layer to normalize";
            return Err(Error::config("layer_norm", expected, format!("none in {self}")));
        }
        if self.dropout > 0.0 && self.encoder.is_empty() && self.decoder.is_empty() {
            let expected = "a hidden layer whose units can be dropped";
            return Err(Error::config("dropout", expected, format!("none in {self}")));
        }
        self.likelihood.validate()?;
        self.prior.validate()?;
        if let Some([low, high]) = self.logvar_clamp {
            // Up to 80 the exponential, its square root and their inverses are all finite.
            if !(-80.0 <= low && low < high && high <= 80.0) {
                let expected = "two numbers from -80 to 80 in ascending order";
                return Err(Error::config("logvar_clamp", expected, format!("{low} and {high}")));
            }
        }
        if self.parameters() > MAX_PARAMETERS {
            let expected = "widths that make at most 2147483648 weights";
            let found = format!("{} for {self}", self.parameters());
            return Err(Error::config("encoder", expected, found));
        }
        Ok(self)
    }
}

impl ConfigBuilder {
    /// The widths of the hidden layers from the data inwards; the decoder mirrors them.
    #[must_use]
    pub fn hidden(self, widths: &[usize]) -> Self {
        let mirrored: Vec<usize> = widths.iter().rev().copied().collect();
        self.encoder(widths).decoder(&mirrored)
    }

    /// The widths of the encoder's hidden layers alone, from the data inwards. Empty for a
    /// linear encoder.
    #[must_use]
    pub fn encoder(mut self, widths: &[usize]) -> Self {
        self.0.encoder = widths.to_vec();
        self
    }

    /// The widths of the decoder's hidden layers alone, from the latent code outwards.
    #[must_use]
    pub fn decoder(mut self, widths: &[usize]) -> Self {
        self.0.decoder = widths.to_vec();
        self
    }

    /// The width C of a condition vector that encoder and decoder see beside x and z: a conditional
    /// VAE (Sohn et al. 2015). Data must then come with conditions, such as
    /// [`Labeled`](crate::Labeled). Default 0, none.
    #[must_use]
    pub fn conditions(mut self, width: usize) -> Self {
        self.0.conditions = width;
        self
    }

    /// Sets the activation of the hidden layers; default ReLU.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.0.activation = activation;
        self
    }

    /// Adds a layer normalization before each hidden layer's activation
    /// ([`layer_norm`](crate::layers::layer_norm)); default no.
    #[must_use]
    pub fn layer_norm(mut self, normalize: bool) -> Self {
        self.0.layer_norm = normalize;
        self
    }

    /// Sets the probability that a hidden unit is dropped in training, after its activation
    /// ([`dropout`](crate::layers::dropout)); default 0.
    #[must_use]
    pub fn dropout(mut self, probability: f32) -> Self {
        self.0.dropout = probability;
        self
    }

    /// Sets the likelihood; default Bernoulli from logits.
    #[must_use]
    pub fn likelihood(mut self, likelihood: Likelihood) -> Self {
        self.0.likelihood = likelihood;
        self
    }

    /// The prior of each latent dimension; default N(0, 1).
    #[must_use]
    pub fn prior(mut self, prior: Prior) -> Self {
        self.0.prior = prior;
        self
    }

    /// Bends the encoder's logvar softly into the interval from `low` to `high`, so that no weight
    /// can make e^logvar overflow: with m its middle and h half its length,
    ///
    /// ```text
    /// logvar = m + h·tanh((v − m)/h)      dv = (1 − tanh²((v − m)/h))·dlogvar
    /// ```
    ///
    /// of the layer's output v. Near the middle logvar is v; at v = m ± h it has come three
    /// quarters of the way, and the gradient has fallen to 0.42. Default: none, logvar is v.
    #[must_use]
    pub fn logvar_clamp(mut self, low: f32, high: f32) -> Self {
        self.0.logvar_clamp = Some([low, high]);
        self
    }

    /// The configuration without the checks, which the reader of a model file makes.
    #[cfg(feature = "safetensors")]
    pub(crate) fn unchecked(self) -> Config {
        self.0
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Error::Config`] for a width of 0 or above 2²⁴, more than 1,000 hidden layers on a side, more than
    /// 2³¹ weights, a setting outside its domain, or dropout or normalization without a hidden layer;
    /// [`Error::Memory`] if the machine does not have memory for the weights.
    pub fn build(self) -> Result<Config> {
        let config = self.0.validate()?;
        config.expect_memory()?;
        Ok(config)
    }
}

/// The widths in the order of the forward pass: `784-400-20-400-784`.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.features)?;
        for width in self.encoder.iter().chain([&self.latent]).chain(&self.decoder) {
            write!(f, "-{width}")?;
        }
        write!(f, "-{}", self.features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_layers_in_the_order_of_the_forward_pass() {
        let config = Config::builder(37, 3).hidden(&[29, 17]).build().unwrap();
        let layers: Vec<_> = config.layers().collect();
        assert_eq!(layers, [(37, 29), (29, 17), (17, 6), (3, 17), (17, 29), (29, 37)]);
        let linear = Config::builder(5, 2).hidden(&[]).build().unwrap();
        assert_eq!(linear.layers().collect::<Vec<_>>(), [(5, 4), (2, 5)]);
    }

    #[test]
    fn rejects_invalid_widths_by_name() {
        for (builder, setting) in [
            (Config::builder(0, 2), "features"),
            (Config::builder(5, 0), "latent"),
            (Config::builder(5, 2).hidden(&[4, 0]), "encoder"),
            (Config::builder(5, 2).decoder(&[usize::MAX]), "decoder"),
            (Config::builder(5, 2).hidden(&[1_000_000, 1_000_000]), "encoder"),
            (Config::builder(5, 2).encoder(&[1; 1001]), "encoder"),
            (Config::builder(5, 2).decoder(&[1; 100_000]), "decoder"),
        ] {
            let message = builder.build().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
        }
        assert!(Config::builder(5, 2).hidden(&[1; 1000]).build().is_ok());
    }
}
