//! Runs that are killed, interrupted, resumed, and stopped when nothing more is to be gained.

use crate::scratch::{Scratch, images, last_line, write_idx};
use serde_json::Value;
use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

fn with_images(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    write_idx(&scratch.path("train.idx"), &images(400, 1));
    write_idx(&scratch.path("test.idx"), &images(40, 2));
    scratch
}

/// Everything that time may leave its mark on, more than a draw: augmentation, dropout, a plateau, a
/// weight that grows.
const RUN: &str = "train --data train.idx --test test.idx --hidden 48 --latent 3 --epochs 40 --batch 10 \
                   --augment binarize --dropout 0.1 --anneal linear --schedule plateau --decay-patience 2 \
                   --keep best --quiet";

/// The history without its last column, images per second.
fn history(scratch: &Scratch, folder: &str) -> Vec<String> {
    let text = fs::read_to_string(scratch.path(folder).join("history.csv")).unwrap();
    text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

fn bits(scratch: &Scratch, folder: &str) -> Vec<u8> {
    fs::read(scratch.path(folder).join("model.safetensors")).unwrap()
}

fn start(scratch: &Scratch, line: &str) -> Child {
    scratch.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// SplitMix64, for moments that nobody chose.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn a_run_killed_twenty_times_comes_to_the_bits_of_one_that_was_not() {
    let scratch = with_images("killed");
    scratch.succeeds(&format!("{RUN} --out whole"));
    let mut state = u64::from(std::process::id());
    let (mut kills, mut runs) = (0, 0);
    while kills < 20 {
        // One run after the other until twenty kills have met one that was at work.
        runs += 1;
        assert!(runs < 200, "{kills} kills in {runs} runs");
        let _ = fs::remove_dir_all(scratch.path("out"));
        let mut line = format!("{RUN} --checkpoint-every 7steps --out out");
        loop {
            let mut child = start(&scratch, &line);
            sleep(Duration::from_micros(random(&mut state) % 150_000));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            if !scratch.path("out/checkpoint.safetensors").exists() {
                if scratch.path("out/model.safetensors").exists() {
                    // Killed at the very end, all files written.
                    break;
                }
                // Killed before the first checkpoint.
                let _ = fs::remove_dir_all(scratch.path("out"));
                continue;
            }
            kills += 1;
            line = "train --resume out --quiet".to_owned();
            if kills == 20 {
                scratch.succeeds(&line);
                break;
            }
        }
        assert_eq!(bits(&scratch, "out"), bits(&scratch, "whole"), "after {kills} kills");
        assert_eq!(history(&scratch, "out"), history(&scratch, "whole"), "after {kills} kills");
    }
    let lines = fs::read_to_string(scratch.path("out/history.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 40);
    assert!(!scratch.path("out/checkpoint.safetensors").exists());
}

#[test]
#[cfg(unix)]
fn an_interrupt_finishes_the_step_and_says_how_to_go_on() {
    let scratch = with_images("interrupt");
    let long = format!("{RUN} --seed 3 --epochs 100000");
    let mut child = scratch.command(&format!("{long} --out out"));
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // At work as soon as there is a first epoch.
    while !scratch.path("out/history.jsonl.part").exists() {
        sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.starts_with("interrupted after step "), "{message}");
    assert!(message.ends_with("go on with: elbo train --resume out\n"), "{message}");
    assert_eq!(message.lines().count(), 1);
    let names = scratch.names_in("out");
    assert!(names.contains(&"checkpoint.safetensors".into()), "{names:?}");
    assert!(names.contains(&"run.toml".into()), "{names:?}");

    // The checkpoint is a model.
    let eval = "eval --model out/checkpoint.safetensors --data test.idx --json";
    assert!(last_line(&scratch.succeeds(eval))["loss"].as_f64().unwrap() > 0.0);
    let text = scratch.succeeds("inspect out/checkpoint.safetensors");
    assert!(text.contains("Training: 400 rows, ") && text.contains("KL per latent"), "{text}");
    // A new run does not cover it.
    let message = scratch.fails(1, &format!("{RUN} --out out"));
    assert!(message.contains("go on with `elbo train --resume out`"), "{message}");
    // A resumed run keeps its options.
    let message = scratch.fails(2, "train --resume out --lr 0.1");
    assert!(
        message.starts_with("--lr: a resumed run keeps the options it began with"),
        "{message}"
    );
    // And its data, row by row.
    write_idx(&scratch.path("train.idx"), &images(400, 5));
    let message = scratch.fails(1, "train --resume out");
    assert!(message.contains("train.idx: not the numbers that the run began with"), "{message}");
    write_idx(&scratch.path("train.idx"), &images(300, 1));
    let message = scratch.fails(1, "train --resume out");
    assert!(message.contains("300 rows to train on and 40 to test; the run began with 400 and 40"));
}

#[test]
fn a_run_killed_before_its_checkpoint_is_removed_comes_to_its_end_again() {
    let scratch = with_images("end");
    let kept = scratch.path("kept.safetensors");
    // Whatever checkpoint is there when it is looked for; a run that is over too soon is run again.
    while !kept.exists() {
        let mut child = start(&scratch, &format!("{RUN} --checkpoint-every 1epochs --out out"));
        while fs::copy(scratch.path("out/checkpoint.safetensors"), &kept).is_err()
            && child.try_wait().unwrap().is_none()
        {
            sleep(Duration::from_millis(1));
        }
        assert!(child.wait().unwrap().success());
    }
    let model = bits(&scratch, "out");
    fs::copy(&kept, scratch.path("out/checkpoint.safetensors")).unwrap();
    // And what a killed process leaves of a file.
    fs::write(scratch.path("out/.model.safetensors.12345.part"), "half").unwrap();
    scratch.succeeds("train --resume out --quiet");
    assert_eq!(bits(&scratch, "out"), model);
    assert!(scratch.names_in("out").iter().all(|name| !name.contains("part")));
}

#[test]
fn a_folder_without_a_checkpoint_cannot_be_resumed() {
    let scratch = with_images("unresumable");
    let message = scratch.fails(1, "train --resume nowhere");
    assert!(
        message.ends_with("no checkpoint; expected a folder in which `elbo train` was interrupted"),
        "{message}"
    );
    fs::create_dir(scratch.path("out")).unwrap();
    fs::write(scratch.path("out/checkpoint.safetensors"), "half").unwrap();
    let message = scratch.fails(1, "train --resume out");
    assert!(message.contains("not a complete safetensors file"), "{message}");
}

#[test]
fn patience_stops_a_run_and_keeps_its_best_model() {
    let scratch = with_images("patience");
    // So large a rate that the loss soon rises again.
    let run = "train --data train.idx --test test.idx --hidden 48 --latent 3 --batch 10 --lr 0.03 --quiet \
               --json";
    let report = last_line(&scratch.succeeds(&format!("{run} --epochs 500 --patience 4 --out p")));
    let (epochs, kept) =
        (report["epochs"].as_u64().unwrap(), report["model_epoch"].as_u64().unwrap());
    assert!(epochs < 500 && epochs == kept + 4, "{report}");
    let eval = "eval --data test.idx --json --model";
    let evaluated = |model: &str| -> Value {
        last_line(&scratch.succeeds(&format!("{eval} {model}/model.safetensors")))["loss"].clone()
    };
    assert_eq!(evaluated("p"), report["test_loss"]);
    let losses: Vec<f64> = history(&scratch, "p")[1..]
        .iter()
        .map(|line| line.split(',').nth(4).unwrap().parse().unwrap())
        .collect();
    assert_eq!(losses.len() as u64, epochs);
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(report["test_loss"].as_f64(), Some(least));

    // The last model, on request, is that of a run of as many epochs, down to the file's last byte.
    scratch.succeeds(&format!("{run} --epochs 500 --patience 4 --keep last --out last"));
    scratch.succeeds(&format!("{run} --epochs {epochs} --out plain"));
    assert_eq!(bits(&scratch, "last"), bits(&scratch, "plain"));
    // The best one is that of a run that ended there: its file knows of more epochs, but evaluates to
    // the last digit alike.
    scratch.succeeds(&format!("{run} --epochs {kept} --out shorter"));
    assert_eq!(evaluated("p"), evaluated("shorter"));
}

#[test]
fn a_log_has_a_line_for_each_epoch_that_agrees_with_the_table() {
    let scratch = with_images("log");
    scratch.succeeds(
        "train --data train.idx --test test.idx --hidden 8 --latent 2 --epochs 3 --quiet --out o",
    );
    let lines = fs::read_to_string(scratch.path("o/history.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let table = history(&scratch, "o");
    assert_eq!((lines.len(), table.len()), (3, 4));
    for (line, row) in lines.iter().zip(&table[1..]) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(line["epoch"].to_string(), cells[0]);
        let (logged, loss) =
            (line["test_loss"].as_f64().unwrap(), cells[4].parse::<f64>().unwrap());
        assert!((logged - loss).abs() <= 1e-14 * loss);
    }
}
