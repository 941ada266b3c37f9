//! What came of reading a backup back, kept in the store: whoever looks for a backup later knows it.

use bytes::Bytes;
use engram_objects::{ObjectError, Path};

use super::{BackupStore, StoreError};
use crate::format::{BackupId, Manifest, Verification};

/// The object in a backup's directory.
pub(super) const VERIFICATION: &str = "VERIFICATION";
/// How many of them a backup may have: more than one where a store lets nobody write over what is there.
const MARKS_MAX: u32 = 16;

impl BackupStore {
    /// Keeps what came of a backup's verification, over what came of the last one. Where the store keeps that by a
    /// retention of its own, and it says something else, beside it: under the next name.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_verification(
        &self,
        manifest: &Manifest,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        let bytes = Bytes::from(verification.encode());
        let last = self.last_mark(&manifest.cluster, manifest).await?;
        let (mut number, there) = last.map_or((1, None), |(number, bytes)| {
            (number, Verification::decode(manifest, &bytes))
        });
        loop {
            let place = self.mark(&manifest.cluster, manifest, number);
            // It tells nothing of the data, and whoever has no key may know of it.
            match self.objects.put_as_is(&place, bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ ObjectError::Locked { .. }) => {
                    // That it is the same once more needs no object that cannot be removed.
                    if there
                        .as_ref()
                        .is_some_and(|there| there.good == verification.good)
                    {
                        return Ok(());
                    }
                    if number == MARKS_MAX {
                        return Err(error.into());
                    }
                    number += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn mark(&self, cluster: &BackupId, manifest: &Manifest, number: u32) -> Path {
        let directory = self.backup(cluster, &manifest.id);
        match number {
            1 => directory.join(VERIFICATION),
            number => directory.join(format!("{VERIFICATION}-{number}").as_str()),
        }
    }

    /// The last of the marks, which alone counts, and its number; none where there is none.
    async fn last_mark(
        &self,
        cluster: &BackupId,
        manifest: &Manifest,
    ) -> Result<Option<(u32, Bytes)>, StoreError> {
        let mut last = None;
        for number in 1..=MARKS_MAX {
            let place = self.mark(cluster, manifest, number);
            match self.objects.get(&place).await? {
                Some(bytes) => last = Some((number, bytes)),
                None => break,
            }
        }
        Ok(last)
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
        let last = self.last_mark(cluster, manifest).await?;
        Ok(last.and_then(|(_, bytes)| Verification::decode(manifest, &bytes)))
    }
}
