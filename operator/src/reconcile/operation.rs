//! One thing done to a cluster, once: in the order in which they were asked for.

mod steps;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    ConditionKind, EngramCluster, EngramOperation, EngramOperationStatus, OperationPhase, Reason,
    condition,
};
use crate::observe::{Form, observe};

use super::cluster::{HELD_PAUSE, held_by_another};
use super::{
    Context, Course, Error, Version, as_seen, certificates, is_gone, now, of_cluster, overtaken,
    set_course, tool, write_status,
};

const SOON: Duration = Duration::from_secs(3);
/// How long an operation waits for its cluster, or for what that lacks to be heard: either may be on its way.
const WAIT_MAX_SECONDS: i64 = 600;

/// How a step went.
enum Step {
    /// It has to wait.
    Wait(Reason, String),
    /// There is more to do.
    More(String),
    /// It is done.
    Done(String),
    /// It cannot be done.
    Reject(Reason, String),
}

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramOperation>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramOperation> = Api::namespaced(context.client.clone(), &namespace);
    let Some(operation) = api.get_opt(&seen.name_any()).await? else {
        return Ok(Next::await_change());
    };
    if operation.meta().deletion_timestamp.is_some() {
        return Ok(Next::await_change());
    }
    let before = operation.status.clone().unwrap_or_default();
    if is_over(&before) {
        return expire(&api, &operation).await;
    }
    let name = &operation.spec.cluster_ref.name;
    let cluster = tool::cluster(&context, &namespace, name).await?;
    let another = cluster
        .as_ref()
        .and_then(|cluster| held_by_another(&context, cluster));
    if another.is_some() {
        return Ok(Next::requeue(HELD_PAUSE));
    }
    let version = Version::of(&operation);
    let mut status = before.clone();
    status.observed_generation = operation.metadata.generation;
    match advance(&context, &api, &operation, cluster.as_ref(), &mut status).await {
        Ok(step) => say(&operation, &mut status, step),
        Err(Error::Etcd(error)) => {
            let text = error.to_string();
            finish(
                &operation,
                &mut status,
                OperationPhase::Failed,
                Reason::Failed,
                text,
            );
        }
        Err(Error::Input { reason, message }) => {
            finish(
                &operation,
                &mut status,
                OperationPhase::Rejected,
                reason,
                message,
            );
        }
        Err(error) => return Err(error),
    }
    if status != before {
        write_status(&context, &operation, &version, &status).await?;
        if is_over(&status) {
            let good = status.phase == Some(OperationPhase::Succeeded);
            let reason = if good {
                "OperationSucceeded"
            } else {
                "OperationFailed"
            };
            let note = status.message.clone().unwrap_or_default();
            context.event(&operation, !good, reason, &note).await;
        }
    }
    Ok(Next::requeue(SOON))
}

fn is_over(status: &EngramOperationStatus) -> bool {
    use OperationPhase::{Failed, Rejected, Succeeded};
    matches!(status.phase, Some(Succeeded | Failed | Rejected))
}

fn say(operation: &EngramOperation, status: &mut EngramOperationStatus, step: Step) {
    match step {
        Step::Wait(reason, text) => {
            let ends = match reason {
                Reason::WaitingForCluster => Some(Reason::DeadlineExceeded),
                Reason::NotFound | Reason::CertificateInvalid => Some(reason),
                _ => None,
            };
            let waited = now().as_second() - waits_since(operation, status);
            if let Some(reason) = ends.filter(|_| waited > WAIT_MAX_SECONDS) {
                finish(operation, status, OperationPhase::Rejected, reason, text);
            } else {
                note(operation, status, OperationPhase::Pending, reason, text);
            }
        }
        Step::More(text) => {
            status.started_at.get_or_insert_with(|| Time(now()));
            note(
                operation,
                status,
                OperationPhase::Running,
                Reason::Running,
                text,
            );
        }
        Step::Done(text) => finish(
            operation,
            status,
            OperationPhase::Succeeded,
            Reason::Succeeded,
            text,
        ),
        Step::Reject(reason, text) => {
            finish(operation, status, OperationPhase::Rejected, reason, text)
        }
    }
}

