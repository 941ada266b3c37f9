//! Pods that run engramctl once: backups, verifications, prunes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    EphemeralVolumeSource, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    ObjectFieldSelector, PersistentVolumeClaimTemplate, Pod, PodSecurityContext, PodSpec,
    ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{EngramCluster, StorePods};

use super::job::{CUT_OVER, CUT_OVER_ANNOTATION, CUT_OVER_FILE, Job, PROGRAM, RESULT, SOURCE_TLS};
use super::names::{Names, cluster_labels, member_selector};
use super::parts::{
    LAST_WORDS, apart, away, claim_of, claimed, container_security, labelled, mount, mount_to_read,
    pod_security, preferably, pull_policy, secret,
};
use super::pod::VOLUME;
use super::quantity;
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
    for (mount, volume) in sources(&tool.job) {
        mounts.push(mount);
        volumes.push(volume);
    }
    mounts.push(mount("scratch", SCRATCH));
    volumes.push(scratch(tool));
    let certificate = tool
        .cluster
        .filter(|_| tool.job.speaks())
        .and_then(|cluster| Names::of(cluster).operator_secret());
    if let Some(certificate) = certificate {
        command.push(format!("--cacert={TLS}/ca.crt"));
        command.push(format!("--cert={TLS}/tls.crt"));
        command.push(format!("--key={TLS}/tls.key"));
        mounts.push(mount_to_read("tls", TLS));
        volumes.push(secret("tls", &certificate));
    }
    let container = container(tool, command, mounts);
    Pod {
        metadata: metadata(tool),
        spec: Some(spec(tool, container, volumes)),
        ..Pod::default()
    }
}

fn metadata(tool: &Tool<'_>) -> ObjectMeta {
    let cuts_over = matches!(&tool.job, Job::Import(import) if import.cut_over);
    let cut_over = || [(CUT_OVER_ANNOTATION.to_owned(), "true".to_owned())].into();
    ObjectMeta {
        name: Some(tool.name.clone()),
        namespace: Some(tool.namespace.clone()),
        labels: Some(labels(tool)),
        annotations: cuts_over.then(cut_over),
        owner_references: Some(tool.owner.iter().cloned().collect()),
        ..ObjectMeta::default()
    }
}

fn container(tool: &Tool<'_>, command: Vec<String>, mounts: Vec<VolumeMount>) -> Container {
    let own_image = tool.cluster.and_then(image);
    Container {
        name: TOOL_CONTAINER.to_owned(),
        image: Some(own_image.unwrap_or_else(|| tool.image.to_owned())),
        image_pull_policy: Some(tool.cluster.map_or("IfNotPresent", pull_policy).to_owned()),
        command: Some(command),
        env: Some(tool.access.env.clone()),
        resources: Some(resources(tool)),
        security_context: Some(container_security(tool.cluster)),
        volume_mounts: Some(mounts),
        termination_message_policy: Some(LAST_WORDS.to_owned()),
        ..Container::default()
    }
}

/// The image that a cluster names, or has from a catalog: where only that may be pulled, no other is.
fn image(cluster: &EngramCluster) -> Option<String> {
    let named = cluster.spec.image.clone();
    let listed = cluster
        .status
        .as_ref()
        .and_then(|status| status.catalog.as_ref());
    let listed = listed.filter(|_| cluster.spec.image_catalog.is_some());
    named.or_else(|| listed.map(|one| one.image.clone()))
}

