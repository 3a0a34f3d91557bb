//! Rows that a model cannot score do not take the others with them.

use crate::scratch::{Scratch, last_line};
use elbo::vae::Vae;
use ndarray::Array2;
use ndarray_npy::write_npy;
use serde_json::Value;
use std::fs;

/// 60 rows near a line.
fn rows() -> Vec<[f64; 3]> {
    (0..60)
        .map(|i| {
            let t = f64::from(i * 29 % 60) / 10.0;
            [20.0 + t, 3.0 - 0.4 * t + 0.1 * (t * 7.0).sin(), 100.0 + 10.0 * t]
        })
        .collect()
}

fn write(scratch: &Scratch, name: &str, rows: &[[f64; 3]]) {
    let lines = rows.iter().map(|[a, b, c]| format!("{a},{b},{c}\n"));
    let text = ["a,b,c\n".to_owned()].into_iter().chain(lines).collect::<String>();
    fs::write(scratch.path(name), text).unwrap();
}

/// Runs a command and returns its standard output and its warnings.
fn run(scratch: &Scratch, line: &str) -> (String, String) {
    let output = scratch.run(line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "elbo {line}\n{stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// Cells of a table of scores without the number of the row.
fn cells(csv: &str) -> Vec<Vec<String>> {
    csv.lines().skip(1).map(|l| l.split(',').skip(1).map(str::to_owned).collect()).collect()
}

/// Rows of `data` with a value that no model scores in row 2, line 4.
fn with_glitch(value: f64) -> (Vec<[f64; 3]>, Vec<[f64; 3]>) {
    let clean = rows()[..6].to_vec();
    let mut glitch = clean.clone();
    glitch.insert(2, [22.0, value, 120.0]);
    (clean, glitch)
}

#[test]
fn a_row_beyond_the_range_of_the_numbers_leaves_the_others_as_they_are() {
    let scratch = Scratch::new("glitch");
    write(&scratch, "train.csv", &rows());
    for model in [
        "--scale standardize --likelihood gaussian --variance per-feature",
        "--scale standardize --likelihood gaussian --variance shared --layer-norm",
        "--likelihood squared-error",
        "--scale min-max --likelihood gaussian",
    ] {
        scratch.succeeds(&format!(
            "train --data train.csv {model} --hidden 8 --latent 2 --epochs 20 --batch 16 --quiet --overwrite --out m"
        ));
        for value in [9.969e36, -1e39, 1e300] {
            let (clean, glitch) = with_glitch(value);
            write(&scratch, "clean.csv", &clean);
            write(&scratch, "glitch.csv", &glitch);
            let samples = if model.contains("squared") { "" } else { "--importance-samples 70" };
            let score = |data: &str| {
                run(
                    &scratch,
                    &format!(
                        "score --model m/model.safetensors --data {data}.csv --flag-above 0.99 {samples}"
                    ),
                )
            };
            let (expected, quiet) = score("clean");
            assert_eq!(quiet, "", "{model}");
            let (found, warning) = score("glitch");
            let (expected, mut found) = (cells(&expected), cells(&found));
            let outlier = found.remove(2);
            assert_eq!(found, expected, "{model} {value}");
            let total: f64 = outlier[2].parse().unwrap();
            assert!(total > 1e30, "{model} {value}: {outlier:?}");
            assert_eq!(outlier.last().unwrap(), "1", "{model} {value}: {outlier:?}");
            if total.is_infinite() {
                assert!(
                    warning.starts_with(
                        "warning: glitch.csv: the model cannot score 1 row, whose score is infinite: line 4 \
                         (first: "
                    ),
                    "{warning}"
                );
            }

            let eval = |data: &str| {
                let line =
                    format!("eval --model m/model.safetensors --data {data}.csv --json {samples}");
                let (stdout, warning) = run(&scratch, &line);
                (serde_json::from_str::<Value>(&stdout).unwrap(), warning)
            };
            let (mut expected, _) = eval("clean");
            let (found, warning) = eval("glitch");
            if found["rows_left_out"] == 1 {
                assert!(
                    warning.starts_with("warning: glitch.csv: the model cannot score 1 row, which the results leave out: line 4"),
                    "{warning}"
                );
                expected["rows_left_out"] = 1.into();
                assert_eq!(found, expected, "{model} {value}");
            } else {
                assert!(found["loss"].as_f64().unwrap() > 1e30, "{model} {value}: {found}");
            }

            let encode = |data: &str| {
                run(
                    &scratch,
                    &format!("encode --model m/model.safetensors --data {data}.csv --out -"),
                )
            };
            let lines = |csv: &str| csv.lines().map(str::to_owned).collect::<Vec<_>>();
            let (expected, (found, _)) = (lines(&encode("clean").0), encode("glitch"));
            let mut found = lines(&found);
            found.remove(3);
            assert_eq!(found, expected, "{model} {value}");
        }
    }
}

#[test]
fn several_rows_are_counted_and_named_by_their_lines() {
    let scratch = Scratch::new("glitches");
    write(&scratch, "train.csv", &rows());
    scratch.succeeds(
        "train --data train.csv --scale standardize --likelihood gaussian --hidden 8 --latent 2 --epochs 2 \
         --quiet --out m",
    );
    let clean: Vec<[f64; 3]> = rows().repeat(10);
    let mut wild = clean.clone();
    let outliers = [0, 255, 256, 257, 300, 511, 599];
    for row in outliers {
        wild[row][1] = 1e38 * (row as f64 + 1.0);
    }
    write(&scratch, "clean.csv", &clean);
    write(&scratch, "wild.csv", &wild);
    let score =
        |data: &str| run(&scratch, &format!("score --model m/model.safetensors --data {data}.csv"));
    let (expected, (found, warning)) = (cells(&score("clean").0), score("wild"));
    for (row, (found, expected)) in cells(&found).iter().zip(&expected).enumerate() {
        if outliers.contains(&row) {
            assert_eq!(found, &["inf"; 3], "{row}");
        } else {
            assert_eq!(found, expected, "{row}");
        }
    }
    assert!(
        warning.contains("cannot score 7 rows, whose score is infinite: line 2, line 257, line 258, line 259, line 302 and 2 more"),
        "{warning}"
    );
    let (text, _) = run(&scratch, "eval --model m/model.safetensors --data wild.csv");
    assert!(text.starts_with("593 rows (without 7 rows), nats per example"), "{text}");
    // The summary, and an array.
    let (_, said) = run(&scratch, "score --model m/model.safetensors --data wild.csv --out s.npy");
    assert!(said.contains(" nats without 7 infinite scores; highest: row 0 (inf), "), "{said}");

    // A file of nothing but such rows has infinite scores, and no means.
    write(&scratch, "all.csv", &[[1e38, 1e38, 1e38]; 3]);
    write(&scratch, "one.csv", &[[1e38, 1e38, 1e38]]);
    for (data, rows) in [("all", 3), ("one", 1)] {
        for more in ["", "--importance-samples 3", "--explain 2"] {
            let (text, _) = run(
                &scratch,
                &format!("score --model m/model.safetensors --data {data}.csv {more}"),
            );
            let infinite = text.lines().skip(1).filter(|line| line.contains(",inf,inf,inf"));
            assert_eq!(infinite.count(), rows, "{text}");
        }
    }
    for command in ["eval", "plot kl-per-dimension --out k.svg"] {
        let message =
            scratch.fails(1, &format!("{command} --model m/model.safetensors --data all.csv"));
        let start = "all.csv: the model cannot score any of the rows (first: line 2: ";
        assert!(message.starts_with(start) && !message.contains("--lr"), "{message}");
    }
    // Figures leave such rows out as evaluations do.
    let figure = |data: &str| {
        let line = format!(
            "plot kl-per-dimension --model m/model.safetensors --data {data}.csv --out k.svg"
        );
        (run(&scratch, &line).1, std::fs::read(scratch.path("k.svg")).unwrap())
    };
    let left: Vec<[f64; 3]> =
        (0..600).filter(|row| !outliers.contains(row)).map(|row| clean[row]).collect();
    write(&scratch, "left.csv", &left);
    let ((quiet, expected), (said, found)) = (figure("left"), figure("wild"));
    assert!(found == expected && quiet.is_empty());
    assert!(said.contains("cannot score 7 rows, which the figure leaves out: line 2, "), "{said}");
}

#[test]
fn rows_out_of_the_range_of_the_likelihood_are_scored_as_infinite() {
    let scratch = Scratch::new("bernoulli");
    let unit: Vec<[f64; 3]> =
        rows().iter().map(|[a, b, c]| [a / 50.0, b / 50.0, c / 200.0]).collect();
    write(&scratch, "train.csv", &unit);
    scratch.succeeds("train --data train.csv --hidden 8 --latent 2 --epochs 5 --quiet --out m");
    let mut wild = unit[..5].to_vec();
    write(&scratch, "clean.csv", &wild);
    wild.insert(3, [0.5, 9.969e36, 0.5]);
    write(&scratch, "wild.csv", &wild);
    let line = "score --model m/model.safetensors --flag-above 0.99 --importance-samples 10 --data";
    let (expected, _) = run(&scratch, &format!("{line} clean.csv"));
    let (found, warning) = run(&scratch, &format!("{line} wild.csv"));
    let mut found = cells(&found);
    assert_eq!(found.remove(3), ["inf", "inf", "inf", "inf", "1"]);
    assert_eq!(found, cells(&expected));
    assert!(
        warning.contains("line 5 (first: the value 9.969e36 is outside of [0, 1])"),
        "{warning}"
    );
    // Data that are meant for another model.
    write(&scratch, "other.csv", &rows());
    let message = scratch.fails(1, &format!("{line} other.csv"));
    assert!(message.starts_with("other.csv: line 2, column 'a': found 20; expected"), "{message}");
    let message = scratch.fails(1, "eval --model m/model.safetensors --data wild.csv");
    assert!(
        message.starts_with("wild.csv: line 5, column 'b': found 9.969e36; expected"),
        "{message}"
    );
}

/// By hand: the model clips 30 in a column of 20 to 25.9 and adds (30 − 25.9)/5.9 to the score of 25.9.
#[test]
fn scores_of_clipped_rows_grow_with_their_distance_from_the_range() {
    let scratch = Scratch::new("excess");
    write(&scratch, "train.csv", &rows());
    let train = "train --data train.csv --validation train.csv --scale min-max --hidden 8 --latent 2 \
                 --epochs 5 --quiet --out m";
    scratch.succeeds(train);
    write(
        &scratch,
        "new.csv",
        &[
            [25.9, 2.0, 130.0],
            [30.0, 2.0, 130.0],
            [1e39, 2.0, 130.0],
            [14.1, 2.0, 130.0],
            [20.0, 2.0, 130.0],
        ],
    );
    let line = "score --model m/model.safetensors --data new.csv --importance-samples 5";
    let (found, warning) = run(&scratch, line);
    let scores: Vec<Vec<f64>> = cells(&found)
        .iter()
        .map(|row| row.iter().map(|cell| cell.parse().unwrap()).collect())
        .collect();
    let distance = (30.0 - 25.9) / (25.9 - 20.0);
    assert!((scores[1][0] - scores[0][0] - distance).abs() < 1e-9, "{found}");
    assert!((scores[1][2] - scores[0][2] - distance).abs() < 1e-9, "{found}");
    assert_eq!(scores[1][1], scores[0][1]);
    assert!((scores[3][0] - scores[4][0] - 1.0).abs() < 1e-9, "{found}");
    assert!((scores[2][0] / (1e39 / 5.9) - 1.0).abs() < 1e-9, "{found}");
    assert!(scores[2][3] > 1e38, "{found}");
    assert_eq!(
        warning,
        "warning: new.csv: 3 rows have values outside of the range of the training rows, which are clipped to \
         it (first: line 3, column 'a': found 30, expected 20 to 25.9)\n"
    );
    // --clip-to-range scores the clipped values as they are.
    let (clipped, warning) = run(&scratch, &format!("{line} --clip-to-range"));
    let clipped = cells(&clipped);
    assert_eq!(
        (&clipped[1][0], &clipped[2][0], warning.as_str()),
        (&clipped[0][0], &clipped[0][0], "")
    );
}

#[test]
fn every_seed_of_the_example_of_the_help_runs() {
    let scratch = Scratch::new("held-out");
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/breast-cancer-train.csv");
    let mut clipped = 0;
    for seed in 1..=10 {
        let (_, said) = run(
            &scratch,
            &format!(
                "train --overwrite --data {data} --columns 2-9,12 --scale min-max --test-fraction 0.2 --epochs 1 --seed {seed} \
             --hidden 8 --latent 2 --quiet --out o"
            ),
        );
        clipped += usize::from(
            said.contains("values outside of the range of the training rows, which are clipped"),
        );
    }
    assert!(clipped > 5, "{clipped}");
}

/// Options of a short run on a table.
const GAUSSIAN: &str =
    "--scale standardize --likelihood gaussian --hidden 8 --latent 2 --quiet --overwrite";

/// Columns of a history without the last, images per second.
fn history(scratch: &Scratch, name: &str) -> Vec<String> {
    let text = fs::read_to_string(scratch.path(name).join("history.csv")).unwrap();
    text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

fn weights(scratch: &Scratch, name: &str) -> Vec<f32> {
    Vae::load(scratch.path(name).join("model.safetensors")).unwrap().parameters()[..].to_vec()
}

/// 300 rows with an outlier in row 5, line 7.
fn with_outlier(value: f64) -> Vec<[f64; 3]> {
    let mut rows = rows().repeat(5);
    rows[5][1] = value;
    rows
}

#[test]
fn a_held_out_row_that_cannot_be_scored_leaves_the_run_as_it_is_without_it() {
    let scratch = Scratch::new("held-out-outlier");
    write(&scratch, "train.csv", &rows());
    for value in [1e8, -1e36, 1e39, 1e300] {
        let (clean, glitch) = with_glitch(value);
        write(&scratch, "clean.csv", &clean);
        write(&scratch, "glitch.csv", &glitch);
        for (options, part) in [
            ("--validation", "validation"),
            ("--keep best --patience 5 --schedule plateau --validation", "validation"),
            ("--total-correlation --beta 2 --validation", "validation"),
            ("--test", "test"),
            ("--keep best --test", "test"),
            ("--validation train.csv --test", "test"),
        ] {
            let mut reports = Vec::new();
            for data in ["clean", "glitch"] {
                let line = format!(
                    "train --data train.csv {GAUSSIAN} --epochs 3 --json --out {data} {options} {data}.csv"
                );
                let (stdout, warnings) = run(&scratch, &line);
                let warned = warnings.matches("cannot score").count();
                assert_eq!(warned, usize::from(data == "glitch"), "{line}: {warnings}");
                let text = format!(
                    "warning: glitch.csv: the model cannot score 1 row, which the {part} loss leaves out: line 4 ("
                );
                assert_eq!(warnings.contains(&text), data == "glitch", "{line}: {warnings}");
                reports.push(last_line(&stdout));
            }
            assert_eq!(history(&scratch, "glitch"), history(&scratch, "clean"), "{options}");
            assert!(weights(&scratch, "glitch") == weights(&scratch, "clean"), "{options}");
            assert_eq!(scratch.names_in("glitch"), scratch.names_in("clean"));
            let [clean, glitch] = &reports[..] else { unreachable!() };
            for name in ["validation_loss", "test_rows", "test_loss", "test_kl", "active_units"] {
                assert_eq!(clean[name], glitch[name], "{options}: {name}");
            }
            let named = |report: &Value| {
                let warnings = report["warnings"].as_array().unwrap();
                warnings.iter().filter(|line| line.as_str().unwrap().contains("line 4")).count()
            };
            assert_eq!((named(clean), named(glitch)), (0, 1), "{glitch}");
            let (json, _) = run(&scratch, "eval --model glitch --data glitch.csv --json");
            let loss = &glitch[&format!("{part}_loss")];
            assert_eq!(&last_line(&json)["loss"], loss, "{options}");
        }
    }
}

#[test]
fn rows_that_the_tool_holds_out_are_named_by_their_lines() {
    let scratch = Scratch::new("split-outlier");
    for value in [1e36, 1e39] {
        write(&scratch, "t.csv", &with_outlier(value));
        let mut held_out = [0; 3];
        for seed in 1..=12 {
            let line = format!(
                "train --data t.csv {GAUSSIAN} --epochs 3 --validation-fraction 0.3 --test-fraction 0.3 --seed {seed} --out m"
            );
            let (_, warnings) = run(&scratch, &line);
            let part = ["validation", "test"].into_iter().position(|part| {
                let text = format!(
                    "t.csv: the model cannot score 1 row, which the {part} loss leaves out: line 7 ("
                );
                warnings.contains(&text)
            });
            assert_eq!(warnings.matches("cannot score").count(), usize::from(part.is_some()));
            held_out[part.unwrap_or(2)] += 1;
        }
        assert!(held_out.iter().all(|&runs| runs > 0), "{held_out:?}");
    }
    // Errors in training, of a row whose place is taken by a row that is held out.
    let mut numbers = rows().repeat(5);
    numbers[290][1] = 1e36;
    write(&scratch, "t.csv", &numbers);
    let array = Array2::from_shape_fn((numbers.len(), 3), |(i, j)| numbers[i][j]);
    write_npy(scratch.path("t.npy"), &array).unwrap();
    let unscaled = GAUSSIAN.replace("--scale standardize", "");
    let mut failed = 0;
    for seed in 1..=8 {
        let train =
            format!("{unscaled} --epochs 3 --validation-fraction 0.6 --seed {seed} --out n");
        for (data, place) in [
            ("t.csv", "error: t.csv: line 292 (training; largest value: 1e36 in column 'b'): "),
            ("t.npy", "error: t.npy: row 290 (training): "),
        ] {
            let output = scratch.run(&format!("train --data {data} {train}"));
            let message = String::from_utf8(output.stderr).unwrap();
            if output.status.success() {
                assert!(message.contains("which the validation loss leaves out: "), "{message}");
                continue;
            }
            failed += 1;
            assert!(message.starts_with(place), "{message}");
            assert!(message.contains(" of row 290") && message.contains(" at step "), "{message}");
        }
    }
    assert!((4..16).contains(&failed), "{failed}");
}

#[test]
fn a_resumed_run_leaves_the_same_rows_out() {
    let scratch = Scratch::new("resumed-outlier");
    let mut wild = with_outlier(1e36);
    (60..90).for_each(|row| wild[row][0] = 1e38);
    write(&scratch, "wild.csv", &wild);
    write(&scratch, "train.csv", &rows());
    for options in ["", "--keep best", "--test train.csv"] {
        let train = format!("train --data train.csv --validation wild.csv {options} {GAUSSIAN}");
        run(&scratch, &format!("{train} --epochs 6 --out whole"));
        run(&scratch, &format!("{train} --epochs 2 --out parts"));
        let (_, warnings) = run(&scratch, "train --resume parts --epochs 6 --quiet --threads 2");
        assert_eq!(warnings.matches("cannot score 31 rows").count(), 1, "{warnings}");
        assert_eq!(history(&scratch, "parts"), history(&scratch, "whole"), "{options}");
        assert!(weights(&scratch, "parts") == weights(&scratch, "whole"), "{options}");
    }
}

#[test]
fn a_run_stops_if_the_model_cannot_score_most_validation_rows() {
    let scratch = Scratch::new("most-outliers");
    write(&scratch, "train.csv", &rows());
    let some = |count: usize| {
        let mut wild = rows();
        wild[..count].iter_mut().for_each(|row| row[2] = 1e37);
        wild
    };
    for (count, stops) in [(30, false), (31, true), (60, true)] {
        write(&scratch, "wild.csv", &some(count));
        for (option, part) in [("--validation", "validation"), ("--test", "test")] {
            let line =
                format!("train --data train.csv {GAUSSIAN} --epochs 3 --out m {option} wild.csv");
            if !stops {
                run(&scratch, &line);
                fs::remove_dir_all(scratch.path("m")).unwrap();
                continue;
            }
            let message = scratch.fails(1, &line);
            let start = format!(
                "wild.csv: the model cannot score {count} of the 60 rows, because the run has diverged or these rows are \
                 far from the training rows; first, line 2 ({part}; largest value: 1e37 in column 'c'): latent dimension "
            );
            assert!(message.starts_with(&start), "{message}");
        }
        // No choice depends on the test rows, and they stop no run.
        let line = format!(
            "train --data train.csv --keep best {GAUSSIAN} --epochs 3 --json --out m --test wild.csv"
        );
        let (stdout, warnings) = run(&scratch, &line);
        let report = last_line(&stdout);
        match count {
            60 => {
                assert!(
                    warnings.contains("cannot score 60 rows, so there is no test loss: line 2, ")
                );
                assert_eq!(report.get("test_loss"), None);
            }
            _ => assert_eq!(report["test_rows"], 60 - count),
        }
        assert!(scratch.names_in("m").contains(&"checkpoint.safetensors".to_owned()));
        fs::remove_dir_all(scratch.path("m")).unwrap();
    }
}

#[test]
fn trimmed_rows_may_have_values_of_any_size() {
    let scratch = Scratch::new("trimmed-outlier");
    let anomaly = "train --preset anomaly --epochs 2 --seed 1 --quiet --overwrite --out m --data";
    let mut expected = Vec::new();
    for value in [1e36, 1e39, -1e300] {
        write(&scratch, "t.csv", &with_outlier(value));
        scratch.succeeds(&format!("{anomaly} t.csv"));
        let (scores, _) = run(&scratch, "score --model m --data t.csv --flag-above 0.99");
        let mut scores = cells(&scores);
        assert_eq!(scores.remove(5).last().unwrap(), "1");
        if expected.is_empty() {
            expected.clone_from(&scores);
        }
        assert_eq!(scores, expected, "{value}");
    }
    // A row that is trained on must be in the range, even if it is held out of another file.
    write(&scratch, "t.csv", &with_outlier(1e39));
    let message = scratch.fails(
        1,
        &format!(
            "train --data t.csv --validation t.csv {} --epochs 1 --out n",
            GAUSSIAN.replace("--scale standardize", "")
        ),
    );
    assert!(
        message.starts_with("t.csv: line 7, column 'b': found 1e39; expected values in"),
        "{message}"
    );
}
