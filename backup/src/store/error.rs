//! Why a store cannot be used, and what to do about it.

use engram_objects::{CipherError, ObjectError, advice, is_missing, root_cause};

use crate::format::{BackupId, ManifestError, Whose};

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store.
    #[error("--store {url}: {what}")]
    Url {
        /// The URL, without its options.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The store says so.
    #[error("{place}: {}: {}", advice(place, source), root_cause(source))]
    Store {
        /// The object or directory.
        place: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The store keeps an object, whoever wants it deleted.
    #[error(transparent)]
    Locked(ObjectError),
    /// An object cannot be decrypted.
    #[error("{place}: {source}")]
    Cipher {
        /// The object.
        place: String,
        /// Why not.
        source: CipherError,
    },
    /// What an attempt left behind is in the way.
    #[error(
        "{0}: another object is there, or one under another key: an attempt that was cut short left it; remove what it left with `engramctl backup delete --cluster --backup`, and begin again"
    )]
    Remains(String),
    /// A chunk is gone.
    #[error("{0}: it is not there")]
    Gone(String),
    /// A manifest cannot be read.
    #[error("{place}: {source}")]
    Manifest {
        /// The object.
        place: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// No such backup.
    #[error(
        "there is no backup {wanted} in {store}: `engramctl backup list` shows those there are"
    )]
    NoBackup {
        /// What was asked for.
        wanted: String,
        /// Where.
        store: String,
    },
    /// Several.
    #[error("{wanted} could be of several clusters ({found}): name one with --cluster")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The clusters.
        found: String,
    },
    /// One of the backups cannot be read, which may be the newest.
    #[error("{path}: {error}: it may be the latest backup; name another one with --backup")]
    LatestUnknown {
        /// Which.
        path: String,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// Clusters of one name.
    #[error(
        "{cluster} holds backups of several clusters of that name ({found}): say whose are meant with --cluster-id"
    )]
    Mixed {
        /// Their name.
        cluster: BackupId,
        /// Their ids and incarnations, and how new their backups are.
        found: String,
    },
    /// Not of the cluster that was named.
    #[error(
        "backup {id} is of cluster {whose}, which --cluster-id does not name: correct the one or the other"
    )]
    Another {
        /// The backup.
        id: BackupId,
        /// Whose it is.
        whose: Whose,
    },
    /// Chunks were removed while the backup was made.
    #[error("backup {0} was removed by somebody else while it was made: take it again")]
    Vanished(BackupId),
    /// The id is taken.
    #[error("there is a backup {0} already: choose another --name, or delete that one")]
    Exists(BackupId),
}

impl StoreError {
    /// Whether an object that should be there is not, or is another one than was stored. A bucket that is
    /// away says nothing of it, nor does a key that is missing.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            StoreError::Store { source, .. } => is_missing(source),
            StoreError::Cipher { source, .. } => source.is_damage(),
            StoreError::Gone(_) => true,
            _ => false,
        }
    }
}

impl From<ObjectError> for StoreError {
    fn from(error: ObjectError) -> StoreError {
        match error {
            ObjectError::Url { url, what } => StoreError::Url { url, what },
            ObjectError::Store { place, source } => StoreError::Store { place, source },
            locked @ ObjectError::Locked { .. } => StoreError::Locked(locked),
            ObjectError::Cipher { place, source } => StoreError::Cipher { place, source },
        }
    }
}
