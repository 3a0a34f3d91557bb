//! The distance between cores: the time that a cache line takes from one thread to another and back.
//!
//! Results on several threads can be compared only beside it. Between neighboring cores of a processor a
//! round trip takes less than 0.1 µs, between cores that share no cache several times as long, and the
//! system may move the threads of a program at any time.

use super::team;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, yield_now};

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

/// A thread of the measurement.
#[derive(Clone, Copy)]
enum Role {
    /// Writes odd numbers and waits for the even ones.
    First,
    /// Answers every odd number with the next even one.
    Partner,
    Bystander,
}

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
    let mut roles = vec![Role::Bystander; threads];
    (roles[0], roles[partner]) = (Role::First, Role::Partner);
    let round = team::time(&mut roles, ROUNDS, |role| match role {
        Role::First => {
            for _ in 0..TRIPS {
                line.pass_on(0);
            }
        }
        Role::Partner => {
            for _ in 0..TRIPS {
                line.pass_on(1);
            }
        }
        Role::Bystander => {}
    });
    round.best / TRIPS as f64
}

impl Line {
    /// Waits for a number of the given parity and replaces it by the next number.
    fn pass_on(&self, parity: usize) {
        let number = self.wait_for(parity);
        self.0.store(number + 1, Ordering::Release);
    }

    fn wait_for(&self, parity: usize) -> usize {
        let mut spins = 0_u32;
        loop {
            let number = self.0.load(Ordering::Acquire);
            if number % 2 == parity {
                return number;
            }
            spins += 1;
            if spins.is_multiple_of(1024) {
                // Lets the other thread run if both have one core.
                yield_now();
            }
            spin_loop();
        }
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
