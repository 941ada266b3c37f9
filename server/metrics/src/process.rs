//! The process's own metrics, read from /proc when they are asked for.

use prometheus::proto::MetricFamily;

use super::{count, gauge, runtime, total, total_seconds};

/// How Prometheus' collectors write a limit that there is not.
const UNLIMITED: f64 = u64::MAX as f64;

/// `process_*`, `os_fd_*` and `go_*`. What /proc does not tell is left out, or 0 in `go_*`.
pub fn families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let memory = memory();
    if let Some((resident, virtual_bytes)) = memory {
        let help = "Resident memory size in bytes.";
        families.push(count("process_resident_memory_bytes", help, resident));
        let help = "Virtual memory size in bytes.";
        families.push(count("process_virtual_memory_bytes", help, virtual_bytes));
    }
    if let Some(seconds) = cpu_seconds() {
        let help = "Total user and system CPU time spent in seconds.";
        families.push(total_seconds("process_cpu_seconds_total", help, seconds));
    }
    if let Some(seconds) = started_seconds() {
        let help = "Start time of the process since unix epoch in seconds.";
        families.push(gauge("process_start_time_seconds", help, seconds));
    }
    let help = "Maximum amount of virtual memory available in bytes.";
    let limit = crate::fs::address_space_limit().map_or(UNLIMITED, |bytes| bytes as f64);
    families.push(gauge("process_virtual_memory_max_bytes", help, limit));
    if let Some((received, sent)) = network_bytes() {
        let help = "Number of bytes received by the process over the network.";
        families.push(total("process_network_receive_bytes_total", help, received));
        let help = "Number of bytes sent by the process over the network.";
        families.push(total("process_network_transmit_bytes_total", help, sent));
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
    families.extend(runtime::families(usage(memory)));
    families
}

/// What `go_*` tells of, with what [`memory`] told.
fn usage(memory: Option<(u64, u64)>) -> runtime::Usage {
    let text = crate::fs::read_text("/proc/self/status").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0)
    };
    runtime::Usage {
        resident: memory.map_or(0, |(resident, _)| resident),
        anonymous: value("RssAnon:").saturating_mul(1024),
        threads: value("Threads:"),
    }
}

/// How many files the process may have open.
pub fn file_limit() -> Option<u64> {
    crate::fs::file_limit()
}

/// When the process began, seconds since 1970: ticks since the boot, and when that was.
fn started_seconds() -> Option<f64> {
    let text = crate::fs::read_text("/proc/self/stat")?;
    let (_, rest) = text.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let system = crate::fs::read_text("/proc/stat")?;
    let booted = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let booted: u64 = booted.trim().parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(booted as f64 + ticks as f64 / per_second as f64)
}

/// Bytes received and sent over IP in the process's network namespace, as Prometheus' own
/// collectors tell them.
fn network_bytes() -> Option<(u64, u64)> {
    let text = crate::fs::read_text("/proc/self/net/netstat")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let mut value = |wanted: &str| {
        let found = pairs.by_ref().find(|(name, _)| *name == wanted);
        found?.1.parse::<u64>().ok()
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

/// Resident and mapped memory, bytes.
pub fn memory() -> Option<(u64, u64)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_when_it_began_and_what_it_used() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_secs_f64();
        let started = started_seconds().unwrap();
        assert!(
            (now - 86_400.0..=now + 2.0).contains(&started),
            "{started} {now}"
        );
        let families = families();
        let family = |name: &str| families.iter().find(|family| family.name() == name);
        for (name, kind) in [
            (
                "process_cpu_seconds_total",
                prometheus::proto::MetricType::COUNTER,
            ),
            (
                "process_start_time_seconds",
                prometheus::proto::MetricType::GAUGE,
            ),
            (
                "process_virtual_memory_max_bytes",
                prometheus::proto::MetricType::GAUGE,
            ),
            (
                "process_network_receive_bytes_total",
                prometheus::proto::MetricType::COUNTER,
            ),
            (
                "process_network_transmit_bytes_total",
                prometheus::proto::MetricType::COUNTER,
            ),
        ] {
            let family = family(name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(family.get_field_type(), kind, "{name}");
        }
    }
}
