//! Nothing of the user's is lost: what the tool replaces, and what it refuses to replace.

use crate::scratch::{SHORT, Scratch, TRAIN, images, read_array};
use ndarray_npy::write_npy;
use std::fs;

const TABLE: &str = "a,b,c\n";

fn table(rows: usize) -> String {
    TABLE.to_owned()
        + &(0..rows).map(|i| format!("{},{},{}\n", i, i * i % 7, i % 3)).collect::<String>()
}

/// Options of a short run on a table, without `--overwrite`.
const RUN: &str =
    "--scale standardize --likelihood gaussian --hidden 4 --latent 1 --epochs 1 --quiet";

#[test]
fn training_never_replaces_a_file_that_it_reads() {
    let scratch = Scratch::new("own-input");
    fs::create_dir_all(scratch.path("own/deep")).unwrap();
    for name in ["history.csv", "samples.png", "labels.csv"] {
        fs::write(scratch.path("own").join(name), table(40)).unwrap();
    }
    let label_column = "kind\n".to_owned() + &"0\n".repeat(40);
    fs::write(scratch.path("own/loss.png"), &label_column).unwrap();
    fs::write(scratch.path("own/run.toml"), "latent = 1\n").unwrap();
    fs::write(scratch.path("t.csv"), table(40)).unwrap();
    let whole = fs::read(scratch.path("own/history.csv")).unwrap();
    let own = "--overwrite --out own";
    for (line, option, file) in [
        (format!("--data own/history.csv {own}"), "--data", "history.csv"),
        (format!("--data own/../own/history.csv {own}"), "--data", "history.csv"),
        // A run on a table writes no samples, but removes those of others.
        (format!("--data own/samples.png {own}"), "--data", "samples.png"),
        (format!("--data t.csv --validation own/history.csv {own}"), "--validation", "history.csv"),
        (format!("--data t.csv --test own/history.csv {own}"), "--test", "history.csv"),
        (format!("--data t.csv --labels own/loss.png {own}"), "--labels", "loss.png"),
        (format!("--data t.csv --config own/run.toml {own}"), "--config", "run.toml"),
        ("--data own/history.csv --out own/deep/..".to_owned(), "--data", "history.csv"),
    ] {
        let message = scratch.fails(2, &format!("train {line} {RUN}"));
        let reason = format!("{file}: {option} reads this file, and it would be overwritten");
        assert!(message.contains(&reason), "{line}: {message}");
    }
    assert!(fs::read(scratch.path("own/history.csv")).unwrap() == whole);
    #[cfg(unix)]
    for (name, target) in [("soft", "own/history.csv"), ("hard", "own/history.csv")] {
        fs::create_dir(scratch.path(name)).unwrap();
        let link = scratch.path(name).join("history.csv");
        match name {
            "soft" => std::os::unix::fs::symlink(scratch.path(target), link).unwrap(),
            _ => fs::hard_link(scratch.path(target), link).unwrap(),
        }
        let line = format!("train --data own/history.csv {RUN} --overwrite --out {name}");
        let message = scratch.fails(2, &line);
        assert!(message.contains("--data reads this file"), "{message}");
    }
}

