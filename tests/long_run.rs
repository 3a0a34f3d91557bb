//! Long runs: memory and speed stay as they are, steps allocate nothing, and resumed runs do not drift.
//!
//! ```text
//! cargo test --release --features safetensors --test long_run -- --ignored --nocapture
//! ```
//!
//! trains a small model for 10⁶ steps and the classic one (784-400-20, 128 rows a batch) for 30 minutes, on one
//! thread, and prints a row for each tenth of the run. Fewer steps and minutes: `LONG_RUN_STEPS=100000` and
//! `LONG_RUN_MINUTES=2` before the command.
//!
//! The ordinary test takes a few hundred steps of both and leaves the clock and the system's view of memory
//! out.

#![cfg(feature = "safetensors")]

mod counting;

use counting::{own_allocations, own_bytes};
use elbo::optim::schedule::{Decay, LearningRateSchedule, Span};
use elbo::optim::{AdamW, Clip};
use elbo::train::{Options, Trainer};
use elbo::vae::{Annealing, Config, Objective, Vae};
use elbo::{Augmentation, Compute};
use ndarray::Array2;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Parts of a run that are compared.
const PARTS: u64 = 10;

/// A training run and the hash of its history.
struct Run<'a> {
    trainer: Trainer,
    data: &'a Array2<u8>,
    /// Hash of the bits of all numbers that steps and epochs report.
    history: DefaultHasher,
}

impl<'a> Run<'a> {
    fn new(trainer: Trainer, data: &'a Array2<u8>) -> Self {
        Self { trainer, data, history: DefaultHasher::new() }
    }

    fn resume(path: &Path, data: &'a Array2<u8>) -> Self {
        Self::new(Trainer::resume(path, Compute::serial()).unwrap(), data)
    }

    /// One step, after the end of an epoch if all its rows are done.
    fn step(&mut self) {
        loop {
            if let Some(step) = self.trainer.step(self.data).unwrap() {
                let f64s = [step.loss, step.reconstruction, step.kl, step.learning_rate];
                self.record([step.step, step.epoch, step.rows as u64], f64s, step.beta);
                return;
            }
            let epoch = self.trainer.epoch_so_far();
            let f64s = [epoch.loss, epoch.reconstruction, epoch.kl, epoch.learning_rate];
            self.record([epoch.epoch, epoch.rows as u64, 0], f64s, epoch.beta);
            self.trainer.observe(epoch.loss);
        }
    }

    fn record(&mut self, counts: [u64; 3], values: [f64; 4], beta: f32) {
        counts.into_iter().for_each(|count| self.history.write_u64(count));
        values.into_iter().for_each(|value| self.history.write_u64(value.to_bits()));
        self.history.write_u32(beta.to_bits());
    }

    /// Writes weights, moments and progress to a file.
    fn save(&self, path: &Path) {
        self.trainer.save_checkpoint(path).unwrap();
    }
}

/// Checkpoints at the start of a part of a run and `steps` later, and the hash of the history between them.
#[derive(Default)]
struct Segment {
    start: PathBuf,
    steps: u64,
    end: PathBuf,
    history: u64,
}

/// Length of a run.
#[derive(Clone, Copy)]
enum Length {
    Steps(u64),
    Time(Duration),
}

/// A run to be measured.
struct Plan {
    name: &'static str,
    length: Length,
    /// Steps that are timed together.
    window: u64,
    /// Steps of each part that are done again by a resumed run, at most.
    resumed: u64,
}

/// Measurements of a tenth of a run.
#[derive(Clone, Copy, Default)]
struct Part {
    steps: u64,
    /// Seconds on the clock, and those that the thread was on a processor.
    seconds: f64,
    busy: Option<f64>,
    /// Seconds of a step in the fastest window: those on a processor where they are known.
    fastest: f64,
    /// Allocations of the thread: the test harness has another, which reports after a minute.
    allocations: usize,
    /// Bytes that the thread has allocated, and those of the process that are in physical memory.
    allocated: isize,
    resident: Option<u64>,
}

