//! Restoring a backup into a data directory, for a member that does not run.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use engram_server::node::offline::{self, FlagError, MemberFlags};
use engram_server::snapshot::restore::{
    self as directory, Bump, NewMember, Restore, RestoreError, Restored,
};
use engram_server::state::KeyValueHash;
use engram_server::storage::{Identity, IdentityError};

use crate::Progress;
use crate::format::{Kind, Manifest};
use crate::point::{Point, When};
use crate::read::{self, Feeding, ReadError};
use crate::replay;
use crate::store::BackupStore;

/// So many bytes of records tell whether compression shortens them.
const TELLING_BYTES: u64 = 1 << 20;

/// What comes before the time that was asked for, in what a data directory says of where it came from.
const ASKED: &str = "\nto the time ";

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailed {
    /// The flags name no member.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// The backup cannot be read, or not be written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not what the members had.
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
    /// What is in the data directory cannot be told.
    #[error("the data directory cannot be read: {0}")]
    Directory(#[from] std::io::Error),
    /// The same.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data directory to be made.
    pub data_dir: PathBuf,
    /// Who the member will be.
    pub member: MemberFlags,
    /// How much the revision is raised.
    pub bump: Bump,
}

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The directory was made.
    Restored(Restored),
    /// An earlier restore has made it, for the same member. Nothing was done: it may have served
    /// since.
    AlreadyThere {
        /// Whose it is.
        identity: Identity,
        /// What the earlier restore was from.
        origin: String,
        /// The time that it was asked for, if it was (as far as the engramctl of then wrote it down).
        asked: Option<DateTime<Utc>>,
    },
}

/// Whether an earlier restore made this data directory for the same member. A pod that is started
/// again runs its restore again, and must not lose what was written since.
///
/// # Errors
/// See [`RestoreFailed`].
pub fn earlier(target: &Target) -> Result<Option<Outcome>, RestoreFailed> {
    let Some(written) = directory::origin(&target.data_dir)? else {
        return Ok(None);
    };
    let (origin, asked) = match written.split_once(ASKED) {
        Some((origin, asked)) => (origin.to_owned(), asked.trim_end().parse().ok()),
        None => (written, None),
    };
    let wanted = offline::new_member(&target.member)?.identity;
    let found = Identity::load(&target.data_dir)?;
    let same = |found: &Identity| (found.cluster, found.member) == (wanted.cluster, wanted.member);
    Ok(found.filter(same).map(|identity| Outcome::AlreadyThere {
        identity,
        origin,
        asked,
    }))
}

/// Restores a backup into a directory that is not there yet, or empty.
///
/// # Errors
/// See [`RestoreFailed`]. A directory that was begun is refused by a member, and begun anew by the
/// next restore.
pub async fn restore(
    store: &BackupStore,
    manifest: &Manifest,
    target: &Target,
    progress: &dyn Progress,
) -> Result<Restored, RestoreFailed> {
    let member = offline::new_member(&target.member)?;
    let restore = begin(manifest, target, member).map_err(ReadError::from)?;
    let feeding = read::feed(store, manifest, restore, progress).await?;
    let (feeding, _) = compare(manifest, feeding).await?;
    let bump = target.bump;
    let origin = store.path_of(&manifest.cluster, &manifest.id);
    let finish = move || feeding.restore.finish(&feeding.totals, bump, &origin);
    let finished = tokio::task::spawn_blocking(finish).await;
    let restored = finished.map_err(ReadError::from)?;
    Ok(restored.map_err(ReadError::from)?)
}

/// Begins; what the backup's chunks could not shorten the engine cannot either.
fn begin(manifest: &Manifest, target: &Target, member: NewMember) -> Result<Restore, RestoreError> {
    let records = manifest
        .chunks
        .iter()
        .filter(|chunk| chunk.kind == Kind::Records.name());
    let (bytes, raw) = records.fold((0, 0), |(bytes, raw), chunk| {
        (bytes + chunk.bytes, raw + chunk.raw_bytes)
    });
    match raw >= TELLING_BYTES && bytes + raw / 32 >= raw {
        true => Restore::begin_uncompressed(&target.data_dir, member),
        false => Restore::begin(&target.data_dir, member),
    }
}

/// What a restore to a moment made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredTo {
    /// The directory.
    pub restored: Restored,
    /// HashKV at the moment's revision, before any bump.
    pub hash_kv: KeyValueHash,
}

/// Restores the moment that `point` is the way to, and `when` was asked for, into a directory that is not there yet, or
/// empty.
///
/// # Errors
/// See [`restore`].
pub async fn restore_to(
    store: &BackupStore,
    point: &Point,
    when: When,
    target: &Target,
    progress: &dyn Progress,
) -> Result<RestoredTo, RestoreFailed> {
    let manifest = &point.manifest;
    let member = offline::new_member(&target.member)?;
    let restore = begin(manifest, target, member).map_err(ReadError::from)?;
    let feeding = read::feed(store, manifest, restore, progress).await?;
    let (mut feeding, mut hash_kv) = compare(manifest, feeding).await?;
    if let Some(behind) = &point.behind {
        feeding = replay::replay(store, &manifest.cluster, behind, feeding, progress).await?;
        (feeding, hash_kv) = hash(feeding).await?;
    }
    let bump = target.bump;
    let mut origin = origin_of(store, point);
    if let When::Time(asked) = when {
        origin.push_str(&format!("{ASKED}{}\n", asked.to_rfc3339()));
    }
    let finish = move || feeding.restore.finish(&feeding.totals, bump, &origin);
    let finished = tokio::task::spawn_blocking(finish).await;
    let restored = finished.map_err(ReadError::from)?;
    Ok(RestoredTo {
        restored: restored.map_err(ReadError::from)?,
        hash_kv,
    })
}

/// What a data directory says that was restored to a moment: the backup, `@` and the revision.
pub fn origin_of(store: &BackupStore, point: &Point) -> String {
    let manifest = &point.manifest;
    let path = store.path_of(&manifest.cluster, &manifest.id);
    format!("{path}@{}", point.revision)
}

async fn hash(mut feeding: Feeding) -> Result<(Feeding, KeyValueHash), RestoreFailed> {
    let hashing = tokio::task::spawn_blocking(move || {
        let hashed = feeding.restore.hash_kv(&feeding.totals);
        (feeding, hashed)
    });
    let (feeding, hashed) = hashing.await.map_err(ReadError::from)?;
    Ok((feeding, hashed.map_err(ReadError::from)?))
}

/// Compares revision, compact revision and HashKV of what was restored with the manifest.
async fn compare(
    manifest: &Manifest,
    feeding: Feeding,
) -> Result<(Feeding, KeyValueHash), RestoreFailed> {
    let (feeding, hashed) = hash(feeding).await?;
    match difference(manifest, &hashed) {
        None => Ok((feeding, hashed)),
        Some((what, found, expected)) => Err(RestoreFailed::Different {
            backup: manifest.id.to_string(),
            what,
            found,
            expected,
        }),
    }
}

/// What differs first, found and expected.
fn difference(manifest: &Manifest, hashed: &KeyValueHash) -> Option<(&'static str, i64, i64)> {
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
    let comparable = if manifest.bumped { 2 } else { 3 };
    let mut all = comparisons.into_iter().take(comparable);
    all.find(|(_, found, expected)| found != expected)
}
