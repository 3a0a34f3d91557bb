//! Options for what training minimizes, beyond the KL term that an evaluation has too.

use crate::failure::Result;
use crate::options::objective::KlOptions;
use crate::options::values::{count, not_negative, ratio, span};
use clap::{Args, ValueEnum};
use elbo::loss::Reduction;
use elbo::loss::importance::Estimator;
use elbo::optim::Span;
use elbo::vae::{Annealing, Objective, Penalty};

#[derive(Debug, Args)]
#[command(next_help_heading = "Objective")]
pub struct ObjectiveOptions {
    #[command(flatten)]
    kl: KlOptions,

    /// Span over which --capacity grows [default: half of the run]
    ///
    /// Such as 10epochs or 2000steps; a bare number counts epochs.
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    capacity_over: Option<Span>,

    /// Increase beta during training: linear, cosine or cyclical
    ///
    /// cyclical starts again from 0 several times [default: constant].
    #[arg(long, value_name = "SHAPE", value_enum, hide_possible_values = true)]
    anneal: Option<AnnealName>,

    /// Span over which beta increases [default: half of the run]
    ///
    /// Such as 10epochs or 2000steps; a bare number counts epochs [default with cyclical: the whole run].
    #[arg(long, value_name = "SPAN", value_parser = span, allow_negative_numbers = true)]
    anneal_over: Option<Span>,

    /// Initial beta (linear and cosine annealing) [default: 0]
    #[arg(long, value_name = "WEIGHT", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    anneal_from: Option<f32>,

    /// Number of annealing cycles (cyclical annealing) [default: 4]
    #[arg(long, value_name = "N", value_parser = count(1_000_000), allow_negative_numbers = true)]
    cycles: Option<usize>,

    /// Share of a cycle in which beta increases, up to 1 [default: 0.5]
    #[arg(long, value_name = "R", value_parser = ratio, allow_negative_numbers = true)]
    cycle_ratio: Option<f32>,

    /// Train the importance-weighted bound of K samples (IWAE)
    ///
    /// Burda et al. 2016 [default: the ELBO, one sample].
    #[arg(long, value_name = "K", value_parser = count(1 << 16), allow_negative_numbers = true)]
    importance_samples: Option<usize>,

    /// Gradient estimator of the bound: iwae or dreg [default: iwae]
    ///
    /// dreg is the doubly reparameterized estimator, which has less noise (Tucker et al. 2019).
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    estimator: Option<EstimatorName>,

    /// Reduce a batch by batch-mean, sum or mean
    ///
    /// batch-mean: per example; mean: each term over its own elements, so that beta weighs D/Z times as
    /// much. The losses shown are per example in any case.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = ReductionName::BatchMean,
          hide_possible_values = true)]
    reduction: ReductionName,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum AnnealName {
    Linear,
    Cosine,
    Cyclical,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum EstimatorName {
    Iwae,
    Dreg,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum ReductionName {
    BatchMean,
    Sum,
    Mean,
}

impl ObjectiveOptions {
    /// Returns the objective; spans that were not given have no end yet ([`Self::by_steps`]).
    pub fn objective(&self) -> Result<Objective> {
        let endless = Span::Epochs(u64::MAX);
        let over = self.anneal_over.unwrap_or(endless);
        let from = self.anneal_from.unwrap_or(0.0);
        let annealing = match self.anneal {
            None => Annealing::Constant,
            Some(AnnealName::Linear) => Annealing::Linear { from, over },
            Some(AnnealName::Cosine) => Annealing::Cosine { from, over },
            Some(AnnealName::Cyclical) => Annealing::Cyclical {
                cycles: self.cycles.unwrap_or(4) as u32,
                ratio: self.cycle_ratio.unwrap_or(0.5),
                over,
            },
        };
        let reduction = match self.reduction {
            ReductionName::BatchMean => Reduction::BatchMean,
            ReductionName::Sum => Reduction::Sum,
            ReductionName::Mean => Reduction::Mean,
        };
        self.kl.objective(|objective| {
            objective.annealing = annealing;
            objective.reduction = reduction;
            if let Some(samples) = self.importance_samples {
                let estimator = match self.estimator {
                    None | Some(EstimatorName::Iwae) => Estimator::Iwae,
                    Some(EstimatorName::Dreg) => Estimator::Dreg,
                };
                objective.penalty = Penalty::Importance { samples, estimator };
            }
            if let Penalty::Capacity { over, .. } = &mut objective.penalty {
                *over = self.capacity_over.unwrap_or(endless);
            }
        })
    }

    /// Returns the options that make the objective depend on the number of epochs.
    pub fn bound_to_epochs(&self) -> Option<&'static str> {
        if self.anneal.is_some() && self.anneal_over.is_none() {
            return Some("--anneal without --anneal-over");
        }
        (self.kl.capacity.is_some() && self.capacity_over.is_none())
            .then_some("--capacity without --capacity-over")
    }

    /// Sets the spans that were not given in steps of the run: a weight that grows by epochs would stand
    /// still for the length of one.
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
}
