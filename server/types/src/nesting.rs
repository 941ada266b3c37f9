//! Room for transactions within transactions, which nest as deep as a client likes (4,999 of them at
//! most, see `codec::deep`).
//!
//! Invariant: whoever goes from a transaction into one within it does so through [`within`]; a
//! stack never runs out, on whatever thread.

/// What must be left of the stack before the next level: more than any level takes.
const RED_ZONE: usize = 128 << 10;
/// What is added where it is not: room for hundreds of levels.
const SEGMENT: usize = 2 << 20;

/// Runs `work`, which looks at a transaction within another, where the stack has room for it.
pub fn within<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(RED_ZONE, SEGMENT, work)
}
