//! Consensus: openraft behind a narrow door. The only room that names it.
//!
//! Owns the type configuration, the log store (over `wal`), the state machine adapter (over the
//! apply thread), the network to peers and the node's handle ([`Consensus`]). A batch of requests
//! goes in; when it is committed, the apply thread applies it and tells [`Applied`] the outcomes.
//!
//! Must never: look into a request, answer a client, or hold up openraft's core (votes, truncation
//! and purging are quick; applying happens on a thread of its own).
//!
//! Invariants
//! - I1: an entry is reported flushed only after the log's fdatasync, but for requests to a member that is the whole
//!   cluster (`alone`): nobody else hears of their commit, and they are applied after it all the same (I2).
//! - I2: entries are applied in order, each index once: `index == applied + 1`, or the process ends.
//!   None is applied before it is durable in this member's own log (`durable`).
//! - I3: the log is purged only below what the engine has persisted.

mod alone;
mod apply;
mod batch;
mod carry;
mod confirm;
mod consensus;
mod contact;
mod durable;
mod entry;
#[cfg(feature = "fixtures")]
pub mod fixture;
mod following;
mod force;
mod incoming;
mod later;
mod log_store;
mod marks;
mod network;
mod outgoing;
mod pace;
mod planted;
mod reconfigure;
mod revoking;
mod sane;
mod serve;
mod short_members;
mod snapshot;
mod state_machine;
mod wire;

pub use apply::{Applied, ApplyStats, ApplyThread};
pub use batch::Batch;
pub use carry::{Carried, Payload};
pub use consensus::{
    Consensus, ConsensusOptions, Leadership, LeadershipChanges, ProposeRefused, StartError,
};
pub use entry::{first_membership, membership_of, voted_term};
pub use later::Later;
pub use log_store::LogStore;
pub use marks::LogRefused;
pub use network::Peers;
pub use reconfigure::{Configuration, ReconfigureError, Replication};
pub use snapshot::SnapshotData;

use openraft::impls::leader_id_std;

/// Where a member's peers reach it, as openraft's membership holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// A learner that shall vote as soon as it has caught up.
    pub pending_voter: bool,
}

openraft::declare_raft_types!(
    /// openraft with a batch of requests an entry and standard leader ids (one leader a term).
    /// Its defaults do for the rest: tokio, and a responder that tells of the commit.
    pub TypeConfig:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = Peer,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
type Membership = openraft::Membership<u64, Peer>;
type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
type Raft = openraft::Raft<TypeConfig, state_machine::StateMachine>;
