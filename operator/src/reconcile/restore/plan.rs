//! What a restore would do, and what would be lost: found out without changing anything.

use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};
use sha2::{Digest as _, Sha256};

use crate::api::{
    EngramCluster, EngramRestore, EngramRestoreStatus, Reason, Recovery, RestoreKind,
};
use crate::desired::{self, Job, Tool};
use crate::observe::{Form, observe};

use super::super::tool::{self, Run};
use super::super::{Context, Error};
use super::image::with_image;
use super::meant::{self, Meant};
use super::source::{self, Source};
use super::state::State;

/// How long the store may think about which backup it is.
const DEADLINE_SECONDS: i64 = 600;
/// Digits of a plan's hash: enough to be told from every other plan of this restore.
const HASH_DIGITS: usize = 16;

/// How a plan stands.
pub(super) enum Planning {
    /// It is not made yet, or cannot be.
    Not(State),
    /// It is made, and written into the status: to be done with this.
    Made(Recovery),
}

/// Makes the plan: asks the store which backup is meant, and writes into the status what would be
/// done with it. `target` is the cluster as it is, or as it will be made.
pub(super) async fn make(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
    target: &EngramCluster,
) -> Result<Planning, Error> {
    let recovery = match source::find(context, restore).await? {
        Source::Waits(reason, message) => {
            return Ok(Planning::Not(State::Pending(reason, message)));
        }
        Source::Known(recovery) => recovery,
    };
    let target = &match Box::pin(with_image(context, restore, target)).await? {
        Ok(target) => target,
        Err(waits) => return Ok(Planning::Not(waits)),
    };
    let said = match ask(context, restore, &recovery, target).await? {
        Run::Running => {
            let message = "the store is asked which backup it is".to_owned();
            return Ok(Planning::Not(State::Pending(Reason::Running, message)));
        }
        Run::Waiting { reason, message } => {
            return Ok(Planning::Not(State::Pending(reason, message)));
        }
        Run::Failed { reason, message } => {
            return Ok(Planning::Not(State::Failed(reason, message)));
        }
        Run::Done(text) => text,
    };
    let namespace = restore.namespace().unwrap_or_default();
    tool::clear(context, &namespace, &pod_name(restore)).await?;
    let Some(meant) = meant::read(&recovery, said.trim()) else {
        let message = "engramctl's result cannot be read".to_owned();
        return Ok(Planning::Not(State::Failed(Reason::Failed, message)));
    };
    if let Some(refused) = strangers(restore, &meant, target) {
        return Ok(Planning::Not(refused));
    }
    let clusters: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    let backed_up = recovery.cluster.as_deref().unwrap_or_default();
    let known = match clusters.get_opt(backed_up).await? {
        Some(cluster) => known(context, &meant, &cluster).await?,
        None => None,
    };
    status.backup_id = Some(meant.backup.clone());
    status.plan = plan(restore, &recovery, &meant);
    status.plan_hash = Some(hash(&status.plan));
    status.loss = Some(loss(&meant, known));
    Ok(Planning::Made(Recovery {
        cluster_id: Some(meant.whose),
        backup: meant.backup,
        ..recovery
    }))
}

fn pod_name(restore: &EngramRestore) -> String {
    format!("{}-show", restore.name_any())
}

async fn ask(
    context: &Context,
    restore: &EngramRestore,
    recovery: &Recovery,
    target: &EngramCluster,
) -> Result<Run, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let store = tool::store(context, &namespace, &recovery.store_ref.name).await?;
    let access = desired::access(&store);
    let tool = Tool {
        name: pod_name(restore),
        namespace,
        cluster_name: recovery.cluster.as_deref().unwrap_or_default(),
        cluster: Some(target),
        image: &context.settings.image,
        job: job(recovery),
        access: &access,
        deadline: DEADLINE_SECONDS,
        owner: restore.controller_owner_ref(&()),
    };
    tool::run(context, &tool).await
}

fn job(recovery: &Recovery) -> Job {
    let (id, cluster_id) = (recovery.backup.clone(), recovery.cluster_id.clone());
    match recovery.moment() {
        None => Job::Show { id, cluster_id },
        Some(moment) => Job::Plan {
            id,
            cluster_id,
            moment: moment.flag(),
        },
    }
}

