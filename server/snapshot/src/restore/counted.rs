//! HashKV of records as they came, without an index of the keys: which of those at or below the compact revision
//! count (`state::mvcc::hash` has the rules).
//!
//! What decides is known when the last record has come: whether a key is written again. So 33 bytes of every record go to a
//! file as it comes, with what it hashes to by itself. Where there are more keys than a table may have, that is dealt out
//! to files of some of the keys each, and they are looked at one after the other: memory is the same for any number of
//! keys, but for two bits a record, and the work is so much a record.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{self, DataFile};
use crate::state::{Hashing, RecordHash, RevisionRecord};
use crate::types::{KeyValue, Revision};

/// Keys in the table at a time: 13 MiB. In tests so few that it takes several tables.
const KEYS_MAX: u64 = if cfg!(test) { 7 } else { 450_000 };
/// Files that rows are dealt out to: beyond them tables grow.
const SHARES_MAX: u64 = 256;
/// Bytes that are written and read at once, of all rows and of a share of them.
const BYTES_AT_ONCE: usize = 128 << 10;
const SHARE_BYTES_AT_ONCE: usize = 8 << 10;
/// A row: 16 bytes of name, 8 of the revision, 8 of the record's hash, 1 of what it did.
const ROW_BYTES: usize = 33;
/// The same with its place before it.
const PLACED_BYTES: usize = 8 + ROW_BYTES;
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

impl Row {
    fn decode(bytes: &[u8]) -> Row {
        let word = |at: usize| word(&bytes[at..]);
        Row {
            name: (word(0), word(8)),
            revision: Revision(word(16).cast_signed()),
            hash: RecordHash::from_bytes(word(24).to_le_bytes()),
            did: bytes[32],
        }
    }
}

/// The first eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().expect("a row is longer");
    u64::from_le_bytes(*first)
}

/// Rows of one length in a file.
#[derive(Debug)]
struct Rows {
    file: DataFile,
    row_bytes: usize,
    at_once: usize,
    /// Rows not written yet.
    waiting: Vec<u8>,
    /// Bytes written.
    written: u64,
}

impl Rows {
    fn create(path: &Path, row_bytes: usize, at_once: usize) -> io::Result<Rows> {
        Ok(Rows {
            file: DataFile::create(path)?,
            row_bytes,
            at_once: at_once / row_bytes * row_bytes,
            waiting: Vec::with_capacity(at_once),
            written: 0,
        })
    }

    /// Takes in a row, of parts one behind the other.
    fn add(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.waiting.extend_from_slice(part);
        }
        match self.waiting.len() >= self.at_once {
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

    /// Calls `take` with every row that was written.
    fn each(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; self.at_once];
        let mut offset = 0;
        while offset < self.written {
            let left = usize::try_from(self.written - offset).unwrap_or(usize::MAX);
            let piece = &mut buffer[..left.min(self.at_once)];
            self.file.read_exact_at(piece, offset)?;
            piece.chunks_exact(self.row_bytes).try_for_each(&mut take)?;
            offset += u64::try_from(piece.len()).expect("a length fits");
        }
        Ok(())
    }
}

/// What is known of the records so far.
#[derive(Debug)]
pub(super) struct Names {
    rows: Rows,
    path: PathBuf,
    seeds: (RandomState, RandomState),
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
            rows: Rows::create(path, ROW_BYTES, BYTES_AT_ONCE)?,
            path: path.to_path_buf(),
            seeds: (RandomState::new(), RandomState::new()),
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
        let halves = [self.seeds.0.hash_one(key), self.seeds.1.hash_one(key)];
        let [first, second] = halves.map(u64::to_le_bytes);
        let revision = record.pair.main.0.to_le_bytes();
        let hash = RecordHash::of(record.lent()).to_bytes();
        self.rows.add(&[&first, &second, &revision, &hash, &[did]])
    }

    /// HashKV of the records so far, at the last of them, of a store that is compacted at `compacted`.
    pub(super) fn hash(&mut self, compacted: Revision) -> io::Result<u32> {
        self.rows.write()?;
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
        match old.div_ceil(KEYS_MAX).min(SHARES_MAX) {
            0 => {}
            1 => mark(compacted, old, &mut visible, |take| self.each(take))?,
            shares => {
                let directory = self.path.with_extension("shares");
                fs::claim_dir(&directory)?;
                for share in self.dealt_out(shares, &directory)? {
                    let keys = old.div_ceil(shares);
                    mark(compacted, keys, &mut visible, |take| {
                        share.each(|row| {
                            take(word(row), Row::decode(&row[8..]));
                            Ok(())
                        })
                    })?;
                }
                fs::remove_tree(&directory)?;
            }
        }
        let (now, then) = visible;
        // Where no key is left at all, what a compaction leaves is what was there at its revision.
        live += i64::try_from(then.count()).expect("records can be counted");
        Ok(Counted(if live > 0 { now } else { then }))
    }

    /// All rows with their places, in files of as many shares of the keys, in a directory.
    fn dealt_out(&self, shares: u64, directory: &Path) -> io::Result<Vec<Rows>> {
        let share = |number: u64| {
            let path = directory.join(number.to_string());
            Rows::create(&path, PLACED_BYTES, SHARE_BYTES_AT_ONCE)
        };
        let mut all = (0..shares).map(share).collect::<io::Result<Vec<_>>>()?;
        let mut place = 0_u64;
        self.rows.each(|row| {
            let share = usize::try_from(word(row) % shares).expect("there are few");
            let placed = place.to_le_bytes();
            place += 1;
            all[share].add(&[&placed, row])
        })?;
        all.iter_mut().try_for_each(Rows::write)?;
        Ok(all)
    }

    /// Calls `take` with every row and its place.
    fn each(&self, mut take: impl FnMut(u64, Row)) -> io::Result<()> {
        let mut place = 0;
        self.rows.each(|row| {
            take(place, Row::decode(row));
            place += 1;
            Ok(())
        })
    }
}

/// Marks, of the keys of some rows, about so many, the records that are visible now, and those that are at the compact
/// revision. `each` calls with every one of the rows.
fn mark(
    compacted: Revision,
    keys: u64,
    (now, then): &mut (Bits, Bits),
    each: impl FnOnce(&mut dyn FnMut(u64, Row)) -> io::Result<()>,
) -> io::Result<()> {
    let keys = usize::try_from(keys).expect("records are far fewer");
    let mut places: HashMap<Name, u64> = HashMap::with_capacity(keys);
    each(&mut |place, row| {
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
