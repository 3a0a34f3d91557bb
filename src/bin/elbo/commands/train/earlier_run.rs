//! A run that is already in the directory of a new one.

use super::checkpoint::saved_settings;
use super::files::{ALL, CHECKPOINT, HISTORY, MODEL, RUN};
use super::options::TrainOptions;
use crate::failure::{Failure, Result};
use crate::text::quoted;
use std::path::Path;

/// Returns an error if the run would replace or remove a file in its directory that it did not write itself, unless
/// `--overwrite` is given.
pub fn check(args: &TrainOptions) -> Result<()> {
    if args.overwrite || args.stopping.resume.is_some() {
        return Ok(());
    }
    let mut paths = ALL.iter().map(|name| args.out.join(name));
    let Some(taken) = paths.find(|path| path.symlink_metadata().is_ok()) else { return Ok(()) };
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
