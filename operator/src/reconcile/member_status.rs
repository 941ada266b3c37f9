//! What is known of each member, in its object.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{
    CatchingUp, ConditionKind, EngramMember, EngramMemberStatus, MemberRole, Reason, set_condition,
};
use crate::desired;
use crate::etcd::Status as Answer;
use crate::observe::{Sight, last_exit};
use crate::plan::{Member, Node};

use super::{Context, Error, Version, is_overtaken, now, write_status};

/// How often a learner's progress is written, in seconds.
const PROGRESS_SECONDS: i64 = 30;

/// Writes what has changed.
///
/// # Errors
/// The API server refused; the others are written all the same. Or somebody was quicker: then nothing more is.
pub(super) async fn write(context: &Context, sight: &Sight) -> Result<(), Error> {
    let mut result = Ok(());
    for (member, after) in changed(sight) {
        let version = Version::of(member);
        match write_status(context, member, &version, &after).await {
            Err(error) if is_overtaken(&error) => return Err(error),
            written => result = result.and(written),
        }
    }
    result
}

/// Whether nothing of it has changed.
pub(super) fn is_known(sight: &Sight) -> bool {
    changed(sight).next().is_none()
}

/// Of which members something else is known by now, and what.
fn changed(sight: &Sight) -> impl Iterator<Item = (&EngramMember, EngramMemberStatus)> {
    sight.objects.members.iter().filter_map(move |member| {
        let before = member.status.clone().unwrap_or_default();
        let after = status(member, &before, sight);
        (after != before).then_some((member, after))
    })
}

/// How far a learner has come. What it applies all the time is not written all the time.
fn catching_up(
    before: &EngramMemberStatus,
    seen: &Member,
    answer: Option<&Answer>,
) -> Option<CatchingUp> {
    let since = seen.stalled_since?;
    if let Some(before) = &before.catching_up
        && since - before.since.0.as_second() < PROGRESS_SECONDS
    {
        return Some(before.clone());
    }
    Some(CatchingUp {
        applied: answer.map_or(0, |answer| answer.applied),
        since: Time(Timestamp::from_second(since).ok()?),
    })
}

fn status(member: &EngramMember, before: &EngramMemberStatus, sight: &Sight) -> EngramMemberStatus {
    let name = member.name_any();
    let mut status = before.clone();
    let Some(seen) = sight.observed.member(&name) else {
        return status;
    };
    let pod = sight.objects.pods.get(&name);
    let answer = sight.asked.answers.get(&name);
    status.initialized |= seen.initialized;
    status.volume_claim = Some(desired::claim_name(member));
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    if let Some(node) = pod.and_then(node) {
        status.node = Some(node);
    }
    let time = |seconds: i64| Timestamp::from_second(seconds).ok().map(Time);
    status.away_since = seen.away_since.and_then(time);
    status.node_lost_since = match seen.node {
        Node::Lost { since } => time(since),
        Node::None | Node::Ready => None,
    };
    status.catching_up = catching_up(before, seen, answer);
    if let Some(answer) = answer {
        status.version = Some(answer.version.clone());
    }
    if let Some(exit) = pod.and_then(last_exit) {
        status.last_exit = Some(exit);
    }
    let generation = member.metadata.generation;
    let mut set = |kind, holds, reason, message: String| {
        set_condition(
            &mut status.conditions,
            kind,
            holds,
            reason,
            message,
            generation,
            now(),
        );
    };
    if let Some(roster) = &sight.observed.roster {
        let entry = roster.of(&name);
        let (reason, message) = match entry {
            Some(entry) if entry.learner => (Reason::LearnerCatchingUp, "a learner"),
            Some(_) => (Reason::AsExpected, "a voter"),
            None => (Reason::NotFound, "not in the cluster's list"),
        };
        set(
            ConditionKind::Joined,
            entry.is_some(),
            reason,
            message.into(),
        );
        if let Some(entry) = entry {
            status.member_id = Some(format!("{:x}", entry.id));
            status.role = Some(match (entry.learner, roster.leader == Some(entry.id)) {
                (true, _) => MemberRole::Learner,
                (false, true) => MemberRole::Leader,
                (false, false) => MemberRole::Follower,
            });
        }
    }
    let failure = sight.asked.failures.get(&name).cloned();
    let (reason, message) = match (seen.is_ready(), seen.healthy) {
        (true, _) => (
            Reason::AsExpected,
            "it answers and knows the leader".to_owned(),
        ),
        (false, true) => (
            Reason::MemberNotReady,
            "it answers, and Services do not lead to it yet".to_owned(),
        ),
        (false, false) => (
            Reason::MemberNotReady,
            failure.unwrap_or_else(|| "it does not run".into()),
        ),
    };
    let generation = member.metadata.generation;
    let kind = ConditionKind::Ready;
    set_condition(
        &mut status.conditions,
        kind,
        seen.is_ready(),
        reason,
        message,
        generation,
        now(),
    );
    status
}
