//! Every optimizer against PyTorch and against its error bound, and properties that all share.

use super::*;
use crate::compute::Compute;
use crate::simd::InstructionSet;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/optimizers.json")).unwrap()
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn single(values: &Value) -> Vec<f32> {
    numbers(values).into_iter().map(|v| v as f32).collect()
}

/// Optimizer of a golden case, with the settings that PyTorch had.
fn optimizer(case: &Value) -> Optimizer {
    let settings = &case["settings"];
    let number = |name: &str| settings[name].as_f64().unwrap();
    let beta = |i: usize| settings["betas"][i].as_f64().unwrap();
    let (learning_rate, weight_decay) = (number("lr"), number("weight_decay"));
    let optimizer: Optimizer = match case["name"].as_str().unwrap() {
        "adam" => {
            let (beta1, beta2, epsilon) = (beta(0), beta(1), number("eps"));
            Adam { learning_rate, beta1, beta2, epsilon, weight_decay }.into()
        }
        "adamw" => {
            let (beta1, beta2, epsilon) = (beta(0), beta(1), number("eps"));
            AdamW { learning_rate, beta1, beta2, epsilon, weight_decay }.into()
        }
        "adamax" => {
            let (beta1, beta2, epsilon) = (beta(0), beta(1), number("eps"));
            Adamax { learning_rate, beta1, beta2, epsilon, weight_decay }.into()
        }
        _ => {
            let (momentum, nesterov) = (number("momentum"), settings["nesterov"].as_bool());
            Sgd { learning_rate, momentum, nesterov: nesterov.unwrap(), weight_decay }.into()
        }
    };
    optimizer.validate().unwrap();
    optimizer
}

/// Every optimizer, with settings that exercise all of its formula.
fn all() -> [Optimizer; 6] {
    [
        Adam::default().into(),
        Adam { weight_decay: 0.1, ..Adam::default() }.into(),
        AdamW::default().into(),
        Sgd { momentum: 0.9, weight_decay: 0.1, ..Sgd::default() }.into(),
        Sgd { momentum: 0.9, nesterov: true, ..Sgd::default() }.into(),
        Adamax { weight_decay: 0.1, ..Adamax::default() }.into(),
    ]
}

#[test]
fn ten_steps_match_pytorch() {
    let golden = golden();
    let mut worst = 0.0_f64;
    for case in golden["optimizers"].as_array().unwrap() {
        let optimizer = optimizer(case);
        for set in InstructionSet::available() {
            let compute = Compute::new(set, 1).unwrap();
            let mut w = single(&golden["start"]);
            let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
            for t in 1..=10 {
                let g = single(&golden["gradients"][t - 1]);
                optimizer.at_step(t as u64, 1.0).step_flat(&compute, [&mut w, &mut m, &mut v], &g);
                for (found, exact) in w.iter().zip(numbers(&case["after"][t - 1])) {
                    let error = (f64::from(*found) - exact).abs();
                    worst = worst.max(error);
                    // Weights of up to 4, rounded ten times, and the momentum's rounding with them.
                    assert!(error < 1e-6, "{set}, {optimizer:?}, step {t}: {found} {exact}");
                }
            }
        }
    }
    println!("worst error {worst:e}");
}

