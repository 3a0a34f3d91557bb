//! The bits contract, on whole training runs: the same model file on any number of threads and
//! any instruction set.
#![cfg(feature = "safetensors")]

#[path = "../composition/draw.rs"]
#[allow(dead_code, reason = "shared with the tests of composition")]
mod draw;
mod matrix;

use elbo::optim::Clip;
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use ndarray::{Array2, s};
use std::fs;
use std::path::PathBuf;

/// Gray values with structure in rows and columns, so that there is something to learn.
fn bytes(rows: usize, columns: usize) -> Array2<u8> {
    Array2::from_shape_fn((rows, columns), |(r, c)| {
        let phase = (r * 7 + c * (1 + r % 3)) % 17;
        if phase < 6 { 255 - (phase * 40) as u8 } else { ((r * c) % 5) as u8 }
    })
}

/// The model file, byte for byte, after `steps` steps.
fn train(
    config: &Config,
    data: &dyn Dataset,
    batch: usize,
    steps: u64,
    compute: Compute,
) -> Vec<u8> {
    let options = Options { batch, seed: 7, ..Options::default() };
    let what = format!("{}-{}", compute.simd(), compute.threads());
    let mut trainer = Trainer::new(Vae::new(config.clone(), 3), options, compute).unwrap();
    while trainer.steps() < steps {
        trainer.step(data).unwrap();
    }
    file(trainer.vae(), &what)
}

fn file(vae: &Vae, what: &str) -> Vec<u8> {
    let path = temporary(what);
    vae.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bytes
}

fn temporary(what: &str) -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", "-");
    std::env::temp_dir().join(format!("elbo-bits-{test}-{what}-{}", std::process::id()))
}

/// All sets on one thread, and the widest on two and five.
fn everywhere() -> Vec<Compute> {
    let best = InstructionSet::detect();
    let sets = InstructionSet::available().into_iter().map(|set| (set, 1));
    let threads = [(best, 2), (best, 5), (InstructionSet::SCALAR, 2)];
    sets.chain(threads).map(|(set, threads)| Compute::new(set, threads).unwrap()).collect()
}

fn assert_one_file(config: &Config, data: &dyn Dataset, batch: usize, steps: u64) {
    let expected = train(config, data, batch, steps, Compute::serial());
    for compute in everywhere() {
        let what = format!("{config}, batch {batch}: {} on {}", compute.simd(), compute.threads());
        assert!(train(config, data, batch, steps, compute) == expected, "{what}");
    }
}

#[test]
fn two_hundred_steps_give_the_same_file_everywhere() {
    // 150 rows in batches of 64: the last batch has 22. Enough work for the threads to share.
    let config = Config::builder(100, 5).hidden(&[72]).build().unwrap();
    assert_one_file(&config, &bytes(150, 100), 64, 200);
}

#[test]
fn odd_widths_and_batches_give_the_same_file_everywhere() {
    let config = Config::builder(37, 3).hidden(&[29]).build().unwrap();
    assert_one_file(&config, &bytes(101, 37), 23, 200);
    // Different depths on each side, and widths of one.
    let config = Config::builder(19, 1).encoder(&[33, 17]).decoder(&[1, 50, 3]).build().unwrap();
    assert_one_file(&config, &bytes(31, 19), 7, 40);
    // Latent codes wider than 32, a register's worth of two rows' noise, and wider than 128, a
    // chain of sums.
    let config = Config::builder(60, 40).hidden(&[50]).build().unwrap();
    assert_one_file(&config, &bytes(40, 60), 20, 10);
    let config = Config::builder(140, 130).hidden(&[50]).build().unwrap();
    assert_one_file(&config, &bytes(40, 140), 20, 6);
    // No hidden layer at all, and batches of one row.
    let config = Config::builder(5, 2).hidden(&[]).build().unwrap();
    assert_one_file(&config, &bytes(9, 5), 1, 40);
}

#[test]
fn batches_and_layers_in_several_stretches_give_the_same_file_everywhere() {
    // More than 128 rows, more than 96 inputs, more than 144 outputs: the chains of the weight
    // gradient and of the input gradient are set down and taken up again.
    let config = Config::builder(301, 5).hidden(&[150]).build().unwrap();
    assert_one_file(&config, &bytes(300, 301), 290, 3);
}

#[test]
fn threads_that_share_a_step_change_no_bit() {
    // Above the work from which a step is given to several threads.
    let config = Config::builder(300, 10).hidden(&[120, 60]).build().unwrap();
    let data = bytes(333, 300);
    let expected = train(&config, &data, 130, 12, Compute::serial());
    for threads in [2, 3, 5, 8] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        assert!(train(&config, &data, 130, 12, compute) == expected, "{threads} threads");
    }
}

#[test]
fn threads_that_share_odd_widths_and_short_batches_change_no_bit() {
    // 333 rows in batches of 131: the last batch has 71, and no width is a multiple of four.
    let config = Config::builder(301, 7).encoder(&[123, 61]).decoder(&[59, 119]).build().unwrap();
    let data = bytes(333, 301);
    let expected = train(&config, &data, 131, 9, Compute::serial());
    for threads in [2, 3, 5] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        assert!(train(&config, &data, 131, 9, compute) == expected, "{threads} threads");
    }
}

