//! History and warnings of a run.

use crate::scratch::{Scratch, last_line};
use serde_json::Value;
use std::fs;

#[test]
fn history_has_beta_and_learning_rate_of_each_epoch() {
    let scratch = Scratch::with_labels("history");
    let train = "train --data train.idx --validation test.idx --hidden 8 --latent 2 --epochs 4 --batch 50 \
                 --quiet --out m --beta 2 --anneal linear --anneal-over 2 --schedule step --decay-every 2 \
                 --decay-factor 0.5 --lr 0.004";
    scratch.succeeds(train);
    let history = fs::read_to_string(scratch.path("m/history.csv")).unwrap();
    let rows: Vec<Vec<&str>> = history.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| {
        let at = rows[0].iter().position(|cell| *cell == name).unwrap();
        rows[1..].iter().map(|row| row[at].parse().unwrap()).collect::<Vec<f64>>()
    };
    assert_eq!(column("beta"), [0.0, 1.0, 2.0, 2.0]);
    assert_eq!(column("learning_rate"), [0.004, 0.004, 0.002, 0.002]);
    assert!(column("validation_active_units").iter().all(|n| (0.0..=2.0).contains(n)));
    // Training uses the weight of each step, validation that at the end.
    let names = ["validation_loss", "validation_reconstruction", "validation_kl"];
    let [loss, reconstruction, kl] = names.map(column);
    for i in 0..4 {
        assert!((loss[i] - reconstruction[i] - 2.0 * kl[i]).abs() < 1e-9 * loss[i]);
    }
    assert_eq!(column("train_loss")[0], column("train_reconstruction")[0]);
}

#[test]
fn warns_of_posterior_collapse_and_of_a_weak_kl() {
    let scratch = Scratch::new("diagnosis");
    let train = "train --hidden 64 --latent 16 --batch 64 --json --quiet --overwrite";
    let report = |options: &str| last_line(&scratch.succeeds(&format!("{train} {options}")));
    let warning = |report: &Value| {
        let warnings = report["warnings"].as_array().unwrap();
        assert!(warnings.len() <= 1, "{report}");
        warnings.first().map(|w| w.as_str().unwrap().to_owned()).unwrap_or_default()
    };
    let collapsed = report("--epochs 2 --beta 1000");
    assert!(warning(&collapsed).starts_with("posterior collapse: 16 of 16"), "{collapsed}");
    assert_eq!(
        (collapsed["collapsed_units"].as_u64(), collapsed["active_units"].as_u64()),
        (Some(16), Some(0))
    );
    let weak = report("--epochs 4 --beta 0");
    assert!(warning(&weak).starts_with("reconstruction outweighs the KL: "), "{weak}");
    let sound = report("--epochs 4");
    assert_eq!(warning(&sound), "", "{sound}");
    assert_eq!(sound["collapsed_units"], 0);
    let text = scratch.says(&format!("{train} --epochs 1 --beta 1000").replace("--json", ""));
    assert!(text.lines().last().unwrap().starts_with("warning: posterior collapse"), "{text}");
}
