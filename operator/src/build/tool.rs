//! Pods that run engramctl once: backups, verifications, prunes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::api::{EngramCluster, StorePods};

use super::job::{
    CUT_OVER, CUT_OVER_ANNOTATION, CUT_OVER_FILE, Import, Job, PROGRAM, RESULT, SOURCE_TLS,
};
use super::names::{Names, cluster_labels, member_selector};
use super::pod::{VOLUME, container_security, pod_security, pull_policy, without_nulls};
use super::quantity;
use super::shaped;
use super::store::StoreAccess;

/// The container that runs engramctl.
pub const TOOL_CONTAINER: &str = "engramctl";
/// Where a tool's files for the cluster are.
const TLS: &str = "/etc/engram/tls/client";
/// Where a snapshot is spooled, and a backup restored to be looked at: the root file system is
/// read-only.
const SCRATCH: &str = "/scratch";
/// The room of a job that spools nothing.
const SCRATCH_MIN: &str = "64Mi";
/// The room where neither the store nor a cluster says how much.
const SCRATCH_DEFAULT: &str = "10Gi";
/// What a pod asks of its node where nothing is said: chunks and tables, and a small index.
const CPU: &str = "100m";
const MEMORY: &str = "256Mi";

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
    command.push(RESULT.to_owned());
    let mut mounts = tool.access.mounts.clone();
    let mut volumes = tool.access.volumes.clone();
    if tool.job.stores() {
        command.push(format!("--store={}", tool.access.url));
        command.extend(tool.access.key_flags());
        if tool.job != Job::Keys {
            command.push(format!("--cluster={}", tool.cluster_name));
        }
    }
    let mut annotations = Value::Null;
    match &tool.job {
        Job::Inspect { claim, .. } => {
            mounts.push(json!({ "name": "data", "mountPath": VOLUME, "readOnly": true }));
            let claim = json!({ "claimName": claim });
            volumes.push(json!({ "name": "data", "persistentVolumeClaim": claim }));
        }
        Job::Import(import) => {
            if import.cut_over {
                annotations = json!({ CUT_OVER_ANNOTATION: "true" });
            }
            for (name, path, source) in sources(import) {
                mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
                let mut volume = source;
                volume["name"] = json!(name);
                volumes.push(volume);
            }
        }
        _ => {}
    }
    mounts.push(json!({ "name": "scratch", "mountPath": SCRATCH }));
    volumes.push(scratch(tool));
    let secret = tool
        .cluster
        .filter(|_| tool.job.speaks())
        .and_then(|cluster| Names::of(cluster).operator_secret());
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
        "name": TOOL_CONTAINER,
        "image": own_image.unwrap_or(tool.image),
        "imagePullPolicy": tool.cluster.map_or("IfNotPresent", pull_policy),
        "command": command,
        "env": tool.access.env,
        "resources": resources(tool),
        "securityContext": container_security(tool.cluster),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let mut pod = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": tool.deadline,
        "serviceAccountName": tool.access.pods.service_account_name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": security(tool),
        "imagePullSecrets": spec.map(|spec| &spec.image_pull_secrets),
        // A store's volume may be on the members' own nodes.
        "tolerations": spec.map(|spec| &spec.scheduling.tolerations),
        "priorityClassName": spec.map(|spec| &spec.scheduling.priority_class_name),
        "affinity": match &tool.job {
            Job::Inspect { node, .. } => node.as_deref().map_or(Value::Null, on_node),
            _ => away_from_members(tool.cluster_name),
        },
        "containers": [container],
        "volumes": volumes,
    });
    without_nulls(&mut pod);
    let mut metadata = json!({
        "name": tool.name,
        "namespace": tool.namespace,
        "labels": labels(tool),
        "annotations": annotations,
        "ownerReferences": tool.owner.iter().collect::<Vec<_>>(),
    });
    without_nulls(&mut metadata);
    shaped(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod }))
}

/// What an import has mounted: the annotation that ends it, and how the other cluster is spoken to.
fn sources(import: &Import) -> Vec<(&'static str, &'static str, Value)> {
    let field = format!("metadata.annotations['{CUT_OVER_ANNOTATION}']");
    let item = json!({ "path": CUT_OVER_FILE, "fieldRef": { "fieldPath": field } });
    let annotation = json!({ "downwardAPI": { "items": [item] } });
    let mut all = vec![("import", CUT_OVER, annotation)];
    all.extend(import.secret.as_ref().map(|secret| {
        let secret = json!({ "secretName": secret, "defaultMode": 0o440 });
        ("source-tls", SOURCE_TLS, json!({ "secret": secret }))
    }));
    all
}

/// Its own, which no other may take the place of, and the store's.
fn labels(tool: &Tool<'_>) -> BTreeMap<String, String> {
    let mut labels = tool.access.pods.labels.clone();
    labels.extend(cluster_labels(tool.cluster_name, "backup"));
    labels
}

/// As the store says, else as the cluster does, else the operator's own.
fn security(tool: &Tool<'_>) -> Value {
    match &tool.access.pods.security_context {
        Some(given) => json!(given),
        None => pod_security(tool.cluster),
    }
}

/// Bounded, so that a pod which needs more is ended before its node's disk is full.
fn scratch(tool: &Tool<'_>) -> Value {
    // No `..`: a new wish does not compile until it reaches the pod.
    let crate::api::Scratch {
        size,
        claim,
        storage_class_name,
    } = &tool.access.pods.scratch;
    if !tool.job.spools() {
        return json!({ "name": "scratch", "emptyDir": { "sizeLimit": SCRATCH_MIN } });
    }
    let member = tool
        .cluster
        .map(|cluster| cluster.spec.storage.size.as_str());
    let size = size.as_deref().or(member).unwrap_or(SCRATCH_DEFAULT);
    if !claim {
        return json!({ "name": "scratch", "emptyDir": { "sizeLimit": size } });
    }
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": size } },
    });
    if let Some(class) = storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    let labels = cluster_labels(tool.cluster_name, "backup");
    let template = json!({ "metadata": { "labels": labels }, "spec": spec });
    json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": template } })
}

fn resources(tool: &Tool<'_>) -> Value {
    let StorePods {
        resources,
        scratch: _,
        service_account_name: _,
        labels: _,
        security_context: _,
    } = &tool.access.pods;
    if let Some(resources) = resources {
        return json!(resources);
    }
    let member = tool
        .cluster
        .and_then(|cluster| cluster.spec.resources.as_ref());
    let limits = member.and_then(|member| member.limits.as_ref());
    let memory = limits.and_then(|limits| limits.get("memory"));
    let mut resources = json!({ "requests": { "cpu": CPU, "memory": MEMORY } });
    if let Some(memory) = memory {
        resources["limits"] = json!({ "memory": memory });
        // A request is never above the limit.
        if !is_above(&memory.0, MEMORY) {
            resources["requests"]["memory"] = json!(memory);
        }
    }
    resources
}

fn is_above(left: &str, right: &str) -> bool {
    quantity::bytes(left) > quantity::bytes(right)
}

/// Where a volume is mounted already.
fn on_node(node: &str) -> Value {
    let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let terms = json!([{ "matchFields": [field] }]);
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": terms,
    } } })
}

/// Where there is a choice: what a backup takes of a node is not a member's.
fn away_from_members(cluster: &str) -> Value {
    let term = json!({
        "labelSelector": { "matchLabels": member_selector(cluster) },
        "topologyKey": "kubernetes.io/hostname",
    });
    json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 100, "podAffinityTerm": term },
    ] } })
}
