//! Volumes that outlived their Namespace: claims went with it, and the PersistentVolumes that are retained are nobody's.
//!
//! Each is reserved for a claim of the name that it had, and the claim is made again, with the labels by which a
//! restore of kind `AdoptVolumes` finds it. What is on the volumes nobody looks at here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use engram_operator::desired::{member_labels, member_of_claim};

use super::{Failure, Kube};

/// A volume that was a member's.
#[derive(Debug, PartialEq)]
struct Left<'a> {
    volume: &'a PersistentVolume,
    claim: String,
    member: String,
    /// Whether it is still bound to the claim that is gone.
    released: bool,
}

/// Binds the volumes of a cluster anew whose Namespace was deleted.
pub(super) async fn rebind(kube: &Kube, cluster: &str, dry_run: bool) -> Result<String, Failure> {
    let namespace = &kube.namespace;
    let namespaces: Api<Namespace> = Api::all(kube.client.clone());
    if namespaces.get_opt(namespace).await?.is_none() {
        let message = format!(
            "there is no Namespace {namespace}: make it again first, it has to have the name that it had"
        );
        return Err(Failure::Input(message));
    }
    let volumes: Api<PersistentVolume> = Api::all(kube.client.clone());
    let all = volumes.list(&ListParams::default()).await?.items;
    let claims: Api<PersistentVolumeClaim> = kube.api();
    let left = left(&all, namespace, cluster);
    // All of them are looked at before the first is touched.
    let mut wanted = Vec::new();
    for one in &left {
        let there = claims.get_opt(&one.claim).await?;
        let is_made = is_made(one, there.as_ref()).map_err(Failure::Input)?;
        wanted.push((one, is_made));
    }
    if wanted.is_empty() {
        return Err(Failure::Input(none(&all, namespace, cluster)));
    }
    let mut said = Vec::new();
    for (one, is_made) in wanted {
        let (volume, claim, member) = (one.volume.name_any(), &one.claim, &one.member);
        if !dry_run {
            if one.released {
                let patch = Patch::Merge(reserved(one.volume));
                let params = PatchParams::default();
                volumes.patch(&volume, &params, &patch).await?;
            }
            if !is_made {
                let made = claim_of(one, namespace, cluster);
                claims.create(&PostParams::default(), &made).await?;
            }
        }
        let would = if dry_run { "would be" } else { "is" };
        said.push(format!(
            "{volume} {would} the volume of {claim}, which was {member}'s\n"
        ));
    }
    if !dry_run {
        said.push(format!(
            "once they are bound (kubectl get pvc -n {namespace}) an EngramRestore of kind AdoptVolumes, with \
             target.name {cluster}, says in its dry run what they hold\n"
        ));
    }
    Ok(said.concat())
}

/// The volumes that a cluster's members had in a Namespace, and that no claim has any more, by their claims' names.
fn left<'a>(all: &'a [PersistentVolume], namespace: &str, cluster: &str) -> Vec<Left<'a>> {
    let of = |volume: &'a PersistentVolume| {
        let (claim, member) = claimed(volume, namespace, cluster)?;
        let uid = volume.spec.as_ref()?.claim_ref.as_ref()?.uid.as_ref();
        // One that is reserved, and not bound yet, is what an earlier call left that was cut short.
        let released = match (phase(volume), uid.is_some_and(|uid| !uid.is_empty())) {
            ("Released", true) => true,
            ("Available" | "Released", false) => false,
            _ => return None,
        };
        let goes = is_deleted(volume) || volume.metadata.deletion_timestamp.is_some();
        (!goes).then_some(Left {
            volume,
            claim,
            member,
            released,
        })
    };
    let mut left: Vec<Left<'a>> = all.iter().filter_map(of).collect();
    left.sort_by(|one, other| one.claim.cmp(&other.claim));
    left
}

/// The claim that a volume is or was bound to, if that is one of this cluster's members', and the member.
fn claimed(volume: &PersistentVolume, namespace: &str, cluster: &str) -> Option<(String, String)> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let name = claim.name.clone()?;
    let member = member_of_claim(cluster, &name)?;
    (claim.namespace.as_deref() == Some(namespace)).then_some((name, member))
}

fn phase(volume: &PersistentVolume) -> &str {
    let status = volume.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

/// Whether the volume goes once its claim is gone.
fn is_deleted(volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy == Some("Delete")
}

/// Why there is nothing to be bound.
fn none(all: &[PersistentVolume], namespace: &str, cluster: &str) -> String {
    let found: Vec<String> = all
        .iter()
        .filter(|volume| claimed(volume, namespace, cluster).is_some())
        .map(|volume| {
            let goes = if is_deleted(volume) { ", Delete" } else { "" };
            format!("{} ({}{goes})", volume.name_any(), phase(volume))
        })
        .collect();
    match found.is_empty() {
        true => format!(
            "no PersistentVolume was bound to a claim of {cluster}'s in {namespace}: it goes with its claim unless \
             its persistentVolumeReclaimPolicy is Retain; restore a backup"
        ),
        false => format!(
            "no PersistentVolume of {cluster}'s in {namespace} has lost its claim and is retained: there are {}",
            found.join(", ")
        ),
    }
}

/// Whether the claim of that name is there already and is the volume's.
fn is_made(one: &Left<'_>, there: Option<&PersistentVolumeClaim>) -> Result<bool, String> {
    let Some(there) = there else {
        return Ok(false);
    };
    let volume = one.volume.name_any();
    let has = there
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_ref());
    match has == Some(&volume) {
        true => Ok(true),
        false => Err(format!(
            "there is a PersistentVolumeClaim {} that is not for {volume}: nothing was bound; delete it if nobody \
             needs what it has",
            one.claim
        )),
    }
}

