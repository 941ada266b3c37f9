//! Backups: everything a cluster holds at one revision, in a form that depends on no engine.
//!
//! ```text
//! create   members ─► source (Maintenance.Snapshot, spooled to disk) ─► format ─► store, the manifest last
//! read     store ─► format ─► records in revision order
//! restore  read ─► engram-server's offline restore, HashKV compared with the manifest ─► a data directory
//! verify   restore into a scratch directory
//! point    a moment ─► the backup and the part of the log archive (engram-archive) that make it
//! replay   the archive's segments behind a backup that was read, up to that moment
//! copy     store ─► another store, the manifest last
//! prune    retention (pure) ─► store, the manifest first
//! ```
//!
//! Memory is bounded whatever the size of a backup: a few chunks at a time, and the leases. `docs/backup-format.md`
//! describes the bytes.
//!
//! Invariants
//! - B1: the manifest is written last, and only if there is none: what is listed is whole.
//! - B2: no byte that was stored and is another one when it is read goes unnoticed.
//! - B3: deleting removes the manifest first; the newest whole backup is never pruned.
//! - B4: nobody prunes what another one made, nor another cluster's backups of the same name; a
//!   backup that was not good when it was read back counts for no rule and is never the latest.

#![forbid(unsafe_code)]

pub mod channel;
pub mod copy;
pub mod create;
pub mod format;
mod lineage;
mod members;
pub mod point;
mod progress;
pub mod prune;
pub mod read;
mod receive;
mod replay;
pub mod restore;
pub mod retention;
pub mod source;
pub mod store;
pub mod verify;

pub use members::{MembersError, Reached};
pub use progress::{Progress, Silent};
