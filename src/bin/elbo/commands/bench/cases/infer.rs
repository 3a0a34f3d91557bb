//! Reconstruction: encode to the mean, decode, sigmoid.
//!
//! One row uses each weight once, so reading the weights limits it; 64 rows are limited by arithmetic.

use super::{Case, Work, check, uniform};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::failure::Result;
use elbo::Compute;
use elbo::vae::{Config, Vae};
use std::hint::black_box;

const FEATURES: usize = 784;
const HIDDEN: usize = 400;
const LATENT: usize = 20;
/// Weights that the result depends on, without those of logvar.
const WEIGHTS: usize = 2 * (FEATURES * HIDDEN + HIDDEN * LATENT);

pub fn cases(threads: &[usize]) -> Vec<Case> {
    let each = [1, 64].into_iter().flat_map(|rows| threads.iter().map(move |&n| (rows, n)));
    each.map(|(rows, threads)| Case {
        group: "infer",
        shape: format!("{FEATURES}-{HIDDEN}-{LATENT}"),
        batch: Some(rows),
        threads,
        work: Work::flop(2 * rows * WEIGHTS),
        limit: if rows == 1 { Limit::Weights { count: WEIGHTS } } else { Limit::Peak },
        run: Box::new(move |compute, clock| time(rows, compute, clock)),
    })
    .collect()
}

fn time(rows: usize, compute: &Compute, clock: Clock) -> Result<Timing> {
    let vae = Vae::new(Config::builder(FEATURES, LATENT).hidden(&[HIDDEN]).build()?, 1);
    let x = uniform(rows, FEATURES, 1)?;
    let found = vae.reconstruct(compute, x.view())?;
    let code = vae.encode(compute, x.view())?;
    let logits = vae.decode_logits(compute, code.mu.view())?;
    let right = found.iter().zip(&logits).all(|(&found, &logit)| {
        (f64::from(found) - 1.0 / (1.0 + (-f64::from(logit)).exp())).abs() < 1e-6
    });
    check(right, "infer")?;
    let mut inference = vae.inference(compute);
    let mut pixels = found;
    compute.install(|| {
        clock.time(|| {
            inference.reconstruct(pixels.view_mut(), black_box(x.view()))?;
            black_box(&pixels);
            Ok(())
        })
    })
}
