//! Members that archive their log: how their pods reach its store. It is in the cluster's status, so that pods are
//! made as before while the store's object is away.

use serde_json::{Value, json};

use crate::api::{EngramCluster, HandedOn};

use super::store::StoreAccess;

/// Before the names of volumes: a pod may reach another store, to be filled from.
const PREFIX: &str = "archive";

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
    let own = |all: &[Value]| -> Vec<Value> {
        let renamed = |one: &Value| {
            let mut one = one.clone();
            let name = one["name"].as_str().unwrap_or_default();
            one["name"] = json!(format!("{PREFIX}-{name}"));
            one
        };
        all.iter().map(renamed).collect()
    };
    let mut archiving = HandedOn::from_iter([
        ("url".to_owned(), json!(url)),
        ("env".to_owned(), json!(env)),
        ("mounts".to_owned(), json!(own(mounts))),
        ("volumes".to_owned(), json!(own(volumes))),
    ]);
    if !key_files.is_empty() {
        archiving.insert("keyFiles".to_owned(), json!(key_files));
    }
    archiving
}

/// A part of what the status has.
pub(super) fn part(cluster: &EngramCluster, part: &str) -> Vec<Value> {
    let archiving = found(cluster).and_then(|all| all.get(part)?.as_array());
    archiving.cloned().unwrap_or_default()
}

/// The member's flags.
pub(super) fn flags(cluster: &EngramCluster, name: &str) -> Vec<String> {
    let url = found(cluster).and_then(|all| all.get("url")?.as_str());
    let flags = url.map(|url| {
        [
            format!("--archive-url={url}"),
            format!("--archive-cluster={name}"),
        ]
    });
    let keys = found(cluster).and_then(|all| all.get("keyFiles")?.as_array());
    let keys = keys.map(|keys| {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        format!("--archive-encryption-key-files={}", keys.join(","))
    });
    flags.into_iter().flatten().chain(keys).collect()
}

fn found(cluster: &EngramCluster) -> Option<&HandedOn> {
    cluster.status.as_ref()?.archiving.as_ref()
}
