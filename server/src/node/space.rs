//! What happens when the log's disk is full: the reserve is given up, so that deletes and
//! compaction have room, and the NOSPACE alarm is raised; when space is back, the reserve is made
//! again. The alarm is cleared by people, as etcd's is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::fs::Reserve;
use crate::wal::Space;

/// The reserve's file in the data directory.
pub const FILE: &str = "RESERVE";
/// Room for the log's entries of deletes and compactions, and for the engine to reclaim. Bytes.
const RESERVE_BYTES: u64 = 8 << 20;

/// See the module.
pub struct SpaceGuard {
    reserve: Mutex<Option<Reserve>>,
    exhausted: AtomicBool,
}

impl SpaceGuard {
    /// Makes the reserve. A disk too full for it is told, and served from all the same.
    pub fn new(data_dir: &Path) -> SpaceGuard {
        let reserve = match Reserve::ensure(&data_dir.join(FILE), RESERVE_BYTES) {
            Ok(reserve) => Some(reserve),
            Err(error) => {
                crate::log!(warn, "no space is held in reserve", error = %error);
                None
            }
        };
        SpaceGuard {
            reserve: Mutex::new(reserve),
            exhausted: AtomicBool::new(false),
        }
    }

    /// Whether the disk was found full and has not been found to have space since.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Takes note of what the log found. Runs on the log's thread.
    pub fn found(&self, space: Space) {
        let mut reserve = self.reserve.lock();
        let changed = match space {
            Space::Exhausted => {
                crate::log!(
                    error,
                    "the log's disk is full: raising NOSPACE; free space, then \
                    compact and disarm the alarm"
                );
                self.exhausted.store(true, Ordering::Relaxed);
                reserve.as_mut().map_or(Ok(()), Reserve::release)
            }
            Space::Recovered => {
                crate::log!(info, "the log's disk has space again");
                self.exhausted.store(false, Ordering::Relaxed);
                reserve.as_mut().map_or(Ok(()), Reserve::restore)
            }
        };
        if let Err(error) = changed {
            crate::log!(warn, "the reserve could not be changed", error = %error);
        }
    }
}
