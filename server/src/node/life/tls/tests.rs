//! Flags in, connections between members out.

use std::ffi::OsString;
use std::path::Path;

use super::*;
use crate::config::Outcome;
use crate::net::tls::Secured;
use crate::net::tls::fixture::{Authority, Wanted, meet, text};

const PEER_URL: &str = "https://127.0.0.1:12380";

/// The configuration of a member whose peer URL is `url`.
fn config(data_dir: &Path, url: &str, flags: &[String]) -> Config {
    let own = [
        format!("--data-dir={}", data_dir.display()),
        format!("--listen-peer-urls={url}"),
        format!("--initial-advertise-peer-urls={url}"),
        format!("--initial-cluster=default={url}"),
    ];
    let arguments = own.iter().chain(flags).map(OsString::from);
    let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    match crate::config::parse(arguments, std::iter::empty(), &no_file) {
        Outcome::Run { config, .. } => *config,
        other => panic!("expected to run, got {other:?}"),
    }
}

/// What members with these flags use among themselves.
fn members(flags: &[String]) -> Tls {
    let data_dir = tempfile::tempdir().unwrap();
    Tls::open(&config(data_dir.path(), PEER_URL, flags)).unwrap()
}

/// Flags of a member with a certificate, which asks others for one of the same authority.
fn flags(authority: &Authority) -> Vec<String> {
    let (certificate, key) = authority.issue("member", &Wanted::default());
    vec![
        format!("--peer-cert-file={}", certificate.display()),
        format!("--peer-key-file={}", key.display()),
        format!(
            "--peer-trusted-ca-file={}",
            authority.path("ca.pem").display()
        ),
        "--peer-client-cert-auth".to_owned(),
    ]
}

/// Flags of a member that presents another certificate than it shows.
fn presenting(authority: &Authority, wanted: &Wanted<'_>) -> Vec<String> {
    let (certificate, key) = authority.issue("presented", wanted);
    let mut flags = flags(authority);
    flags.push(format!("--peer-client-cert-file={}", certificate.display()));
    flags.push(format!("--peer-client-key-file={}", key.display()));
    flags
}

/// How a connection from `from` to `to` ends in the eyes of `to`.
async fn connect(from: &Tls, to: &Tls) -> Result<Secured, String> {
    let acceptor = to.peer.as_ref().expect("the peer URL has TLS");
    let (secured, _) = meet(acceptor, &from.connector).await;
    secured.map_err(|error| error.to_string())
}

#[tokio::test]
async fn members_with_certificates_of_their_own_making_meet() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |data_dir: &Path| {
        let config = config(data_dir, PEER_URL, &["--peer-auto-tls".to_owned()]);
        Tls::open(&config).unwrap()
    };
    let (from, to) = (open(first.path()), open(second.path()));
    assert!(first.path().join("fixtures/peer/cert.pem").is_file());
    assert!(to.client.is_none(), "no client URL has TLS");
    let secured = connect(&from, &to).await.map_err(|error| error.to_string());
    assert_eq!(secured.unwrap().identity, None, "nobody is asked");
}

#[tokio::test]
async fn members_with_certificates_know_each_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (ours, theirs) = (members(&flags(&authority)), members(&flags(&other)));
    let secured = connect(&ours, &ours).await.unwrap();
    assert_eq!(secured.identity.unwrap().common_name, "member");
    let refused = text(connect(&theirs, &ours).await);
    assert!(refused.starts_with("remote error: tls: "), "{refused}");
}

#[tokio::test]
async fn only_members_of_allowed_names_are_let_in() {
    let authority = Authority::new();
    let named = |common_name| {
        let wanted = Wanted {
            common_name,
            ..Wanted::default()
        };
        members(&presenting(&authority, &wanted))
    };
    let (member, stranger) = (named("member"), named("stranger"));
    let mut by_common_name = flags(&authority);
    by_common_name.push("--peer-cert-allowed-cn=other,member".to_owned());
    let strict = members(&by_common_name);
    assert!(connect(&member, &strict).await.is_ok());
    let refusal = "client certificate authentication failed";
    assert_eq!(text(connect(&stranger, &strict).await), refusal);

    let mut by_hostname = flags(&authority);
    by_hostname.push("--peer-cert-allowed-hostname=elsewhere.example".to_owned());
    let strict = members(&by_hostname);
    assert_eq!(text(connect(&member, &strict).await), refusal);
}

#[tokio::test]
async fn a_member_that_moved_is_let_in_if_its_address_does_not_count() {
    let authority = Authority::new();
    let elsewhere = Wanted {
        names: &["10.0.0.7"],
        ..Wanted::default()
    };
    let mut flags = presenting(&authority, &elsewhere);
    let strict = members(&flags);
    assert_eq!(
        text(connect(&strict, &strict).await),
        "x509: certificate is valid for 10.0.0.7, not 127.0.0.1"
    );
    flags.push("--peer-skip-client-san-verification".to_owned());
    let lenient = members(&flags);
    assert!(connect(&lenient, &lenient).await.is_ok());
}

#[test]
fn without_tls_there_is_nothing_to_accept_and_nothing_is_read() {
    let data_dir = tempfile::tempdir().unwrap();
    let config = config(data_dir.path(), "http://127.0.0.1:12380", &[]);
    let tls = Tls::open(&config).unwrap();
    assert!(tls.client.is_none() && tls.peer.is_none());
}

#[test]
fn what_is_measured_names_both_sides() {
    let authority = Authority::new();
    let registry = Registry::new();
    members(&flags(&authority)).register(&registry);
    let families = registry.gather();
    let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
    assert_eq!(
        names,
        [
            "engram_tls_certificate_expiry_timestamp_seconds",
            "engram_tls_handshakes_failed_total",
            "engram_tls_reloads_failed_total",
        ]
    );
    assert!(families[0].get_metric()[0].get_gauge().get_value() > 1.7e9);
}
