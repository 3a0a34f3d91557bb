//! Time of one call from Rust, without the C interface, for benches/overhead.c: `.ci/capi --bench` runs both.
//!
//! Prints the least of the medians of several rounds, in nanoseconds, one line a call.

use elbo_rust::Compute;
use elbo_rust::loss::{Bernoulli, Kl, Prior, Reduction, elbo as fused};
use elbo_rust::vae::{Config, Vae};
use ndarray::Array2;
use std::hint::black_box;
use std::time::Instant;

/// Rounds, and calls of one.
const ROUNDS: usize = 15;
const CALLS: usize = 400;

fn time(name: &str, mut call: impl FnMut()) {
    let mut best = f64::INFINITY;
    let mut times = [0.0; CALLS];
    for _ in 0..ROUNDS {
        for time in &mut times {
            let start = Instant::now();
            call();
            *time = start.elapsed().as_nanos() as f64;
        }
        times.sort_by(f64::total_cmp);
        best = best.min(times[CALLS / 2]);
    }
    println!("{name:28} {best:10.0}");
}

fn main() {
    let compute = Compute::serial();
    for (features, hidden, latent) in [(30, 64, 8), (784, 400, 20)] {
        let config = Config::builder(features, latent).hidden(&[hidden]).build().unwrap();
        let vae = Vae::new(config, 1);
        let x = Array2::from_shape_fn((1, features), |(_, i)| f32::from(u8::from(i % 3 == 0)));
        let mut out = Array2::zeros((1, features));
        let [mut mu, mut logvar] = [(); 2].map(|()| Array2::zeros((1, latent)));
        let mut inference = vae.inference(&compute);
        time(&format!("encode 1x{features}"), || {
            inference.encode(mu.view_mut(), logvar.view_mut(), black_box(x.view())).unwrap();
        });
        time(&format!("reconstruct 1x{features}"), || {
            inference.reconstruct(out.view_mut(), black_box(x.view())).unwrap();
        });
    }
    for (rows, d, z) in [(1, 784, 20), (128, 784, 20)] {
        let spread = |columns: usize| {
            Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 37 + j * 11) % 17) as f32 / 16.0)
        };
        let [outputs, targets, mut doutputs] = [(); 3].map(|()| spread(d));
        let [mu, logvar, mut dmu, mut dlogvar] = [(); 4].map(|()| spread(z));
        time(&format!("objective {rows}x{d}"), || {
            let terms = fused::Terms { reconstruction: Bernoulli, penalty: Kl, beta: 1.0 };
            let gradients = fused::Gradients {
                doutputs: doutputs.view_mut(),
                dmu: dmu.view_mut(),
                dlogvar: dlogvar.view_mut(),
            };
            let inputs = fused::Inputs {
                outputs: outputs.view(),
                targets: targets.view(),
                mu: mu.view(),
                logvar: logvar.view(),
                prior: Prior::default(),
            };
            let value = fused::forward_backward(
                &compute,
                terms,
                gradients,
                black_box(inputs),
                Reduction::BatchMean,
            );
            black_box(value.unwrap());
        });
    }
}
