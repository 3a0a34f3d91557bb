//! Measures what shards and ranks cost.
//!
//! ```text
//! cargo bench --bench ranks -- shards        a step with one shard and with four, on one rank
//! cargo bench --bench ranks -- threads       2 and 4 ranks as threads, alone and with an emulated network
//! cargo bench --bench ranks -- --test        one small step of each kind, untimed
//! ```
//! With MPI, the ranks are those that `mpirun` starts:
//!
//! ```text
//! cargo bench --features mpi --bench ranks --no-run
//! mpirun -n 2 target/release/deps/ranks-… --bench mpi
//! ```
//! `in communication` is the time in which rank 0 waited for a gradient, computing or not; `exposed` is what a step
//! takes longer than one whose messages cost nothing; the rest is `hidden` behind the backward pass.

mod meter;

use elbo::distributed::{Communicator, ThreadRanks, sum};
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Compute, Result};
use meter::{Answers, Meter, Network};
use ndarray::Array2;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The widths of a network: data, hidden layers, latent dimensions.
struct Widths(&'static [usize]);

impl Widths {
    fn name(&self) -> String {
        self.0.iter().map(usize::to_string).collect::<Vec<_>>().join("-")
    }

    fn trainer(&self, batch: usize, shards: usize, compute: Compute) -> Result<Trainer> {
        let [features, hidden @ .., latent] = self.0 else { unreachable!("a network has widths") };
        let config = Config::builder(*features, *latent).hidden(hidden).build()?;
        let options = Options { batch, shards, ..Options::default() };
        Trainer::new(Vae::new(config, 1), options, compute)
    }

    fn data(&self, rows: usize) -> Array2<u8> {
        Array2::from_shape_fn((rows, self.0[0]), |(r, c)| ((r * 31 + c * 7) % 256) as u8)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|a| a == argument);
    // `cargo bench` passes `--bench`; `cargo test` does not.
    if has("--test") || !has("--bench") {
        shards(&Widths(&[20, 16, 3]), &[32], 2)?;
        return threads(&Widths(&[20, 16, 3]), 16, 2);
    }
    if has("shards") {
        shards(&Widths(&[784, 400, 20]), &[128, 1024, 4096], 40)?;
    }
    if has("threads") {
        threads(&Widths(&[784, 400, 20]), 128, 40)?;
        threads(&Widths(&[2048, 1024, 64]), 128, 10)?;
    }
    #[cfg(feature = "mpi")]
    if has("mpi") {
        let ranks = Arc::new(elbo::distributed::Mpi::initialize()?);
        for (widths, steps) in [(Widths(&[784, 400, 20]), 40), (Widths(&[2048, 1024, 64]), 10)] {
            let meter = Arc::new(Meter::new(SharedRanks(ranks.clone()), None, Instant::now()));
            let line = measure(&widths, 128, steps, meter)?;
            if ranks.rank() == 0 {
                println!("{HEAD}\n{line}");
            }
        }
    }
    Ok(())
}

/// The ranks of MPI, of which there is one object in a process.
#[cfg(feature = "mpi")]
struct SharedRanks(Arc<elbo::distributed::Mpi>);

#[cfg(feature = "mpi")]
impl Communicator for SharedRanks {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn ranks(&self) -> usize {
        self.0.ranks()
    }

    fn send(&self, to: usize, tag: u32, message: &[u32]) -> Result<()> {
        self.0.send(to, tag, message)
    }

    fn expect(&self, from: usize, tag: u32, words: usize) -> Result<()> {
        self.0.expect(from, tag, words)
    }

    fn try_receive(&self, from: usize, tag: u32, message: &mut [u32]) -> Result<bool> {
        self.0.try_receive(from, tag, message)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
}

/// Steps with one shard and with four in turn: the best of five rounds of `steps` steps.
fn shards(widths: &Widths, batches: &[usize], steps: u64) -> Result<()> {
    println!("| rows of a batch | 1 shard | 4 shards | cost |\n|---|---|---|---|");
    for &batch in batches {
        let data = widths.data(4 * batch);
        let mut trainers = [1, 4].map(|shards| {
            let compute = Compute::parallel().expect("threads");
            widths.trainer(batch, shards, compute).expect("a valid network")
        });
        let steps = (steps * 128 / batch as u64).max(2);
        let mut best = [f64::INFINITY; 2];
        for round in 0..6 {
            for (trainer, best) in trainers.iter_mut().zip(&mut best) {
                let time = time_of_step(trainer, &data, steps)?;
                // The first round warms up.
                if round > 0 {
                    *best = best.min(time);
                }
            }
        }
        let [one, four] = best;
        let cost = 100.0 * (four / one - 1.0);
        println!("| {batch} | {:.3} ms | {:.3} ms | {cost:.1} % |", 1e3 * one, 1e3 * four);
    }
    Ok(())
}

/// Seconds of a step, the mean of `steps` of them.
fn time_of_step(trainer: &mut Trainer, data: &Array2<u8>, steps: u64) -> Result<f64> {
    let (began, until) = (Instant::now(), trainer.steps() + steps);
    while trainer.steps() < until {
        trainer.step(data)?;
    }
    Ok(began.elapsed().as_secs_f64() / steps as f64)
}

const HEAD: &str = "| network | ranks | rows of each | network of | sent in a step | messages | step, no messages | \
                    step | in communication | exposed | hidden |\n|---|---|---|---|---|---|---|---|---|---|---|";

/// Ranks that are threads of this process, each with one thread.
fn threads(widths: &Widths, rows: usize, steps: u64) -> Result<()> {
    let ethernet = |latency, gigabits: f64| Network {
        latency: Duration::from_micros(latency),
        bandwidth: gigabits * 1e9 / 8.0,
    };
    println!("{HEAD}");
    for ranks in [2, 4] {
        for network in
            [None, Some(ethernet(5, 100.0)), Some(ethernet(30, 10.0)), Some(ethernet(50, 1.0))]
        {
            let start = Instant::now();
            let lines: Vec<Result<String>> = std::thread::scope(|scope| {
                let meters = ThreadRanks::new(ranks)
                    .into_iter()
                    .map(|rank| Arc::new(Meter::new(rank, network, start)));
                let threads: Vec<_> = meters
                    .map(|meter| scope.spawn(move || measure(widths, rows, steps, meter)))
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            let mut lines = lines.into_iter().collect::<Result<Vec<_>>>()?;
            println!("{}", lines.swap_remove(0));
        }
    }
    Ok(())
}

/// The line of a rank: `rows` rows for each, the best of five rounds of `steps` steps with and without messages.
fn measure<C: Communicator + 'static>(
    widths: &Widths,
    rows: usize,
    steps: u64,
    meter: Arc<Meter<C>>,
) -> Result<String> {
    let ranks = meter.ranks();
    let data = widths.data(4 * rows * ranks);
    let trainer = |ranks: Arc<dyn Communicator>| {
        widths.trainer(rows * ranks.ranks(), 1, Compute::serial())?.with_ranks(ranks)
    };
    let mut alone = trainer(Arc::new(Answers(ranks)))?;
    let mut together = trainer(meter.clone())?;
    let mut best = [f64::INFINITY; 2];
    let mut in_communication = f64::INFINITY;
    let counts = || [&meter.bytes, &meter.messages].map(|count| count.load(Ordering::Relaxed));
    let mut of_step = [0; 2];
    for round in 0..6 {
        let before = (counts(), meter.in_communication());
        let with = time_of_step(&mut together, &data, steps)?;
        let after = (counts(), meter.in_communication());
        // From a point that all have reached to the next: ranks that share processors all compute meanwhile.
        sum(&*meter, &mut [], Ok(()))?;
        let began = Instant::now();
        time_of_step(&mut alone, &data, steps)?;
        sum(&*meter, &mut [], Ok(()))?;
        let without = began.elapsed().as_secs_f64() / steps as f64;
        // The first round warms up.
        if round > 0 && with < best[1] {
            best[1] = with;
            in_communication = (after.1 - before.1).as_secs_f64() / steps as f64;
            of_step = [0, 1].map(|i| (after.0[i] - before.0[i]) / steps);
        }
        best[0] = if round > 0 { best[0].min(without) } else { best[0] };
    }
    let [without, with] = best;
    let exposed = (with - without).max(0.0);
    let hidden = 100.0 * (1.0 - exposed / in_communication).clamp(0.0, 1.0);
    Ok(format!(
        "| {} | {ranks} | {rows} | {} | {:.2} MB | {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {hidden:.0} % |",
        widths.name(),
        meter.name(),
        of_step[0] as f64 / 1e6,
        of_step[1],
        1e3 * without,
        1e3 * with,
        1e3 * in_communication,
        1e3 * exposed,
    ))
}
