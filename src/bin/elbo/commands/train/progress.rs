//! The progress of a run in two lines, of which the longer fits 80 columns: on standard error, and only where
//! that is a terminal.

use crate::output::thousands;
use elbo::train::{Epoch, Step};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Between two looks at the numbers: often enough to read, too seldom to cost anything.
const INTERVAL: Duration = Duration::from_millis(200);

pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    /// What a row is called.
    rows: &'static str,
    shown: Instant,
}

impl Progress {
    pub fn new(steps: u64, done: u64, epochs: usize, rows: &'static str, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(steps) };
        let style = ProgressStyle::with_template("{msg}\n{wide_bar} {percent}%, {eta} left")
            .expect("a template that indicatif knows");
        let bar = bar.with_style(style).with_position(done);
        // Time is counted from here: steps of an earlier process took none of it.
        bar.reset_eta();
        Self { bar, epochs, rows, shown: Instant::now() }
    }

    /// One more step; `epoch` is what the epoch has come to, in so much time.
    pub fn step(&mut self, step: &Step, epoch: impl FnOnce() -> (Epoch, Duration)) {
        self.bar.inc(1);
        if self.bar.is_hidden() || (step.step > 1 && self.shown.elapsed() < INTERVAL) {
            return;
        }
        self.shown = Instant::now();
        let (so_far, time) = epoch();
        self.bar.set_message(format!(
            "epoch {}/{}: loss {:.2} (reconstruction {:.2}, KL {:.2}), {} {}/s",
            so_far.epoch,
            self.epochs,
            so_far.loss,
            so_far.reconstruction,
            so_far.kl,
            thousands(so_far.rows as f64 / time.as_secs_f64().max(1e-9)),
            self.rows,
        ));
    }

    /// Does something that prints, with the bar out of its way.
    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
