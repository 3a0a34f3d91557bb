//! Training options.

use super::shards::MOST_SHARDS;
use crate::dataset::Augmentation;
use crate::error::{Error, Result};
use crate::optim::{Clip, LearningRateSchedule, Optimizer};
use crate::vae::{Config, Objective, Penalty};

/// Training options, with defaults; [`Trainer::new`](super::Trainer::new) checks them.
///
/// ```
/// use elbo::{optim::AdamW, train::Options, vae::Objective};
///
/// let options = Options {
///     batch: 256,
///     optimizer: AdamW { learning_rate: 3e-4, ..AdamW::default() }.into(),
///     objective: Objective { beta: 4.0, ..Objective::default() },
///     ..Options::default()
/// };
/// assert!(options.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub struct Options {
    /// Rows of a batch; default 128. The last batch of an epoch may be shorter.
    pub batch: usize,
    /// The training objective; default the negative evidence lower bound per example.
    pub objective: Objective,
    /// The optimizer; default [`Adam`](crate::optim::Adam).
    #[cfg_attr(feature = "safetensors", serde(rename = "optimiser", alias = "optimizer"))]
    pub optimizer: Optimizer,
    /// The seed of the order of the rows and of the noise; default 1.
    pub seed: u64,
    /// Batches whose gradients are added up for one step; default 1. Loss and weights have the bits of
    /// one batch of all their rows, unless the objective or the likelihood depends on a whole batch (free
    /// bits per dimension, capacity of the batch, total correlation, optimal variance): it then sees each
    /// of them alone.
    #[cfg_attr(feature = "safetensors", serde(default = "one"))]
    pub accumulate: usize,
    /// Shards of a batch, a power of two up to 1024; default 1. The gradient of a batch is the sum of those of its
    /// shards by a [fixed tree](crate::distributed), so that ranks that divide them give the same bits. With more than
    /// one, [`accumulate`](Self::accumulate) only bounds the rows that are in memory at a time.
    #[cfg_attr(feature = "safetensors", serde(default = "one", skip_serializing_if = "is_one"))]
    pub shards: usize,
    /// Clipping of the gradient; default none.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub clip: Option<Clip>,
    /// Schedule of the learning rate; default constant.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub schedule: LearningRateSchedule,
    /// Augmentation of the data, drawn anew each time a row is seen; default none.
    #[cfg_attr(feature = "safetensors", serde(default))]
    pub augmentation: Augmentation,
}

#[cfg(feature = "safetensors")]
fn one() -> usize {
    1
}

/// A checkpoint without shards is that of versions before there were any.
#[cfg(feature = "safetensors")]
fn is_one(shards: &usize) -> bool {
    *shards == 1
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 128,
            objective: Objective::default(),
            optimizer: Optimizer::default(),
            seed: 1,
            accumulate: 1,
            shards: 1,
            clip: None,
            schedule: LearningRateSchedule::default(),
            augmentation: Augmentation::None,
        }
    }
}

impl Options {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Config`] for a batch of 0 rows, a setting outside its domain, or an invalid objective.
    pub fn validate(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::config("batch", "at least 1", self.batch));
        }
        if self.accumulate == 0 {
            return Err(Error::config("accumulate", "at least 1", self.accumulate));
        }
        if !self.shards.is_power_of_two() || self.shards > MOST_SHARDS {
            return Err(Error::config("shards", "a power of two from 1 to 1024", self.shards));
        }
        if self.batch == 1 && matches!(self.objective.penalty, Penalty::TotalCorrelation { .. }) {
            let expected =
                "at least 2 rows with total correlation, which compares the rows of a batch";
            return Err(Error::config("batch", expected, self.batch));
        }
        self.objective.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate()?;
        self.augmentation.validate()?;
        self.clip.as_ref().map_or(Ok(()), Clip::validate)
    }

    /// Checks the options, and that they fit a model.
    ///
    /// # Errors
    /// As [`Self::validate`]; also for an objective that the likelihood does not allow, and for an
    /// augmentation whose result the likelihood does not describe: binarized data under a density, or
    /// dequantized data under a Bernoulli likelihood.
    pub fn validate_for(&self, config: &Config) -> Result<()> {
        self.validate()?;
        self.objective.validate_for(config)?;
        self.validate_shards(config, "shards", self.shards)?;
        config.likelihood().validate_augmentation(self.augmentation)
    }

    /// Checks that a batch can be cut into `found` parts, which the `setting` asks for.
    fn validate_shards(&self, config: &Config, setting: &'static str, found: usize) -> Result<()> {
        let penalty = self.objective.at(0, 0).penalty;
        let coupled = penalty.is_coupled() || config.has_optimal_variance();
        let expected = if matches!(self.objective.penalty, Penalty::TotalCorrelation { .. }) {
            "1 with total correlation, which compares all rows of a batch with one another"
        } else if coupled && self.accumulate > 1 {
            "1 with gradient accumulation and an objective or a variance that depends on the whole batch"
        } else {
            return Ok(());
        };
        if found > 1 { Err(Error::config(setting, expected, found)) } else { Ok(()) }
    }

    /// Checks that so many ranks can train together with these options.
    pub(super) fn validate_ranks(&self, config: &Config, ranks: usize) -> Result<()> {
        if self.shards > 1 && !self.shards.is_multiple_of(ranks) {
            let divisors = (0..=self.shards.ilog2()).map(|power| 1 << power).collect::<Vec<u32>>();
            let (last, others) = divisors.split_last().expect("1 divides every number");
            let others: Vec<String> = others.iter().map(u32::to_string).collect();
            let expected = "a number that divides the shards";
            let shards = self.shards;
            let would_do = format!("{} or {last}", others.join(", "));
            let found = format!("{ranks}; with {shards} shards, {would_do} would do");
            return Err(Error::config("ranks", expected, found));
        }
        self.validate_shards(config, "ranks", ranks)
    }
}
