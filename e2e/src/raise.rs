//! A flag that is raised at the end of a scope, whatever the end.

use std::sync::atomic::{AtomicBool, Ordering};

/// Raises its flag when it is dropped: threads that run until then end even where the test fails.
pub struct RaiseOnDrop<'a>(pub &'a AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
