//! Measures how the time of a training step grows with the rows of a batch, the width of the layers,
//! their number and the threads. Prints Markdown tables; `PERFORMANCE.md` discusses them.
//!
//! ```text
//! cargo bench --bench scaling                      everything: half a minute, 1 GB
//! cargo bench --bench scaling -- rows threads      some of the tables: rows, width, depth, threads
//! cargo bench --bench scaling -- --test            one small step, untimed
//! ```
//! The last column is the time of a cache line from one thread to another and back, before and after the step.
//! Times on several threads compare only where it is the same.
//!
//! A step is everything that `Trainer::step` does: gathering rows from a shuffled epoch of dense
//! bytes, noise, forward pass, loss, backward pass, Adam.

// The clock and the FMA peak of `elbo bench`, so that shares refer to the same limit. The unused
// imports belong to the unit tests of these files, which run with the tool.
#[allow(unused_imports)]
#[path = "../src/bin/elbo/commands/bench/clock.rs"]
mod clock;
#[path = "../src/bin/elbo/commands/bench/peak.rs"]
mod peak;
#[allow(unused_imports)]
#[path = "../src/bin/elbo/commands/bench/round_trip.rs"]
mod round_trip;
#[allow(unused_imports)]
#[path = "../src/bin/elbo/commands/bench/team.rs"]
mod team;

/// The `Result` type that `clock` imports from the tool.
mod failure {
    pub use elbo::Result;
}

use clock::{Clock, Timing};
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Compute, Result};
use ndarray::Array2;

/// Rows of the data set, unless a batch is larger.
const ROWS: usize = 8192;
const BATCH: usize = 128;
const LATENT: usize = 20;
/// Memory per weight: the weight and its two moments.
const BYTES_A_WEIGHT: usize = 12;

/// One training step.
struct Step {
    features: usize,
    hidden: Vec<usize>,
    batch: usize,
    threads: usize,
}

/// Line of a table: its first cells and the step to measure.
struct Point {
    cells: Vec<String>,
    step: Step,
}

struct Table {
    name: &'static str,
    caption: String,
    /// Column heads of the first cells.
    heads: &'static [&'static str],
    points: Vec<Point>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|a| a == argument);
    // `cargo bench` passes `--bench`; `cargo test` does not.
    if has("--test") || !has("--bench") {
        return try_out();
    }
    let names: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let all = available_threads();
    println!("Instruction set {}, {all} threads.", InstructionSet::detect());
    for table in [rows(all), width(all), depth(all), threads(all)] {
        if names.is_empty() || names.iter().any(|name| *name == table.name) {
            table.print()?;
        }
    }
    Ok(())
}

fn rows(threads: usize) -> Table {
    let batches = [1, 4, 16, 64, 128, 256, 1024, 4096, 16384, 65536];
    let point = |batch: usize| Point {
        cells: vec![batch.to_string()],
        step: Step { batch, threads, ..Step::classic() },
    };
    Table {
        name: "rows",
        caption: format!("784-400-{LATENT}, {threads} threads"),
        heads: &["rows"],
        points: batches.map(point).into(),
    }
}

fn width(threads: usize) -> Table {
    let widths = [8, 16, 32, 48, 64, 128, 256, 512, 768, 1024, 2048, 4096];
    let point = |width: usize| {
        let step = Step { features: width, hidden: vec![width], batch: BATCH, threads };
        Point { cells: vec![width.to_string(), step.kept()], step }
    };
    Table {
        name: "width",
        caption: format!("W-W-{LATENT}, {BATCH} rows, {threads} threads"),
        heads: &["width W", "weights, moments"],
        points: widths.map(point).into(),
    }
}

fn depth(threads: usize) -> Table {
    let point = |depth: usize| {
        let step = Step { hidden: vec![400; depth], threads, ..Step::classic() };
        Point { cells: vec![depth.to_string(), step.kept()], step }
    };
    Table {
        name: "depth",
        caption: format!(
            "784 features, hidden layers of 400 on each side, {BATCH} rows, {threads} threads"
        ),
        heads: &["hidden layers", "weights, moments"],
        points: (1..=4).map(point).collect(),
    }
}

/// Measures powers of two up to `all` threads, `all` threads, and twice as many.
fn threads(all: usize) -> Table {
    let mut counts: Vec<_> = (0..).map(|log2| 1 << log2).take_while(|&n| n < all).collect();
    counts.extend([all, 2 * all]);
    let points = [BATCH, 1024].into_iter().flat_map(|batch| {
        counts.iter().map(move |&threads| Point {
            cells: vec![batch.to_string(), threads.to_string()],
            step: Step { batch, threads, ..Step::classic() },
        })
    });
    Table {
        name: "threads",
        caption: format!("784-400-{LATENT}; {all} threads are available"),
        heads: &["rows", "threads"],
        points: points.collect(),
    }
}

impl Table {
    fn print(&self) -> Result<()> {
        println!("\n**{}**: {}\n", self.name, self.caption);
        let heads = self.heads.join(" | ");
        println!(
            "| {heads} | MFLOP a step | best | median | GFLOP/s | share of the FMA peak | round trip |"
        );
        println!("|{}", "--:|".repeat(self.heads.len() + 6));
        self.points.iter().try_for_each(Point::print)
    }
}

