//! Answers that take more than the reader: leases with their deadlines, hashes of the whole store.

use bytes::Bytes;
use parking_lot::RwLockReadGuard;

use crate::api::backend::{HashKv, LeaseReport, LeaseUse};
use crate::snapshot::{self, SnapshotError};
use crate::state::{KeyValueHash, State};
use crate::store::{Remembered, Store};
use crate::types::auth::{AuthError, Identity};
use crate::types::result::ApplyError;
use crate::types::{LeaseId, Revision};

use crate::node::lessor::Lessor;

/// What a lease has left, as the leader of `term` knows: nobody else does. None where this member
/// does not keep the deadlines of that term. Blocks.
pub fn lease_report(
    store: &Store,
    lessor: &Lessor,
    term: u64,
    id: LeaseId,
    keys: bool,
) -> Option<LeaseReport> {
    // Not the keys of half a revocation.
    let _whole = keys.then(|| store.between_batches());
    let state = store.read();
    let remaining = lessor.remaining(term, id)?;
    let (Some((granted_seconds, attached)), Some(remaining_seconds)) =
        (state.leases.get(id), remaining)
    else {
        return Some(LeaseReport {
            remaining_seconds: -1,
            ..LeaseReport::default()
        });
    };
    let keys = match keys {
        true => attached.cloned().collect(),
        false => Vec::new(),
    };
    Some(LeaseReport {
        remaining_seconds,
        granted_seconds,
        keys,
    })
}

/// Leases looked at under one lock.
const LEASES_A_LOOK: usize = 256;

/// Whether `by` may use leases, by the keys attached to them. Blocks.
///
/// # Errors
/// It may not.
pub fn check_leases(
    store: &Store,
    by: &Identity,
    leases: &[LeaseId],
    usage: LeaseUse,
) -> Result<(), AuthError> {
    leases.chunks(LEASES_A_LOOK).try_for_each(|leases| {
        // Not the keys of half a revocation.
        let _whole = store.between_batches();
        let state = store.read();
        leases.iter().try_for_each(|id| match usage {
            LeaseUse::Read => state.auth.may_read_lease(&state.leases, by, *id),
            LeaseUse::Write => state.auth.may_write_lease(&state.leases, by, *id),
        })
    })
}

/// Hashes what is readable at `revision` (0: the latest); a revision that was compacted at answers
/// what it hashed to before. Blocks for as long as a scan of the store takes.
///
/// # Errors
/// The revision is compacted, or has not happened.
pub fn hash_kv(store: &Store, revision: i64) -> Result<HashKv, ApplyError> {
    loop {
        let state = store.read();
        match store.compaction_hashes().at(Revision(revision)) {
            Remembered::Hash(hash) => return Ok(of(state.mvcc.revision(), hash)),
            Remembered::Unknown => return hash_under(state, store, revision),
            Remembered::UnderWay => drop(state),
        }
        store.compaction_hashes().wait(Revision(revision));
    }
}

/// Hashes what is readable at `revision` (0: the latest) now, whatever it hashed to before it was
/// compacted: two stores that are compared go by the same rules, or name two compact revisions.
/// Blocks for as long as a scan of the store takes.
///
/// # Errors
/// The revision is compacted, or has not happened.
pub fn hash_kv_now(store: &Store, revision: i64) -> Result<HashKv, ApplyError> {
    hash_under(store.read(), store, revision)
}

fn hash_under(
    state: RwLockReadGuard<'_, State>,
    store: &Store,
    revision: i64,
) -> Result<HashKv, ApplyError> {
    let head = state.mvcc.revision();
    let mut plan = state.mvcc.hash_keep(Revision(revision))?;
    // The view is taken under the lock that the plan was made under.
    let engine = store.engine();
    let found = engine.with_view(|scanner| {
        drop(state);
        scanner.records(&mut |record| plan.feed(record));
        plan.finish()
    });
    Ok(of(head, found))
}

/// Sends everything that is readable now, as backups take it, with what it hashes to. Blocks until it is sent.
///
/// # Errors
/// The store cannot be read.
pub fn snapshot_records(
    store: &Store,
    send: impl FnMut(Bytes) -> bool,
) -> Result<(), SnapshotError> {
    // What is planned with is what is written: no batch is half applied.
    let whole = store.between_batches();
    let state = store.read();
    let plan = state.mvcc.hash_keep(Revision(0));
    let plan = plan.expect("the latest revision is there to be hashed");
    let engine = store.engine();
    engine.with_view(|scanner| {
        drop(state);
        drop(whole);
        snapshot::records::write(scanner, plan, send)
    })
}

fn of(head: Revision, found: KeyValueHash) -> HashKv {
    HashKv {
        head,
        hash: found.hash,
        compact_revision: found.compact_revision,
        hash_revision: found.hash_revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::Scratch;

    #[test]
    fn a_compacted_revision_goes_on_answering_what_it_hashed_to() {
        let scratch = Scratch::empty();
        let store = &scratch.store;
        for n in 0..900 {
            scratch.put(&format!("key-{:03}", n % 300), n.to_string().as_bytes());
        }
        let (first, second) = (350, 700);
        let before = hash_kv(store, first).unwrap();
        assert_eq!(before.compact_revision, Revision(-1));
        scratch.compact(Revision(first));
        assert_eq!(hash_kv(store, first).unwrap(), before);
        while !scratch.reclaim_step() {}
        let before_second = hash_kv(store, second).unwrap();
        assert_eq!(before_second.compact_revision, Revision(first));
        scratch.compact(Revision(second));
        while !scratch.reclaim_step() {}
        store.defragment();
        assert_eq!(hash_kv(store, second).unwrap(), before_second);
        assert_eq!(hash_kv(store, first).unwrap(), before);
        assert_eq!(hash_kv(store, first + 1).err(), Some(ApplyError::Compacted));
        // Members are compared by the rules of now, which name the compact revision.
        let now = hash_kv_now(store, second).unwrap();
        assert_eq!(now.compact_revision, Revision(second));
        assert_ne!(now.hash, before_second.hash);
        assert_eq!(
            hash_kv(store, 0).unwrap().compact_revision,
            Revision(second)
        );
    }
}
