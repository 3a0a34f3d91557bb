//! Evaluation on a whole data set: loss, latent dimensions, scores of rows, marginal likelihood.

use super::dimensions::DimensionSums;
use super::likelihood::{Likelihood, Variance};
use super::step::Workspace;
use super::step::batch::{Batch, Indices, Noise, NoiseKey, Pass, Purpose};
use super::step::block::Block;
use super::step::coupling::reserve_pairs;
use super::step::terms::{LossSums, StepObjective};
use super::{Config, Objective, Penalty, Vae};
use crate::compute::Compute;
use crate::dataset::{Augmentation, Dataset};
use crate::error::{Error, Result, expect_shape};
use crate::loss::gaussian::row_from_squares;
use crate::loss::total_correlation::{TotalCorrelation, ln_weight};
use crate::loss::{
    Bernoulli, ContinuousBernoulli, Decomposition, Elbo, Gaussian, LossTerm, ReconstructionInputs,
    SigmoidProbabilities, SquaredError, TanhSquaredError, WeightedBernoulli, gaussian,
};
use crate::math::scalar;
use crate::random::INDEX_LIMIT;
use crate::simd::environment::FloatEnvironment;
use ndarray::{Array2, s};
use std::slice;
use std::sync::{Mutex, PoisonError};

/// Rows whose loss is summed at a time. Fixed, since the order of the sums is part of the result.
const CHUNK: usize = 256;

/// Samples of a row that go through the decoder at a time. Fixed, since the order of the sums is part
/// of the result.
const SAMPLES_AT_ONCE: usize = 64;

/// Variance of a latent dimension's mean over the data above which the dimension is active (Burda
/// et al. 2016, §5.1, who call it A_u).
pub const ACTIVE_VARIANCE: f64 = 0.01;

/// KL divergence of a latent dimension, in nats, below which it has collapsed onto the prior.
pub const COLLAPSED_KL: f64 = 0.01;

/// Evaluation options, with defaults.
///
/// ```
/// use elbo::{Augmentation, vae::EvaluationOptions};
///
/// let binarized = EvaluationOptions {
///     augmentation: Augmentation::Binarize,
///     ..EvaluationOptions::default()
/// };
/// assert_eq!(binarized.seed, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationOptions {
    /// The objective of [`Evaluation::loss`]; default the negative evidence lower bound. An annealed
    /// weight or capacity has its last value; a penalty that depends on a whole batch is the mean over
    /// batches of equal size (to one row) of at most 256 rows.
    pub objective: Objective,
    /// Augmentation of the data, the same at every call; default none.
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
    /// Checks the options, and that they fit a model, as [`Options::validate_for`](crate::train::Options)
    /// does before training. Every evaluation calls it.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid objective, one that the likelihood does not allow, or an
    /// augmentation whose result the likelihood does not describe.
    pub fn validate_for(&self, config: &Config) -> Result<()> {
        self.objective.validate_for(config)?;
        config.likelihood().validate_augmentation(self.augmentation)
    }

    pub(super) fn noise_key(&self) -> NoiseKey {
        NoiseKey { seed: self.seed, step: 0, purpose: Purpose::Evaluation }
    }
}

/// Loss of a model on a data set, in nats per example, whatever the objective's reduction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Rows evaluated.
    pub rows: usize,
    /// The loss under the objective of the options: by default the sum of the two terms, the negative
    /// evidence lower bound.
    pub loss: f64,
    /// The reconstruction term, of one draw of the noise for each row (the mean of k draws with
    /// importance weighting).
    pub reconstruction: f64,
    /// The KL divergence from the prior.
    pub kl: f64,
    /// The KL divergence of each latent dimension.
    pub kl_per_dimension: Vec<f64>,
    /// The variance over the data of each latent dimension's mean.
    pub mu_variance: Vec<f64>,
}

impl Evaluation {
    /// Number of active latent dimensions, by [`ACTIVE_VARIANCE`].
    #[must_use]
    pub fn active_units(&self) -> usize {
        self.mu_variance.iter().filter(|&&variance| variance > ACTIVE_VARIANCE).count()
    }

