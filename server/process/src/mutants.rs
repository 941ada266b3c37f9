//! Planted faults, by which the simulator is judged: it has to find each of them.
//!
//! Only a build with the feature `mutants` has them, and there only the one that was chosen; in every
//! other build the question is a constant, and what hangs on it is not compiled in.

/// Whether the fault of this name is planted.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn is_planted(_name: &str) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use planted::{is_planted, plant};

#[cfg(feature = "mutants")]
mod planted {
    use parking_lot::RwLock;

    static PLANTED: RwLock<Option<String>> = RwLock::new(None);

    /// Whether the fault of this name is planted.
    #[must_use]
    pub fn is_planted(name: &str) -> bool {
        PLANTED.read().as_deref() == Some(name)
    }

    /// Plants one fault, or none, in the whole process.
    pub fn plant(name: Option<&str>) {
        *PLANTED.write() = name.map(str::to_owned);
    }
}
