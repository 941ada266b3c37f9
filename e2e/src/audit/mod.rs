//! The books of the crash audit: what clients were told, what the history says, and whether the two
//! can both be true.
//!
//! Clients ([`clients`]) note every operation with what they know of its outcome. After a crash and
//! a restart the [`ledger`] reads the history from where it stopped, revision by revision, and has
//! every revision claimed by exactly one operation: an acknowledged one at the revision it was told,
//! or one whose outcome was unknown. What is claimed twice, by nobody, or only in part, and what was
//! acknowledged and is not there, is a failure. Watchers ([`watchers`]) live through all crashes;
//! what they saw has to be what the ledger read. The ledger's work is linear in revisions and its
//! memory is bounded by one round and by how far a watcher lags behind.

pub mod clients;
pub mod ledger;
pub mod operation;
pub mod watchers;
