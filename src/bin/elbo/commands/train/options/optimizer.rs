//! Options for the optimizer and its learning rate.

use crate::failure::{Result, option_for};
use crate::options::values::{below_one, count, fraction, not_negative, positive, seed, span};
use clap::{Args, ValueEnum};
use elbo::optim::{Clip, Decay, LearningRateSchedule, Optimizer, Sgd, Span};

#[derive(Debug, Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerOptions {
    /// Optimizer: adam, adamw, sgd or adamax
    ///
    /// adamw decays the weights apart from the gradient.
    #[arg(
        long,
        value_name = "NAME",
        alias = "optimiser",
        default_value = "adam",
        value_enum,
        hide_possible_values = true
    )]
    pub optimizer: OptimizerName,

    /// Learning rate [default: 0.001, adamax 0.002]
    #[arg(long, value_name = "RATE", alias = "learning-rate", value_parser = positive::<f64>,
          allow_negative_numbers = true, help_heading = None, display_order = 10)]
    pub lr: Option<f64>,

    /// Momentum (sgd only) [default: 0]
    #[arg(long, value_name = "MU", value_parser = below_one::<f64>, allow_negative_numbers = true)]
    pub momentum: Option<f64>,

    /// Use Nesterov momentum (sgd only)
    #[arg(long)]
    pub nesterov: bool,

    /// Weight decay [default: 0, adamw 0.01]
    ///
    /// Times the weight, added to the gradient; with adamw times the learning rate, subtracted from the
    /// weight.
    #[arg(long, value_name = "RATE", value_parser = not_negative::<f64>,
          allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,

    /// Scale the gradient down to this norm [default: no clipping]
    #[arg(long, value_name = "NORM", value_parser = positive::<f32>, allow_negative_numbers = true)]
    pub clip_norm: Option<f32>,

    /// Clip each element of the gradient to this size [default: no clipping]
    #[arg(long, value_name = "VALUE", value_parser = positive::<f32>,
          allow_negative_numbers = true)]
    pub clip_value: Option<f32>,

    /// Accumulate the gradients of N batches for each step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1_000_000),
          allow_negative_numbers = true)]
    pub accumulate: usize,

    /// Sum the gradient of a batch over S shards, a power of two
    ///
    /// Any number of ranks that divides S then trains the same model, to the last bit (mpirun -n 4 elbo train). With 1
    /// the ranks are the shards, and the last digits depend on their number.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = count(1024),
          allow_negative_numbers = true)]
    pub shards: usize,

    /// Increase the learning rate linearly over the first STEPS steps
    #[arg(long, value_name = "STEPS", default_value_t = 0, hide_default_value = true,
          value_parser = seed, allow_negative_numbers = true, help_heading = SCHEDULE)]
    pub warm_up: u64,

    /// Decay: constant, step, cosine or plateau
    ///
    /// step: every --decay-every epochs; plateau: when the validation loss (with the final weight of the KL)
    /// stops falling.
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t = ScheduleName::Constant,
          hide_possible_values = true, help_heading = SCHEDULE)]
    pub schedule: ScheduleName,

    /// Epochs between two decays (step only) [default: 10]
    #[arg(long, value_name = "EPOCHS", value_parser = count(1_000_000),
          allow_negative_numbers = true, help_heading = SCHEDULE)]
    pub decay_every: Option<usize>,

    /// Factor of each decay (step and plateau only) [default: 0.5]
    ///
    /// Above 0 and below 1.
    #[arg(long, value_name = "F", value_parser = fraction, allow_negative_numbers = true,
          help_heading = SCHEDULE)]
    pub decay_factor: Option<f64>,

    /// Span of the decay (cosine only) [default: all epochs]
    ///
    /// Such as 10epochs or 2000steps; a bare number counts epochs.
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true,
          help_heading = SCHEDULE)]
    pub decay_over: Option<Span>,

    /// Final share of the learning rate (cosine only) [default: 0]
    ///
    /// From 0 to below 1.
    #[arg(long, value_name = "F", value_parser = below_one::<f64>, allow_negative_numbers = true,
          help_heading = SCHEDULE)]
    pub decay_floor: Option<f64>,

    /// Patience in epochs (plateau only) [default: 5]
    ///
    /// Epochs without improvement of the validation loss before a decay.
    #[arg(long, value_name = "EPOCHS", value_parser = count(1_000_000),
          allow_negative_numbers = true, help_heading = SCHEDULE)]
    pub decay_patience: Option<usize>,
}

const SCHEDULE: &str = "Learning rate schedule";

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum OptimizerName {
    Adam,
    #[value(name = "adamw")]
    AdamW,
    Sgd,
    Adamax,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum ScheduleName {
    Constant,
    Step,
    Cosine,
    Plateau,
}

impl OptimizerOptions {
    pub fn optimizer(&self) -> Result<Optimizer> {
        let name = self.optimizer.to_possible_value().expect("no value is skipped");
        let mut optimizer: Optimizer = name.get_name().parse()?;
        if let Optimizer::Sgd(Sgd { momentum, nesterov, .. }) = &mut optimizer {
            *momentum = self.momentum.unwrap_or(0.0);
            *nesterov = self.nesterov;
        }
        if let Some(rate) = self.lr {
            optimizer = optimizer.with_learning_rate(rate);
        }
        if let Some(decay) = self.weight_decay {
            optimizer = optimizer.with_weight_decay(decay);
        }
        optimizer.validate().map_err(|error| option_for(&[], error))?;
        Ok(optimizer)
    }

    pub fn clip(&self) -> Option<Clip> {
        self.clip_norm.map(Clip::Norm).or(self.clip_value.map(Clip::Value))
    }

    /// Returns the options that make the learning rate depend on the number of epochs.
    pub fn bound_to_epochs(&self) -> Option<&'static str> {
        (self.schedule == ScheduleName::Cosine && self.decay_over.is_none())
            .then_some("--schedule cosine without --decay-over")
    }

    /// Returns the schedule of a run of this length.
    pub fn schedule(&self, length: Span) -> LearningRateSchedule {
        let factor = self.decay_factor.unwrap_or(0.5);
        let decay = match self.schedule {
            ScheduleName::Constant => Decay::Constant,
            ScheduleName::Step => {
                Decay::Step { epochs: self.decay_every.unwrap_or(10) as u64, factor }
            }
            ScheduleName::Cosine => Decay::Cosine {
                over: self.decay_over.unwrap_or(length),
                floor: self.decay_floor.unwrap_or(0.0),
            },
            ScheduleName::Plateau => {
                Decay::Plateau { patience: self.decay_patience.unwrap_or(5) as u64, factor }
            }
        };
        LearningRateSchedule { warm_up: self.warm_up, decay }
    }
}
