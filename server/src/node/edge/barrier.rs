//! Linearizable reads: one confirmation for all that wait for one at the same moment.
//!
//! A read that comes while a confirmation is under way waits for the next: the one under way may
//! have been answered before a write that the read's caller already knows of.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::backend::ServeError;
use crate::home::{Asker, Homes};
use crate::mutants::is_planted;
use crate::node::leadership::LeadershipCell;
use crate::node::peers::PeerCalls;
use crate::peer::{CallError, Declined};
use crate::raft::Consensus;
use crate::threads::Pulse;

/// The most reads that wait at a time; beyond, a read is refused.
const WAITING_MAX: usize = 100_000;
/// How long to rest after a confirmation that failed. Source: etcd asks again after 500 ms.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The term in which this member itself was confirmed to lead; none where another was.
type Passed = Result<Option<u64>, ServeError>;

/// Where reads wait. Clones share it.
#[derive(Clone)]
pub struct Barrier {
    leadership: Arc<LeadershipCell>,
    homes: Homes,
    timeout: Duration,
    reads: Arc<Queue>,
    /// Who needs to know that this member leads, and waits for nothing to be applied: an engine that stands
    /// still holds them up no more than a heartbeat.
    leading: Arc<Queue>,
}

/// Those who wait for one confirmation.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Asker<Passed>>>,
    asked: Notify,
}

impl Barrier {
    /// A barrier whose reads wait at most `timeout` (and at most as long again where the
    /// confirmation before theirs takes all of its own).
    pub fn new(leadership: Arc<LeadershipCell>, homes: Homes, timeout: Duration) -> Barrier {
        Barrier {
            leadership,
            homes,
            timeout,
            reads: Arc::default(),
            leading: Arc::default(),
        }
    }

    /// Returns once everything that was acknowledged before the call is readable here.
    ///
    /// # Errors
    /// Nobody confirmed it in time, too many wait, or the member stops.
    pub async fn pass(&self) -> Result<(), ServeError> {
        self.confirmed(&self.reads).await.map(drop)
    }

    /// As [`Barrier::pass`], for what only the leader can answer: the term in which a quorum
    /// confirmed, after the call, that this member leads. None: another one does.
    ///
    /// # Errors
    /// See there.
    pub async fn pass_leading(&self) -> Passed {
        self.confirmed(&self.reads).await
    }

    /// The same, without a wait for what was acknowledged in that term to be applied here. None also where
    /// what the leaders before it acknowledged is not: they may have let go what this one still knows.
    ///
    /// # Errors
    /// See there.
    pub async fn confirm_leading(&self) -> Passed {
        self.confirmed(&self.leading).await
    }

    async fn confirmed(&self, queue: &Arc<Queue>) -> Passed {
        if self.leadership.answers_alone() {
            // What is acknowledged is applied here, and there is nobody else who could acknowledge anything.
            return Ok(Some(self.leadership.term()));
        }
        let (asker, passed) = Asker::here();
        let is_first = {
            let mut waiting = queue.waiting.lock();
            if waiting.len() >= WAITING_MAX {
                // Who gave up waits for nothing.
                waiting.retain(|asker| !asker.is_gone());
            }
            if waiting.len() >= WAITING_MAX {
                return Err(ServeError::TooManyRequests);
            }
            // Who came last on this thread has another confirmation asked for at its turn's end.
            let is_first = waiting.last().is_none_or(|last| !last.is_here());
            waiting.push(asker);
            is_first
        };
        if is_first {
            let queue = queue.clone();
            self.homes.at_turns_end(move || queue.asked.notify_one());
        }
        passed.await.unwrap_or(Err(ServeError::Stopped))
    }

    /// Confirms for those who wait, until it is dropped. Runs on the Raft thread.
    pub async fn run(&self, consensus: &Consensus, peers: &PeerCalls) -> Infallible {
        let reads = self.answer(&self.reads, true, consensus, peers);
        let leading = self.answer(&self.leading, false, consensus, peers);
        tokio::join!(reads, leading).0
    }

    /// Confirms for those of a queue; with `applied` also that they find here all that was acknowledged.
    async fn answer(
        &self,
        queue: &Queue,
        applied: bool,
        consensus: &Consensus,
        peers: &PeerCalls,
    ) -> Infallible {
        let pulse = Pulse::new("the read barrier");
        loop {
            pulse.rest(queue.asked.notified()).await;
            let waiting = std::mem::take(&mut *queue.waiting.lock());
            if waiting.is_empty() {
                continue;
            }
            // A quorum may be long in coming.
            let passed = pulse.rest(self.confirm(applied, consensus, peers)).await;
            let answers = waiting.into_iter().map(|asker| (asker, passed.clone()));
            self.homes.answer(answers);
        }
    }

    async fn confirm(&self, applied: bool, consensus: &Consensus, peers: &PeerCalls) -> Passed {
        let deadline = Instant::now() + self.timeout;
        let confirmed = tokio::time::timeout_at(deadline, async {
            loop {
                match self.ask(consensus, peers, deadline).await {
                    Ok(confirmed) => return confirmed,
                    Err(Unconfirmed) => tokio::time::sleep(RETRY_PAUSE).await,
                }
            }
        });
        let confirmed = confirmed.await.map_err(|_| {
            crate::log!(
                warn,
                "timed out waiting for read index response (local node might have slow network)",
                timeout = self.timeout
            );
            ServeError::Timeout
        })?;
        if !applied {
            let own_term = confirmed.own_term;
            return Ok(own_term.filter(|term| consensus.has_applied_in(*term)));
        }
        if is_planted("read-unapplied") {
            return Ok(confirmed.own_term);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match consensus.wait_applied(confirmed.index, left).await {
            true => Ok(confirmed.own_term),
            false => Err(ServeError::TimeoutWaitAppliedIndex),
        }
    }

    /// Asks the leader, be it this member or another, for the index that a read must wait for.
    async fn ask(
        &self,
        consensus: &Consensus,
        peers: &PeerCalls,
        deadline: Instant,
    ) -> Result<Confirmed, Unconfirmed> {
        let leader = self.leadership.leader_known().await;
        if self.leadership.leads() {
            let position = consensus.confirm_lead().await?;
            return Ok(Confirmed {
                index: position.index,
                own_term: Some(position.term),
            });
        }
        if is_planted("read-local") {
            let index = consensus.leadership().committed_index;
            return Ok(Confirmed {
                index,
                own_term: None,
            });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            asked = peers.read_index(leader, left) => Ok(Confirmed {
                index: asked?,
                own_term: None,
            }),
            // It may be paused and never answer: the next leader is asked.
            () = self.leadership.left_by(leader) => Err(Unconfirmed),
        }
    }
}

/// What the leader said.
struct Confirmed {
    /// What has to be applied before a read.
    index: u64,
    /// See [`Passed`].
    own_term: Option<u64>,
}

/// Nobody said that this index is current; somebody else may, a moment later.
struct Unconfirmed;

impl From<CallError> for Unconfirmed {
    fn from(_: CallError) -> Unconfirmed {
        Unconfirmed
    }
}

impl From<Declined> for Unconfirmed {
    fn from(_: Declined) -> Unconfirmed {
        Unconfirmed
    }
}