/// Since when it waits for its cluster, in seconds. The time in which it waited for its turn, or was at it, does not
/// count.
fn waits_since(operation: &EngramOperation, status: &mut EngramOperationStatus) -> i64 {
    let last = condition(&status.conditions, ConditionKind::Complete);
    let others = [Reason::WaitingForTurn, Reason::Running].map(Reason::as_str);
    if last.is_some_and(|one| others.contains(&one.reason.as_str())) {
        status.waiting_since = Some(Time(now()));
    }
    let asked = operation.metadata.creation_timestamp.as_ref();
    let since = status.waiting_since.as_ref().or(asked);
    since.map_or(now(), |time| time.0).as_second()
}

fn note(
    operation: &EngramOperation,
    status: &mut EngramOperationStatus,
    phase: OperationPhase,
    reason: Reason,
    text: String,
) {
    status.phase = Some(phase);
    status.message = Some(text.clone());
    let course = match phase {
        OperationPhase::Succeeded => Course::Good,
        OperationPhase::Failed | OperationPhase::Rejected => Course::Bad,
        OperationPhase::Pending | OperationPhase::Running => Course::Open,
    };
    let generation = operation.metadata.generation;
    set_course(&mut status.conditions, course, reason, &text, generation);
}

fn finish(
    operation: &EngramOperation,
    status: &mut EngramOperationStatus,
    phase: OperationPhase,
    reason: Reason,
    text: String,
) {
    status.started_at.get_or_insert_with(|| Time(now()));
    status.completed_at = Some(Time(now()));
    note(operation, status, phase, reason, text);
}

async fn expire(api: &Api<EngramOperation>, operation: &EngramOperation) -> Result<Next, Error> {
    let completed = operation
        .status
        .as_ref()
        .and_then(|status| status.completed_at.clone());
    let since = completed.map_or(0, |time| now().as_second() - time.0.as_second());
    let left = i64::from(operation.spec.ttl_seconds_after_finished) - since;
    if left > 0 {
        return Ok(Next::requeue(Duration::from_secs(left.unsigned_abs())));
    }
    match api.delete(&operation.name_any(), &as_seen(operation)).await {
        Ok(_) => Ok(Next::await_change()),
        Err(error) if is_gone(&error) => Ok(Next::await_change()),
        Err(error) => Err(overtaken(operation, error)),
    }
}

async fn advance(
    context: &Context,
    api: &Api<EngramOperation>,
    operation: &EngramOperation,
    cluster: Option<&EngramCluster>,
    status: &mut EngramOperationStatus,
) -> Result<Step, Error> {
    let name = &operation.spec.cluster_ref.name;
    let Some(cluster) = cluster else {
        let text = format!("there is no EngramCluster {name}: make it, or correct clusterRef");
        return Ok(match status.started_at {
            None => Step::Wait(Reason::NotFound, text),
            Some(_) => Step::Reject(Reason::NotFound, text),
        });
    };
    if let Some(earlier) = earlier(api, operation).await? {
        return Ok(Step::Wait(
            Reason::WaitingForTurn,
            format!("{earlier} comes first"),
        ));
    }
    let certificates = certificates::ensure(context, cluster).await;
    if let Some(failure) = certificates.failure {
        if matches!(failure, Error::Kube(_) | Error::Overtaken(_)) {
            return Err(failure);
        }
        // A Secret may come later, or be put right.
        return Ok(Step::Wait(Reason::CertificateInvalid, failure.to_string()));
    }
    // What pods are made from is not its matter.
    let form = Form::default();
    let sight = observe(context, cluster, certificates.client.as_ref(), &form).await?;
    if sight.observed.roster.is_none() {
        let text = format!("EngramCluster {name} does not serve");
        return Ok(Step::Wait(Reason::WaitingForCluster, text));
    }
    let spec = &operation.spec;
    if let Some(what) = &spec.compact {
        return steps::compact(&sight, what).await;
    }
    // What disturbs members waits until nothing else does.
    if status.started_at.is_none()
        && let Some(change) = change(cluster)
    {
        let text = format!("EngramCluster {name} is being changed: {change}");
        return Ok(Step::Wait(Reason::WaitingForCluster, text));
    }
    if let Some(what) = &spec.defragment {
        return steps::defragment(context, cluster, &sight, &what.members, status).await;
    }
    let to = spec.move_leader.as_ref().and_then(|what| what.to.clone());
    steps::move_leader(&sight, to).await
}

