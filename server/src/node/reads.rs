//! Answers that take more than the reader: leases with their deadlines, hashes of the whole store.

use crate::api::backend::{HashKv, LeaseReport};
use crate::store::Store;
use crate::types::result::ApplyError;
use crate::types::{LeaseId, Revision};

use super::lessor::Lessor;

/// What a lease has left. For the leader: nobody else knows.
pub fn lease_report(store: &Store, lessor: &Lessor, id: LeaseId, keys: bool) -> LeaseReport {
    let state = store.read();
    let (Some((granted_seconds, attached)), Some(remaining_seconds)) =
        (state.leases.get(id), lessor.remaining(id))
    else {
        return LeaseReport {
            remaining_seconds: -1,
            ..LeaseReport::default()
        };
    };
    let keys = match keys {
        true => attached.cloned().collect(),
        false => Vec::new(),
    };
    LeaseReport {
        remaining_seconds,
        granted_seconds,
        keys,
    }
}

/// Hashes what is readable at `revision` (0: the latest). Blocks for as long as a scan of the store
/// takes.
///
/// # Errors
/// The revision is compacted, or has not happened.
pub fn hash_kv(store: &Store, revision: i64) -> Result<HashKv, ApplyError> {
    let state = store.read();
    let head = state.mvcc.revision();
    let mut plan = state.mvcc.hash_keep(Revision(revision))?;
    // The view is taken under the lock that the plan was made under.
    let engine = store.engine();
    let found = engine.with_view(|scanner| {
        drop(state);
        scanner.records(&mut |record| plan.feed(&record));
        plan.finish()
    });
    Ok(HashKv {
        head,
        hash: found.hash,
        compact_revision: found.compact_revision,
        hash_revision: found.hash_revision,
    })
}
