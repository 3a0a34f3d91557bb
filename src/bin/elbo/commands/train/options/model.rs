//! Options for the model: its layers, its prior and its likelihood.

use crate::failure::{Failure, Result, option_for};
use crate::options::values::{
    MAX_WIDTH, Widths, below_one, count, finite, interval, named, positive,
};
use clap::{Args, ValueEnum};
use elbo::layers::activation::Activation;
use elbo::loss::Prior;
use elbo::vae::{Config, Likelihood, Variance};

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ArchitectureOptions {
    /// Widths of the hidden layers, such as 512,256
    ///
    /// Those of the encoder, from the data inward; the decoder mirrors them. none: no hidden layer.
    #[arg(long, value_name = "WIDTHS", default_value = "400", allow_negative_numbers = true,
          help_heading = None, display_order = 5)]
    pub hidden: Widths,

    /// Latent dimensions
    #[arg(long, value_name = "Z", default_value_t = 20, value_parser = count(MAX_WIDTH),
          allow_negative_numbers = true, help_heading = None, display_order = 6)]
    pub latent: usize,

    /// Widths of the hidden layers of the encoder [default: --hidden]
    ///
    /// From the data inward.
    #[arg(long, value_name = "WIDTHS", allow_negative_numbers = true)]
    pub encoder: Option<Widths>,

    /// Widths of the hidden layers of the decoder [default: mirrored]
    ///
    /// From the latent code outward [default: --hidden, mirrored].
    #[arg(long, value_name = "WIDTHS", allow_negative_numbers = true)]
    pub decoder: Option<Widths>,

    /// Activation of the hidden layers, such as gelu
    ///
    /// relu, leaky-relu, elu, gelu, gelu-tanh, silu, softplus, tanh or sigmoid; leaky-relu:0.2 and elu:1.5
    /// set the slope or alpha.
    #[arg(long, value_name = "NAME", default_value = "relu", value_parser = named::<Activation>)]
    pub activation: Activation,

    /// Normalize each hidden layer before its activation
    #[arg(long)]
    pub layer_norm: bool,

    /// Probability of dropping a hidden unit in training
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = below_one::<f32>,
          allow_negative_numbers = true)]
    pub dropout: f32,

    /// Mean of the prior
    #[arg(long, value_name = "M", default_value_t = 0.0, value_parser = finite,
          allow_negative_numbers = true)]
    pub prior_mean: f32,

    /// Standard deviation of the prior
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = positive::<f32>,
          allow_negative_numbers = true)]
    pub prior_std: f32,

    /// Clamp the encoder's log-variance softly, such as to -10,10
    ///
    /// So that its exponential cannot overflow [default: no clamp].
    #[arg(long, value_name = "LOW,HIGH", value_parser = interval, allow_hyphen_values = true)]
    pub logvar_clamp: Option<[f32; 2]>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Likelihood")]
pub struct LikelihoodOptions {
    /// Distribution of the data given the code
    ///
    /// bernoulli: black and white, or gray values read as probabilities from 0 to 1; bernoulli-probabilities:
    /// the same by way of a sigmoid and clamped logarithms; continuous-bernoulli: a density on [0, 1];
    /// squared-error or gaussian: any numbers.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = LikelihoodName::Bernoulli,
          hide_possible_values = true, help_heading = None, display_order = 4)]
    pub likelihood: LikelihoodName,

    /// Weight of ones against zeros (bernoulli only) [default: 1]
    ///
    /// For data with few ones.
    #[arg(long, value_name = "W", value_parser = positive::<f32>, allow_negative_numbers = true)]
    pub pos_weight: Option<f32>,

    /// Last activation of the decoder (squared-error only) [default: identity]
    ///
    /// identity or tanh (for data from -1 to 1).
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub output: Option<OutputName>,

    /// Variance: a number, shared, per-feature or optimal (gaussian only)
    ///
    /// A number is fixed; shared (one) and per-feature are learned from 1, which takes some thousand steps;
    /// optimal is that of each batch [default: shared].
    #[arg(long, value_name = "V", value_parser = variance, allow_negative_numbers = true)]
    pub variance: Option<Variance>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum LikelihoodName {
    Bernoulli,
    BernoulliProbabilities,
    ContinuousBernoulli,
    SquaredError,
    Gaussian,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum OutputName {
    Identity,
    Tanh,
}

fn variance(text: &str) -> std::result::Result<Variance, &'static str> {
    match &text.to_lowercase()[..] {
        "shared" => Ok(Variance::Shared),
        "per-feature" => Ok(Variance::PerFeature),
        "optimal" => Ok(Variance::Optimal),
        number => match positive::<f32>(number) {
            Ok(variance) => Ok(Variance::Fixed(variance)),
            Err(_) => Err("expected a number above 0, shared, per-feature or optimal"),
        },
    }
}

impl LikelihoodOptions {
    pub fn likelihood(&self) -> Likelihood {
        match self.likelihood {
            LikelihoodName::Bernoulli => match self.pos_weight {
                None => Likelihood::Bernoulli,
                Some(pos_weight) => Likelihood::WeightedBernoulli { pos_weight },
            },
            LikelihoodName::BernoulliProbabilities => Likelihood::BernoulliProbabilities,
            LikelihoodName::ContinuousBernoulli => Likelihood::ContinuousBernoulli,
            LikelihoodName::SquaredError => match self.output {
                None | Some(OutputName::Identity) => Likelihood::SquaredError,
                Some(OutputName::Tanh) => Likelihood::TanhSquaredError,
            },
            LikelihoodName::Gaussian => {
                Likelihood::Gaussian(self.variance.unwrap_or(Variance::Shared))
            }
        }
    }
}

impl ArchitectureOptions {
    /// Returns the model of rows of `features` numbers, conditional on `classes` classes (0 for none).
    pub fn config(
        &self,
        likelihood: Likelihood,
        features: usize,
        classes: usize,
    ) -> Result<Config> {
        let mut builder = Config::builder(features, self.latent)
            .hidden(&self.hidden.0)
            .activation(self.activation)
            .layer_norm(self.layer_norm)
            .dropout(self.dropout)
            .prior(Prior { mean: self.prior_mean, std: self.prior_std })
            .conditions(classes)
            .likelihood(likelihood);
        if let Some(widths) = &self.encoder {
            builder = builder.encoder(&widths.0);
        }
        if let Some(widths) = &self.decoder {
            builder = builder.decoder(&widths.0);
        }
        if let Some([low, high]) = self.logvar_clamp {
            builder = builder.logvar_clamp(low, high);
        }
        // The library names the encoder when there are too many weights, whichever option set the widths.
        let widths = if self.encoder.is_some() { "--encoder" } else { "--hidden" };
        builder.build().map_err(|error| match error {
            elbo::Error::Config { setting: "encoder", expected, found } => {
                Failure::Usage(format!("{widths}: expected {expected}, found {found}"))
            }
            error => option_for(&[], error),
        })
    }
}
