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

#[test]
fn warnings_about_data_are_in_the_report() {
    let scratch = Scratch::with_labels("data-warnings");
    fs::create_dir(scratch.path("photos")).unwrap();
    for i in 0..12_u8 {
        let image = image::GrayImage::from_pixel(5, 6, image::Luma([20 * i]));
        image.save(scratch.path("photos").join(format!("{i}.png"))).unwrap();
    }
    fs::write(scratch.path("photos/a.webp"), b"RIFF\x24\0\0\0WEBPVP8 ").unwrap();
    let train = "train --data photos --hidden 8 --latent 2 --epochs 1 --anneal linear --anneal-over 9 \
                 --quiet --json --overwrite --out m";
    let output = scratch.run(train);
    assert!(output.status.success());
    let report = last_line(&String::from_utf8(output.stdout).unwrap());
    let listed: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let printed = String::from_utf8(output.stderr).unwrap();
    let printed: Vec<&str> =
        printed.lines().map(|line| line.strip_prefix("warning: ").unwrap()).collect();
    assert_eq!(listed, printed);
    assert!(listed[0].contains("a.webp"), "{listed:?}");
    assert!(listed[1].starts_with("the annealing of beta takes 9 epochs"), "{listed:?}");
}

#[test]
fn a_run_that_diverges_names_the_options_that_are_not_set() {
    let scratch = Scratch::with_labels("diverged");
    let table: String = (0..60).map(|i| format!("{},{}\n", i, i * i % 7)).collect();
    fs::write(scratch.path("t.csv"), format!("a,b\n{table}")).unwrap();
    let run = "train --hidden 8 --latent 2 --epochs 9 --quiet --overwrite --out d --lr";
    let of_table = "--data t.csv --likelihood gaussian";
    let scale = "scale the columns (--scale standardize), ";
    let trim = "leave out the rows that are far from the others (--trim 0.1)";
    let clip = "clip the gradient (--clip-norm 5)";
    for (options, with, without) in [
        (format!("1e4 {of_table}"), vec![scale, clip], vec![trim]),
        (format!("1e4 {of_table} --scale standardize"), vec![clip, trim], vec!["--scale"]),
        (
            format!("1e30 {of_table} --scale standardize --clip-norm 1 --trim 0.1"),
            vec![],
            vec!["--scale", "--clip-norm", "--trim"],
        ),
        ("1e30 --data train.idx".to_owned(), vec![clip], vec!["--scale", "--trim"]),
    ] {
        let output = scratch.run(&format!("{run} {options}"));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{options}: {message}");
        assert!(message.contains("lower the learning rate (--lr)"), "{options}: {message}");
        assert!(with.iter().all(|part| message.contains(part)), "{options}: {message}");
        assert!(!without.iter().any(|part| message.contains(part)), "{options}: {message}");
    }
    // Without training, no option helps.
    scratch.succeeds(&format!("{run} 1e-3 {of_table}"));
    fs::write(scratch.path("far.csv"), "a,b\n1e30,1e30\n").unwrap();
    let output = scratch.run("eval --model d --data far.csv");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!message.contains("--lr") && !message.contains("--scale"), "{message}");
}

#[test]
fn inspect_names_the_best_of_the_epochs_that_training_chooses_from() {
    let scratch = Scratch::with_labels("best");
    let mut state = 1_u64;
    let mut noise = |rows: usize| -> String {
        let mut cell = || {
            state = (state * 1_103_515_245 + 12_345) % (1 << 31);
            ((state >> 8) % 1000).to_string()
        };
        let rows: Vec<String> = (0..rows).map(|_| [(); 6].map(|()| cell()).join(",")).collect();
        format!("a,b,c,d,e,f\n{}\n", rows.join("\n"))
    };
    fs::write(scratch.path("few.csv"), noise(12)).unwrap();
    fs::write(scratch.path("others.csv"), noise(40)).unwrap();
    let images = "--data train.idx --validation test.idx --hidden 8 --latent 2 --batch 32 --epochs 9 --lr 0.05";
    // A run that learns its few rows by heart, so that the epochs of the lowest losses come before the end of the
    // annealing.
    let few = "--data few.csv --validation others.csv --scale standardize --likelihood gaussian --variance shared \
               --hidden 64 --latent 4 --batch 4 --epochs 16 --lr 0.05 --beta 0.1 --anneal linear --anneal-from 0.1 \
               --anneal-over 12";
    // 150 images: 5 steps an epoch, and the annealing ends in epoch 4.
    for (options, early) in [
        (format!("{images} --beta 9 --anneal linear --anneal-over 18steps"), false),
        (format!("{images} --beta 9 --anneal cosine --anneal-over 4"), false),
        (images.to_owned(), false),
        (few.to_owned(), true),
    ] {
        let report =
            last_line(&scratch.succeeds(&format!(
                "train {options} --keep best --quiet --json --overwrite --out m"
            )));
        let history = fs::read_to_string(scratch.path("m/history.csv")).unwrap();
        let loss = |line: &str| line.split(',').nth(4).unwrap().parse::<f64>().unwrap();
        let losses: Vec<f64> = history.lines().skip(1).map(loss).collect();
        let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let is_early = report["validation_loss"].as_f64().unwrap() > lowest;
        assert_eq!(is_early, early, "{options}: {losses:?}");
        let text = scratch.succeeds("inspect m");
        let best = text.lines().find_map(|line| line.trim().strip_prefix("best ")).unwrap();
        let epoch = best.split_whitespace().next().unwrap();
        assert_eq!(epoch, report["model_epoch"].to_string(), "{options}: {text}");
    }
}
