//! `elbo score` and `elbo inspect`.

use crate::scratch::{Scratch, last_line};
use ndarray::{Array2, Axis};
use ndarray_npy::read_npy;
use std::fs;

const SCORE: &str = "score --model model/model.safetensors --data test.idx";

fn table(text: &str) -> (Vec<String>, Vec<Vec<f64>>) {
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    (names, lines.map(|row| row.iter().map(|cell| cell.parse().unwrap()).collect()).collect())
}

#[test]
fn scores_each_row_and_flags_those_above_the_quantile() {
    let scratch = Scratch::with_model("score");
    let (names, rows) = table(&scratch.succeeds(SCORE));
    assert_eq!(names, ["row", "reconstruction", "kl", "negative_elbo"]);
    assert_eq!(rows.len(), 40);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row[0], i as f64);
        assert!(row[1] > 0.0 && row[2] > 0.0 && (row[1] + row[2] - row[3]).abs() < 1e-9);
    }
    // The same with other threads and another instruction set.
    let again = scratch.succeeds(&format!("{SCORE} --threads 1 --simd scalar"));
    assert_eq!(table(&again).1, rows);

    let line = format!("{SCORE} --flag-above 0.9 --importance-samples 20");
    let said = scratch.says(&format!("{line} --overwrite --out scores.csv"));
    let (names, scored) = table(&fs::read_to_string(scratch.path("scores.csv")).unwrap());
    assert_eq!(
        names,
        ["row", "reconstruction", "kl", "negative_elbo", "negative_bound", "flagged"]
    );
    let flagged: Vec<&Vec<f64>> = scored.iter().filter(|row| row[5] == 1.0).collect();
    let least = flagged.iter().map(|row| row[3]).fold(f64::INFINITY, f64::min);
    assert!(scored.iter().all(|row| (row[5] == 1.0) == (row[3] >= least)), "{scored:?}");
    assert!(said.starts_with(&format!("{} of 40 rows flagged, above ", flagged.len())), "{said}");
    // A tenth of the training rows is above the threshold.
    let (_, own) = table(
        &scratch
            .succeeds("score --model model/model.safetensors --data train.idx --flag-above 0.9"),
    );
    assert_eq!(own.iter().filter(|row| row[4] == 1.0).count(), 15);

    scratch.says(&format!("{line} --overwrite --out scores.npy"));
    let array: Array2<f64> = read_npy(scratch.path("scores.npy")).unwrap();
    assert_eq!(array.dim(), (40, 5));
    for (array, row) in array.axis_iter(Axis(0)).zip(&scored) {
        assert_eq!(array.to_vec(), row[1..]);
    }
}

#[test]
fn explains_each_score_by_the_features_that_contribute_most() {
    let scratch = Scratch::with_labels("explain");
    let mut text = String::from("a,b,c,kind\n");
    for i in 0..60 {
        let (a, noise) = (f64::from(i % 12) - 5.5, f64::from(i * 7 % 5) / 20.0);
        text += &format!("{a},{},{},{}\n", 2.0 * a + noise, -a - noise, ["x", "y"][i as usize % 2]);
    }
    fs::write(scratch.path("train.csv"), &text).unwrap();
    // The second row breaks b = 2a, the third c = -a.
    fs::write(scratch.path("new.csv"), "a,b,c,kind\n1,2,-1,x\n1,90,-1,y\n1,2,40,x\n").unwrap();
    for conditional in ["", " --conditional"] {
        scratch.says(&format!(
            "train --data train.csv --label-column kind --scale standardize --likelihood gaussian --hidden none \
             --latent 2 --epochs 40 --batch 10 --lr 0.02 --out table --overwrite --quiet{conditional}"
        ));
        let score = "score --model table/model.safetensors --data new.csv";
        let all = scratch.succeeds(&format!("{score} --explain 9 --importance-samples 5"));
        let rows: Vec<Vec<&str>> = all.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(
            rows[0].join(" "),
            "row reconstruction kl negative_elbo negative_bound explain_1 explain_1_nats explain_2 \
             explain_2_nats explain_3 explain_3_nats explain_4 explain_4_nats label"
        );
        for row in &rows[1..] {
            let number = |cell: &str| cell.parse::<f64>().unwrap();
            let nats: Vec<f64> = (6..13).step_by(2).map(|i| number(row[i])).collect();
            assert!(nats.is_sorted_by(|a, b| a >= b), "{row:?}");
            let (sum, score) = (nats.iter().sum::<f64>(), number(row[3]));
            assert!((sum - score).abs() < 1e-6 * (1.0 + score.abs()), "{sum} {row:?}");
            let mut names: Vec<&str> = (5..12).step_by(2).map(|i| row[i]).collect();
            let kl = names.iter().position(|name| *name == "(kl)").unwrap();
            assert_eq!(nats[kl], number(row[2]));
            names.sort_unstable();
            assert_eq!(names, ["(kl)", "a", "b", "c"]);
        }
        let one = scratch.succeeds(&format!("{score} --explain 1"));
        let named: Vec<&str> = one.lines().map(|line| line.split(',').nth(4).unwrap()).collect();
        assert_eq!((named[0], named[3]), ("explain_1", "c"), "{one}");
        assert!(named[2] == "b" || named[2] == "(kl)", "{one}");
        scratch.says(&format!("{score} --explain 2 --overwrite --out scores.npy"));
        let array: Array2<f64> = read_npy(scratch.path("scores.npy")).unwrap();
        assert_eq!(array.dim(), (3, 7));
        assert_eq!(array[[2, 3]], 2.0);
    }
    let error =
        scratch.fails(2, "score --model table/model.safetensors --data new.csv --explain 0");
    assert!(error.contains("--explain"), "{error}");
}

#[test]
fn rejects_models_without_scores() {
    let scratch = Scratch::with_labels("unscored");
    let train = "train --data signed.npy --hidden 8 --latent 2 --epochs 1 --quiet --out o --likelihood \
                 gaussian --variance optimal";
    scratch.succeeds(train);
    let score = "score --model o/model.safetensors --data signed.npy";
    let message = scratch.fails(2, score);
    assert!(message.starts_with("--variance: expected a fixed or learned one"), "{message}");
    let message = scratch.fails(1, &format!("{score} --flag-above 0.9"));
    assert!(message.contains("holds no scores of training rows"), "{message}");
    for wrong in ["--flag-above 1", "--flag-above 0", "--out x.txt", "--importance-samples 0"] {
        scratch.fails(2, &format!("{score} {wrong}"));
    }
}

#[test]
fn inspect_shows_the_contents_of_a_model_file() {
    let scratch = Scratch::with_model("inspect");
    let text = scratch.succeeds("inspect model/model.safetensors");
    for part in [
        "Model: 30-16-9-3-9-16-30, ",
        "encoder.0",
        "30 → 16",
        "activation relu, likelihood bernoulli, prior N(0, 1²)",
        "Training: 150 rows, 2 epochs, β = 1, seed 1",
        "negative ELBO of the training rows: median ",
        "KL per latent dimension",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(text.contains('█') && text.lines().count() > 15, "{text}");
    let json = last_line(&scratch.succeeds("inspect model/model.safetensors --json"));
    assert_eq!(json["config"]["latent"], 3);
    assert_eq!(json["layers"][0]["shape"], serde_json::json!([30, 16]));
    assert_eq!(json["training"]["history"].as_array().unwrap().len(), 2);
    assert_eq!(json["training"]["epoch"], 2);
    let message = scratch.fails(1, "inspect train.idx");
    assert!(message.contains("not a complete safetensors file"), "{message}");
}
