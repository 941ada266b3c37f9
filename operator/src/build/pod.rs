//! A member's pod.

use k8s_openapi::api::core::v1::Pod;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::{
    AntiAffinity, EngramCluster, EngramMember, ImagePullPolicy, RESTART_ANNOTATION, Recovery,
    Spread,
};

use super::alone;
use super::archive;
use super::fill;
use super::flags::{self, CLIENT_TLS, PEER_TLS};
use super::names::{
    CLIENT_PORT, MEMBER_LABEL, METRICS_PORT, Names, PEER_PORT, member_labels, member_selector,
};
use super::shaped;
use super::store::StoreAccess;
use super::volume::claim_name;

/// The member's container.
pub const MEMBER_CONTAINER: &str = "engram";
/// Where a member keeps its data: below the volume's root, which may hold a `lost+found`.
pub(super) const DATA_DIRECTORY: &str = "/var/lib/engram/data";
/// Where a member's volume is.
pub(super) const VOLUME: &str = "/var/lib/engram";
/// On pods: what they were made from, so that one that is other than wanted is known.
pub const TEMPLATE_ANNOTATION: &str = "engram.dev/template";
/// The user and group of the image: nobody's.
pub(super) const USER: i64 = 65_532;
/// Probes of a start: recovery replays the log, which may take long (30 minutes).
const START_PROBES: u32 = 900;

/// What is known of a member when its pod is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberPod {
    /// Its name.
    pub name: String,
    /// `--initial-cluster`.
    pub initial_cluster: String,
    /// Whether it founds the cluster.
    pub founds: bool,
    /// Members that are being taken out: it need not keep away from them.
    pub leaving: Vec<String>,
    /// For which restore it goes on alone, if it does: its UID.
    pub alone: Option<String>,
}

/// The pod of a member. `restore` is the backup that its volume is filled from before it starts.
#[must_use]
pub fn member_pod(
    cluster: &EngramCluster,
    object: &EngramMember,
    member: &MemberPod,
    image: &str,
    restore: Option<(&Recovery, &StoreAccess)>,
) -> Pod {
    let names = Names::of(cluster);
    let template = &cluster.spec.pod_template;
    let mut labels = template.labels.clone();
    labels.extend(member_labels(&names.cluster, &member.name));
    let mut annotations = template.annotations.clone();
    annotations.insert(TEMPLATE_ANNOTATION.into(), template_hash(cluster, image));
    let mut spec = pod_spec(cluster, member, image);
    spec["hostname"] = json!(member.name);
    spec["subdomain"] = json!(names.peers());
    let claim =
        json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim_name(object) } });
    push(&mut spec["volumes"], claim);
    if let Some((recovery, access)) = restore {
        let container = fill::container(cluster, member, image, recovery, access);
        spec["initContainers"] = json!([container]);
        annotations.insert(
            fill::FILL_ANNOTATION.into(),
            fill::fill_hash(recovery, access),
        );
        for volume in &access.volumes {
            push(&mut spec["volumes"], volume.clone());
        }
    }
    if let Some(once) = &member.alone {
        spec["initContainers"] = json!([alone::container(cluster, image, once)]);
        annotations.insert(alone::ALONE_ANNOTATION.into(), once.clone());
    }
    shaped(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": member.name,
            "namespace": names.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": object.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": spec,
    }))
}

/// What a cluster's pods are made from, in 16 hexadecimal digits: equal for all its members, and
/// changed by whatever would have to reach a running one.
#[must_use]
pub fn template_hash(cluster: &EngramCluster, image: &str) -> String {
    let spec = pod_spec(cluster, &MemberPod::default(), image);
    let template = &cluster.spec.pod_template;
    let restarted = cluster.annotations().get(RESTART_ANNOTATION);
    let all = json!([spec, template.labels, template.annotations, restarted]);
    digest(&all)
}

