//! `elbo convert`: state dicts of other programs, and back.

use crate::scratch::{SHORT, Scratch, images, write_idx};
use std::fs;
use std::path::Path;

/// Returns the path of a file in tests/golden.
fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    path.to_str().expect("a path of letters").to_owned()
}

#[test]
fn converting_to_a_layout_and_back_keeps_the_bytes() {
    let scratch = Scratch::new("convert");
    write_idx(&scratch.path("train.idx"), &images(150, 1));
    for (layout, hidden) in [("classic", 8), ("pythae", 512)] {
        let short = SHORT.replace("--hidden 8", &format!("--hidden {hidden}"));
        scratch.succeeds(&format!("train --data train.idx {short} --out {layout}"));
        let model = format!("{layout}/model.safetensors");
        let line = format!("convert {model} other.safetensors --to {layout} --overwrite");
        let stdout = scratch.says(&line);
        let expected = format!("30-{hidden}-2-{hidden}-30, relu layers, bernoulli likelihood");
        assert!(stdout.starts_with(&expected), "{stdout}");
        // Commands accept a state dict in place of a model.
        let back = scratch.says("convert other.safetensors back.safetensors --overwrite");
        assert!(back.starts_with(&expected), "{back}");
        scratch.succeeds("sample --model other.safetensors --count 3 --overwrite --out s.npy");
        scratch.succeeds(&format!("sample --model {model} --count 3 --overwrite --out t.npy"));
        let read = |name: &str| fs::read(scratch.path(name)).unwrap();
        assert!(read("s.npy") == read("t.npy"), "{layout}");
        assert_ne!(read("other.safetensors"), read("back.safetensors"));
        scratch
            .says(&format!("convert back.safetensors again.safetensors --to {layout} --overwrite"));
        assert!(read("again.safetensors") == read("other.safetensors"), "{layout}");
    }
}

#[test]
fn ignores_a_prefix_that_all_tensors_have() {
    let scratch = Scratch::new("prefix");
    let plain = golden("classic_state_dict.safetensors");
    scratch.says(&format!("convert {plain} plain.safetensors"));
    let file = fs::read(&plain).unwrap();
    let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let (header, tensors) = file[8..].split_at(length);
    let header = String::from_utf8(header.to_vec()).unwrap();
    let write = |name: &str, header: String| {
        let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let length = (header.len() as u64).to_le_bytes();
        fs::write(scratch.path(name), [&length, header.as_bytes(), tensors].concat()).unwrap();
    };
    let read = |name: &str| fs::read(scratch.path(name)).unwrap();
    for prefix in ["module.", "_orig_mod.", "module._orig_mod.", "net."] {
        write("prefixed.safetensors", header.replace("\"fc", &format!("\"{prefix}fc")));
        scratch.says("convert prefixed.safetensors again.safetensors --overwrite");
        assert!(read("again.safetensors") == read("plain.safetensors"), "{prefix}");
    }
    // A prefix of some tensors only.
    write("some.safetensors", header.replace("\"fc2", "\"module.fc2"));
    let message = scratch.fails(1, "convert some.safetensors new.safetensors");
    assert!(message.contains("but a prefix must be common to all tensors"), "{message}");
}

#[test]
fn mapping_reads_and_writes_a_custom_layout() {
    let scratch = Scratch::new("map");
    let (theirs, map) = (golden("mapped_state_dict.safetensors"), golden("mapped_state_dict.toml"));
    let stdout = scratch.says(&format!("convert {theirs} ours.safetensors --map {map}"));
    let expected = "9-7-5-3-8-9, gelu layers, gaussian likelihood: ours.safetensors";
    assert_eq!(stdout.trim_end(), expected);
    scratch.says(&format!("convert ours.safetensors back.safetensors --to map --map {map}"));
    scratch.says(&format!("convert back.safetensors again.safetensors --map {map}"));
    let read = |name: &str| fs::read(scratch.path(name)).unwrap();
    assert!(read("ours.safetensors") == read("again.safetensors"));
    for name in ["enc.3.weight", "to_logvar.bias", "dec.1.weight"] {
        let file = read("back.safetensors");
        let header = String::from_utf8_lossy(&file[8..]).into_owned();
        assert!(header.contains(&format!("\"{name}\"")), "{header}");
    }
}

