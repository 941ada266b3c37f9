//! The network to peers, as openraft wants it: its messages over the peer room's connections.
//!
//! An unreachable peer is always an error, above all for pre-vote: openraft's default would grant.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use openraft::base::BoxFuture;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{
    Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{LogIdOptionExt, OptionalSend, base::BoxStream};
use parking_lot::Mutex;

use super::confirm::Promisers;
use super::log_store::LogView;
use super::pace::Pace;
use super::sane::{self, Acknowledged, Asked};
use super::short_members::ShortMembers;
use super::wire::{self, WireError};
use super::{LogId, Peer, SnapshotData, TypeConfig, Vote, outgoing, planted};
use crate::metrics::Metrics;
use crate::peer::message::AppendResponse;
use crate::peer::{AppendTurns, Appending, CallError, Client, Clients};
use crate::types::MemberId;

type RpcError = RPCError<TypeConfig>;
/// What a pipelined append yields.
type Appended = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// The pauses openraft makes before it turns to an unreachable peer again. The connection has a
/// back-off of its own; asking it sooner costs nothing but the question.
const RETRY_AFTER: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// The same for a snapshot: each try makes a checkpoint of the store first.
const RESEND_AFTER: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Makes the connections to peers.
pub struct Peers {
    clients: Clients,
    member: MemberId,
    metrics: Arc<Metrics>,
    short: ShortMembers,
    /// What each has acknowledged to this member, as long as it leads.
    acknowledged: BTreeMap<u64, Arc<Mutex<Acknowledged>>>,
    /// The log that entries are read from.
    log: Option<LogView>,
}

impl Peers {
    /// The network of `member` over these connections.
    pub fn new(clients: Clients, member: MemberId, metrics: Arc<Metrics>) -> Peers {
        Peers {
            clients,
            member,
            metrics,
            short: ShortMembers::default(),
            acknowledged: BTreeMap::new(),
            log: None,
        }
    }

    /// The entries that are sent are read from this log.
    pub(super) fn send_from(&mut self, log: LogView) {
        self.log = Some(log);
    }

    /// The ways to ask them what they have promised.
    pub(super) fn promisers(&self) -> Promisers {
        Promisers::new(self.clients.clone())
    }

    /// Who says that it is short of room.
    pub(super) fn short_members(&self) -> ShortMembers {
        self.short.clone()
    }

