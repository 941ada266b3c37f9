//! A member's pod.

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, HTTPGetAction, Pod, PodAffinityTerm, PodAntiAffinity,
    PodSpec, Probe, TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource as _, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::{
    AntiAffinity, EngramCluster, EngramMember, HandedOn, RESTART_ANNOTATION, Recovery, Spread,
};

use super::alone;
use super::archive;
use super::fill;
use super::flags::{self, CLIENT_TLS, PEER_TLS};
use super::names::{
    CLIENT_PORT, MEMBER_LABEL, METRICS_PORT, Names, PEER_PORT, member_labels, member_selector,
};
use super::parts::{
    apart, away, claimed, labelled, mount, mount_to_read, of_member, pod_security, preferably,
    secret,
};
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
/// Probes of a start: recovery replays the log, which may take long (30 minutes).
const START_PROBES: i32 = 900;

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

/// What a template hands on that is no container, or no volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("podTemplate.{part}, {name}: {why}")]
pub struct Unfit {
    part: &'static str,
    name: String,
    why: String,
}

/// What a template adds as it is.
#[derive(Default)]
struct Given {
    volumes: Vec<Volume>,
    sidecars: Vec<Container>,
}

impl Given {
    fn of(cluster: &EngramCluster) -> Result<Self, Unfit> {
        let template = &cluster.spec.pod_template;
        Ok(Self {
            volumes: fitting("volumes", &template.volumes)?,
            sidecars: fitting("sidecars", &template.sidecars)?,
        })
    }
}

fn fitting<T: DeserializeOwned>(part: &'static str, all: &[HandedOn]) -> Result<Vec<T>, Unfit> {
    let fit = |one: &HandedOn| {
        let name = one.get("name").and_then(Value::as_str);
        serde_json::from_value(Value::Object(one.clone())).map_err(|error| Unfit {
            part,
            name: name.unwrap_or_default().to_owned(),
            why: error.to_string(),
        })
    };
    all.iter().map(fit).collect()
}

/// Whether what a cluster's template hands on can be part of a pod.
///
/// # Errors
/// It is no part of one.
pub fn fits(cluster: &EngramCluster) -> Result<(), Unfit> {
    Given::of(cluster).map(drop)
}

/// The pod of a member. `restore` is the backup that its volume is filled from before it starts.
///
/// # Errors
/// What its template hands on is no part of a pod.
pub fn member_pod(
    cluster: &EngramCluster,
    object: &EngramMember,
    member: &MemberPod,
    image: &str,
    restore: Option<(&Recovery, &StoreAccess)>,
) -> Result<Pod, Unfit> {
    let names = Names::of(cluster);
    let template = &cluster.spec.pod_template;
    let mut labels = template.labels.clone();
    labels.extend(member_labels(&names.cluster, &member.name));
    let mut annotations = template.annotations.clone();
    annotations.insert(TEMPLATE_ANNOTATION.into(), template_hash(cluster, image));
    let mut spec = pod_spec(cluster, member, image, Given::of(cluster)?);
    spec.hostname = Some(member.name.clone());
    spec.subdomain = Some(names.peers());
    let volumes = spec.volumes.get_or_insert_default();
    volumes.push(claimed("data", &claim_name(object)));
    if let Some((recovery, access)) = restore {
        let container = fill::container(cluster, member, image, recovery, access);
        spec.init_containers = Some(vec![container]);
        annotations.insert(
            fill::FILL_ANNOTATION.into(),
            fill::fill_hash(recovery, access),
        );
        volumes.extend(access.volumes.iter().cloned());
    }
    if let Some(once) = &member.alone {
        spec.init_containers = Some(vec![alone::container(cluster, image, once)]);
        annotations.insert(alone::ALONE_ANNOTATION.into(), once.clone());
    }
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(member.name.clone()),
            namespace: Some(names.namespace),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(object.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        ..Pod::default()
    })
}

/// What a cluster's pods are made from, in 16 hexadecimal digits: equal for all its members, and
/// changed by whatever would have to reach a running one.
#[must_use]
pub fn template_hash(cluster: &EngramCluster, image: &str) -> String {
    let template = &cluster.spec.pod_template;
    let mut spec = json!(pod_spec(
        cluster,
        &MemberPod::default(),
        image,
        Given::default()
    ));
    // As it was handed on, with what this operator knows nothing of.
    let raw = |all: &[HandedOn]| -> Vec<Value> { all.iter().map(|one| json!(one)).collect() };
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        let at = certificates(cluster).count();
        volumes.splice(at..at, raw(&template.volumes));
    }
    if let Some(containers) = spec["containers"].as_array_mut() {
        containers.extend(raw(&template.sidecars));
    }
    without_nulls(&mut spec);
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

