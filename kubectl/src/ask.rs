//! What is asked of a cluster, as objects and annotations that the operator acts on.

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use engram_operator::api::{
    EngramBackup, EngramCluster, EngramMember, EngramOperation, EngramRestore, RESTART_ANNOTATION,
    ROLLBACK_ANNOTATION,
};

use super::{Failure, Kube};

/// The members of a cluster that never had any.
const REPLICAS: i32 = 3;
/// The most that a cluster may have.
const REPLICAS_MAX: i32 = 7;

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

/// Which backup, and into what.
#[derive(clap::Args)]
pub(super) struct Restore {
    /// The cluster that was backed up.
    pub cluster: String,
    /// The EngramBackupStore that has the backup.
    #[arg(long)]
    pub store: String,
    /// The backup's ID.
    #[arg(long, default_value = "latest")]
    pub backup: String,
    /// The last moment not after this time, out of a log archive (RFC 3339).
    #[arg(long, conflicts_with = "revision")]
    pub time: Option<String>,
    /// This revision, out of a log archive.
    #[arg(long)]
    pub revision: Option<i64>,
    /// A new cluster of this name, with the specification of the one that was backed up. Default: that one itself
    /// goes back, once the plan is confirmed.
    #[arg(long)]
    pub into: Option<String>,
}

/// The object that asks for a restore. `like` is the cluster whose specification a new one has.
fn restoring(wanted: &Restore, name: &str, like: Option<&EngramCluster>) -> Value {
    let mut source = json!({
        "storeRef": { "name": wanted.store }, "cluster": wanted.cluster, "backup": wanted.backup,
    });
    if let Some(time) = &wanted.time {
        source["targetTime"] = json!(time);
    }
    if let Some(revision) = wanted.revision {
        source["targetRevision"] = json!(revision);
    }
    let spec = match (&wanted.into, like) {
        (Some(into), Some(like)) => {
            let mut spec = json!(like.spec);
            // What it began with is not what the new one does, which neither rests nor waits because that one does.
            for own in ["bootstrap", "paused"] {
                spec.as_object_mut().map(|spec| spec.remove(own));
            }
            spec["replicas"] = json!(awake(like));
            json!({ "source": source, "target": { "name": into, "spec": spec } })
        }
        _ => json!({
            "kind": "InPlace", "dryRun": true, "source": source,
            "target": { "name": wanted.cluster },
        }),
    };
    json!({
        "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
        "metadata": { "name": name }, "spec": spec,
    })
}

pub(super) async fn restore(kube: &Kube, wanted: &Restore) -> Result<String, Failure> {
    let name = format!("{}-restore-{}", wanted.cluster, stamp());
    let like = match wanted.into {
        Some(_) => Some(kube.api::<EngramCluster>().get(&wanted.cluster).await?),
        None => None,
    };
    let object: EngramRestore = written(restoring(wanted, &name, like.as_ref()))?;
    let restores = kube.api::<EngramRestore>();
    restores.create(&PostParams::default(), &object).await?;
    Ok(match &wanted.into {
        Some(into) => format!(
            "engramrestore/{name} is made; kubectl wait --for=condition=Complete engramrestore/{name} waits for {into}\n"
        ),
        None => format!(
            "engramrestore/{name} is made, and nothing is done yet. What it would do:\n  \
             kubectl get engramrestore {name} -o jsonpath='{{.status.plan}}{{.status.loss}}'\n\
             To have it done, with its status.planHash:\n  \
             kubectl patch engramrestore {name} --type=merge -p \
             '{{\"spec\":{{\"dryRun\":false,\"confirm\":\"PLANHASH\"}}}}'\n"
        ),
    })
}

pub(super) async fn promote(kube: &Kube, cluster: &str) -> Result<String, Failure> {
    let api = kube.api::<EngramCluster>();
    let bootstrap = api.get(cluster).await?.spec.bootstrap;
    if bootstrap.is_none_or(|bootstrap| bootstrap.import.is_none()) {
        let message = format!("{cluster} follows no other cluster: it has no bootstrap.import");
        return Err(Failure::Input(message));
    }
    let patch = json!({ "spec": { "bootstrap": { "import": { "cutOver": true } } } });
    let params = PatchParams::default();
    api.patch(cluster, &params, &Patch::Merge(&patch)).await?;
    Ok(format!(
        "{cluster} goes on by itself once it has all that the other one has; its condition Imported says so\n"
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

/// How many members a cluster has when it does not rest: as many as there are. None is put away for that.
fn awake(cluster: &EngramCluster) -> i32 {
    let there = cluster.status.as_ref().map_or(0, |status| status.members);
    match (cluster.spec.replicas, there) {
        (0, ..=0) => REPLICAS,
        // An even number tolerates no more failures than one less, and is not taken.
        (0, there) => (there | 1).min(REPLICAS_MAX),
        (wanted, _) => wanted,
    }
}

pub(super) async fn wake(
    kube: &Kube,
    cluster: &str,
    replicas: Option<i32>,
) -> Result<String, Failure> {
    let replicas = match replicas {
        Some(replicas) => replicas,
        None => awake(&kube.api::<EngramCluster>().get(cluster).await?),
    };
    scale(kube, cluster, replicas).await
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(into: Option<&str>) -> Restore {
        Restore {
            cluster: "demo".into(),
            store: "s3".into(),
            backup: "latest".into(),
            time: Some("2026-11-29T14:30:00Z".into()),
            revision: None,
            into: into.map(str::to_owned),
        }
    }

    #[test]
    fn a_restore_in_place_does_nothing_before_it_is_confirmed() {
        let object = restoring(&wanted(None), "one", None);
        let typed: EngramRestore = written(object).unwrap();
        assert!(typed.spec.dry_run && typed.spec.target.spec.is_none());
        assert_eq!(typed.spec.target.name, "demo");
        let source = typed.spec.source.unwrap();
        assert_eq!(source.target_time.unwrap(), "2026-11-29T14:30:00Z");
    }

    #[test]
    fn who_wakes_has_as_many_members_as_before() {
        let cluster = |replicas: i32, members: i32| -> EngramCluster {
            written(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
                "metadata": { "name": "demo" },
                "spec": { "replicas": replicas, "paused": true }, "status": { "members": members },
            }))
            .unwrap()
        };
        let all = [
            (0, 5, 5),
            (0, 1, 1),
            (0, 4, 5),
            (0, 9, 7),
            (0, 0, 3),
            (5, 3, 5),
        ];
        for (replicas, members, wakes) in all {
            assert_eq!(
                awake(&cluster(replicas, members)),
                wakes,
                "{replicas} {members}"
            );
        }
        // Nor does one that is like it rest, or wait.
        let object = restoring(&wanted(Some("again")), "one", Some(&cluster(0, 5)));
        let typed: EngramRestore = written(object).unwrap();
        let spec = typed.spec.target.spec.unwrap();
        assert_eq!((spec.replicas, spec.paused), (5, false));
    }

    #[test]
    fn a_new_cluster_is_like_the_old_one_and_begins_otherwise() {
        let like: EngramCluster = written(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo" },
            "spec": { "replicas": 5, "bootstrap": { "import": { "endpoints": ["http://a:1"] } } },
        }))
        .unwrap();
        let typed: EngramRestore =
            written(restoring(&wanted(Some("again")), "one", Some(&like))).unwrap();
        let spec = typed.spec.target.spec.unwrap();
        assert_eq!((spec.replicas, spec.bootstrap), (5, None));
        assert!(!typed.spec.dry_run);
    }
}
