//! What a client did and what it was told.

use engram_proto::mvccpb::KeyValue;

use super::Moment;

/// What a client asked for. Values are unique in the whole history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// One put.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The lease, 0 for none.
        lease: i64,
    },
    /// "If `key` was last modified at `expected` (0: is absent), put the value in it and, if named,
    /// in another key; else read it."
    Swap {
        /// The key.
        key: String,
        /// Its expected modification revision.
        expected: i64,
        /// The value.
        value: String,
        /// The second key.
        other: Option<String>,
    },
    /// A delete of one key.
    Delete {
        /// The key.
        key: String,
    },
    /// A linearizable read of one key.
    Get {
        /// The key.
        key: String,
    },
    /// A linearizable read of all keys from `from` to before `to`.
    List {
        /// The first key.
        from: String,
        /// The first key behind them.
        to: String,
    },
    /// A serializable read of one key: it may be of the past.
    Peek {
        /// The key.
        key: String,
    },
    /// A lease under an id of the client's choice, far from expiring.
    Grant {
        /// The id.
        lease: i64,
    },
    /// The end of a lease and of its keys.
    Revoke {
        /// The id.
        lease: i64,
    },
}

impl Action {
    /// Whether it can change nothing.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Get { .. } | Self::List { .. } | Self::Peek { .. }
        )
    }

    /// The unique value that it writes.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Put { value, .. } | Self::Swap { value, .. } => Some(value),
            _ => None,
        }
    }
}

/// A key as an answer or an event showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Revision of the put that made the key.
    pub created: i64,
    /// Revision of its last put.
    pub modified: i64,
    /// Puts since it was made.
    pub version: i64,
    /// Its lease, 0 for none.
    pub lease: i64,
}

impl Kv {
    /// What a message says.
    pub fn of(kv: &KeyValue) -> Self {
        Self {
            key: String::from_utf8_lossy(&kv.key).into_owned(),
            value: String::from_utf8_lossy(&kv.value).into_owned(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// What a served operation was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The revision that the header states.
    pub revision: i64,
    /// Whether a swap's condition held.
    pub succeeded: bool,
    /// How many keys a delete removed.
    pub deleted: i64,
    /// The keys read.
    pub kvs: Vec<Kv>,
}

/// What became of an operation, as far as its client knows.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was served.
    Done(Answer),
    /// It was refused and has changed nothing.
    Refused(String),
    /// It may have happened, wholly, or not at all, or may still happen.
    Unknown(String),
}

/// One line of the history.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who did it: one client does one thing at a time. After an unknown outcome it goes on as
    /// another, since the first may still be at it.
    pub client: usize,
    /// The place of the member that was asked.
    pub member: usize,
    /// What was asked.
    pub action: Action,
    /// When.
    pub call: Moment,
    /// When the client stopped waiting.
    pub back: Moment,
    /// What it was told.
    pub outcome: Outcome,
}

impl Operation {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Done(answer) => Some(answer),
            _ => None,
        }
    }

    /// Whether it may have happened without an answer.
    pub fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_)) && !self.action.is_read()
    }
}