fn pod_spec(cluster: &EngramCluster, member: &MemberPod, image: &str, given: Given) -> PodSpec {
    let names = Names::of(cluster);
    let spec = &cluster.spec;
    let scheduling = &spec.scheduling;
    let template = &spec.pod_template;
    let mut volumes: Vec<Volume> = certificates(cluster)
        .map(|(name, held, _)| secret(name, &held))
        .collect();
    volumes.extend(given.volumes);
    volumes.extend(archive::volumes(cluster));
    let mut containers = vec![engram(cluster, member, image)];
    containers.extend(given.sidecars);
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(pod_security(Some(cluster))),
        service_account_name: template.service_account_name.clone(),
        runtime_class_name: template.runtime_class_name.clone(),
        image_pull_secrets: Some(spec.image_pull_secrets.clone()),
        node_selector: Some(scheduling.node_selector.clone()),
        tolerations: Some(scheduling.tolerations.clone()),
        priority_class_name: scheduling.priority_class_name.clone(),
        affinity: affinity(cluster, &names, &member.leaving),
        topology_spread_constraints: Some(spread(cluster, &names, &member.leaving)),
        containers,
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// The certificates of a member: the volume, its Secret, and where it is mounted.
fn certificates(
    cluster: &EngramCluster,
) -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let names = Names::of(cluster);
    let all = [
        ("client-tls", names.server_secret(), CLIENT_TLS),
        ("peer-tls", names.peer_secret(), PEER_TLS),
    ];
    let there = |(name, secret, path): (_, Option<String>, _)| Some((name, secret?, path));
    all.into_iter().filter_map(there)
}

/// The member's own container.
fn engram(cluster: &EngramCluster, member: &MemberPod, image: &str) -> Container {
    let template = &cluster.spec.pod_template;
    let mut mounts = vec![mount("data", VOLUME)];
    mounts.extend(certificates(cluster).map(|(name, _, path)| mount_to_read(name, path)));
    mounts.extend(template.volume_mounts.iter().cloned());
    mounts.extend(archive::mounts(cluster));
    let mut env = template.env.clone();
    env.extend(archive::env(cluster));
    let ports = [
        ("client", CLIENT_PORT),
        ("peer", PEER_PORT),
        ("metrics", METRICS_PORT),
    ];
    Container {
        command: Some(flags::command(cluster, member)),
        // What was there before there was one must not look like another template.
        env: (!env.is_empty()).then_some(env),
        ports: Some(ports.map(|(name, number)| port(name, number)).into()),
        volume_mounts: Some(mounts),
        startup_probe: Some(probe("/livez", 2, START_PROBES)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 3, 3)),
        ..of_member(cluster, image, MEMBER_CONTAINER)
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// The members but for those that are being taken out.
fn staying(names: &Names, leaving: &[String]) -> LabelSelector {
    let others = LabelSelectorRequirement {
        key: MEMBER_LABEL.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(leaving.to_vec()),
    };
    LabelSelector {
        match_expressions: (!leaving.is_empty()).then(|| vec![others]),
        ..labelled(member_selector(&names.cluster))
    }
}

/// Members keep away from each other. The scheduler counts pods that are ending as well: without the
/// exception a replacement would find the place of whom it replaces taken, and share another's.
fn affinity(cluster: &EngramCluster, names: &Names, leaving: &[String]) -> Option<Affinity> {
    let scheduling = &cluster.spec.scheduling;
    let term = apart(staying(names, leaving));
    let affinity = match scheduling.anti_affinity {
        AntiAffinity::None => Affinity::default(),
        AntiAffinity::Required => away(always(term)),
        AntiAffinity::Preferred => away(preferably(term)),
    };
    let affinity = Affinity {
        node_affinity: scheduling.node_affinity.clone(),
        ..affinity
    };
    (affinity != Affinity::default()).then_some(affinity)
}

fn always(term: PodAffinityTerm) -> PodAntiAffinity {
    PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![term]),
        ..PodAntiAffinity::default()
    }
}

/// Members are spread. Where that is required those that leave do not count, as in [`affinity`].
fn spread(
    cluster: &EngramCluster,
    names: &Names,
    leaving: &[String],
) -> Vec<TopologySpreadConstraint> {
    let scheduling = &cluster.spec.scheduling;
    if !scheduling.topology_spread_constraints.is_empty() {
        return scheduling.topology_spread_constraints.clone();
    }
    let (unsatisfied, selector) = match scheduling.spread {
        Spread::Preferred => ("ScheduleAnyway", staying(names, &[])),
        Spread::Required => ("DoNotSchedule", staying(names, leaving)),
    };
    let constraint = |key: &String| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.clone(),
        when_unsatisfiable: unsatisfied.to_owned(),
        label_selector: Some(selector.clone()),
        ..TopologySpreadConstraint::default()
    };
    scheduling.topology_keys.iter().map(constraint).collect()
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(all) => all.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
