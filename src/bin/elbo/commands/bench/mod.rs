//! `elbo bench`: the speed of the kernels on this machine, each beside its limit.

mod cases;
mod clock;
mod limit;
mod memory;
mod peak;
mod report;
mod round_trip;
mod team;
mod topology;

use crate::failure::{Failure, Result};
use crate::options::values::count;
use crate::output::say;
use crate::text::counted;
use cases::{Case, Work};
use clap::Args;
use clock::Clock;
use elbo::Compute;
use report::{Record, RecordFormat};

/// Measure the kernels on this machine, each beside the machine's limit
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each case runs on one thread and on --threads. Its limit is measured beside it: the processor's rate of fused \
multiply-adds on those threads (peak), or the memory's rate in the triad a = b + s*c on arrays of the same \
length. `fraction` is value / limit; it is meaningful only on an otherwise idle machine. With several threads, the \
time of a cache line from one thread to another and back is measured before and after each case: under 0.1 µs between \
neighboring cores, several times as much between cores that share no cache.

Cases: peak, triad, train_step (gathering rows, noise, loss, backward, Adam), loss (BCE + KL with \
gradients), product (of one layer: forward, input gradient, weight gradient), math, noise (normal \
numbers), infer (encode to the mean, decode, sigmoid), marginal (the log-likelihood of four rows from 5,000 \
samples each).

Examples:
  elbo bench
  elbo bench --filter train_step/784-400-20/128 --threads 2
  elbo bench --filter 'product/784-400 input gradient'
  elbo bench --json --simd avx2 > avx2.jsonl")]
pub struct BenchOptions {
    /// Run only the cases whose name (case/shape/batch) contains NAME
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,

    /// Repeat each case N times and show the best and the median
    ///
    /// Each repetition takes about 30 ms, or one call.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = count(1000), allow_negative_numbers = true)]
    pub repetitions: usize,

    /// Print one line of JSON for each case
    ///
    /// Its fields are case, shape, batch, threads, simd, value (the best repetition), unit, limit, limit_unit,
    /// fraction, median, milliseconds (per call, in the best repetition), gigabytes_per_second (of the triad), and
    /// with several threads round_trip_before and round_trip_after (microseconds).
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &BenchOptions, compute: &Compute) -> Result<()> {
    let cases = chosen(cases::all(compute.threads()), args.filter.as_deref().unwrap_or(""))?;
    let format = if args.json { RecordFormat::Json } else { RecordFormat::Table };
    let clock = Clock { repetitions: args.repetitions };
    if format == RecordFormat::Table {
        say(&format!(
            "Instruction set {}, {}{}. Best and median of {}; `share` is the fraction of the limit, measured \
             before and after each case, as is the round trip of a cache line between threads.\n",
            compute.simd(),
            counted(compute.threads(), "thread"),
            topology::described(),
            counted(args.repetitions, "repetition")
        ))?;
    }
    format.header()?;
    for case in cases {
        format.record(&measure(case, compute, clock)?)?;
    }
    Ok(())
}

/// The cases whose names contain `filter`.
fn chosen(cases: Vec<Case>, filter: &str) -> Result<Vec<Case>> {
    let mut names: Vec<_> = cases.iter().map(Case::name).collect();
    let chosen: Vec<_> = cases.into_iter().filter(|case| case.name().contains(filter)).collect();
    if chosen.is_empty() {
        names.dedup();
        return Err(Failure::Usage(format!(
            "--filter {filter}: no case has a name that contains this; the cases are {}",
            names.join(", ")
        )));
    }
    Ok(chosen)
}

fn measure(case: Case, compute: &Compute, clock: Clock) -> Result<Record> {
    let (simd, threads) = (compute.simd(), case.threads);
    let before = case.limit.measure(simd, threads);
    let round_trip_before = round_trip::measure(threads);
    // The case has its own threads, which are gone when the limit is measured again.
    let timing = (case.run)(&Compute::new(simd, threads)?, clock)?;
    let round_trip_after = round_trip::measure(threads);
    let limit = limit::higher(before, case.limit.measure(simd, threads));

    let Work { amount, unit, bytes } = case.work;
    let value = limit::giga(amount, timing.best);
    Ok(Record {
        case: case.group,
        shape: case.shape,
        batch: case.batch,
        threads,
        simd: simd.name(),
        value,
        unit,
        limit: limit.map(|limit| limit.giga),
        limit_unit: limit.map(|limit| limit.unit),
        fraction: limit.map(|limit| value / limit.giga),
        median: limit::giga(amount, timing.median),
        // The peak case counts one operation per call, whose time is not worth showing.
        milliseconds: (amount > 1.0).then_some(1e3 * timing.best),
        gigabytes_per_second: bytes.map(|bytes| limit::giga(bytes as f64, timing.best)),
        round_trip_before: round_trip_before.map(|seconds| 1e6 * seconds),
        round_trip_after: round_trip_after.map(|seconds| 1e6 * seconds),
    })
}
