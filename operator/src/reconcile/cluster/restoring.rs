//! The end of a restore in place, as far as it is the cluster's.

use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{
    ConditionKind, EngramCluster, EngramClusterStatus, EngramRestore, Reason, Restoring,
    RestoringStage, condition, is_true, parse_duration,
};
use crate::observe::Sight;
use crate::plan::{Member, PodState, is_over};

use super::super::{Context, Error, restore};

/// Forgets it once what it had set aside is gone. Where the EngramRestore was deleted before it was decided: once the
/// cluster works what was set aside goes, with its volumes kept; where nothing comes of the new members it is undone.
/// `well`: whether all was done in this pass that was to be.
///
/// # Errors
/// The API server did not answer.
pub(super) async fn settle(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    well: bool,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let Some(restoring) = status.restoring.clone() else {
        return Ok(());
    };
    if restoring.stage != RestoringStage::Kept {
        if sight.observed.aside.is_empty() {
            status.restoring = None;
        }
        return Ok(());
    }
    let ready = is_true(&status.conditions, ConditionKind::Ready) && status.cluster_id.is_some();
    let vain = comes_to_nothing(cluster, sight, well, &restoring, status);
    if !(ready || vain) || is_there(context, cluster, &restoring).await? {
        return Ok(());
    }
    if vain {
        restore::go_back(&restoring, status);
        let note = format!(
            "EngramRestore {} is gone, nothing was decided, and its members never served: the old members start again \
             on their volumes",
            restoring.restore
        );
        context.event(cluster, true, "RestoreUndone", &note).await;
        return Ok(());
    }
    let claims: Vec<&str> = restoring
        .kept
        .iter()
        .map(|one| one.volume_claim.as_str())
        .collect();
    let note = format!(
        "EngramRestore {} is gone and nothing was decided: the old members go, and leave their volumes {}: \
         delete these claims once nobody needs them",
        restoring.restore,
        claims.join(", ")
    );
    status.restoring = Some(Restoring {
        stage: RestoringStage::LetGo,
        ..restoring
    });
    context.event(cluster, true, "OldVolumesKept", &note).await;
    Ok(())
}

/// Whether the EngramRestore is there that may yet be decided.
async fn is_there(
    context: &Context,
    cluster: &EngramCluster,
    restoring: &Restoring,
) -> Result<bool, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let restores: Api<EngramRestore> = Api::namespaced(context.client.clone(), &namespace);
    let found = restores.get_opt(&restoring.restore).await?;
    Ok(found.and_then(|one| one.metadata.uid).as_ref() == Some(&restoring.restore_uid))
}

/// Whether the new members come to nothing: none of them has ever served, and the first one is refused its backup for
/// good, or neither runs nor is being filled after a time in which any other member would have been given up.
fn comes_to_nothing(
    cluster: &EngramCluster,
    sight: &Sight,
    well: bool,
    restoring: &Restoring,
    status: &EngramClusterStatus,
) -> bool {
    // Nobody is started, and that is as it was wanted.
    if cluster.spec.paused || cluster.spec.replicas == 0 {
        return false;
    }
    let members = &sight.observed.members;
    let begun = members.iter().any(|member| member.initialized);
    if begun || members.is_empty() || status.cluster_id.is_some() || restoring.survivor.is_some() {
        return false;
    }
    let now = sight.observed.now;
    let at_it = |member: &Member| {
        let state = member.pod.as_ref().map(|pod| &pod.state);
        match state {
            Some(PodState::Running { .. }) => true,
            // As long as it is filled it has only just begun.
            Some(PodState::Starting { since }) => *since >= now,
            // It has just got one.
            None => well,
            _ => false,
        }
    };
    if members.iter().any(at_it) {
        return false;
    }
    let said = condition(&status.conditions, ConditionKind::Ready);
    let refused = said.and_then(|one| Reason::of(&one.reason));
    if refused.is_some_and(restore::is_refusal) {
        return true;
    }
    let made = sight.objects.members.iter();
    let made = made.filter(|one| sight.observed.member(&one.name_any()).is_some());
    let made = made.filter_map(|one| one.metadata.creation_timestamp.as_ref());
    let Some(made) = made.map(|time| time.0.as_second()).min() else {
        return false;
    };
    let limit = parse_duration(&cluster.spec.healing.stuck_after).unwrap_or_default();
    is_over(&sight.observed, made, limit)
}