#[test]
fn gives_the_same_bits_at_every_length_on_every_thread_count_and_instruction_set() {
    for optimizer in all() {
        for n in (0..=67).step_by(3).chain([16_384, 40_011]) {
            let g: Vec<f32> = (0..n).map(|i| ((i * 31 % 61) as f32 - 30.0) * 1e-3).collect();
            let run = |set, threads| {
                let compute = Compute::new(set, threads).unwrap();
                let (mut w, mut m, mut v) = (vec![0.25; n], vec![0.5; n], vec![0.125; n]);
                let rule = optimizer.at_step(7, 0.5);
                rule.step_flat(&compute, [&mut w, &mut m, &mut v], &g);
                [w, m, v].map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            let expected = run(InstructionSet::SCALAR, 1);
            for set in InstructionSet::available() {
                for threads in [1, 3] {
                    assert_eq!(run(set, threads), expected, "{optimizer}, {set}, n={n}");
                }
            }
        }
    }
}

#[test]
fn keeps_zero_weights_without_gradients() {
    for optimizer in all() {
        for set in InstructionSet::available() {
            let compute = Compute::new(set, 1).unwrap();
            let (mut w, mut m, mut v) = ([0.0; 5], [0.0; 5], [0.0; 5]);
            for t in 1..=3 {
                optimizer.at_step(t, 1.0).step_flat(&compute, [&mut w, &mut m, &mut v], &[0.0; 5]);
                assert_eq!((w, m), ([0.0; 5], [0.0; 5]), "{optimizer}, {set}");
            }
        }
    }
}

#[test]
fn moments_decay_to_zero_without_subnormals() {
    for optimizer in all() {
        let rate_zero = optimizer.with_learning_rate(0.0).with_weight_decay(0.0);
        let (mut w, mut m, mut v) = ([1.0; 17], [1e-37; 17], [1e-37; 17]);
        m[3] = f32::NAN;
        for t in 1..=100 {
            let rule = rate_zero.at_step(t, 1.0);
            rule.step_flat(&Compute::serial(), [&mut w, &mut m, &mut v], &[0.0; 17]);
            assert!(m.iter().all(|m| !m.is_subnormal()), "{optimizer}, step {t}");
        }
        assert!(m.iter().enumerate().all(|(i, &m)| if i == 3 { m.is_nan() } else { m == 0.0 }));
    }
}

#[test]
fn propagates_nan() {
    for optimizer in all() {
        for (weights, gradients) in [([f32::NAN, 1.0], [0.0, 1.0]), ([1.0, 1.0], [f32::NAN, 1.0])] {
            let (mut w, mut m, mut v) = (weights, [0.0; 2], [0.0; 2]);
            let rule = optimizer.at_step(1, 1.0);
            rule.step_flat(&Compute::serial(), [&mut w, &mut m, &mut v], &gradients);
            assert!(w[0].is_nan() && w[1].is_finite(), "{optimizer}: {w:?}");
        }
    }
}

#[test]
fn public_steps_give_the_bits_of_the_trainer() {
    let set = InstructionSet::detect();
    let g = [0.5, -0.25, 3.0];
    for optimizer in all() {
        let start = || ([1.0, -2.0, 3.0], [0.1; 3], [0.2; 3]);
        let (mut w, mut m, mut v) = start();
        match &optimizer {
            Optimizer::Adam(adam) => adam::step(set, adam, 3, &mut w, &mut m, &mut v, &g),
            Optimizer::AdamW(adamw) => adamw::step(set, adamw, 3, &mut w, &mut m, &mut v, &g),
            Optimizer::Sgd(sgd) => sgd::step(set, sgd, &mut w, &mut m, &g),
            Optimizer::Adamax(adamax) => adamax::step(set, adamax, 3, &mut w, &mut m, &mut v, &g),
        }
        .unwrap();
        let alone = (w, m, v);
        let (mut w, mut m, mut v) = start();
        optimizer.at_step(3, 1.0).step_flat(&Compute::serial(), [&mut w, &mut m, &mut v], &g);
        assert_eq!(alone, (w, m, v), "{optimizer}");
    }
}

/// New `[w, m, v]` in f64, and the bounds that the optimizer's header states for them.
fn twin(optimizer: &Optimizer, t: u64, [w, m, v]: [f32; 3], g: f32) -> [[f64; 2]; 3] {
    let unit = |power: i32| 2.0_f64.powi(-power);
    // With L2 regularization the bound is that of the rounded gradient.
    let regularized = |decay: f64| f64::from((decay as f32).mul_add(w, g));
    let moment = |m: f64, beta: f64, g: f64| m + (1.0 - beta) * (g - m);
    let [w, m, v, g] = [w, m, v, g].map(f64::from);
    let adam = |adam: &Adam, decay: f64, g: f64| {
        let largest = m.abs().max(g.abs());
        let correction = 1.0 - adam.beta1.powf(t as f64);
        let step_size = adam.learning_rate / correction;
        let (m, v) = (moment(m, adam.beta1, g), adam.beta2 * v + (1.0 - adam.beta2) * g * g);
        let root = (v / (1.0 - adam.beta2.powf(t as f64))).sqrt() + adam.epsilon;
        let new = decay * w - step_size * m / root;
        let kept = if decay == 1.0 { 0.0 } else { unit(23) * w.abs() };
        let bound = unit(24) * new.abs() + unit(20) * step_size * largest / root + kept;
        [[new, bound], [m, unit(21) * largest], [v, unit(22) * v]]
    };
    match optimizer {
        Optimizer::Adam(settings) if settings.weight_decay > 0.0 => {
            adam(settings, 1.0, regularized(settings.weight_decay))
        }
        Optimizer::Adam(settings) => adam(settings, 1.0, g),
        Optimizer::AdamW(settings) => {
            let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } = *settings;
            let same = Adam { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0 };
            adam(&same, 1.0 - learning_rate * weight_decay, g)
        }
        Optimizer::Sgd(sgd) => {
            let size = sgd.momentum * m.abs() + g.abs() + sgd.weight_decay * w.abs();
            let g = g + sgd.weight_decay * w;
            let m = sgd.momentum * m + g;
            let direction = if sgd.nesterov { g + sgd.momentum * m } else { m };
            let new = w - sgd.learning_rate * direction;
            let bound = unit(24) * new.abs() + unit(20) * sgd.learning_rate * size;
            [[new, bound], [m, unit(22) * size], [v, 0.0]]
        }
        Optimizer::Adamax(adamax) => {
            let g = regularized(adamax.weight_decay);
            let largest = m.abs().max(g.abs());
            let step_size = adamax.learning_rate / (1.0 - adamax.beta1.powf(t as f64));
            let m = moment(m, adamax.beta1, g);
            let u = (adamax.beta2 * v).max(g.abs() + adamax.epsilon);
            let new = w - step_size * m / u;
            let bound = unit(24) * new.abs() + unit(20) * step_size * largest / u;
            [[new, bound], [m, unit(21) * largest], [u, unit(23) * u]]
        }
    }
}

