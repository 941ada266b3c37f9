//! Requests, decoded: what etcd's messages mean, free of the wire.
//!
//! `codec` is the one room that makes these from protobuf; a request that reached here is
//! well-formed (no unknown enum value, no empty operation), but not yet valid in the store.

use bytes::Bytes;

use super::auth::{AuthOp, Identity};
use super::{KeyRange, LeaseId, MemberId, within};

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key (the order of the store).
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value.
    Value,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Unsorted. With a target other than the key, the limit is applied first, in key order, and
    /// what is left is sorted ascending (etcd's quirk).
    #[default]
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// `RangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The keys asked for.
    pub range: KeyRange,
    /// The most key-values to return; 0 or less is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the latest.
    pub revision: i64,
    /// Sort order.
    pub sort_order: SortOrder,
    /// Sort target.
    pub sort_target: SortTarget,
    /// Whether the local state will do, however old.
    pub serializable: bool,
    /// Leave out values.
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
    /// Lowest mod revision to return; 0 is no bound.
    pub min_mod_revision: i64,
    /// Highest mod revision to return; 0 is no bound.
    pub max_mod_revision: i64,
    /// Lowest create revision to return; 0 is no bound.
    pub min_create_revision: i64,
    /// Highest create revision to return; 0 is no bound.
    pub max_create_revision: i64,
}

impl Range {
    /// All of `range` at the latest revision, with every option at its default.
    #[inline]
    pub fn all(range: KeyRange) -> Range {
        Range {
            range,
            limit: 0,
            revision: 0,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            serializable: false,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// Whether key-values are left out by their revisions.
    #[inline]
    pub fn has_revision_filter(&self) -> bool {
        [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ]
        .iter()
        .any(|bound| *bound != 0)
    }
}

/// `PutRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key; not empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach; none detaches.
    pub lease: LeaseId,
    /// Return the previous key-value.
    pub prev_kv: bool,
    /// Keep the current value (the key must exist).
    pub ignore_value: bool,
    /// Keep the current lease (the key must exist).
    pub ignore_lease: bool,
}

/// `DeleteRangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys to delete.
    pub range: KeyRange,
    /// Return the deleted key-values.
    pub prev_kv: bool,
}

/// How a compare relates the stored value to the given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// `==`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `!=`
    NotEqual,
}

/// What a compare looks at, with the value to compare to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

/// One `Compare`: holds if every key of the range satisfies it. An absent key compares as zeros,
/// and never satisfies a compare of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The keys looked at.
    pub range: KeyRange,
    /// The relation.
    pub result: CompareResult,
    /// The attribute and the value it is compared to.
    pub target: CompareTarget,
}

/// One operation of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Read.
    Range(Range),
    /// Write.
    Put(Put),
    /// Delete.
    DeleteRange(DeleteRange),
    /// A transaction within.
    Txn(Txn),
}

impl Clone for TxnOp {
    fn clone(&self) -> TxnOp {
        match self {
            TxnOp::Range(range) => TxnOp::Range(range.clone()),
            TxnOp::Put(put) => TxnOp::Put(put.clone()),
            TxnOp::DeleteRange(delete) => TxnOp::DeleteRange(delete.clone()),
            TxnOp::Txn(inner) => TxnOp::Txn(within(|| inner.clone())),
        }
    }
}

impl Drop for TxnOp {
    fn drop(&mut self) {
        if let TxnOp::Txn(inner) = self {
            within(|| drop(std::mem::take(inner)));
        }
    }
}

/// `TxnRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success` to run; none given means they hold.
    pub compare: Vec<Compare>,
    /// Run if the compares hold.
    pub success: Vec<TxnOp>,
    /// Run otherwise.
    pub failure: Vec<TxnOp>,
}

