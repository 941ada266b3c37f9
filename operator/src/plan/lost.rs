//! Every way of being gone, and how long each may last. The table is in `docs/failure-modes.md` as well.
//!
//! | state | for how long | what is done | what is kept |
//! |---|---|---|---|
//! | no pod | at once | it is made again | the volume |
//! | the pod has ended for good | at once | it is made again | the volume |
//! | the volume's claim is gone, going or has lost its volume | at once | replaced | |
//! | the data differs from a majority's (CORRUPT) | at once | replaced | the volume, for inquiry |
//! | its node is not ready, or has no object | `nodeLostAfter` | replaced | |
//! | its container fails | `unhealthyAfter` | replaced | |
//! | it starts and does not run; no node takes it because of its volume; it does not end on a node that is ready; it runs, is not ready and does not answer | `stuckAfter` | replaced | |
//! | a learner applies nothing more | `stuckAfter` | taken out, another one after a while | |
//! | it lacks memory, disk, its image or certificates; no node has room; Kubernetes finds it ready and the operator does not reach it | `stuckAfter` | said | the member |
//! | it fails on a change with which nobody works | `unhealthyAfter`, `stuckAfter` | the change stops, and that is said | the member |
//! | no quorum answers | at once | said, pods are started | every member |
//! | and a voter finds no node because of its volume or of others | a minute | learners give up their pods until there is a quorum | every member |

use std::time::Duration;

use super::Cause;
use super::mutant::{Mutant, planted};
use super::view::{Lack, Member, Node, Observed, Pod, PodState, Volume, Wanted};

/// The first wait for another learner after one that was taken out, in seconds; each further one is twice
/// as long.
const JOIN_WAIT_FIRST: i64 = 60;
/// The longest.
const JOIN_WAIT_MAX: i64 = 3600;

fn seconds(limit: Duration) -> i64 {
    i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)
}

/// Whether something has lasted for as long as it may.
pub(crate) fn is_over(observed: &Observed, since: i64, limit: Duration) -> bool {
    observed.now.saturating_sub(since) >= seconds(limit)
}

/// Why a member is lost, if it is.
pub(super) fn lost(observed: &Observed, wanted: &Wanted, member: &Member) -> Option<Cause> {
    let gone = member.volume != Volume::Present && !planted(Mutant::LostVolumeIgnored);
    if member.initialized && gone {
        return Some(Cause::VolumeLost);
    }
    if member.corrupt && !planted(Mutant::CorruptIgnored) {
        return Some(Cause::Corrupt);
    }
    if has_stalled(observed, wanted, member) {
        return Some(Cause::NeverCaughtUp);
    }
    if member.healthy && !planted(Mutant::WorkingReplaced) {
        return None;
    }
    if let Node::Lost { since } = member.node
        && (is_over(observed, since, wanted.node_lost_after) || planted(Mutant::NodeLostAtOnce))
    {
        return Some(Cause::NodeLost);
    }
    let pod = member.pod.as_ref()?;
    if let PodState::Terminating { since } = pod.state {
        let over = is_over(observed, since, wanted.stuck_after);
        return over.then_some(Cause::Stuck);
    }
    // What fails may be the template and not the member: the volume is kept, and the pod is restarted
    // in place once something else is wanted.
    if pod.outdated || is_unproven(observed) {
        return None;
    }
    failing(observed, wanted, member, pod)
}

/// Of a pod that is as wanted.
fn failing(observed: &Observed, wanted: &Wanted, member: &Member, pod: &Pod) -> Option<Cause> {
    let (since, limit, cause) = match pod.state {
        PodState::Broken {
            since,
            starved: false,
        } => (since, wanted.unhealthy_after, Cause::Unhealthy),
        PodState::Starting { since } if !observed.lacking && !planted(Mutant::EndlessStart) => {
            (since, wanted.stuck_after, Cause::Stuck)
        }
        PodState::Unplaced {
            since,
            lack: Lack::Volume,
        } => (since, wanted.stuck_after, Cause::Stuck),
        PodState::Running { ready_since: None } => {
            (member.away_since?, wanted.stuck_after, Cause::Stuck)
        }
        _ => return None,
    };
    is_over(observed, since, limit).then_some(cause)
}