    /// Number of latent dimensions whose posterior has collapsed onto the prior for every example, by
    /// [`COLLAPSED_KL`].
    #[must_use]
    pub fn collapsed_units(&self) -> usize {
        self.kl_per_dimension.iter().filter(|&&kl| kl < COLLAPSED_KL).count()
    }
}

/// Terms of each row's negative ELBO, in nats; see [`Vae::score`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scores {
    /// −ln p(x | z = μ), without the constants that the likelihood leaves out.
    pub reconstruction: Vec<f64>,
    /// The KL divergence from the prior.
    pub kl: Vec<f64>,
}

impl Scores {
    /// The sum of both terms, row by row: the larger, the less likely the row under the model.
    pub fn negative_elbo(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.reconstruction.iter().zip(&self.kl).map(|(reconstruction, kl)| reconstruction + kl)
    }
}

/// The marginal log-likelihood of a data set, estimated from K samples of each row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MarginalLikelihood {
    /// Rows evaluated.
    pub rows: usize,
    /// K.
    pub samples: usize,
    /// The mean over rows of `ln 1/K Σ_k p(x, z_k)/q(z_k|x)`, in nats per example: a lower bound of
    /// `ln p(x)` in expectation, which tightens with the number of samples.
    pub log_likelihood: f64,
    /// Standard error of that mean over the rows.
    pub standard_error: f64,
    /// Each row's estimate, in nats.
    pub of_rows: Vec<f64>,
}

/// The latent code of a row that goes through the decoder.
#[derive(Clone, Copy, PartialEq)]
enum LatentChoice {
    /// A sample of its posterior.
    Sample,
    /// The mean of its posterior.
    Mean,
}

impl Vae {
    /// Evaluates the loss of all rows of a data set, without dropout. The noise of each row is a
    /// function of the seed and the row's number. With importance weighting, memory grows with the number
    /// of threads and with the samples of one row, not with the rows.
    ///
    /// # Errors
    /// What training refuses: [`Error::Shape`] if the rows do not have D columns or their conditions are
    /// not C wide, [`Error::Config`] if there are no rows or the options do not fit the model
    /// ([`EvaluationOptions::validate_for`]), [`Error::TargetOutOfRange`] or [`Error::NotFiniteData`] for
    /// data that the likelihood does not accept, [`Error::NotFiniteCondition`] for a condition,
    /// [`Error::NotFiniteLoss`], [`Error::NotFiniteBatch`] or [`Error::LogvarOverflow`] for a loss that is
    /// not finite, [`Error::NoVariance`] if the optimal variance is 0, [`Error::Memory`] if the machine
    /// does not have the memory. Of several faulty rows the first is named.
    ///
    /// # Panics
    /// If the data set panics. The panic is passed on once all threads have come to rest.
    pub fn evaluate(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        options: &EvaluationOptions,
    ) -> Result<Evaluation> {
        let _environment = FloatEnvironment::standard();
        let rows = data.row_count();
        let objective = options.objective.at_the_end().per_example();
        let moments = Some([Vec::new(), Vec::new()]);
        let mut dimensions = DimensionSums { moments, ..DimensionSums::default() };
        dimensions.clear(self.config.latent());
        let mut total = LossSums::default();
        let prior = self.config.prior();
        let code = LatentChoice::Sample;
        self.by_chunks(compute, data, options, code, objective, rows, |workspace, pass| {
            // With several samples of a row the blocks hold some of the rows at a time.
            let in_parts = objective.samples > 1;
            let visit = |block: &Block| {
                if in_parts {
                    dimensions.add(compute, slice::from_ref(block), prior);
                }
                Ok(())
            };
            total += workspace.forward(compute, pass, visit)?;
            if !in_parts {
                dimensions.add(compute, workspace.blocks(), prior);
            }
            Ok(())
        })?;
        if self.config.has_optimal_variance() {
            let elements = rows as f64 * self.config.features() as f64;
            let (variance, value) = gaussian::optimal(total.squares, elements);
            if variance == 0.0 {
                return Err(Error::NoVariance { variance, step: None });
            }
            total.reconstruction = value;
        }
        let Elbo { loss, reconstruction, kl, .. } = objective.reduce(&self.config, rows, total);
        if !loss.is_finite() {
            return Err(Error::NotFiniteBatch { term: "loss", value: loss, step: None });
        }
        let n = rows as f64;
        let variance = |(sum, squares): (f64, f64)| (squares - sum * sum / n).max(0.0) / n;
        let [sums, squares] = dimensions.moments.expect("they were asked for");
        Ok(Evaluation {
            rows,
            loss,
            reconstruction,
            kl,
            kl_per_dimension: dimensions.kl.iter().map(|sum| sum / n).collect(),
            mu_variance: sums.into_iter().zip(squares).map(variance).collect(),
        })
    }