/// What the operator does to members by itself. Not among them: that a member is away, or that pods wait
/// for a user to delete them; moving the leader may be what is needed then.
const DISTURBING: [Reason; 6] = [
    Reason::RollingUpdate,
    Reason::ScalingUp,
    Reason::ScalingDown,
    Reason::ReplacingMember,
    Reason::MovingLeader,
    Reason::LearnerCatchingUp,
];

/// What is under way in a cluster, if anything is that an operation would meet.
fn change(cluster: &EngramCluster) -> Option<String> {
    if cluster.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".to_owned());
    }
    let conditions = &cluster.status.as_ref()?.conditions;
    let progressing = condition(conditions, ConditionKind::Progressing)?;
    let disturbs = DISTURBING
        .iter()
        .any(|one| one.as_str() == progressing.reason);
    (progressing.status == "True" && disturbs).then(|| progressing.message.clone())
}

/// An operation on the same cluster that was asked for before and is not over.
async fn earlier(
    api: &Api<EngramOperation>,
    operation: &EngramOperation,
) -> Result<Option<String>, Error> {
    let cluster = &operation.spec.cluster_ref.name;
    let same = of_cluster(cluster);
    let key = |one: &EngramOperation| {
        (
            one.metadata.creation_timestamp.as_ref().map(|time| time.0),
            one.name_any(),
        )
    };
    let own = key(operation);
    // One that somebody's finalizer holds is not gone on with.
    let goes = |one: &EngramOperation| one.meta().deletion_timestamp.is_some();
    let open = |one: &EngramOperation| !goes(one) && !one.status.as_ref().is_some_and(is_over);
    let all = api.list(&same).await?.items;
    Ok(all
        .iter()
        .filter(|one| open(one) && key(one) < own)
        .map(key)
        .min()
        .map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_in_which_it_waits_for_its_turn_is_none_of_its_wait_for_the_cluster() {
        let operation: EngramOperation = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramOperation",
            "metadata": { "name": "o", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "clusterRef": { "name": "demo" }, "moveLeader": {} },
        }))
        .unwrap();
        let waits = |status: &mut EngramOperationStatus, reason| {
            say(&operation, status, Step::Wait(reason, "why".into()));
            status.phase
        };
        let mut status = EngramOperationStatus::default();
        for _ in 0..2 {
            let phase = waits(&mut status, Reason::WaitingForTurn);
            assert_eq!(phase, Some(OperationPhase::Pending));
        }
        // It is its turn, and its cluster is being changed.
        for _ in 0..2 {
            let phase = waits(&mut status, Reason::WaitingForCluster);
            assert_eq!(phase, Some(OperationPhase::Pending), "it has only begun to");
        }
        status.waiting_since = Some(Time(now() - Duration::from_secs(601)));
        let phase = waits(&mut status, Reason::WaitingForCluster);
        assert_eq!(phase, Some(OperationPhase::Rejected));
        // One that never waited for anything else has done so since it was asked for.
        let mut status = EngramOperationStatus::default();
        let phase = waits(&mut status, Reason::WaitingForCluster);
        assert_eq!(phase, Some(OperationPhase::Rejected));
    }

    #[test]
    fn an_operation_waits_for_what_it_would_meet_and_for_nothing_else() {
        let change = |status: &str, reason: &str| {
            let cluster = serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
                "metadata": { "name": "demo" }, "spec": {},
                "status": { "conditions": [{
                    "type": "Progressing", "status": status, "reason": reason, "message": "two of three",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }] },
            }));
            super::change(&cluster.unwrap())
        };
        assert_eq!(
            change("True", "RollingUpdate").as_deref(),
            Some("two of three")
        );
        assert_eq!(change("True", "WaitingForDeletion"), None);
        assert_eq!(change("True", "MemberNotReady"), None);
        assert_eq!(change("False", "AsExpected"), None);
    }
}
