//! How a cluster is found: the flags `--discovery-*`.

use std::time::Duration;

use super::raw::Raw;
use super::settings::{Discovery, TlsFiles, path};

/// The settings that the flags give.
pub(super) fn discovery(raw: &Raw) -> Discovery {
    let duration = |name| Duration::from_nanos(u64::try_from(raw.duration(name)).unwrap_or(0));
    let is_unverified = raw.bool("discovery-insecure-skip-tls-verify");
    let trusted_ca = path(raw.text("discovery-cacert")).filter(|_| !is_unverified);
    Discovery {
        endpoints: raw.list("discovery-endpoints").to_vec(),
        token: raw.text("discovery-token").to_owned(),
        srv_domain: raw.text("discovery-srv").to_owned(),
        srv_name: raw.text("discovery-srv-name").to_owned(),
        dial_timeout: duration("discovery-dial-timeout"),
        request_timeout: duration("discovery-request-timeout"),
        keepalive_interval: duration("discovery-keepalive-time"),
        keepalive_timeout: duration("discovery-keepalive-timeout"),
        requires_tls: !raw.bool("discovery-insecure-transport"),
        tls: TlsFiles {
            cert: path(raw.text("discovery-cert")),
            key: path(raw.text("discovery-key")),
            trusted_ca,
            self_signed: is_unverified,
            ..TlsFiles::default()
        },
        user: user(raw.text("discovery-user"), raw.text("discovery-password")),
    }
}

/// `user:password`, or a user and a password of its own.
fn user(user: &str, password: &str) -> Option<(String, String)> {
    let (name, password) = match user.split_once(':') {
        Some((name, own)) if password.is_empty() => (name, own),
        _ => (user, password),
    };
    (!name.is_empty()).then(|| (name.to_owned(), password.to_owned()))
}
