//! A follower's answers to its leader's appends: entries in a pipeline, each answered once it is
//! durable here; heartbeats at once.
//!
//! openraft answers a heartbeat when everything that it took before is on the disk. A heartbeat asks
//! for less: that this member's vote, durably, is still the asking leader's. A quorum whose disks
//! stand still for a moment then goes on to have a leader, who knows that it is one.
//!
//! An append without entries may also be a probe: a leader that does not know how far this member's
//! log matches counts the entry it names as held, and commits by it. So the entry named must be
//! durable here, whichever of the two it is.

use std::future::ready;

use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use openraft::errors::Fatal;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

use super::log_store::LogView;
use super::{Raft, TypeConfig};

type Append = AppendEntriesRequest<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>;

/// The answers to `requests`, in their order. They end after a conflict or a higher vote.
pub(super) fn answers(
    raft: Raft,
    log: LogView,
    requests: BoxStream<'static, Append>,
) -> BoxStream<'static, Answer> {
    let turns = stream::unfold(Some((raft, log, requests)), |state| async move {
        let (raft, log, mut requests) = state?;
        let request = requests.next().await?;
        if !request.entries.is_empty() {
            // From the first entries on in a pipeline: what came before is answered.
            let rest = stream::once(ready(request)).chain(requests);
            return Some((raft.stream_append(rest).boxed(), None));
        }
        let answer = heartbeat(&raft, &log, request).await?;
        let next = matches!(answer, Ok(Ok(_))).then_some((raft, log, requests));
        Some((stream::once(ready(answer)).boxed(), next))
    });
    turns.flatten().boxed()
}

/// Answers what brings no entries; nothing where openraft has ended.
async fn heartbeat(raft: &Raft, log: &LogView, request: Append) -> Option<Answer> {
    if stands(&request, log) {
        // openraft hears of the leader and of what is committed. Nobody waits for its answer.
        let told = tokio::task::unconstrained(raft.append_entries(request.clone())).now_or_never();
        if told.is_none() {
            return Some(Ok(Ok(request.prev_log_id)));
        }
    }
    let mut answer = raft.stream_append(stream::once(ready(request))).boxed();
    answer.next().await
}

/// Whether this member's vote, durably, is the leader's, and its log holds, durably, the entry that
/// the leader names. Should a later vote be on its way to the disk, nobody has been told of it yet.
pub fn stands(request: &Append, log: &LogView) -> bool {
    let known = log.known();
    known.vote == Some(request.vote)
        && (request.prev_log_id).is_none_or(|id| log.holds_durably(&id, &known))
}
