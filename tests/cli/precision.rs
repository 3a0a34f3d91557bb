//! Digits of large and small numbers, from the file to the output.

use crate::scratch::Scratch;
use ndarray::{Array2, arr2};
use ndarray_npy::{read_npy, write_npy};
use std::fs;

const TRAIN: &str = "--likelihood gaussian --hidden 8 --latent 1 --epochs 1 --quiet";

/// 1700000000 to 1700000063, and a column that spans 64 hours.
fn timestamps() -> Array2<f64> {
    Array2::from_shape_fn((64, 2), |(i, j)| match j {
        0 => 1.7e9 + i as f64,
        _ => 3600.0 * ((i * 29) % 64) as f64,
    })
}

fn csv(rows: &Array2<f64>, delimiter: &str) -> String {
    let names = (0..rows.ncols()).map(|j| format!("c{j}")).collect::<Vec<_>>().join(delimiter);
    let line = |row: ndarray::ArrayView1<f64>| {
        row.iter().map(f64::to_string).collect::<Vec<_>>().join(delimiter)
    };
    [names].into_iter().chain(rows.rows().into_iter().map(line)).map(|line| line + "\n").collect()
}

fn scaling(scratch: &Scratch, model: &str) -> serde_json::Value {
    let report = scratch.succeeds(&format!("inspect {model}/model.safetensors --json"));
    serde_json::from_str::<serde_json::Value>(&report).unwrap()["data"]["scaling"].clone()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

// numpy, float64: mean 1700000031.5 and 113400, std sqrt((64² - 1)/12) = 18.472953201911167, times 3600.
#[test]
fn every_format_fits_the_scaling_to_all_digits() {
    let scratch = Scratch::new("timestamps");
    let rows = timestamps();
    let mut files = Vec::new();
    for (name, delimiter) in
        [("t.csv", ","), ("semicolons.csv", ";"), ("t.tsv", "\t"), ("bars.csv", "|")]
    {
        fs::write(scratch.path(name), csv(&rows, delimiter)).unwrap();
        files.push(name.to_owned());
    }
    write_npy(scratch.path("f8.npy"), &rows).unwrap();
    write_npy(scratch.path("i8.npy"), &rows.mapv(|x| x as i64)).unwrap();
    write_npy(scratch.path("u4.npy"), &rows.mapv(|x| x as u32)).unwrap();
    write_npy(scratch.path("i4.npy"), &rows.mapv(|x| x as i32)).unwrap();
    for name in
        ["f8.npy", "i8.npy", "u4.npy", "i4.npy", "f8.npy --stream always", "i8.npy --stream always"]
    {
        files.push(name.to_owned());
    }
    let model = |data: &str| {
        scratch.succeeds(&format!(
            "train --data {data} --scale standardize {TRAIN} --overwrite --out m"
        ));
        let scaling = scaling(&scratch, "m");
        (numbers(&scaling["standardise"]["mean"]), numbers(&scaling["standardise"]["std"]))
    };
    // Every tenth row is held out for validation, so the whole file validates.
    let all = |data: &str| {
        let file = data.split(' ').next().unwrap();
        model(&format!("{data} --validation {file}"))
    };
    for data in &files {
        let (mean, std) = all(data);
        assert_eq!(mean[0], 1_700_000_031.5, "{data}");
        assert!((mean[1] - 113_400.0).abs() < 1e-10, "{data}: {}", mean[1]);
        for (std, unit) in std.iter().zip([1.0, 3600.0]) {
            assert!((std / unit - 18.472_953_201_911_167).abs() < 1e-12, "{data}: {std}");
        }
    }
}

#[test]
fn unscaled_outputs_keep_the_digits() {
    let scratch = Scratch::new("unscaled");
    fs::write(scratch.path("t.csv"), csv(&timestamps(), ",")).unwrap();
    for scale in ["standardize", "min-max"] {
        scratch.succeeds(&format!(
            "train --overwrite --data t.csv --scale {scale} --likelihood squared-error --beta 0.0001 --hidden 32 \
             --latent 2 --lr 0.01 --batch 16 --epochs 400 --quiet --out m"
        ));
        for (command, first) in [
            ("reconstruct --data t.csv", 0),
            ("sample --count 20", 0),
            ("traverse --steps 5", 2),
            ("interpolate --data t.csv --rows 3,60 --steps 5", 3),
        ] {
            let (name, rest) = command.split_once(' ').unwrap();
            let run = |out: &str| {
                scratch.succeeds(&format!(
                    "{name} --model m/model.safetensors {rest} --overwrite --out {out}"
                ));
            };
            run("out.csv");
            run("out.npy");
            let array: Array2<f64> = read_npy(scratch.path("out.npy")).unwrap();
            let text = fs::read_to_string(scratch.path("out.csv")).unwrap();
            let table: Vec<f64> = text
                .lines()
                .skip(1)
                .map(|line| line.split(',').nth(first).unwrap().parse().unwrap())
                .collect();
            assert_eq!(array.column(0).to_vec(), table, "{scale} {command}");
            // A float32 is a multiple of 128 here.
            assert!(table.iter().any(|x| x % 1.0 != 0.0), "{scale} {command}: {table:?}");
            assert!(table.iter().all(|x| (x - 1_700_000_031.5).abs() < 200.0), "{scale} {command}");
        }
        scratch.succeeds(
            "reconstruct --model m/model.safetensors --data t.csv --overwrite --out r.npy",
        );
        let found: Array2<f64> = read_npy(scratch.path("r.npy")).unwrap();
        let first = found.column(0);
        let squares = first.iter().zip(0..).map(|(x, i)| (x - 1.7e9 - f64::from(i)).powi(2));
        let error = (squares.sum::<f64>() / 64.0).sqrt();
        assert!(error < 6.0, "{scale}: {error} s of a standard deviation of 18.5 s");
    }
}

#[test]
fn large_and_small_numbers_are_scaled_before_they_are_rounded() {
    let scratch = Scratch::new("magnitudes");
    let rows = Array2::from_shape_fn((64, 3), |(i, j)| (i as f64 + 1.0) * [1e40, 1e-44, 1e-310][j]);
    fs::write(scratch.path("t.csv"), csv(&rows, ",")).unwrap();
    write_npy(scratch.path("t.npy"), &rows).unwrap();
    for data in ["t.csv", "t.npy"] {
        let train = format!("train --data {data} --validation {data} {TRAIN} --overwrite --out m");
        scratch.succeeds(&format!("{train} --scale standardize"));
        let scaling = scaling(&scratch, "m");
        let std = numbers(&scaling["standardise"]["std"]);
        for (std, unit) in std.iter().zip([1e40, 1e-44, 1e-310]) {
            assert!((std / unit / 18.472_953_201_911_167 - 1.0).abs() < 1e-9, "{data}: {std}");
        }
        scratch.succeeds(
            "reconstruct --model m/model.safetensors --data t.csv --overwrite --out r.npy",
        );
        let back: Array2<f64> = read_npy(scratch.path("r.npy")).unwrap();
        assert!(back.column(0).iter().all(|x| (1e39..1e42).contains(x)), "{back}");
        let message = scratch.fails(1, &train);
        let place = if data == "t.csv" { "line 2, column 'c0'" } else { "row 0, column 0" };
        assert_eq!(
            message,
            format!(
                "{data}: {place}: found 1e40; expected values in the range of float32, up to 3.4e38, after \
                 scaling (--scale standardize)"
            )
        );
    }
    fs::write(scratch.path("huge.csv"), "a\n1\n1e400\n").unwrap();
    let message = scratch.fails(1, "train --data huge.csv --scale standardize --out other");
    assert!(
        message.contains("line 3, column 'a': expected a finite number in the range of float64")
    );
}

#[test]
fn constant_columns_are_those_of_the_file() {
    let scratch = Scratch::new("constant");
    let mut rows = timestamps();
    write_npy(scratch.path("t.npy"), &rows).unwrap();
    let train = "train --data t.npy --scale standardize --likelihood gaussian --hidden 8 --epochs 1 --overwrite --out m";
    assert!(!scratch.says(train).contains("constant"));
    rows.column_mut(0).fill(1_700_000_001.0);
    write_npy(scratch.path("t.npy"), &rows).unwrap();
    assert!(scratch.says(train).contains("1 feature is constant in the training rows"));
    scratch.succeeds("sample --model m/model.safetensors --count 3 --overwrite --out s.npy");
    let samples: Array2<f64> = read_npy(scratch.path("s.npy")).unwrap();
    assert!(samples.column(0).iter().all(|x| (x - 1_700_000_001.0).abs() < 10.0), "{samples}");
}

#[test]
fn float32_files_give_the_same_model_as_their_float64_copies() {
    let scratch = Scratch::new("widths");
    let narrow = Array2::from_shape_fn((64, 3), |(i, j)| ((i * 7 + j * 3) % 31) as f32 / 7.0);
    write_npy(scratch.path("narrow.npy"), &narrow).unwrap();
    write_npy(scratch.path("wide.npy"), &narrow.mapv(f64::from)).unwrap();
    for options in ["--scale standardize", "--scale min-max", ""] {
        for data in ["narrow", "wide"] {
            scratch.succeeds(&format!(
                "train --data {data}.npy {options} {TRAIN} --overwrite --out {data}"
            ));
        }
        let model = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
        assert!(model("narrow") == model("wide"), "{options}");
    }
    let one = arr2(&[[1.0_f32, 2.0, 3.0]]);
    write_npy(scratch.path("one.npy"), &one).unwrap();
    scratch.succeeds(
        "reconstruct --model narrow/model.safetensors --data one.npy --overwrite --out r.npy",
    );
    // Without scaling, outputs are float32.
    assert!(read_npy::<_, Array2<f32>>(scratch.path("r.npy")).is_ok());
}

#[test]
fn unscaled_columns_that_lose_digits_are_announced() {
    let scratch = Scratch::new("rounded");
    fs::write(scratch.path("t.csv"), csv(&timestamps(), ",")).unwrap();
    let train = format!("train --data t.csv {TRAIN} --overwrite --out m");
    let said = String::from_utf8(scratch.run(&train).stderr).unwrap();
    assert!(
        said.contains(
            "warning: t.csv: column 'c0': the values lose digits when they are rounded to float32 \
             (1700000000 to 1700000063 become 1700000000 to 1700000000); use --scale standardize"
        ),
        "{said}"
    );
    let said = scratch.run(&format!("{train} --scale min-max"));
    assert!(!String::from_utf8_lossy(&said.stderr).contains("digits"), "{said:?}");
    // 2⁵³ + 1 is no float64.
    let ids: String = (1..65).map(|i| format!("{}\n", 9_007_199_254_740_992_u64 + i)).collect();
    fs::write(scratch.path("ids.csv"), format!("id\n{ids}")).unwrap();
    let said = scratch
        .run(&format!("train --data ids.csv --scale standardize {TRAIN} --overwrite --out m"));
    assert!(
        String::from_utf8_lossy(&said.stderr)
            .contains("warning: ids.csv: column 'id': integers beyond 2^53 are rounded to float64"),
        "{said:?}"
    );
}
