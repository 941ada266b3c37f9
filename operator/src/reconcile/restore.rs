//! A restore: it makes a cluster whose first member begins with a backup, and watches it come up.

mod plan;
mod source;
mod state;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    Bootstrap, EngramCluster, EngramRestore, EngramRestoreStatus, LocalRef, Reason, Recovery,
    RestorePhase,
};

use super::{Context, Course, Error, now, set_course, write_status};
use plan::Planning;
use source::Source;
use state::State;

pub(super) use state::{refusal, restored};

/// On clusters: the restore that made them (by its UID).
const ANNOTATION: &str = "engram.dev/restore";
const LABEL: &str = "engram.dev/restored-by";
const SOON: Duration = Duration::from_secs(5);

/// The restore that made a cluster.
pub(super) fn restore_of(cluster: &EngramCluster) -> Option<ObjectRef<EngramRestore>> {
    let name = cluster.labels().get(LABEL)?;
    Some(ObjectRef::new(name).within(&cluster.namespace()?))
}

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramRestore>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramRestore> = Api::namespaced(context.client.clone(), &namespace);
    let Some(restore) = api.get_opt(&seen.name_any()).await? else {
        return Ok(Next::await_change());
    };
    let before = restore.status.clone().unwrap_or_default();
    let same = before.observed_generation == restore.metadata.generation;
    let waits = same && waits_for_its_user(&before);
    if is_over(&before) || waits || restore.meta().deletion_timestamp.is_some() {
        return Ok(Next::await_change());
    }
    let mut status = before.clone();
    status.observed_generation = restore.metadata.generation;
    let state = match advance(&context, &restore, &mut status).await {
        Err(Error::Input { reason, message }) => State::Failed(reason, message),
        other => other?,
    };
    say(&restore, &mut status, state);
    if status != before {
        write_status(&context, &restore, &status).await?;
        told(&context, &restore, &before, &status).await;
    }
    Ok(match is_over(&status) {
        true => Next::await_change(),
        false => Next::requeue(SOON),
    })
}

fn is_over(status: &EngramRestoreStatus) -> bool {
    matches!(
        status.phase,
        Some(RestorePhase::Completed | RestorePhase::Failed)
    )
}

/// Whether nothing happens before dryRun or confirm is changed: the store is not asked again and again.
fn waits_for_its_user(status: &EngramRestoreStatus) -> bool {
    let word = Reason::WaitingForConfirmation.as_str();
    let complete = status.conditions.iter().find(|one| one.type_ == "Complete");
    status.phase == Some(RestorePhase::Planned) || complete.is_some_and(|one| one.reason == word)
}

fn say(restore: &EngramRestore, status: &mut EngramRestoreStatus, state: State) {
    let (phase, reason, message) = match state {
        State::Pending(reason, message) => (RestorePhase::Pending, reason, message),
        State::Planned(message) => (RestorePhase::Planned, Reason::Planned, message),
        State::Running(reason, message) => (RestorePhase::Running, reason, message),
        State::Completed(message) => (RestorePhase::Completed, Reason::Succeeded, message),
        State::Failed(reason, message) => (RestorePhase::Failed, reason, message),
    };
    status.phase = Some(phase);
    if is_over(status) {
        status.completed_at = Some(Time(now()));
    }
    let course = match phase {
        RestorePhase::Completed => Course::Good,
        RestorePhase::Failed => Course::Bad,
        RestorePhase::Pending | RestorePhase::Planned | RestorePhase::Running => Course::Open,
    };
    let generation = restore.metadata.generation;
    set_course(&mut status.conditions, course, reason, &message, generation);
}

async fn told(
    context: &Context,
    restore: &EngramRestore,
    before: &EngramRestoreStatus,
    after: &EngramRestoreStatus,
) {
    if before.phase == after.phase {
        return;
    }
    let note = after.conditions.first();
    let note = note.map_or("", |one| one.message.as_str());
    let (warning, reason) = match after.phase {
        Some(RestorePhase::Failed) => (true, "RestoreFailed"),
        Some(RestorePhase::Completed) => (false, "RestoreCompleted"),
        _ => (false, "RestoreProgress"),
    };
    context.event(restore, warning, reason, note).await;
}

