//! What is read from the core when `/metrics` is asked for.

use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;

use crate::api::backend::Backend;
use crate::config::{ENGRAM_VERSION, ETCD_VERSION, GO_VERSION};
use crate::metrics::{count, gauge, info, marks, total, totals};
use crate::node::backend::Core;
use crate::types::MemberId;

/// The families of the core, now.
pub fn families(core: &Core) -> Vec<MetricFamily> {
    alarms(core);
    let mut families = server(core);
    families.extend(store(core));
    families.extend(operations(core));
    families.extend(activity(core));
    families.extend(watch(core));
    families.extend(peers(core));
    families.extend(always_zero());
    families
}

/// What an etcd without clients of its v2 API and without a proxy in it shows as zero.
fn always_zero() -> Vec<MetricFamily> {
    let gauges = [
        (
            "etcd_debugging_store_watchers",
            "Count of currently active watchers.",
        ),
        (
            "etcd_grpc_proxy_cache_hits_total",
            "Total number of cache hits",
        ),
        (
            "etcd_grpc_proxy_cache_keys_total",
            "Total number of keys/ranges cached",
        ),
        (
            "etcd_grpc_proxy_cache_misses_total",
            "Total number of cache misses",
        ),
        (
            "etcd_grpc_proxy_watchers_coalescing_total",
            "Total number of current watchers coalescing",
        ),
    ];
    let counters = [
        (
            "etcd_debugging_store_expires_total",
            "Total number of expired keys.",
        ),
        (
            "etcd_debugging_store_watch_requests_total",
            "Total number of incoming watch requests (new or reestablished).",
        ),
        (
            "etcd_grpc_proxy_events_coalescing_total",
            "Total number of events coalescing",
        ),
    ];
    let gauges = gauges.map(|(name, help)| count(name, help, 0));
    let counters = counters.map(|(name, help)| total(name, help, 0));
    gauges.into_iter().chain(counters).collect()
}

fn peers(core: &Core) -> Option<MetricFamily> {
    let members = core.members();
    // As in etcd, with the pair of the member itself.
    let known: Vec<_> = members
        .iter()
        .map(|other| ([core.member.to_string(), other.id.to_string()], true))
        .collect();
    let help = "The current number of known peers.";
    marks(
        "etcd_network_known_peers",
        help,
        &["Local", "Remote"],
        &known,
    )
}

fn server(core: &Core) -> Vec<MetricFamily> {
    let status = core.status();
    let has_leader = u64::from(status.leader.is_some());
    let is_leader = u64::from(status.leader == Some(core.member));
    let stats = &core.apply_stats;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let member = core.member.to_string();
    let version = core.cluster_version().unwrap_or_default();
    let minor = version
        .rsplit_once('.')
        .map_or(version.as_str(), |(minor, _)| minor);
    let auth_revision = core.store.cluster().auth.revision();
    let asked = core.proposer.load();
    vec![
        count(
            "etcd_debugging_auth_revision",
            "The current revision of auth store.",
            auth_revision,
        ),
        count(
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            has_leader,
        ),
        count(
            "etcd_server_is_leader",
            "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            is_leader,
        ),
        count(
            "etcd_server_is_learner",
            "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            u64::from(status.learner),
        ),
        total(
            "etcd_server_leader_changes_seen_total",
            "The number of leader changes seen.",
            core.leadership.changes(),
        ),
        count(
            "etcd_server_proposals_committed_total",
            "The total number of consensus proposals committed.",
            status.raft_index,
        ),
        count(
            "etcd_server_proposals_applied_total",
            "The total number of consensus proposals applied.",
            status.raft_applied_index,
        ),
        count(
            "etcd_server_proposals_pending",
            "The current number of pending proposals to commit.",
            core.proposer.pending() as u64,
        ),
        total(
            "etcd_server_proposals_failed_total",
            "The total number of failed proposals seen.",
            core.proposer.failed(),
        ),
        count(
            "engram_overloaded",
            "Whether more is asked for than can be done, so that what would wait is refused: 1 is yes, 0 is not.",
            u64::from(asked.is_overloaded),
        ),
        total(
            "engram_proposals_refused_total",
            "Requests refused because they would have waited too long.",
            asked.refused,
        ),
        gauge(
            "engram_proposals_wait_seconds",
            "How long a request that comes now would wait, where others wait behind a batch.",
            asked.wait.as_secs_f64(),
        ),
        total(
            "etcd_server_slow_apply_total",
            "The total number of slow apply requests (likely overloaded from slow disk).",
            load(&stats.slow),
        ),
        total(
            "engram_apply_operations_total",
            "Operations applied.",
            load(&stats.operations),
        ),
        total(
            "engram_apply_entries_total",
            "Raft entries applied; an entry carries a batch of operations.",
            load(&stats.entries),
        ),
        gauge(
            "engram_apply_seconds_total",
            "Time spent applying.",
            load(&stats.apply_micros) as f64 / 1e6,
        ),
        gauge(
            "etcd_server_quota_backend_bytes",
            "Current backend storage quota size in bytes.",
            core.proposer.quota().limit_bytes() as f64,
        ),
        info(
            "etcd_server_id",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            &[("server_id", &member)],
        ),
        info(
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            &[("server_version", ETCD_VERSION)],
        ),
        info(
            "etcd_server_go_version",
            "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
            &[("server_go_version", GO_VERSION)],
        ),
        info(
            "go_info",
            "Information about the Go environment. There is none.",
            &[("version", GO_VERSION)],
        ),
        info(
            "engram_build_info",
            "Which engram is running.",
            &[("version", ENGRAM_VERSION)],
        ),
        info(
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            &[("cluster_version", minor)],
        ),
    ]
}

