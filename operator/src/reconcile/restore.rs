//! A restore: it makes a cluster whose first member begins with a backup, or has one begin again so, and
//! watches it come up.

mod adopt;
mod hold;
mod image;
mod in_place;
mod look;
mod meant;
mod plan;
mod quorum;
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
    Bootstrap, ConditionKind, EngramCluster, EngramRestore, EngramRestoreStatus, LocalRef, Reason,
    Recovery, RestoreKind, RestorePhase, condition, parse_duration,
};

use super::cluster::{HELD_PAUSE, held_by_another};
use super::{Context, Course, Error, Version, now, set_course, tool, write_status};
use adopt::Adoption;
use plan::Planning;
use source::Source;
use state::State;

pub(super) use in_place::{go_back, restored_by};
pub(super) use state::{is_refusal, refusal, restored};

/// On clusters: the restore that made them (by its UID).
const ANNOTATION: &str = "engram.dev/restore";
const LABEL: &str = "engram.dev/restored-by";
const SOON: Duration = Duration::from_secs(5);
/// The next look at what waits to be decided: a change of the cluster or the decision comes at once.
const LATER: Duration = Duration::from_secs(60);

/// The restore that made a cluster, or restores it.
pub(super) fn restore_of(cluster: &EngramCluster) -> Option<ObjectRef<EngramRestore>> {
    let restoring = cluster.restoring().map(|restoring| &restoring.restore);
    let name = restoring.or_else(|| cluster.labels().get(LABEL))?;
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
    let version = Version::of(&restore);
    let before = restore.status.clone().unwrap_or_default();
    let same = before.observed_generation == restore.metadata.generation;
    let waits = same && waits_for_its_user(&before);
    let open = |status: &EngramRestoreStatus| {
        in_place::is_open(&restore, status) || may_yet_serve(&restore, status)
    };
    let over = is_over(&before) && !open(&before);
    if over || waits || restore.meta().deletion_timestamp.is_some() {
        return Ok(Next::await_change());
    }
    let target = tool::cluster(&context, &namespace, &restore.spec.target.name).await?;
    let another = target
        .as_ref()
        .and_then(|cluster| held_by_another(&context, cluster));
    // Whoever looks after the cluster speaks for its restores, once it has begun to.
    if before.phase.is_some() && another.is_some() {
        return Ok(Next::requeue(HELD_PAUSE));
    }
    let mut status = before.clone();
    status.observed_generation = restore.metadata.generation;
    let advanced = match restore.spec.kind {
        RestoreKind::NewCluster | RestoreKind::AdoptVolumes => {
            Box::pin(advance(&context, &restore, target, &mut status)).await
        }
        RestoreKind::InPlace | RestoreKind::QuorumRecovery => {
            Box::pin(in_place::advance(&context, &restore, target, &mut status)).await
        }
    };
    let state = match advanced {
        Err(Error::Input { reason, message }) => State::Failed(reason, message),
        other => other?,
    };
    say(&restore, &mut status, state);
    if status != before {
        write_status(&context, &restore, &version, &status).await?;
        told(&context, &restore, &before, &status).await;
    }
    Ok(match (is_over(&status), open(&status)) {
        (true, false) => Next::await_change(),
        (true, true) => Next::requeue(LATER),
        (false, _) => Next::requeue(SOON),
    })
}

fn is_over(status: &EngramRestoreStatus) -> bool {
    matches!(
        status.phase,
        Some(RestorePhase::Completed | RestorePhase::Failed | RestorePhase::Undone)
    )
}

/// Whether the cluster that a failed restore made may come up all the same: nobody has given it up, and what keeps it
/// from starting may be put right.
fn may_yet_serve(restore: &EngramRestore, status: &EngramRestoreStatus) -> bool {
    let kinds = [RestoreKind::NewCluster, RestoreKind::AdoptVolumes];
    let word = Reason::RestoreStuck.as_str();
    let complete = condition(&status.conditions, ConditionKind::Complete);
    kinds.contains(&restore.spec.kind)
        && status.started_at.is_some()
        && status.phase == Some(RestorePhase::Failed)
        && complete.is_some_and(|one| one.reason == word)
}

