//! Every family of options, in very short runs.

use crate::scratch::{SHORT, Scratch, last_line};
use std::fs;

#[test]
fn trains_with_every_family_of_options() {
    let scratch = Scratch::with_labels("families");
    let model = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    let train = "train --data train.idx --validation test.idx";
    scratch.succeeds(&format!("{train} {SHORT} --out plain"));
    for options in [
        "--encoder 9,7 --decoder 5",
        "--activation leaky-relu:0.2",
        "--activation gelu --layer-norm",
        "--dropout 0.2",
        "--prior-mean 0.5 --prior-std 2",
        "--logvar-clamp -4,4",
        "--pos-weight 3",
        "--likelihood bernoulli-probabilities",
        "--likelihood continuous-bernoulli --augment dequantize",
        "--likelihood squared-error",
        "--likelihood squared-error --output tanh --signed",
        "--likelihood gaussian",
        "--likelihood gaussian --variance 0.1 --signed",
        "--likelihood gaussian --variance per-feature",
        "--likelihood gaussian --variance optimal",
        "--beta 4",
        "--anneal linear --anneal-over 5steps --anneal-from 0.1",
        "--anneal cosine",
        "--anneal cyclical --anneal-over 8steps --cycles 2 --cycle-ratio 0.7",
        "--free-bits 0.1",
        "--free-bits 0.1 --free-bits-per element",
        "--free-bits 1 --free-bits-per sample",
        "--capacity 3",
        "--capacity 3 --capacity-gamma 10 --capacity-over 6steps --capacity-per sample",
        "--total-correlation --beta 3",
        "--total-correlation --tc-alpha 0.5 --tc-gamma 2",
        "--importance-samples 3",
        "--importance-samples 3 --estimator dreg",
        "--reduction sum",
        "--reduction mean",
        "--optimizer adamw --weight-decay 0.1",
        "--optimizer sgd --lr 0.01 --momentum 0.9 --nesterov",
        "--optimizer adamax",
        "--clip-norm 1",
        "--clip-value 0.01",
        "--warm-up 4",
        "--schedule step --decay-every 1 --decay-factor 0.1",
        "--schedule cosine --decay-over 6steps --decay-floor 0.1",
        "--accumulate 3",
        "--augment binarize",
        "--conditional --labels train.labels --validation-labels test.labels",
    ] {
        let report =
            last_line(&scratch.succeeds(&format!("{train} {SHORT} {options} --out other")));
        assert!(report["validation_loss"].as_f64().unwrap().is_finite(), "{options}: {report}");
        assert!(model("other") != model("plain"), "{options} changes nothing");
        let png = image::open(scratch.path("other/samples.png")).unwrap();
        assert!(png.width() > 0);
    }
    // A plateau that is never reached and explicit defaults change nothing.
    for options in [
        "--schedule plateau --decay-patience 3 --decay-factor 0.5",
        "--likelihood bernoulli --activation relu --optimizer adam --lr 0.001 --schedule constant",
        "--encoder 8 --decoder 8 --dropout 0 --prior-mean 0 --prior-std 1 --reduction batch-mean",
        "--augment none --accumulate 1",
    ] {
        scratch.succeeds(&format!("{train} {SHORT} {options} --out other"));
        assert!(model("other") == model("plain"), "{options}");
    }
    // Accumulated batches equal one large batch.
    scratch.succeeds(&format!("{train} {SHORT} --accumulate 2 --out other"));
    scratch.succeeds(&format!("{train} {SHORT} --batch 64 --out large").replace("--batch 32", ""));
    assert!(model("other") == model("large"));
}

#[test]
fn all_families_have_the_same_bits_on_any_instruction_set() {
    let scratch = Scratch::with_labels("families-bits");
    let mut ways = vec!["--threads 1".to_owned(), "--threads 3".to_owned()];
    ways.extend(elbo::simd::InstructionSet::available().iter().map(|s| format!("--simd {s}")));
    for options in [
        "--conditional --labels train.labels --activation silu --layer-norm --dropout 0.1 --free-bits 0.1 \
         --optimizer adamw --clip-norm 1 --schedule cosine --augment binarize",
        "--likelihood gaussian --variance per-feature --total-correlation --beta 2 --optimizer sgd \
         --momentum 0.5 --logvar-clamp -5,5",
        "--likelihood continuous-bernoulli --importance-samples 2 --estimator dreg",
    ] {
        let mut first = None;
        for way in &ways {
            let train = format!("train --data train.idx {SHORT} {options} {way} --out m");
            scratch.succeeds(&train);
            let labels = if options.contains("--labels") { "--labels test.labels" } else { "" };
            let evaluation = scratch.succeeds(&format!(
                "eval --model m/model.safetensors --data test.idx {labels} --importance-samples 70 \
                 --json {way}"
            ));
            let this = (fs::read(scratch.path("m/model.safetensors")).unwrap(), evaluation);
            match &first {
                None => first = Some(this),
                Some(first) => assert!(*first == this, "{options} {way}"),
            }
        }
    }
}
