//! Random configurations of layers, likelihoods, objectives and optimizers against a twin in f64.
//!
//! `ELBO_CASES=1000 cargo test --test composition` draws more of them.

mod draw;
mod twin;

use draw::Case;
use elbo::Augmentation;
use elbo::Compute;
use elbo::distributed::ThreadRanks;
use elbo::loss::importance::Estimator;
use elbo::random::{Generator, Stream};
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, EvaluationOptions, Objective, Parameters, Penalty, Vae};
use ndarray::{Array1, Array2, s};
use std::sync::Arc;
use twin::{Tensors, Twin};

fn cases(count: u64) -> impl Iterator<Item = u64> {
    let asked = std::env::var("ELBO_CASES").ok().and_then(|n| n.parse().ok());
    0..asked.unwrap_or(count)
}

fn trainer(case: &Case, compute: &Compute) -> Trainer {
    let vae = Vae::new(case.config.clone(), case.seed);
    Trainer::new(vae, case.options.clone(), compute.clone()).expect("it was validated")
}

fn bits(parameters: &Parameters) -> Vec<u32> {
    parameters.iter().map(|value| value.to_bits()).collect()
}

/// The data after augmentation, after `step` steps.
fn augmented(case: &Case, x: &Array2<f32>, step: u64) -> Array2<f64> {
    let stream = match case.options.augmentation {
        Augmentation::None => return x.mapv(f64::from),
        Augmentation::Binarize => Stream::Binarize,
        Augmentation::Dequantize { .. } => Stream::Dequantize,
    };
    let mut uniform = Array2::zeros(x.dim());
    let generator = Generator::new(case.options.seed);
    generator.uniform(InstructionSet::SCALAR, uniform.view_mut(), stream, step, 0).unwrap();
    ndarray::Zip::from(x).and(&uniform).map_collect(|&x, &u| match case.options.augmentation {
        Augmentation::Dequantize { levels } => {
            let levels = f64::from(levels);
            (f64::from(x) * (levels - 1.0) + f64::from(u)) / levels
        }
        _ => f64::from(u8::from(u < x)),
    })
}

#[test]
fn gradients_match_central_differences_of_the_twin() {
    let mut worst = (0.0_f64, String::new());
    let (mut elements, mut kinks) = (0, 0);
    for seed in cases(400) {
        let Some(case) = Case::draw(seed, [2, 7], 2, [3, 6]) else { continue };
        let rows = case.x.nrows();
        let (data, noise) = (case.data(rows), case.noise(rows));
        let mut trainer = trainer(&case, &Compute::serial());
        // Schedules start at 0: the weight of some penalties, and every capacity.
        for _ in 0..seed % 3 {
            trainer.step_with_noise(&data, noise.view()).unwrap();
        }
        let found = trainer.gradient_with_noise(&data, noise.view()).unwrap();
        let twin = Twin {
            config: &case.config,
            objective: &case.options.objective,
            x: augmented(&case, &data.x, trainer.steps()),
            conditions: data.conditions.mapv(f64::from),
            noise: noise.mapv(f64::from),
            seed: case.options.seed,
            step: trainer.steps(),
        };
        let tensors = Tensors::of(trainer.vae().parameters());
        let what = format!("case {seed}: {:?} {:?}", case.config, case.options.objective);
        let here = tensors.clone();
        let loss = twin.loss(&tensors);
        let size = loss.abs().max(1.0);
        assert!((found.loss - loss).abs() < 3e-6 * size, "{} {loss}, {what}", found.loss);

        // The doubly reparameterized gradient of the encoder is not that of the loss for this noise,
        // but of another function.
        let dreg = matches!(
            case.options.objective.penalty,
            Penalty::Importance { estimator: Estimator::Dreg, .. }
        );
        let gradient = Tensors::of(trainer.gradient().unwrap());
        let overall = gradient.0.values().flatten().fold(0.0_f64, |a, g| a.max(g.abs()));
        for (name, gradient) in &gradient.0 {
            let surrogate = dreg && !name.starts_with("decoder") && !name.starts_with("likelihood");
            let value = |tensors: &Tensors| match surrogate {
                true => twin.dreg(tensors, &here),
                false => twin.loss(tensors),
            };
            let loss = value(&tensors);
            let largest = gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
            for (index, &found) in gradient.indexed_iter() {
                let h = 1e-5;
                let at = |by: f64| {
                    let mut moved = tensors.clone();
                    moved.0.get_mut(name).unwrap()[index] += by;
                    value(&moved)
                };
                let (above, below) = (at(h), at(-h));
                let exact = (above - below) / (2.0 * h);
                elements += 1;
                // At the kink of a ReLU, a threshold or an absolute value the slopes to both sides
                // differ.
                assert!(found.is_finite() && exact.is_finite(), "{name}{index:?}, {what}");
                let bend = ((above - loss) - (loss - below)).abs() / h;
                if bend > 1e-3 * (largest + 1e-3 * overall + 1e-5 * size) {
                    kinks += 1;
                    continue;
                }
                // Two losses in f64 leave some 1e-11 of their size after the division.
                let error = (found - exact).abs() / (largest + 1e-3 * overall + 1e-5 * size);
                if error > worst.0 {
                    worst = (error, format!("{name}{index:?}: {found} {exact}, {what}"));
                }
            }
        }
    }
    assert!(worst.0 < 3e-5, "{worst:?}");
    assert!(elements > 20_000, "{elements}");
    assert!(kinks * 200 < elements, "{kinks} kinks among {elements}");
}