/// Standard input that was redirected from a file has no path, but is the file.
#[test]
#[cfg(unix)]
fn no_command_replaces_the_file_that_is_its_standard_input() {
    let scratch = Scratch::new("redirected");
    let classes: String = (0..40).map(|row| format!("{}\n", row % 2)).collect();
    let ranking: String = (0..40).map(|row| format!("{row},{}\n", row % 2)).collect();
    let ranking = format!("score,label\n{ranking}");
    for (name, text) in [("t.csv", &table(40)), ("l.csv", &classes), ("r.svg", &ranking)] {
        fs::write(scratch.path(name), text).unwrap();
    }
    let train = format!("train --data t.csv --scale standardize --likelihood gaussian {SHORT}");
    scratch.succeeds(&format!("{train} --out m"));
    fs::write(scratch.path("b.csv"), table(40)).unwrap();
    fs::hard_link(scratch.path("b.csv"), scratch.path("hard.csv")).unwrap();
    std::os::unix::fs::symlink("b.csv", scratch.path("soft.csv")).unwrap();
    fs::create_dir_all(scratch.path("own/sub")).unwrap();
    fs::write(scratch.path("own/history.csv"), table(40)).unwrap();
    fs::write(scratch.path("own/history.jsonl.part"), table(40)).unwrap();
    fs::hard_link(scratch.path("l.csv"), scratch.path("own/sub/loss.png")).unwrap();
    let with = |input: &str, line: &str| {
        let mut command = scratch.command(line);
        let file = fs::File::open(scratch.path(input)).unwrap();
        command.stdin(file).output().unwrap()
    };
    let model = "--model m --overwrite";
    let own = train.replace("--data t.csv", "--data -");
    for (input, line) in [
        ("b.csv", format!("score {model} --data - --out b.csv")),
        ("b.csv", format!("score {model} --data - --out hard.csv")),
        ("hard.csv", format!("score {model} --data - --out soft.csv")),
        ("b.csv", format!("encode {model} --data - --out ./own/../b.csv")),
        ("b.csv", format!("reconstruct {model} --data - --out b.csv")),
        ("b.csv", format!("score {model} --data /dev/stdin --out b.csv")),
        ("l.csv", format!("encode {model} --data t.csv --labels - --out l.csv")),
        ("l.csv", format!("score {model} --data t.csv --labels - --out l.csv")),
        ("r.svg", "plot roc --scores - --overwrite --out r.svg".to_owned()),
        ("own/history.csv", format!("{own} --out own")),
        ("own/history.jsonl.part", format!("{own} --out own")),
        ("own/history.csv", format!("{train} --validation - --out own")),
        ("own/history.csv", format!("{train} --test - --out own")),
        ("l.csv", format!("{train} --labels - --out own/sub")),
    ] {
        let before = fs::read(scratch.path(input)).unwrap();
        let output = with(input, &line);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {message}");
        assert!(
            message.contains(" reads this file") && message.contains("it would be overwritten"),
            "{line}: {message}"
        );
        assert!(fs::read(scratch.path(input)).unwrap() == before, "{line}");
    }
    // Another file of the same content, and a pipe, stand in nobody's way.
    fs::copy(scratch.path("b.csv"), scratch.path("c.csv")).unwrap();
    let output = with("b.csv", &format!("score {model} --data - --out c.csv"));
    assert!(output.status.success(), "{output:?}");
    // The standard input of the run is not that of a later call.
    assert!(with("b.csv", &format!("{own} --out piped")).status.success());
    let output = with("c.csv", "sample --model piped --overwrite --out c.csv");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn results_stay_out_of_the_images_that_are_read() {
    let scratch = Scratch::with_model("photos");
    fs::create_dir_all(scratch.path("photos")).unwrap();
    for i in 0..4_u8 {
        let image = image::GrayImage::from_pixel(5, 6, image::Luma([40 * i]));
        image.save(scratch.path("photos").join(format!("{i}.png"))).unwrap();
    }
    for out in ["photos", "photos/new", "./photos/../photos", "photos/a/b"] {
        for option in [
            "--data photos",
            "--data train.idx --validation photos",
            "--data train.idx --test photos",
        ] {
            let line = format!("train {option} {SHORT} --out {out}");
            let message = scratch.fails(2, &line);
            assert!(message.contains("reads the images of"), "{line}: {message}");
        }
    }
    let model = "--model model/model.safetensors --data photos";
    for line in [
        format!("reconstruct {model} --out photos/new.png"),
        format!("interpolate {model} --rows 0,1 --out photos/0.png"),
        format!("traverse {model} --out photos/../photos/t.png"),
    ] {
        let message = scratch.fails(2, &line);
        assert!(message.contains("--data reads the images of"), "{line}: {message}");
    }
    // The model was trained on these.
    scratch.succeeds(&format!("train --data photos {SHORT} --out p"));
    let message = scratch.fails(2, "sample --model p/model.safetensors --out photos/new.png");
    assert!(message.contains("the model was trained with the images of"), "{message}");
    assert_eq!(scratch.names_in("photos").len(), 4);
}

#[test]
fn a_directory_with_other_files_is_refused_without_overwrite() {
    let scratch = Scratch::new("foreign");
    fs::write(scratch.path("t.csv"), table(40)).unwrap();
    let names = [
        "model.safetensors",
        "checkpoint.safetensors",
        "run.toml",
        "history.jsonl",
        "history.jsonl.part",
        "history.csv",
        "loss.png",
        "samples.png",
        "reconstructions.png",
    ];
    for name in names {
        fs::create_dir(scratch.path("d")).unwrap();
        fs::write(scratch.path("d").join(name), "mine").unwrap();
        let message = scratch.fails(2, &format!("train --data t.csv {RUN} --out d"));
        assert!(message.starts_with(&format!("d/{name}: ")), "{message}");
        assert!(message.contains("--overwrite"), "{message}");
        assert_eq!(fs::read(scratch.path("d").join(name)).unwrap(), b"mine");
        fs::remove_dir_all(scratch.path("d")).unwrap();
    }
    // Other names are left alone.
    fs::create_dir(scratch.path("d")).unwrap();
    fs::write(scratch.path("d/notes.txt"), "mine").unwrap();
    scratch.succeeds(&format!("train --data t.csv {RUN} --out d"));
    let model = fs::read(scratch.path("d/model.safetensors")).unwrap();
    // A finished run, too, by any path to it.
    for out in ["d", "./d/../d"] {
        let message = scratch.fails(2, &format!("train --data t.csv {RUN} --seed 5 --out {out}"));
        assert!(message.contains("/model.safetensors: a file of an earlier run"), "{message}");
        assert!(message.contains("--overwrite") && message.contains("--resume"), "{message}");
    }
    assert!(fs::read(scratch.path("d/model.safetensors")).unwrap() == model);
    scratch.succeeds(&format!("train --data t.csv {RUN} --seed 5 --overwrite --out d"));
    assert!(fs::read(scratch.path("d/model.safetensors")).unwrap() != model);
    assert_eq!(fs::read(scratch.path("d/notes.txt")).unwrap(), b"mine");
}

#[test]
fn nothing_of_an_earlier_run_stays_beside_a_new_one() {
    let scratch = Scratch::with_model("stale");
    fs::write(scratch.path("t.csv"), table(40)).unwrap();
    fs::write(scratch.path("model/history.jsonl.part"), "half").unwrap();
    fs::write(scratch.path("model/.model.safetensors.1.part"), "half").unwrap();
    assert!(scratch.names_in("model").contains(&"samples.png".to_owned()));
    scratch.succeeds(&format!("train --data t.csv {RUN} --overwrite --out model"));
    let left = scratch.names_in("model");
    let expected = [
        "checkpoint.safetensors",
        "history.csv",
        "history.jsonl",
        "loss.png",
        "model.safetensors",
        "run.toml",
    ];
    assert_eq!(left, expected);
}

#[test]
fn a_run_that_fails_early_leaves_the_earlier_run_whole() {
    let scratch = Scratch::with_model("early");
    let contents = || {
        let names = scratch.names_in("model");
        names.into_iter().map(|name| (fs::read(scratch.path("model").join(&name)).unwrap(), name))
    };
    let before: Vec<_> = contents().collect();
    for line in [
        // Fails at the options, at the data, and at the first steps.
        format!("{TRAIN} --overwrite --out model --likelihood gaussian --augment binarize"),
        format!("{TRAIN} --overwrite --out model --validation t.csv"),
        format!("{TRAIN} --overwrite --out model --quiet --lr 1e30"),
        format!("{TRAIN} --overwrite --out model --quiet --lr 1e30 --keep best"),
    ] {
        let output = scratch.run(&line);
        assert!(!output.status.success(), "{line}");
        assert!(contents().collect::<Vec<_>>() == before, "{line}");
    }
}

#[test]
fn no_command_replaces_a_model_or_a_file_that_is_not_its_own_result() {
    let scratch = Scratch::with_model("model-replaced");
    let model = "model/model.safetensors";
    let whole = fs::read(scratch.path(model)).unwrap();
    for name in ["m.csv", "m.npy", "m.png", "m.svg", "m.onnx"] {
        fs::copy(scratch.path(model), scratch.path(name)).unwrap();
    }
    fs::copy(scratch.path("train.idx"), scratch.path("photo.png")).unwrap();
    fs::write(scratch.path("notes.csv"), table(3)).unwrap();
    write_npy(scratch.path("set.npy"), &images(40, 3)).unwrap();
    let data = "--data test.idx";
    for (line, name) in [
        (format!("score --model m.csv {data} --out m.csv"), "m.csv"),
        (format!("score --model m.npy {data} --out ./m.npy"), "m.npy"),
        (format!("encode --model m.npy {data} --out m.npy"), "m.npy"),
        ("sample --model m.png --out m.png".to_owned(), "m.png"),
        ("sample --model m.svg --out m.svg".to_owned(), "m.svg"),
        (format!("reconstruct --model m.png {data} --out m.png"), "m.png"),
        ("traverse --model m.csv --out m.csv".to_owned(), "m.csv"),
        (format!("traverse --model m.csv {data} --out m.csv"), "m.csv"),
        (format!("interpolate --model m.svg {data} --rows 0,1 --out m.svg"), "m.svg"),
        (format!("plot latent --model m.png {data} --out m.png"), "m.png"),
        (format!("plot kl-per-dimension --model m.png {data} --out m.png"), "m.png"),
        ("plot history --model m.png --out m.png".to_owned(), "m.png"),
        ("export --model m.onnx --onnx encoder --out m.onnx".to_owned(), "m.onnx"),
        (format!("convert {model} {model} --to classic"), model),
        (format!("convert {model} {model} --to classic --overwrite"), model),
        (format!("convert model {model} --overwrite"), model),
    ] {
        let before = fs::read(scratch.path(name)).unwrap();
        let message = scratch.fails(2, &line);
        assert!(
            message.contains("reads this file, and it would be overwritten"),
            "{line}: {message}"
        );
        assert!(fs::read(scratch.path(name)).unwrap() == before, "{line}");
    }
    // Files that the call does not read.
    let of = format!("--model {model}");
    for (line, name) in [
        (format!("score {of} {data} --out m.csv"), "m.csv"),
        (format!("score {of} {data} --out notes.csv"), "notes.csv"),
        (format!("sample {of} --out notes.csv"), "notes.csv"),
        (format!("encode {of} {data} --out set.npy"), "set.npy"),
        (format!("sample {of} --out set.npy"), "set.npy"),
        (format!("sample {of} --out photo.png"), "photo.png"),
        ("plot kl --out photo.png".to_owned(), "photo.png"),
        (format!("export {of} --onnx encoder --out m.onnx"), "m.onnx"),
        (format!("convert {model} m.onnx"), "m.onnx"),
        (format!("score {of} {data} --out model/history.csv"), "model/history.csv"),
    ] {
        let before = fs::read(scratch.path(name)).unwrap();
        let message = scratch.fails(2, &line);
        assert!(
            message.contains("overwritten") || message.contains("--overwrite"),
            "{line}: {message}"
        );
        assert!(fs::read(scratch.path(name)).unwrap() == before, "{line}");
    }
    assert!(fs::read(scratch.path(model)).unwrap() == whole);
    let message = scratch.fails(2, &format!("export {of} --onnx encoder --out m.safetensors"));
    assert!(message.contains("expected a file name that ends in .onnx"), "{message}");

    // Earlier results are replaced if they carry a mark, and with --overwrite without one.
    for (line, name) in [
        (format!("sample {of} --out s.png"), "s.png"),
        (format!("sample {of} --out s.svg"), "s.svg"),
        (format!("reconstruct {of} {data} --out r.png"), "r.png"),
        (format!("traverse {of} --out t.svg"), "t.svg"),
        (format!("interpolate {of} {data} --rows 0,1 --out i.PNG"), "i.PNG"),
        (format!("plot history {of} --out h.svg"), "h.svg"),
        (format!("plot latent {of} {data} --out l.png"), "l.png"),
        (format!("plot kl-per-dimension {of} {data} --out k.png"), "k.png"),
        ("plot kl --out kl.svg".to_owned(), "kl.svg"),
        (format!("export {of} --onnx encoder --out e.onnx"), "e.onnx"),
        (format!("export {of} --onnx all --out onnx"), "onnx/decoder.onnx"),
        ("man --out pages".to_owned(), "pages/elbo-score.1"),
    ] {
        for _ in 0..2 {
            scratch.works(&line);
        }
        let whole = fs::read(scratch.path(name)).unwrap();
        // A file that the user edited is the user's.
        let mut edited = whole.clone();
        edited[whole.len() / 2] ^= 1;
        fs::write(scratch.path(name), &edited).unwrap();
        let message = scratch.fails(2, &line);
        let reason = "the file exists, and elbo did not write it, or it was changed since; choose another \
                      name, or replace it with --overwrite";
        assert!(message.ends_with(reason), "{line}: {message}");
        assert!(fs::read(scratch.path(name)).unwrap() == edited, "{line}");
        scratch.works(&format!("{line} --overwrite"));
        assert!(fs::read(scratch.path(name)).unwrap() == whole, "{line}");
    }
    for (line, name) in [
        (format!("score {of} {data} --out s.csv"), "s.csv"),
        (format!("score {of} {data} --out s.npy"), "s.npy"),
        (format!("encode {of} {data} --out e.csv"), "e.csv"),
        (format!("encode {of} {data} --out e.npy"), "e.npy"),
        (format!("sample {of} --out x.csv"), "x.csv"),
        (format!("sample {of} --out x.npy"), "x.npy"),
        (format!("reconstruct {of} {data} --out r.csv"), "r.csv"),
        (format!("traverse {of} --out t.csv"), "t.csv"),
        (format!("interpolate {of} {data} --rows 0,1 --out i.csv"), "i.csv"),
        (format!("convert {model} c.safetensors"), "c.safetensors"),
    ] {
        scratch.works(&line);
        let whole = fs::read(scratch.path(name)).unwrap();
        let message = scratch.fails(2, &line);
        let reason =
            "the file exists; choose another name, or replace it with --overwrite".to_owned();
        assert!(message.ends_with(&reason), "{line}: {message}");
        assert!(fs::read(scratch.path(name)).unwrap() == whole, "{line}");
        fs::write(scratch.path(name), "mine").unwrap();
        scratch.works(&format!("{line} --overwrite"));
        assert!(fs::read(scratch.path(name)).unwrap() == whole, "{line}");
        // An empty file, such as one of mktemp, holds nothing.
        fs::write(scratch.path(name), "").unwrap();
        scratch.works(&line);
    }
    // --overwrite does not replace what the call reads.
    let message =
        scratch.fails(2, &format!("score {of} --data s.npy --overwrite --out ./model/../s.npy"));
    assert!(message.contains("--data reads this file"), "{message}");
    assert!(read_array(&scratch.path("e.npy")).nrows() == 40);
}

#[test]
fn training_data_of_a_model_are_not_replaced() {
    let scratch = Scratch::new("of-the-run");
    fs::write(scratch.path("t.csv"), table(40)).unwrap();
    scratch.succeeds(&format!("train --data t.csv {RUN} --out m"));
    for command in ["sample", "traverse", "reconstruct --data other.csv"] {
        fs::write(scratch.path("other.csv"), table(9)).unwrap();
        let message = scratch.fails(2, &format!("{command} --model m --out t.csv"));
        assert!(message.contains("the model was trained with this file"), "{message}");
    }
    assert_eq!(fs::read_to_string(scratch.path("t.csv")).unwrap(), table(40));
}

#[test]
fn outputs_are_checked_before_the_work() {
    let scratch = Scratch::with_model("late");
    // Reading these data would fail: the output is checked first.
    let with = "--model model/model.safetensors --data none.idx";
    fs::create_dir(scratch.path("taken.csv")).unwrap();
    fs::create_dir(scratch.path("taken.png")).unwrap();
    for line in [
        format!("score {with} --importance-samples 1000 --out nodir/s.csv"),
        format!("score {with} --out taken.csv"),
        format!("encode {with} --out nodir/e.npy"),
        format!("reconstruct {with} --out taken.png"),
        format!("interpolate {with} --rows 0,1 --out nodir/i.svg"),
        format!("traverse {with} --out nodir/i.svg"),
        format!("plot latent {with} --out nodir/l.png"),
        format!("plot kl-per-dimension {with} --out train.idx/l.png"),
        "plot roc --scores none.csv --positive 1 --out nodir/r.png".to_owned(),
        "plot history --run none --out nodir/r.png".to_owned(),
        "plot kl --out nodir/r.png".to_owned(),
        "sample --model none --out nodir/r.png".to_owned(),
        "export --model none --onnx encoder --out nodir/r.onnx".to_owned(),
        "export --model none --onnx all --out train.idx".to_owned(),
        "convert none nodir/r.safetensors".to_owned(),
        "man --out train.idx".to_owned(),
        "train --data none.idx --out train.idx".to_owned(),
        "train --data none.idx --out train.idx/below".to_owned(),
    ] {
        let message = scratch.fails(1, &line);
        assert!(message.contains("cannot write"), "{line}: {message}");
    }
    for line in ["train --out -", "man --out -", "export --model model --onnx all --out -"] {
        let message = scratch.fails(2, line);
        assert!(message.starts_with("--out -: the results are several files"), "{message}");
    }
    scratch.fails(2, "convert model -");
}

#[cfg(target_os = "linux")]
#[test]
fn reports_a_full_disk_for_every_output() {
    let scratch = Scratch::with_model("full");
    let with = "--model model --data test.idx";
    for name in ["f.csv", "f.npy", "f.png", "f.svg", "f.onnx"] {
        std::os::unix::fs::symlink("/dev/full", scratch.path(name)).unwrap();
    }
    for line in [
        format!("score {with} --out f.csv"),
        format!("score {with} --out f.npy"),
        format!("encode {with} --out f.csv"),
        format!("encode {with} --out f.npy"),
        format!("reconstruct {with} --out f.png"),
        format!("reconstruct {with} --out f.csv"),
        format!("interpolate {with} --rows 0,1 --out f.svg"),
        format!("traverse {with} --out f.npy"),
        "sample --model model --out f.png".to_owned(),
        "export --model model --onnx encoder --out f.onnx".to_owned(),
        "plot kl --out f.svg".to_owned(),
        "plot history --run model --out f.png".to_owned(),
        format!("plot latent {with} --out f.svg"),
    ] {
        let message = scratch.fails(1, &line);
        assert!(message.contains("cannot write: No space left on device"), "{line}: {message}");
    }
    let message = scratch.fails(2, "convert model /dev/full --overwrite");
    assert!(message.contains("/dev/full: expected a regular file"), "{message}");
    for line in [
        format!("score {with}"),
        format!("encode {with} --out -"),
        format!("eval {with}"),
        "inspect model".to_owned(),
        "export --model model --onnx encoder --out -".to_owned(),
        "man".to_owned(),
        "completions bash".to_owned(),
        "train --help".to_owned(),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = scratch.command(&line).stdout(full).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line}: {message}");
        assert!(message.contains("standard output: No space left"), "{line}: {message}");
    }
}

