//! Flags of watching over a member, of its background work, of what is dangerous, and our own.

use super::{FlagSpec, Kind, Section};

const fn flag(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    FlagSpec::new(section, name, kind, default, about)
}

const fn feature(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    flag(Section::Features, name, kind, default, about)
}

const fn tracing(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    flag(Section::Tracing, name, kind, default, about)
}

/// A flag that etcd has dropped: it takes any value and does nothing.
const fn retired(name: &'static str) -> FlagSpec {
    flag(Section::Hidden, name, Kind::Ignored, "", "")
        .not_in_file()
        .without_effect()
}

/// What log rotation does unless told otherwise, as etcd words it.
const ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

pub(super) const FLAGS: &[FlagSpec] = &[
    flag(
        Section::General,
        "config-file",
        Kind::Text,
        "",
        "Config file, YAML or JSON. Other flags and the environment are then ignored.",
    )
    .not_in_file(),
    flag(
        Section::General,
        "version",
        Kind::Bool,
        "false",
        "Print the version and exit.",
    )
    .not_in_file(),
    flag(
        Section::Monitoring,
        "enable-pprof",
        Kind::Bool,
        "false",
        "Answer profiles under the client URLs' `/debug/pprof/`: of the processor, memory and threads.",
    ),
    flag(
        Section::Monitoring,
        "metrics",
        Kind::Text,
        "basic",
        "`basic`, or `extensive` for histograms of every RPC.",
    ),
    flag(
        Section::Logging,
        "logger",
        Kind::Text,
        "zap",
        "Only `zap`, the name of the format of the log's lines.",
    ),
    flag(
        Section::Logging,
        "log-outputs",
        Kind::Set,
        "default",
        "`default`, `stderr`, `stdout` or files, separated by commas; or `systemd/journal`.",
    ),
    flag(
        Section::Logging,
        "log-level",
        Kind::Text,
        "info",
        "Lowest level that is logged: debug, info, warn, error, panic or fatal.",
    ),
    flag(
        Section::Logging,
        "log-format",
        Kind::Text,
        "json",
        "`json` or `console`.",
    ),
    flag(
        Section::Logging,
        "enable-log-rotation",
        Kind::Bool,
        "false",
        "Rotate the one file among --log-outputs.",
    ),
    flag(
        Section::Logging,
        "log-rotation-config-json",
        Kind::Text,
        ROTATION,
        "Rotation: maxsize in MB, maxage in days and maxbackups (0: no limit); compress.",
    ),
    flag(
        Section::Logging,
        "warning-unary-request-duration",
        Kind::Duration,
        "300ms",
        "Time from which a request counts as slow and is logged; 0 means the default.",
    ),
    flag(
        Section::Logging,
        "warning-apply-duration",
        Kind::Duration,
        "100ms",
        "Time from which applying a request counts as slow and is logged.",
    ),
    tracing(
        "enable-distributed-tracing",
        Kind::Bool,
        "false",
        "Send spans of calls to an OpenTelemetry collector.",
    ),
    tracing(
        "distributed-tracing-address",
        Kind::Text,
        "localhost:4317",
        "Where the collector takes OTLP over gRPC, host:port.",
    ),
    tracing(
        "distributed-tracing-service-name",
        Kind::Text,
        "etcd",
        "Service name in the spans, the same for all members.",
    ),
    tracing(
        "distributed-tracing-instance-id",
        Kind::Text,
        "",
        "Instance id in the spans, another for each member.",
    ),
    tracing(
        "distributed-tracing-sampling-rate",
        Kind::Signed,
        "0",
        "Calls out of a million that have spans, where the caller does not say.",
    )
    .unit("spans per million"),
    feature(
        "corrupt-check-time",
        Kind::Duration,
        "0s",
        "Time between two comparisons of all members' data; 0 turns them off.",
    ),
    feature(
        "compact-hash-check-time",
        Kind::Duration,
        "1m",
        "Time between two comparisons of members' hashes of compacted data.",
    ),
    feature(
        "compaction-batch-limit",
        Kind::Signed,
        "1000",
        "Revisions that one step of etcd's compaction deletes; Engram's steps bound themselves.",
    )
    .unit("revisions")
    .range(0, 1 << 31)
    .without_effect(),
    feature(
        "compaction-sleep-interval",
        Kind::Duration,
        "10ms",
        "Pause between two steps of etcd's compaction; Engram's give way to every write.",
    )
    .without_effect(),
    feature(
        "watch-progress-notify-interval",
        Kind::Duration,
        "10m",
        "Time between two progress notifications of a watch; 0 means the default.",
    ),
    feature(
        "bootstrap-defrag-threshold-megabytes",
        Kind::Unsigned,
        "0",
        "Space that must be reclaimable for a defragmentation at start; 0 turns it off.",
    )
    .unit("MB"),
    feature(
        "max-learners",
        Kind::Signed,
        "1",
        "Learners that a cluster may have.",
    )
    .unit("members")
    .range(0, 1_000),
    feature(
        "downgrade-check-time",
        Kind::Duration,
        "5s",
        "Time between two looks at the state of a downgrade, which Engram does not have.",
    )
    .without_effect(),
    flag(
        Section::Unsafe,
        "force-new-cluster",
        Kind::Bool,
        "false",
        "Make this member the only one of its cluster, keeping its data; for disaster recovery.",
    ),
    flag(
        Section::Unsafe,
        "unsafe-no-fsync",
        Kind::Bool,
        "false",
        "Do not wait for the disk: loses acknowledged writes when the machine fails.",
    ),
];

