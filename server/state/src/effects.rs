//! What applying an operation leaves behind: changes to write, events to publish. `state` itself
//! does neither; the apply thread hands changes to `storage` in one atomic batch and, once they are
//! in, events to the watch hub.

use bytes::Bytes;

use crate::types::auth::{Role, User};
use crate::types::request::{AlarmType, MemberAttributes};
use crate::types::{LeaseId, MemberId, Revision, RevisionPair, Stored};

/// One change of a key, as `storage` holds it: the history of the store is the sequence of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    /// When.
    pub pair: RevisionPair,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The encoded `mvccpb.KeyValue` (of a tombstone: the key alone).
    pub encoded: Bytes,
}

/// A record where it lies: read, and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'r> {
    /// When.
    pub pair: RevisionPair,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// As [`RevisionRecord::encoded`].
    pub encoded: &'r [u8],
}

impl RevisionRecord {
    /// The record, lent.
    pub fn lent(&self) -> RecordRef<'_> {
        RecordRef {
            pair: self.pair,
            tombstone: self.tombstone,
            encoded: &self.encoded,
        }
    }
}

impl RecordRef<'_> {
    /// The record, kept.
    pub fn kept(self) -> RevisionRecord {
        RevisionRecord {
            pair: self.pair,
            tombstone: self.tombstone,
            encoded: Bytes::copy_from_slice(self.encoded),
        }
    }
}

/// A change of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a revision.
    PutRevision(RevisionRecord),
    /// Drops a superseded revision (compaction).
    DeleteRevision(RevisionPair),
    /// Sets the store's revision.
    SetRevision(Revision),
    /// A compaction was asked for at this revision.
    SetCompactScheduled(Revision),
    /// The garbage of the compaction at this revision is gone.
    SetCompactFinished(Revision),
    /// Nothing that was superseded after this revision is reclaimed, though it is compacted beyond it; none: whatever
    /// the last compaction asked for may be gone.
    SetWholeAfter(Option<Revision>),
    /// Adds a lease, seconds to live.
    PutLease(LeaseId, i64),
    /// Drops a lease.
    DeleteLease(LeaseId),
    /// Raises an alarm.
    PutAlarm(MemberId, AlarmType),
    /// Clears an alarm.
    DeleteAlarm(MemberId, AlarmType),
    /// Adds or replaces a member.
    PutMember(MemberRecord),
    /// Marks a member as removed for good: its id is never used again.
    RemoveMember(MemberId),
    /// Sets the cluster version ("3.7.0").
    SetClusterVersion(String),
    /// Sets whether authentication is on, and the auth revision.
    SetAuth {
        /// Whether it is on.
        enabled: bool,
        /// The auth revision.
        revision: u64,
    },
    /// Adds or replaces a user.
    PutUser(User),
    /// Drops a user.
    DeleteUser(String),
    /// Adds or replaces a role.
    PutRole(Role),
    /// Drops a role.
    DeleteRole(String),
}

impl Change {
    /// Whether it is one of the members, the alarms, the version, the users or roles.
    pub fn concerns_cluster(&self) -> bool {
        matches!(
            self,
            Change::PutAlarm(..)
                | Change::DeleteAlarm(..)
                | Change::PutMember(_)
                | Change::RemoveMember(_)
                | Change::SetClusterVersion(_)
                | Change::SetAuth { .. }
        )
    }
}

/// A member as a Raft configuration names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberNode {
    /// Its id.
    pub id: MemberId,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it is a learner: it has no vote, and is not about to get one.
    pub learner: bool,
}

/// A member of the cluster as the store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its id.
    pub id: MemberId,
    /// The incarnation of its data directory, 0 until it has published itself.
    pub incarnation: u64,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub learner: bool,
    /// What it tells of itself; empty until it has started.
    pub attributes: MemberAttributes,
}

/// The value a key had before an event.
#[derive(Clone, Debug)]
pub enum Previous {
    /// The key did not exist.
    None,
    /// The encoded key-value, at hand.
    Known(Stored),
    /// In storage, at this revision.
    At(RevisionPair),
}

/// One change, as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub pair: RevisionPair,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The key.
    pub key: Bytes,
    /// The encoded `mvccpb.KeyValue` of the event (of a delete: key and mod revision).
    pub encoded: Bytes,
    /// What was there before.
    pub previous: Previous,
}

/// What the reads of one operation may look at while others wait; beyond it they are left for later
/// ([`Later`](crate::types::result::Later)). What a store answers does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Keys that may still be looked at.
    pub keys: usize,
    /// Bytes of key-values that may still be taken.
    pub bytes: usize,
    /// Whether the reader looks at a revision of the past, of which the index tells nothing at once.
    pub past: bool,
    /// The lowest revision that a read left for later needs.
    pub later: Option<Revision>,
}

impl Meter {
    /// What one operation may look at: well below a millisecond of work.
    pub const OPERATION: Meter = Meter {
        keys: 1000,
        bytes: 512 << 10,
        past: false,
        later: None,
    };
    /// Everything is left for later.
    pub const NOTHING: Meter = Meter {
        keys: 0,
        bytes: 0,
        past: true,
        later: None,
    };

    /// Takes what a read looks at, if there is as much.
    pub(super) fn take(&mut self, keys: usize, bytes: usize) -> bool {
        let fits = keys <= self.keys && bytes <= self.bytes;
        if fits {
            self.keys -= keys;
            self.bytes -= bytes;
        }
        fits
    }

    /// A read at this revision is left for later.
    pub(super) fn leave(&mut self, at: Revision) {
        self.later = Some(self.later.map_or(at, |lowest| lowest.min(at)));
    }
}

/// The effects of a batch, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be written, all or nothing.
    pub changes: Vec<Change>,
    /// To be published once written.
    pub events: Vec<Event>,
}

/// Reads of stored revisions. An engine that cannot read ends the process (a damaged store is never
/// papered over), so there is no error to return.
pub trait Values {
    /// The record at `pair`, or none where compaction has dropped it.
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord>;

    /// The records at `pairs`, in that order; cheaper than one by one when `pairs` ascend.
    fn get_many(&self, pairs: &[RevisionPair]) -> Vec<Option<RevisionRecord>> {
        pairs.iter().map(|pair| self.get(*pair)).collect()
    }

    /// Calls `visit` with every record from `from` on, ascending, until it returns false.
    fn scan(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool);
}
