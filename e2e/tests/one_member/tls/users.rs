//! Users by the common name of their certificate, here and at a real etcd.

use std::process::Command;

use engram_e2e::certificates::{Authority, Certificate};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};

use super::{Credentials, etcdctl, must};

/// A server that knows its clients by their certificates.
fn server(setup: Setup, own: &Certificate, authority: &Authority) -> Server {
    let mut server = setup.flag("--bcrypt-cost=4").prepare();
    server.speak_tls(own.for_known_clients(&authority.bundle()));
    server.start();
    server
}

fn said(command: &mut Command, arguments: &[&str]) -> String {
    command.arg("--command-timeout=4s").args(arguments);
    let text = tools::run(command, tools::TOOL_LIMIT).text();
    let lines = text.lines().filter(|line| !line.starts_with("{\"level\""));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_certificates_common_name_is_a_user() {
    let _turn = turn::take("users by certificate");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(scratch.path());
    let own = authority.issue("server", 1);
    let with = |name: &str, serial| Credentials {
        authorities: authority.bundle(),
        certificate: Some(authority.issue(name, serial)),
    };
    let (root, alice, stranger) = (with("root", 2), with("alice", 3), with("mallory", 4));
    let told = [Setup::etcd(), Setup::engram()].map(|setup| {
        let server = server(setup, &own, &authority);
        for step in [
            "user add root:pw",
            "user grant-role root root",
            "role add r",
            "role grant-permission r readwrite a b",
            "user add alice --no-password",
            "user grant-role alice r",
            "auth enable",
        ] {
            must(
                &mut etcdctl(&server, &alice),
                &step.split(' ').collect::<Vec<_>>(),
            );
        }
        let mut told = Vec::new();
        for (who, step) in [
            (&alice, "put a1 v"),
            (&alice, "get a1"),
            (&alice, "get z"),
            (&alice, "user list"),
            (&stranger, "get a1"),
            (&stranger, "put a1 v"),
            (&root, "get z"),
            (&root, "user list"),
            // A token says who it is, whatever the certificate does.
            (&alice, "--user=root:pw user list"),
            (&alice, "--user=root:no user list"),
        ] {
            let words: Vec<&str> = step.split(' ').collect();
            told.push((step, said(&mut etcdctl(&server, who), &words)));
        }
        told.push(("the gateway", gateway(&server, &alice)));
        told
    });
    assert_eq!(told[1], told[0]);
    assert!(told[1][1].1.contains("a1"), "{told:?}");
}

/// What the operator and its pods show: a certificate of the cluster's client authority. Where its name
/// is root's, all that they ask is granted, without a password anywhere.
#[test]
fn a_cluster_is_looked_after_and_backed_up_by_the_name_of_a_certificate() {
    let _turn = turn::take("an operator by certificate");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(scratch.path());
    let own = authority.issue("server", 1);
    let operator = Credentials {
        authorities: authority.bundle(),
        certificate: Some(authority.issue("demo client", 2)),
    };
    let server = server(Setup::engram(), &own, &authority);
    for step in [
        &["user", "add", "root:pw"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "demo client", "--no-password"],
        &["user", "grant-role", "demo client", "root"],
        &["auth", "enable"],
        &["put", "a", "b"],
    ] {
        must(&mut etcdctl(&server, &operator), step);
    }
    let backups = tempfile::tempdir().expect("a temporary directory");
    let store = format!("--store=file://{}", backups.path().display());
    for step in [
        &["endpoint", "status"][..],
        &["member", "list"],
        &["alarm", "list"],
        &["alarm", "disarm"],
        &["compact", "2"],
        &["defrag"],
        &["endpoint", "hashkv"],
        &["backup", "create", &store, "--cluster=demo"],
        &["backup", "verify", &store],
    ] {
        let mut engramctl = tools::command(&tools::engramctl());
        engramctl.arg(format!("--endpoints=https://{}", server.address()));
        engramctl.args(operator.arguments());
        must(&mut engramctl, step);
    }
}

/// CVE-2018-16886: over the gateway a certificate is nobody.
fn gateway(server: &Server, who: &Credentials) -> String {
    let certificate = who.certificate.as_ref().expect("it has one");
    let mut curl = tools::command("curl".as_ref());
    curl.args(["-s", "-X", "POST", "-d", r#"{"key":"YTE="}"#, "--cacert"]);
    curl.arg(&who.authorities)
        .arg("--cert")
        .arg(&certificate.certificate);
    curl.arg("--key").arg(&certificate.key);
    curl.arg(format!("https://{}/v3/kv/range", server.address()));
    tools::must_succeed(&mut curl)
}
