//! Lines on standard error.

use std::io::{self, Write};

/// Standard error, for notes that `--quiet` silences and for warnings.
#[derive(Clone, Copy)]
pub struct Console {
    pub quiet: bool,
    /// Not even warnings: another rank prints them.
    pub silent: bool,
}

impl Console {
    /// Prints a line unless the command is quiet.
    pub fn note(self, line: &str) {
        if !self.quiet && !self.silent {
            // An error is ignored: without standard error nobody can read about it.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Prints warnings, if there are any.
    pub fn warn_all(self, warnings: impl IntoIterator<Item = String>) {
        warnings.into_iter().for_each(|warning| self.warn(&warning));
    }

    /// Prints a warning.
    pub fn warn(self, line: &str) {
        if !self.silent {
            let _ = writeln!(io::stderr(), "warning: {line}");
        }
    }
}
