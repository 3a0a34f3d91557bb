//! Options from files and presets.

use crate::scratch::{Scratch, last_line};
use std::fs;

fn model(scratch: &Scratch, folder: &str) -> Vec<u8> {
    fs::read(scratch.path(folder).join("model.safetensors")).unwrap()
}

#[test]
fn run_toml_repeats_a_run_to_the_same_bits() {
    let scratch = Scratch::with_labels("repeat");
    let runs = [
        "--data train.idx --validation test.idx --hidden 9,7 --activation leaky-relu:0.2 --layer-norm --dropout \
         0.2 --beta 0.3 --anneal cyclical --cycles 2 --optimizer adamw --weight-decay 0.02 --clip-norm 3",
        "--data train.idx --labels train.labels --validation test.idx --validation-labels test.labels \
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
        // The command line overrides the file.
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
fn config_errors_name_the_file() {
    let scratch = Scratch::with_labels("config");
    let message = |text: &str, code: i32, options: &str| {
        fs::write(scratch.path("run.toml"), text).unwrap();
        scratch.fails(code, &format!("train --config run.toml {options}"))
    };
    assert_eq!(
        message("latnet = 4", 2, ""),
        "run.toml: latnet: not an option of `elbo train`; did you mean latent?"
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
fn command_line_and_config_override_a_preset() {
    let scratch = Scratch::with_labels("preset");
    let report = last_line(&scratch.succeeds(
        "train --preset beta-vae --data train.idx --hidden 8 --epochs 1 --quiet --json --out beta",
    ));
    assert_eq!(report["epochs"], 1);
    let run = fs::read_to_string(scratch.path("beta/run.toml")).unwrap();
    for line in ["latent = 10", "beta = 4", "hidden = 8", "epochs = 1", "anneal = \"linear\""] {
        assert!(run.lines().any(|found| found == line), "{line} in\n{run}");
    }
    // A file overrides the preset, and the command line both.
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

#[test]
fn command_line_replaces_any_choice_of_a_preset_or_a_file() {
    let scratch = Scratch::with_labels("replaced");
    let table: String = (0..60).map(|i| format!("{},{},{}\n", i, i * i % 7, i % 3)).collect();
    fs::write(scratch.path("t.csv"), format!("a,b,c\n{table}")).unwrap();
    let run = |line: &str, out: &str| -> String {
        scratch.succeeds(&format!(
            "train {line} --hidden 8 --latent 2 --epochs 1 --quiet --overwrite --out {out}"
        ));
        fs::read_to_string(scratch.path(out).join("run.toml")).unwrap()
    };
    for (line, kept, dropped) in [
        (
            "--preset tabular --data t.csv --likelihood squared-error",
            "scale = \"standardize\"",
            "variance",
        ),
        ("--preset beta-vae --data train.idx --anneal none", "beta = 4", "anneal"),
        ("--preset beta-vae --data train.idx --capacity 25", "capacity = 25", "beta"),
        ("--preset iwae --data train.idx --free-bits 0.1", "free-bits = \"0.1\"", "estimator"),
        ("--preset tabular --data t.csv --patience 0", "variance = \"per-feature\"", "patience"),
        ("--preset tabular --data t.csv --patience none", "variance = \"per-feature\"", "patience"),
    ] {
        let text = run(line, "out");
        let has = |name: &str| text.lines().any(|line| line.starts_with(name));
        assert!(has(kept.trim_end_matches("\"0.1\"")), "{line}:\n{text}");
        assert!(!has(&format!("{dropped} = ")), "{line}:\n{text}");
    }
    // From the file of a run that had test data and free bits.
    run("--data train.idx --test test.idx --free-bits 0.1 --free-bits-per sample", "first");
    let text = run("--config first/run.toml --test-fraction 0.2 --capacity 25", "second");
    for absent in ["test = ", "free-bits", "free-bits-per"] {
        assert!(!text.lines().any(|line| line.starts_with(absent)), "{absent}:\n{text}");
    }
    assert!(text.contains("test-fraction = 0.2") && text.contains("capacity = 25"), "{text}");
    // Typed together, they still contradict each other.
    let message = scratch.fails(
        2,
        "train --preset tabular --data t.csv --likelihood bernoulli --variance 1 --out x",
    );
    assert!(message.starts_with("--variance applies only with --likelihood gaussian"), "{message}");
    // A contradiction within a file names the file.
    fs::write(scratch.path("wrong.toml"), "cycles = 3").unwrap();
    let message = scratch.fails(2, "train --config wrong.toml --out x");
    assert_eq!(message, "wrong.toml: --cycles requires --anneal cyclical");
}

#[test]
fn test_data_are_reported_once_and_change_nothing() {
    let scratch = Scratch::with_labels("tested");
    let train = "train --data train.idx --hidden 8 --latent 2 --epochs 3 --batch 32 --quiet --json";
    let plain = last_line(&scratch.succeeds(&format!("{train} --out plain")));
    let line = format!("{train} --test test.idx --validation-fraction 0.1 --out tested");
    let tested = last_line(&scratch.succeeds(&line));
    assert!(model(&scratch, "tested") == model(&scratch, "plain"));
    assert_eq!(tested["validation_loss"], plain["validation_loss"]);
    assert!(plain["test_loss"].is_null() && tested["test_rows"] == 40);
    let evaluated = "eval --model plain/model.safetensors --data test.idx --json";
    assert_eq!(last_line(&scratch.succeeds(evaluated))["loss"], tested["test_loss"]);
    // Rows held out for a test leave the validation rows as they are.
    let line = format!("{train} --validation-fraction 0.2 --test-fraction 0.1 --out fractions");
    assert_eq!(last_line(&scratch.succeeds(&line))["test_rows"], 15);
    let said =
        scratch.says("train --data train.idx --test-fraction 0.2 --epochs 1 --hidden 8 --out said");
    assert!(said.contains("105 train, 15 validation, 30 test rows"), "{said}");
    assert_eq!(said.matches("\ntest ELBO: ").count(), 1, "{said}");
    // In the files, the data that select a model are called validation data.
    let history = fs::read_to_string(scratch.path("tested/history.jsonl")).unwrap();
    assert!(history.contains("\"validation_loss\":") && !history.contains("test"), "{history}");
    let inspected = scratch.succeeds("inspect tested/model.safetensors --json");
    assert!(inspected.contains("\"validation_loss\":") && !inspected.contains("test_loss"));
    // In the model file the names are the old ones, for its bytes.
    let bytes = model(&scratch, "tested");
    assert!(
        bytes.windows(11).any(|window| window == b"\\\"test_loss" || window == b"\"test_loss\"")
    );
}