impl Txn {
    /// Whether the transaction, whichever way it goes, writes nothing.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            TxnOp::Range(_) => true,
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
            TxnOp::Txn(inner) => within(|| inner.is_read_only()),
        })
    }

    /// Whether every read in it may be answered from local state.
    pub fn is_serializable(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            TxnOp::Range(range) => range.serializable,
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
            TxnOp::Txn(inner) => within(|| inner.is_serializable()),
        })
    }

    /// The latest revision that a range in it names; 0 or less where each reads the latest.
    pub fn latest_revision(&self) -> i64 {
        let revisions = self.success.iter().chain(&self.failure).map(|op| match op {
            TxnOp::Range(range) => range.revision,
            TxnOp::Put(_) | TxnOp::DeleteRange(_) => 0,
            TxnOp::Txn(inner) => within(|| inner.latest_revision()),
        });
        revisions.max().unwrap_or(0)
    }

    /// Whether transactions within it nest deeper than `levels`. Goes no deeper itself.
    pub fn nests_deeper_than(&self, levels: usize) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            TxnOp::Txn(inner) => levels == 0 || inner.nests_deeper_than(levels - 1),
            TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) => false,
        })
    }

    /// Whether every range in it is one key, and nothing is nested.
    fn is_of_few_keys(&self) -> bool {
        let mut ops = self.success.iter().chain(&self.failure);
        self.compare.iter().all(|compare| compare.range.is_single())
            && ops.all(|op| match op {
                TxnOp::Range(range) => range.range.is_single(),
                TxnOp::Put(_) => true,
                TxnOp::DeleteRange(delete) => delete.range.is_single(),
                TxnOp::Txn(_) => false,
            })
    }

    /// Whether either branch holds a put, which NOSPACE refuses.
    pub fn has_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            TxnOp::Put(_) => true,
            TxnOp::Range(_) | TxnOp::DeleteRange(_) => false,
            TxnOp::Txn(inner) => within(|| inner.has_put()),
        })
    }
}

/// `CompactionRequest`. Whether the caller waits for the reclaim (`physical`) is the edge's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// Revisions below this one, superseded at it, may go.
    pub revision: i64,
}

/// `LeaseGrantRequest`, with the id chosen (by the client, else by the proposer) and the time to
/// live raised to the server's minimum by the proposer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The id; never [`LeaseId::NONE`].
    pub id: LeaseId,
    /// Time to live, seconds.
    pub ttl_seconds: i64,
}

/// An alarm's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmType {
    /// The store has reached its quota: puts and grants are refused.
    NoSpace,
    /// The member's data differs from the others': writes are refused.
    Corrupt,
}

impl AlarmType {
    /// The name as etcd's clients, pages and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            AlarmType::NoSpace => "NOSPACE",
            AlarmType::Corrupt => "CORRUPT",
        }
    }
}

/// A change of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Raise it for the member. Raising twice is once.
    Activate(MemberId, AlarmType),
    /// Clear it for the member.
    Deactivate(MemberId, AlarmType),
}

/// What a member tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberAttributes {
    /// Its name (`--name`).
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The latest rules by which it can apply a batch; 0 where it is of a release that does not say.
    pub apply_version: u32,
}

/// One operation of a Raft entry: everything that changes the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A put.
    Put(Put),
    /// A delete.
    DeleteRange(DeleteRange),
    /// A transaction that may write.
    Txn(Txn),
    /// A compaction.
    Compact(Compact),
    /// A new lease.
    LeaseGrant(LeaseGrant),
    /// Revokes a lease and deletes its keys, in one revision.
    LeaseRevoke(LeaseId),
    /// Raises or clears an alarm.
    Alarm(Alarm),
    /// A member's attributes, published when it has started. Carries the data directory's random
    /// incarnation, so that a wiped member cannot come back under its old id.
    PublishMember {
        /// Who.
        member: MemberId,
        /// The data directory's incarnation.
        incarnation: u64,
        /// What it tells.
        attributes: MemberAttributes,
    },
    /// The version every member can speak ("3.7.0").
    SetClusterVersion(String),
    /// A change of users and roles.
    Auth(AuthOp),
    /// An operation of somebody's, asked for while authentication was on. Never nested.
    By(Box<Asked>),
}

/// An operation and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub by: Identity,
    /// What.
    pub op: Op,
}

impl Op {
    /// The operation itself, whoever asks.
    pub fn bare(&self) -> &Op {
        match self {
            Op::By(asked) => &asked.op,
            op => op,
        }
    }

    /// Who asks, where that was said.
    pub fn by(&self) -> Option<&Identity> {
        match self {
            Op::By(asked) => Some(&asked.by),
            _ => None,
        }
    }

    /// Whether it looks at a few keys, and no more, whatever the store holds: what it costs follows from
    /// its bytes.
    pub fn is_of_few_keys(&self) -> bool {
        match self.bare() {
            Op::Put(_) | Op::LeaseGrant(_) => true,
            Op::DeleteRange(delete) => delete.range.is_single(),
            Op::Txn(txn) => txn.is_of_few_keys(),
            _ => false,
        }
    }

    /// Whether builds that know no users could not apply it as it is meant.
    pub fn needs_users(&self) -> bool {
        matches!(self, Op::By(_) | Op::Auth(_))
    }
}
