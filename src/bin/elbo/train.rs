//! `elbo train`.

use crate::args;
use crate::chart;
use crate::diagnosis;
use crate::failure::Result;
use crate::generate;
use crate::history::{self, Epoch, thousands};
use crate::model::is_signed;
use crate::notes::{DataNotes, Notes, TrainingNotes};
use crate::output::{Folder, Staged, say};
use crate::pictures;
use crate::quantiles::Quantiles;
use crate::sets::Sets;
use elbo::train::{Options, Trainer};
use elbo::vae::{Evaluation, EvaluationOptions, Likelihood, Objective, Penalty, Vae};
use elbo::{Compute, Dataset};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Images in `samples.png`, or as many rows of all classes as come nearest.
const SAMPLES: usize = 64;
/// Pairs in `reconstructions.png`.
const RECONSTRUCTIONS: usize = 20;

const MODEL: &str = "model.safetensors";
/// What a run leaves.
const FILES: [&str; 5] = [MODEL, "history.csv", "loss.png", "samples.png", "reconstructions.png"];

pub fn run(args: &args::Train, compute: &Compute) -> Result<()> {
    let started = Instant::now();
    // All that the command line alone can be wrong about, before a file is read.
    args.data.check()?;
    let likelihood = args.output.likelihood()?;
    let mut options = options(args)?;

    let sets = Sets::read(&args.data, likelihood, args.course.seed)?;
    let steps =
        sets.train.len().div_ceil(args.course.batch.saturating_mul(args.descent.accumulate));
    let steps = (steps * args.course.epochs) as u64;
    options.objective = args.weight.by_steps(options.objective, steps);
    let features = sets.data.width();
    let shape = args.shape.of(features, sets.data.image)?;
    let config = args.model.config(likelihood, features, sets.classes())?;
    options.validate_for(&config)?;
    let folder = Folder::prepare(&args.out, &FILES)?;

    let trainer = Trainer::new(Vae::new(config, args.course.seed), options, compute.clone())?;
    if !args.quiet {
        say(&headline(trainer.vae(), &sets, compute))?;
    }
    let outcome = run_epochs(trainer, args, &sets, compute)?;
    write(&folder, &outcome, &sets, args, shape, compute)?;
    report(&outcome, &folder.join(MODEL), args, started.elapsed())
}

fn options(args: &args::Train) -> Result<Options> {
    let epochs = args.course.epochs;
    let options = Options {
        batch: args.course.batch,
        objective: args.weight.objective(Some(&args.importance))?,
        optimiser: args.descent.optimiser()?,
        seed: args.course.seed,
        accumulate: args.descent.accumulate,
        clip: args.descent.clip()?,
        schedule: args.descent.schedule(epochs)?,
        augmentation: args.data.augment.augment,
    };
    options.validate()?;
    Ok(options)
}

fn headline(vae: &Vae, sets: &Sets, compute: &Compute) -> String {
    let config = vae.config();
    let conditions = match config.conditions() {
        0 => String::new(),
        classes => format!(", {classes} classes"),
    };
    format!(
        "{config} ({} parameters{conditions}), {} rows to train on, {} to test, {} on {} thread{}",
        thousands(config.parameters() as f64),
        thousands(sets.train.len() as f64),
        thousands(sets.test.len() as f64),
        compute.simd(),
        compute.threads(),
        if compute.threads() == 1 { "" } else { "s" },
    )
}

/// A run at its end.
struct Outcome {
    vae: Vae,
    objective: Objective,
    epochs: Vec<Epoch>,
    tested: Evaluation,
    warnings: Vec<String>,
    /// Training images over training time, over all epochs.
    images_per_second: f64,
}

