//! The loss of a whole model in plain f64, forward only: its gradient is for central differences to
//! find.

use elbo::loss::{CapacityPer, FreeBitsPer, Reduction};
use elbo::random::{Generator, Stream};
use elbo::simd::InstructionSet;
use elbo::vae::{Config, Likelihood, Objective, Parameters, Penalty, Variance};
use ndarray::{Array1, Array2, Axis};
use std::collections::BTreeMap;

/// Every tensor of a model by its name: `mu.weight`, `decoder_norm.0.bias`, `likelihood.logvar` …
#[derive(Clone)]
pub struct Tensors(pub BTreeMap<String, Array2<f64>>);

impl Tensors {
    pub fn of(parameters: &Parameters) -> Self {
        let mut tensors = BTreeMap::new();
        let row = |vector: Array1<f64>| vector.insert_axis(Axis(0));
        for name in parameters.names() {
            let weight = parameters.weight(name).unwrap().mapv(f64::from);
            let bias = parameters.bias(name).unwrap().mapv(f64::from);
            tensors.insert(format!("{name}.weight"), weight);
            tensors.insert(format!("{name}.bias"), row(bias));
        }
        for name in parameters.vectors() {
            tensors.insert(name.to_owned(), row(parameters.vector(name).unwrap().mapv(f64::from)));
        }
        Self(tensors)
    }

    fn get(&self, name: &str) -> &Array2<f64> {
        &self.0[name]
    }

    fn dense(&self, name: &str, x: &Array2<f64>) -> Array2<f64> {
        x.dot(&self.get(&format!("{name}.weight")).t()) + self.get(&format!("{name}.bias"))
    }
}

/// The inputs of a loss.
pub struct Twin<'a> {
    pub config: &'a Config,
    pub objective: &'a Objective,
    /// `[B, D]` as it is after any augmentation, `[B, C]`, `[B·k, Z]`.
    pub x: Array2<f64>,
    pub conditions: Array2<f64>,
    pub noise: Array2<f64>,
    /// Seed of the dropout.
    pub seed: u64,
    /// Steps done before, on which dropout and schedules depend.
    pub step: u64,
}

