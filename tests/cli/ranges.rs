//! Data and the likelihoods that accept them.

use crate::scratch::{SHORT, Scratch, images, read_array, signed_table};
use ndarray_npy::write_npy;
use std::fs;

#[test]
fn likelihood_rejects_data_out_of_its_range() {
    let scratch = Scratch::with_labels("ranges");
    let mut wild = signed_table(150);
    wild[[3, 4]] = 7.5;
    write_npy(scratch.path("wild.npy"), &wild).unwrap();
    wild[[3, 4]] = f32::INFINITY;
    write_npy(scratch.path("infinite.npy"), &wild).unwrap();
    let gaussian = "--likelihood gaussian";
    let tanh = "--likelihood squared-error --output tanh";
    let train =
        |data: &str, options: &str| format!("train --data {data} {SHORT} {options} --out m");

    let message = scratch.fails(1, &train("signed.npy", ""));
    assert_eq!(
        message,
        "signed.npy: row 0, column 4: found -0.20000002; expected values in [0, 1] (or uint8, which is \
         divided by 255) for the likelihood bernoulli; for values in [-1, 1] use --likelihood squared-error \
         --output tanh, or --likelihood gaussian"
    );
    let message = scratch.fails(1, &train("wild.npy", tanh));
    assert!(
        message.contains("row 3, column 4: found 7.5; expected values in [-1, 1]")
            && message
                .contains("for any finite values use --scale standardize --likelihood gaussian"),
        "{message}"
    );
    let message = scratch.fails(1, &train("infinite.npy", gaussian));
    assert!(message.ends_with("row 3, column 4: found inf; expected finite values"), "{message}");
    let message = scratch.fails(1, &train("signed.npy", &format!("--signed {tanh}")));
    assert!(
        message.ends_with(
            "[0, 1] for --signed to map to [-1, 1]; --scale min-max maps them to that range"
        ),
        "{message}"
    );

    scratch.succeeds(&train("wild.npy", gaussian));
    scratch.succeeds("eval --model m/model.safetensors --data wild.npy");
    let message =
        scratch.fails(1, "eval --model m/model.safetensors --data wild.npy --augment dequantize");
    assert!(message.contains("expected values in [0, 1] for --augment dequantize"), "{message}");
    scratch.succeeds(&train("signed.npy", tanh));
    let message = scratch.fails(1, "eval --model m/model.safetensors --data wild.npy");
    assert!(message.ends_with("in [-1, 1] for the likelihood tanh-squared-error"), "{message}");
    let message =
        scratch.fails(1, "eval --model m/model.safetensors --data signed.npy --augment binarize");
    assert!(message.ends_with("expected values in [0, 1] for --augment binarize"), "{message}");

    // Outputs of a tanh model are in [−1, 1] and are shown mapped to gray.
    scratch.succeeds("sample --model m/model.safetensors --draw mean --out s.npy");
    scratch.succeeds("sample --model m/model.safetensors --draw mean --out s.png --size 4x3");
    let samples = read_array(&scratch.path("s.npy"));
    assert!(samples.iter().all(|x| (-1.0..=1.0).contains(x)) && samples.iter().any(|&x| x < 0.0));
    let picture = image::open(scratch.path("s.png")).unwrap().into_luma8();
    let gray = (255.0 * 0.5 * (samples[[0, 0]] + 1.0)).round();
    assert_eq!(f32::from(picture.get_pixel(2, 2).0[0]), gray);
}

#[test]
fn signed_bytes_equal_signed_numbers() {
    let scratch = Scratch::with_labels("signed");
    let bytes = images(150, 1);
    write_npy(scratch.path("mapped.npy"), &bytes.mapv(|b| 2.0 * (f32::from(b) / 255.0) - 1.0))
        .unwrap();
    let likelihood = "--likelihood squared-error --output tanh";
    scratch.succeeds(&format!("train --data train.idx --signed {SHORT} {likelihood} --out a"));
    scratch.succeeds(&format!("train --data mapped.npy {SHORT} {likelihood} --out b"));
    let read = |out: &str, file: &str| fs::read(scratch.path(out).join(file)).unwrap();
    for file in ["reconstructions.png", "samples.png"] {
        assert!(read("a", file) == read("b", file), "{file}");
    }
    // The weights are equal; only one of the files records how its data were read.
    let weights = |out: &str| {
        let file = read(out, "model.safetensors");
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        file[8 + header..].to_vec()
    };
    assert!(weights("a") == weights("b"));
    let eval = |model: &str, data: &str| {
        scratch.succeeds(&format!("eval --json --model {model}/model.safetensors --data {data}"))
    };
    // The model file records the mapping; the option changes nothing.
    assert_eq!(eval("a", "train.idx"), eval("b", "mapped.npy"));
    assert_eq!(eval("a", "train.idx --signed"), eval("b", "mapped.npy"));
    // Outputs have the range of the inputs: from 0 to 1, and from -1 to 1.
    for out in ["a", "b"] {
        let data = if out == "a" { "train.idx" } else { "mapped.npy" };
        let model = format!("--model {out}/model.safetensors");
        scratch.succeeds(&format!("reconstruct {model} --data {data} --out {out}.npy"));
    }
    let [a, b] = ["a.npy", "b.npy"].map(|name| read_array(&scratch.path(name)));
    assert_eq!(a, b.mapv(|x| 0.5 * (x + 1.0)));
}
