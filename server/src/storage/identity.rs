//! What a data directory is: which cluster's, which member's, and its own random incarnation.

use std::io;
use std::path::Path;

use engram_proto::store as pb;
use prost::Message;

use super::schema::FORMAT;
use crate::types::{ClusterId, MemberId};

/// The file's name in the data directory.
pub const FILE: &str = "IDENTITY";

/// A data directory's identity. Written once, before anything else; checked at every start.
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
        Ok(Some(Identity {
            cluster: ClusterId(identity.cluster),
            member: MemberId(identity.member),
            incarnation: identity.incarnation,
        }))
    }

    /// Writes the identity of a new directory, durably: protobuf, then its CRC32C (big endian).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn store(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let identity = pb::Identity {
            format: FORMAT,
            cluster: self.cluster.0,
            member: self.member.0,
            incarnation: self.incarnation,
        };
        let mut bytes = identity.encode_to_vec();
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        Ok(crate::fs::write_durably(&data_dir.join(FILE), &bytes)?)
    }
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
}
