//! Keeping a revision readable.

use std::sync::Arc;

use crate::store::Store;
use crate::types::Revision;
use crate::types::result::ApplyError;

/// While it lives, compaction keeps what its revision needs. Whoever holds it bounds how long.
pub struct Pin {
    store: Arc<Store>,
    revision: Revision,
}

impl Pin {
    /// Pins a revision.
    ///
    /// # Errors
    /// It is compacted or in the future.
    pub(super) fn new(store: &Arc<Store>, revision: Revision) -> Result<Pin, ApplyError> {
        store.read().mvcc.pin(revision)?;
        Ok(Pin::held(store, revision))
    }

    /// Takes over a pin that the caller took under its own lock.
    pub(super) fn held(store: &Arc<Store>, revision: Revision) -> Pin {
        Pin {
            store: store.clone(),
            revision,
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.store.read().mvcc.unpin(self.revision);
    }
}
