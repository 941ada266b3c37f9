//! What any cluster has to be able to do: run a Deployment, find it by a Service's name, answer DNS,
//! and keep a volume's content from one pod to the next.

use std::time::Duration;

use engram_e2e::kind::{Kind, SHELL_IMAGE};
use serde_json::{Value, json};

use crate::steps::step;

/// How long a pod, a roll or a volume may take. Seconds are usual; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const REPLICAS: usize = 2;
const PORT: u16 = 8080;

/// Runs the test in a namespace of its own, which is deleted to the end.
pub fn passes(kind: &Kind, namespace: &str) {
    kind.must(&["create", "namespace", namespace]);
    step("  a Deployment becomes pods", || {
        deployment(kind, namespace);
    });
    step("  each pod answers by the Service's name", || {
        service(kind, namespace);
    });
    step("  a volume outlives its pod", || volume(kind, namespace));
    step("  the namespace is deleted to the end", || {
        kind.must_within(LIMIT, &["delete", "namespace", namespace]);
    });
}

/// A web server that says its own name, a few times over, and a Service for it.
fn deployment(kind: &Kind, namespace: &str) {
    let serve = format!("mkdir /tmp/w; hostname >/tmp/w/name; exec httpd -f -p {PORT} -h /tmp/w");
    let container = json!({
        "name": "web",
        "image": SHELL_IMAGE,
        "command": ["/bin/sh", "-c", serve],
        "readinessProbe": { "httpGet": { "path": "/name", "port": PORT }, "periodSeconds": 1 },
    });
    let labels = json!({ "app": "web" });
    kind.apply(
        namespace,
        &list(&[
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
                "spec": {
                    "replicas": REPLICAS,
                    "selector": { "matchLabels": labels },
                    "template": {
                        "metadata": { "labels": labels },
                        // The server is process 1 and has no handler of SIGTERM.
                        "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
                    },
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": { "selector": labels, "ports": [{ "port": 80, "targetPort": PORT }] },
            }),
        ]),
    );
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    kind.must_within(
        LIMIT * 2,
        &[
            "-n",
            namespace,
            "rollout",
            "status",
            "deployment/web",
            &timeout,
        ],
    );
}

/// From a pod, by the name of the Service, long and short, until every replica has answered. What
/// comes back is compared: an answer from anybody else would not do. (`wget -T` of Debian 12's busybox
/// crashes.)
fn service(kind: &Kind, namespace: &str) {
    let pods = kind
        .get(namespace, &["pods", "-l", "app=web"])
        .expect("pods are listed");
    let names: Vec<&str> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names.len(), REPLICAS, "{names:?}");
    let script = format!(
        "for i in $(seq 30); do timeout 5 wget -q -O - http://web/name; \
         timeout 5 wget -q -O - http://web.{namespace}.svc.cluster.local/name; done"
    );
    let said = run_to_end(kind, namespace, "client", &script, &[]);
    for name in names {
        assert!(said.contains(name), "{name} never answered: {said}");
    }
}

/// One pod writes to a volume of the default StorageClass, another reads it.
fn volume(kind: &Kind, namespace: &str) {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "64Mi" } },
        },
    });
    kind.apply(namespace, &claim.to_string());
    let mount = [("data", "/data")];
    run_to_end(
        kind,
        namespace,
        "writes",
        "echo kept >/data/f; sync",
        &mount,
    );
    let read = run_to_end(kind, namespace, "reads", "cat /data/f", &mount);
    assert_eq!(read.trim(), "kept");
}

/// Runs a shell script in a pod, with claims mounted, and returns what it printed.
fn run_to_end(
    kind: &Kind,
    namespace: &str,
    pod: &str,
    script: &str,
    claims: &[(&str, &str)],
) -> String {
    let mounts: Vec<Value> = claims
        .iter()
        .map(|(claim, path)| json!({ "name": claim, "mountPath": path }))
        .collect();
    let volumes: Vec<Value> = claims
        .iter()
        .map(|(claim, _)| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
        .collect();
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod },
        "spec": {
            "restartPolicy": "Never",
            "volumes": volumes,
            "containers": [{
                "name": "shell", "image": SHELL_IMAGE, "volumeMounts": mounts,
                "command": ["/bin/sh", "-c", script],
            }],
        },
    });
    kind.apply(namespace, &manifest.to_string());
    let what = format!("pod/{pod}");
    kind.wait(
        namespace,
        "jsonpath={.status.phase}=Succeeded",
        &[&what],
        LIMIT,
    );
    kind.must(&["-n", namespace, "logs", pod])
}

fn list(items: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}
