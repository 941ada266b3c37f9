//! Pods that run engramctl once: backups, verifications, prunes.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use crate::api::EngramCluster;

use super::job::{Job, PROGRAM, RESULT};
use super::names::{Names, cluster_labels};
use super::pod::{container_security, pod_security, pull_policy, without_nulls};
use super::shaped;
use super::store::StoreAccess;

/// Where a tool's files for the cluster are.
const TLS: &str = "/etc/engram/tls/client";
/// Where a snapshot is spooled, and a backup restored to be looked at: the root file system is
/// read-only. It needs the room of a member's database on the node.
const SCRATCH: &str = "/scratch";

/// One run of engramctl.
#[derive(Clone, Debug)]
pub struct Tool<'a> {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The cluster whose backup this is, as the store has it.
    pub cluster_name: &'a str,
    /// The cluster itself, where it still exists: its image, pull settings and tolerations are used.
    pub cluster: Option<&'a EngramCluster>,
    /// The image where the cluster names none.
    pub image: &'a str,
    /// What it does.
    pub job: Job,
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
    let mut command = vec![PROGRAM.to_owned()];
    command.extend(tool.job.words(SCRATCH));
    command.push(format!("--store={}", tool.access.url));
    command.push(format!("--cluster={}", tool.cluster_name));
    command.push(RESULT.to_owned());
    let mut mounts = tool.access.mounts.clone();
    let mut volumes = tool.access.volumes.clone();
    mounts.push(json!({ "name": "scratch", "mountPath": SCRATCH }));
    volumes.push(json!({ "name": "scratch", "emptyDir": {} }));
    let secret = tool
        .cluster
        .filter(|_| tool.job.speaks())
        .and_then(|cluster| Names::of(cluster).client_secret());
    if let Some(secret) = secret {
        command.push(format!("--cacert={TLS}/ca.crt"));
        command.push(format!("--cert={TLS}/tls.crt"));
        command.push(format!("--key={TLS}/tls.key"));
        mounts.push(json!({ "name": "tls", "mountPath": TLS, "readOnly": true }));
        let secret = json!({ "secretName": secret, "defaultMode": 0o440 });
        volumes.push(json!({ "name": "tls", "secret": secret }));
    }
    let spec = tool.cluster.map(|cluster| &cluster.spec);
    let own_image = spec.and_then(|spec| spec.image.as_deref());
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
    let mut pod = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": tool.deadline,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": pod_security(),
        "imagePullSecrets": spec.map(|spec| &spec.image_pull_secrets),
        // A store's volume may be on the members' own nodes.
        "tolerations": spec.map(|spec| &spec.scheduling.tolerations),
        "containers": [container],
        "volumes": volumes,
    });
    without_nulls(&mut pod);
    shaped(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": tool.name,
            "namespace": tool.namespace,
            "labels": cluster_labels(tool.cluster_name, "backup"),
            "ownerReferences": tool.owner.iter().collect::<Vec<_>>(),
        },
        "spec": pod,
    }))
}