/// 16 hexadecimal digits of whatever this is.
#[must_use]
pub fn digest(of: &Value) -> String {
    let digest = Sha256::digest(of.to_string());
    let first = digest.iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

fn pod_spec(cluster: &EngramCluster, member: &MemberPod, image: &str) -> Value {
    let names = Names::of(cluster);
    let spec = &cluster.spec;
    let scheduling = &spec.scheduling;
    let template = &spec.pod_template;
    let mut mounts = vec![json!({ "name": "data", "mountPath": VOLUME })];
    let mut volumes = Vec::new();
    let secrets = [
        ("client-tls", names.server_secret(), CLIENT_TLS),
        ("peer-tls", names.peer_secret(), PEER_TLS),
    ];
    for (name, secret, path) in secrets {
        let Some(secret) = secret else { continue };
        mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
        // The group reads: the process is not the owner of what the kubelet writes.
        let secret = json!({ "secretName": secret, "defaultMode": 0o440 });
        volumes.push(json!({ "name": name, "secret": secret }));
    }
    mounts.extend(template.volume_mounts.iter().map(|mount| json!(mount)));
    volumes.extend(template.volumes.iter().map(|volume| json!(volume)));
    mounts.extend(archive::part(cluster, "mounts"));
    volumes.extend(archive::part(cluster, "volumes"));
    let mut env: Vec<Value> = template.env.iter().map(|one| json!(one)).collect();
    env.extend(archive::part(cluster, "env"));
    let container = json!({
        "name": MEMBER_CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy(cluster),
        "command": flags::command(cluster, member),
        "env": or_null(&env),
        "ports": [
            { "name": "client", "containerPort": CLIENT_PORT },
            { "name": "peer", "containerPort": PEER_PORT },
            { "name": "metrics", "containerPort": METRICS_PORT },
        ],
        "resources": spec.resources,
        "securityContext": container_security(Some(cluster)),
        "volumeMounts": mounts,
        "startupProbe": probe("/livez", 2, START_PROBES),
        "livenessProbe": probe("/livez", 10, 6),
        "readinessProbe": probe("/readyz", 3, 3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let mut containers = vec![container];
    containers.extend(template.sidecars.iter().map(|sidecar| json!(sidecar)));
    let mut pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": pod_security(Some(cluster)),
        "serviceAccountName": template.service_account_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": spec.image_pull_secrets,
        "nodeSelector": scheduling.node_selector,
        "tolerations": scheduling.tolerations,
        "priorityClassName": scheduling.priority_class_name,
        "affinity": affinity(cluster, &names, &member.leaving),
        "topologySpreadConstraints": spread(cluster, &names, &member.leaving),
        "containers": containers,
        "volumes": volumes,
    });
    without_nulls(&mut pod);
    pod
}

/// A list, or null for none: what was there before a field was must not look like another template.
fn or_null<T: serde::Serialize>(list: &[T]) -> Value {
    match list {
        [] => Value::Null,
        list => json!(list),
    }
}

pub(super) fn pull_policy(cluster: &EngramCluster) -> &'static str {
    match cluster.spec.image_pull_policy {
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::Never => "Never",
    }
}

/// What pods may do: as the cluster says, where it says so.
pub(super) fn pod_security(cluster: Option<&EngramCluster>) -> Value {
    let given = cluster.and_then(|cluster| cluster.spec.pod_template.security_context.as_ref());
    if let Some(given) = given {
        return json!(given);
    }
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        // A large volume's files are not walked at every start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// The same of a container.
pub(super) fn container_security(cluster: Option<&EngramCluster>) -> Value {
    let template = cluster.map(|cluster| &cluster.spec.pod_template);
    if let Some(given) = template.and_then(|one| one.container_security_context.as_ref()) {
        return json!(given);
    }
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "metrics" },
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

/// The members but for those that are being taken out.
fn staying(names: &Names, leaving: &[String]) -> Value {
    let mut selector = json!({ "matchLabels": member_selector(&names.cluster) });
    if !leaving.is_empty() {
        selector["matchExpressions"] =
            json!([{ "key": MEMBER_LABEL, "operator": "NotIn", "values": leaving }]);
    }
    selector
}

/// Members keep away from each other. The scheduler counts pods that are ending as well: without the
/// exception a replacement would find the place of whom it replaces taken, and share another's.
fn affinity(cluster: &EngramCluster, names: &Names, leaving: &[String]) -> Value {
    let selector = staying(names, leaving);
    let term = json!({ "labelSelector": selector, "topologyKey": "kubernetes.io/hostname" });
    let scheduling = &cluster.spec.scheduling;
    let mut affinity = match scheduling.anti_affinity {
        AntiAffinity::None => json!({}),
        AntiAffinity::Required => {
            json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } })
        }
        AntiAffinity::Preferred => json!({ "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 100, "podAffinityTerm": term }],
        } }),
    };
    if let Some(nodes) = &scheduling.node_affinity {
        affinity["nodeAffinity"] = json!(nodes);
    }
    match affinity == json!({}) {
        true => Value::Null,
        false => affinity,
    }
}

/// Members are spread. Where that is required those that leave do not count, as in [`affinity`].
fn spread(cluster: &EngramCluster, names: &Names, leaving: &[String]) -> Value {
    let scheduling = &cluster.spec.scheduling;
    if !scheduling.topology_spread_constraints.is_empty() {
        return json!(scheduling.topology_spread_constraints);
    }
    let (unsatisfied, selector) = match scheduling.spread {
        Spread::Preferred => ("ScheduleAnyway", staying(names, &[])),
        Spread::Required => ("DoNotSchedule", staying(names, leaving)),
    };
    let constraint = |key: &String| {
        json!({
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": unsatisfied,
            "labelSelector": selector,
        })
    };
    json!(
        scheduling
            .topology_keys
            .iter()
            .map(constraint)
            .collect::<Vec<_>>()
    )
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(all) => all.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
