//! Samples: data drawn from the likelihood, and their means.

use crate::scratch::{Scratch, last_line, read_array};
use elbo::random::{Generator, Stream};
use elbo::simd::InstructionSet;
use ndarray::{Array2, Axis};
use std::fmt::Write;
use std::fs;

/// Writes a table of independent standard normal numbers, of which no code can say anything.
fn write_isotropic(scratch: &Scratch, rows: usize) {
    let mut numbers = Array2::zeros((rows, 4));
    let simd = InstructionSet::SCALAR;
    Generator::new(2).normal(simd, numbers.view_mut(), Stream::Noise, 0, 0).unwrap();
    let mut text = "a,b,c,d\n".to_owned();
    for row in numbers.rows() {
        let _ = writeln!(text, "{},{},{},{}", row[0], row[1], row[2], row[3]);
    }
    fs::write(scratch.path("g.csv"), text).unwrap();
}

fn table(scratch: &Scratch, name: &str) -> Array2<f64> {
    let text = fs::read_to_string(scratch.path(name)).unwrap();
    let cells = text.lines().skip(1).flat_map(|line| line.split(','));
    let numbers: Vec<f64> = cells.filter_map(|cell| cell.parse().ok()).collect();
    let rows = text.lines().count() - 1;
    Array2::from_shape_vec((rows, numbers.len() / rows), numbers).unwrap()
}

fn deviations(scratch: &Scratch, name: &str) -> Vec<f64> {
    table(scratch, name).axis_iter(Axis(1)).map(|column| column.std(0.0)).collect()
}

#[test]
fn samples_of_a_table_have_the_spread_of_its_columns() {
    let scratch = Scratch::new("spread");
    write_isotropic(&scratch, 4000);
    let sample = "sample --count 4000 --model g/model.safetensors";
    for variance in ["shared", "per-feature", "optimal"] {
        scratch.succeeds(&format!(
            "train --data g.csv --scale standardize --likelihood gaussian --variance {variance} --hidden 16 \
             --latent 1 --lr 0.01 --epochs 30 --quiet --overwrite --out g"
        ));
        let said = scratch.says(&format!("{sample} --overwrite --out s.csv"));
        assert_eq!(
            said,
            "note: drawn from the gaussian likelihood, with its noise (--draw mean: the means alone)\n"
        );
        // Seven standard errors of a standard deviation, 1/√8000.
        let found = deviations(&scratch, "s.csv");
        assert!(found.iter().all(|sd| (0.95..1.05).contains(sd)), "{variance}: {found:?}");
        scratch.succeeds(&format!("{sample} --draw mean --quiet --overwrite --out m.csv"));
        let found = deviations(&scratch, "m.csv");
        assert!(found.iter().all(|sd| *sd < 0.3), "{variance}: {found:?}");
    }
}

#[test]
fn samples_of_a_constant_column_are_the_constant() {
    let scratch = Scratch::new("constant");
    let rows: String = (0..200).map(|i| format!("{},0.000001,{}\n", i % 17, i % 5)).collect();
    fs::write(scratch.path("t.csv"), format!("a,k,b\n{rows}")).unwrap();
    for options in
        ["--scale standardize --likelihood gaussian", "--scale min-max --likelihood gaussian"]
    {
        scratch.works(&format!(
            "train --data t.csv {options} --hidden 8 --epochs 1 --overwrite --out m"
        ));
        scratch.works("sample --model m/model.safetensors --count 50 --overwrite --out s.csv");
        let text = fs::read_to_string(scratch.path("s.csv")).unwrap();
        let of_column =
            |column| text.lines().skip(1).map(move |line| line.split(',').nth(column).unwrap());
        assert!(of_column(1).all(|cell| cell.parse() == Ok(1e-6)), "{options}\n{text}");
        assert!(of_column(0).any(|cell| Some(cell) != of_column(0).next()), "{options}\n{text}");
    }
}

#[test]
fn draws_are_the_same_bits_on_any_machine_and_say_what_they_are() {
    let scratch = Scratch::with_model("drawn");
    let sample = "sample --model model/model.safetensors --count 20";
    let said = scratch.says(&format!("{sample} --out s.npy"));
    assert!(
        said.starts_with("note: means of the bernoulli likelihood, without its noise"),
        "{said}"
    );
    scratch.succeeds(&format!("{sample} --draw data --quiet --out d.npy"));
    let drawn = read_array(&scratch.path("d.npy"));
    assert!(drawn.iter().all(|&x| x == 0.0 || x == 1.0) && drawn.iter().any(|&x| x == 1.0));
    for set in InstructionSet::available() {
        for threads in [1, 3] {
            let line = format!(
                "{sample} --draw data --quiet --simd {set} --threads {threads} --overwrite --out e.npy"
            );
            scratch.succeeds(&line);
            assert_eq!(read_array(&scratch.path("e.npy")), drawn, "{line}");
        }
    }
    // Sample i is a function of the seed and of i.
    scratch.succeeds(
        "sample --model model/model.safetensors --count 7 --draw data --quiet --out f.npy",
    );
    assert_eq!(read_array(&scratch.path("f.npy")), drawn.select(Axis(0), &[0, 1, 2, 3, 4, 5, 6]));
    scratch.succeeds(&format!("{sample} --draw data --seed 2 --quiet --out g.npy"));
    assert_ne!(read_array(&scratch.path("g.npy")), drawn);

    let report =
        last_line(&scratch.succeeds(&format!("{sample} --draw data --quiet --json --out j.csv")));
    assert_eq!([&report["count"], &report["features"], &report["seed"]], [20, 30, 1]);
    assert_eq!(
        [&report["draw"], &report["likelihood"], &report["out"]],
        ["data", "bernoulli", "j.csv"]
    );
    let message = scratch.fails(2, &format!("{sample} --json --out -"));
    assert_eq!(message, "--json and --out - both write to standard output; choose one");
    let message = scratch.fails(2, &format!("{sample} --draw noise --out x.csv"));
    assert!(message.contains("invalid value 'noise' for '--draw <WHAT>'"), "{message}");
}

#[test]
fn conditional_draws_differ_by_class() {
    let scratch = Scratch::new("drawn-classes");
    let mut text = "x,kind\n".to_owned();
    for i in 0..400 {
        let _ = writeln!(
            text,
            "{},{}",
            (i % 2) * 10 + i % 7 % 3,
            if i % 2 == 0 { "low" } else { "high" }
        );
    }
    fs::write(scratch.path("t.csv"), text).unwrap();
    scratch.succeeds(
        "train --data t.csv --label-column kind --conditional --scale standardize --likelihood gaussian \
         --variance shared --hidden 16 --latent 1 --lr 0.01 --batch 16 --epochs 60 --quiet --out m",
    );
    for (class, mean) in [("low", 0.86_f64), ("high", 10.86)] {
        scratch.succeeds(&format!(
            "sample --model m/model.safetensors --count 1000 --label {class} --quiet --overwrite --out s.csv"
        ));
        let rows = table(&scratch, "s.csv");
        assert!((rows.mean().unwrap() - mean).abs() < 0.5, "{class}: {}", rows.mean().unwrap());
        // The numbers 0, 1 and 2 have a standard deviation of 0.82.
        assert!((0.5..1.3).contains(&rows.std(0.0)), "{class}: {}", rows.std(0.0));
    }
}
