//! What came of reading a backup back, kept in the store: whoever looks for a backup later knows it.

use bytes::Bytes;
use object_store::ObjectStoreExt as _;

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
        let put = self.objects.put(&place, bytes.into()).await;
        put.map(drop).map_err(|error| self.failed(&place, error))
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
        let bytes = self.get_if_there(&place).await?;
        Ok(bytes.and_then(|bytes| Verification::decode(manifest, &bytes)))
    }
}
