//! The marginal likelihood of data under a model, by importance sampling.

use super::step::block::{Batch, Block, Draws, Noise, Pass, Selection};
use super::{EvaluationOptions, Objective, Vae};
use crate::compute::Compute;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use std::sync::{Mutex, PoisonError};

/// Samples of a row that go through the decoder at a time. Fixed: the order of the sums is part of
/// the result.
const CHUNK: usize = 64;

/// The marginal log-likelihood of a data set, estimated from K samples of each row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MarginalLikelihood {
    /// Rows evaluated.
    pub rows: usize,
    /// K.
    pub samples: usize,
    /// The mean over rows of `ln 1/K Σ_k p(x, z_k)/q(z_k|x)`, in nats per example: a lower bound of
    /// `ln p(x)` in expectation, which comes the nearer the more samples there are.
    pub log_likelihood: f64,
    /// The standard error of that mean over the rows: how far the mean of another set of as many
    /// examples would lie.
    pub standard_error: f64,
    /// Each row's estimate, in nats.
    pub of_rows: Vec<f64>,
}

impl Vae {
    /// Estimates `ln p(x)` of each row by the importance-weighted bound with `samples` samples
    /// (Burda et al. 2016; 5,000 in their tables).
    ///
    /// Samples go through the decoder in blocks of 64, so memory does not grow with their number.
    /// Sample s of a row is a function of the seed, the row, s and K. Without dropout; the
    /// objective of the options plays no part.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; [`Error::Config`] for 0 samples, more than 2²⁴ of them, a
    /// batch-optimal variance, under which an example alone has no likelihood, or a likelihood that
    /// is not normalized: squared error, weighted Bernoulli.
    pub fn marginal_log_likelihood(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        samples: usize,
        options: &EvaluationOptions,
    ) -> Result<MarginalLikelihood> {
        self.check_data(data)?;
        if !(1..=1 << 24).contains(&samples) {
            return Err(Error::config("samples", "from 1 to 16777216", samples));
        }
        if self.config.has_optimal_variance() {
            let expected = "a fixed or learned one for a marginal likelihood: the optimal one is \
                            that of a batch, and an example alone has no likelihood under it";
            return Err(Error::config("variance", expected, "optimal"));
        }
        let likelihood = self.config.likelihood();
        if !likelihood.is_normalized() {
            let expected = "one that is normalized for a marginal likelihood (the squared error is a \
                            Gaussian of variance 0.5 without its constant)";
            return Err(Error::config("likelihood", expected, likelihood.name()));
        }
        let rows = data.row_count();
        let terms = Objective::default().at_the_end();
        let at_once = samples.min(CHUNK);
        let layout = self.parameters.layout();
        let rooms: Vec<Mutex<Block>> = (0..compute.threads())
            .map(|_| Mutex::new(Block::new(&self.config, layout, 1, at_once)))
            .collect();
        let draws: Draws = options.draws();
        let mut results: Vec<Result<f64>> = (0..rows).map(|_| Ok(0.0)).collect();
        compute.for_each_mut(&mut results, |row, result| {
            let batch = Batch {
                data,
                selection: Selection::From(row, 1),
                noise: Noise::Counter,
                draws,
                augmentation: options.augmentation,
            };
            let pass = Pass {
                config: &self.config,
                weights: &self.parameters,
                batch: &batch,
                terms,
                scales: terms.scales(&self.config, 1),
            };
            let room = &rooms[compute.thread_index()];
            let mut block = room.lock().unwrap_or_else(PoisonError::into_inner);
            block.gather(&batch, 0, 1);
            *result = block.log_likelihood(compute.simd(), &pass, samples, at_once);
        });
        let of_rows = results.into_iter().collect::<Result<Vec<f64>>>()?;
        if let Some(row) = of_rows.iter().position(|value| !value.is_finite()) {
            let (term, value) = ("marginal likelihood", of_rows[row]);
            return Err(Error::NotFiniteLoss { term, row, value, step: None });
        }
        let n = rows as f64;
        let mean = of_rows.iter().sum::<f64>() / n;
        let squares: f64 = of_rows.iter().map(|value| (value - mean) * (value - mean)).sum();
        let standard_error = if rows > 1 { (squares / (n - 1.0) / n).sqrt() } else { f64::NAN };
        Ok(MarginalLikelihood { rows, samples, log_likelihood: mean, standard_error, of_rows })
    }
}