#[test]
fn notes_what_a_state_dict_leaves_out() {
    let scratch = Scratch::new("unsaid");
    let rows: String = (0..40).map(|i| format!("{},{},{}\n", i, 500 - i * i, i % 7)).collect();
    fs::write(scratch.path("table.csv"), rows).unwrap();
    scratch.succeeds(&format!(
        "train --data table.csv --scale min-max --signed {SHORT} \
        --likelihood squared-error --output tanh --out signed"
    ));
    scratch.succeeds(&format!(
        "train --data table.csv --scale min-max --clip-to-range {SHORT} --out m"
    ));
    let message = scratch.fails(1, "convert signed/model.safetensors new.safetensors --to classic");
    assert!(message.contains("has an output that is a sigmoid"), "{message}");
    let stdout = scratch.says("convert m/model.safetensors c.safetensors --to classic");
    let note = "note: the model was trained on data scaled and clipped to [0, 1]; a state dict does not record this";
    assert_eq!(stdout.lines().next(), Some(note));
    // A model file keeps its metadata.
    assert_eq!(scratch.says("convert m/model.safetensors n.safetensors").lines().count(), 1);
    let read = |name: &str| fs::read(scratch.path(name)).unwrap();
    assert!(read("m/model.safetensors") == read("n.safetensors"));
}

#[test]
fn rejects_invalid_conversions_and_writes_nothing() {
    let scratch = Scratch::with_model("refused");
    let ours = "ours.safetensors";
    let (theirs, map) = (golden("mapped_state_dict.safetensors"), golden("mapped_state_dict.toml"));
    scratch.says(&format!("convert {theirs} {ours} --map {map}"));
    fs::write(scratch.path("short.toml"), "[names]\nmu = \"to_mean\"\n").unwrap();
    fs::write(scratch.path("wrong.toml"), "[names]\nmu = 3\n").unwrap();
    let model = "model/model.safetensors";
    let cases = [
        (
            1,
            format!("{model} new.safetensors --to classic"),
            "model/model.safetensors: the layout classic has no name for `encoder.1.weight` of the \
             model 30-16-9-3-9-16-30",
        ),
        (
            1,
            format!("{model} new.safetensors --to pythae"),
            "the layout pythae has hidden layers of 512, the model 30-16-9-3-9-16-30 has others",
        ),
        (
            1,
            format!("{ours} new.safetensors --to classic"),
            "ours.safetensors: the layout classic has relu layers, the model 9-7-5-3-8-9 has gelu",
        ),
        (
            1,
            format!("{model} new.safetensors --to map --map {map}"),
            "the layout mapped has gelu layers",
        ),
        (1, format!("{theirs} new.safetensors"), "no tensor `mu.weight`: not a VAE as this crate"),
        (
            1,
            format!("{theirs} new.safetensors --map short.toml"),
            "the layout mapped has no name for `decoder.0.weight`",
        ),
        (1, format!("{theirs} new.safetensors --map wrong.toml"), "wrong.toml: line 2: "),
        (1, format!("{theirs} new.safetensors --map none.toml"), "none.toml: cannot read: "),
        (1, "none.safetensors new.safetensors".to_owned(), "none.safetensors: cannot read: "),
        (1, format!("{model} none/new.safetensors"), "none/new.safetensors: cannot write: "),
        (2, format!("{model} new.safetensors --to map"), "not provided: --map <FILE>"),
        (2, format!("{model} new.safetensors --to keras"), "'keras' for '--to <LAYOUT>'"),
        (2, model.to_owned(), "not provided: <OUT>"),
    ];
    for (code, line, part) in cases {
        let message = scratch.fails(code, &format!("convert {line}"));
        assert!(message.contains(part), "elbo convert {line}: {message}");
    }
}
