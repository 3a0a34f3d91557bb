//! What the model is: its layers, its prior, and what its output means.

use crate::failure::{Failure, Result, option_for};
use crate::options::dependent::only_with;
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
    /// Widths of the encoder's hidden layers from the data inwards, in units, separated by commas;
    /// the decoder mirrors them
    #[arg(long, value_name = "WIDTHS", default_value = "400", allow_negative_numbers = true)]
    pub hidden: Widths,

    /// Widths of the encoder's hidden layers alone, from the data inwards [default: as --hidden]
    #[arg(long, value_name = "WIDTHS", allow_negative_numbers = true)]
    pub encoder: Option<Widths>,

    /// Widths of the decoder's hidden layers alone, from the latent code outwards [default: as
    /// --hidden, mirrored]
    #[arg(long, value_name = "WIDTHS", allow_negative_numbers = true)]
    pub decoder: Option<Widths>,

    /// Latent dimensions
    #[arg(long, value_name = "Z", default_value_t = 20, value_parser = count(MAX_WIDTH),
          allow_negative_numbers = true)]
    pub latent: usize,

    /// What follows each hidden layer: relu, leaky-relu, elu, gelu, gelu-tanh, silu, softplus, tanh or
    /// sigmoid (leaky-relu:0.2 and elu:1.5 for another slope or alpha)
    #[arg(long, value_name = "NAME", default_value = "relu", value_parser = named::<Activation>)]
    pub activation: Activation,

    /// Normalize each hidden layer before its activation
    #[arg(long)]
    pub layer_norm: bool,

    /// Probability with which a hidden unit is dropped in training
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = below_one::<f32>,
          allow_negative_numbers = true)]
    pub dropout: f32,

    /// Mean of the prior of each latent dimension
    #[arg(long, value_name = "M", default_value_t = 0.0, value_parser = finite,
          allow_negative_numbers = true)]
    pub prior_mean: f32,

    /// Standard deviation of the prior of each latent dimension
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = positive,
          allow_negative_numbers = true)]
    pub prior_std: f32,

    /// Bend the encoder's log-variance softly into this interval, such as -10,10, so that its
    /// exponential cannot overflow [default: left as it is]
    #[arg(long, value_name = "LOW,HIGH", value_parser = interval, allow_hyphen_values = true)]
    pub logvar_clamp: Option<[f32; 2]>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Likelihood")]
pub struct LikelihoodOptions {
    /// What the decoder's output says about the data: bernoulli (black and white, or gray values read
    /// as probabilities, from 0 to 1), bernoulli-probabilities (the same through a sigmoid and clamped
    /// logarithms), continuous-bernoulli (a density of numbers from 0 to 1), squared-error or gaussian
    /// (any numbers)
    #[arg(long, value_name = "NAME", value_enum, default_value_t = LikelihoodName::Bernoulli,
          hide_possible_values = true)]
    pub likelihood: LikelihoodName,

    /// Of bernoulli: what a one weighs against a zero, for data with few ones [default: 1]
    #[arg(long, value_name = "W", value_parser = positive, allow_negative_numbers = true)]
    pub pos_weight: Option<f32>,

    /// Of squared-error: what is done to the decoder's last layer, identity or tanh (for data from -1
    /// to 1) [default: identity]
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub output: Option<OutputName>,

    /// Of gaussian: its variance, a number (fixed), shared (one, learned), per-feature (learned) or
    /// optimal (that of each batch); learned ones start at 1 and take some thousand steps, optimal is there
    /// at once [default: shared]
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
    match text {
        "shared" => Ok(Variance::Shared),
        "per-feature" => Ok(Variance::PerFeature),
        "optimal" => Ok(Variance::Optimal),
        number => match positive(number) {
            Ok(variance) => Ok(Variance::Fixed(variance)),
            Err(_) => Err("expected a number above 0, shared, per-feature or optimal"),
        },
    }
}

impl LikelihoodOptions {
    pub fn likelihood(&self) -> Result<Likelihood> {
        use LikelihoodName as Name;
        let here = self.likelihood.to_possible_value().expect("none is skipped");
        let here = here.get_name();
        let is = |name| self.likelihood == name;
        let [weighted, output, variance] =
            [self.pos_weight.is_some(), self.output.is_some(), self.variance.is_some()];
        let bernoulli = "--likelihood bernoulli";
        only_with(weighted && !is(Name::Bernoulli), "--pos-weight", bernoulli, here)?;
        let squares = "--likelihood squared-error";
        only_with(output && !is(Name::SquaredError), "--output", squares, here)?;
        let gaussian = "--likelihood gaussian";
        only_with(variance && !is(Name::Gaussian), "--variance", gaussian, here)?;
        Ok(match self.likelihood {
            Name::Bernoulli => match self.pos_weight {
                None => Likelihood::Bernoulli,
                Some(pos_weight) => Likelihood::WeightedBernoulli { pos_weight },
            },
            Name::BernoulliProbabilities => Likelihood::BernoulliProbabilities,
            Name::ContinuousBernoulli => Likelihood::ContinuousBernoulli,
            Name::SquaredError => match self.output {
                None | Some(OutputName::Identity) => Likelihood::SquaredError,
                Some(OutputName::Tanh) => Likelihood::TanhSquaredError,
            },
            Name::Gaussian => Likelihood::Gaussian(self.variance.unwrap_or(Variance::Shared)),
        })
    }
}

impl ArchitectureOptions {
    /// The model for rows of `features` numbers, with so many classes (0 for none).
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
        // The number of weights is refused under the name of the encoder, whichever option made it.
        let widths = if self.encoder.is_some() { "--encoder" } else { "--hidden" };
        builder.build().map_err(|error| match error {
            elbo::Error::Config { setting: "encoder", expected, found } => {
                Failure::Usage(format!("{widths}: expected {expected}, found {found}"))
            }
            error => option_for(&[], error),
        })
    }
}
