//! A model of the training step on many cores, since machines with many are rarely at hand: which thread touches
//! which cache lines, what crosses between cores, and how long the step takes by measured rates.
//!
//! ```text
//! cargo bench --bench many_cores                         tables, from the rates of a Zen 4 below
//! cargo bench --bench many_cores -- --check              exit status 1 if a known time is not predicted
//! cargo bench --bench many_cores -- --measure            rates between two threads of this machine
//! cargo bench --bench many_cores -- --picture FILE.svg   the speed-up over threads
//! cargo bench --bench many_cores -- --test               as --check, and rows are where the model says
//! ```
//! The step is that of 784-400-20 with 128 rows. `PERFORMANCE.md` has the tables and lists what the model leaves
//! out.

#[allow(unused)]
#[path = "../../src/bin/elbo/commands/bench/clock.rs"]
mod clock;
#[path = "../../src/bin/elbo/commands/bench/peak.rs"]
mod peak;
#[allow(unused)]
#[path = "../../src/bin/elbo/commands/bench/round_trip.rs"]
mod round_trip;
#[allow(unused)]
#[path = "../../src/bin/elbo/commands/bench/team.rs"]
mod team;

mod caches;
mod measure;
mod partition;
mod picture;
mod prediction;
mod rates;

/// The `Result` type that `clock` imports from the tool.
mod failure {
    pub use elbo::Result;
}

use caches::Machine;
use clock::Clock;

use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Compute, Dataset, Result};
use partition::{BATCH, FEATURES, HIDDEN, LATENT, Network, Partition, Update};
use partition::{block_rows, cut_among};
use picture::Curve;
use prediction::Prediction;
use rates::{Rates, ZEN_4};
use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Measured on two threads, near each other or on different chiplets, in milliseconds, on the machine of [`ZEN_4`]: the
/// lowest and highest of the best of some rounds.
const KNOWN: [(&str, Partition, usize, [f64; 2]); 4] = [
    ("f240361", Partition::Stolen, 1, [2.18, 2.18]),
    ("f240361", Partition::Stolen, 2, [3.3, 3.5]),
    ("present", Partition::Present, 1, [2.11, 2.11]),
    ("present", Partition::Present, 2, [2.32, 2.36]),
];
/// Largest error of the prediction of a known time.
const TOLERANCE: f64 = 0.2;

/// Chiplets of the tables; none has more than 16 cores.
const CHIPLETS: [usize; 4] = [1, 2, 8, 16];
const CORES_OF_A_CHIPLET: usize = 16;

const PARTITIONS: [Partition; 4] =
    [Partition::Stolen, Partition::Fixed, Partition::Present, Partition::ByOutputs];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|a| a == argument);
    let network = Network::new();
    // `cargo bench` passes `--bench`; `cargo test` does not.
    if has("--test") || !has("--bench") {
        test(&network).expect("a small step succeeds");
        return exit(check(&network));
    }
    if has("--measure") {
        measure().expect("kernels accept these shapes");
        return ExitCode::SUCCESS;
    }
    let holds = check(&network);
    if has("--check") || !holds {
        return exit(holds);
    }
    tables(&network);
    if let Some(at) = arguments.iter().position(|a| a == "--picture") {
        let path = arguments.get(at + 1).expect("--picture requires a file");
        std::fs::write(path, draw(&network)).expect("the picture can be written");
    }
    ExitCode::SUCCESS
}

