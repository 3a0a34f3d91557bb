//! `history.jsonl.part`: one line per epoch, to follow a run.

use crate::failure::{Failure, Result};
use crate::model::history::{EpochRecord, write_lines};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

pub struct HistoryLog {
    path: PathBuf,
    /// Created with the first epoch: a run that fails earlier leaves an older file untouched.
    file: Option<File>,
}

impl HistoryLog {
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Appends the last epoch of a history; a new log gets all of it.
    pub fn write(&mut self, history: &[EpochRecord]) -> Result<()> {
        let cannot = |error: std::io::Error| Failure::cannot_write(&self.path, &error);
        let (file, epochs) = match &mut self.file {
            Some(file) => (file, &history[history.len().saturating_sub(1)..]),
            None => (self.file.insert(File::create(&self.path).map_err(cannot)?), history),
        };
        let mut lines = Vec::new();
        write_lines(epochs, &mut lines).expect("memory takes any lines");
        // One call: a reader never sees half a line.
        file.write_all(&lines).map_err(|error| Failure::cannot_write(&self.path, &error))
    }
}