impl Plan {
    /// Trains to the end and then once more from the start of each part, in `folder`. Returns the
    /// measurements of each part.
    fn run(&self, trainer: Trainer, data: &Array2<u8>, folder: &Path) -> [Part; PARTS as usize] {
        let mut run = Run::new(trainer, data);
        // The first epoch makes room for whole batches and the last, shorter one.
        while run.trainer.epochs() == 0 {
            run.step();
        }
        let mut parts = [Part::default(); PARTS as usize];
        // All paths are there before anything is measured.
        let mut segments = [(); PARTS as usize].map(|()| Segment::default());
        for (k, segment) in segments.iter_mut().enumerate() {
            segment.start = folder.join(format!("start-{k}"));
            segment.end = folder.join(format!("end-{k}"));
        }
        for (part, segment) in parts.iter_mut().zip(&mut segments) {
            run.save(&segment.start);
            run.history = DefaultHasher::new();
            part.fastest = f64::INFINITY;
            while !self.is_over(part) {
                self.window(&mut run, part);
                if part.steps <= self.resumed {
                    segment.steps = part.steps;
                    segment.history = run.history.finish();
                }
                if part.steps == self.resumed {
                    run.save(&segment.end);
                }
            }
            if part.steps < self.resumed {
                run.save(&segment.end);
            }
            part.allocated = own_bytes();
            part.resident = resident_bytes();
        }
        for segment in &segments {
            let mut run = Run::resume(&segment.start, data);
            (0..segment.steps).for_each(|_| run.step());
            let end = folder.join("resumed");
            run.save(&end);
            // Checkpoints hold weights, moments, the sums of the epoch and the state of the schedule.
            let what = format!("{}, resumed at {}", self.name, segment.start.display());
            assert!(fs::read(&end).unwrap() == fs::read(&segment.end).unwrap(), "{what}");
            assert_eq!(run.history.finish(), segment.history, "{what}: another history");
        }
        parts
    }

    fn is_over(&self, part: &Part) -> bool {
        match self.length {
            Length::Steps(steps) => part.steps >= steps / PARTS,
            Length::Time(time) => part.seconds >= time.as_secs_f64() / PARTS as f64,
        }
    }

    fn window(&self, run: &mut Run, part: &mut Part) {
        let (busy, start) = (busy_seconds(), Instant::now());
        let before = own_allocations();
        (0..self.window).for_each(|_| run.step());
        part.allocations += own_allocations() - before;
        let seconds = start.elapsed().as_secs_f64();
        let busy = busy_seconds().zip(busy).map(|(end, start)| end - start);
        part.steps += self.window;
        part.seconds += seconds;
        part.busy = busy.map(|busy| part.busy.unwrap_or(0.0) + busy);
        part.fastest = part.fastest.min(busy.unwrap_or(seconds) / self.window as f64);
    }

    fn print(&self, parts: &[Part]) {
        println!("\n{}", self.name);
        println!(
            "| tenth | steps | seconds | on a processor | steps/s | fastest | resident kB | allocations |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for (k, part) in (1..).zip(parts) {
            let Part { steps, seconds, busy, fastest, allocations, resident, .. } = *part;
            println!(
                "| {k} | {steps} | {seconds:.1} | {:.1} | {:.1} | {:.1} | {} | {allocations} |",
                busy.unwrap_or(seconds),
                steps as f64 / busy.unwrap_or(seconds),
                1.0 / fastest,
                resident.unwrap_or(0) / 1000,
            );
        }
    }
}

/// Checks what no other process has an influence on.
fn check(name: &str, parts: &[Part]) {
    for (k, part) in (1..).zip(parts) {
        assert_eq!(part.allocations, 0, "{name}, tenth {k}");
        assert_eq!(part.allocated, parts[0].allocated, "{name}, tenth {k}: bytes allocated");
    }
}

/// Physical memory of the process, on Linux.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Seconds that this thread was on a processor, on Linux. Other programs lengthen them less than those on the
/// clock.
fn busy_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}

