//! What a member is made of, in the parts that are handed on together.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::config::AutoCompaction;
use crate::node::barrier::Barrier;
use crate::node::corruption::Checks;
use crate::node::directory::MemberDirectory;
use crate::node::leadership::LeadershipCell;
use crate::node::lessor::Lessor;
use crate::node::serve::PeerListener;
use crate::peer::{self, BoxedIo, Dial, Local};
use crate::propose::Proposer;
use crate::raft::LogStore;
use crate::store::Store;
use crate::wal::Keep;

/// What everything that a member does goes by. Clones are one.
#[derive(Clone)]
pub struct Parts {
    pub local: Local,
    pub store: Arc<Store>,
    pub log: LogStore,
    pub proposer: Proposer,
    pub lessor: Arc<Lessor>,
    pub leadership: Arc<LeadershipCell>,
    pub barrier: Barrier,
}

/// Connections from peers, accepted elsewhere.
pub type Arrivals = UnboundedReceiver<BoxedIo>;

/// How peers are reached, and how they reach this member.
pub struct Roads {
    pub listeners: Vec<PeerListener>,
    pub dial: Arc<dyn Dial>,
    pub arrivals: Option<Arrivals>,
    pub directory: Arc<MemberDirectory>,
    pub limits: peer::Limits,
    /// Where their snapshots are received.
    pub incoming: PathBuf,
}

/// What is done again and again, and how often.
#[derive(Clone)]
pub struct Routine {
    pub auto_compaction: AutoCompaction,
    pub checks: Checks,
    pub snapshot_count: u64,
    /// What of the log is kept for members that lag.
    pub keep: Keep,
    /// The bytes up to which it is held for those that are catching up.
    pub log_held_bytes: u64,
}
