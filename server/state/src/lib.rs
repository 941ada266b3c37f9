//! The store's deterministic core: what every member computes alike from the same log.
//!
//! Owns keys and their history (`mvcc`), leases, alarms, the member table, and what each operation
//! does to them. Applying leaves [`Effects`]: changes for `storage`, events for the watch hub.
//!
//! Must never read a clock, randomness or a file, iterate a hash map, or wait. It is guarded by one
//! lock outside ([`Hold`]): the apply thread writes, connection threads read. Work that touches many
//! keys lets go of the lock in between; readers see nothing of it before it is whole
//! ([`State::show`]).
//!
//! Invariants: an operation that fails changes nothing; two states that applied the same operations
//! answer every request alike, however far each has come with reclaiming space; a state loaded from
//! storage equals the one that wrote it.

#![forbid(unsafe_code)]

mod alarm;
mod apply;
pub mod auth;
pub mod effects;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod hold;
pub mod lease;
mod load;
mod member;
pub mod mvcc;
#[cfg(test)]
mod tests;
mod txn;

use engram_types as types;

pub use alarm::Alarms;
pub use apply::apply;
pub use auth::{Auth, AuthTables};
pub use effects::{
    Change, Effects, Event, MemberNode, MemberRecord, Meter, Previous, RecordRef, RevisionRecord,
    Values,
};
pub use hold::Hold;
pub use lease::Leases;
pub use load::{LoadError, Tables};
pub use member::Members;
pub use mvcc::{
    CompactionHash, HashPlan, Hashing, KeyValueHash, Loaded, Mvcc, NUMBER_MAX, Plan, RecordHash,
    Sighting, Slot, Walk, is_sound,
};
pub use txn::{CompareStep, Path as TxnPath};

use std::sync::Arc;

use crate::types::result::{self, ApplyError};
use crate::types::{KeyRange, Revision, RevisionPair, request};

/// Bounds on memory that do not change what is answered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many bytes of current values are kept beside their keys (`--value-cache-bytes`).
    pub value_cache_bytes: usize,
}

/// The whole of the replicated state.
pub struct State {
    /// Keys, values and their history.
    pub mvcc: Mvcc,
    /// Leases and the keys attached to them.
    pub leases: Leases,
    /// Raised alarms.
    pub alarms: Alarms,
    /// The cluster's members.
    pub members: Members,
    /// The version every member can speak ("3.7.0"), once agreed on.
    pub cluster_version: Option<String>,
    /// Users, roles, and whether authentication is on. Shared with whoever looks; a change copies.
    pub auth: Arc<Auth>,
}

impl State {
    /// An empty store, at revision 1.
    pub fn new(limits: Limits) -> State {
        State {
            mvcc: Mvcc::new(limits.value_cache_bytes),
            leases: Leases::default(),
            alarms: Alarms::default(),
            members: Members::default(),
            cluster_version: None,
            auth: Arc::default(),
        }
    }

    /// Has readers see everything applied so far. Until then they see the store as it was at the
    /// last call, whatever the index holds already: that is how a batch is applied in steps, and how
    /// a revision is not met before the engine has it.
    pub fn show(&mut self) {
        self.mvcc.show();
    }

    /// The batch's changes are in storage: forgets the overlay of unwritten records. They are
    /// returned to be dropped where it holds nobody up.
    pub fn take_unwritten(&mut self) -> Vec<RevisionRecord> {
        self.mvcc.take_unwritten()
    }

    /// One step of bringing the value cache back to its budget: whether there is need of another.
    pub fn shrink_cache(&mut self) -> bool {
        self.mvcc.shrink_cache()
    }

    /// One step of reclaiming what compaction superseded: drops at most `max` revisions, oldest
    /// first, and appends their deletion. Returns true when the scheduled compaction is done (then
    /// its finished mark is appended too) or none is scheduled. Returns false without an effect
    /// where a pinned revision stands in the way (see [`Mvcc::pin`]).
    pub fn compact_step(&mut self, max: usize, effects: &mut Effects) -> bool {
        self.mvcc.compact_step(max, effects)
    }

    /// Whether [`State::compact_step`] has work it can do now.
    pub fn compact_pending(&self) -> bool {
        self.mvcc.compact_pending()
    }

    /// Answers a read-only transaction, as [`State::apply`] would, without the log. Reads beyond
    /// the meter are left for later. None: the compares alone would look at too much, see
    /// [`State::read_txn_along`].
    ///
    /// # Errors
    /// A range of the branch taken asks for a compacted or a future revision.
    ///
    /// # Panics
    /// `txn` holds a write ([`request::Txn::is_read_only`] tells).
    pub fn read_txn(
        &self,
        txn: &request::Txn,
        values: &dyn Values,
        meter: &mut Meter,
    ) -> Result<Option<result::Txn>, ApplyError> {
        assert!(
            txn.is_read_only(),
            "a transaction that writes goes through the log"
        );
        if !txn::compares_fit(self, txn, meter) {
            return Ok(None);
        }
        let head = self.mvcc.revision();
        let path = TxnPath::choose(txn, &mut |compare| txn::holds(self, head, compare, values));
        self.read_txn_along(txn, &path, head, values, meter)
            .map(Some)
    }

    /// Answers a read-only transaction whose compares were looked at already, at revision `head`,
    /// which is pinned or the store's.
    ///
    /// # Errors
    /// See [`State::read_txn`].
    pub fn read_txn_along(
        &self,
        txn: &request::Txn,
        path: &TxnPath,
        head: Revision,
        values: &dyn Values,
        meter: &mut Meter,
    ) -> Result<result::Txn, ApplyError> {
        txn::read(self, txn, path, head, values, meter)
    }

    /// Looks at a compare for some of its keys, as the store was before `below`.
    pub fn compare_step(
        &self,
        compare: &request::Compare,
        rest: &KeyRange,
        below: RevisionPair,
        values: &dyn Values,
    ) -> CompareStep {
        txn::compare_step(self, compare, rest, below, values)
    }
}
