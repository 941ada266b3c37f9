//! A member's volume.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{EngramCluster, EngramMember, VolumeReclaim};

use super::names::{KEEP_ANNOTATION, member_labels};
use super::parts::claim_of;

/// The claim of a member: named after its object's UID as well, so that no member ever meets a
/// volume that another one of its name left, unless it was made to go on with it.
#[must_use]
pub fn claim_name(member: &EngramMember) -> String {
    if let Some(adopted) = &member.spec.volume_claim {
        return adopted.clone();
    }
    let uid = member.metadata.uid.as_deref().unwrap_or_default();
    let tail: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    format!("data-{}-{tail}", member.name_any())
}

/// The member of a cluster that a claim of this name was made for; none where it is no member's of that cluster.
#[must_use]
pub fn member_of_claim(cluster: &str, claim: &str) -> Option<String> {
    let (member, tail) = claim.strip_prefix("data-")?.rsplit_once('-')?;
    let number = member.strip_prefix(cluster)?.strip_prefix('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_tail = !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_number && is_tail).then(|| member.to_owned())
}

/// Whether a member's volume outlives it: by the policy, or for inquiry.
#[must_use]
pub fn keeps_volume(cluster: &EngramCluster, member: &EngramMember) -> bool {
    cluster.spec.storage.reclaim_policy == VolumeReclaim::Retain
        || member.annotations().contains_key(KEEP_ANNOTATION)
}

/// What is to be merged into a member's claim so that it follows the policy as it is now and is found by
/// its labels again; none where all is as it should be. Others' owners and labels stay.
#[must_use]
pub fn claim_repair(
    cluster: &EngramCluster,
    member: &EngramMember,
    claim: &PersistentVolumeClaim,
) -> Option<serde_json::Value> {
    let built = volume_claim(cluster, member);
    let uid = member.metadata.uid.as_ref();
    let is_own = |owner: &&OwnerReference| Some(&owner.uid) == uid;
    let owned = claim.owner_references().iter().any(|one| is_own(&one));
    let labels = claim.labels();
    let labelled = built
        .labels()
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    if labelled && owned != built.owner_references().is_empty() {
        return None;
    }
    let others = claim
        .owner_references()
        .iter()
        .filter(|one| !is_own(one))
        .chain(built.owner_references());
    Some(json!({ "metadata": {
        "uid": claim.uid(),
        "resourceVersion": claim.resource_version(),
        "labels": built.labels(),
        "ownerReferences": others.collect::<Vec<_>>(),
    } }))
}

/// The claim of a member. It goes with the member's object unless it is to be retained.
#[must_use]
pub fn volume_claim(cluster: &EngramCluster, member: &EngramMember) -> PersistentVolumeClaim {
    let storage = &cluster.spec.storage;
    let owners: Vec<_> = match keeps_volume(cluster, member) {
        false => member.controller_owner_ref(&()).into_iter().collect(),
        true => Vec::new(),
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(member)),
            namespace: member.namespace(),
            labels: Some(member_labels(&cluster.name_any(), &member.name_any())),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        },
        spec: Some(claim_of(&storage.size, storage.storage_class_name.as_ref())),
        ..PersistentVolumeClaim::default()
    }
}
