//! The process's own metrics, read from /proc when they are asked for.

use prometheus::proto::MetricFamily;

use super::{count, gauge};

/// `process_*` and `os_fd_*`. What /proc does not tell is left out.
pub fn families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    if let Some((resident, virtual_bytes)) = memory() {
        let help = "Resident memory size in bytes.";
        families.push(count("process_resident_memory_bytes", help, resident));
        let help = "Virtual memory size in bytes.";
        families.push(count("process_virtual_memory_bytes", help, virtual_bytes));
    }
    if let Some(seconds) = cpu_seconds() {
        let help = "Total user and system CPU time spent in seconds.";
        families.push(gauge("process_cpu_seconds_total", help, seconds));
    }
    if let Some(open) = crate::fs::open_file_count() {
        families.push(count(
            "process_open_fds",
            "Number of open file descriptors.",
            open,
        ));
        families.push(count(
            "os_fd_used",
            "The number of used file descriptors.",
            open,
        ));
    }
    if let Some(limit) = crate::fs::file_limit() {
        families.push(count(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            limit,
        ));
        families.push(count("os_fd_limit", "The file descriptor limit.", limit));
    }
    families
}

fn memory() -> Option<(u64, u64)> {
    let text = crate::fs::read_text("/proc/self/statm")?;
    let mut pages = text.split_whitespace().map(str::parse::<u64>);
    let virtual_pages = pages.next()?.ok()?;
    let resident_pages = pages.next()?.ok()?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    Some((resident_pages * page, virtual_pages * page))
}

fn cpu_seconds() -> Option<f64> {
    let text = crate::fs::read_text("/proc/self/stat")?;
    // The command's name, in parentheses, may hold spaces; what follows does not.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(f64::from(ticks) / f64::from(per_second))
}