fn exit(holds: bool) -> ExitCode {
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compares the model with what has been measured.
fn check(network: &Network) -> bool {
    println!("**Check**: two threads, in ms\n");
    println!("| step | cores | measured | predicted | error | work | crossings | forks |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    let mut holds = true;
    for (step, partition, chiplets, [low, high]) in KNOWN {
        let machine = Machine { threads: 2, chiplets };
        let predicted = ZEN_4.predict(network, partition, machine);
        let cores = if chiplets == 1 { "near" } else { "far" };
        let [time, work, forks] =
            [predicted.time, predicted.work, predicted.forks].map(|seconds| 1e3 * seconds);
        let crossings = time - work - forks;
        // From the nearest of the measured times.
        let error = time / time.clamp(low, high) - 1.0;
        let measured = if low < high { format!("{low} to {high}") } else { format!("{low}") };
        println!(
            "| {step} | {cores} | {measured} | {time:.2} | {:+} % | {work:.2} | {crossings:.2} | {forks:.3} |",
            (100.0 * error).round() as i32
        );
        holds &= error.abs() <= TOLERANCE;
    }
    println!("\n{}", if holds { "The check holds." } else { "THE CHECK DOES NOT HOLD." });
    holds
}

fn tables(network: &Network) {
    const THREADS: [usize; 10] = [1, 2, 3, 4, 8, 12, 16, 32, 64, 128];
    println!("\n**Rates**: nanoseconds a line, beyond what the kernel takes on its own lines\n");
    println!(
        "| cores | round trip | weights read, 64 rows: not prefetched | prefetched | rows read | rows written | … from memory | weights updated | … past the caches | moments moved |"
    );
    println!("|---|{}", "--:|".repeat(9));
    for (name, rates) in [("near", ZEN_4.near), ("far", ZEN_4.far)] {
        let Rates { round_trip, read_weights, read_streamed, read_rows, write_rows, update } =
            rates.map(|seconds| 1e9 * seconds);
        let [plain, prefetched] = read_weights[3];
        let [shared, moved] = update[Update::Write as usize];
        let ([_, memory], [streamed, _]) = (read_streamed[3], update[Update::Streamed as usize]);
        println!(
            "| {name} | {round_trip:.0} | {plain:.2} | {prefetched:.2} | {read_rows:.2} | {write_rows:.1} | {memory:.2} | {shared:.1} | {streamed:.1} | {moved:.1} |"
        );
    }

    println!(
        "\n**Lines** that come in, and copies elsewhere that are given up: the core with most\n"
    );
    println!(
        "| threads | f240361: in | given up | 83cfd44: in | given up | present: in | given up | by outputs: in | given up |"
    );
    println!("|{}", "--:|".repeat(9));
    for threads in THREADS {
        let cells = PARTITIONS.map(|partition| {
            // The same on any number of chiplets.
            let machine = Machine { threads, chiplets: 1 };
            let Prediction { lines_in, upgrades, .. } = ZEN_4.predict(network, partition, machine);
            format!("{lines_in} | {upgrades}")
        });
        println!("| {threads} | {} |", cells.join(" | "));
    }

    println!("\n**Time** of a step, and share of the FMA peak of as many cores\n");
    println!(
        "| threads | chiplets | f240361 | share | 83cfd44 | share | present | share | by outputs, not built | share |"
    );
    println!("|{}", "--:|".repeat(10));
    for threads in THREADS {
        for chiplets in CHIPLETS {
            if !is_possible(threads, chiplets) {
                continue;
            }
            let cells = PARTITIONS.map(|partition| {
                let machine = Machine { threads, chiplets };
                let time = ZEN_4.predict(network, partition, machine).time;
                let share = 100.0 * ZEN_4.limit_1 / threads as f64 / time;
                format!("{:.2} ms | {share:.0} %", 1e3 * time)
            });
            println!("| {threads} | {chiplets} | {} |", cells.join(" | "));
        }
    }
}

/// Whether the chiplets have a core for each thread, and a thread each.
fn is_possible(threads: usize, chiplets: usize) -> bool {
    chiplets <= threads && threads <= chiplets * CORES_OF_A_CHIPLET
}

fn draw(network: &Network) -> String {
    const COLORS: [&str; 4] = ["#1b6ca8", "#c8553d", "#3a7d44", "#7a4d9f"];
    let mut curves = Vec::new();
    let drawn = [
        (Partition::Present, "present", None),
        (Partition::Fixed, "83cfd44", Some("6 4")),
        (Partition::ByOutputs, "by outputs, not built", Some("2 3")),
    ];
    for (partition, name, dashes) in drawn {
        for (chiplets, color) in CHIPLETS.into_iter().zip(COLORS) {
            let threads = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];
            let threads = threads.into_iter().filter(|&threads| is_possible(threads, chiplets));
            let points = threads.map(|threads| {
                let machine = Machine { threads, chiplets };
                let time = ZEN_4.predict(network, partition, machine).time;
                (threads, (ZEN_4.step_1 / time).max(1.0))
            });
            let plural = if chiplets == 1 { "" } else { "s" };
            let label = format!("{name}, {chiplets} chiplet{plural}");
            curves.push(Curve { label, points: points.collect(), color, dashes });
        }
    }
    picture::svg("A model, not a measurement: 784-400-20, 128 rows, Zen 4", &curves)
}

/// Prints the rates of this machine.
fn measure() -> Result<()> {
    let peak = peak::measure(InstructionSet::detect(), 1).best;
    let data = ndarray::Array2::from_elem((1024, FEATURES), 7_u8);
    let mut trainer = trainer(1)?;
    let step = Clock { repetitions: 9 }.time(|| {
        while trainer.step(&data)?.is_none() {}
        Ok(())
    })?;
    println!("peak {:.1} GFLOP/s, a step {:.3} ms on one thread", 1e-9 / peak, 1e3 * step.best);
    let (rates, after) = measure::measure()?;
    println!("ns a line: {:.2?}, round trip afterwards {:.0}", rates.map(|s| 1e9 * s), 1e9 * after);
    Ok(())
}

fn trainer(threads: usize) -> Result<Trainer> {
    let compute = Compute::new(InstructionSet::detect(), threads)?;
    let config = Config::builder(FEATURES, LATENT).hidden(&[HIDDEN]).build()?;
    let options = Options { batch: BATCH, ..Options::default() };
    Trainer::new(Vae::new(config, 1), options, compute)
}

/// Compares the model's partition with that of a real step.
fn test(network: &Network) -> Result<()> {
    let trainer_1 = trainer(1)?;
    let weights = trainer_1.vae().parameters().len();
    assert_eq!(network.weight_lines * 16, weights, "lines of the weights");
    assert_eq!(network.covered(), network.weight_lines, "lines of the pieces");
    let processors = thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, 2, 3, 5, 12, 16, 24] {
        // Rows of each thread by the model. No more threads work than there are processors.
        let size = block_rows(threads);
        let blocks = cut_among(&vec![1; BATCH.div_ceil(size)], threads, threads.min(processors));
        let mut expected: Vec<_> = blocks
            .into_iter()
            .map(|(_, blocks)| BATCH.min(blocks.end * size) - blocks.start * size)
            .collect();
        expected.sort_unstable();
        // A thread that starts late may find that its share has been taken back, by one that has its own.
        let mut sums = BTreeSet::from([0]);
        for share in &expected {
            sums.extend(sums.clone().into_iter().map(|sum| sum + share));
        }
        // Rows that each thread reads, in some steps.
        let mut trainer = trainer(threads)?;
        let is_found = (0..50).any(|_| {
            let data = RecordingData::default();
            let step = trainer.step(&data).expect("a step of finite data succeeds");
            assert!(step.is_some_and(|step| step.loss.is_finite()));
            let rows = data.rows.into_inner().expect("no thread panicked");
            let mut found: Vec<_> = rows.into_values().collect();
            found.sort_unstable();
            let is_possible = found.iter().all(|rows| sums.contains(rows));
            assert!(is_possible, "{threads} threads: {found:?} rows instead of {expected:?}");
            found == expected
        });
        if !is_found {
            println!("many_cores: the machine is too busy for {threads} threads at the same time");
        }
    }
    println!("many_cores: weights, pieces and blocks are those of the crate: ok");
    Ok(())
}

/// Rows of one value that note which thread reads them.
#[derive(Default)]
struct RecordingData {
    rows: Mutex<HashMap<ThreadId, usize>>,
}

impl Dataset for RecordingData {
    fn row_count(&self) -> usize {
        // No batch is the last of its epoch.
        1 << 20
    }

    fn features(&self) -> usize {
        FEATURES
    }

    fn read_row(&self, _: usize, out: &mut [f32]) {
        out.fill(0.5);
        *self
            .rows
            .lock()
            .expect("no thread panicked")
            .entry(thread::current().id())
            .or_default() += 1;
        // Time for the other threads to start, even if there are fewer processors.
        thread::sleep(Duration::from_micros(50));
    }
}
