//! How often a process's threads have gone to sleep: what a call costs in wakes, whatever the machine is.

use std::fs;

/// The voluntary context switches of a process's threads so far.
///
/// A thread that ends takes its own along: only for a process whose threads stay.
///
/// # Panics
/// If the process is gone.
pub fn voluntary(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let of = |path: std::path::PathBuf| -> Option<u64> {
        // A thread may end between the directory's reading and its own.
        let status = fs::read_to_string(path.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    threads.filter_map(|entry| of(entry.ok()?.path())).sum()
}
