//! File names of a run, none of which may be one that it reads.

use super::options::TrainOptions;
use crate::failure::Result;
use crate::model;
use crate::output::Inputs;
use std::fs;
use std::path::Path;

pub const MODEL: &str = "model.safetensors";
pub const CHECKPOINT: &str = "checkpoint.safetensors";
pub const RUN: &str = "run.toml";
pub const HISTORY_LINES: &str = "history.jsonl";
/// The same during the run; that of an older run stays until this one is over.
pub const HISTORY_SO_FAR: &str = "history.jsonl.part";
pub const HISTORY: &str = "history.csv";
pub const LOSS: &str = "loss.png";
pub const SAMPLES: &str = "samples.png";
pub const RECONSTRUCTIONS: &str = "reconstructions.png";

/// Names of all files that a run of any kind may write.
pub const ALL: [&str; 9] = [
    MODEL,
    CHECKPOINT,
    RUN,
    HISTORY_LINES,
    HISTORY_SO_FAR,
    HISTORY,
    LOSS,
    SAMPLES,
    RECONSTRUCTIONS,
];

/// Beginnings of the lines of `run.toml` that name files or directories.
pub const PATHS: [&str; 7] = [
    "data = ",
    "validation = ",
    "test = ",
    "labels = ",
    "validation-labels = ",
    "test-labels = ",
    "init = ",
];

/// Returns the names of the files of a finished run. Rows of a table are not drawn as images.
pub fn of_finished(is_table: bool) -> Vec<&'static str> {
    let pictures: &[_] = if is_table { &[] } else { &[SAMPLES, RECONSTRUCTIONS] };
    [&[MODEL, HISTORY, HISTORY_LINES, RUN, LOSS], pictures, &[CHECKPOINT]].concat()
}

/// Returns an error if the run would replace or remove a file that it reads.
pub fn check_inputs(args: &TrainOptions) -> Result<()> {
    let data = &args.data;
    let init = args.source.init.as_deref().map(model::file_of);
    let inputs = Inputs::new([
        ("--data", data.data.as_ref()),
        ("--validation", data.validation.as_ref()),
        ("--test", data.test.as_ref()),
        ("--labels", data.labels.as_ref()),
        ("--validation-labels", data.validation_labels.as_ref()),
        ("--test-labels", data.test_labels.as_ref()),
        ("--config", args.source.config.as_ref()),
        ("--init", init.as_ref().filter(|_| args.stopping.resume.is_none())),
    ])?;
    inputs.expect_none_around("--out", &args.out)?;
    ALL.iter().try_for_each(|name| inputs.expect_none_is("--out", &args.out.join(name)))
}

/// Removes the files of earlier runs, except those that this run has written.
pub fn remove_others(folder: &Path, written: &[&str]) {
    for name in ALL.iter().filter(|name| !written.contains(name)) {
        // If this fails, an old file remains beside the new ones, which are complete.
        let _ = fs::remove_file(folder.join(name));
    }
}
