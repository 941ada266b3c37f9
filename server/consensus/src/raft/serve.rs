//! What this member does for its peers: the receiving side of `network`.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;

use super::incoming::{self, Beginning, Parts, ReceiveError};
use super::log_store::{HELD_FROM_LEADERS, Taken};
use super::{Batch, Consensus, ProposeRefused, SnapshotData, entry, following, sane, wire};
use crate::peer::CallError;
use crate::peer::Declined;
use crate::peer::message::{
    AppendRequest, AppendResponse, PromisedResponse, SnapshotAnswer, SnapshotPart,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use crate::threads::{ForCaller, Panicked};
use crate::types::MemberId;

/// How often a full log is looked at again.
const ROOM_LOOK_EVERY: Duration = Duration::from_millis(50);

impl Consensus {
    /// Appends in order, several on their way to the disk at once; heartbeats are answered without
    /// waiting for it. The answers end with the
    /// requests, after a conflict or a higher vote, at a request that makes no sense, and when
    /// consensus stops.
    pub fn serve_append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, AppendResponse> {
        let mut checks = sane::Appends::new(self.log.clone(), self.member.0);
        let read = move |message| wire::read_append_request(message).and_then(|r| checks.check(r));
        let contact = self.contact.clone();
        let consensus = self.clone();
        // One for each request that is not answered yet.
        let taken: Arc<Mutex<VecDeque<Option<Taken>>>> = Arc::default();
        let taking = taken.clone();
        let requests = requests.then(move |request| {
            let (consensus, taking) = (consensus.clone(), taking.clone());
            async move {
                let taken = consensus.wait_for_room(&request).await;
                taking.lock().push_back(taken);
                request
            }
        });
        let requests = whole(requests.map(read), "an append");
        let requests = requests.inspect(move |request| contact.note(&request.vote));
        let results = following::answers(self.raft.clone(), self.log.clone(), requests.boxed());
        let consensus = self.clone();
        whole(results, "appending")
            .map(move |result| {
                // It is durable, or was not taken.
                drop(taken.lock().pop_front());
                AppendResponse {
                    short_of_room: consensus.is_short_of_room(),
                    ..wire::append_response(result)
                }
            })
            .boxed()
    }

    /// Entries wait at the door of a member whose disk is full, or whose log's disk does not keep up,
    /// and the leader with what follows them: heartbeats and votes take other ways. What was taken can always be written.
    async fn wait_for_room(&self, request: &AppendRequest) -> Option<Taken> {
        if request.entries.is_empty() {
            return None;
        }
        let store = self.store.upgrade()?;
        store.headroom().wait_to_take().await;
        let bytes = request.encoded_len() as u64;
        loop {
            let entries = request.entries.len();
            let taken = (self.log_room).take_placed(entries, bytes, HELD_FROM_LEADERS);
            if taken.is_some() && self.log_room.keeps_up() {
                return taken;
            }
            drop(taken);
            tokio::time::sleep(ROOM_LOOK_EVERY).await;
        }
    }

    fn is_short_of_room(&self) -> bool {
        let store = self.store.upgrade();
        store.is_some_and(|store| store.headroom().is_short())
    }

    /// What this member has promised: its last vote, durably. Whoever it elects hears of it after that.
    pub fn serve_promised(&self) -> PromisedResponse {
        let vote = self.log.known().vote;
        PromisedResponse {
            vote: vote.as_ref().map(entry::vote_message),
        }
    }

    /// Answers a vote request, or whether the vote would be given.
    ///
    /// # Errors
    /// It makes no sense, or consensus has stopped.
    pub async fn serve_vote(&self, request: VoteRequest) -> Result<VoteResponse, Declined> {
        let pre_vote = request.pre_vote;
        let request = wire::read_vote_request(request).map_err(invalid)?;
        sane::check_vote_request(&request, self.member.0, &self.log.known()).map_err(invalid)?;
        let answered = match pre_vote {
            true => self.raft.pre_vote(request).await,
            false => self.raft.vote(request).await,
        };
        let answer = answered.map_err(|_| Declined::Stopped)?;
        Ok(wire::vote_response(&answer))
    }

    /// Takes leadership over, or lets another member take it.
    ///
    /// # Errors
    /// The request makes no sense, or consensus has stopped.
    pub async fn serve_transfer_leader(
        &self,
        request: TransferLeaderRequest,
    ) -> Result<TransferLeaderResponse, Declined> {
        let request = wire::read_transfer_request(request).map_err(invalid)?;
        let handled = self.raft.handle_transfer_leader(request).await;
        let answer = handled.map_err(|_| Declined::Stopped)?;
        Ok(wire::transfer_response(&answer))
    }

    /// Receives a snapshot into `dir` and installs it. One at a time, and each to its end though its
    /// sender is gone by then: what has come whole is opened where the next one's store would lie, and
    /// removing or replacing it there must be over before another one is let in.
    ///
    /// # Errors
    /// Another one is being received; it is damaged, or the connection broke; consensus stopped.
    pub async fn serve_snapshot(
        &self,
        parts: BoxStream<'static, Result<SnapshotPart, CallError>>,
        dir: &Path,
    ) -> Result<SnapshotAnswer, Declined> {
        let Ok(alone) = self.receiving.clone().try_acquire_owned() else {
            return Err(Declined::Busy);
        };
        let (consensus, dir) = (self.clone(), dir.to_owned());
        let receiving =
            ForCaller::new(async move { consensus.receive_alone(alone, parts, &dir).await });
        match tokio::spawn(receiving).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Panicked)) => Err(Declined::Invalid),
            Err(_) => Err(Declined::Stopped),
        }
    }

    async fn receive_alone(
        &self,
        alone: OwnedSemaphorePermit,
        mut parts: BoxStream<'static, Result<SnapshotPart, CallError>>,
        dir: &Path,
    ) -> Result<SnapshotAnswer, Declined> {
        let received = self.receive(alone, &mut parts, dir).await;
        received.unwrap_or_else(|error| {
            crate::log!(warn, "failed to save incoming database snapshot",
                "local-member-id" = %self.member, error = %error);
            Err(match error.is_out_of_space() {
                true => Declined::NoRoom,
                false => Declined::Invalid,
            })
        })
    }

    async fn receive(
        &self,
        alone: OwnedSemaphorePermit,
        parts: &mut Parts,
        dir: &Path,
    ) -> Result<Result<SnapshotAnswer, Declined>, ReceiveError> {
        let Beginning { vote, meta, bytes } = incoming::beginning(parts).await?;
        sane::check_snapshot(&vote, &meta, self.member.0, &self.log.known())?;
        let sender = MemberId(vote.leader_id.voted_for);
        let (index, began) = (meta.last_log_id.map_or(0, |id| id.index()), Instant::now());
        crate::log!(info, "receiving database snapshot", "local-member-id" = %self.member,
            "remote-snapshot-sender-id" = %sender, "incoming-snapshot-index" = index);
        let counted = self.metrics.network.receiving(sender);
        let received = incoming::receive(parts, dir, bytes).await?;
        let saving = &self.metrics.parts;
        saving.snapshot_save.observe(began.elapsed().as_secs_f64());
        crate::log!(info, "received and saved database snapshot", "local-member-id" = %self.member,
            "remote-snapshot-sender-id" = %sender, "incoming-snapshot-index" = index,
            "incoming-snapshot-size-bytes" = received.bytes(), "download-took" = began.elapsed());
        let Some(store) = self.store.upgrade() else {
            return Ok(Err(Declined::Stopped));
        };
        // Before openraft is told: it answers nobody while it installs.
        let preparing = Instant::now();
        let mut prepared = super::snapshot::prepare(&store, &meta, received).await?;
        saving
            .snapshot_fsync
            .observe(preparing.elapsed().as_secs_f64());
        prepared.keep(alone);
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotData::Prepared(prepared),
        };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        Ok(match installed {
            Ok(answer) => {
                counted.succeeded();
                crate::log!(
                    info,
                    "applied snapshot",
                    "incoming-leader-snapshot-index" = index,
                    "incoming-leader-snapshot-term" = vote.leader_id.term
                );
                Ok(SnapshotAnswer {
                    vote: Some(entry::vote_message(&answer.vote)),
                })
            }
            Err(_) => Err(Declined::Stopped),
        })
    }

    /// Proposes a batch that a peer made. It is decoded first: a batch that cannot be applied would
    /// stop every member.
    ///
    /// # Errors
    /// It makes no sense, another member leads, or the log's disk does not keep up: it was not taken.
    /// `TimedOut`: it may have been.
    pub async fn serve_propose(&self, batch: Bytes) -> Result<(), Declined> {
        let batch = Batch::parse(batch).map_err(invalid)?;
        let proposed = self.propose_for_another(batch).await;
        proposed.map_err(|refused| match refused {
            ProposeRefused::NotLeader => Declined::NotLeader,
            ProposeRefused::Busy => Declined::Busy,
            // Consensus may have taken it before it stopped.
            ProposeRefused::Unknown | ProposeRefused::Stopped => Declined::TimedOut,
        })
    }

    /// Hands leadership to a voter, as a peer asks.
    ///
    /// # Errors
    /// There is no such voter, or consensus has stopped.
    pub async fn serve_move_leader(&self, to: MemberId) -> Result<(), Declined> {
        if to == self.member || !self.raft.voter_ids().any(|id| id == to.0) {
            return Err(Declined::BadTransferee);
        }
        self.hand_over(to).await.map_err(|_| Declined::Stopped)
    }

    /// The index that a linearizable read has to wait for, once a quorum has confirmed that this
    /// member leads.
    ///
    /// # Errors
    /// It does not lead, no quorum confirmed it, consensus stopped.
    pub async fn read_index(&self) -> Result<u64, Declined> {
        Ok(self.confirm_lead().await?.index)
    }
}

fn invalid(error: impl std::fmt::Display) -> Declined {
    crate::log!(warn, "a peer's request makes no sense", error = %error);
    Declined::Invalid
}

/// The items up to the first error, which is logged.
fn whole<T, E>(
    items: impl futures_util::Stream<Item = Result<T, E>> + Send + 'static,
    what: &'static str,
) -> BoxStream<'static, T>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    items
        .map(move |item| {
            let logged = item.inspect_err(|error| {
                crate::log!(warn, "a peer's append stream ends", at = what, error = %error);
            });
            logged.ok()
        })
        .take_while(|item| std::future::ready(item.is_some()))
        .filter_map(std::future::ready)
        .boxed()
}
