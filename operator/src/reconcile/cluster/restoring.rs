//! The end of a restore in place, as far as it is the cluster's.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{
    Aside, ConditionKind, EngramCluster, EngramClusterStatus, Reason, Restoring, RestoringStage,
    condition, is_true, parse_duration,
};
use crate::observe::{self, Sight};
use crate::plan::{Member, Note, PodState, Volume, is_over};

use super::super::{Context, Error, restore};

/// How much of a failing container's words is shown.
const WORDS_MAX: usize = 400;

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
    if restoring.holds() {
        if restore::restored_by(context, cluster, &restoring)
            .await?
            .is_none()
        {
            status.restoring = restoring.released();
            let note = format!(
                "EngramRestore {} is gone, and nobody went on alone yet: the members start again as they were",
                restoring.restore
            );
            context.event(cluster, true, "RestoreUndone", &note).await;
        }
        return Ok(());
    }
    if restoring.stage != RestoringStage::Kept {
        if sight.observed.aside.is_empty() {
            status.restoring = None;
        }
        return Ok(());
    }
    let ready = is_true(&status.conditions, ConditionKind::Ready) && status.cluster_id.is_some();
    let vain = comes_to_nothing(cluster, sight, well, &restoring, status);
    if !(ready || vain)
        || restore::restored_by(context, cluster, &restoring)
            .await?
            .is_some()
    {
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

/// What a person should know where the first of the members in force does not come up: neither the survivor of a lost
/// quorum, nor the member that begins with a backup, of a cluster that was there or of a new one. As long as a backup's
/// store says why, that is said.
pub(super) fn stuck(
    cluster: &EngramCluster,
    sight: &Sight,
    status: &EngramClusterStatus,
) -> Option<Note> {
    let survivor = match &status.restoring {
        Some(one) if one.holds() => return None,
        Some(one) if (one.stage, one.aside) == (RestoringStage::Kept, Aside::Old) => {
            one.survivor.as_ref()
        }
        Some(_) => return None,
        None => {
            cluster.recovery()?;
            None
        }
    };
    let serves = match survivor {
        Some(_) => sight.observed.roster.is_some(),
        None => status.cluster_id.is_some(),
    };
    if serves || cluster.spec.paused || cluster.spec.replicas == 0 {
        return None;
    }
    let first = sight.observed.members.iter();
    let member = first.min_by_key(|member| member.number)?;
    let healing = &cluster.spec.healing;
    let limit = |text: &str| parse_duration(text).unwrap_or_default();
    let name = &member.name;
    let note = |what: &str, why: String| Note {
        reason: Reason::RestoreStuck,
        message: format!("{name} is to go on, and {what}: {why}"),
    };
    if survivor.is_some() && member.volume != Volume::Present {
        return Some(note("does not start", "its volume is gone".to_owned()));
    }
    let pod = sight.objects.pods.get(name);
    if pod.is_some_and(|pod| restore::refusal(pod).is_some()) {
        return None;
    }
    let state = &member.pod.as_ref()?.state;
    let (since, limit) = match *state {
        PodState::Broken { since, .. } => (since, limit(&healing.unhealthy_after)),
        PodState::Starting { since }
        | PodState::Unplaced { since, .. }
        | PodState::Terminating { since } => (since, limit(&healing.stuck_after)),
        PodState::Running { .. } => (member.away_since?, limit(&healing.stuck_after)),
    };
    if !is_over(&sight.observed, since, limit) {
        return None;
    }
    let words = pod.and_then(|pod| {
        let (word, message) = observe::stuck(pod)?;
        let words = observe::last_words(pod, WORDS_MAX).unwrap_or(message);
        Some(format!("{word}: {words}"))
    });
    let words = words.or_else(|| pod.and_then(observe::unplaced));
    let (what, elsewhere) = match state {
        PodState::Running { .. } => (
            "runs, and neither leads nor has a leader that the operator hears of",
            "its log, and the pods of the members beside it, say why",
        ),
        _ => ("does not start", "the events of its pod say why"),
    };
    let since = Timestamp::from_second(since).unwrap_or_default();
    let what = format!("{what} since {since}");
    Some(note(&what, words.unwrap_or_else(|| elsewhere.to_owned())))
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