/// Total correlation estimates q(z) from the rows of a batch, whatever the data set that they come from.
#[test]
fn total_correlation_does_not_depend_on_the_rows_of_the_data_set() {
    let config = Config::builder(5, 3).hidden(&[4]).build().unwrap();
    let penalty = Penalty::TotalCorrelation { alpha: 0.7, gamma: 1.3 };
    let objective = Objective { penalty, beta: 4.0, ..Objective::default() };
    let x = Array2::from_shape_fn((40, 5), |(r, c)| ((r * 7 + c * 3) % 5) as f32 / 4.0);
    let mut noise = Array2::zeros((7, 3));
    let generator = Generator::new(9);
    generator.normal(InstructionSet::SCALAR, noise.view_mut(), Stream::Noise, 0, 0).unwrap();
    let twin = Twin {
        config: &config,
        objective: &objective,
        x: x.slice(s![..7, ..]).mapv(f64::from),
        conditions: Array2::zeros((7, 0)),
        noise: noise.mapv(f64::from),
        seed: 9,
        step: 0,
    };
    let exact = twin.loss(&Tensors::of(Vae::new(config.clone(), 2).parameters()));
    for rows in [7, 40] {
        let options = Options { objective, seed: 9, ..Options::default() };
        let vae = Vae::new(config.clone(), 2);
        let mut trainer = Trainer::new(vae, options, Compute::serial()).unwrap();
        let data = x.slice(s![..rows, ..]);
        let found = trainer.gradient_of_rows(&data, &[0, 1, 2, 3, 4, 5, 6]).unwrap();
        assert!((found.loss - exact).abs() < 3e-6 * exact.abs(), "{} {exact}", found.loss);
    }
}

/// The case in which the three parts are 0: every posterior is the prior.
#[test]
fn collapsed_posteriors_have_no_total_correlation() {
    let config = Config::builder(4, 10).hidden(&[3]).build().unwrap();
    let mut vae = Vae::new(config, 2);
    for head in ["mu", "logvar"] {
        let parameters = vae.parameters_mut();
        let (weight, bias) = (Array2::zeros((10, 3)), Array1::zeros(10));
        parameters.set(head, weight.view(), bias.view()).unwrap();
    }
    let penalty = Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 };
    let objective = Objective { penalty, beta: 6.0, ..Objective::default() };
    let options = EvaluationOptions { objective, ..EvaluationOptions::default() };
    for rows in [1, 2, 255, 256, 257, 1000] {
        let x = Array2::from_shape_fn((rows, 4), |(r, c)| ((r * 7 + c * 3) % 5) as f32 / 4.0);
        let found = vae.evaluate(&Compute::serial(), &x, &options).unwrap();
        let penalty = found.loss - found.reconstruction;
        assert!(penalty.abs() < 1e-3, "{rows} rows: {penalty}");
    }
}

