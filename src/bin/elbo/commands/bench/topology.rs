//! The third-level caches and memory domains of the machine, as far as the system tells them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Third-level caches and memory domains, as a continuation of a sentence; empty if the system tells neither.
pub fn described() -> String {
    let system = Path::new("/sys/devices/system");
    let parts = [
        (third_level_caches(system), "third-level cache"),
        (memory_domains(system), "memory domain"),
    ];
    parts
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, name)| format!(", {}", crate::text::counted(count, name)))
        .collect()
}

/// The number of memory domains (NUMA nodes).
fn memory_domains(system: &Path) -> usize {
    let ranges = fs::read_to_string(system.join("node/online")).unwrap_or_default();
    ranges.trim().split(',').filter_map(range_length).sum()
}

/// The length of a range as the kernel writes it: "0-3", or "5".
fn range_length(range: &str) -> Option<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    Some(last.checked_sub(first)? + 1)
}

/// The number of third-level caches.
fn third_level_caches(system: &Path) -> usize {
    let processors = fs::read_dir(system.join("cpu")).into_iter().flatten().flatten();
    let sharers = processors.filter_map(|processor| {
        fs::read_to_string(processor.path().join("cache/index3/shared_cpu_list")).ok()
    });
    sharers.collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn counts_caches_and_domains() {
        let scratch = Scratch::new("topology");
        let system = &scratch.0;
        assert_eq!((memory_domains(system), third_level_caches(system)), (0, 0));
        for (cpu, shared) in ["0-1", "0-1", "2-3", "2-3"].iter().enumerate() {
            let cache = system.join(format!("cpu/cpu{cpu}/cache/index3"));
            fs::create_dir_all(&cache).unwrap();
            fs::write(cache.join("shared_cpu_list"), format!("{shared}\n")).unwrap();
        }
        fs::create_dir_all(system.join("cpu/cpufreq")).unwrap();
        fs::create_dir(system.join("node")).unwrap();
        fs::write(system.join("node/online"), "0-1,4\n").unwrap();
        assert_eq!((memory_domains(system), third_level_caches(system)), (3, 2));
        assert_eq!(
            ["2", "0-0", "1-0", "x", ""].map(range_length),
            [Some(1), Some(1), None, None, None]
        );
    }
}
