//! What training minimizes, and what an evaluation calls the loss.

use super::dependent::{needs, only_with};
use super::values::{count, ratio, span, weight};
use crate::failure::{Failure, Result, option_for};
use clap::{Args, ValueEnum};
use elbo::loss::importance::Estimator;
use elbo::loss::{CapacityPer, FreeBitsPer, Reduction};
use elbo::optim::Span;
use elbo::vae::{Annealing, Objective, Penalty};

/// How the KL divergence is weighed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Objective")]
pub struct ObjectiveOptions {
    /// ObjectiveOptions of the KL divergence: loss = reconstruction + beta × KL
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, value_parser = weight,
          allow_negative_numbers = true)]
    pub beta: f32,

    /// Let the weight grow to --beta: linear, cosine or cyclical (again and again from 0) [default: from
    /// the first step on it is --beta]
    #[arg(long, value_name = "SHAPE", value_enum, hide_possible_values = true)]
    pub anneal: Option<AnnealName>,

    /// How long it grows, such as 10epochs or 2000steps; a bare number counts epochs [default: half of the
    /// steps, all of them with cyclical]
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    pub anneal_over: Option<Span>,

    /// Of linear and cosine: the weight at the beginning [default: 0]
    #[arg(long, value_name = "WEIGHT", value_parser = weight, allow_negative_numbers = true)]
    pub anneal_from: Option<f32>,

    /// Of cyclical: how often the weight starts again from 0 [default: 4]
    #[arg(long, value_name = "N", value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub cycles: Option<usize>,

    /// Of cyclical: the part of a cycle in which the weight grows, above 0 and at most 1 [default: 0.5]
    #[arg(long, value_name = "R", value_parser = ratio, allow_negative_numbers = true)]
    pub cycle_ratio: Option<f32>,

    /// Free bits: KL divergence that costs nothing, in nats of whatever --free-bits-per names (Kingma et
    /// al. 2016)
    #[arg(long, value_name = "NATS", value_parser = weight, allow_negative_numbers = true)]
    pub free_bits: Option<f32>,

    /// Of --free-bits, what they are given to: element (each dimension of each example), dimension (its
    /// mean over the batch) or sample (each example) [default: dimension]
    #[arg(long, value_name = "OF", value_enum, hide_possible_values = true)]
    pub free_bits_per: Option<FreeBitsName>,

    /// Hold the KL divergence to a capacity that grows in a line from 0 to this, in nats per example
    /// (Burgess et al. 2018): loss = reconstruction + gamma × |KL - capacity|
    #[arg(long, value_name = "NATS", value_parser = weight, allow_negative_numbers = true)]
    pub capacity: Option<f32>,

    /// Of --capacity: gamma, which stands in the place of --beta [default: 10]
    #[arg(long, value_name = "WEIGHT", value_parser = weight, allow_negative_numbers = true)]
    pub capacity_gamma: Option<f32>,

    /// Of --capacity: how long it grows, such as 10epochs or 2000steps [default: half of the
    /// steps]
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    pub capacity_over: Option<Span>,

    /// Of --capacity, whose KL divergence is held to it: batch (its mean over the batch) or sample (that
    /// of each example) [default: batch]
    #[arg(long, value_name = "OF", value_enum, hide_possible_values = true)]
    pub capacity_per: Option<CapacityName>,

    /// Take the KL divergence apart (beta-TCVAE, Chen et al. 2018): loss = reconstruction + alpha ×
    /// mutual information + beta × total correlation + gamma × dimension-wise KL
    #[arg(long)]
    pub total_correlation: bool,

    /// Of --total-correlation: alpha, the weight of the mutual information [default: 1]
    #[arg(long, value_name = "WEIGHT", value_parser = weight, allow_negative_numbers = true)]
    pub tc_alpha: Option<f32>,

    /// Of --total-correlation: gamma, the weight of the dimension-wise KL [default: 1]
    #[arg(long, value_name = "WEIGHT", value_parser = weight, allow_negative_numbers = true)]
    pub tc_gamma: Option<f32>,
}