/// A small model whose training has much state: the digits of `tests/data`, binarized anew in each epoch,
/// dropout, annealing, clipping, and a schedule that waits for a plateau.
fn small() -> (Trainer, Array2<u8>) {
    let table = include_str!("data/digits-train.csv");
    let pixel = |cell: &str| (cell.parse::<u32>().unwrap() * 255 / 16) as u8;
    let rows = table.lines().skip(1);
    let pixels: Vec<u8> = rows.flat_map(|row| row.split(',').take(64).map(pixel)).collect();
    let data = Array2::from_shape_vec((pixels.len() / 64, 64), pixels).unwrap();
    let config = Config::builder(64, 4).hidden(&[32]).dropout(0.1).build().unwrap();
    let annealing = Annealing::Linear { from: 0.0, over: Span::Epochs(20) };
    let options = Options {
        batch: 32,
        optimizer: AdamW::default().into(),
        objective: Objective { annealing, ..Objective::default() },
        clip: Some(Clip::Norm(5.0)),
        schedule: LearningRateSchedule {
            warm_up: 100,
            decay: Decay::Plateau { patience: 50, factor: 0.9 },
        },
        augmentation: Augmentation::Binarize,
        ..Options::default()
    };
    (Trainer::new(Vae::new(config, 1), options, Compute::serial()).unwrap(), data)
}

/// The classic model on pictures of 28×28 pixels: one to three soft spots on a black ground.
fn classic(rows: usize) -> (Trainer, Array2<u8>) {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut data = Array2::<u8>::zeros((rows, 784));
    for mut picture in data.rows_mut() {
        for _ in 0..1 + (random() * 3.0) as usize {
            let [x, y, size] = [6.0 + 16.0 * random(), 6.0 + 16.0 * random(), 1.5 + 2.0 * random()];
            for (i, pixel) in picture.iter_mut().enumerate() {
                let (dx, dy) = ((i % 28) as f32 - x, (i / 28) as f32 - y);
                let ink = 1.0 - (dx * dx + dy * dy) / (4.0 * size * size);
                *pixel = (*pixel).max((255.0 * ink.max(0.0)) as u8);
            }
        }
    }
    let config = Config::builder(784, 20).hidden(&[400]).build().unwrap();
    let trainer = Trainer::new(Vae::new(config, 1), Options::default(), Compute::serial());
    (trainer.unwrap(), data)
}

/// An empty folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("elbo-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_few_hundred_steps_allocate_nothing_and_resume_to_the_same_bits() {
    let folder = Folder::new("short-run");
    for (name, (trainer, data), steps, window) in
        [("small", small(), 1000, 20), ("classic", classic(300), 20, 1)]
    {
        let length = Length::Steps(steps);
        // Some segments end within their part, some with it.
        let plan = Plan { name, length, window, resumed: steps / PARTS - window };
        check(name, &plan.run(trainer, &data, &folder.0));
    }
}

/// A number from the environment, to shorten the run.
fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[test]
#[ignore = "takes most of an hour"]
fn a_long_run_stays_as_it_is() {
    let folder = Folder::new("long-run");
    let steps = setting("LONG_RUN_STEPS", 1e6) as u64;
    let time = Duration::from_secs_f64(60.0 * setting("LONG_RUN_MINUTES", 30.0));
    let runs = [
        (Length::Steps(steps), small(), 10_000, u64::MAX, "64-32-4, 32 rows"),
        (Length::Time(time), classic(60_000), 100, 1000, "784-400-20, 128 rows"),
    ];
    for (length, (trainer, data), window, resumed, name) in runs {
        let plan = Plan { name, length, window, resumed };
        let parts = plan.run(trainer, &data, &folder.0);
        plan.print(&parts);
        check(name, &parts);
        let (first, last) = (parts[0], parts[parts.len() - 1]);
        if let (Some(first), Some(last)) = (first.resident, last.resident) {
            assert!(last <= first + (256 << 10), "{name}: {first} bytes became {last}");
        }
        // Means depend on what else the machine does; some windows of a tenth have its caches for themselves.
        assert!(last.fastest <= 1.1 * first.fastest, "{name}: slower in the end");
    }
}
