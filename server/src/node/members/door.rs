//! The Raft thread's door: what runs there, asked for from any thread.

use std::future::Future;

use tokio::runtime::Handle;

use crate::api::backend::ServeError;
use crate::node::peers::PeerCalls;
use crate::raft::Consensus;

/// Runs work on the Raft thread, where consensus and the connections to peers live.
#[derive(Clone)]
pub struct Door {
    raft: Handle,
    /// Consensus.
    pub consensus: Consensus,
    /// Calls to other members.
    pub peers: PeerCalls,
}

impl Door {
    /// The door of the runtime that this is called on.
    pub fn of_this_thread(consensus: Consensus, peers: PeerCalls) -> Door {
        Door {
            raft: Handle::current(),
            consensus,
            peers,
        }
    }

    /// Runs `work` there, whoever waits for it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.raft.spawn(work)
    }

    /// Runs `work` there and waits for it.
    ///
    /// # Errors
    /// The member stops.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ServeError> {
        self.spawn(work).await.map_err(|_| ServeError::Stopped)
    }
}
