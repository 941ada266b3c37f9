//! Disks of a cluster that can be made slow, and one that can be filled.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::bad_disk::BadSync;
use crate::cluster::Plan;
use crate::disk::SmallFileSystem;
use crate::random::Random;

/// Room for a member with its log and what the traffic writes.
const SMALL_BYTES: u64 = 192 << 20;
/// Whose syncs are slow: the log's, the tables', all.
const SLOW_FILES: [&str; 3] = ["*.wal", "*.sst", "*"];
/// How much longer a sync takes.
const SLOW_MS: [u64; 3] = [20, 200, 1_500];

/// The disks of all members. They outlive the members, and are dropped after them.
#[derive(Default)]
pub struct Disks {
    /// By place; none where nobody's disk is ever slow.
    slow: Vec<BadSync>,
    /// Whose disk is a small one.
    small: Option<(usize, SmallFileSystem)>,
    _scratch: Option<TempDir>,
}

impl Disks {
    /// Whose disk is small, and what is slow of each where it is slow, as the random numbers say.
    ///
    /// # Panics
    /// Without root or a C compiler.
    pub fn draw(random: &mut Random, members: usize) -> Self {
        let scratch = TempDir::with_prefix("engram-disks-").expect("a temporary directory");
        let slow = |place: usize| {
            let directory = scratch.path().join(format!("slow-{place}"));
            fs::create_dir(&directory).expect("creating a directory");
            let delay = Duration::from_millis(SLOW_MS[random.place(SLOW_MS.len())]);
            BadSync::slow(
                &directory,
                SLOW_FILES[random.place(SLOW_FILES.len())],
                delay,
            )
        };
        let slow = (0..members).map(slow).collect();
        let place = random.place(members);
        let mount_point = scratch.path().join("small");
        fs::create_dir(&mount_point).expect("creating a directory");
        let small = SmallFileSystem::mount(&mount_point, SMALL_BYTES);
        Self {
            slow,
            small: Some((place, small)),
            _scratch: Some(scratch),
        }
    }

    /// The plan with these disks.
    pub fn fit(&self, mut plan: Plan) -> Plan {
        for (place, slow) in self.slow.iter().enumerate() {
            plan = plan.environment_of(place, slow.environment());
        }
        match &self.small {
            Some((place, disk)) => plan.data_dir_of(*place, disk.path().join("data")),
            None => plan,
        }
    }

    /// Whose disk can be filled.
    pub(super) fn small(&self) -> Option<usize> {
        self.small.as_ref().map(|(place, _)| *place)
    }

    pub(super) fn slow_down(&self, place: usize) {
        if let Some(slow) = self.slow.get(place) {
            slow.on();
        }
    }

    pub(super) fn speed_up(&self, place: usize) {
        if let Some(slow) = self.slow.get(place) {
            slow.off();
        }
    }

    /// Leaves no room on the small disk.
    pub(super) fn fill(&self) {
        let Some(filler) = self.filler() else {
            return;
        };
        let mut file = File::create(filler).expect("creating a file on the small disk");
        let block = vec![0; 1 << 20];
        // Its last error is that there is no more room: what was wanted.
        while file.write_all(&block).is_ok() {}
    }

    /// Gives that room back.
    pub(super) fn empty(&self) {
        if let Some(filler) = self.filler() {
            fs::remove_file(filler).expect("removing a file of the small disk");
        }
    }

    fn filler(&self) -> Option<PathBuf> {
        let (_, disk) = self.small.as_ref()?;
        Some(disk.path().join("filler"))
    }
}
