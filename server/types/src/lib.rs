//! The words every room shares: ids, revisions, key ranges, requests, results, stored key-values.
//!
//! Owns plain data and its codecs. Must never do IO, read a clock, or name tonic, openraft or
//! RocksDB.

#![forbid(unsafe_code)]

pub mod auth;
mod ids;
mod key_range;
mod nesting;
pub mod request;
pub mod result;
mod revision;
mod stored;
pub mod version;

pub use ids::{ClusterId, LeaseId, MemberId};
pub use key_range::{KeyRange, RangeEnd};
pub use nesting::within;
pub use revision::{Revision, RevisionPair};
pub use stored::{KeyValue, KeyValueError, KeyValueRef, Stored};