async fn advance(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let clusters: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    let target = &restore.spec.target.name;
    let cluster = clusters.get_opt(target).await?;
    if restore.spec.dry_run && status.started_at.is_none() {
        return dry_run(context, restore, status, cluster.is_some()).await;
    }
    let uid = restore.metadata.uid.as_deref();
    let ours = |one: &EngramCluster| one.annotations().get(ANNOTATION).map(String::as_str) == uid;
    match cluster {
        Some(cluster) if ours(&cluster) => {
            status.started_at.get_or_insert_with(|| Time(now()));
            let found = cluster.status.unwrap_or_default();
            if let Some(from) = &found.restored {
                status.backup_id = Some(from.backup_id.clone());
                status.revision = from.revision;
            }
            Ok(state::of(target, &found))
        }
        // The lost one, whose name is to be used again, may still be on its way out.
        Some(cluster) if cluster.meta().deletion_timestamp.is_some() => {
            let message = format!("EngramCluster {target} is still being deleted");
            Ok(State::Pending(Reason::Deleting, message))
        }
        Some(_) => {
            let message = format!(
                "EngramCluster {target} exists: a restore makes a new cluster; delete that one, or take another name"
            );
            Ok(State::Failed(Reason::AlreadyExists, message))
        }
        None if status.started_at.is_some() => {
            let message = format!("EngramCluster {target} was deleted before it was restored");
            Ok(State::Failed(Reason::NotFound, message))
        }
        None => begin(context, &clusters, restore, status).await,
    }
}

async fn begin(
    context: &Context,
    clusters: &Api<EngramCluster>,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let source = match confirmed(context, restore, status).await? {
        Planning::Not(state) => return Ok(state),
        Planning::Made(recovery) => recovery,
    };
    let backup = source.backup.clone();
    match clusters
        .create(&PostParams::default(), &target(restore, source))
        .await
    {
        Ok(_) => {}
        // Somebody else was quicker: the next pass says whose it is.
        Err(kube::Error::Api(refused)) if refused.reason == "AlreadyExists" => {}
        Err(kube::Error::Api(refused)) if refused.code == 422 => {
            return Err(Error::input(Reason::InvalidSpec, refused.message.clone()));
        }
        Err(error) => return Err(error.into()),
    }
    status.started_at = Some(Time(now()));
    status.backup_id = Some(backup);
    let message = "the cluster is being made".to_owned();
    Ok(State::Running(Reason::Restoring, message))
}

/// Finds out what would be done, and does nothing.
async fn dry_run(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
    target_exists: bool,
) -> Result<State, Error> {
    if let Planning::Not(state) = plan::make(context, restore, status).await? {
        return Ok(state);
    }
    let hash = status.plan_hash.as_deref().unwrap_or_default();
    let obstacle = match target_exists {
        true => format!(
            "; EngramCluster {} exists, and has to be deleted before",
            restore.spec.target.name
        ),
        false => String::new(),
    };
    Ok(State::Planned(format!(
        "nothing was changed: status.plan says what would be done, status.loss what would be lost; to do it, set dryRun: false and confirm: {hash}{obstacle}"
    )))
}

/// What is to be done: at once, or where it was planned before, or a plan was confirmed, if that is
/// the plan still.
async fn confirmed(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<Planning, Error> {
    let confirm = restore.spec.confirm.as_ref();
    if confirm.is_none() && status.plan_hash.is_none() {
        return Ok(match source::find(context, restore).await? {
            Source::Waits(reason, message) => Planning::Not(State::Pending(reason, message)),
            Source::Known(recovery) => Planning::Made(recovery),
        });
    }
    if let (None, Some(hash)) = (confirm, &status.plan_hash) {
        let message = format!("the plan has to be confirmed: set confirm: {hash}, or dryRun: true");
        return Ok(Planning::Not(State::Pending(
            Reason::WaitingForConfirmation,
            message,
        )));
    }
    let planning = plan::make(context, restore, status).await?;
    if matches!(planning, Planning::Made(_)) && confirm != status.plan_hash.as_ref() {
        let hash = status.plan_hash.as_deref().unwrap_or_default();
        let message = format!(
            "what was confirmed is another plan: read status.plan as it is now, and set confirm: {hash}"
        );
        return Ok(Planning::Not(State::Pending(
            Reason::WaitingForConfirmation,
            message,
        )));
    }
    Ok(planning)
}

/// The cluster that is made. It is not owned: a cluster outlives the restore that made it.
fn target(restore: &EngramRestore, recovery: Recovery) -> EngramCluster {
    let mut spec = restore.spec.target.spec.clone();
    spec.bootstrap = Some(Bootstrap { recovery });
    let name = &restore.spec.target.name;
    let uid = restore.metadata.uid.clone().unwrap_or_default();
    let mut object = EngramCluster::new(name, spec);
    object.metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: restore.namespace(),
        labels: Some([(LABEL.to_owned(), restore.name_any())].into()),
        annotations: Some([(ANNOTATION.to_owned(), uid)].into()),
        ..ObjectMeta::default()
    };
    object
}

/// What the specification asks for beside the backup.
fn recovery(restore: &EngramRestore, store: String, cluster: String, backup: String) -> Recovery {
    Recovery {
        store_ref: LocalRef { name: store },
        cluster: Some(cluster),
        cluster_id: restore.spec.source.cluster_id.clone(),
        backup,
        revision_bump: restore.spec.revision_bump,
        mark_compacted: restore.spec.mark_compacted,
    }
}
