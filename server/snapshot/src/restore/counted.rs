//! HashKV of records as they came, without an index of the keys: which of those at or below the compact revision
//! count (`state::mvcc::hash` has the rules).
//!
//! What decides is known when the last record has come: whether a key is written again. So 33 bytes of every record go to a
//! file as it comes, with what it hashes to by itself, and that is read as often as it takes, each time with a table of some
//! of the keys: memory is the same for any number of them, but for two bits a record.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;

use crate::fs::DataFile;
use crate::state::{Hashing, RecordHash, RevisionRecord};
use crate::types::{KeyValue, Revision};

/// Keys in the table at a time: 26 MiB. In tests so few that it takes several tables.
const KEYS_MAX: u64 = if cfg!(test) { 7 } else { 800_000 };
/// Rows that are written and read at once.
const ROWS_AT_ONCE: usize = 4096;
/// A row: 16 bytes of name, 8 of the revision, 8 of the record's hash, 1 of what it did.
const ROW_BYTES: usize = 33;
const DELETED: u8 = 0;
const CREATED: u8 = 1;
const CHANGED: u8 = 2;

/// What stands for a key: nobody who chose keys could have known the seeds that two of them meet under.
type Name = (u64, u64);

/// A record, as far as it matters here.
struct Row {
    name: Name,
    revision: Revision,
    hash: RecordHash,
    did: u8,
}

/// What is known of the records so far.
#[derive(Debug)]
pub(super) struct Names {
    file: DataFile,
    seeds: (RandomState, RandomState),
    /// Rows not written yet.
    waiting: Vec<u8>,
    /// Bytes written.
    written: u64,
}

/// Which of the records at or below the compact revision count, by their places from 0.
#[derive(Debug, Default)]
struct Counted(Bits);

impl Counted {
    /// Whether the record at that place counts.
    fn has(&self, place: u64) -> bool {
        self.0.has(place)
    }
}

impl Names {
    /// Nothing known yet. The file goes with the directory it lies in.
    pub(super) fn create(path: &Path) -> io::Result<Names> {
        Ok(Names {
            file: DataFile::create(path)?,
            seeds: (RandomState::new(), RandomState::new()),
            waiting: Vec::with_capacity(ROWS_AT_ONCE * ROW_BYTES),
            written: 0,
        })
    }

    /// Takes in the next record.
    pub(super) fn add(&mut self, record: &RevisionRecord, kv: &KeyValue) -> io::Result<()> {
        let did = match (record.tombstone, kv.version) {
            (true, _) => DELETED,
            (false, 1) => CREATED,
            (false, _) => CHANGED,
        };
        let key = &kv.key[..];
        for half in [self.seeds.0.hash_one(key), self.seeds.1.hash_one(key)] {
            self.waiting.extend_from_slice(&half.to_le_bytes());
        }
        let revision = record.pair.main.0.to_le_bytes();
        self.waiting.extend_from_slice(&revision);
        let hash = RecordHash::of(record.lent());
        self.waiting.extend_from_slice(&hash.to_bytes());
        self.waiting.push(did);
        match self.waiting.len() >= ROWS_AT_ONCE * ROW_BYTES {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.waiting, self.written)?;
        self.written += u64::try_from(self.waiting.len()).expect("a length fits");
        self.waiting.clear();
        Ok(())
    }

    /// HashKV of the records so far, at the last of them, of a store that is compacted at `compacted`.
    pub(super) fn hash(&mut self, compacted: Revision) -> io::Result<u32> {
        self.write()?;
        let counted = self.counted(compacted)?;
        let mut hashing = Hashing::default();
        self.each(|place, row| {
            if row.revision > compacted || counted.has(place) {
                hashing.add_apart(row.hash);
            }
        })?;
        Ok(hashing.finish())
    }

    /// What counts at or below `compacted`.
    fn counted(&self, compacted: Revision) -> io::Result<Counted> {
        if compacted <= Revision(0) {
            return Ok(Counted::default());
        }
        let (mut old, mut live) = (0, 0_i64);
        self.each(|_, row| match (row.revision <= compacted, row.did) {
            (true, _) => old += 1,
            (false, CREATED) => live += 1,
            (false, DELETED) => live -= 1,
            (false, _) => {}
        })?;
        let mut visible = (Bits::of(old), Bits::of(old));
        let shares = old.div_ceil(KEYS_MAX);
        for share in 0..shares {
            self.mark(
                compacted,
                |name: Name| name.0 % shares == share,
                &mut visible,
            )?;
        }
        let (now, then) = visible;
        // Where no key is left at all, what a compaction leaves is what was there at its revision.
        live += i64::try_from(then.count()).expect("records can be counted");
        Ok(Counted(if live > 0 { now } else { then }))
    }

    /// Marks, of the keys that are `meant`, the records that are visible now, and those that are at the
    /// compact revision.
    fn mark(
        &self,
        compacted: Revision,
        meant: impl Fn(Name) -> bool,
        (now, then): &mut (Bits, Bits),
    ) -> io::Result<()> {
        let mut places: HashMap<Name, u64> = HashMap::new();
        self.each(|place, row| {
            if !meant(row.name) {
                return;
            }
            let is_old = row.revision <= compacted;
            let before = match is_old && row.did != DELETED {
                true => places.insert(row.name, place),
                false => places.remove(&row.name),
            };
            if let Some(before) = before {
                now.set(before, false);
                if is_old {
                    then.set(before, false);
                }
            }
            if is_old && row.did != DELETED {
                now.set(place, true);
                then.set(place, true);
            }
        })
    }

    /// Calls `take` with every row and its place.
    fn each(&self, mut take: impl FnMut(u64, Row)) -> io::Result<()> {
        let mut buffer = vec![0; ROWS_AT_ONCE * ROW_BYTES];
        let (mut offset, mut place) = (0, 0);
        while offset < self.written {
            let left = usize::try_from(self.written - offset).unwrap_or(usize::MAX);
            let piece = &mut buffer[..left.min(ROWS_AT_ONCE * ROW_BYTES)];
            self.file.read_exact_at(piece, offset)?;
            for row in piece.chunks_exact(ROW_BYTES) {
                let word = |at: usize| {
                    let bytes = row[at..at + 8].try_into().expect("eight bytes");
                    u64::from_le_bytes(bytes)
                };
                let row = Row {
                    name: (word(0), word(8)),
                    revision: Revision(word(16).cast_signed()),
                    hash: RecordHash::from_bytes(word(24).to_le_bytes()),
                    did: row[32],
                };
                take(place, row);
                place += 1;
            }
            offset += u64::try_from(piece.len()).expect("a length fits");
        }
        Ok(())
    }
}

/// A bit for each place.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn of(places: u64) -> Bits {
        let words = usize::try_from(places.div_ceil(64)).expect("records are far fewer");
        Bits(vec![0; words])
    }

    fn at(place: u64) -> (usize, u64) {
        let word = usize::try_from(place / 64).expect("records are far fewer");
        (word, 1 << (place % 64))
    }

    fn set(&mut self, place: u64, bit: bool) {
        let (word, mask) = Bits::at(place);
        match bit {
            true => self.0[word] |= mask,
            false => self.0[word] &= !mask,
        }
    }

    fn has(&self, place: u64) -> bool {
        let (word, mask) = Bits::at(place);
        self.0.get(word).is_some_and(|word| word & mask != 0)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}
