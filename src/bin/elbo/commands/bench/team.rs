//! Threads that start each round together, to measure limits that all cores reach at once.

use super::clock::Timing;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Runs `work` on every share concurrently, one thread each, `rounds` times, and returns the seconds of a
/// round, from the first start to the last end.
///
/// An additional first round is not counted.
pub fn time<T: Send>(shares: &mut [T], rounds: usize, work: impl Fn(&mut T) + Sync) -> Timing {
    let barrier = SpinBarrier { arrived: AtomicUsize::new(0), threads: shares.len() };
    let run = |share: &mut T| -> Vec<[Instant; 2]> {
        let round = |index| {
            barrier.wait(index);
            let start = Instant::now();
            work(share);
            [start, Instant::now()]
        };
        (0..=rounds).map(round).skip(1).collect()
    };
    let (mine, others) = shares.split_first_mut().expect("at least one share");
    let spans: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = others.iter_mut().map(|share| scope.spawn(|| run(share))).collect();
        let mut spans = vec![run(mine)];
        spans.extend(others.into_iter().map(|other| other.join().expect("work does not panic")));
        spans
    });
    let seconds = (0..rounds).map(|round| {
        let start = spans.iter().map(|span| span[round][0]).min();
        let end = spans.iter().map(|span| span[round][1]).max();
        let (start, end) = start.zip(end).expect("at least one share");
        (end - start).as_secs_f64()
    });
    Timing::of(seconds.collect())
}

/// A barrier without sleep, because waking a thread takes tens of microseconds, and not the same for each.
struct SpinBarrier {
    arrived: AtomicUsize,
    threads: usize,
}

impl SpinBarrier {
    fn wait(&self, round: usize) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (round + 1) * self.threads;
        spin_until(|| (self.arrived.load(Ordering::Acquire) >= all).then_some(()));
    }
}

/// Calls `poll` until it returns a value.
pub fn spin_until<T>(poll: impl Fn() -> Option<T>) -> T {
    let mut spins = 0_u32;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        spins += 1;
        if spins.is_multiple_of(1024) {
            // Lets other threads run if there are more of them than cores.
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_runs_in_every_round() {
        for threads in [1, 2, 5] {
            let mut shares = vec![0; threads];
            let timing = time(&mut shares, 3, |share| *share += 1);
            assert_eq!(shares, vec![4; threads]);
            assert!(timing.best <= timing.median);
        }
    }
}
