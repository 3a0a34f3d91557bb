//! Options for the weight and the form of the KL term, in training and in evaluation.

use super::values::not_negative;
use crate::failure::{Result, option_for};
use clap::{Args, ValueEnum};
use elbo::loss::{CapacityPer, FreeBitsPer};
use elbo::optim::Span;
use elbo::vae::{Objective, Penalty};

#[derive(Debug, Args)]
#[command(next_help_heading = "Objective")]
pub struct KlOptions {
    /// Weight of the KL divergence [default: 1]
    ///
    /// loss = reconstruction + beta × KL
    #[arg(long, value_name = "WEIGHT", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    pub beta: Option<f32>,

    /// Nats of KL divergence that cost nothing (free bits)
    ///
    /// Per element, dimension or sample, by --free-bits-per (Kingma et al. 2016).
    #[arg(long, value_name = "NATS", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    pub free_bits: Option<f32>,

    /// Free bits per element, dimension or sample [default: dimension]
    ///
    /// element: each dimension of each example; dimension: its mean over the batch; sample: the sum over the
    /// dimensions of each example.
    #[arg(long, value_name = "UNIT", value_enum, hide_possible_values = true)]
    pub free_bits_per: Option<FreeBitsName>,

    /// Hold the KL divergence to a capacity of NATS per example
    ///
    /// loss = reconstruction + gamma × |KL - capacity|. In training the capacity grows linearly from 0
    /// (Burgess et al. 2018).
    #[arg(long, value_name = "NATS", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    pub capacity: Option<f32>,

    /// Weight of the distance from --capacity [default: 10]
    ///
    /// In place of beta.
    #[arg(long, value_name = "WEIGHT", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    pub capacity_gamma: Option<f32>,

    /// Hold the batch mean or each sample to it [default: batch]
    #[arg(long, value_name = "UNIT", value_enum, hide_possible_values = true)]
    pub capacity_per: Option<CapacityName>,

    /// Weigh the parts of the KL divergence separately (beta-TCVAE)
    ///
    /// loss = reconstruction + alpha × mutual information + beta × total correlation + gamma ×
    /// dimension-wise KL (Chen et al. 2018)
    #[arg(long)]
    pub total_correlation: bool,

    /// Weight of the mutual information (beta-TCVAE) [default: 1]
    #[arg(long, value_name = "WEIGHT", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    pub tc_alpha: Option<f32>,

    /// Weight of the dimension-wise KL (beta-TCVAE) [default: 1]
    #[arg(long, value_name = "WEIGHT", value_parser = not_negative::<f32>,
          allow_negative_numbers = true)]
    pub tc_gamma: Option<f32>,
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

impl KlOptions {
    /// Returns whether an objective was given.
    pub fn is_given(&self) -> bool {
        self.beta.is_some() || self.penalty().is_some()
    }

    /// Returns the objective of these options with the changes that `change` makes.
    pub fn objective(&self, change: impl FnOnce(&mut Objective)) -> Result<Objective> {
        let mut objective = Objective {
            beta: self.beta.unwrap_or(1.0),
            penalty: self.penalty().unwrap_or_default(),
            ..Objective::default()
        };
        change(&mut objective);
        objective.validate().map_err(|error| {
            let gamma = if self.capacity.is_some() { "--capacity-gamma" } else { "--tc-gamma" };
            option_for(&[("gamma", gamma), ("alpha", "--tc-alpha")], error)
        })?;
        Ok(objective)
    }

    /// The term in place of the KL divergence; a capacity that is reached at once.
    fn penalty(&self) -> Option<Penalty> {
        if let Some(lambda) = self.free_bits {
            let per = match self.free_bits_per {
                Some(FreeBitsName::Element) => FreeBitsPer::Element,
                None | Some(FreeBitsName::Dimension) => FreeBitsPer::Dimension,
                Some(FreeBitsName::Sample) => FreeBitsPer::Sample,
            };
            return Some(Penalty::FreeBits { lambda, per });
        }
        if let Some(capacity) = self.capacity {
            let per = match self.capacity_per {
                None | Some(CapacityName::Batch) => CapacityPer::Batch,
                Some(CapacityName::Sample) => CapacityPer::Sample,
            };
            let gamma = self.capacity_gamma.unwrap_or(10.0);
            return Some(Penalty::Capacity { gamma, capacity, over: Span::Epochs(u64::MAX), per });
        }
        self.total_correlation.then(|| Penalty::TotalCorrelation {
            alpha: self.tc_alpha.unwrap_or(1.0),
            gamma: self.tc_gamma.unwrap_or(1.0),
        })
    }
}
