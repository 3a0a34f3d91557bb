//! File names of a run, and which of them may be replaced.

use super::checkpoint::saved_settings;
use super::options::TrainOptions;
use crate::failure::{Failure, Result};
use crate::model;
use crate::output::Inputs;
use crate::text::quoted;
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

/// Returns an error if the run would replace or remove a file in its directory that it did not write itself, unless
/// `--overwrite` is given.
pub fn check_earlier_run(args: &TrainOptions) -> Result<()> {
    let paths = ALL.map(|name| args.out.join(name));
    if args.overwrite || args.stopping.resume.is_some() {
        return Ok(());
    }
    let Some(taken) = paths.iter().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    let out = quoted(&args.out);
    let [checkpoint, history] = [CHECKPOINT, HISTORY].map(|name| args.out.join(name).exists());
    Err(Failure::Usage(match (checkpoint, history) {
        (true, false) => format!(
            "{}: the checkpoint of an unfinished run; resume it with `elbo train --resume {out}`, choose another \
             --out, or replace the run with --overwrite",
            args.out.join(CHECKPOINT).display()
        ),
        (true, true) => format!(
            "{}: a file of an earlier run, which would be replaced; choose another --out, replace the run with \
             --overwrite, or train it further with {}",
            taken.display(),
            way_further(&args.out)
        ),
        (false, _) => format!(
            "{}: the file exists and would be replaced; choose another --out, or replace it with --overwrite",
            taken.display()
        ),
    }))
}

/// Returns how to train a finished run further, which refuses more epochs if its options span all of them.
fn way_further(directory: &Path) -> String {
    let settings = saved_settings(directory).unwrap_or_default();
    let settings: toml::Table = settings.parse().unwrap_or_default();
    let has = |name: &str| settings.contains_key(name);
    let is_cosine = settings.get("schedule").and_then(toml::Value::as_str) == Some("cosine");
    let is_bound = is_cosine && !has("decay-over")
        || has("anneal") && !has("anneal-over")
        || has("capacity") && !has("capacity-over");
    if is_bound {
        let [run, model] = [RUN, MODEL].map(|name| quoted(&directory.join(name)));
        return format!("`elbo train --config {run} --init {model}` and another --out");
    }
    // A run that stopped early would stop again.
    let patience = if has("patience") { " --patience none" } else { "" };
    format!("`elbo train --resume {}{patience} --epochs N`", quoted(directory))
}

/// Removes the files of earlier runs, except those that this run has written.
pub fn remove_others(folder: &Path, written: &[&str]) {
    for name in ALL.iter().filter(|name| !written.contains(name)) {
        // If this fails, an old file remains beside the new ones, which are complete.
        let _ = fs::remove_file(folder.join(name));
    }
}
