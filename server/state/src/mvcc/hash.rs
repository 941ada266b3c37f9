//! HashKV, bit-equal to etcd's: CRC-32C over the name of etcd's bucket, then over every record that
//! a store compacted at the last compact revision holds up to the revision asked for.
//!
//! Depends on what a compaction leaves, never on how far reclaiming it has come.
//!
//! etcd's rules, restated. Above the compact revision every record counts. At or below it:
//! - if a compaction at the revision asked for would keep anything, exactly the versions visible at
//!   that revision;
//! - else etcd takes what it finds, which after a finished compaction is exactly the versions visible
//!   at the compact revision, and a tombstone there, which is left out.
//!
//! What etcd would keep (`keyIndex.keep`) of a key is what is visible, but nothing of one that was
//! deleted in the very revision asked for, be it put again in it: its tombstone is found first.
//!
//! What a compaction's own revision hashed to before it, etcd goes on answering: [`CompactionHash`].
//! What a compaction keeps (`keyIndex.compact`), unlike `keep`, has the tombstones of its revision.
//!
//! One thing is not restated: a compaction at a revision in which a key was deleted and put again has
//! etcd delete the record of that put. It is kept here, and counts.

mod apart;

use crate::types::result::ApplyError;
use crate::types::{KeyValue, Revision, RevisionPair};

use super::super::effects::{RecordRef, RevisionRecord};
use super::{Mvcc, Version};
pub use apart::RecordHash;

/// The name of etcd's bucket for keys, with which its hash begins.
const BUCKET_NAME: &[u8] = b"key";

/// Deleted keys looked at for one that exists: about four milliseconds of the lock.
const LOOKED_AT_MAX: usize = 200_000;

/// What a store hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValueHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision it was taken at; -1 if the store was never compacted, as in etcd.
    pub compact_revision: Revision,
    /// The revision hashed up to.
    pub hash_revision: Revision,
}

/// A hash under way: which records count, and what they come to so far. Fed from a view of storage
/// taken under the lock the plan was made under, for a later compaction may drop what it needs.
#[derive(Debug)]
pub struct HashPlan {
    revision: Revision,
    compacted: Revision,
    /// The records that count at or below the compact revision, ascending, and how many have been
    /// passed.
    kept: Vec<RevisionPair>,
    passed: usize,
    /// What storage may not hold yet.
    unwritten: Vec<RevisionRecord>,
    last: Option<RevisionPair>,
    crc: u32,
}

impl HashPlan {
    /// The revision that is hashed up to.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes in the next record, ascending. Returns false once no further record can count.
    pub fn feed(&mut self, record: RecordRef<'_>) -> bool {
        self.take(record).is_some()
    }

    /// The same, and whether this one counts; none once no further record can.
    pub fn take(&mut self, record: RecordRef<'_>) -> Option<bool> {
        assert!(
            self.last < Some(record.pair),
            "records are fed in ascending order"
        );
        if record.pair.main > self.revision {
            return None;
        }
        self.last = Some(record.pair);
        if record.pair.main <= self.compacted && !self.keeps(record.pair) {
            return Some(false);
        }
        self.crc = append(self.crc, record).0;
        Some(true)
    }

    fn keeps(&mut self, pair: RevisionPair) -> bool {
        while self.kept.get(self.passed).is_some_and(|kept| *kept < pair) {
            self.passed += 1;
        }
        self.kept.get(self.passed) == Some(&pair)
    }

    /// The hash, after the last record.
    pub fn finish(mut self) -> KeyValueHash {
        for record in std::mem::take(&mut self.unwritten) {
            if Some(record.pair) > self.last {
                self.feed(record.lent());
            }
        }
        KeyValueHash {
            hash: self.crc,
            compact_revision: self.compacted,
            hash_revision: self.revision,
        }
    }
}

/// The hash with one more record that counts, and of how many bytes of it.
fn append(crc: u32, record: RecordRef<'_>) -> (u32, usize) {
    let mut key = [0u8; 18];
    key[..8].copy_from_slice(&record.pair.main.0.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&u64::from(record.pair.sub).to_be_bytes());
    key[17] = b't';
    let len = if record.tombstone { 18 } else { 17 };
    let crc = crc32c::crc32c_append(crc, &key[..len]);
    let crc = crc32c::crc32c_append(crc, record.encoded);
    (crc, len + record.encoded.len())
}

/// The hash of records of which somebody else knows that they count.
#[derive(Clone, Copy, Debug)]
pub struct Hashing(u32);

impl Default for Hashing {
    fn default() -> Hashing {
        Hashing(crc32c::crc32c(BUCKET_NAME))
    }
}

impl Hashing {
    /// Takes in the next record that counts, ascending.
    pub fn add(&mut self, record: RecordRef<'_>) {
        self.0 = append(self.0, record).0;
    }

    /// What they hash to.
    pub fn finish(self) -> u32 {
        self.0
    }
}

/// The hash of a revision that is about to be compacted, by the rules that hold until then.
///
/// Begun under the lock before the compaction, and fed from a view of storage taken before anything
/// of it was reclaimed. Which records count is asked of the index a page at a time, at a revision
/// that is pinned meanwhile, so that nobody waits for a walk of the index.
#[derive(Debug)]
pub struct CompactionHash {
    revision: Revision,
    compacted: Revision,
    kept: Kept,
    crc: u32,
}

