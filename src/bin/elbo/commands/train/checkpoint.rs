//! `checkpoint.safetensors`: the state of a run, in one file.
//!
//! The library's part holds the weights, the moments, the options and the position in the data; the tool's part
//! holds the history and the command-line options. The file is written whole or not at all, so a run that is
//! killed resumes from its last checkpoint. A finished run leaves its last state, to be trained further.

use super::files::{CHECKPOINT, MODEL, RUN};
use super::options::{TrainOptions, whole_epochs};
use crate::data::DataDescription;
use crate::data::train_test::TrainTestSplit;
use crate::failure::{Failure, Result};
use crate::model::history::{self, EpochRecord};
use crate::model::{ModelMetadata, TrainingMetadata};
use crate::options::values::span;
use crate::output::{OutputDirectory, Staged};
use crate::text::{counted, quoted, thousands};
use elbo::Compute;
use elbo::train::{Options, Trainer};
use elbo::vae::{Objective, Vae};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::path::Path;

/// Version of the tool's part, to be raised when an older one would be misread. Files without a version come from
/// before there was one; their options had other names.
const VERSION: u64 = 1;

/// A run that can go on.
pub struct Checkpoint {
    pub trainer: Trainer,
    pub state: RunState,
}

/// The tool's part of a checkpoint: the metadata of a model, and the state of the run.
#[derive(Serialize, Deserialize)]
struct CheckpointMetadata {
    #[serde(flatten)]
    model: ModelMetadata,
    run: RunState,
}

/// State of a run beside its trainer.
#[derive(Clone, Serialize, Deserialize)]
pub struct RunState {
    /// Version of this layout.
    version: u64,
    /// The options, in the format of `run.toml`.
    pub settings: String,
    /// True after the last epoch, when all files are written.
    pub finished: bool,
    /// Completed epochs.
    #[serde(with = "history::stored")]
    pub history: Vec<EpochRecord>,
    /// Training time of all completed epochs.
    pub training_seconds: f64,
    /// Training time of the current epoch.
    pub epoch_seconds: f64,
    /// Metadata of the model after the last epoch, without a history.
    #[serde(skip)]
    pub last: Option<TrainingMetadata>,
    /// Order of the columns, which is that of the model of `--init`.
    #[serde(skip)]
    pub columns: Vec<String>,
    /// The objective and the steps of an epoch, which say from which epoch on the objective is final.
    #[serde(skip)]
    objective: Objective,
    #[serde(skip)]
    steps_per_epoch: u64,
    train_rows: usize,
    #[serde(rename = "test_rows")]
    validation_rows: usize,
    /// Fingerprint of the data.
    fingerprint: u64,
}

impl RunState {
    pub fn new(split: &TrainTestSplit, options: &Options, settings: &str) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            settings: settings.to_owned(),
            finished: false,
            history: Vec::new(),
            training_seconds: 0.0,
            epoch_seconds: 0.0,
            last: None,
            columns: split.description().columns,
            objective: options.objective,
            steps_per_epoch: steps_of_an_epoch(options, split.train.len()),
            train_rows: split.train.len(),
            validation_rows: split.validation.rows.len(),
            fingerprint: split.fingerprint()?,
        })
    }

    /// Returns the state after the last epoch.
    pub fn as_finished(&self) -> Self {
        Self { finished: true, ..self.clone() }
    }

    /// Returns the epoch of the lowest validation loss, the first of several, among those after which the weight
    /// of the KL and the capacity are final: the models before were trained with smaller ones.
    pub fn best_epoch(&self) -> Option<usize> {
        let is_final = |record: &&EpochRecord| {
            let epoch = record.epoch as u64;
            self.objective.is_final_at(epoch * self.steps_per_epoch, epoch)
        };
        history::best(self.history.iter().filter(is_final)).map(|epoch| epoch.epoch)
    }

    /// Returns true if as many epochs have passed without a lower validation loss.
    pub fn out_of_patience(&self, patience: Option<usize>) -> bool {
        let since = |best| self.history.len() - best;
        patience.zip(self.best_epoch()).is_some_and(|(patience, best)| since(best) >= patience)
    }

    /// Returns an error if the run cannot go on with these options; takes them over otherwise.
    pub fn go_on(&mut self, args: &TrainOptions, options: &Options) -> Result<()> {
        let per_epoch = steps_of_an_epoch(options, self.train_rows);
        let whole = |length| whole_epochs(length, per_epoch);
        let (epochs, done) = (whole(args.length.epochs), self.history.len());
        let settings: toml::Table = self.settings.parse().unwrap_or_default();
        let before = match settings.get("epochs") {
            Some(toml::Value::Integer(epochs)) => *epochs as usize,
            Some(toml::Value::String(length)) => span(length).map(whole).unwrap_or_default(),
            _ => 0,
        };
        let wrong = |reason: String| Err(Failure::Usage(reason));
        if self.finished && self.out_of_patience(args.stopping.patience.map(whole)) {
            return wrong(format!(
                "{}: the run stopped early, at epoch {done}; train it further with a larger --patience, or with \
                 --patience none",
                args.out.display()
            ));
        }
        let bound = args.bound_to_epochs();
        let config = quoted(&args.out.join(RUN));
        let init = format!("--init {}", quoted(&args.out.join(MODEL)));
        if !self.finished && epochs < done {
            let remedy = match bound {
                // Any other number would be refused in turn.
                Some(_) => String::new(),
                None => format!(", or with --epochs {done} or more"),
            };
            return wrong(format!(
                "--epochs {epochs}: {} of {} are done already in {}; resume the run without --epochs{remedy}",
                thousands(done as f64),
                counted(before, "epoch"),
                args.out.display()
            ));
        }
        if self.finished && epochs <= done {
            let remedy = match bound {
                // A larger --epochs would be refused in turn.
                Some(bound) => format!(
                    "{bound} spans all epochs, so more cannot be added; start a new run from its weights with \
                     --config {config} {init} and a new --out"
                ),
                None => "train it further with a larger --epochs".to_owned(),
            };
            return wrong(format!(
                "{}: the run has finished {}; {remedy}",
                args.out.display(),
                counted(done, "epoch")
            ));
        }
        if epochs != before
            && let Some(bound) = bound
        {
            return wrong(format!(
                "--epochs {epochs}: the run began with --epochs {before} and {bound}, which spans all epochs, \
                 so a run of {} would have differed from its first step on; start a new run with \
                 --config {config} --epochs {epochs} and a new --out, from the weights of this one with {init}",
                counted(epochs, "epoch")
            ));
        }
        self.settings.clone_from(&args.settings);
        self.finished = false;
        Ok(())
    }

    /// Returns the metadata with the history so far.
    pub fn with_history(&self, notes: &TrainingMetadata) -> TrainingMetadata {
        TrainingMetadata { history: history::timeless(&self.history), ..notes.clone() }
    }

    /// Checks that the data set has not changed since the run started.
    pub fn expect_same(&self, split: &TrainTestSplit) -> Result<()> {
        let found = (split.train.len(), split.validation.rows.len());
        if found == (self.train_rows, self.validation_rows) {
            if split.fingerprint()? == self.fingerprint {
                return Ok(());
            }
            return Err(Failure::Run(format!(
                "{}: the data have changed since the run started: the file was edited or replaced",
                split.data.name
            )));
        }
        Err(Failure::Run(format!(
            "{}: {} training and {} validation rows; the run started with {} and {}: are these the same \
             files?",
            split.data.name, found.0, found.1, self.train_rows, self.validation_rows
        )))
    }
}

