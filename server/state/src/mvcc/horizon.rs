//! Between which revisions a store can be read.

use crate::types::Revision;
use crate::types::result::ApplyError;

/// The newest revision, and the one it is compacted at ([`super::NEVER_COMPACTED`] if never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
}

impl Horizon {
    /// The revision to read at.
    pub(super) fn readable(self, requested: i64) -> Result<Revision, ApplyError> {
        if requested > self.revision.0 {
            return Err(ApplyError::FutureRevision);
        }
        if requested <= 0 {
            return Ok(self.revision);
        }
        if requested < self.compacted.0 {
            return Err(ApplyError::Compacted);
        }
        Ok(Revision(requested))
    }

    /// Checks the revision a transaction's range asks for. Unlike a range on its own, where any
    /// negative revision is the latest, one below the compact revision is refused here, even a
    /// negative one (etcd's quirk).
    pub(crate) fn check_txn_revision(self, revision: i64) -> Result<(), ApplyError> {
        if revision == 0 {
            return Ok(());
        }
        if revision > self.revision.0 {
            return Err(ApplyError::FutureRevision);
        }
        if revision < self.compacted.0 {
            return Err(ApplyError::Compacted);
        }
        Ok(())
    }
}
