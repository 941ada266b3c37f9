//! Backups and restores, seen from outside: the real engram, engramctl, etcd and an S3 server.
//!
//! Run them with `make backup`. They take turns.

mod adopt;
mod agreement;
mod archive;
mod clouds;
mod content;
mod directory;
mod encryption;
mod formats;
mod import;
mod memory;
mod object_store;
mod snapshots;
mod users;
mod verbs;
