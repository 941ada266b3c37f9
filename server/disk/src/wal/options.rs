//! What a caller chooses about a log, and what the log calls back with.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::segment::Owner;
use super::writer::record_bytes_max;

/// How a log is kept. `Options::default()` is what a server runs with, except for the callbacks.
#[derive(Clone)]
pub struct Options {
    /// Whose log it is: stated in every segment, and a segment of somebody else is refused.
    pub owner: Owner,
    /// Bytes of a segment file: a multiple of 4096, from 16 KiB to 1 GiB. Default 64 MiB, as etcd's.
    /// Segments that already exist keep the size that their header states.
    pub segment_bytes: u64,
    /// Whether frames are synced to the disk. Default true; `--unsafe-no-fsync` turns it off: then
    /// a power failure may lose what was acknowledged and leave a log that is refused at the start.
    pub sync: bool,
    /// Zeroed segments that are kept ready. Default 1, at least 1, at most 16. What is purged
    /// beyond that is deleted.
    pub spare_segments: usize,
    /// Bytes of the newest entries that are kept in memory for `read`. Default 16 MiB. Entries that
    /// still wait for the writer are kept in any case.
    pub cache_bytes: usize,
    /// Pause between two attempts to make a segment on a full disk. Default 1 s.
    pub space_retry: Duration,
    /// Called on a WAL thread when a write or a sync failed. It logs and ends the process; if it
    /// returns, the WAL aborts the process. The default prints to stderr.
    pub on_fatal: Arc<dyn Fn(FatalError) + Send + Sync>,
    /// Called on a WAL thread when the disk has no room for the next segment, and again when it
    /// has. Must not call the log and must be quick. The default does nothing.
    pub on_space: Arc<dyn Fn(Space) + Send + Sync>,
    /// Called on the writer's thread with how long each write took, without its sync. Must be quick. The default does
    /// nothing.
    pub on_written: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Asked on a WAL thread before a segment of so many bytes is made: false is the same as a disk
    /// without room for it. The default lets the disk decide.
    pub may_grow: Arc<dyn Fn(u64) -> bool + Send + Sync>,
}

impl Options {
    /// The smallest segment: a header and room for a few small frames.
    pub const SEGMENT_BYTES_MIN: u64 = 16 * 1024;
    /// The largest segment; recovery reads one at a time into memory.
    pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
    /// The most spare segments.
    pub const SPARE_SEGMENTS_MAX: usize = 16;

    /// Bytes that an entry's payload may have in such a log: a little less than a segment.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.segment_bytes)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            owner: Owner::default(),
            segment_bytes: 64 * 1024 * 1024,
            sync: true,
            spare_segments: 1,
            cache_bytes: 16 * 1024 * 1024,
            space_retry: Duration::from_secs(1),
            on_fatal: Arc::new(|error| eprintln!("{error}")),
            on_space: Arc::new(|_| {}),
            on_written: Arc::new(|_| {}),
            may_grow: Arc::new(|_| true),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("owner", &self.owner)
            .field("segment_bytes", &self.segment_bytes)
            .field("sync", &self.sync)
            .field("spare_segments", &self.spare_segments)
            .field("cache_bytes", &self.cache_bytes)
            .field("space_retry", &self.space_retry)
            .finish_non_exhaustive()
    }
}

/// Whether the disk has room for the segment after the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The next segment cannot be made. What is left of the current one is still good for deletes,
    /// compactions and purges; writes that add data should be refused from now on.
    Exhausted,
    /// The next segment exists.
    Recovered,
}

/// A write or sync failed. What reached the disk is unknown, so the process must end; a restart
/// reads what is really there.
#[derive(Debug, thiserror::Error)]
#[error(
    "write-ahead log: {operation} of {} failed: {source}; what reached the disk is unknown, so this \
     process ends without acknowledging anything more; once the disk is healthy, a restart \
     continues with everything that was acknowledged",
    path.display()
)]
pub struct FatalError {
    /// "write", "sync", "rename"…
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}
