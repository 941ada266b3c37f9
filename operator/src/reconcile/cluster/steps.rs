//! Does what was planned for a cluster, and says and counts what was done.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _};

use crate::act::{Scene, act};
use crate::api::{EngramCluster, EngramClusterStatus};
use crate::desired::Names;
use crate::observe::Sight;
use crate::plan::{Action, Cause, Plan};

use super::super::{Context, Error, Version, is_overtaken, now, write_cluster_status};
use super::growth;

/// How many learners that got nowhere are remembered.
const STUCK_KEPT: usize = 8;

/// What became of a plan.
#[derive(Default)]
pub(super) struct Outcome {
    /// The first step that failed.
    pub failure: Option<Error>,
    /// A wish of the user's that Kubernetes does not grant: it is said, and keeps nothing else from
    /// being done.
    pub refused: Option<Error>,
    /// Why what disturbs somebody has to wait.
    pub waits: Option<String>,
}

/// Does what is planned. After a step that fails nothing more is disturbed; what disturbs nobody is
/// done all the same.
pub(super) async fn carry_out(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    sight: &Sight,
    planned: &Plan,
    image: &str,
    status: &mut EngramClusterStatus,
) -> Outcome {
    let mut outcome = Outcome::default();
    for action in &planned.actions {
        let stopped = outcome.failure.is_some() || outcome.waits.is_some();
        if stopped && action.is_disruptive() {
            continue;
        }
        // The steps before it may have taken long.
        if action.is_disruptive() && !sight.is_fresh() {
            outcome.waits = Some("what was seen has become old: it is looked at again".to_owned());
            continue;
        }
        match carry_out_one(context, cluster, version, sight, action, image, status).await {
            Ok(()) => done(context, cluster, sight, planned, action, status).await,
            Err(error @ Error::Input { .. }) if matches!(action, Action::ExpandVolume { .. }) => {
                growth::refused(context, cluster, sight, action, &error);
                outcome.refused.get_or_insert(error);
            }
            Err(Error::NotNow(why)) => {
                outcome.waits.get_or_insert(why);
            }
            Err(error) => {
                let is_old = is_overtaken(&error);
                outcome.failure.get_or_insert(error);
                // What was planned was planned for something else.
                if is_old {
                    break;
                }
            }
        }
    }
    outcome
}

async fn carry_out_one(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    sight: &Sight,
    action: &Action,
    image: &str,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    if matches!(action, Action::CreateMember { .. }) {
        // The number is spent before it is used: none is ever used twice.
        let members = sight.observed.members.iter();
        let highest = members.map(|member| member.number).max();
        status.last_member_number = status.last_member_number.max(highest.unwrap_or(0)) + 1;
        write_cluster_status(context, cluster, version, status).await?;
    }
    if let Action::DeleteMember { cause, .. } = action
        && cause.is_limited()
    {
        // Counted before it is done: an operator that dies between the two forgets none.
        count(*cause, status);
        write_cluster_status(context, cluster, version, status).await?;
    }
    let scene = Scene {
        context,
        cluster,
        sight,
        image,
        next_number: status.last_member_number,
    };
    act(&scene, action).await
}

/// Counts a member that is given up, for the limit of an hour and for the wait for the next learner.
fn count(cause: Cause, status: &mut EngramClusterStatus) {
    status.replacements.push(Time(now()));
    if cause == Cause::NeverCaughtUp {
        status.stuck_learners.push(Time(now()));
        // The wait for the next one does not grow for ever.
        let excess = status.stuck_learners.len().saturating_sub(STUCK_KEPT);
        status.stuck_learners.drain(..excess);
    }
}