/// A batch of 16 MiB of activations or more is taken in parts: to the bits of one whole, of which the gradient of
/// each part is stored.
#[test]
fn batches_larger_than_the_cache_have_the_bits_of_small_ones() {
    let config = Config::builder(3000, 5).hidden(&[60]).build().unwrap();
    let data = bytes(1100, 3000);
    for clip in [None, Some(Clip::Norm(1e3))] {
        let train = |batch, accumulate, compute| {
            let options = Options { batch, accumulate, clip, ..Options::default() };
            let mut trainer = Trainer::new(Vae::new(config.clone(), 3), options, compute).unwrap();
            let mut losses = Vec::new();
            // An epoch is one step.
            for _ in 0..2 {
                trainer.epoch(&data, |step| losses.push(step.loss)).unwrap();
            }
            (losses, trainer.vae().parameters().to_vec())
        };
        let simd = InstructionSet::detect();
        let (loss, weights) = train(1100, 1, Compute::serial());
        for threads in [2, 3] {
            let found = train(1100, 1, Compute::new(simd, threads).unwrap());
            assert_eq!(found.0, loss);
            assert!(found.1 == weights, "{threads} threads");
        }
        let (losses_of_parts, weights_of_parts) = train(110, 10, Compute::serial());
        assert!(weights_of_parts == weights);
        for (part, whole) in losses_of_parts.iter().zip(&loss) {
            assert!((part - whole).abs() <= 1e-12 * whole.abs(), "{part} {whole}");
        }
    }
}

#[test]
fn bytes_train_to_the_same_bits_as_floats() {
    let config = Config::builder(37, 3).hidden(&[29]).build().unwrap();
    let gray = bytes(64, 37);
    let floats = gray.mapv(|value| f32::from(value) / 255.0);
    let serial = Compute::serial;
    assert!(train(&config, &gray, 16, 20, serial()) == train(&config, &floats, 16, 20, serial()));
}

#[test]
fn split_updates_have_the_bits_of_fused_ones() {
    // The second one is large enough for threads to share and for chains to be taken up again.
    for (features, hidden, rows, steps) in [(37, vec![29, 17], 48, 10), (301, vec![150], 300, 2)] {
        let config = Config::builder(features, 3).hidden(&hidden).build().unwrap();
        let x = bytes(rows, features).mapv(|value| f32::from(value) / 255.0);
        let noise =
            Array2::from_shape_fn((rows, 3), |(r, c)| ((r * 5 + c * 3) % 11) as f32 / 5.0 - 1.0);
        for compute in everywhere() {
            let what = format!("{config}: {} on {}", compute.simd(), compute.threads());
            let vae = Vae::new(config.clone(), 1);
            let mut fused = Trainer::new(vae.clone(), Options::default(), compute.clone()).unwrap();
            let mut split = Trainer::new(vae, Options::default(), compute).unwrap();
            for i in 0..steps {
                let rows = s![4 * i.., ..];
                let step = fused.step_with_noise(&x.slice(rows), noise.slice(rows)).unwrap();
                let loss = split.gradient_with_noise(&x.slice(rows), noise.slice(rows)).unwrap();
                split.apply_gradient().unwrap();
                assert_eq!(step.loss.to_bits(), loss.loss.to_bits(), "{what}");
            }
            assert!(fused.vae().parameters()[..] == split.vae().parameters()[..], "{what}");
        }
    }
}

#[test]
fn resumed_runs_have_the_bits_of_uninterrupted_ones() {
    let config = Config::builder(37, 3).hidden(&[29]).build().unwrap();
    let data = bytes(101, 37);
    let options = Options { batch: 23, seed: 7, ..Options::default() };
    let compute = Compute::serial();
    let start =
        || Trainer::new(Vae::new(config.clone(), 3), options.clone(), compute.clone()).unwrap();
    let mut whole = start();
    while whole.steps() < 20 {
        whole.step(&data).unwrap();
    }
    // Interrupted before the first step, within an epoch, at its end, and within a later one.
    for interrupted_after in [0, 3, 5, 12] {
        let mut first_part = start();
        while first_part.steps() < interrupted_after {
            first_part.step(&data).unwrap();
        }
        let path = temporary("checkpoint");
        first_part.save_checkpoint(&path).unwrap();
        let mut resumed = Trainer::resume(&path, compute.clone()).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(resumed.steps(), interrupted_after);
        while resumed.steps() < 20 {
            resumed.step(&data).unwrap();
        }
        let same = file(resumed.vae(), "resumed") == file(whole.vae(), "whole");
        assert!(same, "interrupted after {interrupted_after}");
    }
}

#[test]
fn evaluation_and_inference_have_the_same_bits_everywhere() {
    let config = Config::builder(100, 5).hidden(&[72]).build().unwrap();
    let vae = Vae::new(config, 3);
    let data = bytes(1100, 100);
    let x = data.mapv(|value| f32::from(value) / 255.0);
    let run = |compute: &Compute| {
        let evaluation = vae
            .evaluate(compute, &data, &EvaluationOptions { seed: 5, ..Default::default() })
            .unwrap();
        let code = vae.encode(compute, x.view()).unwrap();
        let pixels = vae.reconstruct(compute, x.slice(s![..77, ..])).unwrap();
        (evaluation, code, pixels, vae.sample(compute, 70, 9).unwrap())
    };
    let expected = run(&Compute::serial());
    for compute in everywhere() {
        assert!(run(&compute) == expected, "{} on {}", compute.simd(), compute.threads());
    }
}
