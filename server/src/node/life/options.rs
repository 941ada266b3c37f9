//! What the parts of a member begin with, of its configuration.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::entry::APPLY_VERSION;
use crate::config::Config;
use crate::node::corruption::Checks;
use crate::node::membership::Rules;
use crate::raft::ConsensusOptions;
use crate::types::MemberId;
use crate::types::request::MemberAttributes;
use crate::wal::Keep;
use crate::watch;

/// What of the log is kept for members that lag, bytes: what comes in while one restarts.
const LOG_KEPT_BYTES: u64 = 64 << 20;
/// The most that is kept for the sake of `--snapshot-catchup-entries`, which are requests: an entry
/// here carries up to thousands of them. Bytes.
const LOG_KEPT_BYTES_MAX: u64 = 256 << 20;
/// The most entries kept: each takes some 40 bytes of memory.
const ENTRIES_KEPT_MAX: u64 = 100_000;
/// The part of the log's filesystem that what is kept is bounded by.
const LOG_KEPT_PART: u64 = 8;
/// How long the others must have been in touch before a strict reconfiguration.
/// Source: etcd's `HealthInterval`.
const IN_TOUCH_MIN: Duration = Duration::from_secs(5);

/// Where this member's peers reach it, as it tells them.
pub fn listens(config: &Config) -> String {
    let urls = config.advertise.peer.iter().map(ToString::to_string);
    urls.collect::<Vec<_>>().join(",")
}

pub fn attributes(config: &Config) -> MemberAttributes {
    MemberAttributes {
        name: config.name.clone(),
        client_urls: config
            .advertise
            .client
            .iter()
            .map(ToString::to_string)
            .collect(),
        apply_version: APPLY_VERSION,
    }
}

pub fn consensus_options(config: &Config, member: MemberId) -> ConsensusOptions {
    ConsensusOptions {
        member,
        heartbeat: config.raft.heartbeat_interval,
        election_timeout: config.raft.election_timeout,
    }
}

/// What of the log is kept for members that lag, on a filesystem of `total_bytes`.
pub fn keep(config: &Config, total_bytes: u64) -> Keep {
    let part = total_bytes / LOG_KEPT_PART;
    let least = config.raft.snapshot_catchup_entries;
    Keep {
        bytes: LOG_KEPT_BYTES.min(part),
        entries_least: least.min(ENTRIES_KEPT_MAX),
        bytes_most: LOG_KEPT_BYTES_MAX.min(part),
        entries_most: ENTRIES_KEPT_MAX,
    }
}

pub fn rules(config: &Config) -> Rules {
    Rules {
        strict: config.cluster.strict_reconfig_check,
        learners_max: config.cluster.learners_max,
        silence_max: config.raft.election_timeout,
        in_touch_min: IN_TOUCH_MIN,
        timeout: config.request_timeout(),
    }
}

pub fn checks(config: &Config) -> Checks {
    let compacted = config.feature_gates.enabled("CompactHashCheck");
    Checks {
        at_start: config.feature_gates.enabled("InitialCorruptCheck"),
        every: config.corruption.check_time,
        after_compactions: compacted.then_some(config.corruption.compact_hash_check_time),
    }
}

/// How long a stream that requires a leader lives without one. Source: etcd's
/// `maxNoLeaderCnt` (3) times an election timeout.
pub fn leaderless_max(election_timeout: Duration) -> Duration {
    election_timeout * 3
}

pub fn watch_config(config: &Config) -> watch::Config {
    let request_bytes = usize::try_from(config.limits.request_bytes_max).unwrap_or(usize::MAX);
    watch::Config {
        fragment_bytes: request_bytes.saturating_add(512 << 10),
        progress_interval: config.watch_progress_notify_interval,
        ..watch::Config::default()
    }
}

/// etcd's least time to live: one and a half election timeouts, rounded up to seconds.
pub fn lease_ttl_min(election_timeout: Duration) -> i64 {
    let millis = election_timeout.as_millis() * 3 / 2;
    i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Where lease ids begin in this run: member in the high bits, milliseconds below, a counter last,
/// as etcd's idutil does it.
pub fn first_lease_id(member: MemberId) -> u64 {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let millis = (millis as u64) & ((1 << 40) - 1);
    (member.0 << 48) | (millis << 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_lease_lives_two_seconds_by_default() {
        assert_eq!(lease_ttl_min(Duration::from_millis(1000)), 2);
        assert_eq!(lease_ttl_min(Duration::from_millis(2000)), 3);
    }
}