/// Inference and the marginal likelihood are code of their own.
#[test]
fn inference_and_marginal_likelihoods_match_the_twin() {
    let mut marginals = 0;
    for seed in cases(200) {
        let Some(case) = Case::draw(seed, [2, 9], 2, [3, 6]) else { continue };
        if case.config.dropout() > 0.0 {
            continue;
        }
        let (data, compute) = (case.data(case.x.nrows()), Compute::serial());
        let vae = Vae::new(case.config.clone(), case.seed);
        let k = [1, 3, 65][seed as usize % 3];
        let objective = Objective { penalty: Penalty::importance(k), ..Objective::default() };
        let mut noise = Array2::zeros((data.x.nrows() * k, case.config.latent()));
        let generator = Generator::new(1);
        generator.normal(InstructionSet::SCALAR, noise.view_mut(), Stream::Evaluate, 0, 0).unwrap();
        let twin = Twin {
            config: &case.config,
            objective: &objective,
            x: data.x.mapv(f64::from),
            conditions: data.conditions.mapv(f64::from),
            noise: noise.mapv(f64::from),
            seed: 0,
            step: 0,
        };
        let tensors = Tensors::of(vae.parameters());
        let [mu, logvar, z, output] = twin.forward(&tensors);
        let what = format!("case {seed}: {:?}", case.config);
        let near = |found: &Array2<f32>, exact: &Array2<f64>| {
            let mut pairs = found.iter().zip(exact);
            let close = |(&f, e): (&f32, &f64)| (f64::from(f) - e).abs() < 1e-5 * (1.0 + e.abs());
            assert!(pairs.all(close), "{found} {exact}, {what}");
        };
        let conditional = case.config.conditions() > 0;
        let (x, c) = (data.x.view(), data.conditions.view());
        let code = match conditional {
            true => vae.encode_given(&compute, x, c).unwrap(),
            false => vae.encode(&compute, x).unwrap(),
        };
        near(&code.mu, &mu);
        near(&code.logvar, &logvar);
        if !conditional {
            let z = z.mapv(|z| z as f32);
            near(&vae.decode_logits(&compute, z.view()).unwrap(), &output);
        }
        let options = EvaluationOptions::default();
        if let Ok(found) = vae.marginal_log_likelihood(&compute, &data, k, &options) {
            let exact = -twin.loss(&tensors);
            let error = (found.log_likelihood - exact).abs() / (1.0 + exact.abs());
            assert!(error < 3e-6, "{} {exact}, {what}", found.log_likelihood);
            marginals += 1;
        }
    }
    assert!(marginals > 40, "{marginals}");
}

/// Models wide enough that threads share a step.
#[test]
fn threads_and_instruction_sets_change_no_bit() {
    for seed in cases(24) {
        let Some(case) = Case::draw(seed, [90, 180], 2, [40, 70]) else { continue };
        let rows = case.x.nrows();
        let (data, noise) = (case.data(rows), case.noise(rows));
        let mut expected = None;
        for (set, threads) in InstructionSet::available()
            .into_iter()
            .zip([1, 3, 2, 5, 1])
            .chain([(InstructionSet::detect(), 1), (InstructionSet::detect(), 4)])
        {
            let mut trainer = trainer(&case, &Compute::new(set, threads).unwrap());
            let loss = trainer.gradient_with_noise(&data, noise.view()).unwrap();
            let gradient = bits(trainer.gradient().unwrap());
            trainer.epoch(&data, |_| ()).unwrap();
            let found = (loss, gradient, bits(trainer.vae().parameters()));
            let what = format!("case {seed}, {set}, {threads} threads: {:?}", case.config);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(found.0, expected.0, "{what} {:?}", case.options);
            assert!(found.1 == expected.1, "gradient, {what} {:?}", case.options);
            assert!(found.2 == expected.2, "weights, {what} {:?}", case.options);
        }
    }
}

#[test]
fn accumulated_parts_have_the_bits_of_the_whole_batch() {
    for seed in cases(100) {
        let Some(mut case) = Case::draw(seed, [5, 40], 2, [30, 60]) else { continue };
        let coupled =
            format!("{:?} {:?}", case.config.likelihood(), case.options.objective.penalty);
        if ["Optimal", "Batch", "Dimension", "TotalCorrelation"].iter().any(|w| coupled.contains(w))
        {
            continue;
        }
        let data = case.data(case.x.nrows());
        let run = |options: Options| {
            let vae = Vae::new(case.config.clone(), case.seed);
            let mut trainer = Trainer::new(vae, options, Compute::serial()).unwrap();
            let losses: Vec<f64> = (0..3)
                .flat_map(|_| {
                    let mut losses = Vec::new();
                    trainer.epoch(&data, |step| losses.push(step.loss)).unwrap();
                    losses
                })
                .collect();
            (losses, bits(trainer.vae().parameters()))
        };
        case.options.batch = 6;
        let (parts, weights) = run(Options { accumulate: 4, ..case.options.clone() });
        let (whole, expected) = run(Options { batch: 24, accumulate: 1, ..case.options.clone() });
        assert!(weights == expected, "case {seed}: {:?} {:?}", case.config, case.options);
        for (part, whole) in parts.iter().zip(&whole) {
            assert!((part - whole).abs() <= 1e-12 * whole.abs(), "case {seed}: {part} {whole}");
        }
    }
}

