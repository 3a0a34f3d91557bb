//! The loss of a whole data set, and what the latent dimensions carry.

use super::block::{Batch, Block, Draws, Noise, Pass, Purpose, Selection};
use super::terms::{Sums, Terms};
use super::workspace::Workspace;
use super::{Objective, Vae};
use crate::augmentation::Augmentation;
use crate::compute::Compute;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::loss::total_correlation::TotalCorrelation;
use crate::loss::{Decomposition, Elbo, gaussian, kl};

/// Rows whose loss is summed at a time. Fixed: the order of the sums is part of the result.
const CHUNK: usize = 256;

/// A latent dimension is active if its mean varies by more than this over the data (Burda et
/// al. 2016, §5.1, who call it A_u).
const ACTIVE_VARIANCE: f64 = 0.01;

/// A latent dimension has collapsed onto the prior if it carries less than this, in nats.
const COLLAPSED_KL: f64 = 0.01;

/// How to evaluate: data with defaults.
///
/// ```
/// use elbo::{Augmentation, vae::EvaluationOptions};
///
/// let binarised = EvaluationOptions {
///     augmentation: Augmentation::Binarise,
///     ..EvaluationOptions::default()
/// };
/// assert_eq!(binarised.seed, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationOptions {
    /// What [`Evaluation::loss`] is; default the negative evidence lower bound. An annealed weight
    /// or capacity counts with its last value; what a whole batch determines is that of 256 rows.
    pub objective: Objective,
    /// What is done to the data first, the same at every call; default nothing.
    pub augmentation: Augmentation,
    /// The seed of the noise and of the augmentation: a function of the seed and the row's number;
    /// default 1.
    pub seed: u64,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self { objective: Objective::default(), augmentation: Augmentation::None, seed: 1 }
    }
}

impl EvaluationOptions {
    pub(super) fn draws(&self) -> Draws {
        Draws { seed: self.seed, step: 0, purpose: Purpose::Evaluation }
    }
}

/// How a model does on a data set, in nats per example, whatever the objective's reduction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Rows evaluated.
    pub rows: usize,
    /// What the objective makes of reconstruction and divergence: by default their sum, the
    /// negative evidence lower bound.
    pub loss: f64,
    /// The reconstruction term, of one draw of the noise for each row (of k, with importance
    /// weighting: their mean).
    pub reconstruction: f64,
    /// The KL divergence from the prior.
    pub kl: f64,
    /// The KL divergence of each latent dimension.
    pub kl_per_dimension: Vec<f64>,
    /// The variance over the data of each latent dimension's mean.
    pub mu_variance: Vec<f64>,
}

impl Evaluation {
    /// Latent dimensions whose mean varies over the data by more than 0.01 (Burda et al. 2016).
    #[must_use]
    pub fn active_units(&self) -> usize {
        self.mu_variance.iter().filter(|&&variance| variance > ACTIVE_VARIANCE).count()
    }

    /// Latent dimensions that carry less than 0.01 nats: their posterior has collapsed onto the
    /// prior, whatever the example.
    #[must_use]
    pub fn collapsed_units(&self) -> usize {
        self.kl_per_dimension.iter().filter(|&&kl| kl < COLLAPSED_KL).count()
    }
}

/// Sums over rows for each latent dimension, in f64 and in row order.
struct Dimensions {
    kl: Vec<f64>,
    mu: Vec<f64>,
    mu_squared: Vec<f64>,
    /// One row's terms.
    terms: Vec<f32>,
}

impl Dimensions {
    fn new(latent: usize) -> Self {
        let zeros = vec![0.0; latent];
        Self { kl: zeros.clone(), mu: zeros.clone(), mu_squared: zeros, terms: vec![0.0; latent] }
    }

    fn add(&mut self, compute: &Compute, block: &Block, prior: kl::Prior) -> Result<()> {
        let latent = self.kl.len();
        for i in 0..block.rows {
            let (mu, logvar) = block.heads.row(i).split_at(latent);
            kl::per_dimension_prior(compute.simd(), &mut self.terms, mu, logvar, prior)?;
            for (j, mean) in mu.iter().copied().map(f64::from).enumerate() {
                self.kl[j] += f64::from(self.terms[j]);
                self.mu[j] += mean;
                self.mu_squared[j] += mean * mean;
            }
        }
        Ok(())
    }
}

