//! Trains random configurations for a few steps with arbitrary data on every instruction set and thread
//! count. The scalar set on one thread is the oracle: losses, errors and weights must be the same to the bit.
//! A step that succeeds leaves finite weights, and one that fails leaves the weights as they were.

#![no_main]

use draw::Case;
use elbo::train::Trainer;
use elbo::vae::{EvaluationOptions, Vae};
use elbo::{Compute, simd::InstructionSet};
use elbo_fuzz::{COMPUTES, Input, same};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/composition/draw.rs"]
#[allow(dead_code)]
mod draw;

/// Outcome of a run in bits and words, for comparison.
fn run(case: &Case, data: &draw::Rows, compute: &Compute) -> (Vec<String>, Vec<f32>) {
    let vae = Vae::new(case.config.clone(), case.seed);
    let mut trainer = Trainer::new(vae, case.options.clone(), compute.clone()).unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        let before = trainer.vae().parameters()[..].to_vec();
        match trainer.step(data) {
            Ok(step) => {
                outcomes.push(step.map_or("none".to_owned(), |step| {
                    format!("{:016x} {:016x}", step.loss.to_bits(), step.kl.to_bits())
                }));
                let weights = trainer.vae().parameters();
                assert!(
                    weights.iter().all(|w| w.is_finite()),
                    "weights after a step that succeeded"
                );
            }
            Err(error) => {
                outcomes.push(error.to_string());
                let pairs = trainer.vae().parameters().iter().zip(&before);
                assert!(pairs.clone().all(|(&a, &b)| same(a, b)), "weights after: {error}");
                break;
            }
        }
    }
    let options = EvaluationOptions { objective: case.options.objective, ..Default::default() };
    outcomes.push(match trainer.vae().evaluate(compute, data, &options) {
        Ok(found) => format!("{:016x}", found.loss.to_bits()),
        Err(error) => error.to_string(),
    });
    (outcomes, trainer.vae().parameters()[..].to_vec())
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let seed = u64::from_le_bytes(std::array::from_fn(|_| input.byte()));
    let widths = [[1, 12], [1, 40], [30, 140]][input.size(2)];
    let Some(case) = Case::draw(seed, widths, 3, [2, 40]) else { return };
    let rows = case.x.nrows();
    let mut data = case.data(rows);
    // Half of the inputs replace the case's tame data.
    if input.flag() {
        data.x = input.matrix(rows, case.config.features());
    }
    let oracle = Compute::new(InstructionSet::SCALAR, 1).expect("one thread");
    let expected = run(&case, &data, &oracle);
    for compute in COMPUTES.iter() {
        let found = run(&case, &data, compute);
        let what = format!("{} on {}: {:?}", compute.simd(), compute.threads(), case.config);
        assert_eq!(found.0, expected.0, "{what}");
        let mut pairs = found.1.iter().zip(&expected.1);
        assert!(pairs.all(|(&a, &b)| same(a, b)), "weights, {what}");
    }
});
