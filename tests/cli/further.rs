//! Finished runs that are trained further, runs that start from weights, and runs that fail midway.

use crate::scratch::{SHORT, Scratch, TRAIN, images, last_line, write_idx};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn read(scratch: &Scratch, name: &str) -> Vec<u8> {
    fs::read(scratch.path(name)).unwrap()
}

/// Columns of a history without the last, images per second.
fn history(scratch: &Scratch, name: &str) -> Vec<String> {
    let text = String::from_utf8(read(scratch, name)).unwrap();
    text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

#[test]
fn a_finished_run_can_be_trained_further_to_the_same_bits() {
    let scratch = Scratch::with_labels("further");
    let train = "train --data train.idx --hidden 8 --latent 2 --batch 32 --quiet";
    for options in [
        "",
        "--optimizer adamw --weight-decay 0.1 --clip-norm 1",
        "--optimizer sgd --lr 0.01 --momentum 0.9 --nesterov",
        "--optimizer adamax --accumulate 2",
        "--augment binarize --dropout 0.1 --keep best",
        "--lr 0.05 --schedule plateau --decay-patience 1 --keep best",
        "--schedule step --decay-every 3 --warm-up 7 --anneal linear --anneal-over 3",
        "--capacity 5 --capacity-over 12steps --schedule cosine --decay-over 5",
        "--conditional --labels train.labels --test-fraction 0.1",
        "--likelihood gaussian --variance per-feature --patience 50",
    ] {
        for out in ["whole", "parts"] {
            let _ = fs::remove_dir_all(scratch.path(out));
        }
        scratch.succeeds(&format!("{train} {options} --epochs 6 --out whole"));
        scratch.succeeds(&format!("{train} {options} --epochs 2 --out parts"));
        scratch.succeeds("train --resume parts --epochs 5 --quiet");
        scratch.succeeds("train --resume parts --epochs 6 --quiet --threads 2");
        for name in ["model.safetensors", "samples.png", "reconstructions.png", "loss.png"] {
            let [whole, parts] =
                ["whole", "parts"].map(|out| read(&scratch, &format!("{out}/{name}")));
            assert!(whole == parts, "{options}: {name}");
        }
        assert_eq!(history(&scratch, "whole/history.csv"), history(&scratch, "parts/history.csv"));
        assert_eq!(scratch.names_in("whole"), scratch.names_in("parts"));
        let run = String::from_utf8(read(&scratch, "parts/run.toml")).unwrap();
        assert!(run.lines().any(|line| line == "epochs = 6"), "{run}");
    }
}

#[test]
fn early_stopping_goes_on_with_a_larger_patience() {
    let scratch = Scratch::with_labels("patience-on");
    // With such a large rate, the loss soon rises again.
    let train = "train --data train.idx --validation test.idx --hidden 48 --latent 3 --batch 10 --lr 0.03 --quiet";
    scratch.succeeds(&format!("{train} --epochs 60 --patience 2 --out parts"));
    let stopped = history(&scratch, "parts/history.csv").len() - 1;
    assert!(stopped < 60, "{stopped}");
    for epochs in ["", " --epochs 80"] {
        let message = scratch.fails(2, &format!("train --resume parts{epochs}"));
        assert!(
            message.contains(&format!("stopped early, at epoch {stopped}"))
                && message.contains("larger --patience"),
            "{message}"
        );
    }
    scratch.succeeds("train --resume parts --patience 5 --quiet");
    scratch.succeeds(&format!("{train} --epochs 60 --patience 5 --out whole"));
    assert!(history(&scratch, "parts/history.csv").len() - 1 > stopped);
    assert!(read(&scratch, "parts/model.safetensors") == read(&scratch, "whole/model.safetensors"));
    // Without patience, the best model is kept as before.
    scratch.succeeds("train --resume parts --patience none --epochs 30 --quiet");
    scratch.succeeds(&format!("{train} --epochs 30 --keep best --out best"));
    assert!(read(&scratch, "parts/model.safetensors") == read(&scratch, "best/model.safetensors"));
}

#[test]
fn more_epochs_are_refused_where_they_would_change_earlier_steps() {
    let scratch = Scratch::with_labels("bound");
    let train = "train --data train.idx --hidden 8 --latent 2 --batch 32 --quiet --overwrite --epochs 2 --out r";
    for (options, reason) in [
        ("--schedule cosine", "--schedule cosine without --decay-over"),
        ("--anneal linear", "--anneal without --anneal-over"),
        ("--anneal cyclical --cycles 2", "--anneal without --anneal-over"),
        ("--capacity 3", "--capacity without --capacity-over"),
    ] {
        scratch.succeeds(&format!("{train} {options}"));
        let message = scratch.fails(2, "train --resume r --epochs 4");
        assert!(message.contains(reason) && message.contains("--config r/run.toml"), "{message}");
        // Every message names a way that works: the first one, of a run in which more epochs have no place, too.
        let init = "--init r/model.safetensors";
        assert!(message.contains(init), "{message}");
        let message = scratch.fails(2, "train --resume r");
        let remedy = format!("--config r/run.toml {init}");
        assert!(message.contains(reason) && message.contains(&remedy), "{message}");
        assert!(!message.contains("larger --epochs"), "{message}");
        let message = scratch.fails(2, &format!("{train} {options}").replace("--overwrite", ""));
        assert!(message.contains(init) && !message.contains("--resume"), "{message}");
        scratch.succeeds(&format!("train {remedy} --epochs 3 --quiet --overwrite --out further"));
    }
    scratch.succeeds(train);
    for (line, part) in [
        (
            "train --resume r",
            "the run has finished 2 epochs; train it further with a larger --epochs",
        ),
        ("train --resume r --epochs 2", "the run has finished 2 epochs"),
        ("train --resume r --epochs 1", "the run has finished 2 epochs"),
        ("train --resume r --epochs 4 --lr 0.1", "--lr cannot be used with --resume"),
        ("train --resume r --epochs 4 --overwrite", "--overwrite cannot be used with --resume"),
    ] {
        let message = scratch.fails(2, line);
        assert!(message.contains(part), "{line}: {message}");
    }
    // The data must be the same, as for an interrupted run.
    write_idx(&scratch.path("train.idx"), &images(150, 5));
    let message = scratch.fails(1, "train --resume r --epochs 4");
    assert!(message.contains("train.idx: the data have changed"), "{message}");
}

#[test]
fn a_run_starts_from_the_weights_of_a_model() {
    let scratch = Scratch::with_model("init");
    let init = format!("{TRAIN} --quiet --init model");
    // No step of any size leaves the weights as they were.
    scratch.succeeds(&format!("{init} --lr 1e-30 --optimizer sgd --epochs 1 --out same"));
    let weights =
        |name: &str| elbo::vae::Vae::load(scratch.path(name)).unwrap().parameters()[..].to_vec();
    assert!(weights("same/model.safetensors") == weights("model/model.safetensors"));
    // Training goes on below the loss of the first run.
    let first = last_line(&scratch.succeeds("eval --model model --data test.idx --json"));
    let report = last_line(&scratch.succeeds(&format!("{init} --epochs 4 --json --out more")));
    let loss = |report: &Value, name: &str| report[name].as_f64().unwrap();
    assert!(loss(&report, "validation_loss") < loss(&first, "loss"), "{report} {first}");
    // So does a checkpoint, and a run.toml repeats the start.
    scratch.succeeds(&format!(
        "{TRAIN} --quiet --init model/checkpoint.safetensors --epochs 4 --out ck"
    ));
    assert!(weights("ck/model.safetensors") == weights("more/model.safetensors"));
    scratch.succeeds("train --config more/run.toml --quiet --out again");
    assert!(read(&scratch, "again/model.safetensors") == read(&scratch, "more/model.safetensors"));
    for (options, part) in [
        (
            "--hidden 12,9",
            "the model has encoder.0.weight of shape [16, 30]; the options of this run ask for shape [12, 30]",
        ),
        (
            "--latent 5",
            "the model has mu.weight of shape [3, 9]; the options of this run ask for shape [5, 9]",
        ),
        ("--hidden 16", "the model has mu.weight of shape [3, 9]"),
        (
            "--hidden 16,9,4",
            "no encoder.2.weight; the options of this run ask for one of shape [4, 9]",
        ),
        ("--decoder none", "the model has decoder.0.weight of shape [9, 3]"),
        ("--layer-norm", "no encoder_norm.0.weight"),
        (
            "--activation gelu",
            "the model has --activation relu; the options of this run ask for gelu",
        ),
        (
            "--likelihood gaussian",
            "no likelihood.logvar; the options of this run ask for one of length 1",
        ),
    ] {
        let line = init.replace("--hidden 16,9", "--hidden 16,9 ").replace("--latent 3", "");
        let line = match options.split_once(' ') {
            Some(("--hidden", _)) => {
                format!("{} --latent 3 {options}", line.replace("--hidden 16,9 ", ""))
            }
            Some(("--latent", _)) => format!("{line} {options}"),
            _ => format!("{line} --latent 3 {options}"),
        };
        let message = scratch.fails(2, &format!("{line} --out new"));
        assert!(
            message.starts_with("--init model: ") && message.contains(part),
            "{options}: {message}"
        );
    }
    let message = scratch.fails(2, &format!("{TRAIN} --init model --overwrite --out model"));
    assert!(message.contains("--init reads this file"), "{message}");
    let message = scratch.fails(1, &format!("{TRAIN} --init none.safetensors --out new"));
    assert!(message.starts_with("none.safetensors: cannot read"), "{message}");
}

#[test]
fn a_diverged_run_keeps_its_best_or_its_last_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new("diverged");
    fs::copy(root.join("tests/data/breast-cancer-train.csv"), scratch.path("t.csv")).unwrap();
    let train = "train --data t.csv --label-column label --scale standardize --likelihood gaussian --lr 0.03 \
                 --epochs 400 --quiet";
    for (options, which) in [
        ("--patience 100", "best"),
        ("--keep best", "best"),
        ("", "last"),
        ("--checkpoint-every 9", "last"),
    ] {
        let _ = fs::remove_dir_all(scratch.path("b"));
        let output = scratch.run(&format!("{train} {options} --out b"));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.starts_with("error: ") && message.contains(" at step "), "{message}");
        let epochs = history(&scratch, "b/history.csv").len() - 1;
        let losses: Vec<f64> = history(&scratch, "b/history.csv")[1..]
            .iter()
            .map(|line| line.split(',').nth(4).unwrap().parse().unwrap())
            .collect();
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let kept = match which {
            "best" => 1 + losses.iter().position(|&loss| loss == least).unwrap(),
            _ => epochs,
        };
        let end =
            format!("; kept the {which} model, of epoch {kept} of {epochs}: b/model.safetensors\n");
        assert!(message.ends_with(&end), "{message}");
        let lines = String::from_utf8(read(&scratch, "b/history.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), epochs);
        assert!(scratch.names_in("b").iter().all(|name| !name.ends_with("part")));
        // The model scores, with the quantiles of the training rows.
        scratch.succeeds("score --model b --data t.csv --flag-above 0.9");
        scratch.succeeds("plot history --run b --out h.png");
        let inspected = scratch.succeeds("inspect b --json");
        assert_eq!(last_line(&inspected)["training"]["epoch"], kept as u64, "{inspected}");
    }
}

#[test]
fn a_run_whose_data_change_midway_keeps_its_model() {
    let scratch = Scratch::with_labels("midway");
    let whole = read(&scratch, "train.idx");
    let path = scratch.path("train.idx");
    let line = format!("train --data train.idx --stream always {SHORT} --out m");
    let line = line.replace("--epochs 2 ", "--epochs 1000000 ");
    for truncated in [true, false] {
        let _ = fs::remove_dir_all(scratch.path("m"));
        fs::write(&path, &whole).unwrap();
        let mut child =
            scratch.command(&line).stderr(std::process::Stdio::piped()).spawn().unwrap();
        while !scratch.path("m/history.jsonl.part").exists() {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // In place, as another program would.
        let part = match truncated {
            true => {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_len(1000).unwrap();
                "the file was "
            }
            false => {
                use std::io::Write;
                let mut file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all(&whole).unwrap();
                "train.idx: the file was changed while it was in use"
            }
        };
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(part), "{message}");
        assert!(message.contains("; kept the last model, of epoch "), "{message}");
        fs::write(&path, &whole).unwrap();
        scratch.succeeds("eval --model m --data test.idx");
    }
}

#[test]
fn checkpoints_of_another_version_are_refused_with_their_number() {
    let scratch = Scratch::new("version");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir(scratch.path("old")).unwrap();
    let old = scratch.path("old/checkpoint.safetensors");
    fs::copy(root.join("tests/golden/checkpoint_version_0.safetensors"), &old).unwrap();
    let message = scratch.fails(1, "train --resume old");
    assert!(
        message.starts_with(
            "old/checkpoint.safetensors: a checkpoint of version 0, which an earlier version"
        ) && message.contains("--init old/checkpoint.safetensors"),
        "{message}"
    );
    // It is a model all the same, and the remedy works.
    scratch.succeeds(
        "train --init old/checkpoint.safetensors --hidden 2 --latent 1 --epochs 1 --quiet --out new",
    );
    // The number of a later version is read before anything else of it.
    let bytes = read(&scratch, "new/checkpoint.safetensors");
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    let newer =
        text.replace("\\\"version\\\":1", "\\\"version\\\":7").replace("train_rows", "learn_rows");
    assert!(newer != text && newer.len() == text.len());
    let file = [&bytes[..8], newer.as_bytes(), &bytes[8 + header..]].concat();
    fs::write(&old, file).unwrap();
    let message = scratch.fails(1, "train --resume old");
    assert!(message.contains("a checkpoint of version 7, which a later version"), "{message}");
}

#[test]
fn history_of_a_run_under_way_can_be_drawn() {
    let scratch = Scratch::with_model("so-far");
    fs::create_dir(scratch.path("run")).unwrap();
    let lines = read(&scratch, "model/history.jsonl");
    fs::write(scratch.path("run/history.jsonl.part"), &lines).unwrap();
    scratch.succeeds("plot history --run run --out part.svg");
    scratch.succeeds("plot history --history model/history.jsonl --out lines.svg");
    scratch.succeeds("plot history --history run/history.jsonl.part --out so-far.svg");
    scratch.succeeds("plot history --history model/history.csv --out table.svg");
    assert!(read(&scratch, "lines.svg") == read(&scratch, "table.svg"));
    assert!(read(&scratch, "part.svg") == read(&scratch, "table.svg"));
    assert!(read(&scratch, "so-far.svg") == read(&scratch, "table.svg"));
    // A line that is not complete yet is left out; the history of the run under way is the newer one.
    fs::write(scratch.path("model/history.jsonl.part"), &lines[..lines.len() - 20]).unwrap();
    scratch.succeeds("plot history --run model --out one.svg");
    assert!(read(&scratch, "one.svg") != read(&scratch, "table.svg"));
    fs::write(scratch.path("run/history.jsonl.part"), &lines[..20]).unwrap();
    let message = scratch.fails(1, "plot history --run run --out none.svg");
    assert!(message.ends_with("no epoch is complete yet"), "{message}");
    fs::write(scratch.path("run/history.jsonl.part"), [&lines[..], b"nonsense\n"].concat())
        .unwrap();
    let message = scratch.fails(1, "plot history --run run --out none.svg");
    assert!(message.starts_with("run/history.jsonl.part: line 3: "), "{message}");
}

#[test]
fn run_toml_says_that_standard_input_cannot_be_repeated() {
    let scratch = Scratch::with_labels("piped");
    let train = "train --hidden 8 --latent 2 --epochs 1 --quiet --overwrite --out m --data";
    for (data, piped) in [("-", true), ("/dev/stdin", true), ("train.idx", false)] {
        let mut command = scratch.command(&format!("{train} {data}"));
        let input = fs::File::open(scratch.path("train.idx")).unwrap();
        assert!(command.stdin(input).status().unwrap().success(), "{data}");
        let run = String::from_utf8(read(&scratch, "m/run.toml")).unwrap();
        let said = run.contains("# It read --data from standard input or a pipe");
        assert_eq!(said, piped, "{run}");
    }
    let message = scratch.fails(2, "train --data - --validation - --out new");
    assert_eq!(message, "--data and --validation cannot both read standard input (-)");
}

/// The columns of each file in the order of its header, and the class.
fn write_table(scratch: &Scratch, name: &str, header: &str, classes: [&str; 2]) {
    let mut text = format!("{header}\n");
    for i in 0..40_u32 {
        let cell = |column: &str| match column {
            "kind" => classes[i as usize % 2].to_owned(),
            _ => {
                let k = u32::from(column.as_bytes()[0] - b'a');
                format!("{}.5", (i * (k + 3) + i * i * k + k) % (7 + 4 * k))
            }
        };
        text += &header.split(',').map(cell).collect::<Vec<_>>().join(",");
        text.push('\n');
    }
    fs::write(scratch.path(name), text).unwrap();
}

#[test]
fn weights_stay_with_their_columns_and_classes() {
    let scratch = Scratch::new("init-columns");
    let animals = ["cat", "dog"];
    write_table(&scratch, "t.csv", "a,b,c,kind", animals);
    write_table(&scratch, "order.csv", "c,kind,a,b", animals);
    write_table(&scratch, "other.csv", "a,b,d,kind", animals);
    write_table(&scratch, "more.csv", "a,b,c,d,kind", animals);
    write_table(&scratch, "emu.csv", "a,b,c,kind", ["dog", "emu"]);
    write_table(&scratch, "number.csv", "a,b,c,kind", ["0", "1"]);
    let train = format!(
        "train --likelihood gaussian {SHORT} --overwrite --label-column kind --validation-fraction 0.25"
    );
    let plain = format!("{train} --scale standardize");
    let classes = format!("{plain} --conditional");
    scratch.succeeds(&format!("{plain} --data t.csv --out m"));
    scratch.succeeds(&format!("{classes} --data t.csv --out c"));
    // Another order of the columns changes no bit, and none of a run that goes on.
    for (line, model) in [(&plain, "m"), (&classes, "c")] {
        let line = format!("{line} --init {model}");
        scratch.succeeds(&format!("{line} --data t.csv --out t"));
        scratch.succeeds(&format!("{line} --data order.csv --out o"));
        assert!(read(&scratch, "o/model.safetensors") == read(&scratch, "t/model.safetensors"));
        let line = line.replace("--validation-fraction 0.25", "");
        scratch.succeeds(&format!("{line} --data t.csv --validation order.csv --out t"));
        scratch.succeeds(&format!("{line} --data order.csv --validation t.csv --out o"));
        assert!(read(&scratch, "o/model.safetensors") == read(&scratch, "t/model.safetensors"));
        for run in ["t", "o"] {
            scratch.succeeds(&format!("train --resume {run} --epochs 3 --quiet"));
        }
        assert!(read(&scratch, "o/model.safetensors") == read(&scratch, "t/model.safetensors"));
    }
    // The order matters to a run from other weights.
    scratch.succeeds(&format!("{plain} --data order.csv --out o"));
    assert!(read(&scratch, "o/model.safetensors") != read(&scratch, "m/model.safetensors"));
    for (line, reason) in [
        (
            format!("{plain} --data other.csv --init m"),
            "--init m: the model was trained on a column 'c', which other.csv does not have; the columns to train \
             on are a, b, d",
        ),
        (
            format!("{plain} --data more.csv --init m"),
            "--init m: more.csv has a column 'd', which the model was not trained on; its columns are a, b, c; \
             exclude others with --drop-columns",
        ),
        (
            format!("{classes} --data emu.csv --init c"),
            "--init c: the model has the classes cat, dog; emu.csv has the classes dog, emu",
        ),
        (
            format!("{classes} --data number.csv --init c"),
            "--init c: the model has the classes cat, dog; number.csv has 2 classes numbered from 0",
        ),
    ] {
        assert_eq!(scratch.fails(2, &format!("{line} --out new")), reason, "{line}");
    }
    scratch.succeeds(&format!("{plain} --data more.csv --drop-columns d --init m --out new"));
    // Without conditions the weights know no classes.
    scratch.succeeds(&format!("{plain} --data emu.csv --init m --out new"));
    // Tables without a header, and arrays, have only an order.
    write_table(&scratch, "bare.csv", "a,b,c", animals);
    let bare = fs::read_to_string(scratch.path("bare.csv")).unwrap();
    fs::write(scratch.path("bare.csv"), bare.split_once('\n').unwrap().1).unwrap();
    let bare = plain.replace("--label-column kind ", "");
    scratch.succeeds(&format!("{bare} --data bare.csv --init m --out new"));
    // Another kind of scaling, but not other values of it.
    let warnings = |line: String| -> String {
        let report = last_line(&scratch.succeeds(&format!("{line} --json --out new")));
        let warnings = report["warnings"].as_array().unwrap();
        let of_init = |warning: &&Value| warning.as_str().unwrap().starts_with("--init");
        warnings.iter().filter(of_init).map(|warning| warning.to_string()).collect()
    };
    assert_eq!(warnings(format!("{plain} --data emu.csv --init m")), "");
    let message = warnings(format!("{train} --scale min-max --data t.csv --init m"));
    let expected = "--init m: the model was trained on rows that were standardized; those of this run are scaled to \
                    [0, 1], so its weights do not fit them (see --scale and --signed)";
    assert_eq!(message, format!("\"{expected}\""));
    let message = warnings(format!("{train} --data t.csv --init m"));
    assert!(message.contains("those of this run are not scaled"), "{message}");
    let message = warnings(format!("{train} --scale min-max --signed --data t.csv --init m"));
    assert!(message.contains("are scaled to [0, 1] and mapped to [-1, 1]"), "{message}");
    // Images of another shape with as many pixels.
    write_idx(
        &scratch.path("wide.idx"),
        &images(150, 1).into_shape_with_order((150, 5, 6)).unwrap(),
    );
    write_idx(&scratch.path("train.idx"), &images(150, 1));
    let line = format!("train --data train.idx {SHORT}");
    scratch.succeeds(&format!("{line} --out i"));
    let wide = line.replace("train.idx", "wide.idx");
    let message = scratch.fails(2, &format!("{wide} --init i --out new2"));
    assert!(message.starts_with("--init i: the model was trained on images of "), "{message}");
}

#[test]
fn the_way_further_that_a_message_names_can_be_followed() {
    let scratch = Scratch::with_labels("advice");
    write_table(&scratch, "t.csv", "a,b,c,kind", ["x", "y"]);
    let table = "train --data t.csv --label-column kind";
    let small = "train --data train.idx --hidden 8 --latent 2 --batch 32 --epochs 3";
    for (line, again) in [
        (format!("{table} --preset anomaly --epochs 20"), None),
        (format!("{table} --preset tabular --epochs 2"), None),
        (small.to_owned(), None),
        (format!("{small} --schedule cosine"), None),
        // The earlier run decides, not the one that is refused.
        (format!("{small} --schedule cosine"), Some(small.to_owned())),
        (small.to_owned(), Some(format!("{small} --schedule cosine"))),
        (format!("{small} --schedule cosine --decay-over 3epochs"), None),
        (format!("{small} --anneal linear"), None),
        (format!("{small} --capacity 3"), None),
        // A run that stops early.
        (format!("{} --lr 1 --patience 1", small.replace("--epochs 3", "--epochs 60")), None),
    ] {
        let _ = fs::remove_dir_all(scratch.path("r"));
        let _ = fs::remove_dir_all(scratch.path("new"));
        scratch.works(&format!("{line} --quiet --out r"));
        let message = scratch.fails(2, &format!("{} --out r", again.unwrap_or(line.clone())));
        assert!(!message.contains(" from --preset"), "{message}");
        let advice = message.split('`').nth(1).unwrap().strip_prefix("elbo ").unwrap().to_owned();
        let follow = match advice.contains("--resume") {
            true => advice.replace("--epochs N", "--epochs 70"),
            false => {
                assert!(message.ends_with("and another --out"), "{message}");
                format!("{advice} --out new")
            }
        };
        scratch.works(&format!("{follow} --quiet"));
        // So can that of a run that has nothing left to do.
        if !advice.contains("--resume") {
            let message = scratch.fails(2, "train --resume r");
            let way = "--config r/run.toml --init r/model.safetensors and a new --out";
            assert!(message.contains(way) && !message.contains("--out is from"), "{message}");
        }
    }
}

#[test]
fn messages_say_where_the_options_that_they_name_are_from() {
    let scratch = Scratch::with_labels("origins");
    write_table(&scratch, "t.csv", "a,b,c,kind", ["x", "y"]);
    let table = "train --data t.csv --label-column kind --preset tabular";
    scratch.works(&format!("{table} --epochs 1 --quiet --out r"));
    fs::write(scratch.path("notes"), "text").unwrap();
    for (line, reason) in [
        (format!("{table} --out notes"), None),
        (format!("{table} --validation none.csv --out x"), None),
        (format!("{table} --epochs 1 --out r"), None),
        ("train --resume r --epochs 1".to_owned(), None),
        (format!("{table} --scale none --lr 0 --out x"), None),
        (format!("{table} --variance 2 --beta 2 --anneal-over 3 --out x"), None),
        (
            "train --preset tabular --data train.idx --capacity 3 --free-bits 1 --out x".to_owned(),
            None,
        ),
        (format!("{table} --signed --out x"), Some("(--scale is from --preset tabular)")),
        ("train --resume r".to_owned(), Some("(--epochs is from the checkpoint)")),
    ] {
        let output = scratch.run(&line);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.starts_with("error: "), "{line}: {message}");
        assert!(!message.contains("other options"), "{line}: {message}");
        match reason {
            None => assert!(
                !message.contains(" from --preset") && !message.contains("from the checkpoint"),
                "{line}: {message}"
            ),
            Some(reason) => assert!(message.trim_end().ends_with(reason), "{line}: {message}"),
        }
    }
}

