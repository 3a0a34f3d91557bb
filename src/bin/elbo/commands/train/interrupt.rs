//! Signals: the step that is under way is finished before the run ends.

use crate::failure::{Failure, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The signal that was received; 0 for none.
static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Notes Ctrl-C (SIGINT) and SIGTERM from now on; a second one ends the process at once. SIGHUP is left alone,
/// because `nohup` ignores it for a run that outlives its terminal.
pub fn listen() -> Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    let second = Arc::new(AtomicBool::new(false));
    let register = |signal| {
        // In this order: the first signal sets the flag after the shutdown has looked at it.
        flag::register_conditional_shutdown(signal, Failure::signal_code(signal), second.clone())?;
        flag::register(signal, second.clone())?;
        flag::register_usize(signal, received.clone(), signal as usize)
    };
    [SIGINT, SIGTERM]
        .into_iter()
        .try_for_each(|signal| register(signal).map(drop))
        .map_err(|error| Failure::Run(format!("cannot listen for signals: {error}")))
}

/// Returns the signal that was received.
pub fn requested() -> Option<i32> {
    let signal = RECEIVED.get()?.load(Ordering::Relaxed);
    (signal != 0).then_some(signal as i32)
}
