//! How the weights follow their gradients.

use crate::failure::{Failure, Result, option_for};
use crate::options::dependent::only_with;
use crate::options::values::{
    below_one, count, fraction, learning_rate, not_negative, positive, seed, span,
};
use clap::{Args, ValueEnum};
use elbo::optim::{Clip, Decay, LearningRateSchedule, Optimizer, Sgd, Span};

#[derive(Debug, Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerOptions {
    /// How the weights follow their gradients: adam, adamw (weight decay apart from the gradient), sgd
    /// or adamax
    #[arg(
        long,
        value_name = "NAME",
        alias = "optimiser",
        default_value = "adam",
        value_enum,
        hide_possible_values = true
    )]
    pub optimizer: OptimizerName,

    /// Learning rate, per step [default: 0.001; of adamax 0.002]
    #[arg(long, value_name = "RATE", value_parser = learning_rate, allow_negative_numbers = true)]
    pub lr: Option<f64>,

    /// Of sgd: what is left of its momentum after a step [default: 0]
    #[arg(long, value_name = "MU", value_parser = below_one::<f64>, allow_negative_numbers = true)]
    pub momentum: Option<f64>,

    /// Of sgd: take the gradient where the momentum leads (needs --momentum)
    #[arg(long)]
    pub nesterov: bool,

    /// Weight decay: times the weight, added to the gradient (of adamw: times the learning rate, taken
    /// off the weight) [default: 0; of adamw 0.01]
    #[arg(long, value_name = "RATE", value_parser = not_negative, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,

    /// Scale the gradient down where the norm of all its elements together is above this [default: leave
    /// it]
    #[arg(long, value_name = "NORM", value_parser = positive, allow_negative_numbers = true)]
    pub clip_norm: Option<f32>,

    /// Clip each element of the gradient to this, either sign [default: leave it]
    #[arg(long, value_name = "VALUE", value_parser = positive, allow_negative_numbers = true)]
    pub clip_value: Option<f32>,

    /// Steps over which the learning rate rises in a line to --lr [default: 0]
    #[arg(long, value_name = "STEPS", default_value_t = 0, hide_default_value = true,
          value_parser = seed, allow_negative_numbers = true)]
    pub warm_up: u64,

    /// How the learning rate falls: constant (not), step (every few epochs), cosine, or plateau (when the
    /// test loss, with the last weight of the KL, has stopped falling)
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t = ScheduleName::Constant,
          hide_possible_values = true)]
    pub schedule: ScheduleName,

    /// Of the schedule step: epochs between two falls [default: 10]
    #[arg(long, value_name = "EPOCHS", value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub decay_every: Option<usize>,

    /// Of the schedules step and plateau: what the learning rate is multiplied by, above 0 and below 1
    /// [default: 0.5]
    #[arg(long, value_name = "F", value_parser = fraction, allow_negative_numbers = true)]
    pub decay_factor: Option<f64>,

    /// Of the schedule cosine: how long the learning rate falls, such as 10epochs or 2000steps [default:
    /// all epochs]
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    pub decay_over: Option<Span>,

    /// Of the schedule cosine: the part of the learning rate that is left at the end, from 0 to below 1
    /// [default: 0]
    #[arg(long, value_name = "F", value_parser = below_one::<f64>, allow_negative_numbers = true)]
    pub decay_floor: Option<f64>,

    /// Of the schedule plateau: epochs without a lower test loss that are forgiven [default: 5]
    #[arg(long, value_name = "EPOCHS", value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub decay_patience: Option<usize>,

    /// Batches whose gradients are added up for one step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1_000_000),
          allow_negative_numbers = true)]
    pub accumulate: usize,
}

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

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("none is skipped").get_name().to_owned()
}

impl OptimizerOptions {
    pub fn optimizer(&self) -> Result<Optimizer> {
        let here = name(&self.optimizer);
        let mut optimizer: Optimizer = here.parse()?;
        match &mut optimizer {
            Optimizer::Sgd(Sgd { momentum, nesterov, .. }) => {
                *momentum = self.momentum.unwrap_or(0.0);
                *nesterov = self.nesterov;
            }
            _ => {
                let sgd = "--optimizer sgd";
                only_with(self.momentum.is_some(), "--momentum", sgd, &here)?;
                only_with(self.nesterov, "--nesterov", sgd, &here)?;
            }
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

    pub fn clip(&self) -> Result<Option<Clip>> {
        match (self.clip_norm, self.clip_value) {
            (Some(_), Some(_)) => Err(Failure::Usage(
                "--clip-norm and --clip-value: a gradient is clipped in one way; choose one"
                    .to_owned(),
            )),
            (norm, value) => Ok(norm.map(Clip::Norm).or(value.map(Clip::Value))),
        }
    }

    /// The schedule of a run of so many epochs.
    pub fn schedule(&self, epochs: usize) -> Result<LearningRateSchedule> {
        use ScheduleName as Name;
        let here = name(&self.schedule);
        let is = |name| self.schedule == name;
        let [every, factor, over, floor, patience] = [
            self.decay_every.is_some(),
            self.decay_factor.is_some(),
            self.decay_over.is_some(),
            self.decay_floor.is_some(),
            self.decay_patience.is_some(),
        ];
        let falls = is(Name::Step) || is(Name::Plateau);
        only_with(every && !is(Name::Step), "--decay-every", "--schedule step", &here)?;
        let both = "--schedule step or plateau";
        only_with(factor && !falls, "--decay-factor", both, &here)?;
        only_with(over && !is(Name::Cosine), "--decay-over", "--schedule cosine", &here)?;
        only_with(floor && !is(Name::Cosine), "--decay-floor", "--schedule cosine", &here)?;
        only_with(patience && !is(Name::Plateau), "--decay-patience", "--schedule plateau", &here)?;
        let factor = self.decay_factor.unwrap_or(0.5);
        let decay = match self.schedule {
            Name::Constant => Decay::Constant,
            Name::Step => Decay::Step { epochs: self.decay_every.unwrap_or(10) as u64, factor },
            Name::Cosine => Decay::Cosine {
                over: self.decay_over.unwrap_or(Span::Epochs(epochs as u64)),
                floor: self.decay_floor.unwrap_or(0.0),
            },
            Name::Plateau => {
                Decay::Plateau { patience: self.decay_patience.unwrap_or(5) as u64, factor }
            }
        };
        Ok(LearningRateSchedule { warm_up: self.warm_up, decay })
    }
}
