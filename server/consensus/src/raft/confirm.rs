//! Whether this member leads, confirmed for reads.
//!
//! openraft sends heartbeats to everybody for it, and its core takes part in each and in each answer. As few
//! as make a quorum with this member are asked first, and only what they have promised: whoever says, after
//! a read came, that its vote is this leader's had elected nobody after it when the read came. It is what
//! a follower's heartbeat answers, too (see `following`).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{RaftState, ServerState};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Consensus, TypeConfig, Vote, entry, wire};
use crate::mutants::is_planted;
use crate::peer::{Clients, Declined, Promises};
use crate::storage::LogPosition;
use crate::types::MemberId;

/// How long the few are waited for alone. Then all are asked beside them.
const ALONE: Duration = Duration::from_millis(20);
/// Who did not answer is not asked again for so long, where another one may be.
const REST: Duration = Duration::from_secs(1);
/// Streams to a member that wait for the next question: as many as ask at once, most of the time.
const IDLE_MAX: usize = 4;

/// The ways to ask others what they have promised.
pub(super) struct Promisers {
    clients: Clients,
    members: Mutex<BTreeMap<u64, Promiser>>,
}

/// What is known of one.
#[derive(Default)]
struct Promiser {
    idle: Vec<Promises>,
    /// When it last did not answer.
    failed: Option<Instant>,
}

/// What openraft's core says of this member that leads.
struct Lead {
    vote: Vote,
    /// What is committed: an entry of this term, so nothing that was acknowledged is behind it.
    position: LogPosition,
    /// The other voters.
    others: Vec<u64>,
}

impl Lead {
    /// None where the member does not lead, has not committed anything in its term yet, or the voters are
    /// being changed.
    fn of(state: &RaftState<TypeConfig>, member: u64) -> Option<Lead> {
        let vote = *state.vote_ref();
        let leads = state.server_state == ServerState::Leader
            && vote.committed
            && vote.leader_id.voted_for == member;
        let position = entry::position(state.local_committed()?);
        let membership = state.membership_state.effective().membership();
        let [voters] = membership.get_joint_config().as_slice() else {
            return None;
        };
        if !leads || position.term != vote.leader_id.term || !voters.contains(&member) {
            return None;
        }
        Some(Lead {
            vote,
            position,
            others: voters.iter().copied().filter(|id| *id != member).collect(),
        })
    }

    /// How many others make a quorum with this member.
    fn needed(&self) -> usize {
        self.others.len().div_ceil(2)
    }
}

impl Promisers {
    pub(super) fn new(clients: Clients) -> Promisers {
        Promisers {
            clients,
            members: Mutex::default(),
        }
    }

    /// Whom to ask: those that have not failed, or longest ago. None where too few are left that are not
    /// given a rest.
    fn choose(&self, lead: &Lead) -> Option<Vec<u64>> {
        let mut members = self.members.lock();
        members.retain(|id, _| lead.others.contains(id));
        let failed = |id: &u64| members.get(id).and_then(|member| member.failed);
        let mut others = lead.others.clone();
        others.sort_by_key(failed);
        others.truncate(lead.needed());
        let rests = |id: &u64| failed(id).is_some_and(|at| at.elapsed() < REST);
        (!others.iter().any(rests)).then_some(others)
    }

    /// Whether all of these have promised nothing but this leader's vote.
    async fn confirm(&self, vote: &Vote, chosen: &[u64]) -> bool {
        let answers = try_join_all(chosen.iter().map(|id| self.ask(*id))).await;
        let is_same = |promised: &Vote| promised.leader_id == vote.leader_id;
        answers.is_ok_and(|promised| is_planted("promise-unread") || promised.iter().all(is_same))
    }

    async fn ask(&self, id: u64) -> Result<Vote, Unanswered> {
        let idle = self.members.lock().entry(id).or_default().idle.pop();
        let promises = match idle {
            Some(promises) => promises,
            None => {
                let client = self.clients.known(MemberId(id)).ok_or(Unanswered)?;
                client.promises().await.map_err(|_| Unanswered)?
            }
        };
        let (answer, promises) = promises.ask().await.map_err(|_| Unanswered)?;
        let vote = wire::read_vote(answer.vote).map_err(|_| Unanswered)?;
        let mut members = self.members.lock();
        let member = members.entry(id).or_default();
        member.failed = None;
        if member.idle.len() < IDLE_MAX {
            member.idle.push(promises);
        }
        Ok(vote)
    }

    fn failed(&self, chosen: &[u64]) {
        let mut members = self.members.lock();
        for id in chosen {
            let member = members.entry(*id).or_default();
            member.failed = Some(Instant::now());
            member.idle.clear();
        }
    }
}

/// A member that did not say what it has promised, for whatever reason.
struct Unanswered;

impl Consensus {
    /// Has a quorum confirm that this member leads, in a round that begins after the call: nobody
    /// had been elected after it when the call was made. The place is one of the leader's term, and
    /// not before anything acknowledged until then.
    ///
    /// # Errors
    /// It does not lead, no quorum confirmed it, consensus stopped.
    pub async fn confirm_lead(&self) -> Result<LogPosition, Declined> {
        if is_planted("read-unconfirmed") {
            return Ok(self.believed_position());
        }
        let member = self.member.0;
        let lead = self
            .raft
            .with_raft_state(move |state| Lead::of(state, member));
        let lead = lead.await.map_err(|_| Declined::Stopped)?;
        let chosen = lead.as_ref().and_then(|lead| self.promisers.choose(lead));
        let (Some(lead), Some(chosen)) = (lead, chosen) else {
            return self.confirm_by_all().await;
        };
        let few = self.promisers.confirm(&lead.vote, &chosen);
        tokio::pin!(few);
        match tokio::time::timeout(ALONE, &mut few).await {
            Ok(true) => return Ok(lead.position),
            Ok(false) => {}
            Err(_) => tokio::select! {
                biased;
                true = few => return Ok(lead.position),
                confirmed = self.confirm_by_all() => {
                    self.promisers.failed(&chosen);
                    return confirmed;
                }
            },
        }
        self.promisers.failed(&chosen);
        self.confirm_by_all().await
    }

    async fn confirm_by_all(&self) -> Result<LogPosition, Declined> {
        let policy = openraft::ReadPolicy::ReadIndex;
        match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => Ok(entry::position(linearizer.read_log_id().log_id())),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Declined::TimedOut)
            }
            Err(RaftError::APIError(_)) => Err(Declined::NotLeader),
            Err(RaftError::Fatal(_)) => Err(Declined::Stopped),
        }
    }

    /// A planted fault: what this member takes for committed, whoever leads by now.
    fn believed_position(&self) -> LogPosition {
        let leadership = self.leadership();
        LogPosition {
            term: leadership.term,
            index: leadership.committed_index,
        }
    }
}
