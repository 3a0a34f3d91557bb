//! What a run leaves: the model, its history and pictures.

use super::course::Outcome;
use crate::args;
use crate::failure::Result;
use crate::generate;
use crate::history;
use crate::notes::{DataNotes, ImageShape, Notes, TrainingNotes};
use crate::output::{Folder, Staged};
use crate::pictures::{self, Sheet};
use crate::plot;
use crate::quantiles::Quantiles;
use crate::sets::Sets;
use elbo::vae::Vae;
use elbo::{Compute, Dataset};
use std::io::Write;

/// Images in `samples.png`, or as many rows of all classes as come nearest.
const MOST_SAMPLES: usize = 64;
/// Pairs in `reconstructions.png`.
const MOST_PAIRS: usize = 20;

pub const MODEL: &str = "model.safetensors";
pub const RUN: &str = "run.toml";
const HISTORY_LINES: &str = "history.jsonl";
/// The same while the run goes on: an older run's stays until this one is over.
pub const HISTORY_SO_FAR: &str = "history.jsonl.part";
const HISTORY: &str = "history.csv";
const LOSS: &str = "loss.png";
const SAMPLES: &str = "samples.png";
const RECONSTRUCTIONS: &str = "reconstructions.png";

/// The names of all that a run leaves. Rows of a table are no pictures.
pub fn files(sets: &Sets) -> Vec<&'static str> {
    let pictures: &[_] = if sets.is_table() { &[] } else { &[SAMPLES, RECONSTRUCTIONS] };
    [&[MODEL, HISTORY, HISTORY_LINES, RUN, LOSS], pictures].concat()
}

/// All the files but the log: written first, the model foremost, then given their names.
pub fn write(
    folder: &Folder,
    outcome: &Outcome,
    sets: &Sets,
    args: &args::Train,
    shape: ImageShape,
    compute: &Compute,
) -> Result<()> {
    let vae = &outcome.vae;
    let notes = notes(outcome, sets, compute)?;
    let mut files = Staged::default();
    files.add_by_name(&folder.join(MODEL), |name| vae.save_with(name, &notes))?;
    files.add(&folder.join(HISTORY), |file| history::write_csv(&outcome.history, file))?;
    files.adopt(folder.join(HISTORY_SO_FAR), folder.join(HISTORY_LINES));
    files.add(&folder.join(RUN), |file| file.write_all(outcome.settings.as_bytes()))?;
    let chart = plot::History::new(&outcome.history, Some(&outcome.notes.objective))
        .of(outcome.vae.config().likelihood());
    files.add(&folder.join(LOSS), |file| plot::write_png(&chart, file))?;
    if !sets.is_table() {
        let [samples, pairs] = sheets(vae, &notes.data, sets, args, shape, compute)?;
        files.add(&folder.join(SAMPLES), |file| pictures::write_png(&samples, file))?;
        files.add(&folder.join(RECONSTRUCTIONS), |file| pictures::write_png(&pairs, file))?;
    }
    files.commit()
}

/// Samples, and inputs above what the model makes of them.
fn sheets(
    vae: &Vae,
    data: &DataNotes,
    sets: &Sets,
    args: &args::Train,
    shape: ImageShape,
    compute: &Compute,
) -> Result<[Sheet; 2]> {
    let shown = sets.first_of_test(MOST_PAIRS);
    let classes = sets.classes();
    let count = match classes {
        0 => MOST_SAMPLES,
        classes => (MOST_SAMPLES / classes).max(1) * classes,
    };
    let columns = (classes > 0).then_some(classes);
    let mut samples = generate::samples(vae, compute, count, args.course.seed, None)?;
    let mut inputs = sets.test_data().numbers(shown.clone())?;
    let conditions = sets.test_data().conditions(shown);
    let conditions = conditions.as_ref().map(|c| c.view());
    let mut outputs = generate::reconstructions(vae, compute, inputs.view(), conditions)?;
    for rows in [&mut samples, &mut inputs, &mut outputs] {
        generate::to_picture(rows, vae, data);
    }
    Ok([
        pictures::grid(samples.view(), shape, columns),
        pictures::pairs(inputs.view(), outputs.view(), shape),
    ])
}

/// Training rows that the quantiles of the scores are taken from, at most: evenly spaced ones.
const SCORED: usize = 1 << 18;

/// What goes into the model file beside the model.
fn notes(outcome: &Outcome, sets: &Sets, compute: &Compute) -> Result<Notes> {
    let (vae, train) = (&outcome.vae, sets.train_part());
    let scores = if vae.config().has_optimal_variance() {
        None
    } else {
        let every = train.row_count().div_ceil(SCORED);
        let scores = sets.used(vae.score(compute, &Every { rows: &train, every }))?;
        Quantiles::of(scores.negative_elbo().collect())
    };
    let history = history::timeless(&outcome.history);
    let training = TrainingNotes { history, scores, ..outcome.notes.clone() };
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
