//! A restore into a cluster that is there. What is in force is one field of the cluster's status
//! (`restoring`), written in one step over the status that was read: before it nothing was changed, after
//! it the cluster's own loop goes on, and undoing it is one more such step. Both sets of members keep
//! their objects and volumes until it is decided.

use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    Aside, ConditionKind, Decision, EngramCluster, EngramClusterStatus, EngramMember,
    EngramRestore, EngramRestoreStatus, KeptVolume, Reason, Recovery, RestoreKind, RestorePhase,
    Restoring, RestoringStage, set_condition,
};
use crate::build::claim_name;
use crate::observe::is_owned_by;

use super::super::{Context, Error, Version, is_conflict, now, write_cluster_status};
use super::plan::{self, Planning};
use super::quorum::{self, Choice};
use super::state::{self, State};
use super::{confirmed, planned, stays};

/// What a cluster goes on with.
enum With {
    /// A backup.
    Backup(Recovery),
    /// What this member has.
    Survivor(String),
}

/// Whether something may still become of a restore that has come to an end: what it replaced is kept.
pub(super) fn is_open(restore: &EngramRestore, status: &EngramRestoreStatus) -> bool {
    let kinds = [RestoreKind::InPlace, RestoreKind::QuorumRecovery];
    let replaces = kinds.contains(&restore.spec.kind) && status.started_at.is_some();
    replaces && status.decided.is_none() && status.phase != Some(RestorePhase::Undone)
}

/// One step.
pub(super) async fn advance(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let clusters: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    let name = &restore.spec.target.name;
    let Some(cluster) = clusters.get_opt(name).await? else {
        let message = match status.started_at {
            Some(_) => format!(
                "EngramCluster {name} was deleted: its volumes went as storage.reclaimPolicy says"
            ),
            None => format!(
                "there is no EngramCluster {name}, and this restores one that is there: correct target.name, \
                 or make a restore of kind NewCluster"
            ),
        };
        status.decided = status.started_at.as_ref().map(|_| Decision::Accept);
        return Ok(State::Failed(Reason::NotFound, message));
    };
    let ours = |one: &&Restoring| Some(&one.restore_uid) == restore.metadata.uid.as_ref();
    match cluster.restoring().filter(ours) {
        Some(restoring) => {
            status.started_at.get_or_insert_with(|| Time(now()));
            status.kept.clone_from(&restoring.kept);
            under_way(context, restore, &cluster, restoring, status).await
        }
        None if status.started_at.is_some() => Ok(decided(restore, status)),
        None => prepare(context, restore, &cluster, status).await,
    }
}

/// The cluster has forgotten it: what was set aside is gone.
fn decided(restore: &EngramRestore, status: &mut EngramRestoreStatus) -> State {
    let name = &restore.spec.target.name;
    let Some(decision) = restore.spec.decision else {
        status.decided = Some(Decision::Accept);
        let message = format!("EngramCluster {name} is not the one any more that was restored");
        return State::Failed(Reason::NotFound, message);
    };
    status.decided = Some(decision);
    status.kept.clear();
    match decision {
        Decision::Accept => State::Completed(format!("the old members of {name} are gone")),
        Decision::Undo => {
            status.revision = None;
            State::Undone(format!("{name} runs on its old volumes"))
        }
    }
}

async fn prepare(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    if restore.spec.decision == Some(Decision::Undo) {
        return Ok(State::Undone(
            "it was given up before anything was changed".into(),
        ));
    }
    let obstacle = obstacle(context, cluster);
    if restore.spec.kind == RestoreKind::QuorumRecovery {
        return recover(context, restore, cluster, obstacle, status).await;
    }
    if restore.spec.dry_run {
        let planning = plan::make(context, restore, status, cluster).await?;
        let before = obstacle.map_or(String::new(), |(_, message)| {
            format!("; but first: {message}")
        });
        return Ok(match planning {
            Planning::Not(state) => state,
            Planning::Made(_) => planned(status, &before),
        });
    }
    if let Some((reason, message)) = obstacle {
        return Ok(State::Pending(reason, message));
    }
    match confirmed(context, restore, status, cluster).await? {
        Planning::Not(state) => Ok(state),
        Planning::Made(recovery) => {
            let (with, volumes) = (With::Backup(recovery), volumes(context, cluster).await?);
            begin(context, restore, cluster, with, volumes, status).await
        }
    }
}

