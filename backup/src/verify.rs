//! Verifying a backup: it is restored into a directory of its own, and hashed as a member would be.

use std::path::Path;

use chrono::{SecondsFormat, Utc};
use engram_server::node::offline::MemberFlags;
use engram_server::snapshot::restore::Bump;
use serde::Serialize;

use crate::Progress;
use crate::format::{Manifest, Verification};
use crate::restore::{self, RestoreFailed, Target};
use crate::store::{BackupStore, StoreError};

/// Why a backup is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be restored.
    #[error(transparent)]
    Restore(#[from] RestoreFailed),
    /// No directory for it.
    #[error("no scratch directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// Nobody needs to know any more.
    #[error(
        "backup {0} was removed while it was read: `engramctl backup list` shows those there are"
    )]
    Removed(String),
}

impl VerifyError {
    /// Whether the backup itself is not good, and not what was to read it.
    pub fn is_damage(&self) -> bool {
        match self {
            VerifyError::Restore(RestoreFailed::Different { .. }) => true,
            VerifyError::Restore(RestoreFailed::Read(error)) => error.is_damage(),
            VerifyError::Restore(_) | VerifyError::Scratch(_) | VerifyError::Removed(_) => false,
        }
    }
}

/// What came of a verification.
#[derive(Debug)]
pub struct Outcome {
    /// What was verified, or why it is not.
    pub result: Result<Verified, VerifyError>,
    /// Why it could not be kept in the store: whoever looks there later does not know of it.
    pub unkept: Option<StoreError>,
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The backup's id.
    pub id: String,
    /// The cluster's name in the store.
    pub cluster: String,
    /// Always true: what does not verify is an error.
    pub verified: bool,
    /// The revision it was hashed at.
    pub revision: i64,
    /// HashKV, of the manifest and of the restored store.
    #[serde(rename = "hashKV")]
    pub hash_kv: u32,
    /// Whether HashKV was compared: an etcd that was restored with a bump answers one that no other
    /// store has.
    pub hash_compared: bool,
    /// Whether a majority of the members answered this hash when the backup was taken; none where that
    /// is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreed: Option<bool>,
    /// How many records were read.
    pub records: u64,
}

/// Verifies a backup, and keeps what came of it in the store: one that is not good counts for no rule
/// and is never the latest from then on. What could not be looked at is none the worse for it.
pub async fn verify(
    store: &BackupStore,
    manifest: &Manifest,
    scratch_dir: &Path,
    progress: &dyn Progress,
) -> Outcome {
    let result = check(store, manifest, scratch_dir, progress).await;
    let refusal = match &result {
        Ok(_) => None,
        Err(error) if error.is_damage() => Some(error.to_string()),
        Err(_) => {
            return Outcome {
                result,
                unkept: None,
            };
        }
    };
    // Whoever removes a backup takes the manifest first, and then what this may have missed.
    if let Ok(false) = store.has(&manifest.cluster, &manifest.id).await {
        return Outcome {
            result: Err(VerifyError::Removed(manifest.id.to_string())),
            unkept: None,
        };
    }
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let verification = Verification::of(manifest, at, refusal);
    let kept = store.put_verification(manifest, &verification).await;
    Outcome {
        result,
        unkept: kept.err(),
    }
}

/// Downloads a backup and restores it in `scratch_dir`, by which revision, compact revision and HashKV
/// are compared with the manifest. Needs the room of the database there, and the memory of a member's
/// index.
///
/// # Errors
/// See [`VerifyError`].
async fn check(
    store: &BackupStore,
    manifest: &Manifest,
    scratch_dir: &Path,
    progress: &dyn Progress,
) -> Result<Verified, VerifyError> {
    let scratch = tempfile::Builder::new()
        .prefix("engram-verify-")
        .tempdir_in(scratch_dir)?;
    let target = Target {
        data_dir: scratch.path().join("data"),
        member: MemberFlags {
            name: "verify".into(),
            initial_cluster: "verify=http://127.0.0.1:2380".into(),
            token: "verify".into(),
            peer_urls: "http://127.0.0.1:2380".into(),
        },
        bump: Bump(0),
    };
    let restored = restore::restore(store, manifest, &target, progress).await?;
    Ok(Verified {
        id: manifest.id.to_string(),
        cluster: manifest.cluster.to_string(),
        verified: true,
        revision: manifest.revision,
        hash_kv: manifest.hash_kv,
        hash_compared: !manifest.bumped,
        agreed: manifest.is_agreed(),
        records: restored.records,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    /// The store with what an engramctl of format 1 left in it.
    fn format_1() -> (tempfile::TempDir, BackupStore) {
        let directory = tempfile::tempdir().expect("a directory");
        let golden = crate::format::store_of_format_1().join("demo/first");
        let attempt = "18ec7dc62ca7128a";
        let target = directory.path().join("demo/first");
        std::fs::create_dir_all(target.join(attempt)).expect("a directory");
        let chunks = (0..4).map(|number| format!("{attempt}/{number:08}.chunk"));
        for name in chunks.chain(["MANIFEST".to_owned()]) {
            std::fs::copy(golden.join(&name), target.join(&name)).expect("copied");
        }
        let url = format!("file://{}", directory.path().display());
        (directory, BackupStore::open(&url).expect("a store"))
    }

    #[tokio::test]
    async fn a_backup_of_format_1_is_verified_and_what_came_of_it_is_kept() {
        let (directory, store) = format_1();
        let find = async || store.find(None, &[], "first").await.expect("found");
        let manifest = find().await.manifest;
        let scratch = directory.path();
        let verified = verify(&store, &manifest, scratch, &Silent).await;
        assert!(verified.unkept.is_none());
        let verified = verified.result.expect("it is good");
        assert_eq!((verified.revision, verified.records), (9, 8));
        let chunk = scratch.join("demo/first/18ec7dc62ca7128a/00000000.chunk");
        std::fs::remove_file(chunk).expect("removed");
        let refused = verify(&store, &manifest, scratch, &Silent).await;
        assert!(refused.result.is_err());
        let reason = find().await.refuted.expect("it is kept");
        assert!(reason.contains("00000000.chunk"), "{reason}");
        for name in ["MANIFEST", "VERIFICATION"] {
            std::fs::remove_file(scratch.join("demo/first").join(name)).expect("removed");
        }
        let removed = verify(&store, &manifest, scratch, &Silent).await;
        assert!(
            matches!(removed.result, Err(VerifyError::Removed(_))),
            "{:?}",
            removed.result
        );
        assert!(!scratch.join("demo/first/VERIFICATION").exists());
    }
}
