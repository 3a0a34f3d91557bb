//! Progress of a run in two lines, cut to the width of the terminal: on standard error, and only if that is
//! a terminal.

use crate::text::thousands;
use elbo::train::{Epoch, Step};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Time between two updates: often enough to read, too seldom to cost anything.
const INTERVAL: Duration = Duration::from_millis(200);

pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    /// Name of the rows.
    rows: &'static str,
    shown: Instant,
}

impl Progress {
    pub fn new(steps: u64, done: u64, epochs: usize, rows: &'static str, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(steps) };
        let style = ProgressStyle::with_template("{wide_msg}\n{wide_bar} {percent}%, {eta} left")
            .expect("a template that indicatif knows");
        let bar = bar.with_style(style).with_position(done);
        // The time left is estimated from here on: an earlier process did the steps before.
        bar.reset_eta();
        Self { bar, epochs, rows, shown: Instant::now() }
    }

    /// Counts a step; `epoch` returns the means of the epoch so far and its time.
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

    /// Hides the bar while `work` prints the line of an epoch; the message is then about the next one.
    pub fn end_of_epoch<T>(&self, epoch: usize, work: impl FnOnce() -> T) -> T {
        self.bar.set_message(format!("epoch {}/{}", (epoch + 1).min(self.epochs), self.epochs));
        self.bar.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
