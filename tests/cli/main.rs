//! The tool as a user runs it: its files, its output and its errors.
#![cfg(feature = "cli")]

mod anomaly;
mod arrays;
mod conditional;
mod convert;
mod data;
mod diagnosis;
mod evaluation;
mod export;
mod families;
mod further;
mod long_runs;
mod manual;
mod outliers;
mod overwriting;
mod pictures;
mod plot;
mod precision;
mod ranges;
mod readme;
mod refusals;
mod sampling;
mod score;
mod scratch;
mod settings;
mod sheets;
mod tables;
mod traverse;

use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, arr2};
use ndarray_npy::write_npy;
use scratch::{Scratch, TRAIN, images, last_line, read_array, write_idx};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

#[test]
fn training_writes_all_files_and_names_them() {
    let scratch = Scratch::new("train");
    write_idx(&scratch.path("train.idx"), &images(150, 1));
    write_idx(&scratch.path("test.idx"), &images(40, 2));
    let said = scratch.says(&format!("{TRAIN} --out model"));
    // Such a short run may cause warnings.
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert!(
        lines[0].starts_with("30-16-9-3-9-16-30 (")
            && lines[0].contains("150 train, 40 validation rows")
    );
    assert!(lines[1].starts_with("epoch 1/2: train ") && lines[2].starts_with("epoch 2/2: train "));
    assert!(lines[1].contains(", validation "));
    assert!(lines[3].starts_with("validation ELBO: -"));
    assert!(lines[4].starts_with("in model: model.safetensors, history.csv"));
    assert_eq!(
        scratch.names_in("model"),
        [
            "checkpoint.safetensors",
            "history.csv",
            "history.jsonl",
            "loss.png",
            "model.safetensors",
            "reconstructions.png",
            "run.toml",
            "samples.png"
        ]
    );

    let history = fs::read_to_string(scratch.path("model/history.csv")).unwrap();
    let rows: Vec<Vec<&str>> = history.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        rows[0].join(" "),
        "epoch train_loss train_reconstruction train_kl validation_loss validation_reconstruction \
         validation_kl validation_active_units beta learning_rate images_per_second"
    );
    assert_eq!(rows.len(), 3);
    let second: Vec<f64> = rows[2].iter().map(|cell| cell.parse().unwrap()).collect();
    assert_eq!((second[0], second[8], second[9]), (2.0, 1.0, 0.001));
    assert!((second[1] - second[2] - second[3]).abs() < 1e-9 * second[1]);
    assert!((second[4] - second[5] - second[6]).abs() < 1e-9 * second[4]);

    // 8 × 8 images of 6×5, nine times as large, 2 pixels between them and around.
    let samples = image::open(scratch.path("model/samples.png")).unwrap();
    assert_eq!((samples.width(), samples.height()), (8 * (5 * 8 + 2) + 2, 8 * (6 * 8 + 2) + 2));
    for name in ["reconstructions.png", "loss.png"] {
        image::open(scratch.path("model").join(name)).unwrap();
    }
}

