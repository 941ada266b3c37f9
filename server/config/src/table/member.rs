//! Flags of this member: its name, directories, addresses, timing and limits.

use super::{FlagSpec, Kind, Section};

const fn member(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    FlagSpec::new(Section::Member, name, kind, default, about)
}

/// Largest request that one gRPC message can carry: the message's length is a signed 32-bit
/// number in most clients, less the 512 KiB that are added for the envelope.
const REQUEST_BYTES_MAX: i128 = (1 << 31) - 1 - 512 * 1024;

pub(super) const FLAGS: &[FlagSpec] = &[
    member(
        "name",
        Kind::Text,
        "default",
        "Human-readable name of this member.",
    ),
    member(
        "data-dir",
        Kind::Text,
        "",
        "Data directory; `<name>.etcd` when empty.",
    ),
    member(
        "wal-dir",
        Kind::Text,
        "",
        "Directory of the write-ahead log, if not in the data directory.",
    ),
    member(
        "snapshot-count",
        Kind::Unsigned,
        "10000",
        "Log entries between two snapshots of the state; 0 means the default.",
    )
    .unit("entries"),
    member(
        "snapshot-catchup-entries",
        Kind::Unsigned,
        "5000",
        "Log entries that are kept behind a snapshot for slow followers; 0 means the default.",
    )
    .unit("entries"),
    member(
        "heartbeat-interval",
        Kind::Unsigned,
        "100",
        "Time between two heartbeats of the leader.",
    )
    .unit("ms")
    .range(1, 10_000),
    member(
        "election-timeout",
        Kind::Unsigned,
        "1000",
        "Time without a heartbeat after which followers elect; at least 5 heartbeat intervals.",
    )
    .unit("ms")
    .range(5, 50_000),
    member(
        "initial-election-tick-advance",
        Kind::Bool,
        "true",
        "Shorten the first election timeout after a start.",
    )
    .without_effect(),
    member(
        "listen-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs to listen on for other members.",
    ),
    member(
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.",
    ),
    member(
        "listen-client-http-urls",
        Kind::Urls,
        "",
        "URLs to listen on for HTTP only; takes HTTP away from --listen-client-urls.",
    ),
    member(
        "listen-metrics-urls",
        Kind::Urls,
        "",
        "More URLs for /metrics, /health, /livez and /readyz; https uses the client's TLS files.",
    ),
    member(
        "max-snapshots",
        Kind::Unsigned,
        "5",
        "Snapshot files to keep; deprecated by etcd.",
    )
    .unit("files")
    .without_effect(),
    member(
        "max-wals",
        Kind::Unsigned,
        "5",
        "Write-ahead log files to keep.",
    )
    .unit("files")
    .without_effect(),
    member(
        "memory-mlock",
        Kind::Bool,
        "false",
        "Keep the process's pages in memory.",
    )
    .without_effect(),
    member(
        "quota-backend-bytes",
        Kind::Signed,
        "0",
        "Size of the store at which writes are refused; 0 means 2 GiB, negative means no limit.",
    )
    .unit("bytes"),
    member(
        "backend-bbolt-freelist-type",
        Kind::Text,
        "",
        "Free list of etcd's storage engine.",
    )
    .without_effect(),
    member(
        "backend-batch-interval",
        Kind::Duration,
        "0s",
        "Commit interval of etcd's storage engine.",
    )
    .without_effect(),
    member(
        "backend-batch-limit",
        Kind::Signed,
        "0",
        "Commit size of etcd's storage engine.",
    )
    .unit("operations")
    .without_effect(),
    member(
        "max-txn-ops",
        Kind::Unsigned,
        "128",
        "Operations that one transaction may hold.",
    )
    .unit("operations"),
    member(
        "max-request-bytes",
        Kind::Unsigned,
        "1572864",
        "Size of a request that is accepted.",
    )
    .unit("bytes")
    .range(0, REQUEST_BYTES_MAX),
    member(
        "max-concurrent-streams",
        Kind::Unsigned32,
        "4294967295",
        "Streams that one client connection may have open.",
    )
    .unit("streams"),
    member(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "5s",
        "Time that a client must leave between two pings.",
    ),
    member(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h",
        "Time between the server's pings to a client; 0 turns them off.",
    ),
    member(
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "Time that a client has to answer a ping; 0 turns the check off.",
    ),
    member(
        "socket-reuse-port",
        Kind::Bool,
        "false",
        "Set SO_REUSEPORT on listeners.",
    )
    .not_in_file(),
    member(
        "socket-reuse-address",
        Kind::Bool,
        "false",
        "Set SO_REUSEADDR on listeners; always set, as Go does.",
    )
    .not_in_file()
    .without_effect(),
    member(
        "enable-grpc-gateway",
        Kind::Bool,
        "true",
        "Serve etcd's JSON gateway under /v3.",
    ),
    member(
        "raft-read-timeout",
        Kind::Duration,
        "5s",
        "Read timeout of a connection between members; at least 5s.",
    )
    .not_in_file()
    .without_effect(),
    member(
        "raft-write-timeout",
        Kind::Duration,
        "5s",
        "Write timeout of a connection between members; at least 5s.",
    )
    .not_in_file()
    .without_effect(),
    member(
        "feature-gates",
        Kind::Gates,
        "",
        "Feature gates to set, `Name=true|false` separated by commas.",
    ),
];
