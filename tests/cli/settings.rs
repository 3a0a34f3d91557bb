//! Options from files and presets.

use crate::scratch::{Scratch, last_line};
use std::fs;

fn model(scratch: &Scratch, folder: &str) -> Vec<u8> {
    fs::read(scratch.path(folder).join("model.safetensors")).unwrap()
}

#[test]
fn the_options_of_a_run_repeat_it_to_the_same_bits() {
    let scratch = Scratch::with_labels("repeat");
    let runs = [
        "--data train.idx --test test.idx --hidden 9,7 --activation leaky-relu:0.2 --layer-norm --dropout \
         0.2 --beta 0.3 --anneal cyclical --cycles 2 --optimizer adamw --weight-decay 0.02 --clip-norm 3",
        "--data train.idx --labels train.labels --test test.idx --test-labels test.labels \
         --conditional --decoder 5 --free-bits 0.25 --seed 18446744073709551615",
        "--data signed.npy --likelihood gaussian --variance 0.5 --logvar-clamp -9,9 --schedule cosine \
         --importance-samples 3 --estimator dreg --accumulate 2",
    ];
    for (i, run) in runs.iter().enumerate() {
        let first = format!("first{i}");
        scratch.succeeds(&format!(
            "train {run} --latent 2 --epochs 2 --batch 32 --quiet --out {first}"
        ));
        let config = format!("train --config {first}/run.toml --quiet");
        scratch.succeeds(&format!("{config} --out again{i}"));
        assert_eq!(model(&scratch, &format!("again{i}")), model(&scratch, &first), "{run}");
        let [first, again] = [first, format!("again{i}")]
            .map(|folder| fs::read_to_string(scratch.path(&folder).join("run.toml")).unwrap());
        assert_eq!(first, again);
        // The command line wins.
        scratch.succeeds(&format!("{config} --latent 3 --out wider{i}"));
        assert!(
            model(&scratch, &format!("wider{i}")).len()
                > model(&scratch, &format!("first{i}")).len()
        );
    }
    scratch.succeeds("train --config first0/run.toml --layer-norm=false --quiet --out plain");
    assert!(model(&scratch, "plain").len() < model(&scratch, "first0").len());
}

#[test]
fn a_file_of_options_is_told_where_it_is_wrong() {
    let scratch = Scratch::with_labels("config");
    let message = |text: &str, code: i32, options: &str| {
        fs::write(scratch.path("run.toml"), text).unwrap();
        scratch.fails(code, &format!("train --config run.toml {options}"))
    };
    assert_eq!(
        message("latnet = 4", 2, ""),
        "run.toml: latnet: no option of `elbo train`; is it latent?"
    );
    assert!(message("latent = 0", 2, "").starts_with("run.toml: invalid value '0' for '--latent"));
    assert!(message("latent = 4", 2, "--latent 0").starts_with("invalid value '0' for '--latent"));
    assert!(message("latent = ", 2, "").starts_with("run.toml: line 1: "));
    assert!(message("data = 'nowhere.npy'", 1, "").contains("nowhere.npy: cannot read"));
    assert!(scratch.fails(1, "train --config no.toml").starts_with("no.toml: cannot read: "));
    let message = scratch.fails(2, "train --preset nothing");
    assert!(message.starts_with("invalid value 'nothing' for '--preset"), "{message}");
}

#[test]
fn a_preset_is_a_start_that_the_command_line_changes() {
    let scratch = Scratch::with_labels("preset");
    let report = last_line(&scratch.succeeds(
        "train --preset beta-vae --data train.idx --hidden 8 --epochs 1 --quiet --json --out beta",
    ));
    assert_eq!(report["epochs"], 1);
    let run = fs::read_to_string(scratch.path("beta/run.toml")).unwrap();
    for line in ["latent = 10", "beta = 4", "hidden = 8", "epochs = 1", "anneal = \"linear\""] {
        assert!(run.lines().any(|found| found == line), "{line} in\n{run}");
    }
    // A file comes between the two.
    fs::write(scratch.path("mine.toml"), "latent = 3\nbeta = 7").unwrap();
    scratch.succeeds(
        "train --preset beta-vae --config mine.toml --beta 2 --data train.idx --hidden 8 --epochs 1 --quiet \
         --out mixed",
    );
    let run = fs::read_to_string(scratch.path("mixed/run.toml")).unwrap();
    for line in ["latent = 3", "beta = 2", "anneal = \"linear\""] {
        assert!(run.lines().any(|found| found == line), "{line} in\n{run}");
    }
}
