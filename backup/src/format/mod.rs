//! The bytes of a backup: chunks of records, and the manifest that names them.

mod chunk;
mod manifest;

pub use chunk::{CHUNK_BYTES, Chunk, ChunkError, Kind, Packer, Unpacked, unpack};
pub use manifest::{BackupId, ChunkEntry, FORMAT, IdError, Manifest, ManifestError, Summary};

#[cfg(test)]
pub(crate) use manifest::tests::sample;
use sha2::{Digest as _, Sha256};

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
