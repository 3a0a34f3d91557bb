//! Random configurations on each instruction set and thread count, down to the hash of everything a run
//! produces, and the hashes of twelve of them as they were when the file was committed.
//!
//! `cargo test --release --features cli,twins --test bits -- --ignored` takes a thousand cases through the
//! whole matrix.

use crate::draw::Case;
use elbo::random::{Generator, Stream};
use elbo::simd::InstructionSet;
use elbo::train::Trainer;
use elbo::vae::{EvaluationOptions, Vae};
use elbo::{Compute, Error};
use ndarray::Array2;
use std::fmt;

/// Steps of each run.
const STEPS: u64 = 20;

/// Thread counts of the matrix.
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// Hashes of a run's results, each of which names what differs.
#[derive(Clone, Copy, PartialEq)]
struct Hashes {
    /// Parameters after the last step.
    weights: u64,
    /// Normal noise of the latent's width.
    noise: u64,
    /// Loss, terms, β and learning rate of each step.
    loss: u64,
    /// Means of each epoch, as they are logged.
    history: u64,
    /// Codes, reconstructions, samples, scores and the evaluation of the trained model.
    inference: u64,
}

impl fmt::Display for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, noise, loss, history, inference } = self;
        write!(f, "{weights:016x} {noise:016x} {loss:016x} {history:016x} {inference:016x}")
    }
}

/// FNV-1a over the bits of numbers; all NaNs are one, as their payloads are outside of the contract.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn f64s(&mut self, values: impl IntoIterator<Item = f64>) {
        for value in values {
            let value = if value.is_nan() { f64::NAN } else { value };
            self.bytes(&value.to_bits().to_le_bytes());
        }
    }

    fn f32s<'a>(&mut self, values: impl IntoIterator<Item = &'a f32>) {
        for &value in values {
            let value = if value.is_nan() { f32::NAN } else { value };
            self.bytes(&value.to_bits().to_le_bytes());
        }
    }

    /// An error is a result like another. Its text may be reworded, so only the kind counts.
    fn error(&mut self, error: &Error) {
        self.bytes(variant(error).as_bytes());
    }
}

