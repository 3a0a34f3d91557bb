//! `elbo train`: training a model.

mod checkpoint;
mod divergence;
mod earlier_run;
mod evaluation;
mod files;
mod history_log;
mod init;
mod interrupt;
mod options;
mod outcome;
mod outputs;
mod progress;
mod report;
mod run;
mod warnings;

pub use checkpoint::saved_settings;
pub use options::{Preset, TrainOptions};

use crate::data::ImageShape;
use crate::data::train_test::{SplitOptions, TrainTestSplit};
use crate::failure::Result;
use crate::output::{Console, OutputDirectory};
use crate::ranks::{Ranks, hash};
use crate::text::{counted, thousands};
use checkpoint::{Checkpoint, RunState, steps_of_an_epoch};
use elbo::Compute;
use elbo::train::{Options, Trainer};
use elbo::vae::Vae;
use evaluation::LeftOutRows;
use init::InitialModel;
use options::whole_epochs;
use run::TrainingRun;
use std::iter;
use std::time::Instant;

pub fn run(args: &TrainOptions, compute: &Compute, console: Console, ranks: &Ranks) -> Result<()> {
    let started = Instant::now();
    let ready = ranks.agree(prepare(args, compute, console, ranks))?;
    let Ready { folder, split, trainer, state, epochs, per_epoch, shape, other_scaling } = ready;
    expect_same(&split, args, ranks)?;
    let trainer = ranks.agree(trainer.with_ranks(ranks.communicator()).map_err(Into::into))?;
    let train = split.train_view();
    console.note(&headline(&trainer, &split, compute, ranks));
    let mut warnings: Vec<String> =
        other_scaling.into_iter().chain(split.warnings().into_iter().cloned()).collect();
    console.warn_all(warnings.clone());
    if !split.trimmed.is_empty() {
        console.note(&trimmed_rows(&split));
    }
    if split.constant > 0 {
        console.note(&constant_features(&split));
    }
    let unfinished = warnings::unfinished(trainer.options(), epochs as u64, per_epoch);
    console.warn_all(unfinished.clone());
    warnings.extend(unfinished);
    ranks.agree(interrupt::listen())?;
    let run = TrainingRun {
        args,
        epochs,
        patience: args.stopping.patience.map(|span| whole_epochs(span, per_epoch)),
        split: &split,
        compute,
        console,
        folder: &folder,
        ranks,
        trainer,
        state,
        has_checkpoint: args.stopping.resume.is_some(),
        left_out: LeftOutRows::default(),
    };
    let outcome =
        run.run(&train, |outcome| outputs::write(&folder, outcome, &split, args, shape, compute))?;
    ranks.first(|| report::report(&outcome, &warnings, &split, args, console, started.elapsed()))
}

/// A run before its first step.
struct Ready {
    folder: OutputDirectory,
    split: TrainTestSplit,
    trainer: Trainer,
    state: RunState,
    epochs: usize,
    per_epoch: u64,
    shape: ImageShape,
    /// Warning about a scaling that is not that of the model of `--init`.
    other_scaling: Option<String>,
}

fn prepare(
    args: &TrainOptions,
    compute: &Compute,
    console: Console,
    ranks: &Ranks,
) -> Result<Ready> {
    // Everything that can be wrong with the command line alone, before a file is read.
    args.data.check()?;
    let likelihood = args.likelihood.likelihood();
    let mut options = options(args)?;
    args.notes.iter().for_each(|note| console.note(note));
    files::check_inputs(args)?;
    let folder = if ranks.is_first() {
        let mut folder = OutputDirectory::prepare(&args.out, &files::ALL)?;
        folder.lock()?;
        earlier_run::check(args)?;
        folder.sweep(&files::ALL);
        folder
    } else {
        OutputDirectory::of_other(&args.out)
    };
    let resumed = match &args.stopping.resume {
        None => None,
        Some(directory) => {
            let mut checkpoint = Checkpoint::read(directory, compute)?;
            checkpoint.state.go_on(args, &options)?;
            Some(checkpoint)
        }
    };

    let source = match &args.source.init {
        Some(path) if resumed.is_none() => Some(InitialModel::open(path)?),
        _ => None,
    };
    let of_source = source.as_ref().map(InitialModel::columns);
    let of_checkpoint = resumed.as_ref().map(|checkpoint| &checkpoint.state.columns[..]);
    let columns = of_source.or(of_checkpoint).unwrap_or_default();
    let split = args.data.split(args.length.seed, args.selects_by_validation());
    let split = SplitOptions { columns: columns.to_vec(), ..split };
    let split = TrainTestSplit::read(&split, likelihood)?;
    let other_scaling = source.as_ref().map(|source| source.check(&split)).transpose()?.flatten();
    let per_epoch = steps_of_an_epoch(&options, split.train.len());
    let epochs = whole_epochs(args.length.epochs, per_epoch);
    let steps = per_epoch.saturating_mul(epochs as u64);
    options.objective = args.objective.by_steps(options.objective, steps);
    let features = split.data.width();
    let shape = args.data.reading.image.of(features, split.data.image)?;
    let config = args.model.config(likelihood, features, split.classes())?;
    options.validate_for(&config)?;
    let (trainer, state) = match resumed {
        None => {
            let vae = match &source {
                None => Vae::new(config, args.length.seed),
                Some(source) => init::from_weights(source, config)?,
            };
            let state = RunState::new(&split, &options, &args.settings)?;
            (Trainer::new(vae, options, compute.clone())?, state)
        }
        Some(Checkpoint { trainer, state }) => {
            state.expect_same(&split)?;
            (trainer, state)
        }
    };
    Ok(Ready { folder, split, trainer, state, epochs, per_epoch, shape, other_scaling })
}

