//! Why a store cannot be used, and what to do about it.

use crate::cipher::CipherError;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The URL names no store.
    #[error("{url}: {what}")]
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
    #[error(
        "{place}: the store's retention does not let it be deleted yet (an object lock, a hold): it can be once that has ended: {}",
        root_cause(source)
    )]
    Locked {
        /// The object.
        place: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// An object cannot be decrypted.
    #[error("{place}: {source}")]
    Cipher {
        /// The object.
        place: String,
        /// Why not.
        source: CipherError,
    },
}

impl ObjectError {
    /// Whether an object that should be there is not, or is another one than was stored. A bucket that is
    /// away says nothing of it, nor does a key that is missing.
    pub fn is_damage(&self) -> bool {
        match self {
            ObjectError::Store { source, .. } => is_missing(source),
            ObjectError::Cipher { source, .. } => source.is_damage(),
            ObjectError::Url { .. } | ObjectError::Locked { .. } => false,
        }
    }
}

/// Whether an object is not there, in a bucket that is.
pub fn is_missing(source: &object_store::Error) -> bool {
    let said = format!("{source:?}");
    matches!(source, object_store::Error::NotFound { .. })
        && !NO_BUCKET.iter().any(|code| said.contains(code))
}

/// What stores call an object that nobody may delete yet.
const LOCKED: [&str; 6] = [
    "object protected by object lock",
    "WORM protected",
    "RetentionPolicyNotMet",
    "ObjectUnderActiveHold",
    "BlobImmutable",
    // Of deletions in a batch the words alone are known.
    "immutable due to",
];

/// Whether a deletion was refused because of the store's own retention.
pub(crate) fn is_locked(source: &object_store::Error) -> bool {
    let said = format!("{source:?}");
    LOCKED.iter().any(|code| said.contains(code))
}

/// What lies at the bottom of an error: the layers above it only repeat it.
pub fn root_cause(error: &object_store::Error) -> String {
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

/// What an error at a place means, and what to do.
pub fn advice(place: &str, error: &object_store::Error) -> String {
    use object_store::Error;
    let said = format!("{error:?}");
    let says = |codes: &[&str]| codes.iter().any(|code| said.contains(code));
    match error {
        Error::Unauthenticated { .. } => unknown_key(place),
        _ if says(&UNKNOWN_KEY) => unknown_key(place),
        _ if says(&NO_MACHINE) => format!(
            "{}: no key is given, and the machine gives none",
            unknown_key(place)
        ),
        _ if says(&NO_BUCKET) => no_bucket(),
        // A list that is refused is known by the status within alone.
        _ if says(&["status: 401"]) => unknown_key(place),
        _ if matches!(error, Error::PermissionDenied { .. }) || says(&["status: 403"]) => {
            "the store refuses these credentials: allow them to list, read, write and delete here"
                .into()
        }
        Error::NotFound { .. } => "it is not there".into(),
        _ if said.contains("InvalidCertificate") => UNTRUSTED.into(),
        _ => "the store failed".into(),
    }
}

/// What stores call credentials that they do not know.
const UNKNOWN_KEY: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoCredentials",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "invalid_client",
];
/// Where machines are asked who they are, if no key is given.
const NO_MACHINE: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];
/// What stores call a bucket that is not there.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];

fn unknown_key(place: &str) -> String {
    let variables = match place.split(':').next() {
        Some("gs") => "GOOGLE_SERVICE_ACCOUNT_KEY or GOOGLE_APPLICATION_CREDENTIALS",
        Some("az") => {
            "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET"
        }
        Some("https") => "the variables GOOGLE_* or AZURE_* that are given",
        _ => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    };
    format!("the store does not know these credentials: check {variables}")
}

fn no_bucket() -> String {
    "there is no such bucket: create it, or correct --store".into()
}

/// What is to be done about a certificate that is not believed.
pub(crate) const UNTRUSTED: &str = "the store's certificate is not accepted: set SSL_CERT_FILE to a bundle that \
    holds its authority, or correct the endpoint";
