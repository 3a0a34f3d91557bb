//! `--overwrite` of the commands that write a file.

use crate::output::Target;
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub struct OverwriteOption {
    /// Replace the output if it exists
    ///
    /// Without this option, an existing file is replaced only if elbo wrote it and nobody changed it since, as a
    /// mark in figures, ONNX files and manual pages tells; tables and arrays have no place for a mark. Files that
    /// the command reads are never replaced.
    #[arg(long, help_heading = None)]
    pub overwrite: bool,
}

impl OverwriteOption {
    /// Returns the file to write.
    pub fn of<'a>(&self, path: &'a Path) -> Target<'a> {
        Target { path, overwrite: self.overwrite }
    }
}
