//! How far the archive is, and what is told of it while the store of objects keeps the writer waiting.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engram_archive::{Head, Target};
use parking_lot::Mutex;

use crate::hold::Hold;
use crate::journal::Journal;
use crate::meters::Meters;
use crate::shipper::now_ms;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Progress {
    pub(crate) journal: Arc<Journal>,
    pub(crate) hold: Hold,
    pub(crate) meters: Meters,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    writes: bool,
    shipped: Option<Target>,
}

/// What is in the archive up to the end of a segment.
pub(crate) fn shipped(head: &Head) -> Target {
    Target {
        revision: head.header.last_revision,
        index: head.header.last_index,
    }
}

impl Progress {
    pub(crate) fn new(journal: Arc<Journal>, hold: Hold, meters: Meters) -> Progress {
        Progress {
            journal,
            hold,
            meters,
            known: Mutex::default(),
        }
    }

    /// Whether this member writes now.
    pub(crate) fn writes(&self, writes: bool) {
        self.known.lock().writes = writes;
        self.meters.writes.set(i64::from(writes));
    }

    /// The archive is there now; `written` is what the log had written in all when that was newest.
    pub(crate) fn at(&self, head: &Head, written: u64) {
        let end = shipped(head);
        self.hold.move_to(end.revision, written);
        self.journal.trim(end);
        self.known.lock().shipped = Some(end);
        self.meters.last_revision.set(end.revision);
    }

    /// Seconds that the archive is behind, where this member writes it.
    fn lag_seconds(&self) -> f64 {
        let known = self.known.lock();
        if !known.writes {
            return 0.0;
        }
        let nothing = Target {
            revision: 0,
            index: 0,
        };
        let shipped = known.shipped.unwrap_or(nothing);
        let waits = self.journal.waits(shipped, now_ms());
        waits.unwrap_or_default().as_secs_f64()
    }

    /// Looks after it, whatever the writer waits for.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            self.meters.lag_seconds.set(self.lag_seconds());
            let backlog = i64::try_from(self.hold.backlog_bytes());
            self.meters.backlog_bytes.set(backlog.unwrap_or(i64::MAX));
            if self.hold.look() {
                crate::log!(
                    warn,
                    "the log archive is too far behind: history is not held for it any longer, and where it is compacted there will be a gap",
                    lag_seconds = self.lag_seconds()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
