//! One member: the product's own, from its data directory up, polled and stepped by hand.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use engram_disk::fs::power::{self, SECTOR_BYTES, Unsynced};
use engram_process::threads::steps::{Stage, Step};
use engram_server::config::{self, Config, Outcome};
use engram_server::node::offline::MemberFlags;
use engram_server::node::staged::{self, Staged};
use engram_server::wal;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;
use tokio::time::Duration;

use crate::net::{self, Net};
use crate::random::Random;
use crate::system;

/// One turn of a member.
pub const TICK: Duration = Duration::from_millis(1);
const SEGMENT_BYTES: u64 = 256 << 10;

type Slot = Rc<RefCell<Option<Staged>>>;

/// What runs between two crashes.
struct Running {
    // In this order: tasks are dropped before what they run on.
    tasks: LocalSet,
    runtime: Runtime,
    staged: Slot,
    stage: Stage,
}

/// A member, running or not.
pub struct Member {
    /// Its place in the cluster.
    pub place: usize,
    root: PathBuf,
    members: usize,
    /// How often it was started: clients tell its lives by it.
    pub life: u64,
    running: Option<Running>,
    /// Until then it is not polled, as a process that is paused.
    pub paused_until_ns: u64,
    /// Until then its log's disk does nothing.
    pub disk_stalled_until_ns: u64,
    /// The greatest index that it had applied when it crashed: its log must hold it.
    applied_before: u64,
}

/// What a member shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The last entry applied.
    pub applied: u64,
    /// The store's revision by then.
    pub revision: i64,
    /// The term that it leads.
    pub leads: Option<u64>,
}

impl Member {
    /// A member of a cluster of `members`, with an empty data directory.
    pub fn new(place: usize, members: usize, root: &Path) -> Member {
        let member = Member {
            place,
            root: root.to_path_buf(),
            members,
            life: 0,
            running: None,
            paused_until_ns: 0,
            disk_stalled_until_ns: 0,
            applied_before: 0,
        };
        let dir = member.dir();
        std::fs::create_dir(&dir).expect("a directory of its own");
        staged::identify(&dir, &member.flags()).expect("the flags name it");
        power::watch(&dir);
        member
    }

    fn dir(&self) -> PathBuf {
        self.root.join(format!("m{}-{}", self.place, self.life))
    }

    fn flags(&self) -> MemberFlags {
        let name = |place| format!("m{place}");
        let initial = (0..self.members).map(|n| format!("{}={}", name(n), net::url(n)));
        MemberFlags {
            name: name(self.place),
            initial_cluster: initial.collect::<Vec<_>>().join(","),
            token: "simulated".into(),
            peer_urls: net::url(self.place),
        }
    }

    fn config(&self) -> Config {
        let flags = self.flags();
        let arguments = [
            format!("--name={}", flags.name),
            format!("--data-dir={}", self.dir().display()),
            format!("--initial-cluster={}", flags.initial_cluster),
            format!("--initial-cluster-token={}", flags.token),
            format!("--initial-advertise-peer-urls={}", flags.peer_urls),
            format!("--listen-peer-urls={}", flags.peer_urls),
            "--heartbeat-interval=50".into(),
            "--election-timeout=500".into(),
        ];
        let arguments = arguments.iter().map(OsString::from);
        let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        match config::parse(arguments, std::iter::empty(), &no_file) {
            Outcome::Run { config, .. } => *config,
            _ => panic!("the simulator's flags are refused"),
        }
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts its process.
    pub fn start(&mut self, net: &Net) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (tasks, stage, slot) = (LocalSet::new(), Stage::default(), Slot::default());
        let (arrivals, arriving) = unbounded_channel();
        net.listen(self.place, Some(arrivals));
        let (config, dial) = (self.config(), net.dial_of(self.place));
        let (into, applied_before, place) = (slot.clone(), self.applied_before, self.place);
        let starting = async move {
            let started = staged::start(&config, dial, arriving, tuned).await;
            let started =
                started.unwrap_or_else(|error| panic!("m{place} does not start: {error}"));
            let last = started.log.last_index();
            assert!(
                last >= applied_before,
                "m{place} had applied {applied_before}, and its log ends at {last}"
            );
            *into.borrow_mut() = Some(started);
        };
        tasks.spawn_local(starting);
        self.running = Some(Running {
            tasks,
            runtime,
            staged: slot,
            stage,
        });
    }