impl Twin<'_> {
    /// μ, logvar, the samples and the decoder's output for them.
    pub fn forward(&self, tensors: &Tensors) -> [Array2<f64>; 4] {
        let (config, k) = (self.config, self.objective.samples());
        let (b, latent) = (self.x.nrows(), config.latent());

        let mut h = beside(&self.x, &self.conditions);
        for layer in 0..config.encoder().len() {
            h = self.hidden(tensors, "encoder", layer, layer, h, 1);
        }
        let mu = tensors.dense("mu", &h);
        let mut logvar = tensors.dense("logvar", &h);
        if let Some([low, high]) = config.logvar_clamp() {
            let (m, half) = (f64::from(low + high) / 2.0, f64::from(high - low) / 2.0);
            logvar.mapv_inplace(|v| m + half * ((v - m) / half).tanh());
        }
        let z = Array2::from_shape_fn((b * k, latent), |(r, d)| {
            mu[[r / k, d]] + (0.5 * logvar[[r / k, d]]).exp() * self.noise[[r, d]]
        });
        let conditions = Array2::from_shape_fn((b * k, config.conditions()), |(r, c)| {
            self.conditions[[r / k, c]]
        });
        let mut h = beside(&z, &conditions);
        let first = config.encoder().len();
        for layer in 0..config.decoder().len() {
            h = self.hidden(tensors, "decoder", layer, first + layer, h, k);
        }
        let output = tensors.dense(&format!("decoder.{}", config.decoder().len()), &h);
        [mu, logvar, z, output]
    }

    /// The function whose gradient is the doubly reparameterized gradient of the encoder: every sample's
    /// loss with its squared weight, weights and the density of q held at `here`.
    pub fn dreg(&self, tensors: &Tensors, here: &Tensors) -> f64 {
        let k = self.objective.samples();
        let [mu, logvar, z, output] = self.forward(here);
        let (reconstruction, log_ratio) =
            (self.reconstruction(here, &output), self.log_ratio(&z, &logvar));
        let prior = self.config.prior();
        let (m, s) = (f64::from(prior.mean), f64::from(prior.std));
        let [_, _, moved, moved_output] = self.forward(tensors);
        let moved_reconstruction = self.reconstruction(tensors, &moved_output);
        let mut sum = 0.0;
        for i in 0..mu.nrows() {
            let log_weights: Vec<f64> =
                (i * k..(i + 1) * k).map(|r| log_ratio[r] - reconstruction[r]).collect();
            let all = log_sum_exp(&log_weights);
            for (r, log_weight) in (i * k..(i + 1) * k).zip(log_weights) {
                let weight = (log_weight - all).exp();
                let densities = (0..z.ncols()).map(|d| {
                    let z = moved[[r, d]];
                    let log_q = -0.5 * (z - mu[[i, d]]).powi(2) * (-logvar[[i, d]]).exp();
                    log_q + 0.5 * ((z - m) / s).powi(2)
                });
                sum += weight * weight * (moved_reconstruction[r] + densities.sum::<f64>());
            }
        }
        match self.objective.reduction {
            Reduction::Sum => sum,
            _ => sum / self.x.nrows() as f64,
        }
    }

    /// The loss.
    pub fn loss(&self, tensors: &Tensors) -> f64 {
        let (config, k) = (self.config, self.objective.samples());
        let (b, latent) = (self.x.nrows(), config.latent());
        let [mu, logvar, z, output] = self.forward(tensors);

        // Divisors of the two terms.
        let (rows, columns) = (b as f64, [config.features() as f64, latent as f64]);
        let [by_features, by_latent] = match self.objective.reduction {
            Reduction::Sum => [1.0, 1.0],
            Reduction::BatchMean => [rows, rows],
            Reduction::Mean => columns.map(|columns| rows * columns),
        };
        let reconstruction = self.reconstruction(tensors, &output);
        if let Penalty::Importance { .. } = self.objective.penalty {
            let log_ratio = self.log_ratio(&z, &logvar);
            let bounds = (0..b).map(|i| {
                let weights: Vec<f64> =
                    (i * k..(i + 1) * k).map(|r| log_ratio[r] - reconstruction[r]).collect();
                (k as f64).ln() - log_sum_exp(&weights)
            });
            return bounds.sum::<f64>() / by_features;
        }
        let penalty = self.penalty(&mu, &logvar, &z);
        reconstruction.sum() / by_features + penalty / by_latent
    }

    /// One hidden layer, `per_row` rows for each of the batch.
    fn hidden(
        &self,
        tensors: &Tensors,
        part: &str,
        layer: usize,
        number: usize,
        x: Array2<f64>,
        per_row: usize,
    ) -> Array2<f64> {
        let config = self.config;
        let mut y = tensors.dense(&format!("{part}.{layer}"), &x);
        if config.layer_norm() {
            let gain = tensors.get(&format!("{part}_norm.{layer}.weight"));
            let shift = tensors.get(&format!("{part}_norm.{layer}.bias"));
            for mut row in y.rows_mut() {
                let n = row.len() as f64;
                let mean = row.sum() / n;
                let variance = row.mapv(|v| (v - mean).powi(2)).sum() / n;
                for (j, v) in row.iter_mut().enumerate() {
                    *v = gain[[0, j]] * (*v - mean) / (variance + 1e-5).sqrt() + shift[[0, j]];
                }
            }
        }
        let name = config.activation().to_string();
        y.mapv_inplace(|v| activation(&name, v));
        if config.dropout() > 0.0 {
            let hidden = config.encoder().len() + config.decoder().len();
            let samples = self.objective.samples();
            let mut uniform = Array2::<f32>::zeros((1, y.ncols()));
            for (r, mut row) in y.rows_mut().into_iter().enumerate() {
                let number = (r / per_row * samples + r % per_row) * hidden + number;
                Generator::new(self.seed)
                    .uniform(
                        InstructionSet::SCALAR,
                        uniform.view_mut(),
                        Stream::Dropout,
                        self.step,
                        number as u64,
                    )
                    .unwrap();
                for (v, &u) in row.iter_mut().zip(&uniform) {
                    let kept = u >= config.dropout();
                    *v *= if kept { 1.0 / (1.0 - f64::from(config.dropout())) } else { 0.0 };
                }
            }
        }
        y
    }

    /// The negative log-likelihood of each sample.
    fn reconstruction(&self, tensors: &Tensors, output: &Array2<f64>) -> Array1<f64> {
        let k = self.objective.samples();
        let likelihood = self.config.likelihood();
        let two_pi = std::f64::consts::TAU;
        if likelihood == Likelihood::Gaussian(Variance::Optimal) {
            let n = output.len() as f64;
            let squares: f64 = output.iter().zip(&self.x).map(|(m, t)| (m - t).powi(2)).sum();
            let value = n / 2.0 * ((two_pi * squares / n).ln() + 1.0);
            return Array1::from_elem(output.nrows(), value / output.nrows() as f64);
        }
        Array1::from_shape_fn(output.nrows(), |r| {
            let (output, x) = (output.row(r), self.x.row(r / k));
            let elements = output.iter().zip(x).enumerate().map(|(d, (&l, &t))| {
                let softplus = |l: f64| l.max(0.0) + (-l.abs()).exp().ln_1p();
                let gaussian = |s: f64| 0.5 * ((t - l).powi(2) * (-s).exp() + s + two_pi.ln());
                match likelihood {
                    Likelihood::Bernoulli | Likelihood::BernoulliProbabilities => {
                        softplus(l) - l * t
                    }
                    Likelihood::WeightedBernoulli { pos_weight } => {
                        (1.0 - t) * l + (1.0 + (f64::from(pos_weight) - 1.0) * t) * softplus(-l)
                    }
                    Likelihood::ContinuousBernoulli => log_normalizer(l) - l * t,
                    Likelihood::SquaredError => (l - t).powi(2),
                    Likelihood::TanhSquaredError => (l.tanh() - t).powi(2),
                    Likelihood::Gaussian(Variance::Fixed(variance)) => {
                        gaussian(f64::from(variance).ln())
                    }
                    Likelihood::Gaussian(Variance::Shared) => {
                        gaussian(tensors.get("likelihood.logvar")[[0, 0]])
                    }
                    Likelihood::Gaussian(Variance::PerFeature) => {
                        gaussian(tensors.get("likelihood.logvar")[[0, d]])
                    }
                    other => panic!("{other:?} has no twin"),
                }
            });
            elements.sum()
        })
    }

    /// ln p(z) − ln q(z|x) of each sample.
    fn log_ratio(&self, z: &Array2<f64>, logvar: &Array2<f64>) -> Vec<f64> {
        let prior = self.config.prior();
        let (m, s) = (f64::from(prior.mean), f64::from(prior.std));
        let k = self.objective.samples();
        (0..z.nrows())
            .map(|r| {
                let terms = (0..z.ncols()).map(|d| {
                    let log_p = -0.5 * ((z[[r, d]] - m) / s).powi(2) - s.ln();
                    let log_q = -0.5 * self.noise[[r, d]].powi(2) - 0.5 * logvar[[r / k, d]];
                    log_p - log_q
                });
                terms.sum()
            })
            .collect()
    }

    /// The weighted penalty, summed over the batch.
    fn penalty(&self, mu: &Array2<f64>, logvar: &Array2<f64>, z: &Array2<f64>) -> f64 {
        let (objective, prior) = (self.objective, self.config.prior());
        let (m, s) = (f64::from(prior.mean), f64::from(prior.std));
        let kl = Array2::from_shape_fn(mu.dim(), |at| {
            let (mu, v) = (mu[at], logvar[at]);
            0.5 * ((v.exp() + (mu - m).powi(2)) / (s * s) - 1.0) - 0.5 * v + s.ln()
        });
        let beta = f64::from(objective.beta_at(self.step, 0));
        let capacity = f64::from(objective.capacity_at(self.step, 0));
        let b = kl.nrows() as f64;
        match objective.penalty {
            Penalty::Kl => beta * kl.sum(),
            Penalty::FreeBits { lambda, per } => {
                let lambda = f64::from(lambda);
                beta * match per {
                    FreeBitsPer::Element => kl.mapv(|kl| kl.max(lambda)).sum(),
                    FreeBitsPer::Sample => kl.sum_axis(Axis(1)).mapv(|kl| kl.max(lambda)).sum(),
                    FreeBitsPer::Dimension => {
                        b * kl.sum_axis(Axis(0)).mapv(|kl| (kl / b).max(lambda)).sum()
                    }
                }
            }
            Penalty::Capacity { gamma, per, .. } => {
                f64::from(gamma)
                    * match per {
                        CapacityPer::Batch => b * (kl.sum() / b - capacity).abs(),
                        CapacityPer::Sample => {
                            kl.sum_axis(Axis(1)).mapv(|kl| (kl - capacity).abs()).sum()
                        }
                    }
            }
            Penalty::TotalCorrelation { alpha, gamma } => {
                let ln_weight = b.ln();
                let ln_2pi = std::f64::consts::TAU.ln();
                let density = |i: usize, j: usize, d: usize| {
                    let v = logvar[[j, d]];
                    -0.5 * ((z[[i, d]] - mu[[j, d]]).powi(2) * (-v).exp() + v + ln_2pi)
                };
                let (rows, dims) = kl.dim();
                let each = (0..rows).map(|i| {
                    let joint = |j| (0..dims).map(|d| density(i, j, d)).sum::<f64>();
                    let log_qz = log_sum_exp(&(0..rows).map(joint).collect::<Vec<_>>()) - ln_weight;
                    let log_product: f64 = (0..dims)
                        .map(|d| {
                            let all: Vec<f64> = (0..rows).map(|j| density(i, j, d)).collect();
                            log_sum_exp(&all) - ln_weight
                        })
                        .sum();
                    let log_p: f64 = (0..dims)
                        .map(|d| -0.5 * (((z[[i, d]] - m) / s).powi(2) + ln_2pi) - s.ln())
                        .sum();
                    f64::from(alpha) * (joint(i) - log_qz)
                        + beta * (log_qz - log_product)
                        + f64::from(gamma) * (log_product - log_p)
                });
                each.sum()
            }
            other => panic!("{other:?} has no twin"),
        }
    }
}

