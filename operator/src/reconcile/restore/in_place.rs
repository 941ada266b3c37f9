//! A restore into a cluster that is there. What is in force is one field of the cluster's status
//! (`restoring`), written in one step over the status that was read: before it nothing was changed, after
//! it the cluster's own loop goes on, and undoing it is one more such step. Both sets of members keep
//! their objects and volumes until it is decided.

use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    Aside, Before, ConditionKind, Decision, EngramCluster, EngramClusterStatus, EngramMember,
    EngramRestore, EngramRestoreStatus, KeptVolume, Reason, Recovery, RestoreKind, RestorePhase,
    Restoring, RestoringStage, is_true, set_condition,
};
use crate::desired::claim_name;
use crate::observe::is_owned_by;

use super::super::{Context, Error, Version, is_overtaken, now, write_cluster_status};
use super::hold;
use super::look::When;
use super::plan::{self, Planning};
use super::quorum::{self, Choice};
use super::source;
use super::state::{self, State};
use super::{confirmed, planned, stays};

/// What a cluster goes on with.
enum With {
    /// A backup.
    Backup(Recovery),
    /// What one of the members has, once it is known whose; and the recovery that this one is to take the place of.
    Nobody(Option<Before>),
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
    cluster: Option<EngramCluster>,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let name = &restore.spec.target.name;
    let Some(cluster) = cluster else {
        let message = match status.started_at {
            Some(_) => format!(
                "EngramCluster {name} was deleted: its volumes went as storage.reclaimPolicy says"
            ),
            None => format!(
                "there is no EngramCluster {name}, and this restores one that is there: correct target.name, \
                 or make a restore of kind NewCluster"
            ),
        };
        if status.started_at.is_none() && source::is_young(restore) {
            return Ok(State::Pending(Reason::NotFound, message));
        }
        status.decided = status.started_at.as_ref().map(|_| Decision::Accept);
        return Ok(State::Failed(Reason::NotFound, message));
    };
    let ours = |one: &&Restoring| Some(&one.restore_uid) == restore.metadata.uid.as_ref();
    match cluster.restoring().filter(ours) {
        Some(restoring) if restoring.holds() => {
            Box::pin(hold::go_on(context, restore, &cluster, restoring, status)).await
        }
        Some(restoring) => {
            status.started_at.get_or_insert_with(|| Time(now()));
            status.kept.clone_from(&restoring.kept);
            under_way(context, restore, &cluster, restoring, status).await
        }
        None if status.started_at.is_some() => Ok(decided(restore, &cluster, status)),
        None => prepare(context, restore, &cluster, status).await,
    }
}

/// The cluster has forgotten it: what was set aside is gone.
fn decided(
    restore: &EngramRestore,
    cluster: &EngramCluster,
    status: &mut EngramRestoreStatus,
) -> State {
    let name = &restore.spec.target.name;
    let failed = status.phase == Some(RestorePhase::Failed);
    // Nothing is decided of one that has failed.
    let open = restore.spec.decision.is_none() || failed;
    if let Some(next) = cluster.restoring().filter(|_| open) {
        let message = format!("EngramRestore {} took its place", next.restore);
        if !next.holds() {
            status.decided = Some(Decision::Accept);
        }
        return State::Failed(Reason::RestoreStuck, message);
    }
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
    let before = takes_the_place_of(context, restore, cluster).await?;
    let obstacle = obstacle(context, cluster, before.is_some());
    if restore.spec.kind == RestoreKind::QuorumRecovery {
        return recover(context, restore, cluster, obstacle, before, status).await;
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
    before: Option<Before>,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    if let Some((reason, message)) = obstacle {
        return Ok(State::Pending(reason, message));
    }
    let volumes = volumes(context, cluster).await?;
    let when = When::First;
    if let Choice::Not(state) =
        quorum::choose(context, restore, cluster, &volumes, when, status).await?
    {
        return Ok(state);
    }
    if let Some(state) = stays(restore, status, "") {
        return Ok(state);
    }
    let with = With::Nobody(before);
    begin(context, restore, cluster, with, volumes, status).await
}

/// The EngramRestore that a cluster is restored by, where something may yet become of it: neither another one of its
/// name, nor one that is being deleted, whatever holds it yet.
///
/// # Errors
/// The API server did not answer.
pub(in crate::reconcile) async fn restored_by(
    context: &Context,
    cluster: &EngramCluster,
    restoring: &Restoring,
) -> Result<Option<EngramRestore>, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let restores: Api<EngramRestore> = Api::namespaced(context.client.clone(), &namespace);
    let found = restores.get_opt(&restoring.restore).await?;
    Ok(found.filter(|one| {
        one.metadata.uid.as_ref() == Some(&restoring.restore_uid)
            && one.metadata.deletion_timestamp.is_none()
    }))
}

