//! What a data directory is: which cluster's, which member's, and its own random incarnation.

use std::io;
use std::path::Path;

use engram_proto::store as pb;
use prost::Message;

use super::schema::FORMAT;
use crate::types::{ClusterId, MemberId};

/// The file's name in the data directory.
pub const FILE: &str = "IDENTITY";

/// A data directory's identity. Written before anything else, and once more when the member's log
/// was begun; checked at every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// Chosen at random when the directory was made: a member that lost its data and comes back
    /// under its old id is recognised by another incarnation.
    pub incarnation: u64,
}

/// Why a directory's identity cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("{FILE} of the data directory: {0}")]
    Io(#[from] io::Error),
    /// The file is not an identity.
    #[error(
        "{FILE} of the data directory is damaged: restore this member from the others or from a backup"
    )]
    Damaged,
    /// Another version wrote it.
    #[error(
        "the data directory has format {0}, this engram reads {FORMAT}: start the engram that wrote it"
    )]
    Format(u32),
}

impl Identity {
    /// Reads the identity of the directory; none in a directory that has none yet.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
        let found = read(data_dir)?;
        Ok(found.map(|identity| Identity {
            cluster: ClusterId(identity.cluster),
            member: MemberId(identity.member),
            incarnation: identity.incarnation,
        }))
    }

    /// Whether the member of this directory has begun its log. One that is not there then is lost.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn log_is_begun(data_dir: &Path) -> Result<bool, IdentityError> {
        Ok(read(data_dir)?.is_some_and(|identity| identity.log_begun))
    }

    /// Writes the identity of a new directory, durably.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn store(&self, data_dir: &Path) -> Result<(), IdentityError> {
        self.write(data_dir, false)
    }

    /// Notes, durably, that the log was begun. For a log that is durable, before anything is
    /// promised in it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn note_log_begun(&self, data_dir: &Path) -> Result<(), IdentityError> {
        self.write(data_dir, true)
    }

    /// Protobuf, then its CRC32C (big endian).
    fn write(&self, data_dir: &Path, log_begun: bool) -> Result<(), IdentityError> {
        let identity = pb::Identity {
            format: FORMAT,
            cluster: self.cluster.0,
            member: self.member.0,
            incarnation: self.incarnation,
            log_begun,
        };
        let mut bytes = identity.encode_to_vec();
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        Ok(crate::fs::write_durably(&data_dir.join(FILE), &bytes)?)
    }
}

fn read(data_dir: &Path) -> Result<Option<pb::Identity>, IdentityError> {
    let Some(bytes) = crate::fs::read_if_exists(&data_dir.join(FILE))? else {
        return Ok(None);
    };
    let (body, sum) = bytes
        .split_last_chunk::<4>()
        .ok_or(IdentityError::Damaged)?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
        return Err(IdentityError::Damaged);
    }
    let identity = pb::Identity::decode(body).map_err(|_| IdentityError::Damaged)?;
    if identity.format != FORMAT {
        return Err(IdentityError::Format(identity.format));
    }
    Ok(Some(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Identity::load(dir.path()).unwrap().is_none());
        let identity = Identity {
            cluster: ClusterId(1),
            member: MemberId(u64::MAX),
            incarnation: 77,
        };
        identity.store(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), Some(identity));
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x40;
            std::fs::write(dir.path().join(FILE), bytes).unwrap();
            assert!(Identity::load(dir.path()).is_err(), "byte {place}");
        }
    }

    #[test]
    fn it_says_whether_a_log_was_begun_as_one_of_an_older_version_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Identity::log_is_begun(dir.path()).unwrap());
        let identity = Identity {
            cluster: ClusterId(0x11),
            member: MemberId(0x22),
            incarnation: 0x33,
        };
        identity.store(dir.path()).unwrap();
        let older = [8, 1, 16, 0x11, 24, 0x22, 32, 0x33];
        let written = std::fs::read(dir.path().join(FILE)).unwrap();
        assert_eq!(written[..8], older, "the bytes of the version before");
        assert!(!Identity::log_is_begun(dir.path()).unwrap());
        identity.note_log_begun(dir.path()).unwrap();
        assert!(Identity::log_is_begun(dir.path()).unwrap());
        assert_eq!(Identity::load(dir.path()).unwrap(), Some(identity));
    }
}
