//! `elbo eval`.

use crate::scratch::{SHORT, Scratch, last_line};
use serde_json::Value;

#[test]
fn eval_takes_an_objective_and_estimates_the_marginal_likelihood() {
    let scratch = Scratch::with_model("marginal");
    let eval = "eval --model model/model.safetensors --data test.idx --json";
    let plain = last_line(&scratch.succeeds(eval));
    let keys = [
        "rows",
        "loss",
        "beta",
        "reconstruction",
        "kl",
        "kl_per_dimension",
        "mutual_information",
        "total_correlation",
        "dimension_wise_kl",
        "active_units",
        "collapsed_units",
    ];
    assert_eq!(plain.as_object().unwrap().len(), keys.len(), "{plain}");
    let number = |report: &Value, key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    assert!(keys.iter().all(|key| !plain[key].is_null()), "{plain}");

    let report = last_line(&scratch.succeeds(&format!("{eval} --importance-samples 200")));
    assert_eq!(report.as_object().unwrap().len(), keys.len() + 3);
    assert_eq!(report["importance_samples"], 200);
    let (marginal, error) =
        (number(&report, "marginal_log_likelihood"), number(&report, "standard_error"));
    // The bound is tighter than the ELBO of the same examples.
    assert!(marginal > -number(&plain, "loss") - 0.1, "{marginal} {plain}");
    assert!(marginal < 0.0 && error > 0.0 && error < 5.0, "{marginal} {error}");
    assert_eq!(report["loss"], plain["loss"]);
    let text = scratch.succeeds(&format!("{eval} --importance-samples 200").replace(" --json", ""));
    assert!(text.contains("ln p(x)") && text.contains("mutual information"), "{text}");

    // The loss follows the objective, whose weight is said.
    assert_eq!(plain["beta"], 1.0);
    assert!(text.contains("(times 1 in the loss)"), "{text}");
    let (reconstruction, kl) = (number(&plain, "reconstruction"), number(&plain, "kl"));
    let loss =
        |options: &str| number(&last_line(&scratch.succeeds(&format!("{eval} {options}"))), "loss");
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-6 * expected.abs(), "{found} {expected}");
    };
    near(loss("--beta 2"), reconstruction + 2.0 * kl);
    near(loss("--capacity 100 --capacity-gamma 2"), reconstruction + 2.0 * (100.0 - kl));
    near(loss("--free-bits 100"), reconstruction + 300.0);
    assert!((loss("--total-correlation") - (reconstruction + kl)).abs() < 0.5 + kl);
    assert_ne!(loss("--augment binarize"), loss(""));

    for (line, part) in [
        ("--importance-samples 0", "expected a whole number from 1"),
        ("--estimator dreg", "unexpected argument '--estimator'"),
        ("--anneal linear", "unexpected argument '--anneal'"),
        ("--capacity-over 3", "unexpected argument '--capacity-over'"),
        ("--tc-alpha 1", "--tc-alpha requires --total-correlation"),
        ("--augment dequantize", "--likelihood: expected a density on [0, 1]"),
        ("--signed", "--signed maps data to [-1, 1], but the likelihood bernoulli"),
    ] {
        let message = scratch.fails(2, &format!("{eval} {line}"));
        assert!(message.contains(part), "{line}: {message}");
    }
    scratch.succeeds(&format!(
        "train --data train.idx {SHORT} --likelihood gaussian --variance optimal --out optimal"
    ));
    let message = scratch
        .fails(2, "eval --model optimal/model.safetensors --data test.idx --importance-samples 5");
    assert!(message.contains("--variance: expected a fixed or learned one"), "{message}");
}

#[test]
fn eval_uses_the_objective_of_the_model() {
    let scratch = Scratch::with_labels("own");
    for objective in ["--beta 4 --anneal linear", "--capacity 3", "--free-bits 0.5"] {
        let line =
            format!("train --data train.idx --validation test.idx {SHORT} {objective} --out m");
        let trained = last_line(&scratch.succeeds(&line));
        let eval = "eval --model m/model.safetensors --data test.idx --json";
        let own = last_line(&scratch.succeeds(eval));
        assert_eq!(own["loss"], trained["validation_loss"], "{objective}");
        let plain = last_line(&scratch.succeeds(&format!("{eval} --beta 1")));
        assert_ne!(plain["loss"], own["loss"], "{objective}");
    }
}