    fn network(&mut self, target: u64, node: &Peer, purpose: Purpose) -> PeerNetwork {
        PeerNetwork {
            local: self.member.0,
            metrics: self.metrics.clone(),
            client: self.clients.member(MemberId(target), &node.peer_urls),
            purpose,
            turns: None,
            short: self.short.clone(),
            acknowledged: self.acknowledged.entry(target).or_default().clone(),
            log: self.log.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &Peer) -> PeerNetwork {
        self.network(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> PeerNetwork {
        self.network(target, node, Purpose::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Peer) -> PeerNetwork {
        self.network(target, node, Purpose::Snapshots)
    }
}

/// What a client of a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Entries, pipelined.
    Replication,
    /// One empty append at a time, on the connection that no entry delays.
    Heartbeats,
    /// Nothing: it sends snapshots.
    Snapshots,
}

/// The way to one peer.
pub struct PeerNetwork {
    local: u64,
    metrics: Arc<Metrics>,
    client: Client,
    purpose: Purpose,
    /// The stream the last heartbeat went over. One whose answer was not awaited is dropped.
    turns: Option<AppendTurns>,
    short: ShortMembers,
    acknowledged: Arc<Mutex<Acknowledged>>,
    log: Option<LogView>,
}

impl PeerNetwork {
    fn failed(&self, action: RPCTypes, error: CallError) -> RpcError {
        self.metrics.network.send_failed(self.client.target());
        // As in etcd, one to a member that is gone is none that came late.
        let is_late = matches!(error, CallError::TimedOut(_));
        if self.purpose == Purpose::Heartbeats && is_late {
            self.metrics.network.heartbeats_failed.inc();
        }
        match error {
            CallError::TimedOut(timeout) => RPCError::Timeout(Timeout {
                action,
                id: self.local,
                target: self.client.target().0,
                timeout,
            }),
            // It broke off a moment ago: worth an attempt at once.
            CallError::Broken(_) => RPCError::Network(NetworkError::new(&error)),
            CallError::Unreachable(_) | CallError::Refused(_) | CallError::Declined(_) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
        }
    }

    async fn ask(
        &mut self,
        request: &VoteRequest<TypeConfig>,
        pre_vote: bool,
        limit: Duration,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = wire::vote_request(request, pre_vote);
        let answered = self.client.vote(message, limit).await;
        let answer = answered.map_err(|error| self.failed(RPCTypes::Vote, error))?;
        let read = wire::read_vote_response(answer).and_then(|mut response| {
            let asked = request.vote.leader_id.term;
            response.vote = self.believed(response.vote, asked);
            sane::check_answered_vote(&response.vote, self.local, asked)?;
            Ok(response)
        });
        read.map_err(nonsense)
    }

    /// The vote of an answer of this peer's to what was asked in a term.
    fn believed(&self, vote: Vote, asked: u64) -> Vote {
        sane::answered_vote(vote, self.local, asked, self.client.target().0)
    }

    /// Reads the answer to an append.
    fn appended(
        &self,
        asked: &Asked,
        answer: AppendResponse,
    ) -> Result<StreamAppendResult<TypeConfig>, RpcError> {
        let read = wire::read_append_response(answer).and_then(|result| {
            let result = result.map_err(|error| match error {
                StreamAppendError::HigherVote(vote) => {
                    StreamAppendError::HigherVote(self.believed(vote, asked.term))
                }
                conflict => conflict,
            });
            let mut acknowledged = self.acknowledged.lock();
            acknowledged.check(asked, &result, self.local)?;
            Ok(result)
        });
        read.map_err(|error| match error {
            // Its log is an older one. It is told so where it asks, and this member's log says it once.
            WireError::Forgotten { .. } => {
                self.client.forgot();
                RPCError::Unreachable(Unreachable::new(&error))
            }
            error => nonsense(error),
        })
    }

    async fn one_append(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let asked = Asked::of(&request, &self.acknowledged);
        let failed = |network: &Self, error| network.failed(RPCTypes::AppendEntries, error);
        let turns = match self.turns.take() {
            Some(turns) => turns,
            None => {
                let opened = self.client.append_turns().await;
                opened.map_err(|error| failed(self, error))?
            }
        };
        let started = Instant::now();
        let turned = turns.turn(wire::append_request(request)).await;
        let (answer, turns) = turned.map_err(|error| failed(self, error))?;
        self.turns = turns;
        let round_trip = self.metrics.network.round_trip(self.client.target());
        round_trip.observe(started.elapsed().as_secs_f64());
        self.short.note(self.client.target(), answer.short_of_room);
        let result = self.appended(&asked, answer)?;
        Ok(wire::single_response(result, asked.last))
    }
}

/// Whether a request has no entries because those after its place are purged. A stream's first may have none by
/// right: it tells of a commit alone.
fn is_behind(request: &AppendEntriesRequest<TypeConfig>, purged: Option<LogId>) -> bool {
    request.entries.is_empty() && request.prev_log_id.next_index() < purged.next_index()
}

/// A peer that says nonsense is not asked again at once.
fn nonsense(error: WireError) -> RpcError {
    crate::log!(warn, "a peer's answer makes no sense", error = %error);
    RPCError::Unreachable(Unreachable::new(&error))
}

/// The answers of a pipelined append, up to the one that ends it.
fn answers(
    network: &PeerNetwork,
    appending: Appending,
    asked: Arc<Mutex<VecDeque<Asked>>>,
) -> BoxStream<'_, Appended> {
    let next = move |state: Option<(Appending, Arc<Mutex<VecDeque<Asked>>>)>| async move {
        let (mut appending, asked) = state?;
        let answer = match appending.next().await? {
            // Nothing is answered that was not asked: the transport has seen to that.
            Ok(message) => {
                let asked = asked.lock().pop_front().expect("each request is noted");
                network.appended(&asked, message)
            }
            Err(error) => match planted::counted(&asked) {
                Some(last) => Ok(Ok(last)),
                None => Err(network.failed(RPCTypes::AppendEntries, error)),
            },
        };
        let goes_on = matches!(answer, Ok(Ok(_)));
        Some((answer, goes_on.then_some((appending, asked))))
    };
    stream::unfold(Some((appending, asked)), next).boxed()
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let limit = option.soft_ttl();
        let answered = tokio::time::timeout(limit, self.one_append(rpc)).await;
        answered.unwrap_or_else(|_| {
            Err(self.failed(RPCTypes::AppendEntries, CallError::TimedOut(limit)))
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RpcError>>
    where
        S: futures_util::Stream<Item = AppendEntriesRequest<TypeConfig>>
            + OptionalSend
            + Unpin
            + 'static,
    {
        if self.purpose == Purpose::Heartbeats {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let network = &*self;
            // openraft pauses where it hands out a request, so one is taken before the peer is
            // turned to: without it, a peer that cannot be reached would be tried without a pause.
            let Some(first) = input.next().await else {
                return Ok(stream::empty().boxed());
            };
            // What a stream is to send may be purged under it, since any failure that openraft is told of lets it purge.
            // It has turned to a snapshot then, and looks what else to send only once the stream has ended.
            let log = network.log.clone();
            let goes_on = move |request: &AppendEntriesRequest<TypeConfig>| {
                let purged = log.as_ref().and_then(|log| log.known().purged);
                ready(!is_behind(request, purged))
            };
            let requests = stream::once(ready(first)).chain(input.take_while(goes_on));
            let asked: Arc<Mutex<VecDeque<Asked>>> = Arc::default();
            let (noted, acknowledged) = (asked.clone(), network.acknowledged.clone());
            let requests = requests.map(move |request| {
                let asks = Asked::of(&request, &acknowledged);
                noted.lock().push_back(asks);
                wire::append_request(request)
            });
            let requests = requests.boxed();
            let opened = network.client.append(requests).await;
            let appending =
                opened.map_err(|error| network.failed(RPCTypes::AppendEntries, error))?;
            Ok(answers(network, appending, asked))
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask(&rpc, false, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask(&rpc, true, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        // How long a snapshot takes depends on its size: `outgoing` watches that it goes on.
        let pace = Pace::new(self.metrics.wal_fsync.clone());
        let counted = self.metrics.network.sending(self.client.target());
        let (sender, last) = (vote, snapshot.meta.last_log_id);
        let index = last.map_or(0, |id| id.index());
        crate::log!(info, "sending database snapshot",
            "snapshot-index" = index, "remote-peer-id" = %self.client.target());
        let sending = outgoing::send(&self.client, self.local, &vote, snapshot, pace);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => {
                    counted.succeeded();
                    crate::log!(info, "sent database snapshot",
                        "snapshot-index" = index, "remote-peer-id" = %self.client.target());
                    let term = sender.leader_id.term;
                    self.acknowledged.lock().note(term, last);
                    Ok(SnapshotResponse::new(vote))
                }
                Err(error) => {
                    crate::log!(warn, "failed to send database snapshot", "snapshot-index" = index,
                        "remote-peer-id" = %self.client.target(), error = %error);
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = wire::transfer_request(&req);
        let answered = self
            .client
            .transfer_leader(message, option.soft_ttl())
            .await;
        let answer = answered.map_err(|error| self.failed(RPCTypes::TransferLeader, error))?;
        wire::read_transfer_response(answer).map_err(nonsense)
    }

    fn backoff(&self) -> Option<Backoff> {
        let (first, last) = match self.purpose {
            Purpose::Snapshots => (&RESEND_AFTER[..], Duration::from_secs(5)),
            Purpose::Replication | Purpose::Heartbeats => {
                (&RETRY_AFTER[..], Duration::from_secs(1))
            }
        };
        let pauses = first.iter().copied().chain(std::iter::repeat(last));
        Some(Backoff::new(pauses))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::log_id;
    use super::*;

    #[test]
    fn a_stream_ends_where_nothing_could_be_read_for_it() {
        let behind = |previous: Option<u64>, purged: Option<u64>| {
            let request = AppendEntriesRequest {
                vote: Vote::new_committed(1, 1),
                prev_log_id: previous.map(|index| log_id(1, index)),
                entries: Vec::new(),
                leader_commit: None,
            };
            is_behind(&request, purged.map(|index| log_id(1, index)))
        };
        assert!(behind(Some(60), Some(83)) && behind(None, Some(0)));
        // What follows is there, or will be.
        assert!(!behind(Some(83), Some(83)) && !behind(Some(90), Some(83)));
        assert!(!behind(None, None) && !behind(Some(3), None));
    }
}
