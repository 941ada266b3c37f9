//! The manifest: what a backup is, and which chunks it consists of.
//!
//! Two lines: a JSON object, and the SHA-256 of that line in hexadecimal. Unknown fields are left
//! alone, so that a later version can add to them; a change of meaning is another format number.
//! Format 2 says whose a backup is and who made it; what format 1 does not say has defaults. Format 3 is
//! any of the others, encrypted: it says the key's id, and the rest to whoever has the key. Format 4 is 2 with BLAKE3
//! of the chunks.

use serde::{Deserialize, Serialize};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engram_objects::cipher::key_of;
use engram_objects::{BackupId, CipherError, Digest, FIRST, KeyId, Keys, Whose, sealed};

/// The format's number.
pub const FORMAT: u32 = 4;
/// The oldest that is read. It knows neither owner, incarnation nor last records.
const FORMAT_MIN: u32 = 1;
/// That of a manifest which is encrypted.
const ENCRYPTED: u32 = 3;

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
    /// Its digest: `blake3`, in formats before 4 `sha256`.
    #[serde(flatten)]
    pub digest: Digest,
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
    /// [`FORMAT`], or an older one.
    pub format: u32,
    /// The backup's id.
    pub id: BackupId,
    /// The cluster's name in the store.
    pub cluster: BackupId,
    /// The cluster's id, hexadecimal.
    pub cluster_id: String,
    /// Which of the clusters that had this id one after the other.
    #[serde(default = "first")]
    pub incarnation: String,
    /// The clusters that this one began as a restore of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continues: Vec<Whose>,
    /// Who made it, and may prune it: a schedule. None: a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
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
    /// HashKV at `revision`, as the members answered it.
    #[serde(rename = "hashKV")]
    pub hash_kv: u32,
    /// The members that answered this hash, hexadecimal: the one that it was taken from, then others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash_members: Vec<String>,
    /// How many members had a vote; 0 where that is not known.
    #[serde(default)]
    pub voters: usize,
    /// Whether etcd's own revision bumps are in the history: HashKV is over them too, and no restored
    /// store has them, so that it cannot be compared.
    #[serde(default)]
    pub bumped: bool,
    /// How many records there are.
    pub records: u64,
    /// SHA-256 of the records of `revision`, by which a later backup tells whether its history goes
    /// on from here. None where a compaction took them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_records: Option<String>,
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

fn first() -> String {
    FIRST.to_owned()
}

/// What is printed of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The backup's id.
    pub id: BackupId,
    /// The cluster's name in the store.
    pub cluster: BackupId,
    /// The cluster's id, hexadecimal.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Which of the clusters that had this id.
    pub incarnation: String,
    /// Who made it; none: a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether it was good when it was last read back; none if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Whether a majority of the members answered its hash; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreed: Option<bool>,
    /// The id of the key that it is encrypted with; none: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
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
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Bytes were changed.
    #[error("the manifest is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("the backup has format {0}, this engramctl reads {FORMAT}: use a newer engramctl")]
    Format(u32),
    /// It cannot be decrypted.
    #[error("the backup: {0}")]
    Cipher(#[from] CipherError),
}

/// What every version has.
#[derive(Deserialize)]
struct Any {
    format: u32,
}

/// A manifest that is encrypted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted {
    format: u32,
    key_id: String,
    /// The manifest's two lines as an encrypted object, in base64.
    manifest: String,
}

impl Manifest {
    /// Its two lines.
    pub fn encode(&self) -> Vec<u8> {
        sealed::seal(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let line = sealed::unseal(bytes).ok_or(ManifestError::Damaged)?;
        let any: Any = sealed::read(line).ok_or(ManifestError::Damaged)?;
        if !(FORMAT_MIN..=FORMAT).contains(&any.format) || any.format == ENCRYPTED {
            return Err(ManifestError::Format(any.format));
        }
        sealed::read(line).ok_or(ManifestError::Damaged)
    }

    /// The object of this name in a store with these keys: the two lines, or two lines with them encrypted.
    pub fn encrypt(&self, name: &str, keys: &Keys) -> Vec<u8> {
        let lines = self.encode();
        match keys.writing() {
            None => lines,
            Some(key) => sealed::seal(&Encrypted {
                format: ENCRYPTED,
                key_id: key.to_string(),
                manifest: STANDARD.encode(keys.encrypt(name, lines.into())),
            }),
        }
    }

    /// Reads the object of this name in a store with these keys; with the key that it is encrypted with.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn decrypt(
        bytes: &[u8],
        name: &str,
        keys: &Keys,
    ) -> Result<(Manifest, Option<KeyId>), ManifestError> {
        let line = sealed::unseal(bytes).ok_or(ManifestError::Damaged)?;
        let any: Any = sealed::read(line).ok_or(ManifestError::Damaged)?;
        if any.format != ENCRYPTED {
            return Ok((Manifest::decode(bytes)?, None));
        }
        let encrypted: Encrypted = sealed::read(line).ok_or(ManifestError::Damaged)?;
        let object = STANDARD.decode(encrypted.manifest);
        let object = object.map_err(|_| ManifestError::Damaged)?;
        let key = key_of(&object)?.ok_or(ManifestError::Damaged)?;
        let lines = keys.decrypt(name, object.into())?;
        Ok((Manifest::decode(&lines)?, Some(key)))
    }

