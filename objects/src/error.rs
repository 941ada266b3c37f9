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
    /// The store keeps an object as it is, whoever wants it deleted or written over.
    #[error(
        "{place}: the store's retention does not let it be deleted yet, or written over (an object lock, a hold): it can be once that has ended: {}",
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
pub(crate) fn is_missing(source: &object_store::Error) -> bool {
    matches!(source, object_store::Error::NotFound { .. })
        && !has_code(&format!("{source:?}"), &NO_BUCKET)
}

/// Whether what a store said, as an error shows itself, has one of these codes, or one that begins so: where a
/// store puts codes, in XML or JSON. Objects' names, which stand there too, may be any words.
fn has_code(said: &str, codes: &[&str]) -> bool {
    let before = [
        "<Code>",
        "code: \"",
        "\\\"error\\\":\\\"",
        "\\\"error\\\": \\\"",
    ];
    let at = |place: &str, code: &str| {
        let mut behind = said.split(place).skip(1);
        behind.any(|behind| behind.trim_start().starts_with(code))
    };
    codes
        .iter()
        .any(|code| before.iter().any(|place| at(place, code)))
}

/// What stores call an object that nobody may delete yet.
const LOCKED: [&str; 3] = [
    "RetentionPolicyNotMet",
    "ObjectUnderActiveHold",
    "BlobImmutable",
];
/// What they say of one where they have no code for it, or none comes along (Azure's deletions in a batch). No
/// object of ours has spaces in its name.
const LOCKED_WORDS: [&str; 3] = [
    "object protected by object lock",
    "WORM protected",
    "immutable due to",
];

/// Whether a deletion, or a write over what is there, was refused because of the store's own retention.
pub(crate) fn is_locked(source: &object_store::Error) -> bool {
    let said = format!("{source:?}");
    has_code(&said, &LOCKED) || LOCKED_WORDS.iter().any(|words| said.contains(words))
}

/// Whether something is refused because there is an object of that name. Stores have the same status (409) for much
/// else: a container that is being deleted, somebody who writes at this moment.
pub(crate) fn is_there(source: &object_store::Error) -> bool {
    let said = format!("{source:?}");
    let is_conflict = said.contains("status: 409");
    matches!(source, object_store::Error::AlreadyExists { .. })
        && (!is_conflict || has_code(&said, &THERE))
}

/// What stores call an object that is there, besides conditions that do not hold.
const THERE: [&str; 2] = ["BlobAlreadyExists", "PreconditionFailed"];

/// What lies at the bottom of an error: the layers above it only repeat it.
pub(crate) fn root_cause(error: &object_store::Error) -> String {
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
pub(crate) fn advice(place: &str, error: &object_store::Error) -> String {
    use object_store::Error;
    let said = format!("{error:?}");
    let says = |codes: &[&str]| has_code(&said, codes);
    let shows = |words: &[&str]| words.iter().any(|words| said.contains(words));
    match error {
        Error::Unauthenticated { .. } => unknown_key(place),
        _ if says(&UNKNOWN_KEY) => unknown_key(place),
        _ if shows(&NO_MACHINE) => format!(
            "{}: no key is given, and the machine gives none",
            unknown_key(place)
        ),
        _ if says(&NO_BUCKET) => no_bucket(),
        // A list that is refused is known by the status within alone.
        _ if shows(&["status: 401"]) => unknown_key(place),
        _ if matches!(error, Error::PermissionDenied { .. }) || shows(&["status: 403"]) => {
            "the store refuses these credentials: allow them to list, read, write and delete here"
                .into()
        }
        Error::NotFound { .. } => "it is not there".into(),
        _ if shows(&["InvalidCertificate("]) => UNTRUSTED.into(),
        _ => "the store failed".into(),
    }
}

/// What stores call credentials that they do not know.
const UNKNOWN_KEY: [&str; 5] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "invalid_client",
];
/// Where machines are asked who they are, if no key is given. The slashes: no name of an object has two.
const NO_MACHINE: [&str; 2] = ["//169.254.169.254", "//metadata.google.internal"];
/// What stores call a bucket that is not there.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"];

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

#[cfg(test)]
mod tests {
    use object_store::Error;

    use super::*;

    /// What a store said, as object_store shows it.
    struct Said(String);

    impl std::fmt::Debug for Said {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl std::fmt::Display for Said {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("said")
        }
    }

    impl std::error::Error for Said {}

    fn source(status: &str, name: &str, code: &str) -> Box<Said> {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        Box::new(Said(format!(
            "RetryErrorImpl {{ uri: Some(http://store/{name}), inner: Status {{ status: {status}, body: Some({body:?}) }} }}"
        )))
    }

    fn conflict(name: &str, code: &str) -> Error {
        let (path, source) = (name.to_owned(), source("409", name, code));
        Error::AlreadyExists { path, source }
    }

    #[test]
    fn what_a_store_means_is_told_by_its_codes_and_never_by_names() {
        for name in [
            "BlobImmutable",
            "RetentionPolicyNotMet",
            "NoSuchBucket",
            "169.254.169.254",
            "BlobAlreadyExists",
            "InvalidCertificate",
            "SignatureDoesNotMatch",
        ] {
            let error = conflict(&format!("{name}/one/MANIFEST"), "OperationAborted");
            assert!(!is_locked(&error) && !is_there(&error), "{name}");
            assert_eq!(advice("az://a/b", &error), "the store failed", "{name}");
            let gone = Error::NotFound {
                path: name.into(),
                source: source("404", name, "BlobNotFound"),
            };
            assert!(is_missing(&gone), "{name}");
        }
        assert!(is_locked(&conflict("demo", "BlobImmutableDueToPolicy")));
        let batch = Error::Generic {
            store: "Azure",
            source: Box::new(Said(
                "DeleteFailed { path: \"demo\", code: \"409\", reason: \"The blob is immutable due to a policy.\" }"
                    .into(),
            )),
        };
        assert!(is_locked(&batch));
        let token = Error::Generic {
            store: "Azure",
            source: Box::new(Said(format!(
                "Status {{ body: Some({:?}) }}",
                r#"{"error":"invalid_client"}"#
            ))),
        };
        assert!(advice("az://a/b", &token).contains("these credentials"));
        let no_bucket = Error::NotFound {
            path: "demo".into(),
            source: source("404", "demo", "NoSuchBucket"),
        };
        assert!(!is_missing(&no_bucket));
    }

    #[test]
    fn of_the_conflicts_of_a_store_one_alone_means_that_an_object_is_there() {
        assert!(is_there(&conflict("demo", "BlobAlreadyExists")));
        for code in [
            "ContainerBeingDeleted",
            "ConditionalRequestConflict",
            "OperationAborted",
        ] {
            assert!(!is_there(&conflict("demo", code)), "{code}");
        }
        let held = Error::AlreadyExists {
            path: "demo".into(),
            source: source("412", "demo", "PreconditionFailed"),
        };
        assert!(is_there(&held));
        let deleted = advice("az://a/b", &conflict("demo", "ContainerBeingDeleted"));
        assert!(deleted.contains("there is no such bucket"), "{deleted}");
    }
}
