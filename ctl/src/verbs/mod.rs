//! One file a family of verbs.

pub mod adopt;
pub mod archive;
pub mod auth;
pub mod backup;
pub mod check;
pub mod directory;
pub mod downgrade;
pub mod elect;
pub mod endpoint;
pub mod import;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod member;
pub mod migrate;
pub mod mirror;
pub mod options;
mod request;
pub mod restore;
mod session;
pub mod snapshot;
pub mod txn;
pub mod watch;

use crate::failure::Failure;
use crate::go::numbers::{parse_int, parse_uint};

/// A lease's id, hexadecimal as etcdctl takes it.
fn lease_id(text: &str) -> Result<i64, Failure> {
    parse_int(text)
        .map_err(|why| Failure::arguments(format!("bad lease ID ({why}), expecting ID in Hex")))
}

/// A member's id, hexadecimal.
fn member_id(text: &str) -> Result<u64, Failure> {
    parse_uint(text).map_err(|why| {
        Failure::arguments(format!("bad member ID arg ({why}), expecting ID in Hex"))
    })
}
