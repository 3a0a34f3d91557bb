//! The shape of a model.

use crate::error::{Error, Result};

/// The widths of a model's layers: D features → encoder → Z latent dimensions → decoder → D.
///
/// ```
/// use elbo::vae::Config;
///
/// let config = Config::builder(784, 20).hidden(&[400]).build()?;
/// assert_eq!(config.to_string(), "784-400-20-400-784");
/// assert_eq!(config.parameters(), 652_824);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "safetensors", serde(try_from = "Unchecked"))]
pub struct Config {
    features: usize,
    encoder: Vec<usize>,
    latent: usize,
    decoder: Vec<usize>,
}

/// A configuration as a file has it.
#[cfg(feature = "safetensors")]
#[derive(serde::Deserialize)]
struct Unchecked {
    features: usize,
    encoder: Vec<usize>,
    latent: usize,
    decoder: Vec<usize>,
}

#[cfg(feature = "safetensors")]
impl TryFrom<Unchecked> for Config {
    type Error = Error;

    fn try_from(unchecked: Unchecked) -> Result<Self> {
        let Unchecked { features, encoder, latent, decoder } = unchecked;
        Self { features, encoder, latent, decoder }.validate()
    }
}

/// Widths beyond this are refused: a layer of this size squared no longer fits any machine.
const MAX_WIDTH: usize = 1 << 24;

/// More weights than this (8 GiB of them, and as much for each of Adam's moments) are refused: a
/// slip of the keyboard, not a model.
const MAX_PARAMETERS: usize = 1 << 31;

/// Builds a [`Config`].
#[derive(Clone, Debug)]
pub struct ConfigBuilder(Config);

impl Config {
    /// Starts from D = `features` and Z = `latent`, with one hidden layer of 400 each side.
    #[must_use]
    pub fn builder(features: usize, latent: usize) -> ConfigBuilder {
        ConfigBuilder(Self { features, encoder: vec![400], latent, decoder: vec![400] })
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

    /// Number of weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers()
            .map(|(inputs, outputs)| (inputs + 1).saturating_mul(outputs))
            .fold(0, usize::saturating_add)
    }

    /// `[inputs, outputs]` of each dense layer in the order of the forward pass. The two heads,
    /// `mu` and `logvar`, are one layer of 2·Z outputs: they share their input.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (usize, usize)> {
        let encoder = std::iter::once(self.features).chain(self.encoder.iter().copied());
        let decoder = std::iter::once(self.latent).chain(self.decoder.iter().copied());
        let encoder_outputs = self.encoder.iter().copied().chain([2 * self.latent]);
        let decoder_outputs = self.decoder.iter().copied().chain([self.features]);
        encoder.zip(encoder_outputs).chain(decoder.zip(decoder_outputs))
    }

    /// Checks what [`ConfigBuilder::build`] checks; a configuration read from a file comes here.
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
            if let Some(wrong) = widths.iter().find(|&&n| !in_range(n)) {
                let expected = "widths from 1 to 16777216";
                return Err(Error::config(setting, expected, format!("{wrong} in {widths:?}")));
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

    /// The configuration, to be validated by whoever reads it from a file.
    #[cfg(feature = "safetensors")]
    pub(crate) fn unchecked(self) -> Config {
        self.0
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Error::Config`] for a width of 0 or above 2²⁴, or more than 2³¹ weights.
    pub fn build(self) -> Result<Config> {
        self.0.validate()
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
    fn layers_follow_the_forward_pass() {
        let config = Config::builder(37, 3).hidden(&[29, 17]).build().unwrap();
        let layers: Vec<_> = config.layers().collect();
        assert_eq!(layers, [(37, 29), (29, 17), (17, 6), (3, 17), (17, 29), (29, 37)]);
        let linear = Config::builder(5, 2).hidden(&[]).build().unwrap();
        assert_eq!(linear.layers().collect::<Vec<_>>(), [(5, 4), (2, 5)]);
    }

    #[test]
    fn widths_of_zero_are_refused_by_name() {
        for (builder, setting) in [
            (Config::builder(0, 2), "features"),
            (Config::builder(5, 0), "latent"),
            (Config::builder(5, 2).hidden(&[4, 0]), "encoder"),
            (Config::builder(5, 2).decoder(&[usize::MAX]), "decoder"),
            (Config::builder(5, 2).hidden(&[1_000_000, 1_000_000]), "encoder"),
        ] {
            let message = builder.build().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
        }
    }
}
