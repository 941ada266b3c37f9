//! Flags of the cluster: how it is found, formed and kept.

use super::{FlagSpec, Kind, Section};

const fn clustering(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    FlagSpec::new(Section::Clustering, name, kind, default, about)
}

/// A setting of the client that asks a discovery service. Config files hold these in a block.
const fn discovery_client(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    clustering(name, kind, default, about).not_in_file()
}

pub(super) const FLAGS: &[FlagSpec] = &[
    clustering(
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs of this member that the other members use.",
    ),
    clustering(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "Members that form the cluster, `name=url` separated by commas.",
    ),
    clustering(
        "initial-cluster-state",
        Kind::Choice(&["new", "existing"]),
        "new",
        "`new` to form a cluster, `existing` to join one; without meaning for a member that has data.",
    ),
    clustering(
        "initial-cluster-token",
        Kind::Text,
        "etcd-cluster",
        "Makes the ids of this cluster differ from those of another with the same URLs.",
    ),
    clustering(
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs of this member that clients use.",
    ),
    clustering(
        "discovery-token",
        Kind::Text,
        "",
        "Token of the cluster at a discovery service.",
    )
    .not_in_file(),
    clustering(
        "discovery-endpoints",
        Kind::Set,
        "",
        "Endpoints of a discovery service.",
    )
    .not_in_file(),
    discovery_client(
        "discovery-dial-timeout",
        Kind::Duration,
        "2s",
        "Timeout of a connect to the discovery service.",
    ),
    discovery_client(
        "discovery-request-timeout",
        Kind::Duration,
        "5s",
        "Timeout of a request to the discovery service.",
    ),
    discovery_client(
        "discovery-keepalive-time",
        Kind::Duration,
        "2s",
        "Time between pings to the discovery service.",
    ),
    discovery_client(
        "discovery-keepalive-timeout",
        Kind::Duration,
        "6s",
        "Time that the discovery service has to answer a ping.",
    ),
    discovery_client(
        "discovery-insecure-transport",
        Kind::Bool,
        "true",
        "Ask the discovery service without TLS.",
    ),
    discovery_client(
        "discovery-insecure-skip-tls-verify",
        Kind::Bool,
        "false",
        "Do not verify the discovery service's certificate; for tests only.",
    ),
    discovery_client(
        "discovery-cert",
        Kind::Text,
        "",
        "Certificate to show to the discovery service.",
    ),
    discovery_client(
        "discovery-key",
        Kind::Text,
        "",
        "Key of the certificate to show to the discovery service.",
    ),
    discovery_client(
        "discovery-cacert",
        Kind::Text,
        "",
        "CA bundle that verifies the discovery service.",
    ),
    discovery_client(
        "discovery-user",
        Kind::Text,
        "",
        "User, or user:password, at the discovery service.",
    ),
    discovery_client(
        "discovery-password",
        Kind::Text,
        "",
        "Password at the discovery service.",
    ),
    clustering(
        "discovery-fallback",
        Kind::Choice(&["exit", "proxy"]),
        "exit",
        "What to do when discovery fails; only `exit` is left.",
    )
    .not_in_file(),
    clustering(
        "discovery-srv",
        Kind::Text,
        "",
        "Domain whose SRV records name the members.",
    ),
    clustering(
        "discovery-srv-name",
        Kind::Text,
        "",
        "Suffix of the service name in the SRV records.",
    ),
    clustering(
        "strict-reconfig-check",
        Kind::Bool,
        "true",
        "Refuse membership changes that would cost the quorum.",
    ),
    clustering(
        "pre-vote",
        Kind::Bool,
        "true",
        "Ask whether an election could be won before starting one; Engram always does.",
    )
    .without_effect(),
    clustering(
        "auto-compaction-retention",
        Kind::Text,
        "0",
        "History to keep: hours or a duration, or revisions, by the mode; 0 keeps all of it.",
    ),
    clustering(
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "`periodic` keeps history by age, `revision` by number.",
    ),
    clustering(
        "v2-deprecation",
        Kind::Choices(&[
            "gone",
            "write-only",
            "write-only-drop-data",
            "write-only-skip-check",
        ]),
        "write-only",
        "Stage of the removal of etcd's v2 store; the default is enforced.",
    )
    .without_effect(),
];
