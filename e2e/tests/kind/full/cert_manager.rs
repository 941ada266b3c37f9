//! Certificates by cert-manager: its definition is there, and the test plays its controller and an issuer. Members
//! serve with what it issues, clients are asked who they are, and what it renews is taken up.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use engram_e2e::certificates::Authority;
use engram_e2e::kind::{Declared, Kind, condition, wait_for};
use engram_e2e::raise::RaiseOnDrop;
use serde_json::{Value, json};

use super::certificates::put_secret;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "issued";
const ROOT: &str = "chosen";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let kind = lab.with_operator();
    lab.namespace(NAMESPACE);
    let issuer = json!({ "mode": "CertManager", "issuerRef": { "name": "ours" } });
    let spec = json!({
        "replicas": 3,
        "storage": { "size": "1Gi" },
        "clientService": { "type": "NodePort" },
        "tls": { "client": issuer, "peer": issuer },
        "auth": { "enabled": true, "rootSecretRef": { "name": ROOT } },
    });
    let demo = Declared::declare(kind, NAMESPACE, "demo", &spec);
    step("without cert-manager that is said", || {
        said(&demo, "TLSReady", "there is no cert-manager");
    });
    kind.apply(NAMESPACE, &definition().to_string());
    step("what is not issued yet is said", || {
        said(&demo, "TLSReady", "cert-manager has not made Secret");
    });
    let root = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": ROOT },
        "stringData": { "password": "of-my-own" },
    });
    kind.apply(NAMESPACE, &root.to_string());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = RaiseOnDrop(&stop);
        scope.spawn(|| issue(kind, directory.path(), &stop));
        step("it is issued, and members serve with it", || {
            demo.ready(3, READY_LIMIT);
        });
        step("root is who the user's Secret says", || {
            wait_for("root with its password", LIMIT, || {
                let words = ["--user", "root:of-my-own", "user", "list"];
                beside(&demo, &words).contains("root").then_some(())
            });
            assert!(!beside(&demo, &["user", "list"]).contains("root"));
        });
        step(
            "a member that restarts is let in with what is issued anew",
            || {
                let follower = demo.follower();
                // First of all the Secret: nobody starts with what was there.
                let secret = another(kind, "secret", "demo-peer-tls");
                let pod = another(kind, "pod", &follower);
                wait_for("its pod is another one", READY_LIMIT, || {
                    (uid(kind, "pod", &follower)? != pod).then_some(())
                });
                demo.ready(3, READY_LIMIT);
                assert_ne!(uid(kind, "secret", "demo-peer-tls"), Some(secret));
            },
        );
    });
    lab.clear(NAMESPACE);
}

fn uid(kind: &Kind, what: &str, name: &str) -> Option<String> {
    let object = kind.get(NAMESPACE, &[what, name])?;
    Some(object["metadata"]["uid"].as_str()?.to_owned())
}

/// Deletes an object that somebody makes again, and returns who it was.
fn another(kind: &Kind, what: &str, name: &str) -> String {
    let before = uid(kind, what, name).expect("it is there");
    kind.must(&["-n", NAMESPACE, "delete", what, name, "--wait=false"]);
    before
}

/// What engramctl says beside a member, well or not.
fn beside(demo: &Declared, words: &[&str]) -> String {
    let tls = "/etc/engram/tls/client";
    let files = [
        ("cacert", "ca.crt"),
        ("cert", "tls.crt"),
        ("key", "tls.key"),
    ];
    let files = files.map(|(flag, file)| format!("--{flag}={tls}/{file}"));
    let exec = ["-n", NAMESPACE, "exec", "demo-1", "-c", "engram", "--"];
    let program = ["engramctl", "--endpoints=https://localhost:2379"];
    let mut all: Vec<&str> = [&exec[..], &program[..]].concat();
    all.extend(files.iter().map(String::as_str));
    all.extend(words);
    demo.kind().kubectl(&all).text()
}

fn said(demo: &Declared, kind: &str, words: &str) {
    wait_for(words, LIMIT, || {
        let said = condition(&demo.object()?, kind)?;
        (said.status == "False" && said.message.contains(words)).then_some(())
    });
}

/// cert-manager's definition, as far as it matters here.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "certificates.cert-manager.io" },
        "spec": {
            "group": "cert-manager.io", "scope": "Namespaced",
            "names": { "plural": "certificates", "singular": "certificate", "kind": "Certificate" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                } },
            }],
        },
    })
}

/// Makes the Secret of each Certificate that has none.
fn issue(kind: &Kind, directory: &Path, stop: &AtomicBool) {
    let authority = Authority::new(directory);
    let mut serial = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_secs(1));
        let asked = kind.get(NAMESPACE, &["certificates.cert-manager.io"]);
        let asked = asked.unwrap_or_default();
        for one in asked["items"].as_array().into_iter().flatten() {
            serial += 1;
            sign(kind, &authority, one, serial);
        }
    }
}

fn sign(kind: &Kind, authority: &Authority, asked: &Value, serial: u64) {
    let spec = &asked["spec"];
    let name = spec["secretName"].as_str().expect("secretName");
    if kind.get(NAMESPACE, &["secret", name]).is_some() {
        return;
    }
    let names = |key: &str| {
        let all = spec[key].as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_owned))
    };
    let hosts: Vec<String> = names("dnsNames").chain(names("ipAddresses")).collect();
    let common = spec["commonName"].as_str().expect("commonName");
    let issued = authority.issue_for(&hosts, common, serial);
    put_secret(kind, NAMESPACE, name, authority, &issued);
}
