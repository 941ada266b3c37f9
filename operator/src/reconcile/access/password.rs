//! Passwords, in Secrets: those that people write, and those that are made.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::Reason;
use crate::desired::cluster_labels;
use crate::pki::Files;

use super::super::{Context, Error, certificates};

/// The key of a password in a Secret that is made.
pub(super) const KEY: &str = "password";
/// How much chance is in a password that is made, in bytes: twice as many letters.
const CHANCE: usize = 24;

/// A password as a Secret has it.
pub(super) struct Password {
    pub text: String,
    /// The Secret's version.
    pub version: String,
}

/// One that nobody guesses.
///
/// # Errors
/// The system gives no chance.
pub(super) fn made() -> Result<String, Error> {
    let mut bytes = [0; CHANCE];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let filled = provider.secure_random.fill(&mut bytes);
    filled.map_err(|_| Error::NotNow("the system gives no random numbers".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a person keeps in a Secret.
///
/// # Errors
/// It is not there.
pub(super) async fn given(
    context: &Context,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Password, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let wrong = |what: String| Error::input(Reason::NotFound, what);
    let Some(secret) = api.get_opt(name).await? else {
        return Err(wrong(format!(
            "there is no Secret {name}: make it with the password as {key}"
        )));
    };
    let version = secret.resource_version().unwrap_or_default();
    let Some(text) = kept(&certificates::files_of(secret), key) else {
        return Err(wrong(format!(
            "Secret {name} has no password as {key} (not empty, in UTF-8)"
        )));
    };
    Ok(Password { text, version })
}

/// As it was typed: an editor's or a shell's line end is none of it.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The password that is kept under a key.
pub(super) fn kept(files: &Files, key: &str) -> Option<String> {
    files.get(key).and_then(|bytes| text(bytes))
}

/// Writes a Secret of an object of ours, over the one that was read.
///
/// # Errors
/// The API server refused.
pub(super) async fn write(
    context: &Context,
    namespace: &str,
    (cluster, name, kept): (&str, &str, &certificates::Kept),
    owner: Option<OwnerReference>,
    files: &Files,
) -> Result<Secret, Error> {
    let labels = cluster_labels(cluster, "access");
    certificates::write_secret(context, (namespace, name, kept), labels, owner, files).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_long_and_never_the_same() {
        let (one, other) = (made().unwrap(), made().unwrap());
        assert_eq!(one.len(), 2 * CHANCE);
        assert_ne!(one, other);
    }

    #[test]
    fn the_end_of_the_line_is_none_of_it() {
        assert_eq!(text(b"secret\n").as_deref(), Some("secret"));
        assert_eq!(text(b"two words").as_deref(), Some("two words"));
        assert_eq!(text(b"\n"), None);
        assert_eq!(text(&[0xff]), None);
    }
}
