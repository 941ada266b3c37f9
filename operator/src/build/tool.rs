//! Pods that run engramctl once: backups, verifications, prunes.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::api::EngramCluster;

use super::names::{Names, cluster_labels};
use super::pod::{container_security, pod_security, pull_policy};
use super::shaped;
use super::store::StoreAccess;

/// Where a tool's files for the cluster are.
const TLS: &str = "/etc/engram/tls/client";
/// Where the result is written: Kubernetes keeps it with the pod (4 KiB at most).
const RESULT: &str = "--result-file=/dev/termination-log";

/// One run of engramctl.
#[derive(Clone, Debug)]
pub struct Tool<'a> {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The cluster whose backup this is, as the store has it.
    pub cluster_name: &'a str,
    /// The cluster itself, where it still exists: its image and pull settings are used.
    pub cluster: Option<&'a EngramCluster>,
    /// The image where the cluster names none.
    pub image: &'a str,
    /// engramctl's words, without the store.
    pub words: Vec<String>,
    /// Whether it speaks to the cluster.
    pub speaks: bool,
    /// The store.
    pub access: &'a StoreAccess,
    /// How long it may run, in seconds.
    pub deadline: i64,
    /// The object that it works for.
    pub owner: Option<OwnerReference>,
}

/// The pod of a run. It is not started again when it fails: that is the operator's to decide.
#[must_use]
pub fn tool_pod(tool: &Tool<'_>) -> Pod {
    let mut command = vec!["/usr/local/bin/engramctl".to_owned()];
    command.extend(tool.words.iter().cloned());
    command.push(format!("--store={}", tool.access.url));
    command.push(format!("--cluster={}", tool.cluster_name));
    command.push(RESULT.to_owned());
    let mut mounts = tool.access.mounts.clone();
    let mut volumes = tool.access.volumes.clone();
    // Scratch space for restores that are only looked at.
    mounts.push(json!({ "name": "tmp", "mountPath": "/tmp" }));
    volumes.push(json!({ "name": "tmp", "emptyDir": {} }));
    if let Some(cluster) = tool.cluster.filter(|_| tool.speaks) {
        let names = Names::of(cluster);
        command.push(format!("--endpoints={}", names.endpoint()));
        if let Some(secret) = names.client_secret() {
            command.push(format!("--cacert={TLS}/ca.crt"));
            command.push(format!("--cert={TLS}/tls.crt"));
            command.push(format!("--key={TLS}/tls.key"));
            mounts.push(json!({ "name": "tls", "mountPath": TLS, "readOnly": true }));
            let secret = json!({ "secretName": secret, "defaultMode": 0o440 });
            volumes.push(json!({ "name": "tls", "secret": secret }));
        }
    }
    let own_image = tool
        .cluster
        .and_then(|cluster| cluster.spec.image.as_deref());
    let container = json!({
        "name": "engramctl",
        "image": own_image.unwrap_or(tool.image),
        "imagePullPolicy": tool.cluster.map_or("IfNotPresent", pull_policy),
        "command": command,
        "env": tool.access.env,
        "securityContext": container_security(),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let secrets = tool
        .cluster
        .map(|cluster| json!(cluster.spec.image_pull_secrets));
    shaped(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": tool.name,
            "namespace": tool.namespace,
            "labels": cluster_labels(tool.cluster_name, "backup"),
            "ownerReferences": tool.owner.iter().collect::<Vec<_>>(),
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": tool.deadline,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": pod_security(),
            "imagePullSecrets": secrets.unwrap_or(Value::Array(Vec::new())),
            "containers": [container],
            "volumes": volumes,
        },
    }))
}
