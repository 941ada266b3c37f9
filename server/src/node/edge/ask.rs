//! Questions that only the leader can answer, asked until it does: it may be another by then.
//!
//! Source: `LeaseRenew`, `LeaseTimeToLive`, `waitLeader` of etcd's v3_server.go.

use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::api::backend::ServeError;
use crate::node::backend::Core;
use crate::node::peers::PeerCalls;
use crate::peer::CallError;
use crate::types::MemberId;

/// How long to rest before the leader is asked again (etcd's).
pub const PAUSE: Duration = Duration::from_millis(50);

impl Core {
    /// Asks whoever leads: this member by `own`, which answers nothing where it cannot say, another
    /// by `ask`. Both may be asked again, so neither must change anything twice.
    ///
    /// # Errors
    /// Nobody led until the request timeout was over, nobody answered, or the member stops.
    pub(in crate::node) async fn leaders_answer<T, Own, Asked>(
        &self,
        own: impl Fn() -> Own,
        ask: impl Fn(PeerCalls, MemberId, Duration) -> Asked,
    ) -> Result<T, ServeError>
    where
        T: Send + 'static,
        Own: Future<Output = Option<T>>,
        Asked: Future<Output = Result<T, CallError>> + Send + 'static,
    {
        // The clock is read once somebody has to be waited for: nearly always this member leads.
        let first = OnceLock::new();
        let deadline = || *first.get_or_init(|| Instant::now() + self.request_timeout);
        loop {
            let leader = match self.leadership.leader() {
                Some(leader) => leader,
                None => timeout_at(deadline(), self.leadership.leader_known())
                    .await
                    .map_err(|_| ServeError::NoLeader)?,
            };
            let answer = match leader == self.member {
                true => at_once_or_by(own(), &deadline).await,
                false => {
                    let left = deadline().saturating_duration_since(Instant::now());
                    self.others_answer(leader, ask(self.door.peers.clone(), leader, left))
                        .await?
                }
            };
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if Instant::now() + PAUSE >= deadline() {
                return Err(ServeError::Timeout);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What `leader` answers, on the Raft thread; nothing where it does not, or leads no more. It
    /// may be paused and never answer.
    async fn others_answer<T: Send + 'static>(
        &self,
        leader: MemberId,
        asked: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) -> Result<Option<T>, ServeError> {
        let leadership = self.leadership.clone();
        let asking = self.door.run(async move {
            tokio::select! {
                answered = asked => answered.ok(),
                () = leadership.left_by(leader) => None,
            }
        });
        asking.await
    }
}

/// What a future answers, if it does before `deadline`; no timer is made for what it answers at once.
async fn at_once_or_by<T>(
    answer: impl Future<Output = Option<T>>,
    deadline: impl Fn() -> Instant,
) -> Option<T> {
    let mut answer = pin!(answer);
    match answer.as_mut().now_or_never() {
        Some(answered) => answered,
        None => timeout_at(deadline(), answer).await.unwrap_or(None),
    }
}
