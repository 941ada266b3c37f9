//! What backups and the log archive consist of: chunks of messages and sealed lines, every byte under
//! a checksum, and the object stores and directories that they lie in; encrypted, where keys are given.
//!
//! Knows neither backups nor archives: only bytes, names and what a store says.

#![forbid(unsafe_code)]

mod buffer;
pub mod chunk;
pub mod cipher;
mod digest;
mod directory;
mod error;
mod name;
mod open;
pub mod sealed;
mod staged;
mod store;
mod whose;

pub use cipher::{CipherError, KeyError, KeyId, Keys};
pub use digest::{Digest, sha256, sha256_of};
pub use error::ObjectError;
pub use name::{BackupId, IdError};
pub use object_store::path::Path;
pub use store::{Created, Objects};
pub use whose::{FIRST, Selector, Whose, WhoseError};
