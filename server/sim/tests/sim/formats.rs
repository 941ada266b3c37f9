//! Format numbers of what lies in a data directory, set to those of another build.

use std::path::{Path, PathBuf};

use engram_proto::store as pb;
use prost::Message;

/// Where a format number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In the log's youngest segment.
    Log,
    /// In the store.
    Store,
    /// In the directory's identity.
    Identity,
    /// In the record that says which store is in force.
    Switch,
}

/// Where a segment has it.
const IN_SEGMENT: usize = 8;
/// A row of a store's table in memory (`storage/memory`) up to its value's last byte: of the second family,
/// with a key of one byte, a zero, and a value of eight.
const ROW: [u8; 17] = [1, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Sets the number in a data directory: what it was. None where there is none that can be set.
pub fn set(dir: &Path, carrier: Carrier, number: u8) -> Option<u8> {
    let path = match carrier {
        Carrier::Log => youngest(&dir.join("wal"), "wal")?,
        Carrier::Store => youngest(&super::disk::store_of(dir)?, "sst")?,
        Carrier::Identity => dir.join("IDENTITY"),
        Carrier::Switch => dir.join("SWITCH"),
    };
    let bytes = std::fs::read(&path).ok()?;
    let (bytes, before) = match carrier {
        Carrier::Log => in_segment(bytes, number),
        Carrier::Store => in_table(bytes, number),
        Carrier::Identity => in_record(&bytes, |record: &mut pb::Identity| {
            std::mem::replace(&mut record.format, number.into())
        }),
        Carrier::Switch => in_record(&bytes, |record: &mut pb::Switch| {
            std::mem::replace(&mut record.format, number.into())
        }),
    }?;
    std::fs::write(path, bytes).expect("memory can be written");
    Some(before)
}

/// The file of that ending with the greatest name.
fn youngest(dir: &Path, ending: &str) -> Option<PathBuf> {
    let files = super::disk::files_of(dir).into_iter();
    let is_one = |path: &PathBuf| path.extension().is_some_and(|end| end == ending);
    files.filter(is_one).max()
}

fn in_segment(mut bytes: Vec<u8>, number: u8) -> Option<(Vec<u8>, u8)> {
    let before = std::mem::replace(bytes.get_mut(IN_SEGMENT)?, number);
    Some((bytes, before))
}

/// RocksDB's tables have no such row as this.
fn in_table(mut bytes: Vec<u8>, number: u8) -> Option<(Vec<u8>, u8)> {
    let row = bytes.windows(ROW.len()).position(|row| row == ROW)?;
    let before = std::mem::replace(bytes.get_mut(row + ROW.len())?, number);
    let end = bytes.len() - 4;
    let sum = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_le_bytes());
    Some((bytes, before))
}

/// A record and its checksum.
fn in_record<R: Message + Default>(
    bytes: &[u8],
    set: impl FnOnce(&mut R) -> u32,
) -> Option<(Vec<u8>, u8)> {
    let (body, _) = bytes.split_last_chunk::<4>()?;
    let mut record = R::decode(body).ok()?;
    let before = set(&mut record);
    let mut bytes = record.encode_to_vec();
    let sum = crc32c::crc32c(&bytes);
    bytes.extend(sum.to_be_bytes());
    Some((bytes, u8::try_from(before).ok()?))
}
