//! Verifying a backup: it is restored into a directory of its own, and hashed as a member would.

use std::path::Path;

use engram_server::node::offline::MemberFlags;
use engram_server::snapshot::restore::{self as directory, Bump};
use serde::Serialize;

use crate::Progress;
use crate::format::Manifest;
use crate::read::ReadError;
use crate::restore::{self, RestoreFailed, Target};
use crate::store::BackupStore;

/// Why a backup is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be restored.
    #[error(transparent)]
    Restore(#[from] RestoreFailed),
    /// No directory for it.
    #[error("no scratch directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// It is not what the member had.
    #[error(
        "backup {backup} does not hold what was backed up: {what} is {found}, its manifest says {expected}: take another"
    )]
    Different {
        /// The backup's id.
        backup: String,
        /// Of what.
        what: &'static str,
        /// In the restored store.
        found: i64,
        /// In the manifest.
        expected: i64,
    },
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
    /// How many records were read.
    pub records: u64,
}

/// Downloads a backup, restores it in `scratch_dir` and compares revision, compact revision and
/// HashKV with the manifest. Needs the room of the database there, and the memory of a member's
/// index.
///
/// # Errors
/// See [`VerifyError`].
pub async fn verify(
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
    let restored = restore::write(store, manifest, &target, progress).await?;
    let data_dir = target.data_dir;
    let hashing = tokio::task::spawn_blocking(move || directory::hash_kv(&data_dir)).await;
    let failed = |error: ReadError| VerifyError::Restore(error.into());
    let hashed = hashing.map_err(|error| failed(error.into()))?;
    let hashed = hashed.map_err(|error| failed(error.into()))?;
    let comparisons = [
        ("the revision", hashed.hash_revision.0, manifest.revision),
        (
            "the compact revision",
            hashed.compact_revision.0,
            manifest.compact_revision,
        ),
        (
            "HashKV",
            i64::from(hashed.hash),
            i64::from(manifest.hash_kv),
        ),
    ];
    for (what, found, expected) in comparisons {
        if found != expected {
            return Err(VerifyError::Different {
                backup: manifest.id.to_string(),
                what,
                found,
                expected,
            });
        }
    }
    Ok(Verified {
        id: manifest.id.to_string(),
        cluster: manifest.cluster.to_string(),
        verified: true,
        revision: manifest.revision,
        hash_kv: manifest.hash_kv,
        records: restored.records,
    })
}
