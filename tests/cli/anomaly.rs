//! Anomaly detection: the preset, rows left out of training, and lengths in steps.

use crate::scratch::Scratch;
use std::fmt::Write;
use std::fs;

/// Numbers that are nearly normal: sums of twelve uniform ones, from a linear congruential generator (Knuth).
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let mut uniform = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }
}

const COLUMNS: usize = 12;

/// Twelve columns on a plane of four dimensions plus 10 % noise; the rows labeled `off` are up to half a standard
/// deviation off the plane in each column.
fn plane(rows: usize, off: usize, normal: &mut Normal, plane: &[[f64; COLUMNS]; 4]) -> String {
    let mut text = String::new();
    for row in 0..rows + off {
        let code: [f64; 4] = std::array::from_fn(|_| normal.next());
        let size = if row < rows { 0.2 } else { 1.0 };
        for column in 0..COLUMNS {
            let on: f64 = code.iter().zip(plane).map(|(z, axis)| z * axis[column]).sum();
            let _ = write!(text, "{},", on + size * normal.next());
        }
        text += if row < rows { "on\n" } else { "off\n" };
    }
    text
}

/// Share of the pairs of an anomaly and an ordinary row in which the anomaly has the larger score.
fn area(scores: &[(f64, bool)]) -> f64 {
    let [strange, ordinary] = [true, false].map(|label| {
        scores.iter().filter(move |row| row.1 == label).map(|row| row.0).collect::<Vec<_>>()
    });
    let above = |s: &f64| ordinary.iter().filter(|o| s > o).count();
    strange.iter().map(above).sum::<usize>() as f64 / (strange.len() * ordinary.len()) as f64
}

/// Writes a training and a test table and returns the rows of the latter.
fn tables(scratch: &Scratch) -> Vec<(Vec<f64>, bool)> {
    let mut normal = Normal(5);
    let axes: [[f64; COLUMNS]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| normal.next()));
    let names: Vec<String> = (0..COLUMNS).map(|i| format!("c{i}")).collect();
    let header = format!("{},kind\n", names.join(","));
    // One training row in twenty is an anomaly, and the model is not told which.
    let train = plane(285, 15, &mut normal, &axes);
    let test = plane(200, 50, &mut normal, &axes);
    fs::write(scratch.path("train.csv"), format!("{header}{train}")).unwrap();
    fs::write(scratch.path("test.csv"), format!("{header}{test}")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let numbers = cells[..COLUMNS].iter().map(|cell| cell.parse().unwrap());
        (numbers.collect(), cells[COLUMNS] == "off")
    };
    test.lines().map(row).collect()
}

#[test]
fn preset_finds_rows_off_a_plane() {
    let scratch = Scratch::new("anomaly_plane");
    let test = tables(&scratch);
    let said =
        scratch.says("train --data train.csv --label-column kind --preset anomaly --out model");
    assert!(said.contains("27 rows left out of training, the farthest from the others"), "{said}");
    let settings = fs::read_to_string(scratch.path("model/run.toml")).unwrap();
    for line in ["trim = \"0.1\"", "epochs = \"3000steps\"", "patience = \"600steps\""] {
        let unquoted = line.replace('"', "");
        assert!(settings.contains(line) || settings.contains(&unquoted), "{line} in {settings}");
    }
    let scores = scratch.succeeds("score --model model/model.safetensors --data test.csv");
    let scores = scores.lines().skip(1).zip(&test).map(|(line, row)| {
        let score: f64 = line.split(',').nth(3).unwrap().parse().unwrap();
        (score, row.1)
    });
    let found = area(&scores.collect::<Vec<_>>());
    // The columns of all rows have nearly the same distribution: distances from the means tell little.
    let squares = test.iter().map(|(row, off)| (row.iter().map(|x| x * x).sum(), *off));
    let baseline = area(&squares.collect::<Vec<_>>());
    assert!(found > 0.99 && baseline < 0.8, "{found} {baseline}");
}

#[test]
fn trimmed_rows_are_not_learned_but_count_in_the_quantiles() {
    let scratch = Scratch::new("anomaly_trim");
    // Every tenth row is far from the others.
    let mut table = String::from("a,b\n");
    for i in 0..100 {
        let far = if i % 10 == 3 { 1e6 } else { 0.0 };
        let _ = writeln!(table, "{},{}", far + f64::from(i % 7), far - f64::from(i % 5));
    }
    fs::write(scratch.path("t.csv"), &table).unwrap();
    let train = "train --data t.csv --scale standardize --likelihood gaussian --hidden 4 --latent 1 --logvar-clamp -10,1 \
                 --epochs 1";
    let said = scratch.says(&format!("{train} --validation-fraction 0.2 --trim 0.2 --out trimmed"));
    assert!(said.contains("64 train") && said.contains("16 rows left out of training"), "{said}");
    // Means and deviations are those of the rows that stay.
    let report = scratch.succeeds("inspect trimmed/model.safetensors --json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let std = report.to_string();
    assert!(!std.contains("e5") && !std.contains("e6"), "{std}");
    let flagged = |quantile: &str| {
        let line =
            format!("score --model trimmed/model.safetensors --data t.csv --flag-above {quantile}");
        let scores = scratch.succeeds(&line);
        scores.lines().skip(1).filter(|line| line.ends_with(",1")).count()
    };
    // About the share of rows that the quantile says, of all rows: the trimmed ones are among them.
    assert!((5..=15).contains(&flagged("0.9")), "{}", flagged("0.9"));
    let plain = scratch.says(&format!("{train} --out plain"));
    assert!(!plain.contains("left out"), "{plain}");
    for wrong in ["0", "1", "-0.1", "x"] {
        let error = scratch.fails(2, &format!("{train} --trim {wrong} --out wrong"));
        assert!(error.contains("--trim"), "{error}");
    }
}

#[test]
fn length_and_patience_in_steps_are_rounded_up_to_epochs() {
    let scratch = Scratch::new("anomaly_steps");
    let rows: String = (0..50).map(|i| format!("{},{}\n", i % 7, i % 3)).collect();
    fs::write(scratch.path("t.csv"), format!("a,b\n{rows}")).unwrap();
    // 45 training rows in batches of 10: 5 steps in an epoch.
    let train = "train --data t.csv --scale standardize --likelihood gaussian --hidden 4 --latent 1 --batch 10";
    let epochs = |out: &str| {
        fs::read_to_string(scratch.path(&format!("{out}/history.csv"))).unwrap().lines().count() - 1
    };
    for (given, expected) in
        [("3", 3), ("3epochs", 3), ("1steps", 1), ("10steps", 2), ("11steps", 3)]
    {
        scratch.says(&format!("{train} --epochs {given} --out e{given}"));
        assert_eq!(epochs(&format!("e{given}")), expected, "{given}");
    }
    // A learning rate this small improves nothing that an f32 can hold.
    scratch.says(&format!("{train} --epochs 500steps --lr 1e-30 --patience 11steps --out p"));
    assert_eq!(epochs("p"), 4);
    // The same run by its run.toml.
    scratch.says("train --config e11steps/run.toml --out again");
    assert_eq!(
        fs::read(scratch.path("again/model.safetensors")).unwrap(),
        fs::read(scratch.path("e11steps/model.safetensors")).unwrap()
    );
    let error = scratch.fails(2, &format!("{train} --epochs 5weeks"));
    assert!(error.contains("such as 3000steps"), "{error}");
}