impl Vae {
    /// The loss of all rows of a data set, each row with draws of noise that are a function of the
    /// seed and the row's number. Without dropout.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows do not have D columns or their conditions are not C wide,
    /// [`Error::Config`] if there are none or the objective makes no sense, and what the likelihood
    /// does not accept ([`Error::TargetOutOfRange`], [`Error::NotFiniteData`]) or cannot express
    /// ([`Error::NotFiniteLoss`], [`Error::LogvarOverflow`]).
    pub fn evaluate(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        options: &EvaluationOptions,
    ) -> Result<Evaluation> {
        options.objective.validate_for(&self.config)?;
        let rows = data.row_count();
        let terms = options.objective.at_the_end().per_example();
        let mut dimensions = Dimensions::new(self.config.latent());
        let mut total = Sums::default();
        let prior = self.config.prior();
        self.by_chunks(compute, data, options, terms, rows, |workspace, pass| {
            total += workspace.forward(compute, pass)?;
            let mut blocks = workspace.blocks().iter();
            blocks.try_for_each(|block| dimensions.add(compute, block, prior))
        })?;
        if self.config.has_optimal_variance() {
            let elements = rows as f64 * self.config.features() as f64;
            (_, total.reconstruction) = gaussian::optimal(total.squares, elements);
        }
        let Elbo { loss, reconstruction, kl, .. } = terms.reduce(&self.config, rows, total);
        let n = rows as f64;
        let variance = |(sum, squares): (&f64, &f64)| (squares - sum * sum / n).max(0.0) / n;
        Ok(Evaluation {
            rows,
            loss,
            reconstruction,
            kl,
            kl_per_dimension: dimensions.kl.iter().map(|sum| sum / n).collect(),
            mu_variance: dimensions.mu.iter().zip(&dimensions.mu_squared).map(variance).collect(),
        })
    }

    /// The KL divergence taken apart: how much of it is the mutual information of data and code,
    /// how much the dependence of latent dimensions on each other, how much their distance from the
    /// prior (Hoffman & Johnson 2016, Chen et al. 2018).
    ///
    /// Estimated from one code of each of the first 10,000 rows at most, with the mixture of these
    /// rows' posteriors for q(z). The mutual information so found is at most the logarithm of their
    /// number.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn decompose(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        options: &EvaluationOptions,
    ) -> Result<Decomposition> {
        const MOST_ROWS: usize = 10_000;
        let rows = data.row_count().min(MOST_ROWS);
        let latent = self.config.latent();
        let terms = Objective::default().at_the_end();
        let mut codes = TotalCorrelation::default();
        codes.reserve(rows, latent);
        let mut at = 0;
        self.by_chunks(compute, data, options, terms, rows, |workspace, pass| {
            workspace.encode(compute, pass)?;
            for block in workspace.blocks() {
                for i in 0..block.rows {
                    let (mu, logvar) = block.heads.row(i).split_at(latent);
                    let z = block.codes(i).next().expect("one sample");
                    codes.set_row(at, z, mu, logvar);
                    at += 1;
                }
            }
            Ok(())
        })?;
        Ok(codes.forward(compute, (rows as f64).ln(), self.config.prior()))
    }

    /// Calls `work` for the first `rows` rows, [`CHUNK`] of them at a time.
    fn by_chunks(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        options: &EvaluationOptions,
        terms: Terms,
        rows: usize,
        mut work: impl FnMut(&mut Workspace, &Pass<'_, '_>) -> Result<()> + Send,
    ) -> Result<()> {
        self.check_data(data)?;
        let mut workspace = Workspace::new(&self.config, self.parameters.layout().clone());
        compute.install(|| {
            (0..rows).step_by(CHUNK).try_for_each(|first| {
                let count = CHUNK.min(rows - first);
                let batch = Batch {
                    data,
                    selection: Selection::From(first, count),
                    noise: Noise::Counter,
                    draws: options.draws(),
                    augmentation: options.augmentation,
                };
                let pass = Pass {
                    config: &self.config,
                    weights: &self.parameters,
                    batch: &batch,
                    terms,
                    scales: terms.scales(&self.config, count),
                };
                work(&mut workspace, &pass)
            })
        })
    }

    /// Fails unless there are rows and they have this model's width, and conditions if it wants
    /// some.
    pub(crate) fn check_data(&self, data: &dyn Dataset) -> Result<()> {
        if data.features() != self.config.features() {
            let found = [data.row_count(), data.features()];
            return Err(Error::shape("data", [data.row_count(), self.config.features()], &found));
        }
        if data.row_count() == 0 {
            return Err(Error::config("data", "at least one row", 0));
        }
        if data.conditions() != self.config.conditions() {
            let expected = match self.config.conditions() {
                0 => "data without conditions, as the model has none".to_owned(),
                width => format!("data with {width} conditions a row, as the model has them"),
            };
            let found = data.conditions().to_string();
            return Err(Error::Shape { argument: "data", expected, found });
        }
        Ok(())
    }
}
