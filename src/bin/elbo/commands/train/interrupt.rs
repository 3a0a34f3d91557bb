//! Ctrl-C: the step is finished first.

use crate::failure::{Failure, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt (or a polite request to terminate) is noted; a second one ends the process at
/// once.
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Failure::INTERRUPTED);
        }
    })
    .map_err(|error| Failure::Run(format!("cannot listen to Ctrl-C: {error}")))
}

/// Whether there was one.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
