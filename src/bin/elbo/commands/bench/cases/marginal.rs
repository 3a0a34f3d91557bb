//! The marginal likelihood of a few rows from 5,000 samples each: noise, decoder, loss, importance weights.

use super::{Case, Work, check, uniform};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::failure::Result;
use elbo::vae::{Config, EvaluationOptions, Vae};
use elbo::{Compute, layers::activation::Activation};
use std::hint::black_box;

/// The network with one stochastic layer of Burda et al. (2016).
const FEATURES: usize = 784;
const HIDDEN: usize = 200;
const LATENT: usize = 50;
const SAMPLES: usize = 5000;
const ROWS: usize = 4;
/// Weights of the decoder, which runs for every sample.
const WEIGHTS: usize = LATENT * HIDDEN + HIDDEN * HIDDEN + HIDDEN * FEATURES;

pub fn cases(threads: &[usize]) -> Vec<Case> {
    let case = |&threads: &usize| Case {
        group: "marginal",
        shape: format!("{FEATURES}-{HIDDEN}-{HIDDEN}-{LATENT}"),
        batch: Some(SAMPLES),
        threads,
        work: Work::flop(2 * ROWS * SAMPLES * WEIGHTS),
        limit: Limit::Peak,
        run: Box::new(time),
    };
    threads.iter().map(case).collect()
}

fn time(compute: &Compute, clock: Clock) -> Result<Timing> {
    let config = Config::builder(FEATURES, LATENT)
        .hidden(&[HIDDEN, HIDDEN])
        .activation(Activation::Tanh)
        .build()?;
    let vae = Vae::new(config, 1);
    let x = uniform(ROWS, FEATURES, 1)?;
    let options = EvaluationOptions::default();
    let few = vae.marginal_log_likelihood(compute, &x, 100, &options)?.log_likelihood;
    let many = vae.marginal_log_likelihood(compute, &x, SAMPLES, &options)?.log_likelihood;
    check((few - many).abs() < 5.0 && many < 0.0, "marginal")?;
    compute.install(|| {
        clock.time(|| {
            black_box(vae.marginal_log_likelihood(compute, &x, SAMPLES, &options)?);
            Ok(())
        })
    })
}