fn store(core: &Core) -> Vec<MetricFamily> {
    let status = core.status();
    let bytes = |value: i64| value.max(0).unsigned_abs();
    let (keys, revision, compacted, leases, cached, pinned) = {
        let state = core.store.read();
        let mvcc = &state.mvcc;
        (
            mvcc.keys_total(),
            mvcc.revision(),
            mvcc.compact_revision(),
            state.leases.len(),
            mvcc.value_cache_bytes(),
            mvcc.pins(),
        )
    };
    // etcd says so where nothing was ever compacted.
    let never_or = |revision: i64| if revision == 0 { -1.0 } else { revision as f64 };
    vec![
        count(
            "etcd_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.",
            bytes(status.db_size),
        ),
        count(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Total size of the underlying database logically in use in bytes.",
            bytes(status.db_size_in_use),
        ),
        count(
            "etcd_debugging_mvcc_keys_total",
            "Total number of keys.",
            keys,
        ),
        count(
            "etcd_debugging_mvcc_current_revision",
            "The current revision of store.",
            bytes(revision.0),
        ),
        gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            never_or(compacted.0),
        ),
        count(
            "etcd_mvcc_db_open_read_transactions",
            "The number of currently open read transactions",
            pinned as u64,
        ),
        count("engram_leases", "Leases that live.", leases as u64),
        count(
            "engram_value_cache_bytes",
            "Bytes of current values kept in memory.",
            cached as u64,
        ),
        count(
            "engram_quota_used_bytes",
            "Bytes of data, as written, that count against the quota.",
            core.proposer.quota().used_bytes(),
        ),
        count(
            "engram_disk_short_of_room",
            "Whether this member's disk is short of room: 0 no, 1 it hands leadership over and is not ready, 2 it takes no entries, 3 it applies nothing.",
            core.store.headroom().level() as u64,
        ),
        count(
            "engram_wal_bytes",
            "Bytes of the write-ahead log on disk.",
            core.log.bytes(),
        ),
    ]
}

fn operations(core: &Core) -> Vec<MetricFamily> {
    let stats = &core.apply_stats;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        total(
            "etcd_mvcc_put_total",
            "Total number of puts seen by this member.",
            load(&stats.puts),
        ),
        total(
            "etcd_mvcc_delete_total",
            "Total number of deletes seen by this member.",
            load(&stats.deletes),
        ),
        total(
            "etcd_mvcc_txn_total",
            "Total number of txns seen by this member.",
            load(&stats.txns),
        ),
        total(
            "etcd_mvcc_range_total",
            "Total number of ranges seen by this member.",
            core.reader.ranges() + load(&stats.ranges),
        ),
        count(
            "etcd_debugging_mvcc_total_put_size_in_bytes",
            "The total size of put kv pairs seen by this member.",
            load(&stats.put_bytes),
        ),
        count(
            "etcd_disk_wal_write_bytes_total",
            "Total number of bytes written in WAL.",
            core.log.appended_bytes(),
        ),
    ]
}

/// Those that are raised, and as 0 those that were when somebody looked.
fn alarms(core: &Core) {
    let alarms = core.alarms();
    let raised = alarms
        .iter()
        .map(|raised| [raised.member.to_string(), raised.alarm.name().into()]);
    core.metrics.operations.alarms(raised.collect());
}

/// Who of the others is in touch, and how often each was lost.
fn activity(core: &Core) -> Vec<MetricFamily> {
    let seen = core.door.peers.activity(core.member);
    let pair = |id: MemberId| [core.member.to_string(), id.to_string()];
    // As in etcd, 0 is who was in touch and is not: alerts look for it.
    let active: Vec<_> = seen
        .iter()
        .filter(|(_, seen)| seen.is_active || seen.lost > 0)
        .map(|(id, seen)| (pair(*id), seen.is_active))
        .collect();
    let lost: Vec<_> = seen
        .iter()
        .map(|(id, seen)| (pair(*id), seen.lost))
        .collect();
    let labels = ["Local", "Remote"];
    let active = marks(
        "etcd_network_active_peers",
        "The current number of active peer connections.",
        &labels,
        &active,
    );
    let lost = totals(
        "etcd_network_disconnected_peers_total",
        "The total number of disconnected peers.",
        &labels,
        &lost,
    );
    active.into_iter().chain(lost).collect()
}

fn watch(core: &Core) -> Vec<MetricFamily> {
    let watch = core.hub.metrics();
    vec![
        count(
            "etcd_debugging_mvcc_watcher_total",
            "Total number of watchers.",
            watch.watchers as u64,
        ),
        count(
            "etcd_debugging_mvcc_watch_stream_total",
            "Total number of watch streams.",
            watch.streams as u64,
        ),
        count(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Total number of unsynced slow watchers.",
            watch.slow_watchers as u64,
        ),
        total(
            "etcd_debugging_mvcc_events_total",
            "Total number of events sent by this member.",
            watch.events_total,
        ),
        count(
            "etcd_debugging_mvcc_pending_events_total",
            "Total number of pending events to be sent.",
            watch.pending_events,
        ),
    ]
}
