//! Presets of `elbo train`.

use clap::ValueEnum;

/// A named set of options.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Preset {
    Mnist,
    Tabular,
    Anomaly,
    BetaVae,
    Iwae,
}

impl Preset {
    /// Returns the options in the format of `--config`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Mnist => include_str!("presets/mnist.toml"),
            Self::Tabular => include_str!("presets/tabular.toml"),
            Self::Anomaly => include_str!("presets/anomaly.toml"),
            Self::BetaVae => include_str!("presets/beta-vae.toml"),
            Self::Iwae => include_str!("presets/iwae.toml"),
        }
    }
}