/// Whether nothing happens before dryRun or confirm is changed: the store is not asked again and again.
fn waits_for_its_user(status: &EngramRestoreStatus) -> bool {
    let word = Reason::WaitingForConfirmation.as_str();
    let complete = condition(&status.conditions, ConditionKind::Complete);
    status.phase == Some(RestorePhase::Planned) || complete.is_some_and(|one| one.reason == word)
}

fn say(restore: &EngramRestore, status: &mut EngramRestoreStatus, state: State) {
    let (phase, reason, message) = match state {
        State::Pending(reason, message) => (RestorePhase::Pending, reason, message),
        State::Planned(message) => (RestorePhase::Planned, Reason::Planned, message),
        State::Running(reason, message) => (RestorePhase::Running, reason, message),
        State::Completed(message) => (RestorePhase::Completed, Reason::Succeeded, message),
        State::Failed(reason, message) => (RestorePhase::Failed, reason, message),
        State::Undone(message) => (RestorePhase::Undone, Reason::Undone, message),
    };
    let same = status.phase == Some(phase);
    status.phase = Some(phase);
    if is_over(status) && !(same && status.completed_at.is_some()) {
        status.completed_at = Some(Time(now()));
    } else if !is_over(status) {
        status.completed_at = None;
    }
    let course = match phase {
        RestorePhase::Completed => Course::Good,
        RestorePhase::Failed | RestorePhase::Undone => Course::Bad,
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
    let said = |status: &EngramRestoreStatus| {
        let one = status.conditions.first();
        one.map(|one| (one.reason.clone(), one.message.clone()))
    };
    // Each thing that a restore waits for is a line of its story.
    let (old, new) = (said(before), said(after));
    if before.phase == after.phase && (is_over(after) || old == new) {
        return;
    }
    let note = new.map(|(_, message)| message).unwrap_or_default();
    let note = note.as_str();
    let (warning, reason) = match after.phase {
        Some(RestorePhase::Failed) => (true, "RestoreFailed"),
        Some(RestorePhase::Completed) => (false, "RestoreCompleted"),
        Some(RestorePhase::Undone) => (false, "RestoreUndone"),
        _ => (false, "RestoreProgress"),
    };
    context.event(restore, warning, reason, note).await;
}

async fn advance(
    context: &Context,
    restore: &EngramRestore,
    cluster: Option<EngramCluster>,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let clusters: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    let target = &restore.spec.target.name;
    if restore.spec.dry_run && status.started_at.is_none() {
        return Box::pin(dry_run(context, restore, status, cluster.is_some())).await;
    }
    let uid = restore.metadata.uid.as_deref();
    let ours = |one: &EngramCluster| one.annotations().get(ANNOTATION).map(String::as_str) == uid;
    match cluster {
        Some(cluster) if ours(&cluster) => {
            status.started_at.get_or_insert_with(|| Time(now()));
            let limit = parse_duration(&cluster.spec.healing.stuck_after).unwrap_or_default();
            let found = cluster.status.unwrap_or_default();
            if let Some(from) = &found.restored {
                status.backup_id = Some(from.backup_id.clone());
                status.revision = from.revision;
            }
            let advice = match state::is_stuck(&found) {
                true => state::to_be_put_right(target),
                false => format!("delete EngramCluster {target}, and restore another backup"),
            };
            let state = state::of(&advice, &found);
            let begun = status.started_at.as_ref().map_or_else(now, |time| time.0);
            let late =
                Duration::try_from(now().duration_since(begun)).is_ok_and(|took| took > limit);
            Ok(match state {
                // Nothing is filled: members that have their data need no longer than others.
                State::Running(_, message) if late && adopts(restore) && !state::serves(&found) => {
                    let advice = state::to_be_put_right(target);
                    let message = format!("nobody serves since {begun}: {message}; {advice}");
                    State::Failed(Reason::RestoreStuck, message)
                }
                State::Running(reason, message) if state::serves(&found) => {
                    let message = format!("its data is there, and is served: {message}");
                    State::Running(reason, message)
                }
                state => state,
            })
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
        None => Box::pin(begin(context, &clusters, restore, status)).await,
    }
}

fn adopts(restore: &EngramRestore) -> bool {
    restore.spec.kind == RestoreKind::AdoptVolumes
}

async fn begin(
    context: &Context,
    clusters: &Api<EngramCluster>,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let bootstrap = match restore.spec.kind {
        RestoreKind::AdoptVolumes => match adopt::prepare(context, restore, status, "").await? {
            Adoption::Not(state) => return Ok(state),
            Adoption::Made(bootstrap) => *bootstrap,
        },
        _ => match confirmed(context, restore, status, &wished(restore)).await? {
            Planning::Not(state) => return Ok(state),
            Planning::Made(recovery) => Bootstrap {
                recovery: Some(recovery),
                ..Bootstrap::default()
            },
        },
    };
    let backup = bootstrap.recovery.as_ref().map(|one| one.backup.clone());
    match clusters
        .create(&PostParams::default(), &target(restore, bootstrap))
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
    status.backup_id = backup;
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
    let obstacle = match target_exists {
        true => format!(
            "; EngramCluster {} exists, and has to be deleted before",
            restore.spec.target.name
        ),
        false => String::new(),
    };
    if restore.spec.kind == RestoreKind::AdoptVolumes {
        return Ok(
            match adopt::prepare(context, restore, status, &obstacle).await? {
                Adoption::Not(state) => state,
                Adoption::Made(_) => planned(status, &obstacle),
            },
        );
    }
    match plan::make(context, restore, status, &wished(restore)).await? {
        Planning::Not(state) => Ok(state),
        Planning::Made(_) => Ok(planned(status, &obstacle)),
    }
}

/// Why a plan that was made is not done now, where that is so.
fn stays(restore: &EngramRestore, status: &EngramRestoreStatus, obstacle: &str) -> Option<State> {
    match restore.spec.dry_run {
        true => Some(planned(status, obstacle)),
        false => (restore.spec.confirm != status.plan_hash).then(|| unconfirmed(restore, status)),
    }
}

/// What a dry run ends with.
fn planned(status: &EngramRestoreStatus, obstacle: &str) -> State {
    let hash = status.plan_hash.as_deref().unwrap_or_default();
    State::Planned(format!(
        "nothing was changed: status.plan says what would be done, status.loss what would be lost; to do it, set dryRun: false and confirm: {hash}{obstacle}"
    ))
}

/// What is to be done: at once, or where it was planned before, or a plan was confirmed, if that is
/// the plan still.
async fn confirmed(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
    target: &EngramCluster,
) -> Result<Planning, Error> {
    let confirm = restore.spec.confirm.as_ref();
    let unasked = restore.spec.kind == RestoreKind::NewCluster;
    if unasked && confirm.is_none() && status.plan_hash.is_none() {
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
    let planning = plan::make(context, restore, status, target).await?;
    if matches!(planning, Planning::Made(_)) && confirm != status.plan_hash.as_ref() {
        return Ok(Planning::Not(unconfirmed(restore, status)));
    }
    Ok(planning)
}

/// What is planned was not confirmed, or something else was.
fn unconfirmed(restore: &EngramRestore, status: &EngramRestoreStatus) -> State {
    let hash = status.plan_hash.as_deref().unwrap_or_default();
    let what = match restore.spec.confirm {
        Some(_) => "what was confirmed is another plan: read status.plan as it is now, and",
        None => "nothing was changed: read status.plan and status.loss, and to have that done",
    };
    let message = format!("{what} set confirm: {hash}");
    State::Pending(Reason::WaitingForConfirmation, message)
}

/// The cluster as it is wished for, without its data.
fn wished(restore: &EngramRestore) -> EngramCluster {
    let target = &restore.spec.target;
    EngramCluster::new(&target.name, target.spec.clone().unwrap_or_default())
}

/// The cluster that is made. It is not owned: a cluster outlives the restore that made it.
fn target(restore: &EngramRestore, bootstrap: Bootstrap) -> EngramCluster {
    let mut object = wished(restore);
    object.spec.bootstrap = Some(bootstrap);
    let name = &restore.spec.target.name;
    let uid = restore.metadata.uid.clone().unwrap_or_default();
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
    let source = restore.spec.source.clone().unwrap_or_default();
    Recovery {
        store_ref: LocalRef { name: store },
        cluster: Some(cluster),
        cluster_id: source.cluster_id,
        backup,
        target_time: source.target_time,
        target_revision: source.target_revision,
        revision_bump: restore.spec.revision_bump,
        mark_compacted: restore.spec.mark_compacted,
    }
}
