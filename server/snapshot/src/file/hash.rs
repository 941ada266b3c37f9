//! HashKV of a snapshot's records, as a member that holds them answers it (`state::mvcc::hash` has the
//! rules). Read twice: what is visible at a revision is known only after the last of its records.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use super::{FileError, SnapshotFile, schema};
use crate::state::KeyValueHash;
use crate::types::result::ApplyError;
use crate::types::{KeyValue, Revision, RevisionPair};

/// 16 bytes of a key's SHA-256.
pub(super) type Name = [u8; 16];

/// A row of the bucket of keys.
struct Row<'a> {
    pair: RevisionPair,
    tombstone: bool,
    key: &'a [u8],
    value: &'a [u8],
}

/// Which records at or below the compact revision count.
#[derive(Default)]
struct Visible {
    /// The last record of each key at or below the revision asked for, where that is no tombstone.
    at_revision: HashMap<Name, RevisionPair>,
    /// The same at the compact revision.
    at_compaction: HashMap<Name, RevisionPair>,
}

impl Visible {
    fn counts(&self, name: Name, pair: RevisionPair) -> bool {
        let kept = match self.at_revision.is_empty() {
            false => &self.at_revision,
            true => &self.at_compaction,
        };
        kept.get(&name) == Some(&pair)
    }
}

impl SnapshotFile {
    /// HashKV up to a revision; 0 is the last. Memory: some 100 bytes a key, where the store was ever
    /// compacted.
    ///
    /// # Errors
    /// The file is damaged or cannot be read; the revision is compacted, or in the future.
    pub fn hash_kv(&self, revision: Revision) -> Result<KeyValueHash, FileError> {
        let compacted = self.tables()?.compacted().unwrap_or(Revision(-1));
        let mut last = Revision(1).max(compacted);
        let mut visible = Visible::default();
        self.each(&mut |row| {
            last = last.max(row.pair.main);
            Ok(())
        })?;
        let hashed = match revision {
            Revision(0) => last,
            revision if revision < compacted => return Err(FileError::Hash(ApplyError::Compacted)),
            revision if revision > last => {
                return Err(FileError::Hash(ApplyError::FutureRevision));
            }
            revision => revision,
        };
        if compacted > Revision(0) {
            self.each(&mut |row| {
                let name = name(row.value)?;
                for (bound, kept) in [
                    (hashed, &mut visible.at_revision),
                    (compacted, &mut visible.at_compaction),
                ] {
                    if row.pair.main > bound {
                        continue;
                    }
                    match row.tombstone {
                        true => kept.remove(&name),
                        false => kept.insert(name, row.pair),
                    };
                }
                Ok(())
            })?;
        }
        let mut hash = crc32c::crc32c(schema::KEY);
        self.each(&mut |row| {
            let is_new = row.pair.main > compacted;
            let counts =
                row.pair.main <= hashed && (is_new || visible.counts(name(row.value)?, row.pair));
            if counts {
                hash = crc32c::crc32c_append(hash, row.key);
                hash = crc32c::crc32c_append(hash, row.value);
            }
            Ok(())
        })?;
        Ok(KeyValueHash {
            hash,
            compact_revision: compacted,
            hash_revision: hashed,
        })
    }

    /// Calls `take` with every row, ascending.
    fn each(
        &self,
        take: &mut dyn FnMut(Row<'_>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let Some(bucket) = self.bucket(schema::KEY) else {
            return Ok(());
        };
        self.database.pairs(bucket, &mut |key, value| {
            let parsed = schema::parse_revision_key(key);
            let (pair, tombstone) = parsed.ok_or(FileError::Row("a revision's key"))?;
            take(Row {
                pair,
                tombstone,
                key,
                value,
            })
        })
    }
}

/// The key of a record. A revision bump's is empty.
pub(super) fn name(value: &[u8]) -> Result<Name, FileError> {
    let kv = KeyValue::decode(&Bytes::copy_from_slice(value));
    let key = kv.map_err(|_| FileError::Row("a key-value"))?.key;
    let digest = digest(&SHA256, &key);
    let short = digest.as_ref().first_chunk();
    Ok(*short.expect("SHA-256 has 32 bytes"))
}
