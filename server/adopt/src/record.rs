//! What an adoption leaves in the data directory: that it happened, out of which log, and how that
//! log ended then. An etcd that was started there again has another end.

use std::io;
use std::path::{Path, PathBuf};

use engram_proto::store as pb;
use prost::Message as _;

use super::log::End;
use crate::fs;

/// The file's name in the data directory.
pub const FILE: &str = "ADOPTED";
/// The format of the file; another number is refused.
const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Where etcd's log lies.
    pub log_dir: PathBuf,
    /// How it ended.
    pub end: End,
    /// The last entry that etcd's store held; 0 in one that held nothing. What etcd's log has beyond
    /// it is carried into ours.
    pub applied: u64,
    /// Whether the last file of etcd's is gone (`engramctl adopt --finish`).
    pub finished: bool,
}

/// Why the record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error("{FILE} of the data directory: {0}")]
    Io(#[from] io::Error),
    /// The file is none.
    #[error(
        "{FILE} of the data directory is damaged: restore this member from the others or from a backup"
    )]
    Damaged,
    /// Another version wrote it.
    #[error(
        "the data directory's {FILE} has format {0}, this engram reads {FORMAT}: start the engram that wrote it"
    )]
    Format(u32),
}

impl Adoption {
    /// Reads the record of a data directory; none where nothing was adopted.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn load(data_dir: &Path) -> Result<Option<Adoption>, RecordError> {
        let Some(bytes) = fs::read_if_exists(&data_dir.join(FILE))? else {
            return Ok(None);
        };
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(RecordError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
            return Err(RecordError::Damaged);
        }
        let record = pb::Adoption::decode(body).map_err(|_| RecordError::Damaged)?;
        if record.format != FORMAT {
            return Err(RecordError::Format(record.format));
        }
        Ok(Some(Adoption {
            log_dir: record.log_dir.into(),
            end: End {
                file: record.log_file,
                offset: record.log_offset,
                checksum: record.log_checksum,
            },
            applied: record.applied,
            finished: record.finished,
        }))
    }

    /// Its bytes: protobuf, then its CRC32C (big endian).
    pub(super) fn encode(&self) -> Vec<u8> {
        let record = pb::Adoption {
            format: FORMAT,
            log_dir: self.log_dir.to_string_lossy().into_owned(),
            log_file: self.end.file.clone(),
            log_offset: self.end.offset,
            log_checksum: self.end.checksum,
            applied: self.applied,
            finished: self.finished,
        };
        let mut bytes = record.encode_to_vec();
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Writes the record, durably.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn store(&self, data_dir: &Path) -> io::Result<()> {
        fs::write_durably(&data_dir.join(FILE), &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Adoption::load(dir.path()).unwrap(), None);
        let adoption = Adoption {
            log_dir: "/d/member/wal".into(),
            end: End {
                file: "0000000000000000-0000000000000000.wal".into(),
                offset: 4096,
                checksum: 77,
            },
            applied: 12,
            finished: false,
        };
        adoption.store(dir.path()).unwrap();
        assert_eq!(Adoption::load(dir.path()).unwrap(), Some(adoption));
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x40;
            std::fs::write(dir.path().join(FILE), bytes).unwrap();
            assert!(Adoption::load(dir.path()).is_err(), "byte {place}");
        }
    }
}
