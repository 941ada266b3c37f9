//! A clock that is cheap.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The clock that the kernel keeps from its last tick: some milliseconds coarse, which is enough to
/// tell what is slow, and several times cheaper than the exact one. It is asked of every call.
pub(super) fn coarse_now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