/// Checks that all ranks have the same options and the same data.
fn expect_same(split: &TrainTestSplit, args: &TrainOptions, ranks: &Ranks) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    // Each machine may have the files in a directory of its own.
    let is_path = |line: &&str| files::PATHS.iter().any(|name| line.starts_with(name));
    let settings: Vec<&str> = args.settings.lines().filter(|line| !is_path(line)).collect();
    ranks.expect_same(hash(settings.join("\n").as_bytes()), || {
        "its options differ from those of rank 0".to_owned()
    })?;
    let data = ranks.agree(split.fingerprint_of_all())?;
    ranks.expect_same(data, || {
        "its data differ from those of rank 0; use the same files on every rank".to_owned()
    })
}

/// Checks options for data of so many features, as a run does.
#[cfg(test)]
pub fn check(args: &TrainOptions, features: usize) -> Result<()> {
    args.data.check()?;
    let config = args.model.config(args.likelihood.likelihood(), features, 0)?;
    Ok(options(args)?.validate_for(&config)?)
}

fn options(args: &TrainOptions) -> Result<Options> {
    let options = Options {
        batch: args.length.batch,
        objective: args.objective.objective()?,
        optimizer: args.optimizer.optimizer()?,
        seed: args.length.seed,
        accumulate: args.optimizer.accumulate,
        shards: args.optimizer.shards,
        clip: args.optimizer.clip(),
        schedule: args.optimizer.schedule(args.length.epochs),
        augmentation: args.data.augment.augment,
    };
    options.validate()?;
    Ok(options)
}

fn trimmed_rows(split: &TrainTestSplit) -> String {
    format!(
        "{} left out of training, the farthest from the others (--trim)",
        counted(split.trimmed.len(), "row")
    )
}

fn constant_features(split: &TrainTestSplit) -> String {
    let features = if split.constant == 1 { "feature is" } else { "features are" };
    format!(
        "{} {features} constant in the training rows; their scaling only subtracts the constant",
        thousands(split.constant as f64)
    )
}

fn headline(trainer: &Trainer, split: &TrainTestSplit, compute: &Compute, ranks: &Ranks) -> String {
    let config = trainer.vae().config();
    let conditions = match config.conditions() {
        0 => String::new(),
        classes => format!(", {}", counted(classes, "class")),
    };
    let resumed = match trainer.steps() {
        0 => String::new(),
        steps => format!(", resumed after step {}", thousands(steps as f64)),
    };
    let validation = match split.tests_on_validation {
        true => None,
        false => Some((split.validation.rows.len(), "validation")),
    };
    let test = split.test_rows().map(|rows| (rows, "test"));
    let parts: Vec<(usize, &str)> =
        iter::once((split.train.len(), "train")).chain(validation).chain(test).collect();
    let (last, others) = parts.split_last().expect("the training rows");
    let others: String =
        others.iter().map(|(rows, name)| format!("{} {name}, ", thousands(*rows as f64))).collect();
    let rows = format!("{others}{}", counted(last.0, &format!("{} row", last.1)));
    let ranks = match ranks.count() {
        1 => String::new(),
        count => format!(" on each of {count} ranks"),
    };
    format!(
        "{config} ({}{conditions}), {rows}, {} on {}{ranks}{resumed}",
        counted(config.parameters(), "parameter"),
        compute.simd(),
        counted(compute.threads(), "thread"),
    )
}