impl Point {
    fn print(&self) -> Result<()> {
        let Self { cells, step } = self;
        // The peak is measured before and after the step, because clock rates change. Threads beyond
        // the available ones do not raise it.
        let peak =
            || peak::measure(InstructionSet::detect(), step.threads.min(available_threads())).best;
        let before = peak();
        let trip_before = round_trip::measure(step.threads);
        let Timing { best, median } = step.time()?;
        let trips = [trip_before, round_trip::measure(step.threads)];
        let peak = before.min(peak());
        let flop = step.flop() as f64;
        println!(
            "| {} | {} | {} | {} | {} | {:.0} % | {} |",
            cells.join(" | "),
            digits(flop / 1e6),
            time(best),
            time(median),
            digits(flop / best / 1e9),
            100.0 * peak * flop / best,
            round_trips(trips),
        );
        Ok(())
    }
}

impl Step {
    /// Returns the classic network with the usual batch, on one thread.
    fn classic() -> Self {
        Self { features: 784, hidden: vec![400], batch: BATCH, threads: 1 }
    }

    /// Returns the inputs and outputs of each layer. The last layer of the encoder outputs μ and logvar.
    fn layers(&self) -> Vec<[usize; 2]> {
        let chain = |widths: Vec<usize>| -> Vec<[usize; 2]> {
            widths.windows(2).map(|pair| [pair[0], pair[1]]).collect()
        };
        let hidden = || self.hidden.iter().copied();
        let encoder = [self.features].into_iter().chain(hidden()).chain([2 * LATENT]);
        let decoder = [LATENT].into_iter().chain(hidden().rev()).chain([self.features]);
        [chain(encoder.collect()), chain(decoder.collect())].concat()
    }

    /// Counts the FLOP of the products: three products per layer, except that the input of the first
    /// layer needs no gradient.
    fn flop(&self) -> usize {
        let products = self.layers().into_iter().map(|[inputs, outputs]| inputs * outputs);
        let first = self.features * self.hidden[0];
        2 * self.batch * (3 * products.sum::<usize>() - first)
    }

    /// Formats the memory of weights and moments.
    fn kept(&self) -> String {
        let weights = self.layers().into_iter().map(|[inputs, outputs]| (inputs + 1) * outputs);
        let bytes = (BYTES_A_WEIGHT * weights.sum::<usize>()) as f64;
        if bytes < 1e6 {
            format!("{} kB", digits(bytes / 1e3))
        } else {
            format!("{} MB", digits(bytes / 1e6))
        }
    }

    fn trainer(&self) -> Result<(Trainer, Compute)> {
        let compute = Compute::new(InstructionSet::detect(), self.threads)?;
        let config = Config::builder(self.features, LATENT).hidden(&self.hidden).build()?;
        let options = Options { batch: self.batch, ..Options::default() };
        Ok((Trainer::new(Vae::new(config, 1), options, compute.clone())?, compute))
    }

    fn time(&self) -> Result<Timing> {
        let data = dense(ROWS.max(self.batch), self.features);
        let (mut trainer, compute) = self.trainer()?;
        let first = trainer.step(&data)?.expect("an epoch starts with a step");
        assert!(first.loss.is_finite() && first.rows == self.batch, "{first:?}");
        compute.install(|| {
            Clock { repetitions: 21 }.time(|| {
                // `None` marks the end of an epoch; the next call starts another one.
                while trainer.step(&data)?.is_none() {}
                Ok(())
            })
        })
    }
}

/// Returns rows of nonzero bytes.
fn dense(rows: usize, features: usize) -> Array2<u8> {
    let mut state = 1_u32;
    Array2::from_shape_simple_fn((rows, features), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 | 1
    })
}

/// Runs one small step and checks its FLOP count against a sum written out by hand.
fn try_out() -> Result<()> {
    let step = Step { features: 30, hidden: vec![16, 24], batch: 8, threads: 2 };
    let shapes = [30 * 16, 16 * 24, 24 * 40, 20 * 24, 24 * 16, 16 * 30];
    assert_eq!(step.flop(), 2 * 8 * (3 * shapes.iter().sum::<usize>() - shapes[0]));
    let (mut trainer, _) = step.trainer()?;
    let done = trainer.step(&dense(8, step.features))?.expect("an epoch starts with a step");
    assert!(done.loss.is_finite());
    println!("scaling: a step of 8 rows: ok");
    Ok(())
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Formats a number with three significant digits, or with all digits of its integer part.
fn digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Formats the round trips before and after a step, in microseconds. A single thread has none.
fn round_trips(trips: [Option<f64>; 2]) -> String {
    match trips {
        [Some(before), Some(after)] => format!("{:.2}, {:.2} µs", 1e6 * before, 1e6 * after),
        _ => String::new(),
    }
}

fn time(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{} µs", digits(1e6 * seconds))
    } else {
        format!("{} ms", digits(1e3 * seconds))
    }
}