/// A limit on the size of files stands for a full disk: beyond it, each write of the process fails.
#[cfg(target_os = "linux")]
#[test]
fn a_model_survives_a_disk_that_is_full_at_any_size() {
    use std::process::Command;
    let scratch = Scratch::with_model("limit");
    for name in ["model.safetensors", "checkpoint.safetensors", "run.toml"] {
        fs::copy(scratch.path("model").join(name), scratch.path(name)).unwrap();
    }
    let old = fs::read(scratch.path("model.safetensors")).unwrap();
    let limited = |kilobytes: usize, line: &str| {
        let tool = env!("CARGO_BIN_EXE_elbo");
        let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec {tool} {line}");
        let output =
            Command::new("bash").args(["-c", &script]).current_dir(scratch.path(".")).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let run = TRAIN.replace("--epochs 2", "--epochs 4");
    for options in ["", "--keep best --checkpoint-every 3steps", "--resume"] {
        let (mut failures, mut kept) = (0, 0);
        // About the sizes of the model (11 KB), the checkpoint (24 KB) and the largest figure (51 KB).
        for kilobytes in [0, 1, 2, 4, 8, 10, 11, 12, 16, 20, 23, 24, 25, 40, 50, 51, 52, 80, 200] {
            let _ = fs::remove_dir_all(scratch.path("model"));
            fs::create_dir(scratch.path("model")).unwrap();
            for name in ["model.safetensors", "checkpoint.safetensors", "run.toml"] {
                fs::copy(scratch.path(name), scratch.path("model").join(name)).unwrap();
            }
            let line = match options {
                "--resume" => "train --resume model --epochs 4 --quiet".to_owned(),
                _ => format!("{run} --seed 2 {options} --overwrite --quiet --out model"),
            };
            let (code, message) = limited(kilobytes, &line);
            // The model that is there loads, and the run that is there can be resumed.
            let model = scratch.path("model/model.safetensors");
            let checkpoint = scratch.path("model/checkpoint.safetensors");
            match code {
                Some(0) => {}
                Some(1) => {
                    failures += 1;
                    assert!(message.contains("File too large"), "{message}");
                    let replaced = !model.exists() || fs::read(&model).unwrap() != old;
                    kept += usize::from(message.contains("; kept the "));
                    assert!(!message.contains("; kept the ") || replaced, "{message}");
                    assert!(model.exists() || checkpoint.exists(), "{kilobytes} KB: {message}");
                }
                other => panic!("{other:?}: {message}"),
            }
            if model.exists() {
                elbo::vae::Vae::load(&model).unwrap();
            }
            if checkpoint.exists() {
                elbo::train::Trainer::resume(&checkpoint, elbo::Compute::serial()).unwrap();
            }
            let hidden = |name: &String| name.starts_with('.');
            assert!(!scratch.names_in("model").iter().any(hidden), "{kilobytes} KB left a part");
        }
        assert!((12..19).contains(&failures), "{options}: {failures} failures");
        assert!(kept > 0, "{options}: {failures} failures");
    }
    for line in [
        "sample --model model.safetensors --count 1000 --out s.npy",
        "export --model model.safetensors --onnx encoder --out s.onnx",
        "convert model.safetensors s.safetensors",
    ] {
        let (code, message) = limited(1, line);
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains("cannot write: File too large"), "{message}");
        assert!(
            !scratch
                .names_in(".")
                .iter()
                .any(|name| name.starts_with(".s.") || name.starts_with("s."))
        );
    }
}

#[test]
fn a_directory_of_a_run_stands_for_its_model() {
    let scratch = Scratch::with_model("directory");
    let model = "model/model.safetensors";
    for line in
        ["eval --data test.idx --json --model", "inspect", "plot history --out h.svg --model"]
    {
        assert_eq!(
            scratch.succeeds(&format!("{line} model")),
            scratch.succeeds(&format!("{line} {model}"))
        );
    }
    scratch.says("export --model model --onnx encoder --out e.onnx");
    scratch.says("convert model c.safetensors");
    let message = scratch.fails(1, "eval --data test.idx --model .");
    assert!(message.starts_with("./model.safetensors: cannot read"), "{message}");
    for (line, option) in [
        ("train test.idx", "--data test.idx"),
        ("score --model model test.idx", "--data test.idx"),
        ("eval model --data test.idx", "--model model"),
    ] {
        let message = scratch.fails(2, line);
        assert!(message.ends_with(&format!("to read this file, use {option}")), "{message}");
    }
}
