//! What an operation does, a step a pass.

use kube::ResourceExt as _;

use crate::api::{Compact, EngramCluster, EngramOperationStatus, Reason};
use crate::observe::Sight;

use super::super::{Context, Error};
use super::Step;

/// Forgets history.
///
/// # Errors
/// A member refused.
pub(super) async fn compact(sight: &Sight, what: &Compact) -> Result<Step, Error> {
    let Some((leader, client)) = sight.asked.leading() else {
        return Ok(Step::Wait(Reason::WaitingForCluster, "nobody leads".into()));
    };
    let current = sight
        .asked
        .answers
        .get(leader)
        .map_or(0, |status| status.revision);
    let revision = what
        .revision
        .unwrap_or(current - what.keep_revisions.unwrap_or(0));
    if revision > current {
        let text = format!("revision {revision} is in the future: the current one is {current}");
        return Ok(Step::Reject(Reason::InvalidSpec, text));
    }
    if revision < 1 {
        return Ok(Step::Done(format!(
            "nothing to compact at revision {current}"
        )));
    }
    match client.compact(revision).await {
        Ok(()) => Ok(Step::Done(format!(
            "history below revision {revision} is gone"
        ))),
        // A pass that did not live to say so has done it, or the members themselves.
        Err(error) if error.to_string().contains("has been compacted") => Ok(Step::Done(format!(
            "history below revision {revision} was gone already"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Gives space back: one member a pass, the leader last.
///
/// # Errors
/// A member refused.
pub(super) async fn defragment(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    only: &[String],
    status: &mut EngramOperationStatus,
) -> Result<Step, Error> {
    let leader = sight.asked.leading().map(|(name, _)| name.to_owned());
    let known = |name: &String| sight.observed.member(name).is_some();
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let text = format!("{unknown} is not a member of {}", cluster.name_any());
        return Ok(Step::Reject(Reason::NotFound, text));
    }
    let mut names: Vec<&String> = sight
        .observed
        .members
        .iter()
        .map(|member| &member.name)
        .collect();
    names.retain(|name| {
        (only.is_empty() || only.contains(name)) && !status.done_members.contains(name)
    });
    names.sort_by_key(|name| (Some(*name) == leader.as_ref(), (*name).clone()));
    let Some(next) = names.first().map(|name| (*name).clone()) else {
        return Ok(Step::Done(format!(
            "{} members have given their space back",
            status.done_members.len()
        )));
    };
    let Some(client) = sight.asked.clients.get(&next) else {
        return Ok(Step::Wait(
            Reason::WaitingForCluster,
            format!("{next} does not answer"),
        ));
    };
    let reclaimed = client.defragment().await?;
    context.reclaimed(cluster, reclaimed);
    status.done_members.push(next.clone());
    Ok(Step::More(format!(
        "{next} has given {reclaimed} bytes back"
    )))
}

/// Has another member lead.
///
/// # Errors
/// A member refused.
pub(super) async fn move_leader(sight: &Sight, to: Option<String>) -> Result<Step, Error> {
    let Some((leader, client)) = sight.asked.leading() else {
        return Ok(Step::Wait(Reason::WaitingForCluster, "nobody leads".into()));
    };
    if to.as_deref() == Some(leader) {
        return Ok(Step::Done(format!("{leader} leads")));
    }
    let roster = sight.observed.roster.as_ref();
    let voters = roster.into_iter().flat_map(|roster| roster.voters());
    let mut fit = voters.filter(|entry| {
        let healthy = sight
            .observed
            .member(&entry.member)
            .is_some_and(|member| member.healthy);
        healthy && entry.member != leader && to.as_ref().is_none_or(|to| *to == entry.member)
    });
    let Some(entry) = fit.next() else {
        let text = match to {
            Some(to) => format!("{to} is not a voter that answers"),
            None => "there is no other voter that answers".to_owned(),
        };
        return Ok(Step::Reject(Reason::NotFound, text));
    };
    client.move_leader(entry.id).await?;
    Ok(Step::Done(format!(
        "leadership moved from {leader} to {}",
        entry.member
    )))
}
