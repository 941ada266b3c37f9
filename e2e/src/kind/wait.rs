//! Waiting for what no single `kubectl wait` can say.

use std::thread;
use std::time::{Duration, Instant};

/// How often something is looked at: each look is a kubectl, of some 100 ms of processor time.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks until `look` returns a value, and returns it.
///
/// # Panics
/// If there is none after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not after {limit:?}");
        thread::sleep(INTERVAL);
    }
}