/// The weights, the loss of each step and its gradient on each of `ranks` ranks, after two epochs.
fn on_ranks(case: &Case, ranks: usize, threads: usize) -> Vec<(Vec<f64>, Vec<u32>, Vec<u32>)> {
    let run = |rank: ThreadRanks| {
        let data = case.data(case.x.nrows());
        let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
        let vae = Vae::new(case.config.clone(), case.seed);
        let trainer = Trainer::new(vae, case.options.clone(), compute).unwrap();
        let mut trainer = trainer.with_ranks(Arc::new(rank)).unwrap();
        let mut losses = Vec::new();
        for _ in 0..2 {
            trainer.epoch(&data, |step| losses.push(step.loss)).unwrap();
        }
        trainer.gradient_of_rows(&data, &[1, 0, 3]).unwrap();
        (losses, bits(trainer.gradient().unwrap()), bits(trainer.vae().parameters()))
    };
    std::thread::scope(|scope| {
        let ranks = ThreadRanks::new(ranks).into_iter();
        let threads: Vec<_> = ranks.map(|rank| scope.spawn(|| run(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn ranks_that_divide_the_shards_have_the_bits_of_one() {
    let mut coupled = 0;
    for seed in cases(60) {
        let Some(mut case) = Case::draw(seed, [5, 40], 2, [30, 60]) else { continue };
        case.options.shards = 4;
        case.options.batch = 13;
        let vae = Vae::new(case.config.clone(), case.seed);
        let Ok(trainer) = Trainer::new(vae, case.options.clone(), Compute::serial()) else {
            let what = format!("{:?} {:?}", case.config, case.options);
            assert!(what.contains("TotalCorrelation") || case.options.accumulate > 1, "{what}");
            continue;
        };
        drop(trainer);
        let objective = format!("{:?} {:?}", case.config.likelihood(), case.options.objective);
        coupled +=
            usize::from(["Optimal", "Batch", "Dimension"].iter().any(|w| objective.contains(w)));
        let alone = on_ranks(&case, 1, 1).remove(0);
        for (ranks, threads) in [(1, 2), (2, 1), (4, 1), (4, 2)] {
            for found in on_ranks(&case, ranks, threads) {
                let what = format!("case {seed}, {ranks} ranks, {threads} threads");
                assert!(found == alone, "{what}: {:?} {:?}", case.config, case.options);
            }
        }
    }
    assert!(coupled >= 5, "{coupled}");
}

#[cfg(feature = "safetensors")]
#[test]
fn saved_and_resumed_runs_have_the_bits_of_uninterrupted_ones() {
    let folder = std::env::temp_dir().join(format!("elbo-composition-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("checkpoint.safetensors");
    for seed in cases(100) {
        let Some(case) = Case::draw(seed, [2, 30], 2, [8, 20]) else { continue };
        let data = case.data(case.x.nrows());
        let mut whole = trainer(&case, &Compute::serial());
        for _ in 0..3 {
            whole.step(&data).unwrap();
        }
        whole.observe(1.0);
        whole.save_checkpoint(&path).unwrap();
        let mut resumed = Trainer::resume(&path, Compute::serial()).unwrap();
        assert_eq!(resumed.options(), whole.options(), "case {seed}");
        assert_eq!(resumed.vae().config(), whole.vae().config(), "case {seed}");
        for trainer in [&mut whole, &mut resumed] {
            for _ in 0..5 {
                trainer.step(&data).unwrap();
            }
            trainer.observe(2.0);
            trainer.step(&data).unwrap();
        }
        let same = bits(resumed.vae().parameters()) == bits(whole.vae().parameters());
        assert!(same, "case {seed}: {:?} {:?}", case.config, case.options);
        // The model alone, as it is used.
        whole.vae().save(&path).unwrap();
        let loaded = Vae::load(&path).unwrap();
        assert_eq!(loaded.config(), whole.vae().config());
        assert_eq!(bits(loaded.parameters()), bits(whole.vae().parameters()));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