impl Checkpoint {
    pub fn read(folder: &Path, compute: &Compute) -> Result<Self> {
        let path = folder.join(CHECKPOINT);
        let (trainer, notes) = Trainer::resume_with::<Value>(&path, compute.clone())
            .map_err(|error| unreadable(&path, error))?;
        let CheckpointMetadata { model, run } = metadata(&path, notes)?;
        let state = RunState {
            last: model.training,
            columns: model.data.columns,
            objective: trainer.options().objective,
            steps_per_epoch: steps_of_an_epoch(trainer.options(), run.train_rows),
            ..run
        };
        Ok(Self { trainer, state })
    }
}

pub fn steps_of_an_epoch(options: &Options, rows: usize) -> u64 {
    rows.div_ceil(options.batch.saturating_mul(options.accumulate)) as u64
}

/// Writes a checkpoint, replacing an older one.
pub fn write(
    folder: &OutputDirectory,
    trainer: &Trainer,
    state: &RunState,
    data: DataDescription,
) -> Result<()> {
    let mut files = Staged::default();
    add(&mut files, folder, trainer, state, data)?;
    files.commit()
}

/// Adds a checkpoint to files that appear together.
pub fn add(
    files: &mut Staged,
    folder: &OutputDirectory,
    trainer: &Trainer,
    state: &RunState,
    data: DataDescription,
) -> Result<()> {
    let training = state.last.as_ref().map(|last| state.with_history(last));
    let model = ModelMetadata { data, training };
    let notes = CheckpointMetadata { model, run: state.clone() };
    files.add_by_name(&folder.join(CHECKPOINT), |name| trainer.save_checkpoint_with(name, &notes))
}

/// Returns the options of the run whose checkpoint is in a directory, with the default that depends on others.
pub fn saved_settings(folder: &Path) -> Result<String> {
    let path = folder.join(CHECKPOINT);
    let (_, notes) = Vae::load_with::<Value>(&path).map_err(|error| unreadable(&path, error))?;
    let mut settings = metadata(&path, notes)?.run.settings;
    let given = |name: &str| settings.lines().any(|line| line.starts_with(&format!("{name} = ")));
    // Another --patience must not change which model is kept.
    match (given("keep"), given("patience")) {
        (true, _) => {}
        (false, true) => settings.push_str("keep = \"best\"\n"),
        (false, false) => settings.push_str("keep = \"last\"\n"),
    }
    Ok(settings)
}

/// Checks the version of the tool's part before its fields.
fn metadata(path: &Path, notes: Option<Value>) -> Result<CheckpointMetadata> {
    let wrong = |reason: String| Failure::Run(format!("{}: {reason}", path.display()));
    let run = notes.as_ref().and_then(|notes| notes.get("run")).ok_or_else(|| {
        wrong("a checkpoint that `elbo train` did not write: it does not name its data".to_owned())
    })?;
    let version = run.get("version").and_then(Value::as_u64).unwrap_or(0);
    if version != VERSION {
        let age = if version < VERSION { "an earlier" } else { "a later" };
        return Err(wrong(format!(
            "a checkpoint of version {version}, which {age} version of elbo wrote; this one resumes version \
             {VERSION}. Finish the run with the elbo that began it, or start a new run from its weights with \
             --init {}",
            quoted(path)
        )));
    }
    serde_json::from_value(notes.unwrap_or_default())
        .map_err(|error| wrong(format!("a damaged checkpoint: {error}")))
}

fn unreadable(path: &Path, error: elbo::Error) -> Failure {
    let expected = "expected the directory of a run of `elbo train`";
    Failure::Run(match error {
        elbo::Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            format!("{}: no checkpoint; {expected}", path.display())
        }
        elbo::Error::Io { source, .. } => {
            format!("{}: cannot read: {source}; {expected}", path.display())
        }
        error => format!("{error}; {expected}"),
    })
}
