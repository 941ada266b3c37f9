//! Reclaiming: rewriting the files that hold what was deleted, in parts, so that whoever does it can
//! rest between two of them and no part needs much free space.

use rocksdb::{ColumnFamilyRef, CompactOptions, DB};

use super::super::rows::EngineError;
use super::super::schema;

/// Bytes of the lowest files that make up a part, about: what is rewritten at once, and what has to
/// fit the disk beside the old files for a moment.
const PART_BYTES: u64 = 64 << 20;

/// A range of keys that is rewritten at once. Both ends are in it; none is the end of all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    /// Bytes of the files in it, about.
    pub bytes: u64,
    /// Bytes that rewriting it takes, at most, before it frees any.
    pub needs_bytes: u64,
}

/// A file of the lowest level: its last key, its bytes.
struct Lowest {
    end: Vec<u8>,
    bytes: u64,
}

/// The parts in which all of a database is reclaimed.
///
/// # Errors
/// Its files are not known.
pub(super) fn of(db: &DB) -> Result<Vec<Part>, EngineError> {
    let ours = db.live_files()?;
    let ours: Vec<_> = ours
        .into_iter()
        .filter(|file| file.column_family_name == schema::REVISIONS)
        .collect();
    let bottom = ours.iter().map(|file| file.level).max().unwrap_or(0);
    let above: u64 = ours
        .iter()
        .filter(|file| file.level < bottom)
        .map(|file| file.size as u64)
        .sum();
    let lowest = ours
        .into_iter()
        .filter(|file| file.level == bottom && bottom > 0)
        .filter_map(|file| {
            Some(Lowest {
                end: file.end_key?,
                bytes: file.size as u64,
            })
        });
    Ok(parts(lowest.collect(), above))
}

/// Rewrites one part where it holds garbage. Blocks the caller until done.
pub(super) fn rewrite(db: &DB, family: &ColumnFamilyRef<'_>, part: &Part) {
    let mut options = CompactOptions::default();
    // The engine's own compactions go on beside it, or writes would wait for it.
    options.set_exclusive_manual_compaction(false);
    let (start, end) = (part.start.as_deref(), part.end.as_deref());
    db.compact_range_cf_opt(family, start, end, &options);
}

/// Bytes on disk for each byte that was written, as compression made it: 1 where nothing is on disk.
/// Reads the properties of every file; blocks.
///
/// # Errors
/// They cannot be read.
pub(super) fn compression_of(db: &DB, family: &ColumnFamilyRef<'_>) -> Result<f64, EngineError> {
    let name = "rocksdb.aggregated-table-properties";
    match db.property_value_cf(family, name) {
        Ok(text) => Ok(text.and_then(|text| compression(&text)).unwrap_or(1.0)),
        Err(error) => Err(EngineError(format!("{name} cannot be read: {error}"))),
    }
}

/// Cuts the key space at the ends of the lowest files, `above` bytes of files lying over them.
fn parts(mut lowest: Vec<Lowest>, above: u64) -> Vec<Part> {
    lowest.sort_by(|one, other| one.end.cmp(&other.end));
    let count = lowest.len().max(1) as u64;
    let mut parts = Vec::new();
    let mut part = Part::default();
    for file in lowest {
        part.bytes += file.bytes + above / count;
        if part.bytes >= PART_BYTES {
            // The next key after the file's last.
            let next = [file.end.as_slice(), &[0]].concat();
            part.end = Some(file.end);
            let start = Some(next);
            parts.push(std::mem::replace(
                &mut part,
                Part {
                    start,
                    ..Part::default()
                },
            ));
        }
    }
    if parts.is_empty() {
        part.bytes = part.bytes.max(above);
    }
    parts.push(part);
    for part in &mut parts {
        // Files above are pulled down whole, by whichever part comes first.
        part.needs_bytes = part.bytes + above;
    }
    parts
}

/// From the engine's text of properties, `name=number; …`.
fn compression(text: &str) -> Option<f64> {
    let number = |name: &str| -> Option<f64> {
        let mut pairs = text.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
        value.trim().parse().ok()
    };
    let written = number("raw key size")? + number("raw value size")?;
    (written > 0.0).then_some(number("data block size")? / written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Engine, EngineOptions};

    fn file(end: u8, bytes: u64) -> Lowest {
        Lowest {
            end: vec![end],
            bytes,
        }
    }

    #[test]
    fn parts_cover_every_key_once_in_order() {
        let files = vec![
            file(30, PART_BYTES),
            file(10, PART_BYTES / 2),
            file(20, PART_BYTES),
        ];
        let parts = parts(files, 0);
        let ends: Vec<_> = parts.iter().map(|part| part.end.clone()).collect();
        let starts: Vec<_> = parts.iter().map(|part| part.start.clone()).collect();
        assert_eq!(ends, [Some(vec![20]), Some(vec![30]), None]);
        assert_eq!(starts, [None, Some(vec![20, 0]), Some(vec![30, 0])]);
    }

    #[test]
    fn a_store_of_new_files_only_is_one_part() {
        let all = parts(Vec::new(), 9);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (&all[0].start, &all[0].end, all[0].bytes),
            (&None, &None, 9)
        );
    }

    #[test]
    fn compression_is_read_from_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
        assert_eq!(engine.compression(), 1.0);
        let scratch = crate::store::fixture::Scratch::empty();
        for _ in 0..50 {
            scratch.put("key", &[b'x'; 100_000]);
        }
        let engine = scratch.store.engine();
        engine.flush();
        assert!(engine.compression() < 0.1, "{}", engine.compression());
    }
}
