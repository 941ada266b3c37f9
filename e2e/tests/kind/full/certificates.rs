//! Certificates are replaced under load, and no pod restarts for it: an authority of the operator's by
//! its successor, and what a user keeps in a Secret by what the user puts there.

use std::net::SocketAddr;
use std::time::Duration;

use engram_e2e::certificates::{Authority, Certificate};
use engram_e2e::client;
use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Access, Declared, Kind, condition, wait_for};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::ci::audit;
use crate::lab::{LIMIT, Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const ROTATION: &str = "rotation";
const SECRETS: &str = "secrets";
/// An authority that ends soon, and then one that lasts longer: with a third of that left it is due.
const ENDS_SOON: &str = "7m";
const LASTS: &str = "24m";
/// The next authority is shown for two minutes before it signs; then kubelets take a minute and a
/// half to bring what it signed.
const ROTATED_LIMIT: Duration = Duration::from_secs(300);
/// The user's Secret.
const SECRET: &str = "mine";
/// Connections that have to see the new certificate, one after the other: the client Service leads to
/// a member by chance.
const CONNECTIONS: usize = 20;

/// The operator's authorities are followed by others: announced, then signing.
pub fn authority_rotated(lab: &Lab) {
    let soon = json!({ "tls": { "authorityLifetime": ENDS_SOON } });
    let demo = lab.cluster(ROTATION, 3, &soon);
    let ports = demo.node_ports();
    let before = pods(&demo);
    let next = step("the next authorities are announced", || announced(&demo));
    let access = demo.access();
    let traffic = Traffic::start(&access, &ports);
    step_under(&traffic, "they sign, and members show it", || {
        wait_for("the next authorities sign", ROTATED_LIMIT, || {
            (authorities(&demo, "tls.crt") == next).then_some(())
        });
        let leaf = secret_file(&demo, "demo-server-tls", "tls.crt");
        is_shown(&access, &ports, leaf.as_bytes());
    });
    assert_eq!(before, pods(&demo), "nobody restarts for a certificate");
    step_under(&traffic, "a member that restarts is let in", || {
        let follower = demo.follower();
        demo.kind()
            .must(&["-n", ROTATION, "delete", "pod", &follower]);
        demo.ready(3, READY_LIMIT);
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(ROTATION);
}

/// Has authorities be due; what comes next, once clients are told to trust it.
fn announced(demo: &Declared) -> [String; 2] {
    demo.change(&json!({ "tls": { "authorityLifetime": LASTS } }));
    wait_for("the next authorities are announced", LIMIT, || {
        let next = authorities(demo, "next.crt");
        let trusted = secret_file(demo, "demo-client-tls", "ca.crt");
        let complete = next.iter().all(|pem| !pem.is_empty()) && trusted.contains(&next[0]);
        complete.then_some(next)
    })
}

/// A file of the authority of clients, and of the authority of members.
fn authorities(demo: &Declared, file: &str) -> [String; 2] {
    ["demo-client-ca", "demo-peer-ca"].map(|secret| secret_file(demo, secret, file))
}

fn secret_file(demo: &Declared, secret: &str, file: &str) -> String {
    demo.kind().secret_file(demo.namespace(), secret, file)
}

/// Certificates are a user's: a Secret that is missing is named, and a new content is taken up.
pub fn from_secrets(lab: &Lab) {
    lab.with_operator();
    lab.namespace(SECRETS);
    let side = json!({ "mode": "Secret", "secretName": SECRET });
    let spec = json!({
        "replicas": 3,
        "storage": { "size": "1Gi" },
        "clientService": { "type": "NodePort" },
        "tls": { "client": side, "peer": side },
    });
    let demo = Declared::declare(lab.kind(), SECRETS, "demo", &spec);
    step("a Secret that is missing is named", || {
        let said = wait_for("TLSReady is false", LIMIT, || {
            condition(&demo.object()?, "TLSReady").filter(|said| said.status == "False")
        });
        assert_eq!(said.reason, "CertificateInvalid", "{said:?}");
        let advice = "there is no Secret mine: make it";
        assert!(said.message.contains(advice), "{said:?}");
    });
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(directory.path());
    let hosts = ["*.demo-peers.secrets.svc", "demo-client.secrets.svc"].map(str::to_owned);
    step("it is made, and members serve with it", || {
        let first = authority.issue_for(&hosts, "first", 1);
        put_secret(demo.kind(), SECRETS, SECRET, &authority, &first);
        demo.ready(3, READY_LIMIT);
    });
    let access = lab.kind().access_with(SECRETS, "demo", SECRET);
    let ports = demo.node_ports();
    let before = pods(&demo);
    let traffic = Traffic::start(&access, &ports);
    step_under(&traffic, "it is replaced, and members show it", || {
        let second = authority.issue_for(&hosts, "second", 2);
        put_secret(demo.kind(), SECRETS, SECRET, &authority, &second);
        let pem = std::fs::read(second.certificate).expect("the certificate is there");
        is_shown(&access, &ports, &pem);
    });
    assert_eq!(before, pods(&demo), "nobody restarts for a certificate");
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(SECRETS);
}

/// Puts what was issued into a Secret.
pub(super) fn put_secret(
    kind: &Kind,
    namespace: &str,
    name: &str,
    authority: &Authority,
    issued: &Certificate,
) {
    let read = |path| std::fs::read_to_string(path).expect("the certificate is there");
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name },
        "stringData": {
            "ca.crt": authority.pem(),
            "tls.crt": read(&issued.certificate),
            "tls.key": read(&issued.key),
        },
    });
    kind.apply(namespace, &secret.to_string());
}

/// Waits until new connections are shown this certificate, and no other.
fn is_shown(access: &Access, ports: &[SocketAddr], pem: &[u8]) {
    let wanted = CertificateDer::from_pem_slice(pem).expect("it is PEM");
    wait_for("members show the new certificate", ROTATED_LIMIT, || {
        let each = |turn: usize| access.shown(ports[turn % ports.len()]);
        client::runtime().block_on(async {
            for turn in 0..CONNECTIONS {
                if each(turn).await.ok()? != wanted {
                    return None;
                }
            }
            Some(())
        })
    });
}

/// The members' pods, and how often their containers were started again.
fn pods(demo: &Declared) -> Vec<(Value, Value)> {
    let identity = |pod: &Value| {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        (pod["metadata"]["uid"].clone(), restarts.clone())
    };
    let mut pods: Vec<_> = demo.pods().iter().map(identity).collect();
    pods.sort_by_key(|(uid, _)| uid.to_string());
    pods
}
