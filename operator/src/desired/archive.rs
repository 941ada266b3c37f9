//! Members that archive their log: how their pods reach its store. It is in the cluster's status, so that pods are
//! made as before while the store's object is away.

use k8s_openapi::api::core::v1::{EnvVar, Volume, VolumeMount};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::{EngramCluster, HandedOn};

use super::store::StoreAccess;

/// Before the names of volumes: a pod may reach another store, to be filled from.
const PREFIX: &str = "archive";
/// The parts, as the status names them.
const ENV: &str = "env";
const MOUNTS: &str = "mounts";
const VOLUMES: &str = "volumes";
const KEY_FILES: &str = "keyFiles";

/// How pods reach this store to archive to it, as the cluster's status keeps it.
#[must_use]
pub fn archiving(access: &StoreAccess) -> HandedOn {
    // No `..`: what is new has to be part of it.
    let StoreAccess {
        url,
        env,
        mounts,
        volumes,
        key_files,
        // They are among the volumes.
        needs: _,
        // What other pods are like that reach it.
        pods: _,
    } = access;
    let own = |name: &str| format!("{PREFIX}-{name}");
    let mut mounts = mounts.clone();
    mounts.iter_mut().for_each(|one| one.name = own(&one.name));
    let mut volumes = volumes.clone();
    volumes.iter_mut().for_each(|one| one.name = own(&one.name));
    let mut archiving = HandedOn::from_iter([
        ("url".to_owned(), json!(url)),
        (ENV.to_owned(), json!(env)),
        (MOUNTS.to_owned(), json!(mounts)),
        (VOLUMES.to_owned(), json!(volumes)),
    ]);
    if !key_files.is_empty() {
        archiving.insert(KEY_FILES.to_owned(), json!(key_files));
    }
    archiving
}

/// What the member's container has more in its environment.
pub(super) fn env(cluster: &EngramCluster) -> Vec<EnvVar> {
    part(cluster, ENV).unwrap_or_default()
}

/// And mounts more.
pub(super) fn mounts(cluster: &EngramCluster) -> Vec<VolumeMount> {
    part(cluster, MOUNTS).unwrap_or_default()
}

/// What its pod has more of volumes.
pub(super) fn volumes(cluster: &EngramCluster) -> Vec<Volume> {
    part(cluster, VOLUMES).unwrap_or_default()
}

/// The member's flags.
pub(super) fn flags(cluster: &EngramCluster, name: &str) -> Vec<String> {
    let url: Option<String> = part(cluster, "url");
    let flags = url.map(|url| {
        [
            format!("--archive-url={url}"),
            format!("--archive-cluster={name}"),
        ]
    });
    let keys: Option<Vec<String>> = part(cluster, KEY_FILES);
    let keys = keys.map(|keys| format!("--archive-encryption-key-files={}", keys.join(",")));
    flags.into_iter().flatten().chain(keys).collect()
}

/// A part of what the status has.
fn part<T: DeserializeOwned>(cluster: &EngramCluster, part: &str) -> Option<T> {
    let archiving = cluster.status.as_ref()?.archiving.as_ref()?;
    serde_json::from_value(archiving.get(part)?.clone()).ok()
}
