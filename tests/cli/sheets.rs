//! Sheets of samples and reconstructions with titles and names.

use crate::scratch::Scratch;
use std::fs;

/// Returns the SVG that a command draws.
fn drawn(scratch: &Scratch, line: &str) -> String {
    scratch.succeeds(&format!("{line} --out x.svg"));
    let svg = fs::read_to_string(scratch.path("x.svg")).unwrap();
    assert!(svg.contains("data:image/png;base64,iVBOR"), "{line}");
    svg
}

/// Returns whether each word is a text of its own.
fn has(svg: &str, words: &[&str]) -> bool {
    words.iter().all(|word| svg.contains(&format!(">\n{word}\n")))
}

#[test]
fn svg_of_samples_and_reconstructions_has_titles() {
    let scratch = Scratch::with_model("sheets");
    let model = "--model model/model.safetensors";
    let svg = drawn(&scratch, &format!("sample {model} --count 5 --seed 7"));
    assert!(has(&svg, &["5 samples", "seed 7"]), "{svg}");
    let svg = drawn(&scratch, &format!("reconstruct {model} --data test.idx --count 12"));
    assert!(has(&svg, &["The first 12 rows of test.idx", "input", "output"]));
    // Two bands of pairs.
    assert_eq!(svg.matches(">\ninput\n").count(), 2);
}

#[test]
fn svg_of_conditional_samples_names_the_classes() {
    let scratch = Scratch::with_labels("sheets-classes");
    scratch.succeeds(
        "train --data train.idx --labels train.labels --validation test.idx --validation-labels test.labels \
         --conditional --hidden 8 --latent 2 --epochs 1 --quiet --out m",
    );
    let model = "--model m/model.safetensors";
    let svg = drawn(&scratch, &format!("sample {model} --count 12"));
    assert!(has(&svg, &["12 samples", "class (seed 1)", "0", "5"]) && !has(&svg, &["6"]), "{svg}");
    // There are no more names than columns.
    let svg = drawn(&scratch, &format!("sample {model} --count 2"));
    assert!(has(&svg, &["0", "1"]) && !has(&svg, &["2"]));
    let svg = drawn(&scratch, &format!("sample {model} --label 3 --count 4"));
    assert!(has(&svg, &["4 samples of class 3"]) && !has(&svg, &["0"]));
    let on = format!("reconstruct {model} --data test.idx --labels test.labels --count");
    assert!(has(&drawn(&scratch, &format!("{on} 3")), &["input", "2", "3", "4"]));
    assert!(!has(&drawn(&scratch, &format!("{on} 11")), &["2"]));
}

#[test]
fn rejects_images_of_a_table_without_size() {
    let scratch = Scratch::new("sheets-table");
    let rows: Vec<String> =
        (0..40).map(|i| format!("{},{}", f64::from(i % 7), f64::from(i % 5))).collect();
    fs::write(scratch.path("t.csv"), format!("a,b\n{}\n", rows.join("\n"))).unwrap();
    scratch.succeeds(
        "train --data t.csv --scale standardize --likelihood gaussian --hidden 4 --latent 1 --epochs 1 \
         --quiet --out m",
    );
    let model = "--model m/model.safetensors";
    for line in [format!("sample {model}"), format!("reconstruct {model} --data t.csv")] {
        for name in ["x.png", "x.svg"] {
            let message = scratch.fails(2, &format!("{line} --out {name}"));
            assert!(
                message.contains(&format!(
                    "--out {name}: the rows of the training data are not images"
                )) && message.contains("--size WxH"),
                "{message}"
            );
            assert!(!scratch.path(name).exists());
        }
        scratch.succeeds(&format!("{line} --size 2x1 --out x.png"));
        fs::remove_file(scratch.path("x.png")).unwrap();
    }
}
