//! `elbo train` on several ranks of MPI, started by `mpirun`.
//!
//! ```text
//! cargo test --features cli,mpi --test mpi
//! cargo test --release --features cli,mpi --test mpi -- --ignored     each fault twenty times
//! ```
//! Skipped, with a word, where `mpirun` is not installed.
#![cfg(all(feature = "cli", feature = "mpi", target_os = "linux"))]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ELBO: &str = env!("CARGO_BIN_EXE_elbo");

/// Time after which a run counts as one that hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("elbo-mpi-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Rows of 37 numbers from 0 to 1, as a `.npy` file, which stays on the disk and is read by position.
fn write_data(path: &Path, rows: usize, seed: usize) {
    const WIDTH: usize = 37;
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..rows * WIDTH).map(|i| ((i / WIDTH * 31 + i % WIDTH * 7 + seed) % 251) as u8));
    fs::write(path, bytes).unwrap();
}

/// Returns true if there is no `mpirun`, and says so.
fn is_skipped() -> bool {
    let missing = Command::new("mpirun").arg("--version").output().is_err();
    if missing {
        // Not with `println!`, which a passing test does not show.
        let _ = writeln!(std::io::stderr(), "skipped: mpirun is not installed");
    }
    missing
}

/// A command that starts ranks of MPI, on any machine and as any user.
fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    // Containers may forbid reading the memory of another process.
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command
}

/// A run that a test waits for, or disturbs.
struct Run(Child);

