//! Memory of the machine, checked before a large allocation.
//!
//! # Rule
//! A model, a workspace or a table that needs more bytes than the machine has (or the control group
//! that the process runs in), or more than the allocator grants in one piece, is refused with
//! [`Error::Memory`] before any of it is allocated. Without the check, Linux would grant the addresses
//! and end the process when it writes to them. Memory that other programs use at the moment does not
//! count: whether a model is accepted depends on the machine alone.

use crate::error::{Error, Result};

/// Bytes below which nothing is checked.
const SMALL: u64 = 64 << 20;

/// Returns an error if the machine does not have `needed` bytes.
pub(crate) fn expect_memory(
    needed: u64,
    what: impl FnOnce() -> String,
    remedy: &'static str,
) -> Result<()> {
    if needed < SMALL {
        return Ok(());
    }
    let refused = |available| Err(Error::Memory { what: what(), needed, available, remedy });
    match machine_bytes() {
        Some(bytes) if needed > bytes => refused(Some(bytes)),
        _ if !is_granted(needed) => refused(None),
        _ => Ok(()),
    }
}

/// Returns `true` if the allocator grants so many bytes in one piece. Nothing is written to them.
fn is_granted(bytes: u64) -> bool {
    let mut piece = Vec::<u8>::new();
    let granted = usize::try_from(bytes).is_ok_and(|n| piece.try_reserve_exact(n).is_ok());
    // The allocation must not be optimized out.
    std::hint::black_box(&piece);
    granted
}

/// Bytes of the machine or, if that is less, of the control group of the process; `None` where neither
/// is known.
fn machine_bytes() -> Option<u64> {
    let file = |path| std::fs::read_to_string(path).ok();
    // `MemTotal:       16384256 kB`
    let machine = file("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    // Version 2 of control groups, and version 1; `max` stands for no limit.
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.into_iter().filter_map(|path| file(path)?.trim().parse::<u64>().ok());
    group.chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_machine_has_with_the_figure() {
        let check = |needed| expect_memory(needed, || "a test".to_owned(), "use less");
        check(0).unwrap();
        check(SMALL).unwrap();
        for needed in [1 << 60, u64::MAX] {
            let message = check(needed).unwrap_err().to_string();
            let figure = format!("a test needs {:.1} GB of memory, ", needed as f64 / 1e9);
            assert!(message.starts_with(&figure) && message.ends_with("; use less"), "{message}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn knows_the_memory_of_this_machine() {
        let bytes = machine_bytes().unwrap();
        assert!((1 << 26..1 << 50).contains(&bytes), "{bytes}");
    }
}