fn beside(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    ndarray::concatenate(Axis(1), &[a.view(), b.view()]).unwrap()
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
}

/// ln((eˡ − 1)/l).
fn log_normalizer(l: f64) -> f64 {
    if l.abs() < 0.05 {
        let square = l * l;
        return l / 2.0 + square * (1.0 / 24.0 - square * (1.0 / 2880.0 - square / 181_440.0));
    }
    let a = l.abs();
    l.max(0.0) + (-(-a).exp()).ln_1p() - a.ln()
}

fn activation(name: &str, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match name {
        "relu" => x.max(0.0),
        "leaky-relu" => {
            if x > 0.0 {
                x
            } else {
                f64::from(0.01_f32) * x
            }
        }
        "elu" => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        "gelu" => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        "gelu-tanh" => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        "silu" => x * sigmoid(x),
        "softplus" => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        "tanh" => x.tanh(),
        "sigmoid" => sigmoid(x),
        other => panic!("{other} has no twin"),
    }
}

/// The error function: its series up to 3, beyond it the continued fraction of erfc.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (2.0 / std::f64::consts::PI.sqrt() * sum).copysign(x);
    }
    let mut fraction = a;
    for n in (1..60).rev() {
        fraction = a + f64::from(n) / 2.0 / fraction;
    }
    (1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / fraction).copysign(x)
}
