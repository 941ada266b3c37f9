//! What is asked of a cluster, as objects and annotations that the operator acts on.

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use engram_operator::api::{
    EngramBackup, EngramCluster, EngramMember, EngramOperation, RESTART_ANNOTATION,
    ROLLBACK_ANNOTATION,
};

use super::{Failure, Kube};

fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

/// An object from its JSON form, as a user would write it.
fn written<K: serde::de::DeserializeOwned>(json: Value) -> Result<K, Failure> {
    serde_json::from_value(json).map_err(|error| kube::Error::SerdeError(error).into())
}

pub(super) async fn backup(
    kube: &Kube,
    cluster: &str,
    store: &str,
    name: Option<String>,
    verify: bool,
) -> Result<String, Failure> {
    let name = name.unwrap_or_else(|| format!("{cluster}-{}", stamp()));
    let object: EngramBackup = written(json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
        "metadata": { "name": name },
        "spec": { "clusterRef": { "name": cluster }, "storeRef": { "name": store }, "verify": verify },
    }))?;
    kube.api::<EngramBackup>()
        .create(&PostParams::default(), &object)
        .await?;
    Ok(format!(
        "engrambackup/{name} is made; kubectl wait --for=condition=Complete engrambackup/{name} waits for it\n"
    ))
}

async fn annotate(kube: &Kube, cluster: &str, key: &str, value: &str) -> Result<(), Failure> {
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    kube.api::<EngramCluster>()
        .patch(cluster, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

pub(super) async fn restart(kube: &Kube, cluster: &str) -> Result<String, Failure> {
    annotate(kube, cluster, RESTART_ANNOTATION, &stamp()).await?;
    Ok(format!(
        "members of {cluster} are restarted, one after the other\n"
    ))
}

pub(super) async fn rollback(kube: &Kube, cluster: &str) -> Result<String, Failure> {
    let found = kube.api::<EngramCluster>().get(cluster).await?;
    let generation = found.metadata.generation.unwrap_or_default().to_string();
    annotate(kube, cluster, ROLLBACK_ANNOTATION, &generation).await?;
    let good = found.status.and_then(|status| status.last_good);
    Ok(match good {
        Some(_) => format!(
            "the last change of {cluster} is taken back until its specification is changed\n"
        ),
        None => format!("nothing is known that {cluster} ever worked with\n"),
    })
}

pub(super) async fn replace(kube: &Kube, member: &str) -> Result<String, Failure> {
    let api = kube.api::<EngramMember>();
    let cluster = api.get(member).await?.spec.cluster_ref.name;
    api.delete(member, &DeleteParams::default()).await?;
    Ok(format!(
        "{member} is replaced; kubectl engram status {cluster} says how it stands\n"
    ))
}

pub(super) async fn move_leader(
    kube: &Kube,
    cluster: &str,
    to: Option<String>,
) -> Result<String, Failure> {
    let wish = match to {
        Some(to) => json!({ "to": to }),
        None => json!({}),
    };
    let object: EngramOperation = written(json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramOperation",
        "metadata": { "name": format!("{cluster}-move-leader-{}", stamp()) },
        "spec": { "clusterRef": { "name": cluster }, "moveLeader": wish },
    }))?;
    let made = kube.api::<EngramOperation>();
    let made = made.create(&PostParams::default(), &object).await?;
    Ok(format!("engramoperation/{} is made\n", made.name_any()))
}

pub(super) async fn scale(kube: &Kube, cluster: &str, replicas: i32) -> Result<String, Failure> {
    let patch = json!({ "spec": { "replicas": replicas } });
    kube.api::<EngramCluster>()
        .patch(cluster, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(match replicas {
        0 => format!("{cluster} is stopped; its data stays\n"),
        count => format!("{cluster} is to have {count} members\n"),
    })
}
