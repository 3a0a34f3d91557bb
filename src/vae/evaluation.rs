//! The loss of a whole data set, and what the latent dimensions carry.

use super::block::{Batch, Block, Noise, Selection};
use super::workspace::{Sums, Workspace};
use super::{Objective, Vae};
use crate::compute::Compute;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::loss::Elbo;
use crate::loss::kl;
use crate::random::Stream;

/// Rows whose loss is summed at a time. Fixed: the order of the sums is part of the result.
const CHUNK: usize = 256;

/// A latent dimension is active if its mean varies by more than this over the data (Burda et
/// al. 2016, §5.1, who call it A_u).
const ACTIVE_VARIANCE: f64 = 0.01;

/// How a model does on a data set, in nats per example, whatever the objective's reduction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Rows evaluated.
    pub rows: usize,
    /// Reconstruction + β·KL: for β = 1 the negative evidence lower bound.
    pub loss: f64,
    /// The reconstruction term, of one draw of the noise for each row.
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

    fn add(&mut self, compute: &Compute, block: &Block) -> Result<()> {
        let latent = self.kl.len();
        for i in 0..block.rows {
            let (mu, logvar) = block.heads.row(i).split_at(latent);
            kl::per_dimension(compute.simd(), &mut self.terms, mu, logvar)?;
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
    /// The loss of all rows of a data set under this objective's β, each row with one draw of
    /// noise that is a function of the seed and the row's number.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows do not have D columns, [`Error::Config`] if there are none,
    /// and what the likelihood does not accept ([`Error::TargetOutOfRange`],
    /// [`Error::NotFiniteData`]) or cannot express ([`Error::NotFiniteLoss`]).
    pub fn evaluate(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        objective: &Objective,
        seed: u64,
    ) -> Result<Evaluation> {
        objective.validate()?;
        self.check_data(data)?;
        let rows = data.row_count();
        let noise = Noise::Counter { seed, stream: Stream::Evaluate, step: 0 };
        let mut workspace = Workspace::new(self.parameters.layout().clone());
        let mut dimensions = Dimensions::new(self.config.latent());
        let mut total = Sums::default();
        for first in (0..rows).step_by(CHUNK) {
            let selection = Selection::From(first, CHUNK.min(rows - first));
            let batch = Batch { data, selection, noise };
            let sums = workspace.forward(compute, &self.parameters, &batch)?;
            total.reconstruction += sums.reconstruction;
            total.kl += sums.kl;
            for block in workspace.blocks() {
                dimensions.add(compute, block)?;
            }
        }
        let per_example = Objective { beta: objective.beta, ..Objective::default() };
        let Elbo { loss, reconstruction, kl, .. } = per_example.reduce(&self.config, rows, total);
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

    /// Fails unless there are rows and they have this model's width.
    pub(crate) fn check_data(&self, data: &dyn Dataset) -> Result<()> {
        if data.features() != self.config.features() {
            let found = [data.row_count(), data.features()];
            return Err(Error::shape("data", [data.row_count(), self.config.features()], &found));
        }
        if data.row_count() == 0 {
            return Err(Error::config("data", "at least one row", 0));
        }
        Ok(())
    }
}
