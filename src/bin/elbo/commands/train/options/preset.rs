//! Usual starts of `elbo train`.

use clap::ValueEnum;

/// A set of options by name.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Preset {
    Mnist,
    Tabular,
    Anomaly,
    BetaVae,
    Iwae,
}

impl Preset {
    /// The options, as a file of `--config` has them.
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