/// Which records at or below the last compact revision count.
#[derive(Debug)]
enum Kept {
    /// The versions visible at the revision, which the index tells.
    Visible,
    /// No key exists at the revision, and none was deleted in it: these, ascending.
    Listed(Vec<RevisionPair>),
}

impl CompactionHash {
    /// The revision that is hashed.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The records of `page` of which the index has to tell whether they are visible at the
    /// revision ([`Mvcc::visible_at`]): its first ones, or none.
    pub fn undecided<'p>(&self, page: &'p [RevisionRecord]) -> &'p [RevisionRecord] {
        match self.kept {
            Kept::Visible => &page[..page.partition_point(|it| it.pair.main <= self.compacted)],
            Kept::Listed(_) => &[],
        }
    }

    /// Takes in the next records, ascending and none above the revision; `visible` is what the
    /// index told of the undecided ones.
    pub fn feed(&mut self, page: &[RevisionRecord], visible: &[bool]) {
        for (place, record) in page.iter().enumerate() {
            assert!(
                record.pair.main <= self.revision,
                "nothing above the revision is hashed"
            );
            let counts = match &self.kept {
                _ if record.pair.main > self.compacted => true,
                Kept::Visible => visible[place],
                Kept::Listed(kept) => kept.binary_search(&record.pair).is_ok(),
            };
            if counts {
                self.crc = append(self.crc, record.lent()).0;
            }
        }
    }

    /// The hash, after the last record.
    pub fn finish(self) -> KeyValueHash {
        KeyValueHash {
            hash: self.crc,
            compact_revision: self.compacted,
            hash_revision: self.revision,
        }
    }
}

impl Mvcc {
    /// Begins a hash of everything up to `revision` (0 is the newest). Costs a walk of the index if
    /// the store was ever compacted.
    ///
    /// # Errors
    /// The revision is compacted or in the future.
    pub fn hash_keep(&self, revision: Revision) -> Result<HashPlan, ApplyError> {
        if revision > Revision(0) && revision < self.seen.compacted {
            return Err(ApplyError::Compacted);
        }
        if revision > self.seen.revision {
            return Err(ApplyError::FutureRevision);
        }
        let revision = if revision == Revision(0) {
            self.seen.revision
        } else {
            revision
        };
        let unwritten = self.unwritten.iter();
        Ok(HashPlan {
            revision,
            compacted: self.seen.compacted,
            kept: self.kept_at(revision),
            passed: 0,
            unwritten: unwritten
                .filter(|record| record.pair.main <= revision)
                .cloned()
                .collect(),
            last: None,
            crc: crc32c::crc32c(BUCKET_NAME),
        })
    }

    /// Begins the hash of `revision`, at which the store is compacted next; none where it cannot be,
    /// or where the index would have to be walked for long.
    pub fn compaction_hash(&self, revision: Revision) -> Option<CompactionHash> {
        if revision <= self.compacted.max(Revision(0)) || revision > self.revision {
            return None;
        }
        let kept = self.kept_until(revision)?;
        Some(CompactionHash {
            revision,
            compacted: self.compacted,
            kept,
            crc: crc32c::crc32c(BUCKET_NAME),
        })
    }

    /// What counts of what the last compaction left. None where too many keys do not exist.
    fn kept_until(&self, revision: Revision) -> Option<Kept> {
        if self.compacted <= Revision(0) {
            // Nothing was compacted: every record counts.
            return Some(Kept::Visible);
        }
        let mut listed = Vec::new();
        for (looked_at, entry) in self.tree.iter().enumerate() {
            let last = entry.last_at(revision);
            if last.is_some_and(|last| !last.is_tombstone() || last.main() == revision) {
                return Some(Kept::Visible);
            }
            if looked_at == LOOKED_AT_MAX {
                return None;
            }
            listed.extend(entry.at(self.compacted).map(Version::pair));
        }
        listed.sort_unstable();
        Some(Kept::Listed(listed))
    }

    /// Whether each of the records is what readers at `revision` see of its key.
    pub fn visible_at(&self, revision: Revision, records: &[RevisionRecord]) -> Vec<bool> {
        let is_visible = |record: &RevisionRecord| {
            let key = KeyValue::key_of(&record.encoded);
            let entry = self.tree.get(key.expect("a key-value begins with its key"));
            entry
                .and_then(|entry| entry.at(revision))
                .is_some_and(|version| version.pair() == record.pair)
        };
        records.iter().map(is_visible).collect()
    }

    /// The versions at or below the compact revision that count, ascending.
    fn kept_at(&self, revision: Revision) -> Vec<RevisionPair> {
        if revision < Revision(0) || self.seen.compacted < Revision(0) {
            return Vec::new();
        }
        let compacted = self.seen.compacted;
        let (mut kept, mut keeps_any) = (Vec::new(), false);
        for entry in self.tree.iter() {
            let Some(visible) = entry.at(revision) else {
                continue;
            };
            // Of the compact revision's own tombstones some may have been reclaimed.
            if revision > compacted && entry.is_deleted_in(revision) {
                continue;
            }
            keeps_any = true;
            kept.extend(Some(visible.pair()).filter(|pair| pair.main <= compacted));
        }
        if !keeps_any {
            let left = self.tree.iter().filter_map(|entry| entry.at(compacted));
            kept.extend(left.map(Version::pair));
        }
        kept.sort_unstable();
        kept
    }
}