/// A learner that gets nowhere. One that lacks what another would lack as well waits for it.
fn has_stalled(observed: &Observed, wanted: &Wanted, member: &Member) -> bool {
    let lacks = match member.pod.as_ref().map(|pod| &pod.state) {
        Some(PodState::Broken { starved, .. }) => *starved,
        // A claim that is gone comes back with another member only.
        Some(PodState::Unplaced { lack, .. }) => {
            *lack != Lack::Volume && member.volume == Volume::Present
        }
        Some(PodState::Starting { .. }) => observed.lacking,
        _ => false,
    };
    let over = |since| is_over(observed, since, wanted.stuck_after);
    !lacks && member.stalled_since.is_some_and(over) && !planted(Mutant::EndlessLearner)
}

/// Whether a change is under way, and no member works yet on what is wanted.
pub(super) fn is_unproven(observed: &Observed) -> bool {
    let pods = |outdated: bool| {
        observed.members.iter().filter(move |member| {
            let pod = member.pod.as_ref();
            pod.is_some_and(|pod| pod.outdated == outdated && !pod.spent)
        })
    };
    let unproven = pods(true).next().is_some() && !pods(false).any(Member::is_ready);
    unproven && !planted(Mutant::RolloutEatsVolumes)
}

/// What a person should know where what is wanted does not start: for as long as a member may fail it
/// may yet come up.
pub(super) fn bad_rollout(observed: &Observed, wanted: &Wanted) -> Option<String> {
    if !is_unproven(observed) {
        return None;
    }
    let fails = |member: &&Member| {
        let pod = member.pod.as_ref().filter(|pod| !pod.outdated);
        let limited = pod.and_then(|pod| match pod.state {
            PodState::Broken { since, .. } => Some((since, wanted.unhealthy_after)),
            PodState::Starting { since } | PodState::Unplaced { since, .. } => {
                Some((since, wanted.stuck_after))
            }
            PodState::Running { ready_since: None } if !member.healthy => {
                Some((member.away_since?, wanted.stuck_after))
            }
            _ => None,
        });
        limited.is_some_and(|(since, limit)| is_over(observed, since, limit))
    };
    let member = observed.members.iter().find(fails)?;
    Some(format!(
        "{} does not start with what was changed, and nobody runs with it: the others stay as they are, \
         and its volume is kept; correct the specification or take the change back",
        member.name
    ))
}

/// What a person should know of a member that is away for long and is not replaced.
pub(super) fn overdue(observed: &Observed, wanted: &Wanted) -> Option<String> {
    let words = |member: &Member| {
        let name = &member.name;
        let state = member.pod.as_ref().map(|pod| &pod.state);
        let (since, words) = match state? {
            PodState::Starting { since } => (
                *since,
                format!("the pod of {name} starts and does not run: its events say why"),
            ),
            PodState::Unplaced { since, .. } => (
                *since,
                format!("no node takes the pod of {name}: its events say why"),
            ),
            PodState::Terminating { since } => (*since, ending(member)),
            PodState::Running {
                ready_since: Some(_),
            } => (
                member.away_since?,
                format!(
                    "Kubernetes finds {name} ready, but the operator does not reach it, or it knows no \
                     leader: look at network policies, and at its log"
                ),
            ),
            PodState::Running { ready_since: None } => (
                member.away_since?,
                format!("{name} runs and does not answer: its log says why"),
            ),
            PodState::Broken { .. } => return None,
        };
        is_over(observed, since, wanted.stuck_after).then_some(words)
    };
    let mut away = observed.members.iter().filter(|member| !member.healthy);
    away.find_map(words)
}

/// A pod that Kubernetes knows nothing of any more.
pub(super) fn cannot_end(name: &str) -> String {
    format!(
        "the pod of {name} cannot end, since its node does not answer: once that machine is surely off, \
         taint its node with node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
    )
}

/// The volume may still be in use there: only a person knows whether the machine is off.
fn ending(member: &Member) -> String {
    let name = &member.name;
    match member.node {
        Node::Lost { .. } => format!(
            "{}, and it starts elsewhere if its volume can",
            cannot_end(name)
        ),
        _ => format!("the pod of {name} does not end: look at its node's kubelet"),
    }
}

/// Why no new member is made yet, where learners were taken out that got nowhere.
pub(super) fn must_wait(observed: &Observed) -> Option<String> {
    let last = observed.learners_out.iter().max()?;
    let count = observed.learners_out.len();
    let doublings = u32::try_from(count - 1).unwrap_or(u32::MAX).min(6);
    let wait = (JOIN_WAIT_FIRST << doublings).min(JOIN_WAIT_MAX);
    let waits = observed.now.saturating_sub(*last) < wait && !planted(Mutant::NoBackOff);
    waits.then(|| {
        format!(
            "{count} learners did not catch up and were taken out, one after the other: the next one is \
             tried {} minutes after the last",
            wait / 60
        )
    })
}