    /// Whose it is.
    pub fn whose(&self) -> Whose {
        Whose {
            cluster_id: self.cluster_id.clone(),
            incarnation: self.incarnation.clone(),
        }
    }

    /// Whether a majority of the members answered its hash; none where that is not known.
    pub fn is_agreed(&self) -> Option<bool> {
        (self.voters > 0).then(|| self.hash_members.len() * 2 > self.voters)
    }

    /// The attempt that made it: no two have the same.
    pub fn attempt(&self) -> &str {
        let first = self.chunks.first();
        first.map_or("", |chunk| chunk.path.split('/').next().unwrap_or_default())
    }

    /// Whether it names all of its chunks: of one that was listed the first alone is kept.
    pub(crate) fn names_all(&self) -> bool {
        let bytes: u64 = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        bytes == self.size
    }

    /// What is printed of it; `path` is where it lies, `verified` how it was last read back, `key` what it
    /// is encrypted with.
    pub fn summary(&self, path: String, verified: Option<bool>, key: Option<KeyId>) -> Summary {
        Summary {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            cluster_id: self.cluster_id.clone(),
            incarnation: self.incarnation.clone(),
            owner: self.owner.clone(),
            verified,
            agreed: self.is_agreed(),
            key_id: key.map(|key| key.to_string()),
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
    use std::path::PathBuf;

    /// The store that an engramctl of format 1 left. Cargo says where this crate is as tests run:
    /// clones share what is built, and what another one has built knows that one's place.
    pub(crate) fn store_of_format_1() -> PathBuf {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it");
        PathBuf::from(here).join("goldens/format-1")
    }

    /// A chunk of five bytes, as far as anybody looks.
    pub(crate) fn sample_chunk() -> ChunkEntry {
        ChunkEntry {
            path: "attempt/00000000.chunk".into(),
            kind: "records".into(),
            bytes: 5,
            raw_bytes: 5,
            digest: Digest::of(b"chunk"),
            messages: 1,
            first_revision: 2,
            last_revision: 2,
        }
    }

    pub(crate) fn sample(id: &str, created_at: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            id: id.parse().expect("a name"),
            cluster: "demo".parse().expect("a name"),
            cluster_id: "cdf818194e3a8c32".into(),
            incarnation: FIRST.into(),
            continues: vec![],
            owner: None,
            member_id: "8e9e05c52164694d".into(),
            created_at: created_at.into(),
            revision: 12,
            compact_revision: -1,
            compact_finished: -1,
            hash_kv: u32::MAX,
            hash_members: vec![],
            voters: 0,
            bumped: false,
            records: 3,
            last_records: None,
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
        for format in [0, ENCRYPTED, FORMAT + 1] {
            let bytes = sealed::seal(&serde_json::json!({ "format": format, "unheard": "of" }));
            let refused = Manifest::decode(&bytes);
            assert_eq!(refused, Err(ManifestError::Format(format)));
        }
    }

    const NAME: &str = "demo/a/MANIFEST";

    #[test]
    fn an_encrypted_manifest_says_its_key_and_the_rest_to_whoever_has_it() {
        let (keys, other) = (Keys::of(&[[7; 32]]), Keys::of(&[[8; 32]]));
        let manifest = sample("a", "2026-01-02T03:04:05Z");
        let bytes = manifest.encrypt(NAME, &keys);
        let id = keys.writing();
        let text = String::from_utf8(bytes.clone()).expect("text");
        assert!(
            text.contains(id.as_ref().expect("a key").as_ref()),
            "{text}"
        );
        assert!(!text.contains("cdf818194e3a8c32"), "{text}");
        let read = Manifest::decrypt(&bytes, NAME, &keys);
        assert_eq!(read, Ok((manifest.clone(), id.clone())));
        for keys in [Keys::default(), other] {
            let refused = Manifest::decrypt(&bytes, NAME, &keys).expect_err("not its key");
            assert!(matches!(
                refused,
                ManifestError::Cipher(CipherError::Key { .. })
            ));
        }
        let moved = Manifest::decrypt(&bytes, "demo/b/MANIFEST", &keys);
        assert!(matches!(
            moved,
            Err(ManifestError::Cipher(CipherError::Changed(_)))
        ));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x01;
            assert!(Manifest::decrypt(&bytes, NAME, &keys).is_err(), "byte {at}");
        }
        let plain = manifest.encrypt(NAME, &Keys::default());
        assert_eq!(Manifest::decrypt(&plain, NAME, &keys), Ok((manifest, None)));
        // What is asked to read one that is not encrypted says which one it meets.
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Format(3)));
    }

    /// What was written before is read as it was, by its number.
    fn of_format_2() -> Manifest {
        let mut manifest = sample("a", "2026-01-02T03:04:05Z");
        manifest.format = 2;
        manifest
    }

    #[test]
    fn a_manifest_of_format_3_reads_as_it_did() {
        let golden = include_bytes!("../../goldens/format-3.MANIFEST");
        let read = Manifest::decrypt(golden, NAME, &Keys::of(&[[7; 32]]));
        let (manifest, key) = read.expect("it is read");
        assert_eq!(manifest, of_format_2());
        assert_eq!(key, Keys::of(&[[7; 32]]).writing());
    }

    /// What an engramctl of format 1 wrote, byte by byte.
    #[test]
    fn a_manifest_of_format_1_is_read() {
        let bytes = include_bytes!("../../goldens/format-1/demo/first/MANIFEST");
        let manifest = Manifest::decode(bytes).expect("it is read");
        assert_eq!((manifest.format, manifest.revision), (1, 9));
        assert_eq!(manifest.whose().to_string(), "970c2fcc56acff62/0");
        assert_eq!(manifest.is_agreed(), None);
        assert_eq!((manifest.owner, manifest.continues), (None, vec![]));
        assert_eq!(manifest.chunks.len(), 4);
    }

    /// With all that a manifest may say.
    fn full(mut manifest: Manifest) -> Manifest {
        manifest.owner = Some("EngramBackupSchedule/data/nightly".into());
        manifest.continues = vec![Whose::try_from("cdf8/0".to_owned()).expect("one")];
        manifest.last_records = Some("00ff".into());
        manifest.hash_members = vec!["8e9e05c52164694d".into(), "2".into()];
        manifest.voters = 3;
        assert_eq!(manifest.is_agreed(), Some(true));
        manifest
    }

    #[test]
    fn a_manifest_of_format_2_reads_as_it_did() {
        let manifest = full(of_format_2());
        let golden = include_str!("../../goldens/format-2.MANIFEST");
        assert_eq!(String::from_utf8(manifest.encode()).expect("text"), golden);
        assert_eq!(Manifest::decode(golden.as_bytes()), Ok(manifest));
    }

    /// What this one writes is read by those after it.
    #[test]
    fn a_manifest_of_format_4_reads_as_it_did() {
        let mut manifest = full(sample("a", "2026-01-02T03:04:05Z"));
        let mut older = sample_chunk();
        older.digest = Digest::Sha256("00".into());
        manifest.chunks = vec![sample_chunk(), older];
        let golden = include_str!("../../goldens/format-4.MANIFEST");
        assert_eq!(String::from_utf8(manifest.encode()).expect("text"), golden);
        assert_eq!(Manifest::decode(golden.as_bytes()), Ok(manifest));
    }

    /// What format 1 wrote is written again byte by byte: a copy of it is one.
    #[test]
    fn a_manifest_of_format_1_is_copied_as_it_was() {
        let bytes = include_bytes!("../../goldens/format-1/demo/first/MANIFEST");
        let manifest = Manifest::decode(bytes).expect("it is read");
        let is_sha256 = |chunk: &ChunkEntry| matches!(chunk.digest, Digest::Sha256(_));
        assert!(manifest.chunks.iter().all(is_sha256));
        let again = Manifest::decode(&manifest.encode());
        assert_eq!(again, Ok(manifest));
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