fn run_epochs(
    mut trainer: Trainer,
    args: &args::Train,
    sets: &Sets,
    compute: &Compute,
) -> Result<Outcome> {
    let Options { objective, augmentation, seed, batch, accumulate, .. } = *trainer.options();
    let (train, test) = (sets.train_part(), sets.test_part());
    let testing = EvaluationOptions { objective, augmentation, seed };
    let all = args.course.epochs;
    let steps = train.row_count().div_ceil(batch.saturating_mul(accumulate)) * all;
    let bar = progress_bar(steps as u64, args.quiet);
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut training_time = Duration::ZERO;
    let mut last = None;

    for number in 1..=all {
        bar.set_message(format!("epoch {number}/{all}"));
        let began = Instant::now();
        let trained = trainer.epoch(&train, |_| bar.inc(1))?;
        let time = began.elapsed();
        training_time += time;
        let tested = trainer.vae().evaluate(compute, &test, &testing)?;
        trainer.observe(tested.loss);
        let epoch = Epoch {
            epoch: number,
            train_loss: trained.loss,
            train_reconstruction: trained.reconstruction,
            train_kl: trained.kl,
            test_loss: tested.loss,
            test_reconstruction: tested.reconstruction,
            test_kl: tested.kl,
            test_active_units: tested.active_units(),
            beta: trained.beta,
            learning_rate: trained.learning_rate,
            images_per_second: rate(trained.rows, time),
        };
        if !args.quiet {
            bar.suspend(|| say(&line(&epoch, all)))?;
        }
        epochs.push(epoch);
        last = Some(tested);
    }
    bar.finish_and_clear();
    let images_per_second = rate(train.row_count() * all, training_time);
    let tested = last.expect("at least one epoch");
    let seen = sets.test_data().part(sets.first_of_test(diagnosis::ROWS));
    let parts = trainer.vae().decompose(compute, &seen, &testing)?;
    let warnings = diagnosis::warnings(&tested, &parts);
    Ok(Outcome { vae: trainer.into_vae(), objective, epochs, tested, warnings, images_per_second })
}

/// Rows a second, to a tenth.
fn rate(rows: usize, time: Duration) -> f64 {
    (10.0 * rows as f64 / time.as_secs_f64().max(1e-9)).round() / 10.0
}

fn line(epoch: &Epoch, epochs: usize) -> String {
    format!(
        "epoch {:>width$}/{epochs}: loss {:.2} in training, {:.2} in the test \
         (reconstruction {:.2}, KL {:.2}), {} images/s",
        epoch.epoch,
        epoch.train_loss,
        epoch.test_loss,
        epoch.test_reconstruction,
        epoch.test_kl,
        thousands(epoch.images_per_second),
        width = epochs.to_string().len(),
    )
}

/// On standard error, and only where that is a terminal.
fn progress_bar(steps: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}%, {eta} left")
        .expect("a template that indicatif knows");
    ProgressBar::new(steps).with_style(style)
}

/// All the files: written first, the model foremost, then given their names.
fn write(
    folder: &Folder,
    outcome: &Outcome,
    sets: &Sets,
    args: &args::Train,
    shape: [usize; 2],
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
    let mut inputs = sets.test_data().numbers(shown.clone());
    let conditions = sets.test_data().conditions(shown);
    let conditions = conditions.as_ref().map(|c| c.view());
    let mut outputs = generate::reconstructions(vae, compute, inputs.view(), conditions)?;
    if is_signed(vae.config().likelihood(), sets.data.signed) {
        [&mut samples, &mut inputs, &mut outputs].into_iter().for_each(pictures::from_signed);
    }
    let samples = pictures::grid(samples.view(), shape, columns);
    let reconstructions = pictures::pairs(inputs.view(), outputs.view(), shape);

    let notes = notes(outcome, sets, args, compute)?;
    let mut files = Staged::default();
    let [model, csv, drawn, generated, reconstructed] = FILES.map(|name| folder.join(name));
    files.add_by_name(&model, |name| vae.save_with(name, &notes))?;
    files.add(&csv, |f| history::write_csv(&outcome.epochs, f))?;
    files.add(&generated, |f| pictures::write_png(&samples, f))?;
    files.add(&reconstructed, |f| pictures::write_png(&reconstructions, f))?;
    files.add(&drawn, |f| chart::write_png(&outcome.epochs, title(&outcome.objective), f))?;
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
        let scores = vae.score(compute, &Every { rows: &train, every })?;
        Quantiles::of(scores.negative_elbo().collect())
    };
    let training = TrainingNotes {
        objective: outcome.objective,
        seed: args.course.seed,
        rows: train.row_count(),
        epoch: outcome.epochs.len(),
        history: outcome.epochs.clone(),
        kl_per_dimension: outcome.tested.kl_per_dimension.clone(),
        mu_variance: outcome.tested.mu_variance.clone(),
        scores,
    };
    Ok(Notes { data: DataNotes::default(), training: Some(training) })
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

