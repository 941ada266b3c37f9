//! Protobuf in, protobuf out: the one room that knows both etcd's messages and the domain's words.
//!
//! Owns three translations: a client's request to [`crate::types::request`] ([`request`]), a result
//! to the bytes of its answer ([`answer`]), and operations to and from what a Raft entry holds
//! ([`entry`]). Must never do IO, name gRPC's services, or look at the store.
//!
//! Invariants:
//! - A request is checked in etcd's order while it is translated, so the first of several mistakes
//!   answers as it does in etcd.
//! - Answers equal, byte for byte, what a protobuf library makes of the same message: fields in
//!   ascending order, zero and empty fields left out (property-tested against prost).
//! - Stored key-values are spliced in, never decoded; large ones are not even copied.
//! - Whatever was encoded into an entry can be decoded from it: what the edge admits of nesting, the
//!   decoder of entries admits ([`deep`]).

#![forbid(unsafe_code)]

pub mod answer;
pub mod auth;
mod body;
mod deep;
pub mod entry;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture;
mod frame;
pub mod proto;
pub mod request;
mod txn_answer;

pub use deep::Undecodable;
pub use frame::{BrokenOff, Frame, MESSAGE_BYTES_MAX, PREFIX_LEN, Pages, Piece};
pub use request::{Invalid, TxnRefused};

use engram_state as state;
use engram_types as types;
use engram_watch as watch;

#[cfg(test)]
mod tests;
