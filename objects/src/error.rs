//! Why a store cannot be used, and what to do about it.

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
    #[error("{place}: {}: {}", advice(source), root_cause(source))]
    Store {
        /// The object or directory.
        place: String,
        /// What the store said.
        source: object_store::Error,
    },
}

impl ObjectError {
    /// Whether an object that should be there is not. A bucket that is away says nothing of it.
    pub fn is_missing(&self) -> bool {
        match self {
            ObjectError::Store { source, .. } => is_missing(source),
            ObjectError::Url { .. } => false,
        }
    }
}

/// Whether an object is not there, in a bucket that is.
pub fn is_missing(source: &object_store::Error) -> bool {
    matches!(source, object_store::Error::NotFound { .. })
        && !format!("{source:?}").contains("NoSuchBucket")
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

/// What an error means, and what to do.
pub fn advice(error: &object_store::Error) -> &'static str {
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
pub(crate) const UNTRUSTED: &str = "the store's certificate is not accepted: set SSL_CERT_FILE to a bundle that \
    holds its authority, or correct the endpoint";
