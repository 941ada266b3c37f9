//! Files and directories: the one room that touches `std::fs` for data that must survive a crash.
//!
//! Owns private directories and their lock, positioned IO with explicit syncs, durable creation,
//! renaming and removal, free space and the reserve file. It must never hide an error, retry a
//! failed sync, or report success before the directory entry itself is durable.
//!
//! Invariants:
//! - F1: whatever creates, renames or removes a name durably has synced its directory on return.
//! - F2: every file is made with mode 0600, every directory with 0700.

mod data_file;
mod direct;
mod directory;
mod durable;
#[cfg(any(test, feature = "fixtures"))]
pub mod faults;
mod lock;
#[cfg(any(test, feature = "fixtures"))]
pub mod power;
mod read;
mod replace;
mod reserve;
#[cfg(test)]
mod tests;

pub use data_file::DataFile;
pub use direct::takes_direct_io;
pub use directory::{
    DirError, DirMode, claim_dir, create_private_dir, file_names, file_sizes, is_dir, remove_tree,
};
pub use durable::{remove_durably, rename_durably, sync_dir};
pub use lock::{DirLock, FileLock, LockError};
pub use read::{
    Stamp, address_space_limit, file_limit, open_file_count, read_at_most, read_first,
    read_if_exists, read_text, stamp, thread_ids,
};
pub use replace::write_durably;
pub use reserve::{DiskSpace, Reserve, is_out_of_space, is_same_filesystem, space};