    /// Runs `work` with what clients reach, if it serves.
    pub fn with<R>(&self, work: impl FnOnce(&Staged, &LocalSet) -> R) -> Option<R> {
        let running = self.running.as_ref()?;
        let _stage = running.stage.enter();
        let _runtime = running.runtime.enter();
        let staged = running.staged.borrow();
        staged.as_ref().map(|staged| work(staged, &running.tasks))
    }

    /// A turn: what its disks have done, then everything that is to do now.
    pub fn turn(&mut self, now_ns: u64) {
        let Some(running) = &self.running else {
            return;
        };
        if now_ns < self.paused_until_ns {
            return;
        }
        system::set_now_ns(now_ns);
        let _stage = running.stage.enter();
        for work in running.stage.work() {
            let waits = work.name() == "wal-writer" && now_ns < self.disk_stalled_until_ns;
            if !waits && work.step() == Step::Worked && work.name() != "wal-writer" {
                while work.step() == Step::Worked {}
            }
        }
        let turn = running
            .tasks
            .run_until(async { tokio::time::sleep(TICK).await });
        running.runtime.block_on(turn);
    }

    /// Has its engine keep what was applied, as the product does now and then to cut its log.
    pub fn flush(&self) {
        self.with(|staged, _| staged.core.store.engine().flush());
    }

    /// What it shows.
    pub fn shown(&self) -> Option<Shown> {
        self.with(|staged, _| Shown {
            applied: staged.core.store.applied_index(),
            revision: staged.core.store.revision().0,
            leads: staged.core.door.consensus.leadership().own_term,
        })
    }

    /// Its process ends at once, and the power of its disk with it.
    pub fn crash(&mut self, net: &Net, random: &mut Random) {
        let Some(shown) = self.shown().or(self.running.as_ref().map(|_| Shown {
            applied: self.applied_before,
            revision: 0,
            leads: None,
        })) else {
            return;
        };
        self.applied_before = shown.applied.max(self.applied_before);
        net.listen(self.place, None);
        let old = self.dir();
        let unsynced = power::take(&old);
        self.life += 1;
        let new = self.dir();
        copy_tree(&old, &new);
        lose(&unsynced, &old, &new, random);
        power::watch(&new);
        if let Some(Running {
            tasks,
            runtime,
            staged,
            stage,
        }) = self.running.take()
        {
            let _stage = stage.enter();
            let context = runtime.enter();
            drop(tasks);
            drop(staged);
            drop(context);
            drop(runtime);
        }
        std::fs::remove_dir_all(&old).expect("nobody uses it");
    }
}

/// Small segments: a simulated disk is memory.
fn tuned(log: wal::Options) -> wal::Options {
    wal::Options {
        segment_bytes: SEGMENT_BYTES,
        spare_segments: 1,
        may_grow: Arc::new(|_| true),
        ..log
    }
}

/// Copies a directory as it is at one moment: RocksDB's own threads tidy up when they like to, so what
/// they have changed meanwhile is copied again.
fn copy_tree(from: &Path, to: &Path) {
    loop {
        let before = files(from);
        if copied(from, to).is_ok() && files(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).expect("it was made above");
    }
}

/// The files below a directory and their lengths, but for RocksDB's own log.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&entry.path())),
            Ok(metadata) if entry.file_name() != "LOG" => {
                found.push((entry.path(), metadata.len()))
            }
            _ => {}
        }
    }
    found.sort();
    found
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().expect("it has a name");
        let target = to.join(name);
        if path.is_dir() {
            copied(&path, &target)?;
        } else if name != "RESERVE" && name != "LOCK" {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Takes from a copy what a disk without power need not have written: of each unsynced write nothing,
/// all, or any of its sectors.
fn lose(unsynced: &[Unsynced], old: &Path, new: &Path, random: &mut Random) {
    use std::os::unix::fs::FileExt as _;
    for write in unsynced.iter().rev() {
        let of_it = write.path.strip_prefix(old).expect("it is below");
        let Ok(file) = std::fs::OpenOptions::new()
            .write(true)
            .open(new.join(of_it))
        else {
            continue;
        };
        let kind = random.below(3);
        for (number, sector) in write.before.chunks(SECTOR_BYTES).enumerate() {
            if kind == 0 || (kind == 1 && random.once_in(2)) {
                let at = write.offset + (number * SECTOR_BYTES) as u64;
                file.write_all_at(sector, at)
                    .expect("memory can be written");
            }
        }
    }
}
