//! File names of a run.

pub const MODEL: &str = "model.safetensors";
pub const RUN: &str = "run.toml";
pub const HISTORY_LINES: &str = "history.jsonl";
/// The same during the run; that of an older run stays until this one is over.
pub const HISTORY_SO_FAR: &str = "history.jsonl.part";
pub const HISTORY: &str = "history.csv";
pub const LOSS: &str = "loss.png";
pub const SAMPLES: &str = "samples.png";
pub const RECONSTRUCTIONS: &str = "reconstructions.png";

/// Returns the names of all files of a run. Rows of a table are not drawn as images.
pub fn all(is_table: bool) -> Vec<&'static str> {
    let pictures: &[_] = if is_table { &[] } else { &[SAMPLES, RECONSTRUCTIONS] };
    [&[MODEL, HISTORY, HISTORY_LINES, RUN, LOSS], pictures].concat()
}
