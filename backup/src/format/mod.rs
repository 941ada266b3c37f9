//! The bytes of a backup: chunks of records, and the manifest that names them.

mod manifest;
mod verification;

pub use engram_objects::chunk::{
    CHUNK_BYTES, Chunk, ChunkError, Kind, Packer, Unpacked, unpack_known,
};
pub use engram_objects::{BackupId, FIRST, IdError, Selector, Whose, WhoseError};
pub use manifest::{ChunkEntry, FORMAT, Manifest, ManifestError, Summary};
pub use verification::Verification;

pub(crate) use engram_objects::{Digest, sha256, sha256_of};
#[cfg(test)]
pub(crate) use manifest::tests::{sample, sample_chunk, store_of_format_1};
