//! What came of reading a backup back, kept beside its manifest.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use engram_objects::sealed;

/// The number of this object's format.
const FORMAT: u32 = 1;
/// Characters of the reason that are kept.
const WORDS_MAX: usize = 1000;

/// The last verification of a backup. It is written over by the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    format: u32,
    /// The attempt that was verified: a backup that is made again under its name is another one.
    attempt: String,
    /// When: RFC 3339, UTC.
    pub at: String,
    /// Whether it was good.
    pub good: bool,
    /// Why it was not; empty where it was.
    #[serde(default)]
    pub reason: String,
}

impl Verification {
    /// Of this backup; `refusal` says why it is not good.
    pub fn of(manifest: &Manifest, at: String, refusal: Option<String>) -> Verification {
        let reason = refusal.as_deref().unwrap_or_default();
        Verification {
            format: FORMAT,
            attempt: manifest.attempt().to_owned(),
            at,
            good: refusal.is_none(),
            reason: reason.chars().take(WORDS_MAX).collect(),
        }
    }

    /// Its two lines.
    pub fn encode(&self) -> Vec<u8> {
        sealed::seal(self)
    }

    /// What is said of this backup; none where it speaks of another one. One that cannot be read
    /// may have said that the backup is not good, and counts so until it is verified again.
    pub fn decode(manifest: &Manifest, bytes: &[u8]) -> Option<Verification> {
        let read = sealed::unseal(bytes).and_then(sealed::read::<Verification>);
        match read.filter(|read| read.format == FORMAT) {
            Some(read) => (read.attempt == manifest.attempt()).then_some(read),
            None => {
                let words = "what its last verification said cannot be read: verify it again";
                Some(Verification::of(
                    manifest,
                    String::new(),
                    Some(words.into()),
                ))
            }
        }
    }
}
