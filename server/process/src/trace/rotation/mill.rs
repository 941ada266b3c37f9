//! The thread that looks after a log's old files: it deletes those that are too many or too old, and compresses the
//! others where that is asked for.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Rotation;
use super::backups::Backups;
use crate::threads;
use crate::trace::timestamp::since_epoch;

const SECONDS_PER_DAY: u64 = 86_400;

/// Looks after old files, on one thread, so that nobody deletes what another compresses. Whoever logs waits for none
/// of it.
#[derive(Debug)]
pub(super) struct Mill {
    backups: Backups,
    rotation: Rotation,
    running: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Mill {
    pub(super) fn new(backups: Backups, rotation: Rotation) -> Self {
        Self {
            backups,
            rotation,
            running: None,
        }
    }

    /// What the log is called that is set aside at this moment.
    pub(super) fn path_at(&self, since_epoch: Duration) -> PathBuf {
        self.backups.path_at(since_epoch)
    }

    /// Has all old files looked at that are there now. Without a thread to be had they are left for the next time:
    /// what fails with old files is no reason to have no log.
    pub(super) fn look(&mut self) {
        if self.running.is_none() {
            self.running = start(self.backups.clone(), self.rotation);
        }
        if let Some((told, _)) = &self.running {
            // Full: a look that has not begun yet sees the same files.
            let _ = told.try_send(());
        }
    }

    /// Waits until everything is done that was asked for.
    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        if let Some((told, thread)) = self.running.take() {
            drop(told);
            thread.join().unwrap();
        }
    }
}

fn start(backups: Backups, rotation: Rotation) -> Option<(SyncSender<()>, JoinHandle<()>)> {
    // One look that waits behind the one that runs: a file that is set aside meanwhile is seen by it.
    let (told, asked) = sync_channel(1);
    let thread = threads::spawn("engram-log", move || run(&backups, rotation, &asked)).ok()?;
    Some((told, thread))
}

fn run(backups: &Backups, rotation: Rotation, asked: &Receiver<()>) {
    // It may take its time: nobody waits for it.
    threads::idle();
    while asked.recv().is_ok() {
        let _ = backups.delete(rotation.backups_max, oldest(rotation.age_days_max));
        if rotation.compressed {
            let _ = backups.compress();
        }
    }
}

/// Since the epoch: what is older goes.
fn oldest(age_days_max: u64) -> Option<Duration> {
    let age_max = Duration::from_secs(age_days_max.saturating_mul(SECONDS_PER_DAY));
    (age_days_max > 0).then(|| since_epoch().saturating_sub(age_max))
}
