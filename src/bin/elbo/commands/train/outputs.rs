//! Results of a run: the model, its history and figures.

use super::files::{
    HISTORY, HISTORY_LINES, HISTORY_SO_FAR, LOSS, MODEL, RECONSTRUCTIONS, RUN, SAMPLES,
};
use super::options::TrainOptions;
use super::run::Outcome;
use crate::data::train_test::TrainTestSplit;
use crate::data::{DataDescription, ImageShape};
use crate::failure::Result;
use crate::figure::history::HistoryFigure;
use crate::figure::image_grid::{self, Sheet};
use crate::figure::{self, FigureFormat};
use crate::model::decode::{reconstructions, samples};
use crate::model::usable::{OfUsable, of_usable};
use crate::model::{ModelMetadata, Quantiles, TrainingMetadata, history};
use crate::output::images::to_pixels;
use crate::output::{OutputDirectory, Staged};
use elbo::vae::Vae;
use elbo::{Compute, Dataset};

/// Images in `samples.png`; of a conditional model whole rows of all classes, up to as many.
const MOST_SAMPLES: usize = 64;
/// Pairs in `reconstructions.png`.
const MOST_PAIRS: usize = 20;

/// Writes all files, then gives them their names, the model first.
pub fn write(
    folder: &OutputDirectory,
    outcome: &Outcome,
    split: &TrainTestSplit,
    args: &TrainOptions,
    shape: ImageShape,
    compute: &Compute,
) -> Result<()> {
    let vae = &outcome.vae;
    let notes = notes(outcome, split, compute)?;
    let mut files = Staged::default();
    files.add_by_name(&folder.join(MODEL), |name| vae.save_with(name, &notes))?;
    files.add(&folder.join(HISTORY), |file| history::write_csv(&outcome.history, file))?;
    files.adopt(folder.join(HISTORY_SO_FAR), folder.join(HISTORY_LINES));
    files.add(&folder.join(RUN), |file| file.write_all(outcome.settings.as_bytes()))?;
    let chart = HistoryFigure::new(&outcome.history, Some(&outcome.notes.objective))
        .of(outcome.vae.config().likelihood());
    let chart = figure::render(&chart, FigureFormat::Png);
    files.add_bytes(&folder.join(LOSS), chart)?;
    if !split.is_table() {
        let [samples, pairs] = sheets(vae, &notes.data, split, args, shape, compute)?;
        files.add_bytes(&folder.join(SAMPLES), samples.png())?;
        files.add_bytes(&folder.join(RECONSTRUCTIONS), pairs.png())?;
    }
    files.commit()
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

/// Returns the metadata of the model file.
fn notes(outcome: &Outcome, split: &TrainTestSplit, compute: &Compute) -> Result<ModelMetadata> {
    let (vae, train) = (&outcome.vae, split.train_view());
    let scores = if vae.config().has_optimal_variance() {
        None
    } else {
        let every = train.row_count().div_ceil(SCORED);
        let score = |rows: &dyn Dataset| vae.score(compute, rows);
        let probe = |rows: &dyn Dataset| score(rows).map(drop);
        let rows = Every { rows: &train, every };
        let OfUsable { result, left_out } = of_usable(&split.data, &rows, probe, score)?;
        let infinite = left_out.iter().map(|_| f64::INFINITY);
        Quantiles::of(result.negative_elbo().chain(infinite).collect())
    };
    let history = history::timeless(&outcome.history);
    let training = TrainingMetadata { history, scores, ..outcome.notes.clone() };
    Ok(ModelMetadata { data: split.description(), training: Some(training) })
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
