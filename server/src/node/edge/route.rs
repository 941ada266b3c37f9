//! The way of a batch to the leader: to this member's own consensus, or to another member.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::mutants::is_planted;
use crate::node::leadership::LeadershipCell;
use crate::node::peers::PeerCalls;
use crate::peer::{CallError, Declined};
use crate::propose::Route;
use crate::raft::{Batch, Consensus, ProposeRefused};

/// See the module.
pub struct LeaderRoute {
    pub leadership: Arc<LeadershipCell>,
    pub consensus: Consensus,
    pub peers: PeerCalls,
    /// How long a forwarded batch may take.
    pub limit: Duration,
}

impl Route for LeaderRoute {
    async fn open(&self) {
        self.leadership.leader_known().await;
    }

    async fn send(&self, batch: Batch) -> Result<(), ProposeRefused> {
        let Some(leader) = self.leadership.leader() else {
            return Err(ProposeRefused::NotLeader);
        };
        if self.leadership.leads() {
            return self.consensus.propose(batch).await;
        }
        let forwarded = self
            .peers
            .propose(leader, batch.encoded().clone(), self.limit);
        tokio::select! {
            answered = forwarded => answered.map_err(|error| refusal(&error)),
            // It may be paused and never answer; whether it took the batch is unknown.
            () = self.leadership.left_by(leader) => Err(ProposeRefused::Unknown),
        }
    }

    fn term(&self) -> u64 {
        self.leadership.term()
    }

    fn succeeded(&self, term: u64) -> impl Future<Output = ()> + Send + 'static {
        let consensus = self.consensus.clone();
        async move { consensus.applied_after(term).await }
    }
}

/// What a failed call says of the batch: where it may have been taken, it is never sent again.
fn refusal(error: &CallError) -> ProposeRefused {
    match error {
        CallError::TimedOut(_) | CallError::Broken(_) if is_planted("forward-again") => {
            ProposeRefused::NotLeader
        }
        CallError::Unreachable(_)
        | CallError::Refused(_)
        | CallError::Declined(Declined::NotLeader | Declined::Stopped) => ProposeRefused::NotLeader,
        CallError::Declined(Declined::Busy) => ProposeRefused::Busy,
        CallError::Declined(_) | CallError::TimedOut(_) | CallError::Broken(_) => {
            ProposeRefused::Unknown
        }
    }
}
