//! `elbo export`: ONNX files. tests/golden/onnx_check.py compares their contents with ONNX Runtime.

use crate::scratch::Scratch;
use std::fs;
use std::path::Path;

#[test]
fn exports_one_part_or_all_parts() {
    let scratch = Scratch::with_model("export");
    let export = "export --model model/model.safetensors --onnx";
    let stdout = scratch.says(&format!("{export} all --out onnx/new"));
    assert_eq!(stdout.trim_end(), "30-16-9-3-9-16-30, bernoulli likelihood: onnx/new");
    let names = ["decoder.onnx", "encoder.onnx", "reconstruct.onnx"];
    assert_eq!(scratch.names_in("onnx/new"), names);
    for name in names {
        let part = name.strip_suffix(".onnx").unwrap();
        scratch.says(&format!("{export} {part} --out one.onnx"));
        let file = fs::read(scratch.path("one.onnx")).unwrap();
        assert!(file == fs::read(scratch.path("onnx/new").join(name)).unwrap(), "{name}");
    }
}

#[test]
fn exports_the_file_checked_with_onnx_runtime() {
    let scratch = Scratch::new("golden-onnx");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let model = golden.join("classic_state_dict.safetensors");
    let line = format!("export --onnx reconstruct --model {} --out x.onnx", model.display());
    scratch.says(&line);
    let file = fs::read(scratch.path("x.onnx")).unwrap();
    let expected = fs::read(golden.join("classic_reconstruct.onnx")).unwrap();
    assert!(file == expected, "regenerate it: tests/golden/onnx_check.py says how");
}

#[test]
fn rejects_invalid_exports() {
    let scratch = Scratch::with_model("export-fails");
    let model = "--model model/model.safetensors";
    for (code, line, part) in [
        (2, format!("{model} --out x.onnx"), "not provided: --onnx <PART>"),
        (2, format!("{model} --onnx head --out x.onnx"), "'head' for '--onnx <PART>'"),
        (1, format!("{model} --onnx encoder --out none/x.onnx"), "none/x.onnx: cannot write: "),
        (
            1,
            format!("{model} --onnx all --out train.idx"),
            "train.idx: cannot write to this directory: ",
        ),
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
