//! The flags that a member is started with.

use crate::api::{AutoCompactionMode, Config, EngramCluster, MetricsDetail, TlsMode};

use super::archive;
use super::names::{CLIENT_PORT, METRICS_PORT, Names, PEER_PORT};
use super::pod::{DATA_DIRECTORY, MemberPod};
use super::quantity;

/// Below which all certificates of a member are mounted.
pub(crate) const TLS_DIRECTORY: &str = "/etc/engram/tls/";
/// Where the files for clients are.
pub const CLIENT_TLS: &str = "/etc/engram/tls/client";
/// Where the files for members are.
pub(super) const PEER_TLS: &str = "/etc/engram/tls/peer";

/// How often all of the members' data is compared. Each member reads its whole store for it, at some
/// 200 MB/s of one core.
const CORRUPT_CHECK: &str = "4h";
/// How often it is compared where something was compacted since.
const COMPACT_HASH_CHECK: &str = "1h";

/// The command line of a member.
pub(super) fn command(cluster: &EngramCluster, member: &MemberPod) -> Vec<String> {
    let names = Names::of(cluster);
    let scheme = |url: &str| url.split("://").next().unwrap_or_default().to_owned();
    let any = any_address(cluster);
    let client = names.client_url(&member.name);
    let peer = names.peer_url(&member.name);
    let mut command = vec![
        "/usr/local/bin/engram".to_owned(),
        format!("--name={}", member.name),
        format!("--data-dir={DATA_DIRECTORY}"),
        format!(
            "--listen-client-urls={}://{any}:{CLIENT_PORT}",
            scheme(&client)
        ),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={}://{any}:{PEER_PORT}", scheme(&peer)),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--listen-metrics-urls=http://{any}:{METRICS_PORT}"),
        format!("--initial-cluster={}", member.initial_cluster),
        format!(
            "--initial-cluster-state={}",
            if member.founds { "new" } else { "existing" }
        ),
        format!("--initial-cluster-token={}", token(cluster)),
        format!("--corrupt-check-time={CORRUPT_CHECK}"),
        format!("--compact-hash-check-time={COMPACT_HASH_CHECK}"),
        "--feature-gates=CompactHashCheck=true".to_owned(),
    ];
    command.extend(tls(cluster));
    command.extend(config(&cluster.spec.config));
    command.extend(archive::flags(cluster, &names.cluster));
    command
}

/// Every address of the pod. The one of IPv6 takes those of IPv4 as well, and is not to be had on nodes
/// that have none.
fn any_address(cluster: &EngramCluster) -> &'static str {
    let status = cluster.status.as_ref();
    let mut families = status.iter().flat_map(|status| &status.ip_families);
    match families.any(|family| family == "IPv6") {
        true => "[::]",
        false => "0.0.0.0",
    }
}

/// Names this cluster and no other one that ever had its name.
pub(super) fn token(cluster: &EngramCluster) -> String {
    let names = Names::of(cluster);
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    format!("{}-{}-{uid}", names.namespace, names.cluster)
}

fn tls(cluster: &EngramCluster) -> Vec<String> {
    let mut flags = Vec::new();
    if cluster.spec.tls.client.mode != TlsMode::Disabled {
        flags.push(format!("--cert-file={CLIENT_TLS}/tls.crt"));
        flags.push(format!("--key-file={CLIENT_TLS}/tls.key"));
        flags.push(format!("--trusted-ca-file={CLIENT_TLS}/ca.crt"));
        flags.push("--client-cert-auth=true".into());
    }
    if cluster.spec.tls.peer.mode != TlsMode::Disabled {
        flags.push(format!("--peer-cert-file={PEER_TLS}/tls.crt"));
        flags.push(format!("--peer-key-file={PEER_TLS}/tls.key"));
        flags.push(format!("--peer-trusted-ca-file={PEER_TLS}/ca.crt"));
        flags.push("--peer-client-cert-auth=true".into());
        // The authority signs for members of this cluster alone. Looking a pod's address up as well
        // would refuse members whenever DNS is slow to learn of a new pod.
        flags.push("--peer-skip-client-san-verification=true".into());
    }
    flags
}

fn config(config: &Config) -> Vec<String> {
    // No `..`: a new setting does not compile until it has its flag.
    let Config {
        quota_bytes,
        auto_compaction,
        heartbeat_interval_milliseconds,
        election_timeout_milliseconds,
        snapshot_count,
        max_request_bytes,
        max_txn_ops,
        log_level,
        metrics,
    } = config;
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: Option<String>| {
        flags.extend(value.map(|value| format!("--{name}={value}")));
    };
    let text = |number: u32| number.to_string();
    let quota = quota_bytes.as_deref().and_then(quantity::bytes);
    flag("quota-backend-bytes", quota.map(|bytes| bytes.to_string()));
    flag(
        "heartbeat-interval",
        heartbeat_interval_milliseconds.map(text),
    );
    flag("election-timeout", election_timeout_milliseconds.map(text));
    flag(
        "snapshot-count",
        snapshot_count.map(|count| count.to_string()),
    );
    flag("max-request-bytes", max_request_bytes.map(text));
    flag("max-txn-ops", max_txn_ops.map(text));
    flag("log-level", log_level.clone());
    let detail = metrics.map(|detail| match detail {
        MetricsDetail::Basic => "basic",
        MetricsDetail::Extensive => "extensive",
    });
    flag("metrics", detail.map(str::to_owned));
    if let Some(auto) = auto_compaction {
        let mode = match auto.mode {
            AutoCompactionMode::Periodic => Some("periodic"),
            AutoCompactionMode::Revision => Some("revision"),
            AutoCompactionMode::Off => None,
        };
        let retention = mode.and(auto.retention.clone());
        flag("auto-compaction-mode", mode.map(str::to_owned));
        flag("auto-compaction-retention", retention);
    }
    flags
}
