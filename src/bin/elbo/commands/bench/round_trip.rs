//! The distance between cores: the time that a cache line takes from one thread to another and back.
//!
//! Results on several threads can be compared only beside it. Between neighboring cores of a processor a
//! round trip takes less than 0.1 µs, between cores that share no cache several times as long, and the
//! system may move the threads of a program at any time.

use super::team;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// Round trips of a measurement.
const TRIPS: usize = 500;
/// Measurements of which the shortest counts.
const ROUNDS: usize = 10;
/// Threads that are measured at most.
const MOST_PARTNERS: usize = 16;

/// A cache line, with the one that some processors fetch beside it.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicUsize);

/// The longest of the round trips between the first of `threads` threads and each of the others, in seconds.
/// `None` for a single thread, and for more threads than the processor can run at a time.
pub fn measure(threads: usize) -> Option<f64> {
    if threads < 2 || available_parallelism().is_ok_and(|most| threads > most.get()) {
        return None;
    }
    let step = (threads - 1).div_ceil(MOST_PARTNERS);
    let trips = (1..threads).step_by(step).map(|partner| between(threads, partner));
    trips.max_by(f64::total_cmp)
}

/// The round trip between thread 0 and thread `partner`, in seconds; all other threads wait.
fn between(threads: usize, partner: usize) -> f64 {
    let line = Line::default();
    // The parity of the numbers that a thread waits for: the first one waits for even numbers, its partner for
    // odd ones.
    let mut parities = vec![None; threads];
    (parities[0], parities[partner]) = (Some(0), Some(1));
    let round = team::time(&mut parities, ROUNDS, |parity| {
        if let Some(parity) = *parity {
            (0..TRIPS).for_each(|_| line.pass_on(parity));
        }
    });
    round.best / TRIPS as f64
}

impl Line {
    /// Waits for a number of the given parity and replaces it by the next number.
    fn pass_on(&self, parity: usize) {
        let next = || Some(self.0.load(Ordering::Acquire)).filter(|number| number % 2 == parity);
        let number = team::spin_until(next);
        self.0.store(number + 1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_there_and_back() {
        // On two cores, one of three threads waits for a core.
        for (threads, partner) in [(2, 1), (3, 1), (3, 2)] {
            let seconds = between(threads, partner);
            assert!(seconds > 0.0 && seconds.is_finite(), "{seconds}");
        }
        assert_eq!([0, 1, usize::MAX].map(measure), [None; 3]);
    }
}
