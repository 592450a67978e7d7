//! How much memory maps may take.

use std::fs;
use std::path::Path;

/// Most that maps take, however large the machine is, in bytes.
const MOST: u64 = 32 << 20;

/// Finds the control group of a process, or our own, if its limit makes maps smaller than the machine
/// would; returns it with the limit in bytes.
pub fn tight_group(process: Option<u32>) -> Option<(String, u64)> {
    let process = process.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let group = group_path(&text)?;
    let limit = limit(group)?;
    (limit / 2 < machine_budget().min(MOST)).then(|| (format!("/{group}"), limit))
}

/// Reads what a control group may take.
fn limit(group: &str) -> Option<u64> {
    let path = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn machine_budget() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let bytes = machine.and_then(|text| total(&text));
    bytes.map_or(MOST, |bytes| bytes / 64)
}

/// Returns what maps may take together, in bytes: a 64th of the machine's memory, half of what
/// the control group allows, 32 MiB at the most.
pub fn map_budget() -> u64 {
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| limit(group_path(&text)?));
    let machine = machine_budget();
    group
        .map_or(machine, |bytes| machine.min(bytes / 2))
        .min(MOST)
}

/// Reads the line `MemTotal:       24576000 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}

/// Reads the line `0::/system.slice/ciliate.service` of the unified hierarchy.
fn group_path(cgroup: &str) -> Option<&str> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::{group_path, total};

    #[test]
    fn total_is_in_bytes() {
        assert_eq!(
            total("MemTotal:       1024 kB\nMemFree: 1 kB\n"),
            Some(1 << 20)
        );
        assert_eq!(total("nothing\n"), None);
    }

    #[test]
    fn group_is_that_of_the_unified_hierarchy() {
        let text = "3:memory:/old\n0::/system.slice/ciliate.service\n";

        assert_eq!(group_path(text), Some("system.slice/ciliate.service"));
        assert_eq!(group_path("3:memory:/old\n"), None);
    }
}