fn names_its_cluster(restore: &EngramRestore) -> bool {
    let source = restore.spec.source.as_ref();
    source.is_some_and(|source| source.cluster_id.is_some())
}

/// A cluster that is there is not given another one's data by accident.
fn strangers(restore: &EngramRestore, meant: &Meant, target: &EngramCluster) -> Option<State> {
    if restore.spec.kind != RestoreKind::InPlace || names_its_cluster(restore) {
        return None;
    }
    let status = target.status.clone().unwrap_or_default();
    let own = status.cluster_id.clone().unwrap_or_default();
    let begun = status.restored.and_then(|from| from.of);
    if meant.cluster_id == own || begun.as_ref() == Some(&meant.whose) {
        return None;
    }
    let (name, whose) = (target.name_any(), &meant.whose);
    let message = format!(
        "backup {} is of cluster {whose}, and EngramCluster {name} is {own}: take a backup of {name}; or, if \
         another cluster's data is meant, make a restore whose source.clusterID is {whose}",
        meant.backup
    );
    Some(State::Failed(Reason::WrongCluster, message))
}

/// What would be done, step by step. It says nothing that changes by itself: its hash is confirmed.
fn plan(restore: &EngramRestore, recovery: &Recovery, meant: &Meant) -> Vec<String> {
    let target = &restore.spec.target;
    let mut plan = vec![
        format!(
            "backup {} of cluster {} is read from EngramBackupStore {}: {}",
            meant.backup, meant.whose, recovery.store_ref.name, meant.what
        ),
        match &target.spec {
            Some(spec) => format!(
                "EngramCluster {} is made with {} members: the first one's volume is filled with it, the others join",
                target.name, spec.replicas
            ),
            None => format!(
                "EngramCluster {} keeps its name, Services and certificates: its members are stopped and set aside, and their volumes kept until decision says what becomes of them; the volume of a new member is filled with the backup, and others join it",
                target.name
            ),
        },
    ];
    plan.push(match recovery.revision_bump {
        0 => "the revision stays: clients of the cluster that was backed up may meet revisions twice".into(),
        bump => format!(
            "the revision is moved on by {bump} to {}, and every older one counts as compacted: clients list anew",
            meant.revision.saturating_add(bump)
        ),
    });
    plan
}

