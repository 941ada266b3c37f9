//! `go_*`: what a Go process tells of its runtime, as far as this one has the like. Dashboards and scripts of etcd's
//! users ask for these names, and a name that is missing breaks them where a zero does not.
//!
//! Memory is what the kernel says of the process, since no collector owns a heap here. What belongs to Go's collector
//! alone is 0, as it is in a Go process before its first collection.

use prometheus::proto::{Metric, MetricFamily, MetricType, Quantile, Summary};

use super::{count, gauge, total};

/// Go's value of a memory limit that nobody set. Source: math.MaxInt64, runtime/debug.SetMemoryLimit.
const NO_LIMIT: f64 = i64::MAX as f64;

/// Zero: there is no collector, and no such table.
const ABSENT_GAUGES: [(&str, &str); 14] = [
    (
        "go_gc_gogc_percent",
        "Heap size target percentage. 0: there is no garbage collector.",
    ),
    (
        "go_memstats_buck_hash_sys_bytes",
        "Number of bytes used by the profiling bucket hash table.",
    ),
    (
        "go_memstats_gc_sys_bytes",
        "Number of bytes used for garbage collection system metadata.",
    ),
    (
        "go_memstats_heap_idle_bytes",
        "Number of heap bytes waiting to be used.",
    ),
    (
        "go_memstats_heap_objects",
        "Number of currently allocated objects. Not counted.",
    ),
    (
        "go_memstats_heap_released_bytes",
        "Number of heap bytes released to OS. Not counted.",
    ),
    (
        "go_memstats_last_gc_time_seconds",
        "Number of seconds since 1970 of last garbage collection.",
    ),
    (
        "go_memstats_mcache_inuse_bytes",
        "Number of bytes in use by mcache structures.",
    ),
    (
        "go_memstats_mcache_sys_bytes",
        "Number of bytes used for mcache structures obtained from system.",
    ),
    (
        "go_memstats_mspan_inuse_bytes",
        "Number of bytes in use by mspan structures.",
    ),
    (
        "go_memstats_mspan_sys_bytes",
        "Number of bytes used for mspan structures obtained from system.",
    ),
    (
        "go_memstats_next_gc_bytes",
        "Number of heap bytes when next garbage collection will take place.",
    ),
    (
        "go_memstats_other_sys_bytes",
        "Number of bytes used for other system allocations.",
    ),
    (
        "go_memstats_stack_inuse_bytes",
        "Number of bytes obtained from system for stack allocator. Part of the heap here.",
    ),
];

/// Zero: the allocator does not count them.
const ABSENT_COUNTERS: [(&str, &str); 3] = [
    (
        "go_memstats_alloc_bytes_total",
        "Total number of bytes allocated in heap until now. Not counted.",
    ),
    (
        "go_memstats_frees_total",
        "Total number of heap objects frees. Not counted.",
    ),
    (
        "go_memstats_mallocs_total",
        "Total number of heap objects allocated. Not counted.",
    ),
];

/// The process's memory and threads. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub resident: u64,
    /// Of it, what no file is behind: the heap and stacks.
    pub anonymous: u64,
    pub threads: u64,
}

/// All of `go_*` but `go_info`, which takes a version.
pub(super) fn families(usage: Usage) -> Vec<MetricFamily> {
    let Usage {
        resident,
        anonymous,
        threads,
    } = usage;
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut families = vec![
        collections(),
        gauge(
            "go_gc_gomemlimit_bytes",
            "Go runtime memory limit: none.",
            NO_LIMIT,
        ),
    ];
    let alive = [
        (
            "go_goroutines",
            "Number of threads: there are no goroutines.",
            threads,
        ),
        ("go_threads", "Number of OS threads.", threads),
        (
            "go_sched_gomaxprocs_threads",
            "The number of operating system threads that can run at once.",
            processors,
        ),
        (
            "go_memstats_alloc_bytes",
            "Number of bytes in use: resident memory that no file is behind.",
            anonymous,
        ),
        (
            "go_memstats_heap_alloc_bytes",
            "Same as go_memstats_alloc_bytes.",
            anonymous,
        ),
        (
            "go_memstats_heap_inuse_bytes",
            "Same as go_memstats_alloc_bytes.",
            anonymous,
        ),
        (
            "go_memstats_heap_sys_bytes",
            "Same as go_memstats_alloc_bytes.",
            anonymous,
        ),
        (
            "go_memstats_stack_sys_bytes",
            "Number of bytes obtained from system for stacks. Part of the heap here.",
            0,
        ),
        (
            "go_memstats_sys_bytes",
            "Number of bytes obtained from system: resident memory.",
            resident,
        ),
    ];
    families.extend(alive.map(|(name, help, value)| count(name, help, value)));
    families.extend(ABSENT_GAUGES.map(|(name, help)| count(name, help, 0)));
    families.extend(ABSENT_COUNTERS.map(|(name, help)| total(name, help, 0)));
    families
}

/// `go_gc_duration_seconds`: none was made.
fn collections() -> MetricFamily {
    let mut summary = Summary::default();
    summary.set_sample_count(0);
    summary.set_sample_sum(0.0);
    let quantiles = [0.0, 0.25, 0.5, 0.75, 1.0].map(|quantile| {
        let mut shown = Quantile::default();
        shown.set_quantile(quantile);
        shown.set_value(0.0);
        shown
    });
    summary.set_quantile(quantiles.to_vec());
    let mut metric = Metric::default();
    metric.set_summary(summary);
    let mut family = MetricFamily::default();
    family.set_name("go_gc_duration_seconds".to_owned());
    family.set_help(
        "A summary of the pause duration of garbage collection cycles. There are none.".to_owned(),
    );
    family.set_field_type(MetricType::SUMMARY);
    family.set_metric(vec![metric]);
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn what_is_told_is_what_the_process_has() {
        let usage = Usage {
            resident: 300,
            anonymous: 200,
            threads: 7,
        };
        let text = TextEncoder::new()
            .encode_to_string(&families(usage))
            .unwrap();
        for line in [
            "go_threads 7",
            "go_goroutines 7",
            "go_memstats_alloc_bytes 200",
            "go_memstats_sys_bytes 300",
            "go_gc_duration_seconds{quantile=\"0.5\"} 0",
            "go_gc_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
