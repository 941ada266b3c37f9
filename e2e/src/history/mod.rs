//! Histories of concurrent clients, and whether a correct server could have answered like that.
//!
//! Clients put, read, delete, swap and lease a few keys with unique values, and note when they asked
//! and what they were told; observers watch everything at every member. Every write has a revision,
//! so the events, merged, are the one order in which all writes happened: [`timeline`] makes it and
//! fails where two members disagree. [`order`] checks that every answer fits its place in that order
//! and that no answer contradicts real time (which together is strict serializability), and
//! [`promises`] that every watch was ordered, unique, atomic, reliable, resumable and bookmarkable.
//! [`referee`] has etcd's own model and validators judge the same history.
//!
//! That order is why no search is needed here. `porcupine-rs` 0.3, which searches, was looked at: it
//! has a benchmark framework among its dependencies, and what it would find, the referee finds.

pub mod observer;
mod operation;
mod order;
mod perform;
mod promises;
pub mod recording;
mod referee;
mod timeline;
mod worker;

pub use operation::{Action, Answer, Kv, Operation, Outcome};
pub use referee::judge;

use std::time::Instant;

/// Nanoseconds since the recording began; at least 1.
pub type Moment = u64;

/// The clock of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Now.
    ///
    /// # Panics
    /// After 584 years.
    pub fn now(self) -> Moment {
        let nanos = u64::try_from(self.began.elapsed().as_nanos());
        nanos.expect("recordings are short") + 1
    }
}