/// What the loss is, over its chart.
fn title(objective: &Objective) -> &'static str {
    match objective.penalty {
        Penalty::Kl
            if *objective
                == Objective { reduction: objective.reduction, ..Objective::default() } =>
        {
            "Loss (negative ELBO)"
        }
        Penalty::Kl => "Loss (reconstruction + β × KL)",
        Penalty::FreeBits { .. } => "Loss (with free bits)",
        Penalty::Capacity { .. } => "Loss (with a capacity)",
        Penalty::TotalCorrelation { .. } => "Loss (β-TCVAE)",
        Penalty::Importance { .. } => "Loss (importance-weighted)",
        _ => "Loss",
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    epochs: usize,
    train_loss: f64,
    test_loss: f64,
    test_reconstruction: f64,
    test_kl: f64,
    active_units: usize,
    collapsed_units: usize,
    warnings: &'a [String],
    images_per_second: f64,
    seconds: f64,
    model: String,
}

fn report(outcome: &Outcome, model: &Path, args: &args::Train, time: Duration) -> Result<()> {
    let Some(last) = outcome.epochs.last() else { return Ok(()) };
    if args.json {
        let report = Report {
            epochs: outcome.epochs.len(),
            train_loss: last.train_loss,
            test_loss: last.test_loss,
            test_reconstruction: last.test_reconstruction,
            test_kl: last.test_kl,
            active_units: outcome.tested.active_units(),
            collapsed_units: outcome.tested.collapsed_units(),
            warnings: &outcome.warnings,
            images_per_second: outcome.images_per_second,
            seconds: time.as_secs_f64(),
            model: model.display().to_string(),
        };
        return crate::output::say_json(&report);
    }
    let (name, value) = bound(outcome.vae.config().likelihood(), &outcome.objective, last);
    say(&format!(
        "test {name}: {value:.2} nats per example (reconstruction {:.2}, KL {:.2}), {} images/s, {:.1} s",
        last.test_reconstruction,
        last.test_kl,
        thousands(outcome.images_per_second),
        time.as_secs_f64(),
    ))?;
    say(&format!("in {}: {}", args.out.display(), FILES.join(", ")))?;
    outcome.warnings.iter().try_for_each(|warning| say(&format!("warning: {warning}")))
}

/// What bounds the log-likelihood of the test data from below, where the output has one.
fn bound(likelihood: Likelihood, objective: &Objective, last: &Epoch) -> (String, f64) {
    let elbo = -(last.test_reconstruction + last.test_kl);
    match (likelihood, objective.penalty) {
        (Likelihood::SquaredError | Likelihood::TanhSquaredError, _) => {
            ("loss".to_owned(), last.test_loss)
        }
        (Likelihood::WeightedBernoulli { .. }, _) => ("loss".to_owned(), last.test_loss),
        (_, Penalty::Importance { samples, .. }) => {
            (format!("bound of {samples} samples"), -last.test_loss)
        }
        _ => ("ELBO".to_owned(), elbo),
    }
}
