//! `elbo export`: ONNX files. What is in them is compared with ONNX Runtime by
//! tests/golden/onnx_check.py.

use crate::scratch::Scratch;
use std::fs;
use std::path::Path;

#[test]
fn one_part_is_a_file_and_all_are_a_folder() {
    let scratch = Scratch::with_model("export");
    let export = "export --model model/model.safetensors --onnx";
    let stdout = scratch.succeeds(&format!("{export} all --out onnx/new"));
    assert_eq!(stdout.trim_end(), "30-16-9-3-9-16-30, bernoulli likelihood: onnx/new");
    let names = ["decoder.onnx", "encoder.onnx", "reconstruct.onnx"];
    assert_eq!(scratch.names_in("onnx/new"), names);
    for name in names {
        let part = name.strip_suffix(".onnx").unwrap();
        scratch.succeeds(&format!("{export} {part} --out one.onnx"));
        let file = fs::read(scratch.path("one.onnx")).unwrap();
        assert!(file == fs::read(scratch.path("onnx/new").join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_known_model_gives_the_file_that_onnx_runtime_was_checked_with() {
    let scratch = Scratch::new("golden-onnx");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let model = golden.join("classic_state_dict.safetensors");
    let line = format!("export --onnx reconstruct --model {} --out x.onnx", model.display());
    scratch.succeeds(&line);
    let file = fs::read(scratch.path("x.onnx")).unwrap();
    let expected = fs::read(golden.join("classic_reconstruct.onnx")).unwrap();
    assert!(file == expected, "regenerate it: tests/golden/onnx_check.py says how");
}

#[test]
fn what_cannot_be_exported_says_why() {
    let scratch = Scratch::with_model("export-fails");
    let model = "--model model/model.safetensors";
    for (code, line, part) in [
        (2, format!("{model} --out x.onnx"), "not provided: --onnx <PART>"),
        (2, format!("{model} --onnx head --out x.onnx"), "'head' for '--onnx <PART>'"),
        (1, format!("{model} --onnx encoder --out none/x.onnx"), "none/x.onnx: cannot write: "),
        (1, format!("{model} --onnx all --out train.idx"), "train.idx: cannot write there: "),
        (
            1,
            "--model train.idx --onnx encoder --out x.onnx".to_owned(),
            "train.idx: not a complete",
        ),
    ] {
        let message = scratch.fails(code, &format!("export {line}"));
        assert!(message.contains(part), "elbo export {line}: {message}");
    }
}
