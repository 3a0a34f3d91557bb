//! Runs that are killed, interrupted, resumed and stopped early.

use crate::scratch::{Scratch, images, last_line, write_idx};
use elbo::Compute;
use elbo::train::Trainer;
use elbo::vae::Vae;
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

fn with_images(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    write_idx(&scratch.path("train.idx"), &images(400, 1));
    write_idx(&scratch.path("test.idx"), &images(40, 2));
    scratch
}

/// A run whose state is more than its weights: augmentation, dropout, a plateau schedule, annealing.
const RUN: &str = "train --data train.idx --validation test.idx --hidden 48 --latent 3 --epochs 40 --batch 10 \
                   --augment binarize --dropout 0.1 --anneal linear --schedule plateau --decay-patience 2 \
                   --keep best --quiet";

/// A run whose steps are enough work for four threads.
#[cfg(unix)]
const WIDE_RUN: &str = "train --data train.idx --validation test.idx --hidden 600 --latent 3 --epochs 40 --batch 200 \
                        --threads 4 --keep best --quiet";

/// Returns the history without its last column, images per second.
fn history(scratch: &Scratch, folder: &str) -> Vec<String> {
    let text = fs::read_to_string(scratch.path(folder).join("history.csv")).unwrap();
    text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

fn bits(scratch: &Scratch, folder: &str) -> Vec<u8> {
    fs::read(scratch.path(folder).join("model.safetensors")).unwrap()
}

fn start(scratch: &Scratch, line: &str) -> Child {
    hearing_hang_up(scratch, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A command that SIGHUP ends even if this process was started to ignore it, as by nohup.
fn hearing_hang_up(scratch: &Scratch, line: &str) -> Command {
    let command = scratch.command(line);
    if !cfg!(target_os = "linux") {
        return command;
    }
    let mut with_default = Command::new("env");
    with_default.arg("--default-signal=HUP").arg(command.get_program()).args(command.get_args());
    with_default.current_dir(scratch.path(".")).stdin(Stdio::null());
    with_default
}

/// SplitMix64, for random moments.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A signal and the exit code of a run that it interrupts; SIGKILL ends it at once.
type Signal = (&'static str, Option<i32>);

const KILL: Signal = ("KILL", None);
#[cfg(unix)]
const INTERRUPTS: [Signal; 3] = [("HUP", Some(129)), ("INT", Some(130)), ("TERM", Some(143))];

fn send(child: &mut Child, (signal, _): Signal) {
    if signal == "KILL" {
        child.kill().unwrap();
    } else {
        let pid = child.id().to_string();
        // It may have ended by now.
        let _ = Command::new("kill").args([&format!("-{signal}"), &pid]).output();
    }
}

/// Sends a signal to runs at random moments, most of them while a file is being saved, and resumes them. At each
/// one, the model and the checkpoint that are there must load; at the end of each run, the model and the history
/// must be those of a run that was never interrupted. Returns the number of checkpoints and of models that were
/// loaded.
fn interrupt_and_resume(scratch: &Scratch, run: &str, signal: Signal, kills: usize) -> [usize; 2] {
    if !scratch.path("whole").exists() {
        scratch.succeeds(&format!("{run} --out whole"));
    }
    let mut state = u64::from(std::process::id());
    let (mut done, mut runs, mut loaded) = (0, 0, [0, 0]);
    while done < kills {
        runs += 1;
        assert!(runs < 10 * kills, "{done} kills in {runs} runs");
        let _ = fs::remove_dir_all(scratch.path("out"));
        let mut line = format!("{run} --checkpoint-every 2steps --out out");
        loop {
            let resumes = line.contains("--resume");
            let mut child = start(scratch, &line);
            if done < kills {
                sleep(Duration::from_micros(random(&mut state) % 150_000));
                if child.try_wait().unwrap().is_none() {
                    send(&mut child, signal);
                }
            }
            let status = child.wait().unwrap();
            match status.code() {
                Some(0) => break,
                // Killed after all files were written.
                Some(2) if resumes => break,
                // Before it listens to signals, any of them ends it at once.
                None => done += 1,
                code if code == signal.1 => {
                    assert!(scratch.path("out/checkpoint.safetensors").exists());
                    done += 1;
                }
                Some(code) => panic!("elbo {line}: exit code {code}"),
            }
            let checkpoint = scratch.path("out/checkpoint.safetensors");
            let model = scratch.path("out/model.safetensors");
            if model.exists() {
                Vae::load(&model).unwrap();
                loaded[1] += 1;
            }
            if checkpoint.exists() {
                Trainer::resume(&checkpoint, Compute::serial()).unwrap();
                loaded[0] += 1;
                line = "train --resume out --quiet".to_owned();
            } else {
                // Killed before the first checkpoint.
                assert!(!model.exists());
                let _ = fs::remove_dir_all(scratch.path("out"));
            }
        }
        assert_eq!(bits(scratch, "out"), bits(scratch, "whole"), "after {done} kills");
        assert_eq!(history(scratch, "out"), history(scratch, "whole"), "after {done} kills");
        let lines = fs::read_to_string(scratch.path("out/history.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 40);
        let left = scratch.names_in("out");
        assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
    }
    loaded
}

#[test]
fn run_killed_twenty_times_gives_the_same_bits() {
    interrupt_and_resume(&with_images("killed"), RUN, KILL, 20);
}

/// `cargo test --features cli --test cli -- --ignored --nocapture killed_two_hundred` takes about a minute.
#[test]
#[ignore = "a proof that takes a minute"]
fn run_killed_two_hundred_times_gives_the_same_bits() {
    let [checkpoints, models] = interrupt_and_resume(&with_images("killed-often"), RUN, KILL, 200);
    println!(
        "200 kills: {checkpoints} checkpoints and {models} models loaded, all runs resumed to the same bits"
    );
}

#[test]
#[cfg(unix)]
fn run_interrupted_five_times_by_each_signal_gives_the_same_bits() {
    let scratch = with_images("interrupted");
    for signal in INTERRUPTS {
        interrupt_and_resume(&scratch, RUN, signal, 5);
    }
}

#[test]
#[cfg(unix)]
fn run_on_four_threads_interrupted_by_each_signal_gives_the_same_bits() {
    let scratch = with_images("interrupted-threads");
    for signal in [KILL].into_iter().chain(INTERRUPTS) {
        interrupt_and_resume(&scratch, WIDE_RUN, signal, 4);
    }
    let one = WIDE_RUN.replace("--threads 4", "--threads 1");
    scratch.succeeds(&format!("{one} --out one"));
    assert_eq!(bits(&scratch, "one"), bits(&scratch, "whole"));
}

/// `cargo test --features cli --test cli -- --ignored --nocapture interrupted_sixty` takes about a minute.
#[test]
#[cfg(unix)]
#[ignore = "a proof that takes a minute"]
fn run_interrupted_sixty_times_by_each_signal_gives_the_same_bits() {
    let scratch = with_images("interrupted-often");
    for signal in INTERRUPTS {
        let [checkpoints, models] = interrupt_and_resume(&scratch, RUN, signal, 60);
        println!(
            "60 times SIG{}: {checkpoints} checkpoints and {models} models loaded, all runs resumed to the same bits",
            signal.0
        );
    }
}

/// Starts a run that does not end by itself, and waits for its first epoch.
#[cfg(unix)]
fn endless(scratch: &Scratch, mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !scratch.path("out/history.jsonl.part").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first epoch");
        sleep(Duration::from_millis(5));
    }
    child
}

#[test]
#[cfg(target_os = "linux")]
fn hang_up_ends_a_run_like_a_signal_unless_it_was_started_to_ignore_it() {
    let scratch = with_images("hang-up");
    let line = format!("{RUN} --epochs 100000 --out out");
    let mut child = endless(&scratch, hearing_hang_up(&scratch, &line));
    send(&mut child, ("HUP", None));
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(129), "{message}");
    assert!(message.ends_with("resume with: elbo train --resume out\n"), "{message}");
    fs::remove_dir_all(scratch.path("out")).unwrap();

    // As nohup does.
    let mut ignoring = Command::new("sh");
    let script = format!("trap '' HUP; exec {} {line}", env!("CARGO_BIN_EXE_elbo"));
    ignoring.args(["-c", &script]).current_dir(scratch.path("."));
    let mut child = endless(&scratch, ignoring);
    send(&mut child, ("HUP", None));
    sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "SIGHUP ended a run that ignores it");
    send(&mut child, ("TERM", None));
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
#[cfg(unix)]
fn one_run_at_a_time_works_in_a_directory() {
    let scratch = with_images("two-runs");
    let line = format!("{RUN} --checkpoint-every 1epochs --epochs 100000 --out out");
    let mut child = endless(&scratch, scratch.command(&line));
    // By any path, with any options; --resume too, once there is a checkpoint.
    while !scratch.path("out/checkpoint.safetensors").exists() {
        sleep(Duration::from_millis(5));
    }
    for second in [
        format!("{RUN} --out out"),
        format!("{RUN} --overwrite --out ./out/../out"),
        "train --resume out".to_owned(),
        "train --resume out/.".to_owned(),
    ] {
        let output = scratch.run(&second);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{second}: {message}");
        assert!(message.contains("another `elbo train` is at work in this directory"), "{message}");
    }
    assert!(child.try_wait().unwrap().is_none(), "the first run is disturbed");
    // The lock ends with the process, however it ends.
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(scratch.path("out/history.jsonl.part")).unwrap();
    let mut child = endless(&scratch, scratch.command("train --resume out --quiet"));
    send(&mut child, ("TERM", None));
    assert_eq!(child.wait().unwrap().code(), Some(143));

    // Of two that begin at the same time, one trains.
    for trial in 0..10 {
        let out = format!("both-{trial}");
        let line = format!("{RUN} --epochs 5 --out {out}");
        let children = [start(&scratch, &line), start(&scratch, &line)];
        let mut codes = children.map(|mut child| child.wait().unwrap().code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(2)], "trial {trial}");
        assert_eq!(bits(&scratch, &out), bits(&scratch, "both-0"));
    }
}

#[test]
#[cfg(unix)]
fn interrupt_writes_a_checkpoint_and_prints_how_to_resume() {
    for (threads, run) in [(1, RUN), (4, WIDE_RUN)] {
        interrupt_and_look(threads, &format!("{run} --threads {threads}"));
    }
}

#[cfg(unix)]
fn interrupt_and_look(threads: usize, run: &str) {
    let scratch = with_images(&format!("interrupt-{threads}"));
    let long = format!("{run} --seed 3 --epochs 100000");
    let mut command = scratch.command(&format!("{long} --out out"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The run is at work once the first epoch is logged.
    while !scratch.path("out/history.jsonl.part").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first epoch");
        sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.starts_with("interrupted after step "), "{message}");
    assert!(message.ends_with("resume with: elbo train --resume out\n"), "{message}");
    assert_eq!(message.lines().count(), 1);
    let names = scratch.names_in("out");
    assert!(names.contains(&"checkpoint.safetensors".into()), "{names:?}");
    assert!(names.contains(&"run.toml".into()), "{names:?}");

    // The checkpoint is a model.
    let eval = "eval --model out/checkpoint.safetensors --data test.idx --json";
    assert!(last_line(&scratch.succeeds(eval))["loss"].as_f64().unwrap() > 0.0);
    let text = scratch.succeeds("inspect out/checkpoint.safetensors");
    assert!(text.contains("Training: 400 rows, ") && text.contains("KL per latent"), "{text}");
    // A new run does not overwrite it.
    let message = scratch.fails(2, &format!("{run} --out out"));
    assert!(message.contains("resume it with `elbo train --resume out`"), "{message}");
    // A resumed run keeps its options.
    let message = scratch.fails(2, "train --resume out --lr 0.1");
    assert!(
        message.starts_with("--lr cannot be used with --resume: a resumed run keeps its options"),
        "{message}"
    );
    // The data must be the same, row by row.
    write_idx(&scratch.path("train.idx"), &images(400, 5));
    let message = scratch.fails(1, "train --resume out");
    assert!(
        message.contains("train.idx: the data have changed since the run started"),
        "{message}"
    );
    write_idx(&scratch.path("train.idx"), &images(300, 1));
    let message = scratch.fails(1, "train --resume out");
    assert!(
        message.contains("300 training and 40 validation rows; the run started with 400 and 40")
    );
}

#[test]
fn run_killed_at_its_end_can_be_resumed() {
    let scratch = with_images("end");
    let kept = scratch.path("kept.safetensors");
    // Copies any checkpoint of the run; a run that ends too early is repeated.
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
    // A partial file of a killed process.
    fs::write(scratch.path("out/.model.safetensors.12345.part"), "half").unwrap();
    scratch.succeeds("train --resume out --quiet");
    assert_eq!(bits(&scratch, "out"), model);
    assert!(scratch.names_in("out").iter().all(|name| !name.contains("part")));
}

#[test]
fn rejects_resuming_without_a_checkpoint() {
    let scratch = with_images("unresumable");
    let message = scratch.fails(1, "train --resume nowhere");
    assert!(
        message.ends_with("no checkpoint; expected the directory of a run of `elbo train`"),
        "{message}"
    );
    fs::create_dir(scratch.path("out")).unwrap();
    fs::write(scratch.path("out/checkpoint.safetensors"), "half").unwrap();
    let message = scratch.fails(1, "train --resume out");
    assert!(message.contains("not a complete safetensors file"), "{message}");
}

#[test]
fn patience_stops_a_run_and_keeps_the_best_model() {
    let scratch = with_images("patience");
    // With such a large rate, the loss soon rises again.
    let run = "train --data train.idx --validation test.idx --hidden 48 --latent 3 --batch 10 --lr 0.03 --quiet \
               --json";
    let report = last_line(&scratch.succeeds(&format!("{run} --epochs 500 --patience 4 --out p")));
    let (epochs, kept) =
        (report["epochs"].as_u64().unwrap(), report["model_epoch"].as_u64().unwrap());
    assert!(epochs < 500 && epochs == kept + 4, "{report}");
    let eval = "eval --data test.idx --json --model";
    let evaluated = |model: &str| -> Value {
        last_line(&scratch.succeeds(&format!("{eval} {model}/model.safetensors")))["loss"].clone()
    };
    assert_eq!(evaluated("p"), report["validation_loss"]);
    let losses: Vec<f64> = history(&scratch, "p")[1..]
        .iter()
        .map(|line| line.split(',').nth(4).unwrap().parse().unwrap())
        .collect();
    assert_eq!(losses.len() as u64, epochs);
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(report["validation_loss"].as_f64(), Some(least));

    // With --keep last, the model file equals that of a run of as many epochs.
    scratch.succeeds(&format!("{run} --epochs 500 --patience 4 --keep last --out last"));
    scratch.succeeds(&format!("{run} --epochs {epochs} --out plain"));
    assert_eq!(bits(&scratch, "last"), bits(&scratch, "plain"));
    // The best model equals that of a run that ended there; its file records more epochs, but evaluates to
    // the same digits.
    scratch.succeeds(&format!("{run} --epochs {kept} --out shorter"));
    assert_eq!(evaluated("p"), evaluated("shorter"));
}

#[test]
fn history_log_agrees_with_the_table() {
    let scratch = with_images("log");
    scratch.succeeds(
        "train --data train.idx --validation test.idx --hidden 8 --latent 2 --epochs 3 --quiet --out o",
    );
    let lines = fs::read_to_string(scratch.path("o/history.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let table = history(&scratch, "o");
    assert_eq!((lines.len(), table.len()), (3, 4));
    for (line, row) in lines.iter().zip(&table[1..]) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(line["epoch"].to_string(), cells[0]);
        let (logged, loss) =
            (line["validation_loss"].as_f64().unwrap(), cells[4].parse::<f64>().unwrap());
        assert!((logged - loss).abs() <= 1e-14 * loss);
    }
}

#[test]
fn epochs_before_the_final_weight_of_the_kl_do_not_count() {
    let scratch = with_images("growing");
    let run = "train --data train.idx --validation test.idx --hidden 48 --latent 3 --batch 10 --lr 0.03 --quiet \
               --json";
    // 40 steps per epoch. The last cycle of four begins with step 300 and rises until step 350.
    for (i, (schedule, first)) in [
        ("--beta 4 --anneal linear --anneal-over 15epochs", 15),
        ("--beta 4 --anneal cosine --anneal-over 590steps", 15),
        ("--beta 4 --anneal cyclical --cycles 4 --anneal-over 400steps", 9),
        ("--capacity 10 --capacity-over 12epochs", 12),
    ]
    .into_iter()
    .enumerate()
    {
        for options in ["--epochs 40 --patience 2", "--epochs 18 --keep best"] {
            let report = last_line(
                &scratch
                    .succeeds(&format!("{run} {schedule} {options} --out o{i}{}", options.len())),
            );
            let [epochs, kept] = ["epochs", "model_epoch"].map(|key| report[key].as_u64().unwrap());
            assert!(kept >= first && epochs >= first, "{schedule} {options}: {report}");
            let losses: Vec<f64> = history(&scratch, &format!("o{i}{}", options.len()))
                [first as usize..]
                .iter()
                .map(|line| line.split(',').nth(4).unwrap().parse().unwrap())
                .collect();
            let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(report["validation_loss"].as_f64(), Some(least), "{schedule} {options}");
            assert_eq!(
                report["warnings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|w| w.as_str().unwrap().contains("takes"))
                    .count(),
                0
            );
        }
    }
    // The weight never becomes final: the run goes on to its end, keeps its last model and says why.
    let line =
        format!("{run} --beta 4 --anneal linear --anneal-over 99 --epochs 9 --patience 1 --out o");
    let report = last_line(&scratch.succeeds(&line));
    assert_eq!([&report["epochs"], &report["model_epoch"]], [9, 9], "{report}");
    let warning = report["warnings"][0].as_str().unwrap();
    assert_eq!(
        warning,
        "the annealing of beta takes 99 epochs and the run has 9 epochs: in its last step beta is 0.323 of 4; \
         use more --epochs or a shorter --anneal-over"
    );
}

#[test]
fn plateau_does_not_begin_before_the_final_weight_of_the_kl() {
    let scratch = with_images("no-plateau");
    let rates = |options: &str, out: &str| -> Vec<f64> {
        scratch.succeeds(&format!(
            "train --data train.idx --validation test.idx --hidden 8 --latent 2 --batch 50 --epochs 60 --lr 0.05 \
             --schedule plateau --decay-patience 1 --quiet {options} --out {out}"
        ));
        let lines = history(&scratch, out);
        lines[1..].iter().map(|line| line.rsplit_once(',').unwrap().1.parse().unwrap()).collect()
    };
    let plain = rates("", "plain");
    let reduced = |rates: &[f64]| rates.iter().position(|&rate| rate < 0.05);
    assert!(reduced(&plain).is_some_and(|epoch| epoch < 40), "{plain:?}");
    let growing = rates("--anneal linear --anneal-over 40", "growing");
    // The loss of epoch 40 is the first that counts; two worse ones make a plateau.
    assert!(reduced(&growing).is_some_and(|epoch| epoch >= 42), "{growing:?}");
}