#[test]
fn one_step_is_within_the_stated_bounds() {
    let n = 4099;
    let number = |i: usize, factor: usize| (i * factor % 2003) as f32 / 1001.5 - 1.0;
    for optimizer in all() {
        for t in [1, 2, 10, 1000, 1_000_000] {
            let w: Vec<f32> = (0..n).map(|i| 3.0 * number(i, 37)).collect();
            let m: Vec<f32> = (0..n).map(|i| number(i, 101)).collect();
            let v: Vec<f32> = (0..n).map(|i| number(i, 211).abs().powi(4) + 1e-6).collect();
            let g: Vec<f32> =
                (0..n).map(|i| number(i, 307) * 10_f32.powi(i as i32 % 5 - 3)).collect();
            let mut new = [w.clone(), m.clone(), v.clone()];
            let buffers = new.each_mut().map(Vec::as_mut_slice);
            optimizer.at_step(t, 1.0).step_flat(&Compute::serial(), buffers, &g);
            for i in 0..n {
                let exact = twin(&optimizer, t, [w[i], m[i], v[i]], g[i]);
                for ((new, [exact, bound]), name) in new.iter().zip(exact).zip(["w", "m", "v"]) {
                    let error = (f64::from(new[i]) - exact).abs();
                    assert!(error <= bound, "{optimizer} {t}, {name}: {error:e} > {bound:e}");
                }
            }
        }
    }
}

#[test]
fn names_round_trip() {
    for optimizer in all() {
        assert_eq!(optimizer.name().parse::<Optimizer>().unwrap().name(), optimizer.name());
    }
    assert_eq!(
        "rmsprop".parse::<Optimizer>().unwrap_err().to_string(),
        "`optimizer`: expected adam, adamw, sgd or adamax, found rmsprop"
    );
}

#[test]
fn rejects_invalid_settings_by_name() {
    for optimizer in all() {
        let broken = [
            (optimizer.with_learning_rate(-1.0), "learning_rate"),
            (optimizer.with_weight_decay(f64::NAN), "weight_decay"),
        ];
        for (optimizer, setting) in broken {
            let message = optimizer.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
        }
    }
    for (optimizer, setting) in [
        (Optimizer::from(Adamax { beta1: 1.0, ..Adamax::default() }), "beta1"),
        (Adamax { beta2: -0.1, ..Adamax::default() }.into(), "beta2"),
        (Adamax { epsilon: 0.0, ..Adamax::default() }.into(), "epsilon"),
        (AdamW { beta2: 1.5, ..AdamW::default() }.into(), "beta2"),
        (
            AdamW { learning_rate: 1.0, weight_decay: 2.0, ..AdamW::default() }.into(),
            "weight_decay",
        ),
        (Sgd { momentum: 1.0, ..Sgd::default() }.into(), "momentum"),
        (Sgd { nesterov: true, ..Sgd::default() }.into(), "nesterov"),
    ] {
        let message = optimizer.validate().unwrap_err().to_string();
        assert!(message.starts_with(&format!("`{setting}`: expected")), "{message}");
    }
}
