//! The bytes of a backup: chunks of records, and the manifest that names them.

mod chunk;
mod manifest;
mod sealed;
mod verification;
mod whose;

pub use chunk::{CHUNK_BYTES, Chunk, ChunkError, Kind, Packer, Unpacked, unpack};
pub use manifest::{BackupId, ChunkEntry, FORMAT, IdError, Manifest, ManifestError, Summary};
pub use verification::Verification;
pub use whose::{FIRST, Selector, Whose, WhoseError};

#[cfg(test)]
pub(crate) use manifest::tests::sample;
use sha2::{Digest as _, Sha256};

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha256_of([bytes])
}

/// SHA-256 of parts one after the other, in hexadecimal.
pub(crate) fn sha256_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    let digest = digest.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