    /// Decomposes the KL divergence into the mutual information of data and code, the dependence of the
    /// latent dimensions on each other, and their distance from the prior (Hoffman & Johnson 2016,
    /// Chen et al. 2018).
    ///
    /// It is estimated from one code of each of the first 10,000 rows at most, with the mixture of
    /// these rows' posteriors for q(z). The estimated mutual information is at most the logarithm of
    /// their number.
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
        let _environment = FloatEnvironment::standard();
        let rows = data.row_count().min(MOST_ROWS);
        let latent = self.config.latent();
        // No loss is computed; the posteriors' densities need both exponentials of logvar.
        let penalty = Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 };
        let objective = Objective { penalty, ..Objective::default() }.at_the_end();
        let mut codes = TotalCorrelation::default();
        self.check_data(data, 1)?;
        reserve_pairs(&mut codes, rows, latent)?;
        let mut at = 0;
        let code = LatentChoice::Sample;
        self.by_chunks(compute, data, options, code, objective, rows, |workspace, pass| {
            workspace.encode(compute, pass)?;
            for block in workspace.blocks() {
                block.store_codes(&mut codes, at);
                at += block.rows;
            }
            Ok(())
        })?;
        let parts = codes.forward(compute, ln_weight(1, rows)?, self.config.prior());
        let Decomposition { mutual_information, total_correlation, dimension_wise_kl, .. } = parts;
        let value = mutual_information + total_correlation + dimension_wise_kl;
        if !value.is_finite() {
            return Err(Error::NotFiniteBatch { term: "KL divergence", value, step: None });
        }
        Ok(parts)
    }

    /// Computes the terms of each row's negative ELBO with the decoder at the mean of the latent code
    /// (z = μ, no noise, no dropout): the parts of an anomaly score.
    ///
    /// A row's score depends on the row alone, wherever it stands.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; [`Error::Config`] for a batch-optimal variance, under which a single row
    /// has no likelihood.
    pub fn score(&self, compute: &Compute, data: &dyn Dataset) -> Result<Scores> {
        let _environment = FloatEnvironment::standard();
        self.expect_row_likelihood()?;
        let (options, objective) =
            (EvaluationOptions::default(), Objective::default().at_the_end());
        let rows = data.row_count();
        let mut scores =
            Scores { reconstruction: Vec::with_capacity(rows), kl: Vec::with_capacity(rows) };
        let code = LatentChoice::Mean;
        self.by_chunks(compute, data, &options, code, objective, rows, |workspace, pass| {
            let visit = |block: &Block| {
                scores.reconstruction.extend_from_slice(&block.losses.reconstruction[..block.rows]);
                scores.kl.extend_from_slice(&block.losses.kl[..block.rows]);
                Ok(())
            };
            workspace.forward(compute, pass, visit).map(|_| ())
        })?;
        Ok(scores)
    }

    /// Computes the reconstruction term of each row's score feature by feature, `[rows, D]`, in nats.
    ///
    /// The elements of a row add up to [`Scores::reconstruction`], up to the rounding of that sum. Those of a density,
    /// such as a Gaussian of small variance, can be negative. An element whose square exceeds the range of f32 is
    /// infinite, and a NaN or infinite value under a Gaussian likelihood gives NaN or ∞.
    ///
    /// # Errors
    /// As [`Self::score`]; but an element that is not finite is no error.
    pub fn score_features(&self, compute: &Compute, data: &dyn Dataset) -> Result<Array2<f64>> {
        let _environment = FloatEnvironment::standard();
        self.expect_row_likelihood()?;
        self.check_data(data, 1)?;
        let (features, latent) = (self.config.features(), self.config.latent());
        let (rows, conditions) = (data.row_count(), self.config.conditions());
        // x|c, then μ|c: the decoder at the mean of the code.
        let mut x = Array2::zeros((rows, features + conditions));
        let mut code = Array2::zeros((rows, latent + conditions));
        let mut row = vec![0.0; features];
        let mut condition = vec![0.0; conditions];
        for i in 0..rows {
            data.read_row(i, &mut row);
            data.read_condition(i, &mut condition);
            let given = row.iter().chain(&condition);
            x.row_mut(i).iter_mut().zip(given).for_each(|(to, from)| *to = *from);
            let given = code.row_mut(i).into_iter().skip(latent);
            given.zip(&condition).for_each(|(to, from)| *to = *from);
        }
        let mut inference = self.inference(compute);
        let [mut mu, mut logvar] = [(); 2].map(|()| Array2::zeros((rows, latent)));
        inference.encode(mu.view_mut(), logvar.view_mut(), x.view())?;
        code.slice_mut(s![.., ..latent]).assign(&mu);
        let mut outputs = Array2::zeros((rows, features));
        inference.decode_logits(outputs.view_mut(), code.view())?;
        self.elements(compute, outputs, x.slice(s![.., ..features]).to_owned())
    }

    /// Computes the reconstruction term of each element of `outputs` and `targets`, `[B, D]`.
    fn elements(
        &self,
        compute: &Compute,
        outputs: Array2<f32>,
        targets: Array2<f32>,
    ) -> Result<Array2<f64>> {
        let shape = outputs.dim();
        let mut elements = vec![0.0; outputs.len()];
        let likelihood = self.config.likelihood();
        if let Likelihood::Gaussian(variance) = likelihood {
            let logvars: Vec<f64> = match variance {
                Variance::Fixed(variance) => vec![scalar::ln(f64::from(variance))],
                _ => self.parameters.learned_logvar().iter().copied().map(f64::from).collect(),
            };
            // One for all features, or one for each.
            for (i, element) in elements.iter_mut().enumerate() {
                let at = (i / shape.1, i % shape.1);
                let error = f64::from(outputs[at]) - f64::from(targets[at]);
                let logvar = logvars[at.1 % logvars.len()];
                *element = row_from_squares(error * error, 1, logvar).0;
            }
        } else {
            // Each element as an example of its own.
            let column = (elements.len(), 1);
            let [outputs, targets] = [outputs, targets].map(|array| {
                array.into_shape_with_order(column).expect("an array in standard layout")
            });
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
            self.reconstruction_per_example(compute, &mut elements, inputs)?;
        }
        Ok(Array2::from_shape_vec(shape, elements).expect("one element for each"))
    }

    /// Computes the reconstruction term of each row from the decoder's outputs `[B, D]` and the data `[B, D]`, without
    /// allocation: the loss term of this model's likelihood, with the bits of [`Self::score`].
    ///
    /// ```
    /// use elbo::{Compute, loss::ReconstructionInputs, vae::{Config, Vae}};
    /// use ndarray::Array2;
    ///
    /// let (vae, compute) = (Vae::new(Config::builder(12, 2).build()?, 1), Compute::serial());
    /// let targets = Array2::from_elem((5, 12), 0.5_f32);
    /// let mu = vae.encode(&compute, targets.view())?.mu;
    /// let outputs = vae.decode_logits(&compute, mu.view())?;
    /// let inputs = ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
    /// let mut of_rows = [0.0; 5];
    /// vae.score_outputs(&compute, &mut of_rows, inputs)?;
    /// assert_eq!(of_rows.to_vec(), vae.score(&compute, &targets)?.reconstruction);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LossTerm::per_example`]; [`Error::Shape`] if the arrays do not have D columns; [`Error::Config`] for a
    /// batch-optimal variance, under which a single row has no likelihood.
    pub fn score_outputs(
        &self,
        compute: &Compute,
        out: &mut [f64],
        inputs: ReconstructionInputs<'_>,
    ) -> Result<()> {
        let _environment = FloatEnvironment::standard();
        self.expect_row_likelihood()?;
        let [rows, features] = [inputs.outputs.nrows(), self.config.features()];
        expect_shape("outputs", [rows, features], inputs.outputs.shape())?;
        let learned = self.parameters.learned_logvar();
        let logvar = match self.config.likelihood() {
            Likelihood::Gaussian(Variance::Fixed(variance)) => scalar::ln(f64::from(variance)),
            Likelihood::Gaussian(Variance::Shared) => f64::from(learned[0]),
            Likelihood::Gaussian(_) => {
                return Gaussian::PerFeature { logvar: learned }.per_example(compute, out, inputs);
            }
            _ => return self.reconstruction_per_example(compute, out, inputs),
        };
        SquaredError.per_example(compute, out, inputs)?;
        out.iter_mut().for_each(|row| *row = row_from_squares(*row, features, logvar).0);
        Ok(())
    }

    /// The term of each example under the model's likelihood, for a Gaussian its squared error.
    fn reconstruction_per_example(
        &self,
        compute: &Compute,
        out: &mut [f64],
        inputs: ReconstructionInputs<'_>,
    ) -> Result<()> {
        match self.config.likelihood() {
            Likelihood::Bernoulli => Bernoulli.per_example(compute, out, inputs),
            Likelihood::WeightedBernoulli { pos_weight } => {
                WeightedBernoulli { pos_weight }.per_example(compute, out, inputs)
            }
            Likelihood::BernoulliProbabilities => {
                SigmoidProbabilities.per_example(compute, out, inputs)
            }
            Likelihood::ContinuousBernoulli => {
                ContinuousBernoulli.per_example(compute, out, inputs)
            }
            Likelihood::TanhSquaredError => TanhSquaredError.per_example(compute, out, inputs),
            Likelihood::SquaredError | Likelihood::Gaussian(_) => {
                SquaredError.per_example(compute, out, inputs)
            }
        }
    }

    /// Returns an error if a single row has no likelihood.
    fn expect_row_likelihood(&self) -> Result<()> {
        if self.config.has_optimal_variance() {
            let expected = "a fixed or learned one for the score of a row: the optimal one is that of a \
                            batch";
            return Err(Error::config("variance", expected, "optimal"));
        }
        Ok(())
    }

    /// Estimates `ln p(x)` of each row by the importance-weighted bound with `samples` samples
    /// (Burda et al. 2016; 5,000 in their tables).
    ///
    /// Samples go through the decoder in blocks of 64, so memory does not grow with their number.
    /// Sample s of a row is a function of the seed, the row, s and K. Without dropout; the
    /// objective of the options is ignored.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; [`Error::Config`] for 0 samples, more than 2²⁴ of them, a
    /// batch-optimal variance, under which a single example has no likelihood, or a likelihood that
    /// is not normalized: squared error, weighted Bernoulli.
    pub fn marginal_log_likelihood(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        samples: usize,
        options: &EvaluationOptions,
    ) -> Result<MarginalLikelihood> {
        let _environment = FloatEnvironment::standard();
        if !(1..=1 << 24).contains(&samples) {
            return Err(Error::config("samples", "from 1 to 16777216", samples));
        }
        options.validate_for(&self.config)?;
        self.check_data(data, samples)?;
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
        let penalty = Penalty::importance(1);
        let objective = Objective { penalty, ..Objective::default() }.at_the_end();
        let at_once = samples.min(SAMPLES_AT_ONCE);
        let layout = self.parameters.layout();
        // Blocks that no thread uses just now. No lock is held while the data set is read,
        // which may take long or wait for other threads.
        let blocks = Mutex::new(Vec::new());
        let free_blocks = || blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let key = options.noise_key();
        let of_row = |row: usize| {
            let batch = Batch {
                data,
                indices: Indices::Range(row, 1),
                noise: Noise::Drawn,
                key,
                augmentation: options.augmentation,
            };
            let pass = Pass {
                config: &self.config,
                weights: &self.parameters,
                batch: &batch,
                objective,
                scales: objective.scales(&self.config, 1),
            };
            let free = free_blocks().pop();
            let purpose = Purpose::Evaluation;
            let mut block =
                free.unwrap_or_else(|| Block::new(&self.config, layout, 1, at_once, purpose));
            block.gather(&batch, 0..1);
            let result = block.log_likelihood(compute, &pass, samples, at_once);
            free_blocks().push(block);
            result
        };
        // Some rows at a time: a row with an error ends the estimate soon after it.
        let mut of_rows = Vec::with_capacity(rows);
        for first in (0..rows).step_by(CHUNK) {
            let mut results: Vec<_> = (first..rows.min(first + CHUNK)).map(|_| Ok(0.0)).collect();
            compute.for_each_mut(&mut results, |i, result| *result = of_row(first + i));
            of_rows.extend(results.into_iter().collect::<Result<Vec<f64>>>()?);
        }
        let n = rows as f64;
        let mean = of_rows.iter().sum::<f64>() / n;
        let squares: f64 = of_rows.iter().map(|value| (value - mean) * (value - mean)).sum();
        let standard_error = if rows > 1 { (squares / (n - 1.0) / n).sqrt() } else { f64::NAN };
        Ok(MarginalLikelihood { rows, samples, log_likelihood: mean, standard_error, of_rows })
    }

    /// Calls `work` for the first `rows` rows, [`CHUNK`] of them at a time, or in chunks of equal size if
    /// the objective is one of whole batches: a short last one would have another loss.
    fn by_chunks(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        options: &EvaluationOptions,
        code: LatentChoice,
        objective: StepObjective,
        rows: usize,
        mut work: impl FnMut(&mut Workspace, &Pass<'_, '_>) -> Result<()> + Send,
    ) -> Result<()> {
        options.validate_for(&self.config)?;
        self.check_data(data, objective.samples)?;
        let layout = self.parameters.layout().clone();
        let mut workspace = Workspace::new(&self.config, layout, Purpose::Evaluation);
        let chunks = rows.div_ceil(CHUNK);
        let chunk = if objective.penalty.is_coupled() { rows.div_ceil(chunks) } else { CHUNK };
        compute.install(|| {
            (0..rows).step_by(chunk).try_for_each(|first| {
                let count = chunk.min(rows - first);
                let batch = Batch {
                    data,
                    indices: Indices::Range(first, count),
                    noise: match code {
                        LatentChoice::Sample => Noise::Drawn,
                        LatentChoice::Mean => Noise::Zero,
                    },
                    key: options.noise_key(),
                    augmentation: options.augmentation,
                };
                let pass = Pass {
                    config: &self.config,
                    weights: &self.parameters,
                    batch: &batch,
                    objective,
                    scales: objective.scales(&self.config, count),
                };
                work(&mut workspace, &pass)
            })
        })
    }

    /// Checks that there are rows, that they and their conditions have this model's widths, and that
    /// there are random numbers for all of their samples.
    pub(crate) fn check_data(&self, data: &dyn Dataset, samples: usize) -> Result<()> {
        if data.features() != self.config.features() {
            let found = [data.row_count(), data.features()];
            return Err(Error::shape("data", [data.row_count(), self.config.features()], &found));
        }
        if data.row_count() == 0 {
            return Err(Error::config("data", "at least one row", 0));
        }
        if (data.row_count() as u64).saturating_mul(samples as u64) > INDEX_LIMIT {
            let found = format!("{} rows of {samples} samples", data.row_count());
            return Err(Error::config("data", "at most 2^48 samples of all rows together", found));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::train::{Options, Trainer};
    use crate::vae::{Config, Likelihood, Variance};
    use ndarray::{Array2, s};

    #[test]
    fn scores_are_losses_without_noise_and_depend_on_the_row_alone() {
        let config = Config::builder(20, 3).hidden(&[9]).build().unwrap();
        let data = Array2::from_shape_fn((600, 20), |(r, c)| ((r % 7 + c) % 5) as f32 / 4.0);
        let vae = Vae::new(config, 4);
        let scores = vae.score(&Compute::serial(), &data).unwrap();
        let mut trainer = Trainer::new(vae.clone(), Options::default(), Compute::serial()).unwrap();
        for row in [0, 1, 599] {
            let one = data.slice(s![row..row + 1, ..]);
            let elbo = trainer.gradient_with_noise(&one, Array2::zeros((1, 3)).view()).unwrap();
            assert_eq!(scores.reconstruction[row], elbo.reconstruction);
            assert_eq!(scores.kl[row], elbo.kl);
            assert_eq!(scores.negative_elbo().nth(row), Some(elbo.loss));
        }
        // Rows 7 apart are the same.
        assert_eq!(scores.reconstruction[3], scores.reconstruction[3 + 7 * 80]);
        for set in InstructionSet::available() {
            let compute = Compute::new(set, 2).unwrap();
            assert_eq!(vae.score(&compute, &data).unwrap(), scores);
        }
    }

    #[test]
    fn features_of_a_score_add_up_to_it_under_every_likelihood() {
        let likelihoods = [
            Likelihood::Bernoulli,
            Likelihood::WeightedBernoulli { pos_weight: 3.0 },
            Likelihood::BernoulliProbabilities,
            Likelihood::ContinuousBernoulli,
            Likelihood::SquaredError,
            Likelihood::TanhSquaredError,
            Likelihood::Gaussian(Variance::Fixed(0.3)),
            Likelihood::Gaussian(Variance::Shared),
            Likelihood::Gaussian(Variance::PerFeature),
        ];
        let x = Array2::from_shape_fn((70, 21), |(r, c)| ((r * 5 + c * 3) % 11) as f32 / 10.0);
        let compute = Compute::serial();
        for likelihood in likelihoods {
            let config = Config::builder(21, 3).hidden(&[9]).likelihood(likelihood);
            let options = Options { batch: 16, ..Options::default() };
            let vae = Vae::new(config.build().unwrap(), 1);
            let mut trainer = Trainer::new(vae, options, compute.clone()).unwrap();
            trainer.epoch(&x, |_| ()).unwrap();
            let vae = trainer.into_vae();
            let scores = vae.score(&compute, &x).unwrap().reconstruction;
            // The same bits from the decoder's outputs.
            let mu = vae.encode(&compute, x.view()).unwrap().mu;
            let outputs = vae.decode_logits(&compute, mu.view()).unwrap();
            let inputs = ReconstructionInputs { outputs: outputs.view(), targets: x.view() };
            let mut of_outputs = [f64::NAN; 70];
            vae.score_outputs(&compute, &mut of_outputs, inputs).unwrap();
            assert_eq!(of_outputs[..], scores[..], "{likelihood:?}");
            let features = vae.score_features(&compute, &x).unwrap();
            assert_eq!(features.dim(), (70, 21));
            for (row, score) in features.rows().into_iter().zip(scores) {
                let (sum, size) = (row.sum(), row.mapv(f64::abs).sum());
                // Rounding of the elements to f32, and of the sum of a row in 16 lanes.
                let bound = 8.0 * f64::from(f32::EPSILON) * size;
                assert!((sum - score).abs() <= bound, "{likelihood:?}: {sum} {score}");
            }
            // Every element depends on its own datum: a changed one moves more than the others of its row.
            let mut changed = x.clone();
            changed[[4, 7]] = 1.0 - changed[[4, 7]];
            let after = vae.score_features(&compute, &changed).unwrap();
            let moved = (&after - &features).mapv(f64::abs);
            let largest = moved.row(4).iter().copied().fold(0.0, f64::max);
            assert_eq!(moved[[4, 7]], largest, "{likelihood:?}");
            assert!(moved.rows().into_iter().enumerate().all(|(r, m)| r == 4 || m.sum() == 0.0));
        }
    }

    #[test]
    fn rejects_scores_under_a_batch_optimal_variance() {
        let likelihood = Likelihood::Gaussian(Variance::Optimal);
        let config = Config::builder(2, 1).likelihood(likelihood).build().unwrap();
        let error = Vae::new(config, 1).score(&Compute::serial(), &Array2::<f32>::zeros((3, 2)));
        assert!(error.unwrap_err().to_string().contains("that of a batch"));
    }
}