/// Says what was done.
async fn done(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    planned: &Plan,
    action: &Action,
    status: &mut EngramClusterStatus,
) {
    let names = Names::of(cluster);
    let labels = [names.namespace.as_str(), names.cluster.as_str()];
    if let Action::DeleteMember { cause, .. } = action
        && cause.is_limited()
    {
        let labels = [labels[0], labels[1], cause.as_str()];
        context
            .metrics
            .replacements
            .with_label_values(&labels)
            .inc();
    }
    if matches!(action, Action::Promote { .. }) {
        status.stuck_learners.clear();
    }
    if matches!(action, Action::MoveLeader { .. }) {
        context
            .metrics
            .leader_moves
            .with_label_values(&labels)
            .inc();
    }
    if matches!(action, Action::FinishRemoval { .. }) {
        // It is done a little each pass; what was told of is the member's deletion.
        return;
    }
    let warning = matches!(action, Action::DeleteMember { cause, .. } if cause.is_replacement());
    let (reason, mut note) = told(action);
    tracing::info!(
        namespace = labels[0],
        cluster = labels[1],
        reason,
        note,
        "done"
    );
    if let Some(progress) = planned.progress.as_ref().filter(|_| action.is_disruptive()) {
        note = format!("{note}: {}", progress.message);
    }
    let related = related(sight, action);
    context
        .event_of(cluster, related, warning, reason, &note)
        .await;
}

/// The member that a step is about, as events name it.
fn related(sight: &Sight, action: &Action) -> Option<ObjectReference> {
    let name = match action {
        Action::AddLearner { member }
        | Action::StartPod { member }
        | Action::StopPod { member }
        | Action::RestartPod { member }
        | Action::Promote { member, .. }
        | Action::MoveLeader { to: member, .. }
        | Action::DeleteMember { member, .. }
        | Action::FinishRemoval { member }
        | Action::ExpandVolume { member } => Some(member),
        Action::RemoveMember { member, .. } => member.as_ref(),
        Action::CreateMember { .. } => None,
    }?;
    let mut members = sight.objects.members.iter();
    let member = members.find(|member| member.name_any() == *name)?;
    Some(member.object_ref(&()))
}

fn told(action: &Action) -> (&'static str, String) {
    match action {
        Action::CreateMember { seed: true } => {
            ("FoundingCluster", "the first member is made".into())
        }
        Action::CreateMember { seed: false } => ("CreatingMember", "a member is made".into()),
        Action::AddLearner { member } => ("LearnerAdded", format!("{member} joins")),
        Action::StartPod { member } => ("StartingPod", format!("{member} is started")),
        Action::StopPod { member } => ("StoppingPod", format!("{member} is stopped")),
        Action::RestartPod { member } => ("RestartingPod", format!("{member} is restarted")),
        Action::Promote { member, .. } => ("LearnerPromoted", format!("{member} votes")),
        Action::MoveLeader { to, .. } => ("LeaderMoved", format!("{to} leads")),
        Action::RemoveMember { id, member } => {
            let name = member.clone().unwrap_or_else(|| format!("{id:x}"));
            ("MemberRemoved", format!("{name} is no member any more"))
        }
        Action::DeleteMember { member, cause } => {
            let reason = match cause {
                Cause::ScaleDown | Cause::RemovedElsewhere => "RemovingMember",
                Cause::Discarded | Cause::LetGo => "PuttingAside",
                Cause::Teardown => "DeletingMember",
                _ => "ReplacingMember",
            };
            let kept = match cause {
                Cause::Corrupt => "; its volume is kept for inquiry",
                Cause::LetGo => "; its volume is kept",
                _ => "",
            };
            (reason, format!("{member} goes ({}){kept}", cause.as_str()))
        }
        Action::FinishRemoval { member } => ("PuttingAway", format!("{member} is put away")),
        Action::ExpandVolume { member } => {
            ("ExpandingVolume", format!("the volume of {member} grows"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::plan::Observed;
    use crate::played::Played;

    #[tokio::test]
    async fn nobody_is_disturbed_for_what_was_seen_long_ago() {
        let server = Played::default();
        let context = server.context();
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data", "uid": "u" }, "spec": {},
        }))
        .unwrap();
        let sight = Sight::of(Observed::default(), BTreeMap::new());
        let sight = sight.aged(Duration::from_secs(30));
        let planned = Plan {
            actions: vec![Action::RemoveMember {
                id: 7,
                member: None,
            }],
            ..Plan::default()
        };
        let mut status = EngramClusterStatus::default();
        let version = Version::of(&cluster);
        let outcome = carry_out(
            &context,
            &cluster,
            &version,
            &sight,
            &planned,
            "engram:1",
            &mut status,
        )
        .await;
        assert!(outcome.failure.is_none());
        let waits = outcome.waits.unwrap_or_default();
        assert!(waits.contains("has become old"), "{waits}");
        assert_eq!(server.requests(), []);
    }
}
