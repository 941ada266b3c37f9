//! Results: what `state` answers, free of the wire. `codec` turns them into etcd's messages.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::auth::{AuthError, Secret};
use super::request::{self, AlarmType};
use super::{LeaseId, MemberId, Revision, RevisionPair, within};

/// One key-value of a range.
#[derive(Clone, Debug)]
pub enum Item {
    /// An encoded `mvccpb.KeyValue`, to be spliced into the answer as it is.
    Encoded(Bytes),
    /// An encoded key-value shared with the index.
    Stored(super::Stored),
}

impl Item {
    /// The encoded key-value on its own: shared where it can be, else copied.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Item::Encoded(bytes) => bytes,
            Item::Stored(stored) => Bytes::copy_from_slice(stored.as_ref()),
        }
    }
}

impl AsRef<[u8]> for Item {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Item::Encoded(bytes) => bytes,
            Item::Stored(stored) => stored.as_ref(),
        }
    }
}

/// Key-values that are too many to be read at once, and so are not in the answer itself.
#[derive(Clone, Debug)]
pub enum Away {
    /// Not read yet.
    Later(Later),
    /// Beside the answer, page after page.
    Run(Run),
}

/// A read that is left for later: what it sees is settled, whatever is written meanwhile.
#[derive(Clone, Debug)]
pub struct Later {
    /// What is asked for. Its revision is said by `below`.
    pub query: request::Range,
    /// It sees every change before this one.
    pub below: RevisionPair,
    /// How many keys the range holds there, where that was known at no cost.
    pub count: Option<i64>,
}

/// Encoded key-values beside an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The bytes they take as fields of the answer's message.
    pub bytes: usize,
}

/// What keeps a revision readable as long as it lives.
#[derive(Clone)]
pub struct Kept(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// The answer of a range.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// The revision for its header within a transaction's answer: the store's own, plus one once
    /// the transaction has written. (A nested transaction's header is present and empty.)
    pub revision: Revision,
    /// The key-values, in order.
    pub items: Vec<Item>,
    /// Whether more matched than the limit let through.
    pub more: bool,
    /// How many keys the range holds at the revision, whatever limit and filters say.
    pub count: i64,
    /// Where the key-values are, if they are not in `items`. For a read that is left for later,
    /// `more` and `count` say nothing yet.
    pub away: Option<Box<Away>>,
}

/// The answer of a put.
#[derive(Clone, Debug, Default)]
pub struct Put {
    /// The revision for its header within a transaction's answer: the store's own, plus one once
    /// the transaction has written. (A nested transaction's header is present and empty.)
    pub revision: Revision,
    /// The encoded key-value that was replaced, if asked for and there was one.
    pub prev_kv: Option<Bytes>,
}

/// The answer of a delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteRange {
    /// The revision for its header within a transaction's answer: the store's own, plus one once
    /// the transaction has written. (A nested transaction's header is present and empty.)
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: i64,
    /// The encoded key-values deleted, if asked for, in key order.
    pub prev_kvs: Vec<Bytes>,
    /// Where they are, if they are not in `prev_kvs`.
    pub away: Option<Box<Away>>,
}

/// The answer of one operation of a transaction.
#[derive(Clone, Debug)]
pub enum TxnOp {
    /// Of a range.
    Range(Range),
    /// Of a put.
    Put(Put),
    /// Of a delete.
    DeleteRange(DeleteRange),
    /// Of a transaction within.
    Txn(Txn),
}

impl Drop for TxnOp {
    fn drop(&mut self) {
        if let TxnOp::Txn(inner) = self {
            within(|| drop(std::mem::take(inner)));
        }
    }
}

/// The answer of a transaction.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer an operation of the branch taken.
    pub responses: Vec<TxnOp>,
}

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Whose.
    pub member: MemberId,
    /// Which.
    pub alarm: AlarmType,
}

/// What applying an [`Op`](super::request::Op) answered.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Of a put.
    Put(Put),
    /// Of a delete.
    DeleteRange(DeleteRange),
    /// Of a transaction.
    Txn(Txn),
    /// Of a compaction, a revocation or an internal change: nothing but the header.
    Done,
    /// Of a grant.
    LeaseGrant {
        /// The lease.
        id: LeaseId,
        /// Its time to live, seconds.
        ttl_seconds: i64,
    },
    /// Of an alarm's change: the alarm raised (again, where it was raised already) or cleared;
    /// none, where the one to clear was not raised.
    Alarm(Vec<Alarm>),
    /// Of an authentication: the simple token's first part; after it comes the entry's index.
    Token(Secret),
}

/// Why applying an operation changed nothing. Each variant is one of etcd's errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The revision asked for is below the compact revision.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision asked for has not happened yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The lease does not exist.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The lease exists already.
    #[error("lease already exists")]
    LeaseExists,
    /// The NOSPACE alarm is raised.
    #[error("database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is raised.
    #[error("corrupt cluster")]
    Corrupt,
    /// An alarm was to be raised for somebody who is no member.
    #[error("member not found")]
    MemberNotFound,
    /// Whoever asks may not, or users and roles are not so that it could be done.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// The outcome of one operation, with the store's revision after it (for the header).
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The store's revision once the operation was applied.
    pub revision: Revision,
    /// What it answered.
    pub result: Result<Applied, ApplyError>,
    /// The lowest revision that a read left for later needs ([`Later`]).
    pub later: Option<Revision>,
    /// What keeps that one readable.
    pub kept: Option<Kept>,
}

impl Outcome {
    /// An outcome that leaves nothing for later.
    #[inline]
    pub fn new(revision: Revision, result: Result<Applied, ApplyError>) -> Outcome {
        Outcome {
            revision,
            result,
            later: None,
            kept: None,
        }
    }
}
