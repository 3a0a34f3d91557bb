//! The time of a step from what it does and what crosses.

use crate::caches::{Caches, Crossing, Kind, Machine};
use crate::partition::{Access, Network, Partition, Phase, Update};
use crate::rates::Rates;

/// Rates of cores that share a chiplet, of cores that do not, and of one core.
#[derive(Clone, Copy)]
pub struct Processor {
    pub near: Rates,
    pub far: Rates,
    /// A step on one thread, in seconds.
    pub step_1: f64,
    /// The same, if nothing but multiply-adds took time.
    pub limit_1: f64,
}

/// Of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prediction {
    /// Lines that come in and copies that are given up: those of the core with the most.
    pub lines_in: usize,
    pub upgrades: usize,
    /// Seconds.
    pub time: f64,
    /// Parts of it: work of the busiest thread of each phase, and forks with their joins.
    pub work: f64,
    pub forks: f64,
}

/// Steps until each line is where it is in every later one.
const STEPS: usize = 4;

impl Processor {
    pub fn predict(&self, network: &Network, partition: Partition, machine: Machine) -> Prediction {
        let mut caches = Caches::new(machine, network.lines);
        let mut last = Prediction::default();
        // More steps, and their mean, where they differ.
        let mean = if partition == Partition::Stolen && machine.threads > 2 { STEPS } else { 1 };
        let mut sum = Prediction::default();
        for number in 1..STEPS + mean {
            last = self.step(&mut caches, network, partition, machine, number);
            if number >= STEPS {
                sum.lines_in += last.lines_in / mean;
                sum.upgrades += last.upgrades / mean;
                sum.time += last.time / mean as f64;
                sum.work += last.work / mean as f64;
            }
        }
        Prediction { forks: last.forks, ..sum }
    }

    fn step(
        &self,
        caches: &mut Caches,
        network: &Network,
        partition: Partition,
        machine: Machine,
        number: usize,
    ) -> Prediction {
        let second = self.step_1 / network.work();
        let mut prediction = Prediction::default();
        let mut lines = vec![[0; 2]; machine.threads];
        for Phase { touches, work, forks } in network.step(partition, machine.threads, number) {
            let mut times: Vec<_> = work.iter().map(|work| work * second).collect();
            prediction.work += times.iter().copied().fold(0.0, f64::max);
            for touch in touches {
                let (thread, access) = (touch.thread, touch.access);
                let kind = match access {
                    Access::Update { how: Update::Streamed } => Kind::Stream,
                    Access::Update { .. } | Access::WriteRows => Kind::Write,
                    _ => Kind::Read,
                };
                caches.touch(thread, touch.lines, kind, |crossing| {
                    times[thread] += self.time(access, crossing);
                    lines[thread][usize::from(matches!(crossing, Crossing::Upgrade { .. }))] += 1;
                });
            }
            prediction.time += times.iter().copied().fold(0.0, f64::max);
            let forks = forks.iter().map(|seats| self.fork(machine, seats.start, seats.len()));
            prediction.forks += forks.fold(0.0, f64::max);
        }
        prediction.time += prediction.forks;
        let most = |kind: usize| lines.iter().map(|lines| lines[kind]).max().unwrap_or(0);
        Prediction { lines_in: most(0), upgrades: most(1), ..prediction }
    }

    /// Seconds by which a crossing makes a kernel longer.
    fn time(&self, access: Access, crossing: Crossing) -> f64 {
        let rates = match crossing {
            Crossing::In { near: false } | Crossing::Upgrade { near: false } => &self.far,
            // The way to the memory is the same for all.
            _ => &self.near,
        };
        match access {
            Access::Weights { tiles, prefetched } => {
                let tiles = tiles.clamp(1, 8).ilog2() as usize;
                if crossing == Crossing::FromMemory {
                    rates.read_streamed[tiles][usize::from(prefetched)]
                } else {
                    rates.read_weights[tiles][usize::from(prefetched)]
                }
            }
            Access::Rows => rates.read_rows,
            Access::WriteRows => rates.write_rows,
            Access::Update { how } => {
                let is_in = matches!(crossing, Crossing::In { .. });
                rates.update[how as usize][usize::from(is_in)]
            }
        }
    }

    /// Seconds that a fork and the wait for its end take: work is handed on in two lines, and its end is seen
    /// in one, at each of the cuts in two.
    fn fork(&self, machine: Machine, first: usize, threads: usize) -> f64 {
        if threads == 1 {
            return 0.0;
        }
        let left = threads.div_ceil(2);
        let near = machine.are_near(first, first + left);
        let trip = if near { self.near.round_trip } else { self.far.round_trip };
        let halves = [(first, left), (first + left, threads - left)];
        let below = halves.map(|(first, threads)| self.fork(machine, first, threads));
        1.5 * trip + below[0].max(below[1])
    }
}