pub(super) fn hash(plan: &[String]) -> String {
    let digest = Sha256::digest(plan.join("\n"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..HASH_DIGITS].to_owned()
}

/// The revision that the cluster which was backed up is at, and who says so.
#[derive(Clone, Copy)]
enum Known {
    /// Its members, just now.
    Members(i64),
    /// Its status: it is written when the revision has moved by a hundredth.
    Status(i64),
}

/// Asks the cluster that was backed up, where it is there still. Nothing is made for that, not even a
/// certificate.
async fn known(
    context: &Context,
    meant: &Meant,
    cluster: &EngramCluster,
) -> Result<Option<Known>, Error> {
    let status = cluster.status.as_ref();
    let same = status.filter(|one| one.cluster_id.as_ref() == Some(&meant.cluster_id));
    let Some(status) = same else {
        return Ok(None);
    };
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let tls = context.last_client(uid);
    // What pods are made from is not its matter.
    let form = Form::default();
    let sight = Box::pin(observe(context, cluster, tls.as_ref(), &form)).await?;
    let answers = sight.asked.answers.values().map(|answer| answer.revision);
    let written = status.revision.map(Known::Status);
    Ok(answers.max().map(Known::Members).or(written))
}

/// What would be missing, as far as is known.
fn loss(meant: &Meant, known: Option<Known>) -> String {
    let (revision, at) = (meant.revision, &meant.at);
    let more = match known {
        Some(Known::Members(now)) if now > revision => format!(
            ": at least {} revisions, for the cluster that was backed up is at {now}",
            now - revision
        ),
        Some(Known::Members(_)) => {
            ": nothing so far, for the cluster that was backed up is no further; what it writes until its members \
             are stopped"
                .to_owned()
        }
        Some(Known::Status(now)) if now > revision => format!(
            ": at least {} revisions, by the status of the cluster that was backed up ({now}), which lags by a \
             hundredth at most",
            now - revision
        ),
        Some(Known::Status(now)) => format!(
            ": none that the status of the cluster that was backed up knows of ({now}), which lags by a hundredth \
             at most"
        ),
        None => String::new(),
    };
    format!("what was written after {at}{more}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn restore(bump: i64) -> EngramRestore {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore", "metadata": { "name": "r" },
            "spec": {
                "source": { "storeRef": { "name": "s" }, "cluster": "demo" },
                "target": { "name": "again", "spec": { "replicas": 3 } },
                "revisionBump": bump, "markCompacted": bump > 0,
            },
        }))
        .unwrap()
    }

    fn meant() -> Meant {
        Meant {
            backup: "n-1".into(),
            cluster_id: "cdf8".into(),
            whose: "cdf8/0".into(),
            revision: 40,
            at: "revision 40, 2026-01-02T03:00:00Z".into(),
            what: "revision 40, taken 2026-01-02T03:00:00Z".into(),
        }
    }

    fn planned(bump: i64, meant: &Meant) -> Vec<String> {
        let restore = restore(bump);
        let (store, cluster) = ("s".to_owned(), "demo".to_owned());
        let recovery = super::super::recovery(&restore, store, cluster, "latest".into());
        plan(&restore, &recovery, meant)
    }

    #[test]
    fn a_plan_names_the_backup_and_its_hash_changes_with_it() {
        let one = planned(1_000, &meant());
        let text = one.join(" ");
        for part in [
            "n-1",
            "cdf8/0",
            "revision 40",
            "2026-01-02",
            "again",
            "3 members",
            "1040",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(hash(&one), hash(&planned(1_000, &meant())));
        let newer = Meant {
            backup: "n-2".into(),
            ..meant()
        };
        assert_ne!(hash(&one), hash(&planned(1_000, &newer)));
        assert_ne!(hash(&one), hash(&planned(0, &meant())));
    }

    #[test]
    fn a_cluster_that_is_there_is_not_given_anothers_backup_by_accident() {
        let restore = |cluster_id: Option<&str>| -> EngramRestore {
            serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore", "metadata": { "name": "r" },
                "spec": {
                    "kind": "InPlace", "target": { "name": "demo" },
                    "source": { "storeRef": { "name": "s" }, "cluster": "demo", "clusterID": cluster_id },
                },
            }))
            .unwrap()
        };
        let cluster = |status: Value| -> EngramCluster {
            serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
                "metadata": { "name": "demo" }, "spec": {}, "status": status,
            }))
            .unwrap()
        };
        let own = cluster(json!({ "clusterID": "cdf8" }));
        assert_eq!(strangers(&restore(None), &meant(), &own), None);
        let descendant = cluster(
            json!({ "clusterID": "aa", "restored": { "backupID": "b", "path": "p", "of": "cdf8/0" } }),
        );
        assert_eq!(strangers(&restore(None), &meant(), &descendant), None);
        let other = cluster(json!({ "clusterID": "aa" }));
        let Some(State::Failed(reason, message)) = strangers(&restore(None), &meant(), &other)
        else {
            panic!("it is refused");
        };
        assert_eq!(reason, Reason::WrongCluster);
        for part in ["n-1", "cdf8/0", "aa", "source.clusterID"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert_eq!(strangers(&restore(Some("cdf8/0")), &meant(), &other), None);
    }

    #[test]
    fn the_loss_is_what_the_cluster_has_had_since() {
        let of = |known: Option<Known>| loss(&meant(), known);
        for more in [Known::Members(47), Known::Status(47)] {
            let text = of(Some(more));
            assert!(text.contains("at least 7 revisions"), "{text}");
        }
        // Only the members can say that there is nothing.
        assert!(of(Some(Known::Members(40))).contains("nothing so far"));
        assert!(of(Some(Known::Status(40))).contains("none that"));
        assert!(of(None).ends_with("after revision 40, 2026-01-02T03:00:00Z"));
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_answer_is_known_by_its_status_and_another_one_not_at_all() {
        let context = crate::played::Played::default().context();
        let since = async |id: &str| {
            let cluster = serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
                "metadata": { "name": "demo", "namespace": "data", "uid": "u" }, "spec": {},
                "status": { "clusterID": id, "revision": 47 },
            }));
            let known = known(&context, &meant(), &cluster.unwrap()).await;
            loss(&meant(), known.unwrap())
        };
        assert!(since("cdf8").await.contains("by the status"));
        assert_eq!(since("aa").await, loss(&meant(), None));
    }
}
