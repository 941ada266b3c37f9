//! Why a store cannot be used, and what to do about it.

use engram_objects::ObjectError;

use crate::format::{BackupId, ManifestError, Whose};

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store itself, or an object in it.
    #[error(transparent)]
    Object(#[from] ObjectError),
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
    /// Whether it is of one backup alone, and tells nothing of the store.
    pub(crate) fn is_of_one(&self) -> bool {
        match self {
            StoreError::Remains(_)
            | StoreError::Gone(_)
            | StoreError::Manifest { .. }
            | StoreError::Vanished(_)
            | StoreError::NoBackup { .. }
            | StoreError::Exists(_) => true,
            other => other.is_damage(),
        }
    }

    /// Whether an object that should be there is not, or is another one than was stored. A bucket that is
    /// away says nothing of it, nor does a key that is missing.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            StoreError::Object(error) => error.is_damage(),
            StoreError::Gone(_) => true,
            _ => false,
        }
    }
}