/// The same for a lost quorum: the volumes are asked instead of a store.
async fn recover(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    obstacle: Option<(Reason, String)>,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    if let Some((reason, message)) = obstacle {
        return Ok(State::Pending(reason, message));
    }
    let volumes = volumes(context, cluster).await?;
    let survivor = match quorum::choose(context, restore, cluster, &volumes, status).await? {
        Choice::Not(state) => return Ok(state),
        Choice::Made(survivor) => survivor,
    };
    if let Some(state) = stays(restore, status, "") {
        return Ok(state);
    }
    let with = With::Survivor(survivor);
    begin(context, restore, cluster, with, volumes, status).await
}

/// Why a cluster cannot be restored as it is.
fn obstacle(context: &Context, cluster: &EngramCluster) -> Option<(Reason, String)> {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let own = context.settings.installation();
    if cluster.meta().deletion_timestamp.is_some() {
        return Some((
            Reason::Deleting,
            format!("EngramCluster {name} is being deleted"),
        ));
    }
    if let Some(holder) = status.held_by.filter(|holder| *holder != own) {
        let message = format!(
            "the operator {holder} looks after EngramCluster {name}, and has to restore it"
        );
        return Some((Reason::WaitingForCluster, message));
    }
    if let Some(other) = &status.restoring {
        let message = format!(
            "EngramRestore {} of {name} is not decided yet: set its decision to Accept or Undo; one that was deleted \
             comes to its end by itself",
            other.restore
        );
        return Some((Reason::NotDecided, message));
    }
    if cluster.spec.paused || cluster.spec.replicas == 0 {
        let message =
            format!("nothing is changed in EngramCluster {name}: it is paused, or has replicas: 0");
        return Some((Reason::WaitingForCluster, message));
    }
    if status.cluster_id.is_none() {
        let message =
            format!("EngramCluster {name} has never served: there is nothing to replace as yet");
        return Some((Reason::WaitingForCluster, message));
    }
    None
}

/// The step that decides: from then on the old members, whose volumes are `volumes`, are set aside.
async fn begin(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    with: With,
    volumes: Vec<KeptVolume>,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let mut after = cluster.status.clone().unwrap_or_default();
    let numbers = volumes.iter().filter_map(|one| number(&one.member));
    after.last_member_number = numbers.fold(after.last_member_number, u32::max);
    let old_cluster_id = after.cluster_id.clone().unwrap_or_default();
    let old_restored = after.restored.clone();
    let (recovery, survivor) = match with {
        With::Backup(recovery) => {
            (after.cluster_id, after.restored) = (None, None);
            (Some(recovery), None)
        }
        With::Survivor(member) => (None, Some(member)),
    };
    let kept: Vec<KeptVolume> = volumes
        .into_iter()
        .filter(|one| Some(&one.member) != survivor.as_ref())
        .collect();
    after.restoring = Some(Restoring {
        restore: restore.name_any(),
        restore_uid: restore.metadata.uid.clone().unwrap_or_default(),
        stage: RestoringStage::Kept,
        aside: Aside::Old,
        last_old_member: after.last_member_number,
        recovery,
        survivor,
        kept: kept.clone(),
        old_cluster_id,
        old_restored,
    });
    forget(&mut after);
    if let Some(busy) = switch(context, cluster, &mut after).await? {
        return Ok(busy);
    }
    let names: Vec<&str> = kept.iter().map(|one| one.volume_claim.as_str()).collect();
    let note = format!(
        "EngramRestore {} restores it: the members are stopped and set aside, and their volumes kept: {}",
        restore.name_any(),
        names.join(", ")
    );
    context
        .event(cluster, false, "RestoringInPlace", &note)
        .await;
    status.started_at = Some(Time(now()));
    status.kept = kept;
    let message = "the members are stopped and set aside".to_owned();
    Ok(State::Running(Reason::Restoring, message))
}

/// What was known of members that are not in force any more.
fn forget(status: &mut EngramClusterStatus) {
    status.replacements.clear();
    status.stuck_learners.clear();
    status.leader = None;
    status.quorum = None;
}