/// The recovery that has failed, or whose EngramRestore is gone, where this one may take its place: nothing answers.
async fn takes_the_place_of(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
) -> Result<Option<Before>, Error> {
    let Some(other) = cluster.restoring() else {
        return Ok(None);
    };
    let serves = cluster
        .status
        .as_ref()
        .is_some_and(|status| is_true(&status.conditions, ConditionKind::QuorumAvailable));
    let recovers = restore.spec.kind == RestoreKind::QuorumRecovery;
    let Some(survivor) = other.survivor.clone().filter(|_| recovers && !serves) else {
        return Ok(None);
    };
    if other.stage != RestoringStage::Kept {
        return Ok(None);
    }
    let found = restored_by(context, cluster, other).await?;
    let phase = found.map(|one| one.status.unwrap_or_default().phase);
    let open = phase.is_some_and(|phase| phase != Some(RestorePhase::Failed));
    Ok((!open).then(|| Before {
        restore: other.restore.clone(),
        restore_uid: other.restore_uid.clone(),
        survivor,
        last_old_member: other.last_old_member,
    }))
}

/// Why a cluster cannot be restored as it is.
/// `follows`: whether what was restored before it may be taken up.
fn obstacle(context: &Context, cluster: &EngramCluster, follows: bool) -> Option<(Reason, String)> {
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
    if let Some(other) = status.restoring.as_ref().filter(|_| !follows) {
        let message = match &other.survivor {
            None => format!(
                "EngramRestore {} of {name} is not decided yet: set its decision to Accept or Undo; one that was \
                 deleted comes to its end by itself",
                other.restore
            ),
            Some(survivor) => format!(
                "EngramRestore {} of {name} is not decided yet: set its decision to Accept once {survivor} serves; \
                 where it has failed, or is deleted, a restore of kind QuorumRecovery may take its place, with another \
                 survivor; a backup is then restored into a new cluster only (kind NewCluster)",
                other.restore
            ),
        };
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

/// The step that decides: from then on the old members, whose volumes are `kept`, are set aside.
async fn begin(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    with: With,
    kept: Vec<KeptVolume>,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    let mut after = cluster.status.clone().unwrap_or_default();
    let numbers = kept.iter().filter_map(KeptVolume::number);
    after.last_member_number = numbers.fold(after.last_member_number, u32::max);
    let old_cluster_id = after.cluster_id.clone().unwrap_or_default();
    let old_restored = after.restored.clone();
    let (recovery, before) = match with {
        With::Backup(recovery) => {
            (after.cluster_id, after.restored) = (None, None);
            (Some(recovery), None)
        }
        With::Nobody(before) => (None, before),
    };
    after.restoring = Some(Restoring {
        restore: restore.name_any(),
        restore_uid: restore.metadata.uid.clone().unwrap_or_default(),
        stage: RestoringStage::Kept,
        aside: Aside::Old,
        last_old_member: after.last_member_number,
        recovery,
        survivor: None,
        kept: kept.clone(),
        old_cluster_id,
        old_restored,
        before,
    });
    let held = after.restoring.as_ref().is_some_and(Restoring::holds);
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
    let message = match held {
        // Nothing was done yet that could not be let go of.
        true => "the members are stopped before their volumes are looked at again",
        false => {
            status.started_at = Some(Time(now()));
            status.kept = kept;
            "the members are stopped and set aside"
        }
    };
    Ok(State::Running(Reason::Restoring, message.to_owned()))
}

/// What was known of members that are not in force any more.
fn forget(status: &mut EngramClusterStatus) {
    status.replacements.clear();
    status.stuck_learners.clear();
    status.leader = None;
    status.quorum = None;
}

/// Writes it over the status that was read. What to say where somebody else was quicker.
pub(super) async fn switch(
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
        Err(error) if is_overtaken(&error) => {
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
    volumes.sort_by_key(KeptVolume::number);
    Ok(volumes)
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
    let state = progress(restoring, &found);
    match (restore.spec.decision, state) {
        (Some(Decision::Accept), State::Completed(_)) => accept(context, cluster, restoring).await,
        (_, state) => Ok(state),
    }
}

/// How the new members stand.
fn progress(restoring: &Restoring, found: &EngramClusterStatus) -> State {
    let advice = match restoring.survivor {
        None => "set decision: Undo to have the old volumes again, and restore another backup",
        Some(_) => {
            "once that is put right it goes on; or make another EngramRestore of kind QuorumRecovery whose \
             survivor is another member: the volumes are all kept"
        }
    };
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
        Err(error) if !is_overtaken(&error) => Err(error),
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
