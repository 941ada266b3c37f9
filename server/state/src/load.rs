//! Rebuilding the state from what storage held.

use std::error::Error;
use std::sync::Arc;

use crate::types::result::Alarm;
use crate::types::{KeyValueError, LeaseId, MemberId, Revision, RevisionPair};

use super::auth::{Auth, AuthTables};
use super::effects::MemberRecord;
use super::mvcc::{Loaded, Loader};
use super::{Alarms, Leases, Limits, Members, State};

/// What storage holds beside the key-values.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The store's revision, once it has written any.
    pub revision: Option<Revision>,
    /// The compaction last asked for.
    pub compact_scheduled: Option<Revision>,
    /// The compaction whose garbage is gone.
    pub compact_finished: Option<Revision>,
    /// After where nothing is reclaimed, where that is before the last compaction.
    pub whole_after: Option<Revision>,
    /// Leases with their time to live in seconds.
    pub leases: Vec<(LeaseId, i64)>,
    /// Raised alarms.
    pub alarms: Vec<Alarm>,
    /// The members.
    pub members: Vec<MemberRecord>,
    /// Ids that once were members.
    pub removed: Vec<MemberId>,
    /// The cluster version ("3.7.0").
    pub cluster_version: Option<String>,
    /// Users, roles and the switch.
    pub auth: AuthTables,
}

/// Why the state could not be rebuilt. Every one but [`LoadError::Storage`] means that the data
/// directory is damaged.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A record is not a key-value.
    #[error(
        "the record at revision {}.{} is damaged ({source}): replace this member, or restore it \
         from a snapshot", pair.main, pair.sub
    )]
    Damaged {
        /// Which.
        pair: RevisionPair,
        /// What is wrong with it.
        source: KeyValueError,
    },
    /// A record that does not begin with its key, or a put of another revision or of a version that
    /// no store writes.
    #[error(
        "the record at revision {}.{} makes no sense: replace this member, or restore it from a \
         snapshot", pair.main, pair.sub
    )]
    Nonsense {
        /// Which.
        pair: RevisionPair,
    },
    /// A record not above the one before it.
    #[error("the record at revision {}.{} is out of order: replace this member", pair.main, pair.sub)]
    OutOfOrder {
        /// Which.
        pair: RevisionPair,
    },
    /// A record or a compaction above the store's revision, which is written in the same batch.
    #[error(
        "revision {found} is stored but the store's revision is {revision}: replace this member, \
         or restore it from a snapshot"
    )]
    BeyondRevision {
        /// The revision that should not be there.
        found: Revision,
        /// The store's.
        revision: Revision,
    },
    /// A revision from which nobody can count on.
    #[error(
        "the store's revision is {revision}, which no store reaches: replace this member, or restore \
         it from a snapshot"
    )]
    OutOfReach {
        /// The store's.
        revision: Revision,
    },
    /// Storage could not be read.
    #[error("storage cannot be read: {0}")]
    Storage(Box<dyn Error + Send + Sync>),
}

impl State {
    /// Rebuilds the state. `records` calls its argument with what was found in every stored record, in
    /// ascending order, and passes its error on. Values of the newest revisions are kept as far as the budget goes.
    ///
    /// # Errors
    /// Storage cannot be read, or holds what no store has written.
    pub fn load(
        limits: Limits,
        tables: Tables,
        mut records: impl FnMut(
            &mut dyn FnMut(Loaded) -> Result<(), LoadError>,
        ) -> Result<(), LoadError>,
    ) -> Result<State, LoadError> {
        let mut loader = Loader::new(limits.value_cache_bytes, Leases::load(&tables.leases));
        records(&mut |loaded| loader.feed(loaded))?;
        let (mvcc, leases) = loader.finish(
            tables.revision,
            tables.compact_scheduled,
            tables.compact_finished,
            tables.whole_after,
        )?;
        Ok(State {
            mvcc,
            leases,
            alarms: Alarms::load(tables.alarms),
            members: Members::load(tables.members, tables.removed),
            cluster_version: tables.cluster_version,
            auth: Arc::new(Auth::load(tables.auth)),
        })
    }
}