#[test]
fn json_agrees_with_history_and_evaluation() {
    let scratch = Scratch::new("json");
    write_idx(&scratch.path("train.idx"), &images(150, 1));
    write_idx(&scratch.path("test.idx"), &images(40, 2));
    let output = scratch.run(&format!("{TRAIN} --json --out model"));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1);
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("30-16-9-3-9-16-30 ("));
    let quiet = scratch.succeeds(&format!("{TRAIN} --json --quiet --overwrite --out model"));
    assert_eq!(quiet.lines().count(), 1);

    let report = last_line(&stdout);
    let keys = [
        "epochs",
        "model_epoch",
        "train_loss",
        "validation_loss",
        "validation_reconstruction",
        "validation_kl",
        "active_units",
        "collapsed_units",
        "warnings",
        "images_per_second",
        "seconds",
        "model",
    ];
    assert_eq!(report.as_object().unwrap().len(), keys.len());
    assert!(keys.iter().all(|key| !report[key].is_null()), "{report}");
    assert_eq!(report["epochs"], 2);
    assert_eq!(report["model"], "model/model.safetensors");
    for key in ["train_loss", "validation_loss", "validation_reconstruction", "validation_kl"] {
        assert_eq!(report[key], last_line(&quiet)[key], "{key}");
    }
    let history = fs::read_to_string(scratch.path("model/history.csv")).unwrap();
    let cells: Vec<&str> = history.lines().last().unwrap().split(',').collect();
    // As text: both are written to the shortest digits, and reading JSON may lose the last bit.
    assert!(quiet.contains(&format!("\"validation_loss\":{},", cells[4])), "{quiet}{history}");

    let eval = "eval --model model/model.safetensors --data test.idx";
    let evaluation = last_line(&scratch.succeeds(&format!("{eval} --json")));
    assert_eq!(evaluation["loss"], report["validation_loss"]);
    assert_eq!(evaluation["reconstruction"], report["validation_reconstruction"]);
    assert_eq!(evaluation["kl"], report["validation_kl"]);
    assert_eq!(evaluation["rows"], 40);
    let per_dimension = evaluation["kl_per_dimension"].as_array().unwrap();
    let sum: f64 = per_dimension.iter().map(|kl| kl.as_f64().unwrap()).sum();
    let kl = evaluation["kl"].as_f64().unwrap();
    assert_eq!(per_dimension.len(), 3);
    assert!((sum - kl).abs() < 1e-5 * kl, "{sum} {kl}");
    assert!(evaluation["active_units"].as_u64().unwrap() <= 3);

    let text = scratch.succeeds(eval);
    assert!(text.starts_with("40 rows") && text.contains("active units"), "{text}");
    let weighed = last_line(&scratch.succeeds(&format!("{eval} --json --beta 3")));
    let expected = evaluation["reconstruction"].as_f64().unwrap() + 3.0 * kl;
    assert!((weighed["loss"].as_f64().unwrap() - expected).abs() < 1e-9 * expected);
    let other_seed = last_line(&scratch.succeeds(&format!("{eval} --json --seed 2")));
    assert_ne!(other_seed["reconstruction"], evaluation["reconstruction"]);
    assert_eq!(other_seed["kl"], evaluation["kl"]);
}

#[test]
fn trains_on_the_embedded_sample() {
    let scratch = Scratch::new("sample");
    let stdout =
        scratch.succeeds("train --epochs 1 --hidden 8 --latent 2 --batch 64 --json --quiet");
    assert_eq!(last_line(&stdout)["model"], "elbo-out/model.safetensors");
    // Between a model that has learned nothing (784 ln 2) and the best possible.
    let loss = last_line(&stdout)["validation_loss"].as_f64().unwrap();
    assert!((80.0..543.5).contains(&loss), "{loss}");
    let samples = image::open(scratch.path("elbo-out/samples.png")).unwrap();
    assert_eq!((samples.width(), samples.height()), (8 * 58 + 2, 8 * 58 + 2));
}

#[test]
fn threads_and_instruction_set_change_no_bit() {
    let scratch = Scratch::with_model("bits");
    let model = fs::read(scratch.path("model/model.safetensors")).unwrap();
    let mut ways: Vec<String> = [1, 2, 5].iter().map(|n| format!("--threads {n}")).collect();
    ways.extend(elbo::simd::InstructionSet::available().iter().map(|s| format!("--simd {s}")));
    let files = ["s.npy", "s.png", "r.npy", "r.png", "e.npy"];
    let mut first: Option<(String, Vec<Vec<u8>>)> = None;
    for way in &ways {
        scratch.succeeds(&format!("{TRAIN} --quiet {way} --overwrite --out again"));
        assert!(fs::read(scratch.path("again/model.safetensors")).unwrap() == model, "{way}");

        let with = "--model model/model.safetensors";
        let on = format!("{with} --data test.idx");
        let evaluation = scratch.succeeds(&format!("{way} eval {on} --json"));
        scratch.succeeds(&format!("sample {with} --count 20 {way} --overwrite --out s.npy"));
        scratch.succeeds(&format!("sample {with} --count 20 {way} --out s.png"));
        scratch.succeeds(&format!("reconstruct {on} {way} --overwrite --out r.npy"));
        scratch.succeeds(&format!("reconstruct {on} {way} --out r.png"));
        scratch.succeeds(&format!("encode {on} {way} --overwrite --out e.npy"));
        let contents = files.iter().map(|name| fs::read(scratch.path(name)).unwrap()).collect();
        let this = (evaluation, contents);
        match &first {
            None => first = Some(this),
            Some(first) => assert!(*first == this, "{way}"),
        }
    }
}

