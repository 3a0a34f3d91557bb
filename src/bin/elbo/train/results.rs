//! What a run leaves: the model, its history and pictures.

use super::course::Outcome;
use crate::args;
use crate::failure::Result;
use crate::generate;
use crate::history;
use crate::notes::{ImageShape, Notes, TrainingNotes};
use crate::output::{Folder, Staged};
use crate::pictures;
use crate::plot;
use crate::quantiles::Quantiles;
use crate::sets::Sets;
use elbo::{Compute, Dataset};
use std::io::Write;

/// Images in `samples.png`, or as many rows of all classes as come nearest.
const SAMPLES: usize = 64;
/// Pairs in `reconstructions.png`.
const RECONSTRUCTIONS: usize = 20;

pub const MODEL: &str = "model.safetensors";
pub const RUN: &str = "run.toml";
pub const HISTORY_LINES: &str = "history.jsonl";
pub const FILES: [&str; 7] =
    [MODEL, "history.csv", "loss.png", "samples.png", "reconstructions.png", RUN, HISTORY_LINES];

/// All the files but the log: written first, the model foremost, then given their names.
pub fn write(
    folder: &Folder,
    outcome: &Outcome,
    sets: &Sets,
    args: &args::Train,
    shape: ImageShape,
    compute: &Compute,
) -> Result<()> {
    let (vae, shown) = (&outcome.vae, sets.first_of_test(RECONSTRUCTIONS));
    let classes = sets.classes();
    let count = match classes {
        0 => SAMPLES,
        classes => (SAMPLES / classes).max(1) * classes,
    };
    let columns = (classes > 0).then_some(classes);
    let mut samples = generate::samples(vae, compute, count, args.course.seed, None)?;
    let mut inputs = sets.test_data().numbers(shown.clone())?;
    let conditions = sets.test_data().conditions(shown);
    let conditions = conditions.as_ref().map(|c| c.view());
    let mut outputs = generate::reconstructions(vae, compute, inputs.view(), conditions)?;
    let notes = notes(outcome, sets, args, compute)?;
    for rows in [&mut samples, &mut inputs, &mut outputs] {
        generate::to_picture(rows, vae, &notes.data);
    }
    let samples = pictures::grid(samples.view(), shape, columns);
    let reconstructions = pictures::pairs(inputs.view(), outputs.view(), shape);

    let mut files = Staged::default();
    let [model, csv, drawn, generated, reconstructed, run, _] = FILES.map(|name| folder.join(name));
    files.add_by_name(&model, |name| vae.save_with(name, &notes))?;
    files.add(&csv, |f| history::write_csv(&outcome.history, f))?;
    files.add(&generated, |f| pictures::write_png(&samples, f))?;
    files.add(&reconstructed, |f| pictures::write_png(&reconstructions, f))?;
    let chart = plot::History::new(&outcome.history, Some(&outcome.objective));
    files.add(&drawn, |f| plot::write_png(&chart, f))?;
    files.add(&run, |f| f.write_all(outcome.settings.as_bytes()))?;
    files.commit()
}

/// Training rows that the quantiles of the scores are taken from, at most: evenly spaced ones.
const SCORED: usize = 1 << 18;

/// What goes into the model file beside the model.
fn notes(outcome: &Outcome, sets: &Sets, args: &args::Train, compute: &Compute) -> Result<Notes> {
    let (vae, train) = (&outcome.vae, sets.train_part());
    let scores = if vae.config().has_optimal_variance() {
        None
    } else {
        let every = train.row_count().div_ceil(SCORED);
        let scores = sets.used(vae.score(compute, &Every { rows: &train, every }))?;
        Quantiles::of(scores.negative_elbo().collect())
    };
    let training = TrainingNotes {
        objective: outcome.objective,
        seed: args.course.seed,
        rows: train.row_count(),
        epoch: outcome.epoch,
        history: history::timeless(&outcome.history),
        kl_per_dimension: outcome.tested.kl_per_dimension.clone(),
        mu_variance: outcome.tested.mu_variance.clone(),
        scores,
    };
    Ok(Notes { data: sets.notes(), training: Some(training) })
}

/// Every so many rows of a data set.
struct Every<'a> {
    rows: &'a dyn Dataset,
    every: usize,
}

impl Dataset for Every<'_> {
    fn row_count(&self) -> usize {
        self.rows.row_count().div_ceil(self.every)
    }

    fn features(&self) -> usize {
        self.rows.features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.rows.read_row(row * self.every, out);
    }

    fn conditions(&self) -> usize {
        self.rows.conditions()
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        self.rows.read_condition(row * self.every, out);
    }
}
