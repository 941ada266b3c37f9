//! Defragmenting: when a client asks, and at start (`--bootstrap-defrag-threshold-megabytes`).

use std::time::Instant;

use crate::metrics::Operations;
use crate::store::Store;

/// Bytes of etcd's megabyte.
const MEGABYTE: u64 = 1 << 20;

/// Gives deleted space back, measured. Blocks until it is done.
pub fn measured(store: &Store, operations: &Operations) {
    let _timed = operations.defrag_seconds.start_timer();
    operations.defrag_inflight.inc();
    let started = Instant::now();
    let (size, in_use) = store.size_and_in_use_bytes();
    crate::log!(
        info,
        "defragmenting",
        "current-db-size-bytes" = size,
        "current-db-size-in-use-bytes" = in_use
    );
    store.defragment();
    let after = store.engine().size_bytes();
    crate::log!(
        info,
        "finished defragmenting directory",
        "current-db-size-bytes-diff" = after.cast_signed() - size.cast_signed(),
        "current-db-size-bytes" = after,
        took = started.elapsed()
    );
    operations.defrag_inflight.dec();
}

/// Gives deleted space back before the member serves, where more than `threshold_megabytes` of it
/// can be: the store's size beyond what is readable, as etcd reckons. 0 is off. It takes as long as
/// rewriting the store's files does.
pub fn at_boot(store: &Store, threshold_megabytes: u64, operations: &Operations) {
    if threshold_megabytes == 0 {
        return;
    }
    let threshold = threshold_megabytes.saturating_mul(MEGABYTE);
    let (size, in_use) = store.size_and_in_use_bytes();
    if size - in_use < threshold {
        crate::log!(
            info,
            "Skipping defragmentation",
            "current-db-size-bytes" = size,
            "current-db-size-in-use-bytes" = in_use,
            "bootstrap-defrag-threshold-bytes" = threshold
        );
        return;
    }
    measured(store, operations);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::store::fixture::{Scratch, noise};

    #[test]
    fn space_is_given_back_where_enough_can_be() {
        let scratch = Scratch::empty();
        for round in 1..=100 {
            scratch.put("key", &noise(round));
        }
        scratch.store.engine().flush();
        scratch.compact(scratch.store.revision());
        while !scratch.reclaim_step() {}
        let (before, in_use) = scratch.store.size_and_in_use_bytes();
        assert!(
            before > 6 * MEGABYTE && in_use < MEGABYTE,
            "{before} {in_use}"
        );

        let metrics = Metrics::new();
        let at_boot = |threshold| at_boot(&scratch.store, threshold, &metrics.operations);
        at_boot(0);
        at_boot(100);
        assert_eq!(
            scratch.store.size_and_in_use_bytes().0,
            before,
            "not worth the work"
        );
        at_boot(5);
        // The compaction's hash may have held a view of what was deleted: it goes with the view.
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        while scratch.store.size_and_in_use_bytes().0 >= MEGABYTE {
            assert!(
                Instant::now() < deadline,
                "nothing of {before} bytes is gone"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let operations = &metrics.operations;
        assert_eq!(operations.defrag_seconds.get_sample_count(), 1);
        assert_eq!(operations.defrag_inflight.get(), 0);
    }
}
