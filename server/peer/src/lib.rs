//! Members talking to members: the peer listener's service and the connections to other members.
//!
//! Owns the protocol (`engram.peer.v1` over gRPC), its handshake, its limits, and the connections
//! with their back-off. Must never know what a message means to consensus, name openraft, or let a
//! message through whose sender was not checked.
//!
//! - Everything runs on the runtime it was started on (the Raft thread's): no hop between threads.
//! - Three connections a peer, so that neither a big append nor a snapshot delays a heartbeat:
//!   replication, control (heartbeats, votes, questions), and one for snapshots while one is sent.
//! - Nothing is retried here. A call fails; whoever made it knows whether it may be made again.
//!
//! Invariants:
//! - P1: a message reaches the handler only after [`Directory`] knew its sender for a member (or
//!   admitted it), and sender and receiver agreed on cluster, ids, incarnations and protocol.
//! - P2: appends are answered in their order, and what is unanswered is bounded in count and bytes.

#![forbid(unsafe_code)]

mod activity;
mod append;
mod channel;
mod client;
mod clients;
mod dial;
mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod guests;
mod handshake;
mod http;
mod limits;
mod link;
mod promised;
mod server;
#[cfg(test)]
mod tests;

use engram_config as config;
use engram_net as net;
use engram_process::{log, threads};
use engram_types as types;

pub use activity::Seen;
pub use append::{AppendTurns, Appending};
pub use client::Client;
pub use clients::Clients;
pub use dial::{BoxedIo, Connection, Dial, PlainTcp};
pub use error::CallError;
pub use handshake::{PROTOCOL, Refusal};
pub use limits::{APPEND_BYTES_MAX, Limits};
pub use promised::Promises;
pub use server::{Server, serve};

/// The messages, plain data: what members say to each other.
pub use engram_proto::peer as message;
/// Why a member understood a request and did not do it.
pub use engram_proto::peer::Declined;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::types::{ClusterId, LeaseId, MemberId, Revision};

/// Who this member is. A joining member does not know its cluster and its id yet: both are 0 then,
/// and all it can do is ask for the members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub member: MemberId,
    /// Its data directory's incarnation.
    pub incarnation: u64,
}

/// What the member table says of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: never heard of, or added by an entry that is not applied here yet.
    Unknown,
    /// A member or learner. The incarnation of its data directory; 0 until it has published one.
    Member {
        /// See above.
        incarnation: u64,
    },
    /// It was a member and never will be again.
    Removed,
}

/// Who is who. Asked with every call, so it answers from memory.
pub trait Directory: Send + Sync + 'static {
    /// This member.
    fn local(&self) -> Local;

    /// What the member table says of `member`.
    fn standing(&self, member: MemberId) -> Standing;

    /// Whether a sender that the table does not know may speak. Only a member whose table lags
    /// behind the log can tell a newly added member from a stranger of the same cluster, and it
    /// cannot: refusing would keep it from ever catching up with a new leader. So: true, unless
    /// there is a reason (TLS identities, say).
    fn admit(&self, sender: MemberId) -> bool;

    /// Where this member's peers reach it now, URLs separated by commas: told with every call. Empty
    /// says nothing.
    fn listens(&self) -> Arc<str> {
        Arc::from("")
    }

    /// A member that is who it says it is (its incarnation is the table's) told where it is reached
    /// now. Not looked at yet, but for its length.
    fn heard(&self, _sender: MemberId, _listens: &str) {}

    /// A member does not hold what it had acknowledged to this one: it is not heard any more.
    fn forgot(&self, _member: MemberId) {}

    /// Whether that was said of a member.
    fn has_forgotten(&self, _member: MemberId) -> bool {
        false
    }

    /// A peer refused to hear this member. [`Refusal::SenderRemoved`], [`Refusal::SenderReplaced`],
    /// [`Refusal::SenderForgot`] mean that it must stop: it is no member (any more).
    fn refused(&self, by: MemberId, refusal: Refusal);
}

/// What a member does for its peers. Requests have passed the handshake; batches, entries and
/// pieces in them are unchecked.
pub trait PeerHandler: Send + Sync + 'static {
    /// Appends in order; the answers end with the requests, or after a conflict or higher vote.
    fn append(
        &self,
        requests: BoxStream<'static, message::AppendRequest>,
    ) -> BoxStream<'static, message::AppendResponse>;

    /// Answers a vote request or, with `pre_vote`, the question.
    fn vote(
        &self,
        request: message::VoteRequest,
    ) -> impl Future<Output = Result<message::VoteResponse, Declined>> + Send;

    /// The member's last vote, durably. Cheap: a leader asks for the sake of reads.
    fn promised(&self) -> message::PromisedResponse;

    /// Receives and installs a snapshot. `parts` yields `Err` where the stream broke.
    fn install_snapshot(
        &self,
        parts: BoxStream<'static, Result<message::SnapshotPart, CallError>>,
    ) -> impl Future<Output = Result<message::SnapshotAnswer, Declined>> + Send;

    /// Takes over leadership, or lets another member take it.
    fn transfer_leader(
        &self,
        request: message::TransferLeaderRequest,
    ) -> impl Future<Output = Result<message::TransferLeaderResponse, Declined>> + Send;

    /// Proposes an encoded batch; returns once it is applied here, or at least committed.
    fn propose(&self, batch: Bytes) -> impl Future<Output = Result<(), Declined>> + Send;

    /// The index up to which a linearizable read must wait, confirmed with a quorum.
    fn read_index(&self) -> impl Future<Output = Result<u64, Declined>> + Send;

    /// Renews a lease; its time to live, seconds.
    fn lease_keep_alive(&self, id: LeaseId) -> impl Future<Output = Result<i64, Declined>> + Send;

    /// What is left of a lease, and with `keys` the keys attached.
    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> impl Future<Output = Result<message::LeaseTimeToLiveResponse, Declined>> + Send;

    /// The leases.
    fn leases(&self) -> impl Future<Output = Result<Vec<LeaseId>, Declined>> + Send;

    /// The hash of this member's store at a revision; 0 is the latest.
    fn hash_kv(
        &self,
        revision: Revision,
    ) -> impl Future<Output = Result<message::HashKvResponse, Declined>> + Send;

    /// The member table.
    fn members(&self) -> message::MembersResponse;

    /// Changes the membership; the members after it.
    fn change_members(
        &self,
        change: message::ChangeMembersRequest,
    ) -> impl Future<Output = Result<Vec<message::Member>, Declined>> + Send;

    /// Hands leadership to `to`; returns once it leads.
    fn move_leader(&self, to: MemberId) -> impl Future<Output = Result<(), Declined>> + Send;

    /// The versions that `/version` tells: the cluster's and the storage's.
    fn versions(&self) -> (Option<String>, Option<String>);

    /// Whether a downgrade is under way, which `/downgrade/enabled` tells.
    fn is_downgrading(&self) -> bool;
}