/// What only training can minimize.
#[derive(Debug, Args)]
#[command(next_help_heading = "Objective")]
pub struct ImportanceOptions {
    /// The importance-weighted bound with so many samples of each example (IWAE, Burda et al. 2016)
    /// [default: the ELBO, one sample]
    #[arg(long, value_name = "K", value_parser = count(1 << 16), allow_negative_numbers = true)]
    pub importance_samples: Option<usize>,

    /// Of --importance-samples, how the encoder's gradient is estimated: iwae (that of the bound) or dreg
    /// (doubly reparameterized, with less noise, Tucker et al. 2019) [default: iwae]
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub estimator: Option<EstimatorName>,

    /// How a batch's terms become one number: batch-mean (per example), sum, or mean (each term over its
    /// own elements: beta then weighs D/Z times as much). The losses shown are per example all the same
    #[arg(long, value_name = "NAME", value_enum, default_value_t = ReductionName::BatchMean,
          hide_possible_values = true)]
    pub reduction: ReductionName,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum AnnealName {
    Linear,
    Cosine,
    Cyclical,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum FreeBitsName {
    Element,
    Dimension,
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum CapacityName {
    Batch,
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum EstimatorName {
    Iwae,
    Dreg,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum ReductionName {
    BatchMean,
    Sum,
    Mean,
}

impl ObjectiveOptions {
    /// The objective, its spans without end where nobody gave them ([`Self::by_steps`]).
    pub fn objective(&self, importance: Option<&ImportanceOptions>) -> Result<Objective> {
        let samples = importance.and_then(|importance| importance.importance_samples);
        let penalties = [
            (self.free_bits.is_some(), "--free-bits"),
            (self.capacity.is_some(), "--capacity"),
            (self.total_correlation, "--total-correlation"),
            (samples.is_some(), "--importance-samples"),
        ];
        let chosen: Vec<_> =
            penalties.iter().filter(|(given, _)| *given).map(|(_, o)| *o).collect();
        if let [first, second, ..] = chosen[..] {
            return Err(Failure::Usage(format!(
                "{first} and {second}: each stands in the place of beta × KL; choose one"
            )));
        }
        let penalty = match (samples, importance) {
            (Some(samples), Some(importance)) => {
                let estimator = match importance.estimator {
                    None | Some(EstimatorName::Iwae) => Estimator::Iwae,
                    Some(EstimatorName::Dreg) => Estimator::Dreg,
                };
                Penalty::Importance { samples, estimator }
            }
            _ => Penalty::Kl,
        };
        let estimator = importance.is_some_and(|importance| importance.estimator.is_some());
        needs(estimator && samples.is_none(), "--estimator", "--importance-samples")?;
        let reduction = match importance.map(|importance| importance.reduction) {
            None | Some(ReductionName::BatchMean) => Reduction::BatchMean,
            Some(ReductionName::Sum) => Reduction::Sum,
            Some(ReductionName::Mean) => Reduction::Mean,
        };
        let objective = Objective {
            beta: self.beta,
            annealing: self.annealing()?,
            penalty: self.penalty()?.unwrap_or(penalty),
            reduction,
        };
        objective.validate().map_err(|error| {
            let gamma = if self.capacity.is_some() { "--capacity-gamma" } else { "--tc-gamma" };
            option_for(&[("gamma", gamma), ("alpha", "--tc-alpha")], error)
        })?;
        Ok(objective)
    }

    /// An objective of [`Self::objective`] whose spans, where nobody gave them, are so many steps of
    /// the run: a weight that grows by epochs would stand still for the length of one.
    pub fn by_steps(&self, mut objective: Objective, steps: u64) -> Objective {
        let (half, whole) = (Span::Steps(steps.div_ceil(2)), Span::Steps(steps));
        if self.anneal_over.is_none() {
            match &mut objective.annealing {
                Annealing::Linear { over, .. } | Annealing::Cosine { over, .. } => *over = half,
                Annealing::Cyclical { over, .. } => *over = whole,
                Annealing::Constant => {}
            }
        }
        if let (None, Penalty::Capacity { over, .. }) = (self.capacity_over, &mut objective.penalty)
        {
            *over = half;
        }
        objective
    }

    fn annealing(&self) -> Result<Annealing> {
        let (over, from) = (self.anneal_over.is_some(), self.anneal_from.is_some());
        let (cycles, ratio) = (self.cycles.is_some(), self.cycle_ratio.is_some());
        let Some(shape) = self.anneal else {
            for (given, option) in [(over, "--anneal-over"), (from, "--anneal-from")] {
                needs(given, option, "--anneal")?;
            }
            for (given, option) in [(cycles, "--cycles"), (ratio, "--cycle-ratio")] {
                needs(given, option, "--anneal cyclical")?;
            }
            return Ok(Annealing::Constant);
        };
        let from = self.anneal_from.unwrap_or(0.0);
        let half = self.anneal_over.unwrap_or(Span::Epochs(u64::MAX));
        if shape == AnnealName::Cyclical {
            let grows = "--anneal linear and cosine";
            only_with(self.anneal_from.is_some(), "--anneal-from", grows, "cyclical")?;
            return Ok(Annealing::Cyclical {
                cycles: self.cycles.unwrap_or(4) as u32,
                ratio: self.cycle_ratio.unwrap_or(0.5),
                over: half,
            });
        }
        let here = if shape == AnnealName::Linear { "linear" } else { "cosine" };
        only_with(cycles, "--cycles", "--anneal cyclical", here)?;
        only_with(ratio, "--cycle-ratio", "--anneal cyclical", here)?;
        Ok(match shape {
            AnnealName::Linear => Annealing::Linear { from, over: half },
            _ => Annealing::Cosine { from, over: half },
        })
    }

    /// What stands in the place of the KL divergence, if one of these options says so.
    fn penalty(&self) -> Result<Option<Penalty>> {
        let no_bits = self.free_bits.is_none();
        needs(no_bits && self.free_bits_per.is_some(), "--free-bits-per", "--free-bits")?;
        for (given, option) in [
            (self.capacity_gamma.is_some(), "--capacity-gamma"),
            (self.capacity_over.is_some(), "--capacity-over"),
            (self.capacity_per.is_some(), "--capacity-per"),
        ] {
            needs(given && self.capacity.is_none(), option, "--capacity")?;
        }
        for (given, option) in
            [(self.tc_alpha.is_some(), "--tc-alpha"), (self.tc_gamma.is_some(), "--tc-gamma")]
        {
            needs(given && !self.total_correlation, option, "--total-correlation")?;
        }
        if let Some(lambda) = self.free_bits {
            let per = match self.free_bits_per {
                Some(FreeBitsName::Element) => FreeBitsPer::Element,
                None | Some(FreeBitsName::Dimension) => FreeBitsPer::Dimension,
                Some(FreeBitsName::Sample) => FreeBitsPer::Sample,
            };
            return Ok(Some(Penalty::FreeBits { lambda, per }));
        }
        if let Some(capacity) = self.capacity {
            let per = match self.capacity_per {
                None | Some(CapacityName::Batch) => CapacityPer::Batch,
                Some(CapacityName::Sample) => CapacityPer::Sample,
            };
            return Ok(Some(Penalty::Capacity {
                gamma: self.capacity_gamma.unwrap_or(10.0),
                capacity,
                over: self.capacity_over.unwrap_or(Span::Epochs(u64::MAX)),
                per,
            }));
        }
        Ok(self.total_correlation.then(|| Penalty::TotalCorrelation {
            alpha: self.tc_alpha.unwrap_or(1.0),
            gamma: self.tc_gamma.unwrap_or(1.0),
        }))
    }
}
