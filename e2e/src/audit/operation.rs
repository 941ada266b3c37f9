//! What a client did and what it was told.

use std::time::Instant;

use engram_proto::mvccpb::{KeyValue, event::EventType};

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was written.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The lease, 0 for none.
        lease: i64,
    },
    /// The key was deleted.
    Delete {
        /// The key.
        key: String,
    },
}

impl Change {
    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    /// What a watch event tells.
    pub fn of_event(kind: EventType, kv: &KeyValue) -> Self {
        let key = text(&kv.key);
        match kind {
            EventType::Delete => Self::Delete { key },
            EventType::Put => Self::Put {
                key,
                value: text(&kv.value),
                lease: kv.lease,
            },
        }
    }
}

/// Keys and values of the audit are text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub enum Operation {
    /// One put. The value is unique in the whole audit.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The lease, 0 for none.
        lease: i64,
    },
    /// "If `guard` was last modified at `expected`, put the value in both keys, else read `guard`."
    Swap {
        /// The first key.
        guard: String,
        /// Its expected modification revision, 0: absent.
        expected: i64,
        /// The second key.
        other: String,
        /// The value, unique in the whole audit.
        value: String,
    },
    /// One delete of one key.
    Delete {
        /// The key.
        key: String,
    },
    /// A lease under an id of the client's choice.
    Grant {
        /// The id.
        lease: i64,
        /// Seconds.
        ttl: i64,
    },
    /// The end of a lease and of its keys.
    Revoke {
        /// The id.
        lease: i64,
    },
    /// A linearizable read.
    Get {
        /// The key.
        key: String,
    },
}

/// A key as an answer showed it: modification revision and value, or absent.
pub type Seen = Option<(i64, String)>;

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It changed something, at this revision.
    Changed(i64),
    /// It changed nothing, and showed a key as it was at this revision.
    Observed(i64, Seen),
    /// It was done and changed no key (a grant, a revoke of a lease without keys).
    Done,
    /// No answer: it may have happened, wholly, or not.
    Unknown,
}

/// One line of the books.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was asked.
    pub operation: Operation,
    /// The highest revision that anybody had been told before this was sent.
    pub floor: i64,
    /// When it was sent.
    pub sent: Instant,
    /// What was told.
    pub outcome: Outcome,
}