/// The name of an enum's variant.
fn variant(value: &impl fmt::Debug) -> String {
    format!("{value:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// A case of the matrix. Small models are deep and take many rows, wide ones are shallow and take few, so that
/// each run is short.
fn case(seed: u64) -> Option<Case> {
    let (widths, depth, rows) = match seed % 4 {
        0 => ([1, 20], 4, [2, 300]),
        1 => ([1, 100], 3, [2, 300]),
        2 => ([40, 300], 2, [2, 80]),
        _ => ([250, 600], 1, [2, 14]),
    };
    let mut case = Case::draw(seed, widths, depth, rows)?;
    // Batches of one row too, where the objective allows them.
    if seed % 11 == 3 {
        case.options.batch = 1;
    }
    case.options.validate_for(&case.config).ok()?;
    Some(case)
}

/// Runs a case and hashes all that it produces.
fn run(case: &Case, compute: &Compute) -> Hashes {
    let rows = case.x.nrows();
    let data = case.data(rows);
    let vae = Vae::new(case.config.clone(), case.seed);
    let mut trainer = Trainer::new(vae, case.options.clone(), compute.clone()).unwrap();

    let (mut loss, mut history) = (Fnv::new(), Fnv::new());
    let mut epochs = 0;
    while trainer.steps() < STEPS {
        match trainer.step(&data) {
            Ok(Some(step)) => {
                loss.f64s([step.loss, step.reconstruction, step.kl, step.learning_rate]);
                loss.f32s(&[step.beta]);
            }
            Ok(None) => {}
            Err(error) => {
                loss.error(&error);
                break;
            }
        }
        if trainer.epochs() > epochs {
            epochs = trainer.epochs();
            let epoch = trainer.epoch_so_far();
            history.f64s([epoch.loss, epoch.reconstruction, epoch.kl, epoch.learning_rate]);
            history.f32s(&[epoch.beta]);
            trainer.observe(epoch.loss);
        }
    }

    let mut noise = Fnv::new();
    let mut normal = Array2::zeros((rows.min(40), case.config.latent()));
    Generator::new(case.seed)
        .normal(compute.simd(), normal.view_mut(), Stream::Noise, 3, 0)
        .unwrap();
    noise.f32s(&normal);

    let vae = trainer.vae();
    let mut weights = Fnv::new();
    weights.f32s(vae.parameters().iter());

    let mut inference = Fnv::new();
    let conditions = case.conditions.view();
    let code = vae.encode_given(compute, case.x.view(), conditions).unwrap();
    inference.f32s(code.mu.iter().chain(&code.logvar));
    inference.f32s(&vae.reconstruct_given(compute, case.x.view(), conditions).unwrap());
    inference.f32s(&vae.sample_given(compute, conditions, 9).unwrap());
    let options = EvaluationOptions { objective: case.options.objective, ..Default::default() };
    match vae.evaluate(compute, &data, &options) {
        Ok(found) => {
            inference.f64s([found.loss, found.reconstruction, found.kl]);
            inference.f64s(found.kl_per_dimension.iter().copied());
        }
        Err(error) => inference.error(&error),
    }
    match vae.score(compute, &data) {
        Ok(scores) => inference.f64s(scores.negative_elbo()),
        Err(error) => inference.error(&error),
    }
    Hashes {
        weights: weights.0,
        noise: noise.0,
        loss: loss.0,
        history: history.0,
        inference: inference.0,
    }
}

/// Compares two runs of a case, and names what differs.
fn assert_same(found: Hashes, expected: Hashes, what: &str) {
    for (name, found, expected) in [
        ("weights", found.weights, expected.weights),
        ("noise", found.noise, expected.noise),
        ("loss", found.loss, expected.loss),
        ("history", found.history, expected.history),
        ("inference", found.inference, expected.inference),
    ] {
        assert!(found == expected, "{name} differ: {what}");
    }
}

/// Runs each case with a seed of `seeds` on all of `computes`, whose choice may depend on the seed.
fn assert_one_hash(
    seeds: impl IntoIterator<Item = u64>,
    computes: impl Fn(u64) -> Vec<(InstructionSet, usize)>,
) -> usize {
    let mut cases = 0;
    for seed in seeds {
        let Some(case) = case(seed) else { continue };
        cases += 1;
        let expected = run(&case, &Compute::serial());
        for (set, threads) in computes(seed) {
            let found = run(&case, &Compute::new(set, threads).unwrap());
            let what = format!(
                "case {seed}, {set}, {threads} threads: {:?} {:?}",
                case.config, case.options
            );
            assert_same(found, expected, &what);
        }
    }
    cases
}

#[test]
fn random_configurations_have_one_hash_on_every_set_and_thread_count() {
    let cases = assert_one_hash(0..48, |seed| {
        // Each set once, the thread counts in turn; the best set on all of them.
        let sets = InstructionSet::available().into_iter().enumerate();
        sets.map(|(i, set)| (set, THREADS[(i + seed as usize) % THREADS.len()]))
            .chain(THREADS.map(|threads| (InstructionSet::detect(), threads)))
            .collect()
    });
    assert!(cases >= 30, "{cases} cases");
}

#[test]
#[ignore = "takes hours; the documented command of this file runs it"]
fn a_thousand_configurations_have_one_hash_on_the_whole_matrix() {
    let cases = assert_one_hash(1_000..2_500, |_| {
        let sets = InstructionSet::available();
        sets.into_iter().flat_map(|set| THREADS.map(|threads| (set, threads))).collect()
    });
    println!("{cases} cases, {} sets, threads {THREADS:?}", InstructionSet::available().len());
    assert!(cases >= 1_000, "{cases} cases");
}

/// Hashes by seed, in the columns of [`Hashes`].
const GOLDEN: &str = include_str!("golden.txt");

/// Seeds of the golden hashes: twelve cases of all four sizes.
const GOLDEN_SEEDS: [u64; 12] = [0, 1, 2, 4, 5, 6, 8, 9, 12, 13, 17, 23];

#[test]
fn golden_hashes_are_those_committed() {
    let mut lines = vec!["# seed weights noise loss history inference: the case".to_owned()];
    for seed in GOLDEN_SEEDS {
        let case = case(seed).expect("a seed whose options go together");
        let (config, options) = (&case.config, &case.options);
        let (penalty, optimizer) = (variant(&options.objective.penalty), options.optimizer.name());
        let what = format!("{config}, batch {}, {penalty}, {optimizer}", options.batch);
        let hashes = run(&case, &Compute::serial());
        for set in InstructionSet::available() {
            let found = run(&case, &Compute::new(set, 1).unwrap());
            assert_same(found, hashes, &format!("{set}: {what}"));
        }
        lines.push(format!("{seed} {hashes}: {what}"));
    }
    let found = lines.join("\n") + "\n";
    assert!(
        found == GOLDEN,
        "A change of bits. If it is intended, list it in CHANGELOG.md under \"Numerics\" and put this into \
         tests/bits/golden.txt:\n{found}"
    );
}