/// What reserves a volume for the claim that it had, whatever its uid.
fn reserved(volume: &PersistentVolume) -> Value {
    json!({
        "metadata": { "resourceVersion": volume.resource_version() },
        "spec": { "claimRef": { "uid": null, "resourceVersion": null } },
    })
}

fn claim_of(one: &Left<'_>, namespace: &str, cluster: &str) -> PersistentVolumeClaim {
    let spec = one.volume.spec.clone().unwrap_or_default();
    let size = spec.capacity.unwrap_or_default().get("storage").cloned();
    let requests: BTreeMap<_, _> = size
        .into_iter()
        .map(|size| ("storage".into(), size))
        .collect();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(one.claim.clone()),
            namespace: Some(namespace.to_owned()),
            labels: Some(member_labels(cluster, &one.member)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: spec.access_modes,
            resources: Some(VolumeResourceRequirements {
                requests: Some(requests),
                ..VolumeResourceRequirements::default()
            }),
            // None would be the default class: a claim without one says so.
            storage_class_name: Some(spec.storage_class_name.unwrap_or_default()),
            volume_mode: spec.volume_mode,
            volume_name: Some(one.volume.name_any()),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, claim: &str, more: Value) -> PersistentVolume {
        let mut volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": { "name": name, "resourceVersion": "7" },
            "spec": {
                "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "standard",
                "claimRef": { "namespace": "data", "name": claim, "uid": "u", "resourceVersion": "5" },
            },
            "status": { "phase": "Released" },
        });
        for (at, value) in more.as_object().into_iter().flatten() {
            *volume.pointer_mut(at).unwrap() = value.clone();
        }
        serde_json::from_value(volume).unwrap()
    }

    fn names(all: &[PersistentVolume]) -> Vec<String> {
        let left = left(all, "data", "demo");
        left.iter().map(|one| one.volume.name_any()).collect()
    }

    #[test]
    fn volumes_that_lost_their_claims_are_found_and_no_others() {
        let all = [
            volume("b", "data-demo-2-0a1b2c3d", json!({})),
            volume("a", "data-demo-1-0a1b2c3d", json!({})),
            // Of another cluster, another Namespace, no member; in use; going.
            volume("other", "data-demo-1-1-0a1b2c3d", json!({})),
            volume(
                "elsewhere",
                "data-demo-3-0a1b2c3d",
                json!({ "/spec/claimRef/namespace": "x" }),
            ),
            volume("backups", "backups", json!({})),
            volume(
                "used",
                "data-demo-4-0a1b2c3d",
                json!({ "/status/phase": "Bound" }),
            ),
            volume(
                "going",
                "data-demo-5-0a1b2c3d",
                json!({ "/spec/persistentVolumeReclaimPolicy": "Delete" }),
            ),
            // Reserved by a call that was cut short.
            volume(
                "c",
                "data-demo-6-0a1b2c3d",
                json!({ "/status/phase": "Available", "/spec/claimRef/uid": null }),
            ),
        ];
        assert_eq!(names(&all), ["a", "b", "c"]);
        let left = left(&all, "data", "demo");
        let released: Vec<bool> = left.iter().map(|one| one.released).collect();
        assert_eq!(released, [true, true, false]);
        let said = none(&all[5..7], "data", "demo");
        assert!(
            said.contains("used (Bound), going (Released, Delete)"),
            "{said}"
        );
        assert!(none(&[], "data", "demo").contains("Retain"));
    }

    #[test]
    fn a_claim_is_what_it_was_and_is_for_that_volume_alone() {
        let all = [volume("a", "data-demo-1-0a1b2c3d", json!({}))];
        let left = left(&all, "data", "demo");
        let claim = claim_of(&left[0], "data", "demo");
        let labels = claim.labels();
        assert_eq!(labels["engram.dev/cluster"], "demo");
        assert_eq!(labels["engram.dev/member"], "demo-1");
        let written = json!(claim);
        assert_eq!(written["metadata"]["name"], "data-demo-1-0a1b2c3d");
        assert_eq!(
            written["spec"],
            json!({
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
                "storageClassName": "standard", "volumeMode": "Filesystem", "volumeName": "a",
            })
        );
        let patch = reserved(&all[0]);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch["spec"]["claimRef"]["uid"].is_null());
        // One that an earlier call made is its; another of that name is nobody's to take.
        assert_eq!(is_made(&left[0], None), Ok(false));
        assert_eq!(is_made(&left[0], Some(&claim)), Ok(true));
        let mut other = claim.clone();
        other.spec.as_mut().unwrap().volume_name = Some("b".into());
        let refused = is_made(&left[0], Some(&other)).unwrap_err();
        assert!(refused.contains("nothing was bound"), "{refused}");
    }
}