#[test]
#[cfg(unix)]
fn an_unfinished_run_is_not_called_finished() {
    let scratch = Scratch::with_labels("unfinished");
    let line = "train --data train.idx --hidden 8 --latent 2 --batch 32 --quiet --epochs 1000000 --checkpoint-every \
                1epochs --out";
    for (options, out, way) in [
        ("", "r", "resume the run without --epochs, or with --epochs "),
        (" --schedule cosine", "c", "resume the run without --epochs"),
    ] {
        let mut child = scratch
            .command(&format!("{line} {out}{options}"))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = scratch.path(out).join("history.jsonl.part");
        while fs::read_to_string(&lines).map_or(0, |text| text.lines().count()) < 9 {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let pid = child.id().to_string();
        std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        child.wait().unwrap();
        let message = scratch.fails(2, &format!("train --resume {out} --epochs 3"));
        let (done, rest) = message
            .strip_prefix("--epochs 3: ")
            .and_then(|rest| rest.split_once(" of 1,000,000 epochs are done already in "))
            .unwrap_or_else(|| panic!("{message}"));
        let done: usize = done.replace(',', "").parse().unwrap();
        let end = match options {
            "" => format!("{out}; {way}{done} or more"),
            _ => format!("{out}; {way}"),
        };
        assert!(done >= 8 && rest == end, "{message}");
        if options.is_empty() {
            scratch.succeeds(&format!("train --resume {out} --epochs {done} --quiet"));
            assert_eq!(history(&scratch, "r/history.csv").len(), 1 + done);
        }
    }
}

#[test]
fn one_of_a_kind_is_counted_in_the_singular() {
    let scratch = Scratch::new("singular");
    fs::write(scratch.path("one.csv"), "a,b\n1,2\n").unwrap();
    fs::write(scratch.path("two.csv"), "a,b\n1,2\n3,5\n").unwrap();
    let train = "train --likelihood gaussian --hidden none --latent 1 --epochs 1 --threads 1";
    let said = scratch
        .says(&format!("{train} --data two.csv --validation-fraction 0.5 --test one.csv --out m"));
    let first = said.lines().next().unwrap();
    assert!(first.contains("1 train, 1 validation, 1 test row, "), "{first}");
    assert!(first.ends_with(" on 1 thread"), "{first}");
    let test = said.lines().find(|line| line.starts_with("test ")).unwrap();
    assert!(test.ends_with(", 1 row"), "{test}");
    fs::write(scratch.path("l.csv"), "label\nx\n").unwrap();
    let conditional = "--labels l.csv --validation one.csv --validation-labels l.csv --conditional";
    let said = scratch.says(&format!("{train} --data one.csv {conditional} --out c"));
    let first = said.lines().next().unwrap();
    assert!(first.contains(" parameters, 1 class), 1 train, 1 validation row, "), "{first}");
    let said = scratch.succeeds("eval --model m --data one.csv");
    assert!(said.starts_with("1 row, nats per example"), "{said}");
    let said = scratch.says("score --model m --data one.csv --out s.csv");
    assert!(said.contains("1 row; mean "), "{said}");
    let said =
        scratch.says("score --model m --data one.csv --flag-above 0.5 --overwrite --out s.csv");
    assert!(said.contains(" of 1 row flagged"), "{said}");
}
