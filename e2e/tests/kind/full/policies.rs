//! The cluster's NetworkPolicy in force: who is not let in is refused, who is gets through; members, the operator,
//! backups and Prometheus go on with their work, also with pods that come later.

use engram_e2e::kind::policies::Policies;
use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, SHELL_IMAGE, wait_for};
use serde_json::{Value, json};

use super::access;
use crate::ci::audit;
use crate::lab::{IMAGE, LIMIT, Lab, READY_LIMIT};
use crate::prometheus::Prometheus;
use crate::steps::{step, step_under};

const NAMESPACE: &str = "policies";
/// A pod of a client, and one of somebody else.
const CLIENT: &str = "client";
const STRANGER: &str = "stranger";
const PORTS: [u16; 3] = [2379, 2380, 2381];

/// Tells the story.
pub fn tell(lab: &Lab) {
    let kind = lab.with_operator();
    // Where this machine's clients come from: docker's network.
    let node = kind.node_address(&kind.nodes()[0]).to_string();
    let network = node.rsplitn(3, '.').last().expect("an address").to_owned();
    let demo = lab.cluster(
        NAMESPACE,
        3,
        &json!({ "networkPolicy": { "enabled": true, "from": [
            { "podSelector": { "matchLabels": { "role": CLIENT } } },
            { "ipBlock": { "cidr": format!("{network}.0.0/16") } },
        ] } }),
    );
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    step("before they are in force everybody gets through", || {
        for name in [CLIENT, STRANGER] {
            shell(&demo, name);
            assert_eq!(reached(&demo, name), PORTS, "{name}");
        }
    });
    let policies = Policies::enforce(kind);
    step_under(&traffic, "who is not let in is refused", || {
        assert_eq!(reached(&demo, CLIENT), [2379, 2381]);
        assert_eq!(reached(&demo, STRANGER), [2381]);
    });
    step_under(&traffic, "a client writes, and a stranger does not", || {
        assert_eq!(writes(&demo, "let-in", CLIENT), "Succeeded");
        assert_eq!(writes(&demo, "kept-out", STRANGER), "Failed");
    });
    step_under(&traffic, "a member comes back at another address", || {
        let follower = demo.follower();
        let uid = || {
            let pod = demo.kind().get(NAMESPACE, &["pod", &follower])?;
            Some(pod["metadata"]["uid"].clone())
        };
        let before = uid();
        demo.kind()
            .must(&["-n", NAMESPACE, "delete", "pod", &follower]);
        wait_for("another pod", READY_LIMIT, || {
            (uid()? != before.clone()?).then_some(())
        });
        demo.ready(3, READY_LIMIT);
    });
    step_under(&traffic, "two more join", || {
        demo.change(&json!({ "replicas": 5 }));
        demo.ready(5, READY_LIMIT);
    });
    step_under(&traffic, "a backup is made and verified", || {
        access::backup(&demo);
    });
    step_under(&traffic, "Prometheus sees all of them", || {
        let prometheus = Prometheus::start(kind, &[]);
        prometheus.wait("up{job=\"engram\",namespace=\"policies\"} == 1", 5);
        prometheus.wait("up{job=\"engram-operator\"} == 1", 2);
    });
    step_under(&traffic, "opened by its user, everybody is let in", || {
        demo.change(&json!({ "networkPolicy": { "from": [] } }));
        wait_for("a stranger reaches the clients' port", LIMIT, || {
            (reached(&demo, STRANGER) == [2379, 2381]).then_some(())
        });
    });
    drop(policies);
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// What restricted namespaces want of a container.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 65532,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// A pod with a shell, whose role is its name.
fn shell(demo: &Declared, name: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "role": name } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "shell", "image": SHELL_IMAGE, "command": ["cat"], "stdin": true,
                "securityContext": restricted(),
            }],
        },
    });
    demo.kind().apply(NAMESPACE, &pod.to_string());
    let pod = format!("pod/{name}");
    demo.kind()
        .wait(NAMESPACE, "condition=Ready", &[&pod], LIMIT);
}

/// The ports of a member that a shell reaches: whoever is let in is answered something, and be it that TLS is
/// spoken here.
fn reached(demo: &Declared, from: &str) -> Vec<u16> {
    let pods = demo.pods();
    let address = pods[0]["status"]["podIP"].as_str().expect("an address");
    let is_reached = |port: &u16| {
        let url = format!("http://{address}:{port}/");
        let wget = ["timeout", "5", "wget", "-q", "-O", "-", &url];
        let exec = ["-n", NAMESPACE, "exec", from, "--"];
        let finished = demo.kind().kubectl(&[&exec[..], &wget].concat());
        let said = finished.text();
        // Who is not let in is refused at once. What else wget says is of an answer; where it says nothing, or did
        // not run, nothing is known.
        let refused = said.contains("can't connect");
        let answered = finished.status.success() || (said.contains("wget: ") && !refused);
        assert!(answered || refused, "{from} at {url}: {said}");
        answered
    };
    PORTS.into_iter().filter(is_reached).collect()
}

/// Has a pod write a key over TLS, and returns how it ended.
fn writes(demo: &Declared, name: &str, role: &str) -> String {
    let tls = "/tls";
    let command = [
        "/usr/local/bin/engramctl",
        "--endpoints=https://demo-client:2379",
        &format!("--cacert={tls}/ca.crt"),
        &format!("--cert={tls}/tls.crt"),
        &format!("--key={tls}/tls.key"),
        // The policies learn of this pod's address while it dials.
        "--dial-timeout=30s",
        "--command-timeout=30s",
        "put",
        name,
        "1",
    ];
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "role": role } },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": { "fsGroup": 65532 },
            "volumes": [{ "name": "tls", "secret": {
                "secretName": "demo-client-tls", "defaultMode": 0o440,
            } }],
            "containers": [{
                "name": "client", "image": IMAGE, "command": command,
                "securityContext": restricted(),
                "volumeMounts": [{ "name": "tls", "mountPath": tls, "readOnly": true }],
            }],
        },
    });
    demo.kind().apply(NAMESPACE, &pod.to_string());
    wait_for(&format!("{name} is over"), LIMIT, || {
        let pod = demo.kind().get(NAMESPACE, &["pod", name])?;
        let phase = pod["status"]["phase"].as_str()?;
        ["Succeeded", "Failed"]
            .contains(&phase)
            .then(|| phase.to_owned())
    })
}
