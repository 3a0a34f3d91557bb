//! Results of a run: the model, its history and figures.

use super::checkpoint::{self, RunState};
use super::files::{
    self, CHECKPOINT, HISTORY, HISTORY_LINES, LOSS, MODEL, RECONSTRUCTIONS, RUN, SAMPLES,
};
use super::options::TrainOptions;
use super::outcome::{Kept, Outcome};
use crate::data::train_test::TrainTestSplit;
use crate::data::{DataDescription, ImageShape};
use crate::failure::Result;
use crate::figure::history::HistoryFigure;
use crate::figure::image_grid::{self, Sheet};
use crate::figure::{self, FigureFormat};
use crate::model::decode::{reconstructions, samples};
use crate::model::history::{self, EpochRecord};
use crate::model::usable::{OfUsable, of_usable};
use crate::model::{ModelMetadata, Quantiles, TrainingMetadata};
use crate::output::images::to_pixels;
use crate::output::{OutputDirectory, Staged};
use elbo::vae::Vae;
use elbo::{Compute, Dataset};

/// Images in `samples.png`; of a conditional model whole rows of all classes, up to as many.
const MOST_SAMPLES: usize = 64;
/// Pairs in `reconstructions.png`.
const MOST_PAIRS: usize = 20;

/// Writes all files, then gives them their names: the model first, and last the checkpoint, which says that the
/// run is finished. Files of earlier runs that are left are removed.
pub fn write(
    folder: &OutputDirectory,
    outcome: &Outcome,
    split: &TrainTestSplit,
    args: &TrainOptions,
    shape: ImageShape,
    compute: &Compute,
) -> Result<()> {
    let Outcome { kept: Kept { vae, notes, .. }, state, .. } = outcome;
    let mut files = Staged::default();
    let notes = ModelMetadata {
        data: split.description(),
        training: Some(TrainingMetadata {
            scores: scores(vae, split, compute)?,
            ..state.with_history(notes)
        }),
    };
    files.add_by_name(&folder.join(MODEL), |name| vae.save_with(name, &notes))?;
    add_history(&mut files, folder, &state.history, &state.settings)?;
    let objective = notes.training.as_ref().map(|training| &training.objective);
    let chart = HistoryFigure::new(&state.history, objective).of(vae.config().likelihood());
    let chart = figure::render(&chart, FigureFormat::Png);
    files.add_bytes(&folder.join(LOSS), chart)?;
    if !split.is_table() {
        let [samples, pairs] = sheets(vae, &notes.data, split, args, shape, compute)?;
        files.add_bytes(&folder.join(SAMPLES), samples.png())?;
        files.add_bytes(&folder.join(RECONSTRUCTIONS), pairs.png())?;
    }
    let finished = state.as_finished();
    checkpoint::add(&mut files, folder, &outcome.trainer, &finished, split.description())?;
    files.commit()?;
    files::remove_others(folder.path(), &files::of_finished(split.is_table()));
    Ok(())
}

/// Writes the model and the history of a run that failed; `run` is its state, and true if the checkpoint in the
/// directory is its own.
pub fn rescue(
    folder: &OutputDirectory,
    Kept { vae, notes, .. }: &Kept,
    run: (&RunState, bool),
    split: &TrainTestSplit,
    compute: &Compute,
) -> Result<()> {
    let (state, has_checkpoint) = run;
    let mut files = Staged::default();
    // If the rows cannot be scored, `elbo score --flag-above` will say so.
    let scores = scores(vae, split, compute).ok().flatten();
    let training = Some(TrainingMetadata { scores, ..state.with_history(notes) });
    let notes = ModelMetadata { data: split.description(), training };
    files.add_by_name(&folder.join(MODEL), |name| vae.save_with(name, &notes))?;
    add_history(&mut files, folder, &state.history, &state.settings)?;
    files.commit()?;
    let own = [MODEL, HISTORY, HISTORY_LINES, RUN, CHECKPOINT];
    files::remove_others(folder.path(), &own[..own.len() - usize::from(!has_checkpoint)]);
    Ok(())
}

fn add_history(
    files: &mut Staged,
    folder: &OutputDirectory,
    epochs: &[EpochRecord],
    settings: &str,
) -> Result<()> {
    files.add(&folder.join(HISTORY), |file| history::write_csv(epochs, file))?;
    files.add(&folder.join(HISTORY_LINES), |file| history::write_lines(epochs, file))?;
    files.add(&folder.join(RUN), |file| file.write_all(settings.as_bytes()))
}

/// Draws samples, and inputs above their reconstructions.
fn sheets(
    vae: &Vae,
    data: &DataDescription,
    split: &TrainTestSplit,
    args: &TrainOptions,
    shape: ImageShape,
    compute: &Compute,
) -> Result<[Sheet; 2]> {
    let shown = split.first_of_validation(MOST_PAIRS);
    let classes = split.classes();
    let count = match classes {
        0 => MOST_SAMPLES,
        classes => (MOST_SAMPLES / classes).max(1) * classes,
    };
    let columns = (classes > 0).then_some(classes);
    let mut samples = samples(vae, compute, count, args.length.seed, None)?;
    let mut inputs = split.validation_data().numbers(shown.clone())?;
    let conditions = split.validation_data().conditions(shown);
    let conditions = conditions.as_ref().map(|c| c.view());
    let mut outputs = reconstructions(vae, compute, inputs.view(), conditions)?;
    for rows in [&mut samples, &mut inputs, &mut outputs] {
        to_pixels(rows, vae, data);
    }
    Ok([
        image_grid::grid(samples.view(), shape, columns),
        image_grid::pairs(inputs.view(), outputs.view(), shape),
    ])
}

/// Largest number of training rows, evenly spaced, for the quantiles of the scores.
const SCORED: usize = 1 << 18;

/// Returns the quantiles of the scores of the training rows, those left out too, if the likelihood scores single rows.
fn scores(vae: &Vae, split: &TrainTestSplit, compute: &Compute) -> Result<Option<Quantiles>> {
    if vae.config().has_optimal_variance() {
        return Ok(None);
    }
    let train = split.untrimmed_view();
    let every = train.row_count().div_ceil(SCORED);
    let score = |rows: &dyn Dataset| vae.score(compute, rows);
    let probe = |rows: &dyn Dataset| score(rows).map(drop);
    let rows = Every { rows: &train, every };
    let OfUsable { result, left_out } = of_usable(&split.data, &rows, probe, score)?;
    let infinite = left_out.iter().map(|_| f64::INFINITY);
    Ok(Quantiles::of(result.negative_elbo().chain(infinite).collect()))
}

/// Every `every`-th row of a data set.
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
