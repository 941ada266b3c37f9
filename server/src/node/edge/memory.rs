//! How much memory this process may use, and what of it answers may.

use std::sync::Arc;

use crate::budget::{Budget, Turns};
use crate::config::Config;
use crate::read::Reader;
use crate::store::Store;

/// The most that requests take while they are received, bytes.
const REQUESTS_MAX: u64 = 256 << 20;
/// The most calls under way, over all connections.
const CALLS_MAX: u64 = 50_000;
/// What a call under way takes, bytes: its stream, its buffers, what a watcher is.
const CALL_BYTES: u64 = 16 << 10;
/// Answers that may wait for memory.
const ANSWERS_WAITING_MAX: usize = 1000;

/// The reader of this member's store: its steps run on half of the cores, and its answers under
/// construction take a quarter of the memory, unless `--answer-budget-bytes` says otherwise.
pub fn reader(config: &Config, store: Arc<Store>) -> Reader {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bytes = config.limits.answer_budget_bytes;
    let bytes = bytes.unwrap_or_else(|| limit_bytes() / 4);
    let budget = Budget::new(bytes, ANSWERS_WAITING_MAX, config.request_timeout());
    Reader::new(store, Turns::new(cores / 2), budget)
}

/// What requests may take while they are received: an eighth of the memory, at most 256 MiB, and at
/// least two of the largest.
pub fn request_budget_bytes(config: &Config) -> u64 {
    let two = config
        .limits
        .request_bytes_max
        .saturating_add(1 << 20)
        .saturating_mul(2);
    (limit_bytes() / 8).min(REQUESTS_MAX).max(two)
}

/// How many calls may be under way: what takes an eighth of the memory, at most 50,000.
pub fn calls_max() -> usize {
    let calls = (limit_bytes() / 8 / CALL_BYTES).min(CALLS_MAX);
    usize::try_from(calls).expect("fifty thousand fit")
}

/// The smallest of the machine's memory and the control group's limit, bytes.
pub fn limit_bytes() -> u64 {
    let machine = crate::fs::read_text("/proc/meminfo").and_then(|text| meminfo_total(&text));
    let groups = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = groups
        .iter()
        .filter_map(|path| crate::fs::read_text(path)?.trim().parse::<u64>().ok())
        .min();
    machine.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(
            meminfo_total("MemTotal:       24683136 kB\nMemFree: 1 kB"),
            Some(25275531264)
        );
        assert_eq!(meminfo_total("nothing"), None);
        assert!(limit_bytes() > 1 << 20);
    }
}
