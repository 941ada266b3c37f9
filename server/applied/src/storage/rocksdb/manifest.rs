//! The engine's manifest, looked at before the engine reads it.
//!
//! A byte changed on the disk, or by a peer, so that a later record seems to be of a recycled file has
//! RocksDB's reader go round for ever (`log::Reader::ReadPhysicalRecord` passes over nothing then). A
//! manifest is never recycled.
//! Source of the format: RocksDB's `db/log_format.h`: blocks of 32 KiB; in them records of a masked
//! CRC-32C (4 bytes), a length (2) and a type (1), then data; less than 7 bytes at a block's end are zero.

use std::io;
use std::path::Path;

use crate::fs::{self, DataFile};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// What RocksDB adds to a rotated checksum, so that checksums of checksums are none.
const MASK: u32 = 0xa282_ead8;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Whether every manifest in a directory is whole, record by record.
///
/// # Errors
/// One cannot be read.
pub(super) fn are_whole(dir: &Path) -> io::Result<bool> {
    for name in fs::file_names(dir)? {
        if name.starts_with("MANIFEST-") && !is_whole(&dir.join(name))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the engine would read a manifest in a directory for ever. Whatever else may be wrong with
/// one (its end may be torn) the engine sees to.
///
/// # Errors
/// One cannot be read.
pub(super) fn would_not_end(dir: &Path) -> io::Result<bool> {
    for name in fs::file_names(dir)? {
        if name.starts_with("MANIFEST-")
            && !blocks(&dir.join(name), &mut |block| !seems_recycled(block))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_whole(path: &Path) -> io::Result<bool> {
    let mut is_within = false;
    let all = blocks(path, &mut |block| read_block(block, &mut is_within))?;
    Ok(all && !is_within)
}

/// Whether `holds` is true of every block of a file.
fn blocks(path: &Path, holds: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let file = DataFile::open_to_read(path)?;
    let (bytes, mut offset) = (file.bytes()?, 0);
    let mut block = vec![0; BLOCK_BYTES];
    while offset < bytes {
        let len = usize::try_from(bytes - offset).unwrap_or(BLOCK_BYTES);
        let block = &mut block[..len.min(BLOCK_BYTES)];
        file.read_exact_at(block, offset)?;
        if !holds(block) {
            return Ok(false);
        }
        offset += block.len() as u64;
    }
    Ok(true)
}

/// Whether a record in a block is of a type that only recycled files have.
fn seems_recycled(mut block: &[u8]) -> bool {
    while let Some((header, rest)) = block.split_at_checked(HEADER_BYTES) {
        if matches!(header[6], 5..=8 | 11 | 131) {
            return true;
        }
        let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let is_padding = header[6] == 0 && len == 0;
        match rest.get(len..) {
            Some(next) if !is_padding => block = next,
            _ => return false,
        }
    }
    false
}

/// Whether a block holds records, one after the other; `is_within` one that began in the block before.
fn read_block(mut block: &[u8], is_within: &mut bool) -> bool {
    let is_last = block.len() < BLOCK_BYTES;
    while block.len() >= HEADER_BYTES {
        let (header, rest) = block.split_at(HEADER_BYTES);
        let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let Some(data) = rest.get(..len) else {
            return false;
        };
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[6..]), data);
        let fits = match header[6] {
            FULL | FIRST => !*is_within,
            MIDDLE | LAST => *is_within,
            _ => false,
        };
        if !fits || checksum.rotate_right(15).wrapping_add(MASK) != stored {
            return false;
        }
        *is_within = matches!(header[6], FIRST | MIDDLE);
        block = &rest[len..];
    }
    // A block is filled up; a file ends with its last record.
    block.iter().all(|byte| *byte == 0) && (!is_last || block.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, data: &[u8]) -> Vec<u8> {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), data);
        let masked = checksum.rotate_right(15).wrapping_add(MASK);
        let mut bytes = masked.to_le_bytes().to_vec();
        bytes.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
        bytes.push(kind);
        bytes.extend(data);
        bytes
    }

    fn whole(bytes: &[u8]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("MANIFEST-000001"), bytes).unwrap();
        are_whole(dir.path()).unwrap()
    }

    #[test]
    fn records_within_and_across_blocks_are_whole_and_nothing_else_is() {
        let mut bytes = record(FULL, b"first");
        let left = BLOCK_BYTES - bytes.len() - HEADER_BYTES;
        bytes.extend(record(FIRST, &vec![7; left]));
        bytes.extend(record(MIDDLE, &vec![7; BLOCK_BYTES - HEADER_BYTES - 3]));
        bytes.extend([0; 3]);
        bytes.extend(record(LAST, b"end"));
        assert!(whole(&bytes) && whole(b""));
        for at in [
            0,
            4,
            5,
            6,
            9,
            BLOCK_BYTES - 1,
            BLOCK_BYTES + 6,
            2 * BLOCK_BYTES - 1,
        ] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!whole(&changed), "{at}");
        }
        for cut in [1, 8, bytes.len() - 1, 2 * BLOCK_BYTES] {
            assert!(!whole(&bytes[..cut]), "{cut}");
        }
        bytes.push(0);
        assert!(!whole(&bytes), "more than records");
    }

    /// One changed byte, and the engine would never have come back from its own start.
    #[test]
    fn a_start_on_a_manifest_that_would_be_read_for_ever_is_refused() {
        use crate::storage::{Engine, EngineOptions};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        drop(Engine::open(&path, EngineOptions::default()).unwrap());
        drop(Engine::open(&path, EngineOptions::default()).unwrap());
        let names = fs::file_names(&path).unwrap();
        let name = names.iter().find(|name| name.starts_with("MANIFEST-"));
        let manifest = path.join(name.unwrap());
        let sound = std::fs::read(&manifest).unwrap();
        let second = HEADER_BYTES + usize::from(u16::from_le_bytes([sound[4], sound[5]]));
        for kind in [5, 6, 7, 8] {
            let mut changed = sound.clone();
            changed[second + 6] = kind;
            std::fs::write(&manifest, changed).unwrap();
            let refused = Engine::open(&path, EngineOptions::default()).map(drop);
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("restore this member"), "{said}");
        }
        // A torn end is the engine's matter.
        let mut torn = sound.clone();
        torn.extend(&sound[..20]);
        std::fs::write(&manifest, torn).unwrap();
        assert!(!would_not_end(&path).unwrap());
        std::fs::write(&manifest, sound).unwrap();
        drop(Engine::open(&path, EngineOptions::default()).unwrap());
    }

    /// What the engine itself writes is whole; a store beside which none could be read is refused.
    #[test]
    fn the_engine_s_own_are_whole() {
        use crate::storage::{Engine, EngineOptions};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        for _ in 0..3 {
            let engine = Engine::open(&path, EngineOptions::default()).unwrap();
            engine.flush();
            drop(engine);
            assert!(are_whole(&path).unwrap());
        }
        Engine::inspect(&path).unwrap();
        let names = fs::file_names(&path).unwrap();
        let name = names.iter().find(|name| name.starts_with("MANIFEST-"));
        let manifest = path.join(name.unwrap());
        let mut bytes = std::fs::read(&manifest).unwrap();
        bytes[5] ^= 0x40;
        std::fs::write(&manifest, bytes).unwrap();
        let refused = Engine::inspect(&path).map(drop).unwrap_err().to_string();
        assert!(refused.contains("manifest"), "{refused}");
    }
}
