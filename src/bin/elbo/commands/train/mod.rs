//! `elbo train`.

mod checkpoint;
mod files;
mod history_log;
mod interrupt;
mod options;
mod outputs;
mod progress;
mod report;
mod run;
mod warnings;

pub use checkpoint::saved_settings;
pub use options::{Preset, TrainOptions};

use crate::data::train_test::TrainTestSplit;
use crate::failure::Result;
use crate::output::{Folder, say, thousands};
use checkpoint::{Checkpoint, RunState};
use elbo::Compute;
use elbo::train::{Options, Trainer};
use elbo::vae::Vae;
use run::{TrainingRun, steps_of_an_epoch};
use std::time::Instant;

pub fn run(args: &TrainOptions, compute: &Compute) -> Result<()> {
    let started = Instant::now();
    // All that the command line alone can be wrong about, before a file is read.
    args.data.check()?;
    let likelihood = args.output.likelihood()?;
    let mut options = options(args)?;
    if args.stopping.resume.is_none() {
        checkpoint::refuse_unfinished(&args.out)?;
    }

    let sets = TrainTestSplit::read(&args.data.split(args.course.seed), likelihood)?;
    let steps = steps_of_an_epoch(&options, sets.train.len()) * args.course.epochs as u64;
    options.objective = args.weight.by_steps(options.objective, steps);
    let features = sets.data.width();
    let shape = args.shape.of(features, sets.data.image)?;
    let config = args.model.config(likelihood, features, sets.classes())?;
    options.validate_for(&config)?;
    let folder = Folder::prepare(&args.out, &files::all(sets.is_table()))?;
    folder.sweep(&[&files::all(sets.is_table())[..], &[checkpoint::NAME]].concat());

    let trained = sets.train_view();
    let (trainer, state) = match &args.stopping.resume {
        None => {
            let vae = Vae::new(config, args.course.seed);
            (Trainer::new(vae, options, compute.clone())?, RunState::new(&sets, &args.settings)?)
        }
        Some(_) => {
            let Checkpoint { trainer, state } = Checkpoint::read(&args.out, compute)?;
            state.expect_same(&sets)?;
            (trainer, state)
        }
    };
    if !args.quiet {
        say(&headline(&trainer, &sets, compute))?;
    }
    if sets.constant > 0 && !args.quiet {
        say(&constant_features(&sets))?;
    }
    interrupt::listen()?;
    let run = TrainingRun { args, sets: &sets, compute, folder: &folder, trainer, state };
    let outcome = run.run(&trained)?;
    outputs::write(&folder, &outcome, &sets, args, shape, compute)?;
    checkpoint::remove(&folder)?;
    report::report(&outcome, &sets, args, started.elapsed())
}

fn options(args: &TrainOptions) -> Result<Options> {
    let epochs = args.course.epochs;
    let options = Options {
        batch: args.course.batch,
        objective: args.weight.objective(Some(&args.importance))?,
        optimizer: args.descent.optimizer()?,
        seed: args.course.seed,
        accumulate: args.descent.accumulate,
        clip: args.descent.clip()?,
        schedule: args.descent.schedule(epochs)?,
        augmentation: args.data.augment.augment,
    };
    options.validate()?;
    Ok(options)
}

fn constant_features(sets: &TrainTestSplit) -> String {
    let features = if sets.constant == 1 { "feature is" } else { "features are" };
    format!(
        "{} {features} the same in every training row; there the scaling subtracts that value alone",
        thousands(sets.constant as f64)
    )
}

fn headline(trainer: &Trainer, sets: &TrainTestSplit, compute: &Compute) -> String {
    let config = trainer.vae().config();
    let conditions = match config.conditions() {
        0 => String::new(),
        classes => format!(", {classes} classes"),
    };
    let resumed = match trainer.steps() {
        0 => String::new(),
        steps => format!(", from step {} on", thousands(steps as f64 + 1.0)),
    };
    format!(
        "{config} ({} parameters{conditions}), {} rows to train on, {} to test, {} on {} \
         thread{}{resumed}",
        thousands(config.parameters() as f64),
        thousands(sets.train.len() as f64),
        thousands(sets.test.len() as f64),
        compute.simd(),
        compute.threads(),
        if compute.threads() == 1 { "" } else { "s" },
    )
}
