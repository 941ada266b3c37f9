//! Three and five members, seen from outside: the real programs under real faults.
//!
//! Run them with `make cluster` (CI's form, about eight minutes), or `make chaos` for the full length
//! (`ENGRAM_CHAOS=1`). `ENGRAM_BIN=~/.cache/engram/tools/bin/etcd` has the same stories told of the
//! real etcd: whatever fails there too is no fault of ours. They take turns. `ENGRAM_CHAOS_SEED`
//! repeats the choices of a failed run, which printed it.

mod auth;
mod certificates;
mod corruption;
mod etcdctl;
mod etcds_tests;
mod forced;
mod growth;
mod histories;
mod leader_kills;
mod learner;
mod leases;
mod mixin;
mod pauses;
mod replacement;
mod robustness;
mod snapshots;
mod splits;

/// Whether the long forms are asked for: `make chaos`.
fn is_long() -> bool {
    std::env::var_os("ENGRAM_CHAOS").is_some_and(|value| value == "1")
}

/// The CI's number, or the full one.
fn ci_or_full<T>(ci: T, full: T) -> T {
    if is_long() { full } else { ci }
}
