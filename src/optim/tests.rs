//! Every optimizer against PyTorch, and what holds for all of them.

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

/// The optimizer of a golden case, from the settings that PyTorch had.
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

/// Every optimizer, with settings that use all of it.
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
fn ten_steps_as_in_pytorch() {
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
                optimizer.at_step(t as u64, 1.0).step_flat(&compute, &mut w, &mut m, &mut v, &g);
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
fn the_same_bits_at_every_length_on_any_threads_and_instruction_set() {
    for optimizer in all() {
        for n in (0..=67).step_by(3).chain([16_384, 40_011]) {
            let g: Vec<f32> = (0..n).map(|i| ((i * 31 % 61) as f32 - 30.0) * 1e-3).collect();
            let run = |set, threads| {
                let compute = Compute::new(set, threads).unwrap();
                let (mut w, mut m, mut v) = (vec![0.25; n], vec![0.5; n], vec![0.125; n]);
                let rule = optimizer.at_step(7, 0.5);
                rule.step_flat(&compute, &mut w, &mut m, &mut v, &g);
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
fn a_weight_of_zero_that_never_had_a_gradient_stays_zero() {
    for optimizer in all() {
        for set in InstructionSet::available() {
            let compute = Compute::new(set, 1).unwrap();
            let (mut w, mut m, mut v) = ([0.0; 5], [0.0; 5], [0.0; 5]);
            for t in 1..=3 {
                optimizer.at_step(t, 1.0).step_flat(&compute, &mut w, &mut m, &mut v, &[0.0; 5]);
                assert_eq!((w, m), ([0.0; 5], [0.0; 5]), "{optimizer}, {set}");
            }
        }
    }
}

#[test]
fn moments_without_a_gradient_fall_to_zero_and_not_to_subnormal_numbers() {
    for optimizer in all() {
        let rate_zero = optimizer.with_learning_rate(0.0).with_weight_decay(0.0);
        let (mut w, mut m, mut v) = ([1.0; 17], [1e-37; 17], [1e-37; 17]);
        m[3] = f32::NAN;
        for t in 1..=100 {
            let rule = rate_zero.at_step(t, 1.0);
            rule.step_flat(&Compute::serial(), &mut w, &mut m, &mut v, &[0.0; 17]);
            assert!(m.iter().all(|m| !m.is_subnormal()), "{optimizer}, step {t}");
        }
        assert!(m.iter().enumerate().all(|(i, &m)| if i == 3 { m.is_nan() } else { m == 0.0 }));
    }
}

#[test]
fn what_is_not_a_number_does_not_vanish() {
    for optimizer in all() {
        for (weights, gradients) in [([f32::NAN, 1.0], [0.0, 1.0]), ([1.0, 1.0], [f32::NAN, 1.0])] {
            let (mut w, mut m, mut v) = (weights, [0.0; 2], [0.0; 2]);
            let rule = optimizer.at_step(1, 1.0);
            rule.step_flat(&Compute::serial(), &mut w, &mut m, &mut v, &gradients);
            assert!(w[0].is_nan() && w[1].is_finite(), "{optimizer}: {w:?}");
        }
    }
}

#[test]
fn the_public_steps_are_those_of_the_trainer() {
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
        optimizer.at_step(3, 1.0).step_flat(&Compute::serial(), &mut w, &mut m, &mut v, &g);
        assert_eq!(alone, (w, m, v), "{optimizer}");
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
fn settings_outside_their_domain_are_named() {
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
