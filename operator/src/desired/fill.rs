//! A member's volume is filled from a backup before the member starts for the first time.

use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api::{EngramCluster, Recovery};

use super::flags;
use super::job::{PROGRAM, RESULT};
use super::names::Names;
use super::parts::{mount, of_member};
use super::pod::{DATA_DIRECTORY, MemberPod, VOLUME, digest};
use super::store::{AUTHORITIES_KEY, StoreAccess};

/// The container that does it, by which its result is found.
pub const RESTORE_CONTAINER: &str = "restore";

/// On pods that begin with a restore: what from, and how its store is reached, in 16 hexadecimal digits.
pub const FILL_ANNOTATION: &str = "engram.dev/filled-from";

/// What a volume is filled from, as [`FILL_ANNOTATION`] has it: another one where the store was corrected.
#[must_use]
pub fn fill_hash(recovery: &Recovery, access: &StoreAccess) -> String {
    // No `..`: what is new has to be part of it.
    let StoreAccess {
        url,
        env,
        mounts,
        volumes,
        // They are among the mounts.
        key_files: _,
        needs,
        // What other pods are like that reach it.
        pods: _,
    } = access;
    // As it was before there were keys: pods that wait are not made anew for nothing.
    let authorities = needs.iter().find(|one| one.key == AUTHORITIES_KEY);
    let authorities = authorities.map(|one| &one.secret);
    digest(&json!([recovery, url, env, mounts, volumes, authorities]))
}

/// The container. It needs no scratch directory: what is downloaded is written to the volume. It may
/// run again: engramctl begins an unfinished restore anew, and leaves a finished one alone.
pub(super) fn container(
    cluster: &EngramCluster,
    member: &MemberPod,
    image: &str,
    recovery: &Recovery,
    access: &StoreAccess,
) -> Container {
    let source = recovery
        .cluster
        .clone()
        .unwrap_or_else(|| cluster.name_any());
    let peer_url = Names::of(cluster).peer_url(&member.name);
    let mut command = vec![
        PROGRAM.to_owned(),
        "restore".to_owned(),
        format!("--store={}", access.url),
        format!("--cluster={source}"),
        format!("--backup={}", recovery.backup),
        format!("--data-dir={DATA_DIRECTORY}"),
        format!("--name={}", member.name),
        format!("--initial-cluster={}", member.initial_cluster),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster-token={}", flags::token(cluster)),
        format!("--bump-revision={}", recovery.revision_bump),
        RESULT.to_owned(),
    ];
    command.extend(access.key_flags());
    let whose = recovery.cluster_id.as_ref();
    command.extend(whose.map(|id| format!("--cluster-id={id}")));
    command.extend(recovery.moment().map(|moment| moment.flag()));
    if recovery.mark_compacted {
        command.push("--mark-compacted".into());
    }
    let mut mounts = vec![mount("data", VOLUME)];
    mounts.extend(access.mounts.iter().cloned());
    Container {
        command: Some(command),
        env: Some(access.env.clone()),
        volume_mounts: Some(mounts),
        ..of_member(cluster, image, RESTORE_CONTAINER)
    }
}
