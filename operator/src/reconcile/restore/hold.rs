//! Members are stopped before one of them goes on alone: what their volumes held when they were looked at may have
//! changed since, by a quorum that came back, say. Nothing of it is done before the plan is the same with nobody
//! running; until then all of it can be let go of.

use kube::{Resource as _, ResourceExt as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    EngramCluster, EngramRestore, EngramRestoreStatus, KeptVolume, Reason, Restoring,
};

use super::super::mutant::{Mutant, planted};
use super::super::{Context, Error, now};
use super::in_place::switch;
use super::look::{self, When};
use super::quorum::{self, Choice};
use super::state::State;
use super::stays;

/// One step of a cluster that is held.
///
/// # Errors
/// The API server refused.
pub(super) async fn go_on(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    restoring: &Restoring,
    status: &mut EngramRestoreStatus,
) -> Result<State, Error> {
    if cluster.meta().deletion_timestamp.is_some() {
        let message = format!("EngramCluster {} is being deleted", cluster.name_any());
        return Ok(State::Running(Reason::Deleting, message));
    }
    let withdrawn = restore.spec.dry_run || restore.spec.confirm.is_none();
    if withdrawn && !planted(Mutant::HoldNotReleased) {
        let hash = status.plan_hash.as_deref().unwrap_or_default();
        let message = format!(
            "it was given up before anything was changed: to have it done, set dryRun: false and confirm: {hash}"
        );
        let state = State::Pending(Reason::WaitingForConfirmation, message);
        return release(context, cluster, restoring, state).await;
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let used = look::used(context, &namespace, &restoring.kept).await?;
    if let Some(message) = used.filter(|_| !planted(Mutant::LookedAtInUse)) {
        let message = format!("members stop before their volumes are looked at again: {message}");
        return Ok(State::Running(Reason::Restoring, message));
    }
    let first = status.survivor.clone();
    let chosen = match first.filter(|_| planted(Mutant::LookedAtOnce)) {
        Some(survivor) => Choice::Made(survivor),
        None => {
            let (volumes, when) = (&restoring.kept, When::Held);
            Box::pin(quorum::choose(
                context, restore, cluster, volumes, when, status,
            ))
            .await?
        }
    };
    let survivor = match chosen {
        Choice::Not(State::Pending(_, message)) => {
            return Ok(State::Running(Reason::Restoring, message));
        }
        Choice::Not(state) => return release(context, cluster, restoring, state).await,
        Choice::Made(survivor) => survivor,
    };
    if let Some(state) = stays(restore, status, "") {
        return release(context, cluster, restoring, state).await;
    }
    let kept = restoring.kept.iter().filter(|one| one.member != survivor);
    let kept: Vec<KeptVolume> = kept.cloned().collect();
    let mut after = cluster.status.clone().unwrap_or_default();
    after.restoring = Some(Restoring {
        survivor: Some(survivor.clone()),
        kept: kept.clone(),
        before: None,
        ..restoring.clone()
    });
    if let Some(busy) = switch(context, cluster, &mut after).await? {
        return Ok(busy);
    }
    let note = format!("{survivor} goes on alone, with all that its log holds");
    context.event(cluster, true, "QuorumRecovery", &note).await;
    status.started_at = Some(Time(now()));
    status.kept = kept;
    Ok(State::Running(Reason::Restoring, note))
}

/// Lets the members start again as they were; then it stands like this.
async fn release(
    context: &Context,
    cluster: &EngramCluster,
    restoring: &Restoring,
    state: State,
) -> Result<State, Error> {
    let mut after = cluster.status.clone().unwrap_or_default();
    after.restoring = restoring.released();
    if let Some(busy) = switch(context, cluster, &mut after).await? {
        return Ok(busy);
    }
    let note = "nobody goes on alone: the members start again as they were";
    context.event(cluster, false, "RestoreUndone", note).await;
    Ok(state)
}
