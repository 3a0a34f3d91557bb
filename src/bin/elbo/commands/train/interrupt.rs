//! Signals: the step that is under way is finished before the run ends.

use crate::failure::{Failure, Result};
#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The signal that was received; 0 for none.
static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Notes Ctrl-C (SIGINT), SIGTERM and, if the terminal hangs up, SIGHUP from now on; a second one ends the process
/// at once.
pub fn listen() -> Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    let second = Arc::new(AtomicBool::new(false));
    let register = |signal| {
        // In this order: the first signal sets the flag after the shutdown has looked at it.
        flag::register_conditional_shutdown(signal, Failure::signal_code(signal), second.clone())?;
        flag::register(signal, second.clone())?;
        flag::register_usize(signal, received.clone(), signal as usize)
    };
    #[cfg(unix)]
    let hang_up = (!ignores_hang_up()).then_some(SIGHUP);
    #[cfg(not(unix))]
    let hang_up = None;
    [SIGINT, SIGTERM]
        .into_iter()
        .chain(hang_up)
        .try_for_each(|signal| register(signal).map(drop))
        .map_err(|error| Failure::Run(format!("cannot listen for signals: {error}")))
}

/// Returns true if the process was started to ignore SIGHUP, as `nohup` does for a run that outlives its terminal.
/// Where the system does not tell, SIGHUP is left as it is.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

/// Returns the signal that was received.
pub fn requested() -> Option<i32> {
    let signal = RECEIVED.get()?.load(Ordering::Relaxed);
    (signal != 0).then_some(signal as i32)
}
