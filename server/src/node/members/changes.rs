//! A change of the membership, asked of whoever leads until it is made.

use tokio::time::{Instant, timeout_at};

use crate::api::backend::{MemberChange, MemberError};
use crate::node::ask::PAUSE;
use crate::node::backend::Core;
use crate::node::peer_service;
use crate::peer::{CallError, Declined};
use crate::propose::Late;
use crate::state::MemberRecord;

/// What asking once came to.
enum Asked {
    /// It was done, or refused for good.
    Answered(Result<Vec<MemberRecord>, MemberError>),
    /// It is known not to have happened: another leader may do it.
    NotTaken,
    /// It may have happened, and must not be asked for again.
    Unknown,
}

impl Core {
    /// Asks for `change` until it is made, refused, or the request timeout is over.
    pub(in crate::node) async fn ask_for_change(
        &self,
        change: MemberChange,
    ) -> Result<Vec<MemberRecord>, MemberError> {
        let began = std::time::Instant::now();
        let changed = self.ask_in_time(change).await;
        changed.map_err(|error| match error {
            MemberError::Timeout => of_late(self.lateness.why(began)),
            error => error,
        })
    }

    async fn ask_in_time(&self, change: MemberChange) -> Result<Vec<MemberRecord>, MemberError> {
        let deadline = Instant::now() + self.request_timeout;
        loop {
            match self.ask_once(change.clone(), deadline).await? {
                Asked::Answered(answer) => return answer,
                Asked::NotTaken if Instant::now() + PAUSE < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Asked::NotTaken => return Err(MemberError::Timeout),
                Asked::Unknown => return self.made_in_time(&change, deadline).await,
            }
        }
    }

    async fn ask_once(
        &self,
        change: MemberChange,
        deadline: Instant,
    ) -> Result<Asked, MemberError> {
        let needs_all = matches!(
            change,
            MemberChange::Add { .. } | MemberChange::Remove { .. }
        );
        if needs_all && self.leadership.leader().is_none() && self.membership.is_cut_off() {
            return Ok(Asked::Answered(Err(MemberError::Unhealthy)));
        }
        let known = timeout_at(deadline, self.leadership.leader_known()).await;
        let leader = known.map_err(|_| MemberError::Timeout)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let (door, leadership) = (self.door.clone(), self.leadership.clone());
        let membership = self.membership.clone();
        let own = self.member;
        let asking = self.door.run(async move {
            if leader == own {
                return of_own(membership.change(&door.consensus, change).await);
            }
            let change = peer_service::change_message(change);
            tokio::select! {
                answered = door.peers.change_members(leader, change, left) => of_others(answered),
                // It may be paused and never answer.
                () = leadership.left_by(leader) => Asked::Unknown,
            }
        });
        asking.await.map_err(|_| MemberError::Stopped)
    }

    /// The leader was lost with the question: whether the change came into force shows in the table.
    async fn made_in_time(
        &self,
        change: &MemberChange,
        deadline: Instant,
    ) -> Result<Vec<MemberRecord>, MemberError> {
        loop {
            let members: Vec<MemberRecord> = self.store.cluster().members.iter().cloned().collect();
            if is_made(change, &members) {
                return Ok(members);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(MemberError::Timeout);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn of_late(late: Late) -> MemberError {
    match late {
        Late::Unknown => MemberError::Timeout,
        Late::LeaderFailed => MemberError::TimeoutLeaderFail,
        Late::ConnectionLost => MemberError::TimeoutConnectionLost,
    }
}

fn of_own(changed: Result<Vec<MemberRecord>, MemberError>) -> Asked {
    match changed {
        Err(MemberError::NotLeader) => Asked::NotTaken,
        Err(MemberError::Timeout) => Asked::Unknown,
        answer => Asked::Answered(answer),
    }
}

fn of_others(answered: Result<Vec<crate::peer::message::Member>, CallError>) -> Asked {
    match answered {
        Ok(members) => {
            let members = members.into_iter().map(peer_service::from_message);
            Asked::Answered(Ok(members.collect()))
        }
        Err(
            CallError::Unreachable(_)
            | CallError::Refused(_)
            | CallError::Declined(Declined::NotLeader | Declined::Busy),
        ) => Asked::NotTaken,
        Err(
            CallError::Declined(Declined::TimedOut | Declined::Stopped)
            | CallError::TimedOut(_)
            | CallError::Broken(_),
        ) => Asked::Unknown,
        Err(error @ CallError::Declined(_)) => {
            Asked::Answered(Err(peer_service::member_error(error)))
        }
    }
}

/// Whether the members are as the change wants them.
fn is_made(change: &MemberChange, members: &[MemberRecord]) -> bool {
    let find = |wanted| members.iter().find(|member| member.id == wanted);
    match change {
        MemberChange::Add { id, .. } => find(*id).is_some(),
        MemberChange::Remove { id } => find(*id).is_none(),
        MemberChange::Update { id, peer_urls } => {
            find(*id).is_some_and(|member| member.peer_urls == *peer_urls)
        }
        MemberChange::Promote { id } => find(*id).is_some_and(|member| !member.learner),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::MemberId;

    #[test]
    fn only_what_is_known_not_to_have_happened_is_asked_again() {
        let lost = CallError::Broken("gone".into());
        let late = CallError::TimedOut(Duration::from_secs(1));
        assert!(matches!(of_others(Err(lost)), Asked::Unknown));
        assert!(matches!(of_others(Err(late)), Asked::Unknown));
        let away = CallError::Unreachable("away".into());
        let follows = CallError::Declined(Declined::NotLeader);
        assert!(matches!(of_others(Err(away)), Asked::NotTaken));
        assert!(matches!(of_others(Err(follows)), Asked::NotTaken));
        let unhealthy = of_others(Err(CallError::Declined(Declined::Unhealthy)));
        assert!(matches!(
            unhealthy,
            Asked::Answered(Err(MemberError::Unhealthy))
        ));
        assert!(matches!(of_own(Err(MemberError::Timeout)), Asked::Unknown));
    }

    #[test]
    fn a_change_whose_answer_was_lost_shows_in_the_table() {
        let member = MemberRecord {
            id: MemberId(3),
            peer_urls: vec!["http://new".into()],
            learner: true,
            ..MemberRecord::default()
        };
        let members = [member];
        let id = MemberId(3);
        let update = |url: &str| MemberChange::Update {
            id,
            peer_urls: vec![url.into()],
        };
        assert!(is_made(&update("http://new"), &members));
        assert!(!is_made(&update("http://old"), &members));
        assert!(!is_made(&MemberChange::Remove { id }, &members));
        assert!(!is_made(&MemberChange::Promote { id }, &members));
        assert!(is_made(&MemberChange::Remove { id }, &[]));
    }
}
