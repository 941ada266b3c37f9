//! Flags of TLS, of browsers' access and of authentication.

use super::{FlagSpec, Kind, Section};

/// A file or rule of TLS. Config files hold most of them in a block for clients or for peers.
const fn tls(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    FlagSpec::new(Section::Security, name, kind, default, about).not_in_file()
}

const fn security(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    FlagSpec::new(Section::Security, name, kind, default, about)
}

const fn auth(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> FlagSpec {
    FlagSpec::new(Section::Auth, name, kind, default, about)
}

pub(super) const FLAGS: &[FlagSpec] = &[
    tls(
        "cert-file",
        Kind::Text,
        "",
        "Certificate to show to clients.",
    ),
    tls("key-file", Kind::Text, "", "Key of --cert-file."),
    tls(
        "client-cert-auth",
        Kind::Bool,
        "false",
        "Ask clients for a certificate.",
    ),
    tls(
        "client-cert-file",
        Kind::Text,
        "",
        "Certificate for connections to itself, if not --cert-file.",
    ),
    tls(
        "client-key-file",
        Kind::Text,
        "",
        "Key of --client-cert-file.",
    ),
    tls(
        "client-crl-file",
        Kind::Text,
        "",
        "Revoked certificates of clients.",
    ),
    tls(
        "client-cert-allowed-hostname",
        Kind::List,
        "",
        "Names of which a client's certificate must hold one.",
    ),
    tls(
        "trusted-ca-file",
        Kind::Text,
        "",
        "CA bundle that verifies clients.",
    ),
    tls(
        "auto-tls",
        Kind::Bool,
        "false",
        "Make a certificate for clients if none is given.",
    ),
    tls(
        "peer-cert-file",
        Kind::Text,
        "",
        "Certificate to show to other members.",
    ),
    tls("peer-key-file", Kind::Text, "", "Key of --peer-cert-file."),
    tls(
        "peer-client-cert-auth",
        Kind::Bool,
        "false",
        "Ask other members for a certificate.",
    ),
    tls(
        "peer-client-cert-file",
        Kind::Text,
        "",
        "Certificate for connections to other members, if not --peer-cert-file.",
    ),
    tls(
        "peer-client-key-file",
        Kind::Text,
        "",
        "Key of --peer-client-cert-file.",
    ),
    tls(
        "peer-trusted-ca-file",
        Kind::Text,
        "",
        "CA bundle that verifies other members.",
    ),
    tls(
        "peer-crl-file",
        Kind::Text,
        "",
        "Revoked certificates of other members.",
    ),
    tls(
        "peer-cert-allowed-cn",
        Kind::List,
        "",
        "Common names of which a member's certificate must hold one.",
    ),
    tls(
        "peer-cert-allowed-hostname",
        Kind::List,
        "",
        "Names of which a member's certificate must hold one.",
    ),
    tls(
        "peer-auto-tls",
        Kind::Bool,
        "false",
        "Make a certificate for members if none is given.",
    ),
    tls(
        "peer-skip-client-san-verification",
        Kind::Bool,
        "false",
        "Do not compare a member's address with its certificate.",
    ),
    security(
        "self-signed-cert-validity",
        Kind::Unsigned,
        "1",
        "Time that a certificate made by --auto-tls or --peer-auto-tls is valid.",
    )
    .unit("years")
    .range(0, 1_000),
    security(
        "cipher-suites",
        Kind::List,
        "",
        "TLS 1.2 cipher suites to accept, by their IANA names; empty means a safe choice.",
    ),
    security(
        "tls-min-version",
        Kind::Text,
        "TLS1.2",
        "Oldest TLS version: TLS1.2 or TLS1.3.",
    ),
    security(
        "tls-max-version",
        Kind::Text,
        "",
        "Newest TLS version: TLS1.2 or TLS1.3; empty means the newest.",
    ),
    security(
        "cors",
        Kind::Origins,
        "*",
        "Origins whose pages may read answers; `*` means all.",
    ),
    security(
        "host-whitelist",
        Kind::Set,
        "*",
        "Host names that requests without TLS may ask for; `*` means all.",
    ),
    auth(
        "auth-token",
        Kind::Text,
        "simple",
        "Kind of token: `simple`, or `jwt,sign-method=…,pub-key=…,priv-key=…,ttl=…`.",
    ),
    auth(
        "bcrypt-cost",
        Kind::Unsigned,
        "10",
        "Cost of hashing a password, 4 to 31; else the default.",
    )
    .unit("log2 of rounds"),
    auth(
        "auth-token-ttl",
        Kind::Unsigned,
        "300",
        "Time that a simple token lives without use.",
    )
    .unit("s"),
];
