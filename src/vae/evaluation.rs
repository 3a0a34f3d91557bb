//! The loss of a whole data set, and what the latent dimensions carry.

use super::step::Workspace;
use super::step::block::{Batch, Block, Draws, Noise, Pass, Purpose, Selection};
use super::step::terms::{Sums, Terms};
use super::{Objective, Vae};
use crate::compute::Compute;
use crate::dataset::{Augmentation, Dataset};
use crate::error::{Error, Result};
use crate::loss::total_correlation::TotalCorrelation;
use crate::loss::{Decomposition, Elbo, gaussian, kl};
use crate::math::scalar;
use ndarray::{Array2, s};

/// Rows whose loss is summed at a time. Fixed: the order of the sums is part of the result.
const CHUNK: usize = 256;

/// A latent dimension is active if its mean varies by more than this over the data (Burda et
/// al. 2016, §5.1, who call it A_u).
pub const ACTIVE_VARIANCE: f64 = 0.01;

/// A latent dimension has collapsed onto the prior if it carries less than this, in nats.
pub const COLLAPSED_KL: f64 = 0.01;

/// How to evaluate: data with defaults.
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

/// The two terms of each row's negative ELBO, in nats; see [`Vae::score`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scores {
    /// −ln p(x | z = μ), up to what the likelihood leaves out.
    pub reconstruction: Vec<f64>,
    /// The KL divergence from the prior.
    pub kl: Vec<f64>,
}

impl Scores {
    /// Their sum, row by row: the larger, the less the model expects the row.
    pub fn negative_elbo(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.reconstruction.iter().zip(&self.kl).map(|(reconstruction, kl)| reconstruction + kl)
    }
}

/// Which latent code of a row goes through the decoder.
#[derive(Clone, Copy, PartialEq)]
enum Code {
    /// One drawn from its posterior.
    Drawn,
    /// Their mean.
    Mean,
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
            kl::per_dimension(compute.simd(), &mut self.terms, mu, logvar, prior)?;
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
        self.by_chunks(compute, data, options, Code::Drawn, terms, rows, |workspace, pass| {
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
        self.by_chunks(compute, data, options, Code::Drawn, terms, rows, |workspace, pass| {
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
        Ok(codes.forward(compute, scalar::ln(rows as f64), self.config.prior()))
    }

    /// The two terms of each row's negative ELBO with the decoder at the mean of the latent code
    /// (z = μ, no noise): how well the model knows this row. What a score of anomaly is made of.
    ///
    /// A row's score depends on nothing but the row, wherever it stands. Without dropout.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; [`Error::Config`] for a batch-optimal variance, under which a row alone
    /// has no likelihood.
    pub fn score(&self, compute: &Compute, data: &dyn Dataset) -> Result<Scores> {
        if self.config.has_optimal_variance() {
            let expected = "a fixed or learned one for the score of a row: the optimal one is that of a \
                            batch";
            return Err(Error::config("variance", expected, "optimal"));
        }
        let (options, terms) = (EvaluationOptions::default(), Objective::default().at_the_end());
        let rows = data.row_count();
        let mut scores =
            Scores { reconstruction: Vec::with_capacity(rows), kl: Vec::with_capacity(rows) };
        self.by_chunks(compute, data, &options, Code::Mean, terms, rows, |workspace, pass| {
            workspace.forward(compute, pass)?;
            for block in workspace.blocks() {
                scores.reconstruction.extend_from_slice(&block.reconstruction[..block.rows]);
                scores.kl.extend_from_slice(&block.kl[..block.rows]);
            }
            Ok(())
        })?;
        Ok(scores)
    }

    /// Calls `work` for the first `rows` rows, [`CHUNK`] of them at a time.
    fn by_chunks(
        &self,
        compute: &Compute,
        data: &dyn Dataset,
        options: &EvaluationOptions,
        code: Code,
        terms: Terms,
        rows: usize,
        mut work: impl FnMut(&mut Workspace, &Pass<'_, '_>) -> Result<()> + Send,
    ) -> Result<()> {
        self.check_data(data)?;
        let mut workspace = Workspace::new(&self.config, self.parameters.layout().clone());
        let zeros = Array2::zeros((CHUNK.min(rows), self.config.latent()));
        compute.install(|| {
            (0..rows).step_by(CHUNK).try_for_each(|first| {
                let count = CHUNK.min(rows - first);
                let batch = Batch {
                    data,
                    selection: Selection::From(first, count),
                    noise: match code {
                        Code::Drawn => Noise::Counter,
                        Code::Mean => Noise::Given(zeros.slice(s![..count, ..])),
                    },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::train::{Options, Trainer};
    use crate::vae::{Config, Likelihood, Variance};

    #[test]
    fn a_score_is_the_loss_without_noise_and_a_function_of_the_row_alone() {
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
    fn a_row_has_no_score_under_the_variance_of_a_batch() {
        let likelihood = Likelihood::Gaussian(Variance::Optimal);
        let config = Config::builder(2, 1).likelihood(likelihood).build().unwrap();
        let error = Vae::new(config, 1).score(&Compute::serial(), &Array2::<f32>::zeros((3, 2)));
        assert!(error.unwrap_err().to_string().contains("that of a batch"));
    }
}
