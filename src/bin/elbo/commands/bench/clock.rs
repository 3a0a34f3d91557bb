//! Timing of repeated calls.

use crate::failure::Result;
use std::time::{Duration, Instant};

/// Seconds per call, or per round of several threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    pub best: f64,
    pub median: f64,
}

impl Timing {
    /// The best and the median of the repetitions' seconds.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len() / 2;
        let median = if seconds.len().is_multiple_of(2) {
            (seconds[middle - 1] + seconds[middle]) / 2.0
        } else {
            seconds[middle]
        };
        Self { best: seconds[0], median }
    }

    /// The time of one of `parts` equal parts.
    pub fn divided(self, parts: f64) -> Self {
        Self { best: self.best / parts, median: self.median / parts }
    }
}

/// Times a case by a number of repetitions.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub repetitions: usize,
}

impl Clock {
    /// Minimum duration of a repetition.
    const REPETITION: Duration = Duration::from_millis(30);
    /// Time after which a case of slow calls stops, but not before three repetitions.
    const CASE: Duration = Duration::from_secs(1);

    /// Times `call`, as often per repetition as a repetition needs to be long enough.
    ///
    /// The first call, which allocates, is not counted, nor are those that determine the number of calls per
    /// repetition.
    pub fn time(self, mut call: impl FnMut() -> Result<()>) -> Result<Timing> {
        let mut run = |calls: u32| -> Result<Duration> {
            let start = Instant::now();
            for _ in 0..calls {
                call()?;
            }
            Ok(start.elapsed())
        };
        let mut calls = 1;
        let mut elapsed = run(1)?;
        if elapsed < Self::REPETITION {
            elapsed = run(1)?;
        }
        while elapsed < Self::REPETITION / 3 {
            calls *= 2;
            elapsed = run(calls)?;
        }
        let each = elapsed.as_secs_f64() / f64::from(calls);
        let calls = (Self::REPETITION.as_secs_f64() / each).ceil().max(1.0);
        let mut seconds = Vec::new();
        let is_slow = each * calls > 3.0 * Self::REPETITION.as_secs_f64();
        let start = Instant::now();
        while seconds.len() < self.repetitions {
            if is_slow && seconds.len() >= 3 && start.elapsed() > Self::CASE {
                break;
            }
            seconds.push(run(calls as u32)?.as_secs_f64() / calls);
        }
        Ok(Timing::of(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(Timing::of(vec![3.0, 1.0, 2.0]), Timing { best: 1.0, median: 2.0 });
        assert_eq!(Timing::of(vec![4.0, 1.0, 2.0, 3.0]), Timing { best: 1.0, median: 2.5 });
    }
}
