//! What came of reading a backup back, kept in the store: whoever looks for a backup later knows it.

use bytes::Bytes;

use super::{BackupStore, StoreError};
use crate::format::{BackupId, Manifest, Verification};

/// The object in a backup's directory.
const VERIFICATION: &str = "VERIFICATION";

impl BackupStore {
    /// Keeps what came of a backup's verification, over what came of the last one.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_verification(
        &self,
        manifest: &Manifest,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        let place = self.backup(&manifest.cluster, &manifest.id);
        let place = place.join(VERIFICATION);
        let bytes = Bytes::from(verification.encode());
        // It tells nothing of the data, and whoever has no key may know of it.
        Ok(self.objects.put_as_is(&place, bytes).await?)
    }

    /// What came of the last verification of a backup; none where there was none.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn verification(
        &self,
        cluster: &BackupId,
        manifest: &Manifest,
    ) -> Result<Option<Verification>, StoreError> {
        let place = self.backup(cluster, &manifest.id).join(VERIFICATION);
        let bytes = self.objects.get(&place).await?;
        Ok(bytes.and_then(|bytes| Verification::decode(manifest, &bytes)))
    }
}
