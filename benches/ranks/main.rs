//! Measures what shards and ranks cost.
//!
//! ```text
//! cargo bench --bench ranks -- shards       a step with one shard and with four, on one rank
//! cargo bench --bench ranks -- --test       one small step of each kind, untimed
//! ```

use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Compute, Result};
use ndarray::Array2;
use std::time::Instant;

/// A network by its widths: data, hidden layers, latent dimensions.
pub struct Network(pub &'static [usize]);

impl Network {
    pub fn name(&self) -> String {
        self.0.iter().map(usize::to_string).collect::<Vec<_>>().join("-")
    }

    pub fn trainer(&self, batch: usize, shards: usize, compute: Compute) -> Result<Trainer> {
        let [features, hidden @ .., latent] = self.0 else { unreachable!("a network has widths") };
        let config = Config::builder(*features, *latent).hidden(hidden).build()?;
        let options = Options { batch, shards, ..Options::default() };
        Trainer::new(Vae::new(config, 1), options, compute)
    }

    pub fn data(&self, rows: usize) -> Array2<u8> {
        Array2::from_shape_fn((rows, self.0[0]), |(r, c)| ((r * 31 + c * 7) % 256) as u8)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|a| a == argument);
    // `cargo bench` passes `--bench`; `cargo test` does not.
    if has("--test") || !has("--bench") {
        return shards(&Network(&[20, 16, 3]), &[32], 2);
    }
    if has("shards") {
        return shards(&Network(&[784, 400, 20]), &[128, 1024, 4096], 40);
    }
    println!("cargo bench --bench ranks -- shards");
    Ok(())
}

/// Steps with one shard and with four in turn: the best of five rounds of `steps` steps.
fn shards(network: &Network, batches: &[usize], steps: u64) -> Result<()> {
    println!("| rows of a batch | 1 shard | 4 shards | cost |\n|---|---|---|---|");
    for &batch in batches {
        let data = network.data(4 * batch);
        let mut trainers =
            [1, 4].map(|shards| network.trainer(batch, shards, Compute::parallel().unwrap()));
        let mut best = [f64::INFINITY; 2];
        for round in 0..6 {
            for (trainer, best) in trainers.iter_mut().zip(&mut best) {
                let trainer = trainer.as_mut().expect("a valid network");
                let steps = (steps * 128 / batch as u64).max(2);
                let (began, until) = (Instant::now(), trainer.steps() + steps);
                while trainer.steps() < until {
                    trainer.step(&data)?;
                }
                let time = began.elapsed().as_secs_f64() / steps as f64;
                // The first round warms up.
                if round > 0 {
                    *best = best.min(time);
                }
            }
        }
        let [one, four] = best;
        let cost = 100.0 * (four / one - 1.0);
        println!("| {batch} | {:.3} ms | {:.3} ms | {cost:.1} % |", 1e3 * one, 1e3 * four);
    }
    Ok(())
}
