//! Lines on standard output.

use crate::failure::{Failure, Result};
use std::io::{self, Write};

/// Writes a line to standard output.
pub fn say(line: &str) -> Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// Writes to standard output. A closed pipe, as with `| head`, is not an error.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one line of JSON to standard output.
pub fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let line = serde_json::to_string(value);
    say(&line.map_err(|error| Failure::Run(format!("cannot write JSON: {error}")))?)
}