impl Run {
    fn start(command: &mut Command, folder: &Path) -> Self {
        let command = command.current_dir(folder).stdin(Stdio::null());
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for its end, and fails if it hangs.
    fn finish(mut self) -> Output {
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            if began.elapsed() > LIMIT {
                let _ = self.0.kill();
                panic!("a run hangs: {:?}", self.0.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.wait_with_output().unwrap()
    }

    /// The process of a rank, once it has started.
    fn process_of(&self, rank: usize) -> Option<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
        children.split_whitespace().filter_map(|child| child.parse().ok()).find(|child: &u32| {
            let environment = fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|one| one == wanted.as_bytes())
        })
    }

    /// Waits until rank `rank` has started and `path`, its first trace, exists.
    fn await_process(&mut self, rank: usize, path: &Path) -> u32 {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Some(process) = self.process_of(rank).filter(|_| path.exists()) {
                return process;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("rank {rank} does not start");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Trains on so many ranks; 0 for no `mpirun`.
fn train(scratch: &Scratch, ranks: usize, arguments: &str, out: &str) -> Output {
    let mut command = match ranks {
        0 => Command::new(ELBO),
        _ => {
            let mut command = mpirun();
            command.args(["-n", &ranks.to_string(), ELBO]);
            command
        }
    };
    command.arg("train").args(arguments.split_whitespace()).args(["--out", out]);
    Run::start(&mut command, &scratch.0).finish()
}

fn trained(scratch: &Scratch, ranks: usize, arguments: &str, out: &str) -> Vec<u8> {
    let output = train(scratch, ranks, arguments, out);
    assert!(output.status.success(), "{ranks} ranks, {arguments}: {}", text(&output.stderr));
    fs::read(scratch.join(out).join("model.safetensors")).unwrap()
}

#[test]
fn any_number_of_ranks_writes_the_same_model_file() {
    if is_skipped() {
        return;
    }
    let scratch = Scratch::new("same");
    write_data(&scratch.join("x.npy"), 230, 0);
    let length = "--data x.npy --validation-fraction 0.2 --epochs 2 --batch 50 --quiet --overwrite";
    let streamed = "--stream always --free-bits 0.05 --free-bits-per dimension --clip-norm 1";
    for objective in ["--beta 2", streamed] {
        let arguments = format!("{length} --hidden 29 --latent 3 --shards 4 {objective}");
        let alone = trained(&scratch, 0, &format!("{arguments} --threads 1"), "alone");
        for (ranks, threads) in [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)] {
            let arguments = format!("{arguments} --threads {threads}");
            let found = trained(&scratch, ranks, &arguments, "ranks");
            assert!(found == alone, "{ranks} ranks, {threads} threads, {objective}");
        }
    }
    // Without shards, one rank is an ordinary run.
    let arguments = format!("{length} --hidden 29 --latent 3");
    let one = trained(&scratch, 1, &arguments, "ranks");
    assert!(one == trained(&scratch, 0, &arguments, "alone"));
}

#[test]
fn rank_0_alone_prints_and_three_ranks_are_close_to_one() {
    if is_skipped() {
        return;
    }
    let scratch = Scratch::new("close");
    write_data(&scratch.join("x.npy"), 230, 0);
    let arguments = "--data x.npy --validation-fraction 0.2 --epochs 20 --batch 50 --hidden 29 --latent 3 --json";
    let loss = |ranks| {
        let output = train(&scratch, ranks, arguments, &format!("out-{ranks}"));
        let (lines, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{errors}");
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert_eq!(errors.matches("epoch 20/20:").count(), 1, "{errors}");
        let report: serde_json::Value = serde_json::from_str(&lines).unwrap();
        report["validation_loss"].as_f64().unwrap()
    };
    let (one, three) = (loss(0), loss(3));
    assert!((three / one - 1.0).abs() < 1e-5, "{three} {one}");
}

/// The lines that elbo, not `mpirun`, has printed about a failure.
fn failures(output: &Output) -> Vec<String> {
    let is_failure = |line: &&str| line.starts_with("error: ") || line.starts_with("interrupted ");
    text(&output.stderr).lines().filter(is_failure).map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_trained_on_several_ranks_is_refused_once() {
    if is_skipped() {
        return;
    }
    let scratch = Scratch::new("refused");
    write_data(&scratch.join("x.npy"), 100, 0);
    for (ranks, arguments, expected) in [
        (
            3,
            "--shards 4",
            "error: mpirun -n: expected a number that divides the shards, found 3; with 4 shards, 1, 2 or 4 would do",
        ),
        (
            2,
            "--total-correlation",
            "error: mpirun -n: expected 1 with total correlation, which compares all rows of a batch with one \
             another, found 2",
        ),
        (2, "--latent many", "error: invalid value 'many' for '--latent <Z>'"),
        (2, "--data y.npy", "error: y.npy: cannot read: No such file"),
    ] {
        let output = train(&scratch, ranks, &format!("--data x.npy {arguments}"), "out");
        let found = failures(&output);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{}", text(&output.stderr));
        assert!(!output.status.success());
    }
    let mut command = mpirun();
    command.args(["-n", "2", ELBO, "inspect", "--model", "m"]);
    let output = Run::start(&mut command, &scratch.0).finish();
    let found = failures(&output);
    assert!(
        found.len() == 1 && found[0].contains("only `elbo train` runs on several"),
        "{found:?}"
    );
}

/// Two ranks in directories of their own, whose files of the same name may differ. They write to one directory.
fn train_apart(scratch: &Scratch, arguments: [&str; 2]) -> Command {
    let mut command = mpirun();
    for (rank, arguments) in arguments.into_iter().enumerate() {
        let folder = scratch.join(&rank.to_string());
        fs::create_dir_all(&folder).unwrap();
        if rank > 0 {
            command.arg(":");
        }
        command.args(["-n", "1", "--wdir"]).arg(folder).args([ELBO, "train"]);
        command.args(arguments.split_whitespace()).arg("--out").arg(scratch.join("out"));
    }
    command
}

#[test]
fn ranks_with_other_files_or_options_are_named() {
    if is_skipped() {
        return;
    }
    let scratch = Scratch::new("apart");
    let same = "--data x.npy --validation-fraction 0.2 --epochs 1 --hidden 8 --latent 2";
    let failure = |arguments: [&str; 2]| {
        let output = Run::start(&mut train_apart(&scratch, arguments), &scratch.0).finish();
        let mut found = failures(&output);
        assert!(found.len() == 1 && !output.status.success(), "{}", text(&output.stderr));
        found.remove(0)
    };
    fs::create_dir_all(scratch.join("0")).unwrap();
    write_data(&scratch.join("0/x.npy"), 100, 0);
    let missing = failure([same, same]);
    assert!(missing.starts_with("error: rank 1: x.npy: cannot read: No such file"), "{missing}");
    write_data(&scratch.join("1/x.npy"), 100, 1);
    assert_eq!(
        failure([same, same]),
        "error: rank 1: its data differ from those of rank 0; use the same files on every rank"
    );
    // One value of many.
    write_data(&scratch.join("0/x.npy"), 3000, 0);
    write_data(&scratch.join("1/x.npy"), 3000, 0);
    let mut bytes = fs::read(scratch.join("1/x.npy")).unwrap();
    let at = bytes.len() - 1777 * 37;
    bytes[at] ^= 1;
    fs::write(scratch.join("1/x.npy"), bytes).unwrap();
    assert_eq!(
        failure([same, same]),
        "error: rank 1: its data differ from those of rank 0; use the same files on every rank"
    );
    write_data(&scratch.join("1/x.npy"), 3000, 0);
    let other = format!("{same} --seed 5");
    assert_eq!(failure([same, &other]), "error: rank 1: its options differ from those of rank 0");
    // Alike, they train.
    let output = Run::start(&mut train_apart(&scratch, [same, same]), &scratch.0).finish();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_rank_of_another_version_is_named() {
    if is_skipped() {
        return;
    }
    let scratch = Scratch::new("version");
    write_data(&scratch.join("x.npy"), 100, 0);
    // The same tool, but for the text of its version.
    let version = env!("CARGO_PKG_VERSION");
    let other = format!("{}~", &version[..version.len() - 1]);
    let mut executable = fs::read(ELBO).unwrap();
    let places: Vec<usize> = executable
        .windows(version.len())
        .enumerate()
        .filter(|(_, text)| *text == version.as_bytes())
        .map(|(place, _)| place)
        .collect();
    for place in places {
        executable[place..place + other.len()].copy_from_slice(other.as_bytes());
    }
    let path = scratch.join("elbo");
    fs::write(&path, executable).unwrap();
    let executable_by_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, executable_by_all).unwrap();
    let arguments = ["train", "--data", "x.npy", "--epochs", "1", "--out", "out"];
    let mut command = mpirun();
    command.args(["-n", "2", ELBO]).args(arguments);
    command.args([":", "-n", "1"]).arg(path).args(arguments);
    let output = Run::start(&mut command, &scratch.0).finish();
    let expected = format!("error: rank 2: its version, {other}, differs from that of rank 0");
    assert_eq!(failures(&output), [expected], "{}", text(&output.stderr));
    assert!(!output.status.success() && !scratch.join("out").exists());
}

/// Something that goes wrong at one rank of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Killed,
    Terminated,
    Truncated,
}

/// Causes a fault at a moment that `random` chooses, and checks that the run ends with one message that names the rank,
/// and that its checkpoint resumes to the model of a run without a fault. Returns true if there was one.
fn disturb(fault: Fault, random: u64) -> bool {
    let scratch = Scratch::new(&format!("{fault:?}-{random}"));
    for rank in ["0", "1"] {
        fs::create_dir_all(scratch.join(rank)).unwrap();
        write_data(&scratch.join(rank).join("x.npy"), 2000, 0);
    }
    let same = "--data x.npy --stream always --validation-fraction 0.1 --epochs 30 --batch 50 --hidden 29 --latent 3 \
                --shards 2 --threads 1 --checkpoint-every 1epochs";
    let rank = (random % 2) as usize;
    let mut run = Run::start(&mut train_apart(&scratch, [same, same]), &scratch.0);
    let process = run.await_process(rank, &scratch.join("out"));
    // Up to the length of a run, which differs between machines: the end of it is a moment like any other.
    let moment = random.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    std::thread::sleep(Duration::from_millis(moment));
    match fault {
        Fault::Killed | Fault::Terminated => {
            let signal = if fault == Fault::Killed { "-KILL" } else { "-TERM" };
            let mut kill = Command::new("kill");
            // The run may be over already.
            let _ = kill.args([signal, &process.to_string()]).stderr(Stdio::null()).status();
        }
        Fault::Truncated => {
            let file = scratch.join(&rank.to_string()).join("x.npy");
            fs::File::options().write(true).open(file).unwrap().set_len(500).unwrap();
        }
    }
    let output = run.finish();
    let (found, errors) = (failures(&output), text(&output.stderr));
    if output.status.success() {
        // It was over before.
        assert!(found.is_empty(), "{errors}");
        return false;
    }
    assert!(found.len() <= 1, "{fault:?} at {moment} ms: {errors}");
    match (fault, &found[..]) {
        // The step is finished, and the message says how to resume.
        (_, [line]) if line.starts_with("interrupted after step") => {
            assert_eq!(fault, Fault::Terminated);
        }
        (Fault::Truncated, [line]) => {
            assert!(line.contains("x.npy"), "{line}");
            assert!(line.starts_with(&format!("error: rank {rank}: ")), "{line}");
        }
        // The rank is gone, or has not listened for signals yet: `mpirun` tells.
        _ => assert!(errors.contains(&format!("rank {rank} with PID")), "{moment} ms: {errors}"),
    }
    // The data are whole again, where the run had them too.
    for folder in ["0", "1", "."] {
        write_data(&scratch.join(folder).join("x.npy"), 2000, 0);
    }
    if !scratch.join("out/checkpoint.safetensors").exists() {
        return false;
    }
    let mut command = mpirun();
    command.args(["-n", "2", ELBO, "train", "--resume", "out", "--threads", "1", "--quiet"]);
    let resumed = Run::start(&mut command, &scratch.0).finish();
    // The fault may have come after the last file was written.
    let errors = text(&resumed.stderr);
    let is_done = resumed.status.success() || errors.contains("the run has finished 30 epochs");
    assert!(is_done, "{fault:?} at {moment} ms: {errors}");
    let model = |out: &str| fs::read(scratch.join(out).join("model.safetensors")).unwrap();
    trained(&scratch, 0, &format!("{same} --quiet"), "whole");
    assert!(model("out") == model("whole"), "{fault:?} at {moment} ms");
    true
}

const FAULTS: [Fault; 3] = [Fault::Killed, Fault::Terminated, Fault::Truncated];

#[test]
fn a_fault_at_one_rank_ends_all_with_one_message_and_a_checkpoint() {
    if is_skipped() {
        return;
    }
    for fault in FAULTS {
        for random in 0..3 {
            disturb(fault, random);
        }
    }
}

#[test]
#[ignore = "twenty times each: minutes"]
fn faults_at_twenty_moments() {
    if is_skipped() {
        return;
    }
    for fault in FAULTS {
        let resumed = (100..120).filter(|&random| disturb(fault, random)).count();
        println!("{fault:?}: 20 runs, {resumed} with a checkpoint that was resumed");
    }
}
