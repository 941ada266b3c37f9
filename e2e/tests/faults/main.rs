//! What a slow, full, paused or lost part may cost: nothing that was acknowledged, and nobody else.
//! And what one client or peer that misbehaves may cost the others.
//!
//! CI's form runs with `make test` (four minutes); `make faults` runs every story at full length
//! (`ENGRAM_FAULTS=1`) and writes what was seen to the file that `ENGRAM_FAULTS_REPORT` names. Every
//! story was seen failing on 1d7a80e, see docs/evidence/faults-before-2026-11-29.md. They take turns.
//! Root is needed for the small disks.

mod better_than_etcd;
mod calls;
mod case;
mod catch_up;
mod data_directory;
mod engine_stall;
mod every_call;
mod every_call_of_three;
mod failed_sync;
mod full_disk;
mod handover;
mod large_requests;
mod late;
mod leaderless;
mod leases;
mod lost_log;
mod mean_peer;
mod moved_member;
mod one_client;
mod overload;
mod process;
mod quota;
mod removal;
mod slow_log;
mod strangers;

/// Whether the long forms are asked for: `make faults`.
fn is_long() -> bool {
    std::env::var_os("ENGRAM_FAULTS").is_some_and(|value| value == "1")
}

/// The CI's number, or the full one.
fn ci_or_full<T>(ci: T, full: T) -> T {
    if is_long() { full } else { ci }
}