fn spec(tool: &Tool<'_>, container: Container, volumes: Vec<Volume>) -> PodSpec {
    let spec = tool.cluster.map(|cluster| &cluster.spec);
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(tool.deadline),
        service_account_name: tool.access.pods.service_account_name.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(security(tool)),
        image_pull_secrets: joined(
            spec.map(|spec| &spec.image_pull_secrets),
            &tool.access.pods.image_pull_secrets,
        ),
        // A store's volume may be on the members' own nodes.
        tolerations: joined(
            spec.map(|spec| &spec.scheduling.tolerations),
            &tool.access.pods.tolerations,
        ),
        priority_class_name: spec.and_then(|spec| spec.scheduling.priority_class_name.clone()),
        affinity: match &tool.job {
            Job::Inspect { node, .. } => node.as_deref().map(on_node),
            _ => Some(away_from_members(tool.cluster_name)),
        },
        containers: vec![container],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// What the cluster has, if there is one, and beside it what the store has for its pods.
fn joined<T: Clone + PartialEq>(of_cluster: Option<&Vec<T>>, of_store: &[T]) -> Option<Vec<T>> {
    let mut all = of_cluster.cloned();
    for one in of_store {
        let all = all.get_or_insert_default();
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}

/// What a job reads beside the store.
fn sources(job: &Job) -> Vec<(VolumeMount, Volume)> {
    match job {
        Job::Inspect { claim, .. } => {
            vec![(mount_to_read("data", VOLUME), claimed("data", claim))]
        }
        Job::Import(import) => {
            let ends = (mount_to_read("import", CUT_OVER), cut_over());
            let other = import.secret.as_ref().map(|name| {
                let mount = mount_to_read("source-tls", SOURCE_TLS);
                (mount, secret("source-tls", name))
            });
            [ends].into_iter().chain(other).collect()
        }
        _ => Vec::new(),
    }
}

/// The annotation that ends an import, as a file.
fn cut_over() -> Volume {
    let field = ObjectFieldSelector {
        field_path: format!("metadata.annotations['{CUT_OVER_ANNOTATION}']"),
        ..ObjectFieldSelector::default()
    };
    let file = DownwardAPIVolumeFile {
        path: CUT_OVER_FILE.to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    Volume {
        name: "import".to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![file]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Its own, which no other may take the place of, and the store's.
fn labels(tool: &Tool<'_>) -> BTreeMap<String, String> {
    let mut labels = tool.access.pods.labels.clone();
    labels.extend(cluster_labels(tool.cluster_name, "backup"));
    labels
}

/// As the store says, else as the cluster does, else the operator's own.
fn security(tool: &Tool<'_>) -> PodSecurityContext {
    let given = tool.access.pods.security_context.clone();
    given.unwrap_or_else(|| pod_security(tool.cluster))
}

/// Bounded, so that a pod which needs more is ended before its node's disk is full.
fn scratch(tool: &Tool<'_>) -> Volume {
    // No `..`: a new wish does not compile until it reaches the pod.
    let crate::api::Scratch {
        size,
        claim,
        storage_class_name,
    } = &tool.access.pods.scratch;
    if !tool.job.spools() {
        return empty(SCRATCH_MIN);
    }
    let member = tool
        .cluster
        .map(|cluster| cluster.spec.storage.size.as_str());
    let size = size.as_deref().or(member).unwrap_or(SCRATCH_DEFAULT);
    if !claim {
        return empty(size);
    }
    let template = PersistentVolumeClaimTemplate {
        metadata: Some(ObjectMeta {
            labels: Some(cluster_labels(tool.cluster_name, "backup")),
            ..ObjectMeta::default()
        }),
        spec: claim_of(size, storage_class_name.as_ref()),
    };
    Volume {
        name: "scratch".to_owned(),
        ephemeral: Some(EphemeralVolumeSource {
            volume_claim_template: Some(template),
        }),
        ..Volume::default()
    }
}

/// On the node's own disk.
fn empty(size: &str) -> Volume {
    Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(size.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn resources(tool: &Tool<'_>) -> ResourceRequirements {
    let StorePods {
        resources,
        scratch: _,
        service_account_name: _,
        labels: _,
        security_context: _,
        image_pull_secrets: _,
        tolerations: _,
    } = &tool.access.pods;
    if let Some(resources) = resources {
        return resources.clone();
    }
    let member = tool
        .cluster
        .and_then(|cluster| cluster.spec.resources.as_ref());
    let limits = member.and_then(|member| member.limits.as_ref());
    let memory = limits.and_then(|limits| limits.get("memory"));
    // A request is never above the limit.
    let least = memory.filter(|memory| !is_above(&memory.0, MEMORY));
    let least = least.map_or(MEMORY, |memory| memory.0.as_str());
    let of = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    ResourceRequirements {
        requests: Some([of("cpu", CPU), of("memory", least)].into()),
        limits: memory.map(|memory| [of("memory", &memory.0)].into()),
        ..ResourceRequirements::default()
    }
}

fn is_above(left: &str, right: &str) -> bool {
    quantity::bytes(left) > quantity::bytes(right)
}

/// Where a volume is mounted already.
fn on_node(node: &str) -> Affinity {
    let named = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm {
        match_fields: Some(vec![named]),
        ..NodeSelectorTerm::default()
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Where there is a choice: what a backup takes of a node is not a member's.
fn away_from_members(cluster: &str) -> Affinity {
    let members = labelled(member_selector(cluster));
    away(preferably(apart(members)))
}
