//! How long a call takes.

use crate::failure::Result;
use std::time::{Duration, Instant};

/// Seconds of a call, or of a round of a team.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    pub best: f64,
    pub median: f64,
}

impl Timing {
    /// Of what each repetition took.
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

    /// For a part of what was timed.
    pub fn divided(self, parts: f64) -> Self {
        Self { best: self.best / parts, median: self.median / parts }
    }
}

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub repetitions: usize,
}

impl Clock {
    /// What a repetition lasts at least.
    const REPETITION: Duration = Duration::from_millis(30);
    /// A case of slow calls stops after this, with three repetitions at least.
    const CASE: Duration = Duration::from_secs(1);

    /// Times `call`, repeated until a repetition is long enough to be measured.
    ///
    /// The first call, which makes room, is not counted; those that find out how many calls fill a
    /// repetition are not either.
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
    fn the_median_is_the_middle() {
        assert_eq!(Timing::of(vec![3.0, 1.0, 2.0]), Timing { best: 1.0, median: 2.0 });
        assert_eq!(Timing::of(vec![4.0, 1.0, 2.0, 3.0]), Timing { best: 1.0, median: 2.5 });
    }
}
