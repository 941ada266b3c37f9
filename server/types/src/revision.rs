//! Revisions: the store's logical clock.

use std::fmt;

/// The main revision: how many transactions have changed the store, plus one. An empty store is at
/// revision 1 and the first write makes 2. Never negative in the store; requests may carry a
/// negative number, which means "the latest".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of an empty store.
    pub const EMPTY_STORE: Revision = Revision(1);

    /// The next main revision. Panics at `i64::MAX`, which a store cannot reach in practice.
    #[inline]
    pub fn next(self) -> Revision {
        Revision(self.0.checked_add(1).expect("fewer than 2^63 writes"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One change: the main revision of its transaction and its place within it (0, 1, 2, …).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionPair {
    /// The transaction's revision.
    pub main: Revision,
    /// The change's index within the transaction. Bounded by the keys one request can touch.
    pub sub: u32,
}

impl RevisionPair {
    /// Shorthand for the pair.
    #[inline]
    pub fn new(main: i64, sub: u32) -> RevisionPair {
        RevisionPair {
            main: Revision(main),
            sub,
        }
    }
}