#[test]
fn samples_reconstructions_and_codes_have_the_right_shapes() {
    let scratch = Scratch::with_model("shapes");
    let with = "--model model/model.safetensors";
    let in_unit = |a: &Array2<f32>| a.iter().all(|p| (0.0..=1.0).contains(p));

    scratch.succeeds(&format!("sample {with} --overwrite --out s.npy"));
    let samples = read_array(&scratch.path("s.npy"));
    assert!(samples.dim() == (64, 30) && in_unit(&samples));
    // Sample i is a function of the seed and of i.
    scratch.succeeds(&format!("sample {with} --count 5 --out few.npy"));
    let few = read_array(&scratch.path("few.npy"));
    assert_eq!(few, samples.select(Axis(0), &[0, 1, 2, 3, 4]));
    scratch.succeeds(&format!("sample {with} --count 5 --seed 2 --out other.npy"));
    assert_ne!(read_array(&scratch.path("other.npy")), few);

    scratch.succeeds(&format!("reconstruct {with} --data test.idx --overwrite --out r.npy"));
    let reconstructions = read_array(&scratch.path("r.npy"));
    assert!(reconstructions.dim() == (40, 30) && in_unit(&reconstructions));
    scratch.succeeds(&format!("encode {with} --data test.idx --overwrite --out e.npy"));
    let codes = read_array(&scratch.path("e.npy"));
    assert_eq!(codes.dim(), (40, 6));
    let vae = elbo::vae::Vae::load(scratch.path("model/model.safetensors")).unwrap();
    let (mu, _): (ArrayView2<f32>, _) = codes.view().split_at(Axis(1), 3);
    assert_eq!(vae.decode(&elbo::Compute::serial(), mu).unwrap(), reconstructions);

    // 4 columns; --size has the width first.
    scratch.succeeds(&format!("sample {with} --count 16 --size 10x3 --out s.png"));
    let picture = image::open(scratch.path("s.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (4 * 52 + 2, 4 * 17 + 2));
    scratch.succeeds(&format!("reconstruct {with} --data test.idx --count 3 --out R.PNG"));
    let picture = image::open(scratch.path("R.PNG")).unwrap();
    assert_eq!((picture.width(), picture.height()), (3 * 42 + 2, 2 * 50 + 2));
}

#[test]
fn data_in_any_format_train_the_same_model() {
    use std::io::Write;
    let scratch = Scratch::with_model("formats");
    let bytes = images(150, 1);
    let idx = fs::read(scratch.path("train.idx")).unwrap();
    let file = fs::File::create(scratch.path("named.anyhow")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    gzip.write_all(&idx).unwrap();
    gzip.finish().unwrap();
    write_npy(scratch.path("u8.npy"), &bytes).unwrap();
    write_npy(scratch.path("f32.npy"), &bytes.mapv(|b| f32::from(b) / 255.0)).unwrap();
    write_npy(scratch.path("f64.npy"), &bytes.mapv(|b| f64::from(b) / 255.0)).unwrap();
    let fortran = bytes.t().as_standard_layout().reversed_axes().mapv(|b| f32::from(b) / 255.0);
    assert!(!fortran.is_standard_layout());
    write_npy(scratch.path("fortran.npy"), &fortran).unwrap();

    let model = fs::read(scratch.path("model/model.safetensors")).unwrap();
    for name in ["named.anyhow", "u8.npy", "f32.npy", "f64.npy", "fortran.npy"] {
        let line = TRAIN.replace("train.idx", name);
        scratch.succeeds(&format!("{line} --quiet --overwrite --out other"));
        assert!(fs::read(scratch.path("other/model.safetensors")).unwrap() == model, "{name}");
    }
}

#[test]
fn holds_out_a_tenth_for_validation() {
    let scratch = Scratch::with_model("tenth");
    let train = "train --data train.idx --hidden 8 --latent 2 --epochs 1 --overwrite --out held";
    let said = scratch.says(train);
    assert!(said.contains("135 train, 15 validation rows"), "{said}");
    let model = fs::read(scratch.path("held/model.safetensors")).unwrap();
    scratch.says(train);
    assert!(fs::read(scratch.path("held/model.safetensors")).unwrap() == model);
    scratch.says(&format!("{train} --seed 2"));
    assert!(fs::read(scratch.path("held/model.safetensors")).unwrap() != model);
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_option() {
    let scratch = Scratch::with_model("usage");
    let model = "--model model/model.safetensors";
    let cases = [
        ("trian", "'trian'"),
        ("train --latent 0", "'--latent <Z>': expected a whole number from 1"),
        ("train --latent -3", "'--latent <Z>': expected a whole number from 1"),
        ("train --seed -1", "'--seed <SEED>': expected a whole number from 0"),
        ("train --seed abc", "'--seed <SEED>': expected a whole number from 0"),
        ("train --hidden -4", "'--hidden <WIDTHS>': expected widths from 1"),
        ("train --threads -1", "'--threads <N>': expected a whole number from 1"),
        ("train --latent 2.5", "'--latent <Z>': expected a whole number"),
        ("train --batch 0", "'--batch <ROWS>': expected a whole number from 1"),
        ("train --epochs 0", "'--epochs <N>': expected a whole number from 1"),
        ("train --hidden 16,0", "'--hidden <WIDTHS>': expected widths from 1"),
        ("train --hidden 16,,8", "'--hidden <WIDTHS>': expected widths from 1"),
        ("train --lr NaN", "'--lr <RATE>': expected a number above 0"),
        ("train --lr -0.1", "'--lr <RATE>': expected a number above 0"),
        ("train --lr 0", "'--lr <RATE>': expected a number above 0"),
        ("train --lr inf", "'--lr <RATE>': expected a number above 0"),
        ("train --beta -1", "'--beta <WEIGHT>': expected a number, 0 or more"),
        ("train --beta NaN", "'--beta <WEIGHT>': expected a number, 0 or more"),
        ("train --seed x", "'--seed <SEED>'"),
        ("train --threads 0", "'--threads <N>': expected a whole number from 1"),
        ("train --simd v9", "this machine has scalar"),
        ("train --validation test.idx", "--validation requires --data"),
        ("train --data train.idx --size 7x7", "--size 7x7: expected width × height to be 30"),
        ("train --size 7", "'--size <WxH>': expected width and height"),
        ("train --shape 28x20", "use --size, which has the width first: --size 20x28"),
        ("train --color red", "unexpected argument '--color'"),
        ("eval", "--model <FILE> --data <FILE>"),
        (&format!("eval {model}"), "not provided: --data <FILE>"),
        (
            &format!("sample {model} --out x.jpg"),
            "expected a file name that ends in .png, .svg, .npy or .csv",
        ),
        (
            &format!("sample {model} --out x"),
            "expected a file name that ends in .png, .svg, .npy or .csv",
        ),
        (&format!("sample {model} --count 0 --out x.png"), "'--count <N>': expected a whole"),
        (&format!("sample {model} --count 10001 --out x.png"), "a figure has at most 10000 images"),
        (
            &format!("encode {model} --data test.idx --out x.png"),
            "a file name that ends in .csv or .npy",
        ),
    ];
    for (line, part) in cases {
        let message = scratch.fails(2, line);
        assert!(message.contains(part), "elbo {line}: {message}");
    }
}

#[test]
fn missing_command_prints_help_with_exit_code_2() {
    let scratch = Scratch::new("bare");
    for (line, part) in [("", "Commands:"), ("plot", "kl-per-dimension")] {
        let output = scratch.run(line);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "elbo {line}");
        let help = String::from_utf8(output.stderr).unwrap();
        assert!(help.contains("Usage: elbo") && help.contains(part), "{help}");
    }
}

#[test]
fn short_names_and_other_spellings_are_accepted() {
    let scratch = Scratch::with_model("spelling");
    let model = fs::read(scratch.path("model/model.safetensors")).unwrap();
    let line = TRAIN.replace("--batch", "--batch-size");
    scratch.succeeds(&format!("{line} -q -o short --learning-rate 0.001 --optimiser adam"));
    assert!(fs::read(scratch.path("short/model.safetensors")).unwrap() == model);
    scratch.succeeds("encode -m model/model.safetensors --data test.idx -o e.npy");
    assert_eq!(
        scratch.succeeds("inspect -m model/model.safetensors"),
        scratch.succeeds("inspect model/model.safetensors")
    );
    if elbo::simd::InstructionSet::available().iter().any(|simd| simd.name() == "avx2") {
        scratch.succeeds(&format!("{TRAIN} -q -o avx2 --simd avx2"));
        scratch.succeeds(&format!("{TRAIN} -q -o avx2 --overwrite --simd v3"));
        assert!(fs::read(scratch.path("avx2/model.safetensors")).unwrap() == model);
    }
}

#[test]
fn dash_is_standard_input_and_output() {
    let scratch = Scratch::with_model("dash");
    let with = "--model model/model.safetensors";
    scratch.succeeds(&format!("encode {with} --data test.idx --out codes.csv"));
    let codes = fs::read_to_string(scratch.path("codes.csv")).unwrap();
    let mut command = scratch.command(&format!("encode {with} --data - --out -"));
    let input = fs::File::open(scratch.path("test.idx")).unwrap();
    let output = command.stdin(input).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), codes);
    let scores = scratch.succeeds(&format!("score {with} --data test.idx --out -"));
    assert_eq!(scores, scratch.succeeds(&format!("score {with} --data test.idx")));
    assert!(scores.starts_with("row,"), "{scores}");
    let sample = scratch.succeeds(&format!("sample {with} --count 3 --out -"));
    assert_eq!(sample.lines().count(), 4);
}

#[test]
fn invalid_data_exit_with_1_and_name_the_file() {
    let scratch = Scratch::with_model("data");
    let write = |name: &str, bytes: &[u8]| fs::write(scratch.path(name), bytes).unwrap();
    let idx = fs::read(scratch.path("train.idx")).unwrap();
    write("empty.idx", b"");
    write("cut.idx", &idx[..1000]);
    write("stub.idx", &idx[..9]);
    write("long.idx", &[&idx[..], b"more"].concat());
    let mut oversized = idx.clone();
    oversized[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    write("oversized.idx", &oversized);
    let mut impossible = vec![0, 0, 8, 4];
    impossible.extend([0xff; 16]);
    write("impossible.idx", &impossible);
    write("text.idx", b"five numbers: 1 2 3 4 5");
    write("labels.idx", &[0, 0, 8, 1, 0, 0, 0, 2, 7, 2]);
    write("floats.idx", &[0, 0, 13, 3, 0, 0, 0, 1]);
    write("cut.gz", &[0x1f, 0x8b, 8, 0, 0, 0]);
    write_idx(&scratch.path("wide.idx"), &Array3::zeros((20, 7, 5)));
    write_idx(&scratch.path("none.idx"), &Array3::zeros((0, 6, 5)));
    write_idx(&scratch.path("one.idx"), &Array3::zeros((1, 6, 5)));
    write_npy(scratch.path("integers.npy"), &arr2(&[[1_i64, 2]])).unwrap();
    write_npy(scratch.path("flat.npy"), &Array1::<f32>::zeros(30)).unwrap();
    let mut npy = fs::read(scratch.path("integers.npy")).unwrap();
    let place = npy.windows(3).position(|bytes| bytes == b"<i8").unwrap();
    npy[place + 1] = b'c';
    write("complex.npy", &npy);
    npy.truncate(70);
    write("cut.npy", &npy);
    let mut rows = Array2::from_elem((4, 30), 0.5_f32);
    rows[[2, 7]] = 1.25;
    write_npy(scratch.path("bright.npy"), &rows).unwrap();
    rows[[2, 7]] = f32::NAN;
    write_npy(scratch.path("nan.npy"), &rows).unwrap();

    let expected =
        "unknown format; expected IDX images, a .npy or .npz array, a .csv or .tsv table";
    fs::create_dir(scratch.path("folder")).unwrap();
    let cases = [
        ("missing.idx", "cannot read: No such file or directory"),
        ("folder", "no images found; expected .png or .jpg images"),
        ("empty.idx", "the file is empty"),
        (
            "cut.idx",
            "truncated: the header promises shape [150, 6, 5], but only 984 of 4500 bytes follow",
        ),
        ("stub.idx", "truncated: the file ends inside the IDX header"),
        ("long.idx", "damaged: data continue after the shape [150, 6, 5] in the header"),
        ("oversized.idx", "truncated: the header promises shape [4294967295, 6, 5]"),
        ("impossible.idx", "too large to address"),
        ("text.idx", expected),
        ("labels.idx", "expected images, which have at least 2 (is this a file of labels?)"),
        ("floats.idx", "32-bit floats) are not supported; expected unsigned bytes"),
        ("cut.gz", "truncated gzip file"),
        ("none.idx", "no data: the array has shape [0, 6, 5]"),
        ("complex.npy", "dtype <c8 is not supported; expected booleans, integers or floats"),
        ("flat.npy", "the array has shape [30]; expected at least 2 dimensions"),
        ("cut.npy", "damaged .npy header: the file ends inside it"),
        ("bright.npy", "row 2, column 7: found 1.25; expected values in [0, 1]"),
        ("nan.npy", "row 2, column 7: found NaN; expected values in [0, 1]"),
    ];
    let model = "--model model/model.safetensors";
    for (name, part) in cases {
        for line in [
            format!("train --data {name} --out new"),
            format!("train --data train.idx --validation {name} --out new"),
            format!("eval {model} --data {name}"),
            format!("reconstruct {model} --data {name} --out new.png"),
            format!("encode {model} --data {name} --out new.npy"),
        ] {
            let message = scratch.fails(1, &line);
            assert!(message.starts_with(&format!("{name}: ")), "elbo {line}: {message}");
            assert!(message.contains(part), "elbo {line}: {message}");
        }
    }

    let message = scratch.fails(1, "train --data one.idx --out new");
    assert!(
        message.contains("one.idx: the file has 1 row, too few to hold some out")
            && message.contains("--validation"),
        "{message}"
    );
    for line in [
        "train --data train.idx --validation wide.idx --out new".to_owned(),
        format!("eval {model} --data wide.idx"),
        format!("reconstruct {model} --data wide.idx --out new.npy"),
        format!("encode {model} --data wide.idx --out new.npy"),
    ] {
        let message = scratch.fails(1, &line);
        assert!(
            message.starts_with("wide.idx: the rows have 35 features; expected 30"),
            "{message}"
        );
    }
}

#[test]
fn rejects_a_damaged_model() {
    let scratch = Scratch::with_model("model");
    let whole = fs::read(scratch.path("model/model.safetensors")).unwrap();
    for end in (0..whole.len()).step_by(97) {
        fs::write(scratch.path("cut.safetensors"), &whole[..end]).unwrap();
        let message = scratch.fails(1, "sample --model cut.safetensors --out new.png");
        assert!(message.starts_with("cut.safetensors: "), "{end}: {message}");
        assert!(message.contains("expected a model.safetensors"), "{end}: {message}");
    }
    let message = scratch.fails(1, "eval --model none.safetensors --data test.idx");
    assert!(message.starts_with("none.safetensors: cannot read: No such file"), "{message}");
    let message = scratch.fails(1, "eval --model test.idx --data test.idx");
    assert!(message.starts_with("test.idx: "), "{message}");
}

#[test]
fn reports_a_file_that_cannot_be_written() {
    let scratch = Scratch::with_model("unwritable");
    let model = "--model model/model.safetensors";
    // A file in place of a directory stops even root.
    let message = scratch.fails(1, &format!("{TRAIN} --out test.idx/out"));
    assert!(message.starts_with("test.idx/out: cannot write to this directory: "), "{message}");
    assert!(message.contains("choose another --out"), "{message}");
    for line in [
        format!("sample {model} --out test.idx/s.png"),
        format!("sample {model} --out missing/s.npy"),
        format!("reconstruct {model} --data test.idx --out missing/s.png"),
        format!("encode {model} --data test.idx --out missing/s.npy"),
    ] {
        let message = scratch.fails(1, &line);
        assert!(message.contains(": cannot write: "), "{message}");
    }
    fs::create_dir(scratch.path("taken.png")).unwrap();
    let message = scratch.fails(1, &format!("sample {model} --out taken.png"));
    assert!(message.starts_with("taken.png: cannot write: "), "{message}");
}

#[test]
fn diverging_run_reports_the_step_and_keeps_older_results() {
    let scratch = Scratch::with_model("diverges");
    let model = fs::read(scratch.path("model/model.safetensors")).unwrap();
    for out in ["model", "new/deep"] {
        let line = format!("{TRAIN} --quiet --lr 1e30 --overwrite --out {out}");
        let message = scratch.fails(1, &line);
        assert!(message.contains("at step ") && message.contains("learning rate"), "{message}");
    }
    assert!(fs::read(scratch.path("model/model.safetensors")).unwrap() == model);
}

#[cfg(target_os = "linux")]
#[test]
fn reports_a_full_disk_but_no_closed_pipe() {
    let scratch = Scratch::with_model("stdout");
    let line = "eval --model model/model.safetensors --data test.idx";
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = scratch.command(line).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: standard output: No space left"), "{stderr}");

    let mut child = scratch
        .command(&format!("{TRAIN} --quiet --json --overwrite --out model"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Checks the format of the measurements, not their values.
#[test]
fn bench_prints_one_line_per_case_and_number_of_threads() {
    let scratch = Scratch::new("bench");
    let line = "bench --filter 20-400 --repetitions 1 --threads 2 --json";
    let lines: Vec<Value> =
        scratch.succeeds(line).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    let keys = [
        "case",
        "shape",
        "batch",
        "threads",
        "simd",
        "value",
        "unit",
        "limit",
        "limit_unit",
        "fraction",
        "median",
        "milliseconds",
    ];
    let has_two_processors = std::thread::available_parallelism().is_ok_and(|n| n.get() >= 2);
    for (i, line) in lines.iter().enumerate() {
        assert!(keys.iter().all(|key| !line[key].is_null()), "{line}");
        let number = |key: &str| line[key].as_f64().unwrap();
        let round_trips = ["round_trip_before", "round_trip_after"].map(|key| line[key].as_f64());
        let has_round_trips = number("threads") == 2.0 && has_two_processors;
        assert!(round_trips.iter().all(|&trip| (trip > Some(0.0)) == has_round_trips), "{line}");
        assert_eq!(line.as_object().unwrap().len(), keys.len() + 2 * usize::from(has_round_trips));
        let which = ["forward", "input gradient", "weight gradient"][i / 2];
        assert_eq!(line["case"], "product");
        assert_eq!(line["shape"], format!("20-400 {which}"));
        assert_eq!((number("batch"), number("threads")), (128.0, [1.0, 2.0][i % 2]));
        assert_eq!(number("fraction"), number("value") / number("limit"));
        let flop = 2.0 * 128.0 * 20.0 * 400.0;
        let rate = flop / (1e6 * number("milliseconds"));
        assert!((number("value") / rate - 1.0).abs() < 1e-9, "{line}");
        assert_eq!(number("median"), number("value"));
    }

    let table = scratch.succeeds("bench --filter math/exp --repetitions 2 --simd scalar");
    assert!(table.contains("Instruction set scalar") && table.contains("exp 4096"), "{table}");
    assert_eq!(table.lines().count(), 5, "{table}"); // exp and expm1, below two lines and a blank one
    let message = scratch.fails(2, "bench --filter nonsense");
    for name in ["nonsense", "train_step/784-400-20/128", "math/tanh 4096", "infer/784-400-20/1"] {
        assert!(message.contains(name), "{message}");
    }
    assert_eq!(message.matches("noise/20/128").count(), 1, "{message}");
}

#[test]
fn help_shows_defaults_and_headings() {
    let scratch = Scratch::new("help");
    let general = scratch.succeeds("--help");
    assert!(general.contains("130 interrupted"), "exit codes: {general}");
    for command in ["train", "eval", "sample", "reconstruct", "encode", "bench"] {
        assert!(general.contains(command), "{general}");
        let help = scratch.succeeds(&format!("{command} --help"));
        assert!(help.contains(&format!("elbo {command} ")), "{help}");
        assert!(help.contains("--threads <N>") && help.contains("[default: auto]"), "{help}");
    }
    let help = scratch.succeeds("train --help");
    for default in ["400", "20", "10", "128", "1", "elbo-out"] {
        assert!(help.contains(&format!("[default: {default}]")), "{default}\n{help}");
    }
    let headings =
        ["Options", "Data", "Model", "Likelihood", "Objective", "Optimizer", "Output", "General"];
    for heading in headings {
        let count = help.lines().filter(|line| *line == format!("{heading}:")).count();
        assert_eq!(count, 1, "{heading}\n{help}");
    }
    assert_eq!(scratch.succeeds("--version").trim(), concat!("elbo ", env!("CARGO_PKG_VERSION")));
}