/// Writes it over the status that was read. What to say where somebody else was quicker.
async fn switch(
    context: &Context,
    cluster: &EngramCluster,
    after: &mut EngramClusterStatus,
) -> Result<Option<State>, Error> {
    let message = "its members are exchanged for those of a restore, or back";
    for kind in [ConditionKind::Ready, ConditionKind::Available] {
        let generation = cluster.metadata.generation;
        let conditions = &mut after.conditions;
        set_condition(
            conditions,
            kind,
            false,
            Reason::Restoring,
            message,
            generation,
            now(),
        );
    }
    match write_cluster_status(context, cluster, &Version::of(cluster), after).await {
        Err(error) if is_conflict(&error) => {
            let message = "the cluster's status has changed meanwhile".to_owned();
            Ok(Some(State::Pending(Reason::WaitingForTurn, message)))
        }
        written => written.map(|()| None),
    }
}

/// The volumes of its members, as they are named.
async fn volumes(context: &Context, cluster: &EngramCluster) -> Result<Vec<KeptVolume>, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let members: Api<EngramMember> = Api::namespaced(context.client.clone(), &namespace);
    let members = members.list(&ListParams::default()).await?;
    let ours = |member: &&EngramMember| is_owned_by(*member, cluster);
    let mut volumes: Vec<KeptVolume> = members
        .iter()
        .filter(ours)
        .map(|member| KeptVolume {
            member: member.name_any(),
            volume_claim: claim_name(member),
        })
        .collect();
    volumes.sort_by_key(|one| number(&one.member));
    Ok(volumes)
}

fn number(member: &str) -> Option<u32> {
    member.rsplit('-').next()?.parse().ok()
}

async fn under_way(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    restoring: &Restoring,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let found = cluster.status.clone().unwrap_or_default();
    let name = cluster.name_any();
    if restoring.stage != RestoringStage::Kept {
        let message = match restoring.aside {
            Aside::New => format!("{name} goes back to its old members"),
            Aside::Old => format!("the old members of {name} go"),
        };
        return Ok(State::Running(Reason::Running, message));
    }
    if restore.spec.decision == Some(Decision::Undo) && restoring.survivor.is_none() {
        return undo(context, cluster, restoring).await;
    }
    if let Some(from) = &found.restored {
        status.backup_id = Some(from.backup_id.clone());
        status.revision = from.revision;
    }
    if restoring.survivor.is_some() {
        status.revision = found.revision;
    }
    let state = progress(&found);
    match (restore.spec.decision, state) {
        (Some(Decision::Accept), State::Completed(_)) => accept(context, cluster, restoring).await,
        (_, state) => Ok(state),
    }
}

/// How the new members stand.
fn progress(found: &EngramClusterStatus) -> State {
    let advice = "set decision: Undo to have the old volumes again, and restore another backup";
    match state::of(advice, found) {
        State::Completed(_) => State::Completed(
            "every member is ready; the old volumes (status.kept) are kept until decision is Accept or Undo"
                .into(),
        ),
        state => state,
    }
}

async fn accept(
    context: &Context,
    cluster: &EngramCluster,
    restoring: &Restoring,
) -> Result<State, Error> {
    let mut after = cluster.status.clone().unwrap_or_default();
    after.restoring = Some(Restoring {
        stage: RestoringStage::Discarded,
        ..restoring.clone()
    });
    match write_cluster_status(context, cluster, &Version::of(cluster), &after).await {
        Err(error) if !is_conflict(&error) => Err(error),
        _ => {
            let message = format!("the old members of {} go", cluster.name_any());
            Ok(State::Running(Reason::Running, message))
        }
    }
}

/// What undoing a restore makes of the cluster's status: the new members are set aside, and go.
pub(in crate::reconcile) fn go_back(restoring: &Restoring, after: &mut EngramClusterStatus) {
    after.cluster_id = Some(restoring.old_cluster_id.clone());
    after.restored.clone_from(&restoring.old_restored);
    after.restoring = Some(Restoring {
        stage: RestoringStage::Discarded,
        aside: Aside::New,
        ..restoring.clone()
    });
    forget(after);
}

/// The other step that decides.
async fn undo(
    context: &Context,
    cluster: &EngramCluster,
    restoring: &Restoring,
) -> Result<State, Error> {
    let mut after = cluster.status.clone().unwrap_or_default();
    go_back(restoring, &mut after);
    if let Some(busy) = switch(context, cluster, &mut after).await? {
        return Ok(busy);
    }
    let note = "the restore is undone: the old members start again on their volumes";
    context.event(cluster, false, "RestoreUndone", note).await;
    let message = format!("{} goes back to its old members", cluster.name_any());
    Ok(State::Running(Reason::Running, message))
}
