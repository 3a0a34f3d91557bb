//! `elbo train`.

use crate::args;
use crate::chart;
use crate::data::Data;
use crate::failure::{Failure, Result};
use crate::history::{self, Epoch, thousands};
use crate::output::{Folder, Staged, say};
use crate::pictures;
use elbo::Compute;
use elbo::optim::Adam;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Objective, Vae};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Images in `samples.png`.
const SAMPLES: usize = 64;
/// Pairs in `reconstructions.png`.
const RECONSTRUCTIONS: usize = 20;

const MODEL: &str = "model.safetensors";
/// What a run leaves.
const FILES: [&str; 5] = [MODEL, "history.csv", "loss.png", "samples.png", "reconstructions.png"];

pub fn run(args: &args::Train, compute: &Compute) -> Result<()> {
    let started = Instant::now();
    let sets = Sets::read(args)?;
    let features = sets.data.width();
    let shape = args.shape.of(features, sets.data.image)?;
    let config = Config::builder(features, args.latent)
        .hidden(&args.hidden.0)
        .build()
        .map_err(|error| Failure::Usage(format!("--hidden and --latent: {error}")))?;
    let folder = Folder::prepare(&args.out, &FILES)?;

    let training = Training::new(args, config, compute)?;
    if !args.quiet {
        say(&format!(
            "{} ({} parameters), {} rows to train on, {} to test, {} on {} thread{}",
            training.trainer.vae().config(),
            thousands(training.trainer.vae().config().parameters() as f64),
            thousands(sets.train.len() as f64),
            thousands(sets.test.len() as f64),
            compute.simd(),
            compute.threads(),
            if compute.threads() == 1 { "" } else { "s" },
        ))?;
    }
    let outcome = training.run(args, &sets)?;
    write(&folder, &outcome, &sets, args, shape, compute)?;
    report(&outcome, &folder.join(MODEL), args, started.elapsed())
}

/// What to train on, and what to test on.
struct Sets {
    data: Data,
    /// Rows of `data`.
    train: Range<usize>,
    /// Test data in a file of their own.
    other: Option<Data>,
    /// Rows of `other`, if there is one, else of `data`.
    test: Range<usize>,
}

impl Sets {
    fn read(args: &args::Train) -> Result<Self> {
        let (mut data, other) = match (&args.data, &args.test) {
            (None, _) => {
                let (train, test) = Data::sample()?;
                (train, Some(test))
            }
            (Some(data), None) => (Data::read(data)?, None),
            (Some(data), Some(test)) => (Data::read(data)?, Some(Data::read(test)?)),
        };
        let rows = data.len();
        match other {
            Some(test) => {
                test.check_width(data.width(), &data.name)?;
                Ok(Self { train: 0..rows, test: 0..test.len(), data, other: Some(test) })
            }
            None => {
                let kept = data.hold_out_a_tenth(args.seed)?;
                Ok(Self { data, train: 0..kept, other: None, test: kept..rows })
            }
        }
    }

    fn test_data(&self) -> &Data {
        self.other.as_ref().unwrap_or(&self.data)
    }
}

/// A run before it starts.
struct Training<'a> {
    trainer: Trainer,
    objective: Objective,
    compute: &'a Compute,
}

/// A run at its end.
struct Outcome {
    vae: Vae,
    epochs: Vec<Epoch>,
    /// Training images over training time, over all epochs.
    images_per_second: f64,
}

impl<'a> Training<'a> {
    fn new(args: &args::Train, config: Config, compute: &'a Compute) -> Result<Self> {
        let objective = Objective { beta: args.beta, ..Objective::default() };
        let options = Options {
            batch: args.batch,
            objective,
            optimiser: Adam { learning_rate: args.lr, ..Adam::default() }.into(),
            seed: args.seed,
        };
        let trainer = Trainer::new(Vae::new(config, args.seed), options, compute.clone())?;
        Ok(Self { trainer, objective, compute })
    }

    fn run(mut self, args: &args::Train, sets: &Sets) -> Result<Outcome> {
        let train = sets.data.part(sets.train.clone());
        let test = sets.test_data().part(sets.test.clone());
        let steps = train.row_count().div_ceil(args.batch) * args.epochs;
        let bar = progress_bar(steps as u64, args.quiet);
        let mut epochs: Vec<Epoch> = Vec::new();
        let mut training_time = Duration::ZERO;

        for number in 1..=args.epochs {
            bar.set_message(format!("epoch {number}/{}", args.epochs));
            let began = Instant::now();
            let trained = self.trainer.epoch(train.as_ref(), |_| bar.inc(1))?;
            let time = began.elapsed();
            training_time += time;
            let tested = self.trainer.vae().evaluate(
                self.compute,
                test.as_ref(),
                &self.objective,
                args.seed,
            )?;
            let epoch = Epoch {
                epoch: number,
                train_loss: trained.loss,
                train_reconstruction: trained.reconstruction,
                train_kl: trained.kl,
                test_loss: tested.loss,
                test_reconstruction: tested.reconstruction,
                test_kl: tested.kl,
                beta: args.beta,
                images_per_second: rate(trained.rows, time),
            };
            if !args.quiet {
                bar.suspend(|| say(&line(&epoch, args.epochs)))?;
            }
            epochs.push(epoch);
        }
        bar.finish_and_clear();
        let images = train.row_count() * args.epochs;
        let images_per_second = rate(images, training_time);
        Ok(Outcome { vae: self.trainer.into_vae(), epochs, images_per_second })
    }
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
    let samples = outcome.vae.sample(compute, SAMPLES, args.seed)?;
    let first = sets.test.start;
    let shown = first..sets.test.end.min(first + RECONSTRUCTIONS);
    let inputs = sets.test_data().numbers(shown);
    let outputs = outcome.vae.reconstruct(compute, inputs.view())?;
    let samples = pictures::grid(samples.view(), shape);
    let reconstructions = pictures::pairs(inputs.view(), outputs.view(), shape);

    let mut files = Staged::default();
    let [model, csv, drawn, generated, reconstructed] = FILES.map(|name| folder.join(name));
    files.add_by_name(&model, |name| outcome.vae.save(name))?;
    files.add(&csv, |f| history::write_csv(&outcome.epochs, f))?;
    files.add(&generated, |f| pictures::write_png(&samples, f))?;
    files.add(&reconstructed, |f| pictures::write_png(&reconstructions, f))?;
    files.add(&drawn, |f| chart::write_png(&outcome.epochs, f))?;
    files.commit()
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Report {
    epochs: usize,
    train_loss: f64,
    test_loss: f64,
    test_reconstruction: f64,
    test_kl: f64,
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
            images_per_second: outcome.images_per_second,
            seconds: time.as_secs_f64(),
            model: model.display().to_string(),
        };
        return crate::output::say_json(&report);
    }
    say(&format!(
        "test ELBO: {:.2} nats per example (reconstruction {:.2}, KL {:.2}), {} images/s, {:.1} s",
        -(last.test_reconstruction + last.test_kl),
        last.test_reconstruction,
        last.test_kl,
        thousands(outcome.images_per_second),
        time.as_secs_f64(),
    ))?;
    say(&format!("in {}: {}", args.out.display(), FILES.join(", ")))
}
