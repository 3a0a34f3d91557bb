//! Steps of a warm trainer make no heap allocation, and loss kernels never do.

mod counting;

use counting::allocations;
use elbo::Compute;
use elbo::loss::{self, Bernoulli, Kl, Prior, Reduction};
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Objective, Penalty, Vae};
use ndarray::Array2;

/// One test, so that no other runs beside it and is counted with it.
#[test]
fn warm_steps_do_not_allocate() {
    // Large enough for the threads to share; the last batch of an epoch is short.
    let data = Array2::from_shape_fn((400, 196), |(r, c)| ((r * c) % 256) as u8);
    for threads in [1, 2, 5] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        let config = Config::builder(196, 8).hidden(&[120]).build().unwrap();
        let options = Options { batch: 96, ..Options::default() };
        let mut trainer = Trainer::new(Vae::new(config, 1), options, compute.clone()).unwrap();
        let mut counted = Vec::with_capacity(400);
        trainer.step(&data).unwrap();
        for _ in 0..40 {
            loop {
                let before = allocations();
                let step = trainer.step(&data).unwrap();
                counted.push(allocations() - before);
                if step.is_none() {
                    break;
                }
            }
        }
        assert!(counted.len() >= 40 * 5);
        assert!(counted.iter().all(|&n| n == 0), "{threads} threads: {counted:?}");
    }
    only_the_first_batch_makes_room();
    loss_kernels_do_not_allocate();
    inference_does_not_allocate();
}

/// The short last batch of an epoch uses the room of the whole ones, on any number of threads and
/// whether or not they share it, and the next epoch finds the room as it was.
fn only_the_first_batch_makes_room() {
    let data = Array2::from_shape_fn((326, 64), |(r, c)| ((r * c) % 256) as u8);
    for threads in [1, 2, 4, 8] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        for (rows, batch, samples) in
            [(326, 256, 1), (200, 128, 1), (300, 280, 1), (97, 96, 1), (140, 96, 3)]
        {
            let config = Config::builder(64, 8).hidden(&[64]).build().unwrap();
            let penalty = if samples > 1 { Penalty::importance(samples) } else { Penalty::Kl };
            let objective = Objective { penalty, ..Objective::default() };
            let options = Options { batch, objective, ..Options::default() };
            let mut trainer = Trainer::new(Vae::new(config, 1), options, compute.clone()).unwrap();
            let data = data.slice(ndarray::s![..rows, ..]);
            trainer.step(&data).unwrap();
            let before = allocations();
            for _ in 0..3 {
                while trainer.step(&data).unwrap().is_some() {}
            }
            let made = allocations() - before;
            assert_eq!(made, 0, "{threads} threads, {rows} rows, {batch} a batch, k={samples}");
        }
    }
}

/// One row, whose outputs threads share, and many.
fn inference_does_not_allocate() {
    let vae = Vae::new(Config::builder(600, 8).hidden(&[500]).build().unwrap(), 1);
    for threads in [1, 2] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        let mut inference = vae.inference(&compute);
        for rows in [1, 100] {
            let x = Array2::from_elem((rows, 600), 0.5);
            let mut pixels = Array2::zeros((rows, 600));
            let (mut mu, mut logvar) = (Array2::zeros((rows, 8)), Array2::zeros((rows, 8)));
            let allocated = compute.install(|| {
                let mut call = || {
                    inference.reconstruct(pixels.view_mut(), x.view()).unwrap();
                    inference.encode(mu.view_mut(), logvar.view_mut(), x.view()).unwrap();
                    inference.decode(pixels.view_mut(), mu.view()).unwrap();
                };
                call();
                let before = allocations();
                (0..50).for_each(|_| call());
                allocations() - before
            });
            assert_eq!(allocated, 0, "{rows} rows, {threads} threads");
        }
    }
}

/// The fused objective into the caller's buffers, on every number of threads.
fn loss_kernels_do_not_allocate() {
    let (rows, columns, latent) = (300, 50, 4);
    let logits = Array2::<f32>::from_elem((rows, columns), 0.5);
    let targets = Array2::<f32>::from_elem((rows, columns), 0.25);
    let (mu, logvar) = (Array2::<f32>::ones((rows, latent)), Array2::<f32>::zeros((rows, latent)));
    let mut dlogits = Array2::<f32>::zeros((rows, columns));
    let (mut dmu, mut dlogvar) = (mu.clone(), mu.clone());
    for threads in [1, 2, 5] {
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        let mut run = || {
            let before = allocations();
            loss::elbo::forward_backward(
                &compute,
                loss::elbo::Terms { reconstruction: Bernoulli, penalty: Kl, beta: 1.0 },
                loss::elbo::Gradients {
                    doutputs: dlogits.view_mut(),
                    dmu: dmu.view_mut(),
                    dlogvar: dlogvar.view_mut(),
                },
                loss::elbo::Inputs {
                    outputs: logits.view(),
                    targets: targets.view(),
                    mu: mu.view(),
                    logvar: logvar.view(),
                    prior: Prior::default(),
                },
                Reduction::BatchMean,
            )
            .unwrap();
            allocations() - before
        };
        run();
        let counted: usize = (0..50).map(|_| run()).sum();
        assert_eq!(counted, 0, "{threads} threads");
    }
}
