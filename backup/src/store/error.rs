//! Why a store cannot be used, and what to do about it.

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
    #[error("{place}: {}: {}", advice(source), root_cause(source))]
    Store {
        /// The object or directory.
        place: String,
        /// What the store said.
        source: object_store::Error,
    },
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
    /// Whether an object that should be there is not. A bucket that is away says nothing of it.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            StoreError::Store { source, .. } => {
                matches!(source, object_store::Error::NotFound { .. })
                    && !format!("{source:?}").contains("NoSuchBucket")
            }
            _ => false,
        }
    }
}

/// What lies at the bottom of an error: the layers above it only repeat it.
pub(super) fn root_cause(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let shown = cause.to_string();
    // Stores answer with pages of XML; the beginning says what is wrong.
    match shown.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// What an error means, and what to do.
fn advice(error: &object_store::Error) -> &'static str {
    use object_store::Error;
    let said = format!("{error:?}");
    let is_unknown_key = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "NoCredentials",
    ]
    .iter()
    .any(|code| said.contains(code));
    match error {
        Error::Unauthenticated { .. } => UNKNOWN_KEY,
        _ if is_unknown_key => UNKNOWN_KEY,
        Error::PermissionDenied { .. } => {
            "the store refuses these credentials: allow them to list, read, write and delete here"
        }
        _ if said.contains("NoSuchBucket") => {
            "there is no such bucket: create it, or correct --store"
        }
        Error::NotFound { .. } => "it is not there",
        _ if said.contains("InvalidCertificate") => UNTRUSTED,
        _ => "the store failed",
    }
}

const UNKNOWN_KEY: &str =
    "the store does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// What is to be done about a certificate that is not believed.
pub(super) const UNTRUSTED: &str = "the store's certificate is not accepted: set SSL_CERT_FILE to a bundle that \
    holds its authority, or correct the endpoint";
