//! How much memory this process may use.

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
