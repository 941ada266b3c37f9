//! The manifest: what a backup is, and which chunks it consists of.
//!
//! Two lines: a JSON object, and the SHA-256 of that line in hexadecimal. Unknown fields are left
//! alone, so that a later version can add to them; a change of meaning is another format number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::sha256;

/// The format's number.
pub const FORMAT: u32 = 1;
/// Characters of a backup's or a cluster's name. It is part of an object's name.
const NAME_CHARS_MAX: usize = 128;

/// A backup's id, or a cluster's name in the store: letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// What is no name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no name: 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, '.', '_' and '-', with a letter or digit first"
)]
pub struct IdError(String);

impl FromStr for BackupId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<BackupId, IdError> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= NAME_CHARS_MAX
            && text.chars().all(is_inner);
        match is_name {
            true => Ok(BackupId(text.to_owned())),
            false => Err(IdError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = IdError;

    fn try_from(text: String) -> Result<BackupId, IdError> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> String {
        id.0
    }
}

impl AsRef<str> for BackupId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A chunk, as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunkEntry {
    /// Its object, below the backup's directory.
    pub path: String,
    /// What it holds: `records`, `leases`, `auth`, `members`.
    pub kind: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of its messages.
    pub raw_bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// How many messages it holds.
    pub messages: u32,
    /// Of records: the first revision in it, else 0.
    pub first_revision: i64,
    /// Of records: the last revision in it, else 0.
    pub last_revision: i64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup's id.
    pub id: BackupId,
    /// The cluster's name in the store.
    pub cluster: BackupId,
    /// The cluster's id, hexadecimal.
    pub cluster_id: String,
    /// The id of the member it was taken from, hexadecimal.
    pub member_id: String,
    /// When it was taken: RFC 3339, UTC.
    pub created_at: String,
    /// The store's revision.
    pub revision: i64,
    /// The revision up to which the history is compacted; -1 if it never was, as in etcd.
    pub compact_revision: i64,
    /// The compaction last finished, whose garbage is gone; -1 if none was.
    pub compact_finished: i64,
    /// HashKV at `revision`, as the member answered it.
    #[serde(rename = "hashKV")]
    pub hash_kv: u32,
    /// How many records there are.
    pub records: u64,
    /// How many leases there are.
    pub leases: u64,
    /// Whether authentication was on.
    pub auth_enabled: bool,
    /// Bytes of all chunks.
    pub size: u64,
    /// The member's version.
    pub server_version: String,
    /// The version of etcd's schema it was taken in.
    pub storage_version: String,
    /// The version of the engramctl that took it.
    pub engram_version: String,
    /// The chunks in order: records, leases, auth, members.
    pub chunks: Vec<ChunkEntry>,
}

/// What is printed of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The backup's id.
    pub id: BackupId,
    /// The cluster's name in the store.
    pub cluster: BackupId,
    /// The store's revision.
    pub revision: i64,
    /// Up to where the history is compacted; -1 if it never was.
    pub compact_revision: i64,
    /// HashKV at `revision`.
    #[serde(rename = "hashKV")]
    pub hash_kv: u32,
    /// Bytes in the store.
    pub size: u64,
    /// When it was taken: RFC 3339, UTC.
    pub created_at: String,
    /// The version of the engramctl that took it.
    pub engram_version: String,
    /// Where it lies: the store's URL without its options, then cluster and id.
    pub path: String,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Bytes were changed.
    #[error("the manifest is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("the backup has format {0}, this engramctl reads {FORMAT}: use a newer engramctl")]
    Format(u32),
}

impl Manifest {
    /// Its two lines.
    pub fn encode(&self) -> Vec<u8> {
        let line = serde_json::to_string(self).expect("strings and numbers are JSON");
        format!("{line}\n{}\n", sha256(line.as_bytes())).into_bytes()
    }

    /// Reads it.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Any {
            format: u32,
        }
        let text = str::from_utf8(bytes).map_err(|_| ManifestError::Damaged)?;
        let lines = text
            .strip_suffix('\n')
            .and_then(|text| text.split_once('\n'));
        let (line, sum) = lines.ok_or(ManifestError::Damaged)?;
        if sha256(line.as_bytes()) != sum {
            return Err(ManifestError::Damaged);
        }
        let any: Any = serde_json::from_str(line).map_err(|_| ManifestError::Damaged)?;
        if any.format != FORMAT {
            return Err(ManifestError::Format(any.format));
        }
        serde_json::from_str(line).map_err(|_| ManifestError::Damaged)
    }

    /// What is printed of it; `path` is where it lies.
    pub fn summary(&self, path: String) -> Summary {
        Summary {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            revision: self.revision,
            compact_revision: self.compact_revision,
            hash_kv: self.hash_kv,
            size: self.size,
            created_at: self.created_at.clone(),
            engram_version: self.engram_version.clone(),
            path,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(id: &str, created_at: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            id: id.parse().expect("a name"),
            cluster: "demo".parse().expect("a name"),
            cluster_id: "cdf818194e3a8c32".into(),
            member_id: "8e9e05c52164694d".into(),
            created_at: created_at.into(),
            revision: 12,
            compact_revision: -1,
            compact_finished: -1,
            hash_kv: u32::MAX,
            records: 3,
            leases: 1,
            auth_enabled: false,
            size: 99,
            server_version: "3.7.3".into(),
            storage_version: "3.7.0".into(),
            engram_version: "0.1.0".into(),
            chunks: vec![],
        }
    }

    #[test]
    fn a_manifest_is_read_back_and_every_flipped_byte_is_noticed() {
        let manifest = sample("a", "2026-01-02T03:04:05Z");
        let whole = manifest.encode();
        assert_eq!(Manifest::decode(&whole), Ok(manifest));
        for at in 0..whole.len() {
            for mask in [0x01, 0x20, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                assert!(Manifest::decode(&bytes).is_err(), "byte {at}");
            }
            assert!(Manifest::decode(&whole[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn another_format_is_named() {
        let line = r#"{"format":2,"unheard":"of"}"#;
        let bytes = format!("{line}\n{}\n", sha256(line.as_bytes()));
        assert_eq!(
            Manifest::decode(bytes.as_bytes()),
            Err(ManifestError::Format(2))
        );
    }

    #[test]
    fn names_stay_within_one_directory() {
        for good in ["a", "0-9.A_z", &"x".repeat(128)] {
            assert!(good.parse::<BackupId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }
}
