//! What several of these objects have in them: selectors, mounts, volumes, security, places.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EnvVar, KeyToPath, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, PodAffinityTerm, PodAntiAffinity, PodSecurityContext,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    VolumeResourceRequirements, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource as _;

use crate::api::{EngramCluster, ImagePullPolicy};

use super::names::{Names, cluster_labels};

/// The user and group of the image: nobody's.
const USER: i64 = 65_532;
/// Of files out of Secrets. The group reads: the process is not the owner of what the kubelet writes.
pub(super) const GROUP_READS: i32 = 0o440;
/// What a container that says nothing of its end has said in its log.
pub(super) const LAST_WORDS: &str = "FallbackToLogsOnError";
/// What makes nodes different places.
const HOST: &str = "kubernetes.io/hostname";

/// A cluster's own object beside its members.
pub(super) fn metadata(cluster: &EngramCluster, name: String, component: &str) -> ObjectMeta {
    let names = Names::of(cluster);
    ObjectMeta {
        name: Some(name),
        namespace: Some(names.namespace),
        labels: Some(cluster_labels(&names.cluster, component)),
        owner_references: Some(cluster.controller_owner_ref(&()).into_iter().collect()),
        ..ObjectMeta::default()
    }
}

/// Whatever has these labels.
pub(super) fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

/// A variable of a container's environment.
pub(super) fn variable(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    }
}

/// A volume's place in a container that writes to it.
pub(super) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// And in one that only reads it.
pub(super) fn mount_to_read(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(name, path)
    }
}

/// All of a Secret as files.
pub(super) fn secret(name: &str, secret: &str) -> Volume {
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        default_mode: Some(GROUP_READS),
        ..SecretVolumeSource::default()
    };
    Volume {
        name: name.to_owned(),
        secret: Some(source),
        ..Volume::default()
    }
}

/// A key of a Secret, as a file of that name.
pub(super) fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        ..KeyToPath::default()
    }
}

/// A claim's volume.
pub(super) fn claimed(name: &str, claim: &str) -> Volume {
    let source = PersistentVolumeClaimVolumeSource {
        claim_name: claim.to_owned(),
        ..PersistentVolumeClaimVolumeSource::default()
    };
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(source),
        ..Volume::default()
    }
}

/// A claim for one node's volume of this size.
pub(super) fn claim_of(size: &str, class: Option<&String>) -> PersistentVolumeClaimSpec {
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(size.to_owned()))]);
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        resources: Some(VolumeResourceRequirements {
            requests: Some(requests),
            ..VolumeResourceRequirements::default()
        }),
        storage_class_name: class.cloned(),
        ..PersistentVolumeClaimSpec::default()
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
pub(super) fn pod_security(cluster: Option<&EngramCluster>) -> PodSecurityContext {
    let given = cluster.and_then(|cluster| cluster.spec.pod_template.security_context.clone());
    given.unwrap_or_else(|| PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A large volume's files are not walked at every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    })
}

/// The same of a container.
pub(super) fn container_security(cluster: Option<&EngramCluster>) -> SecurityContext {
    let template = cluster.map(|cluster| &cluster.spec.pod_template);
    let given = template.and_then(|one| one.container_security_context.clone());
    given.unwrap_or_else(|| SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    })
}

/// A container of a member's pod. All of them may use what the member may: the pod asks for no more than the largest.
pub(super) fn of_member(cluster: &EngramCluster, image: &str, name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(pull_policy(cluster).to_owned()),
        security_context: Some(container_security(Some(cluster))),
        termination_message_policy: Some(LAST_WORDS.to_owned()),
        resources: cluster.spec.resources.clone(),
        ..Container::default()
    }
}

/// On another node than whatever this selects.
pub(super) fn apart(selector: LabelSelector) -> PodAffinityTerm {
    PodAffinityTerm {
        label_selector: Some(selector),
        topology_key: HOST.to_owned(),
        ..PodAffinityTerm::default()
    }
}

/// The same where there are enough nodes.
pub(super) fn preferably(term: PodAffinityTerm) -> PodAntiAffinity {
    PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
            pod_affinity_term: term,
            weight: 100,
        }]),
        ..PodAntiAffinity::default()
    }
}

/// Nothing but to keep away from other pods.
pub(super) fn away(from: PodAntiAffinity) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(from),
        ..Affinity::default()
    }
}