/// Flags that etcd does not have.
pub(super) const ENGRAM_FLAGS: &[FlagSpec] = &[
    flag(
        Section::Engram,
        "client-cert-allowed-cn",
        Kind::List,
        "",
        "Common names of which a client's certificate must hold one.",
    )
    .not_in_file(),
    flag(
        Section::Engram,
        "answer-budget-bytes",
        Kind::OptionalUnsigned,
        "",
        "Memory for answers under construction; unset means a quarter of the memory.",
    )
    .unit("bytes"),
    flag(
        Section::Engram,
        "archive-url",
        Kind::Text,
        "",
        "Where the leader archives every revision: s3://bucket/prefix?endpoint=…, gs://…, az://account/container/prefix, or file:///directory.",
    ),
    flag(
        Section::Engram,
        "archive-cluster",
        Kind::Text,
        "",
        "The cluster's name there, as `engramctl backup create --cluster` has it.",
    ),
    flag(
        Section::Engram,
        "archive-encryption-key-files",
        Kind::List,
        "",
        "Files with the archive's keys: the first encrypts what is written, each decrypts what is read.",
    ),
    flag(
        Section::Engram,
        "archive-max-delay",
        Kind::Duration,
        "10s",
        "How far the archive may be behind while its store answers.",
    )
    .range(100_000_000, 3_600_000_000_000),
    flag(
        Section::Engram,
        "archive-segment-bytes",
        Kind::Unsigned,
        "8388608",
        "Bytes of records after which a segment of the archive ends; about three times as much is in memory.",
    )
    .unit("bytes")
    .range(1 << 16, 64 << 20),
    flag(
        Section::Engram,
        "archive-backlog-bytes",
        Kind::Unsigned,
        "1073741824",
        "Bytes written to the log for which compaction waits for the archive; beyond, there is a gap.",
    )
    .unit("bytes"),
    flag(
        Section::Engram,
        "io-threads",
        Kind::OptionalUnsigned,
        "",
        "Threads that serve connections; unset means a choice by the number of CPUs.",
    )
    .unit("threads")
    .range(1, 256),
    flag(
        Section::Engram,
        "value-cache-bytes",
        Kind::OptionalUnsigned,
        "",
        "Memory for current values; unset means the smaller of 512 MiB and a quarter of the memory.",
    )
    .unit("bytes"),
];

/// Flags that etcd still accepts and ignores.
pub(super) const RETIRED_FLAGS: &[FlagSpec] = &[
    retired("cluster-active-size"),
    retired("cluster-remove-delay"),
    retired("cluster-sync-interval"),
    retired("config"),
    retired("force"),
    retired("max-result-buffer"),
    retired("max-retry-attempts"),
    retired("peer-heartbeat-interval"),
    retired("peer-election-timeout"),
    retired("retry-interval"),
    retired("snapshot"),
    retired("v"),
    retired("vv"),
    retired("test.coverprofile"),
    retired("test.outputdir"),
];
