//! One member: the product's own, from its data directory up, polled and stepped by hand.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engram_disk::fs::faults::{self, Operation};
use engram_disk::fs::power::{self, Unkept};
use engram_process::threads::steps::{self, MemberEnded, Stage, Step};
use engram_server::api::backend::Backend as _;
use engram_server::config::{self, Config, Outcome};
use engram_server::node::offline::MemberFlags;
use engram_server::node::staged::{self, Staged, Tuned};
use engram_server::state::{MemberRecord, Values as _};
use engram_server::storage::Identity;
use engram_server::store::Level;
use engram_server::types::request::AlarmType;
use engram_server::types::result::Alarm;
use engram_server::types::{KeyValue, MemberId, RevisionPair};
use engram_server::wal;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;
use tokio::time::Duration;

use crate::clients::text;
use crate::disk::{self, Spoiling};
use crate::faults::{Refused, Spoilt};
use crate::net::{self, Net};
use crate::random::Random;
use crate::system::{self, EPOCH_NS, Rest};
use crate::truth::{Change, Held};

/// One turn of a member.
pub const TICK: Duration = Duration::from_millis(1);
const SEGMENT_BYTES: u64 = 16 << 10;
/// What is free of a disk that nobody fills.
const FREE_BYTES: u64 = 1 << 30;
/// Of which a member keeps an eighth for others, and holds a quarter for those that catch up.
const LOG_DISK_BYTES: u64 = 32 << 10;
/// What is said of a disk that refuses, and of one that is full.
const REFUSALS: [&str; 2] = ["os error 5)", "os error 28)"];
/// What is said to whoever's directory is not what was left there: at least one of these.
const ADVICE: [&str; 6] = [
    "restore this member from the others",
    "add it as a new member",
    "add it anew",
    "belongs to this data directory",
    "start the version that wrote it",
    "start the engram that wrote it",
];

/// How soon a member hears that its engine has failed by itself: it asks every second.
const FLUSH_HEARD_NS: u64 = 2_000 * system::NS_A_MS;

/// What members are made with.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// Where their directories lie.
    pub root: &'a Path,
    /// Whether they compare their stores.
    pub compares: bool,
}

/// What stands still of a member at a turn.
#[derive(Clone, Copy, Debug, Default)]
struct Stalls {
    /// Its log's disk.
    log: bool,
    /// Whatever blocks on its store's disk.
    store: bool,
    /// Its applying.
    applying: bool,
}

type Slot = Rc<RefCell<Option<Staged>>>;

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was nothing to do.
    Idle,
    /// Something was done.
    Worked,
    /// Its process has ended.
    Ended,
}

/// What a member says to a directory that is not what it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    /// It has not come so far.
    #[default]
    Nothing,
    /// It does not start with it.
    Refused,
    /// It has started.
    Started,
}

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
    /// `--initial-cluster`, and whether that is there already.
    initial: String,
    joins: bool,
    /// Whether it is a member no more.
    pub is_gone: bool,
    /// How often it was started: clients tell its lives by it.
    pub life: u64,
    running: Option<Running>,
    /// What it waits for.
    rest: Rest,
    /// Until then it is not polled, as a process that is paused.
    pub paused_until_ns: u64,
    /// Until then its log's disk does nothing.
    pub disk_stalled_until_ns: u64,
    /// Until then nothing is done that blocks on its store's disk.
    pub store_stalled_until_ns: u64,
    /// Until then it applies nothing.
    pub applying_stalled_until_ns: u64,
    /// How many milliseconds its log's disk takes for a write, and until when.
    slow_log: (u64, u64),
    /// When a flush of its engine's own failed in this life.
    flush_failed_ns: Option<u64>,
    /// Whether it compares its store with others'.
    compares: bool,
    random: Random,
    /// What it has shown: none of it may go back.
    floor: Shown,
    /// The greatest index that it had applied when it crashed: its log must hold it.
    applied_before: u64,
    clock: Clock,
    /// The greatest index that its engine was flushed at.
    flushed: u64,
    /// Set by what cuts its power in the midst of something: the disk is as that left it.
    cut: Arc<AtomicBool>,
    /// What its disk refuses.
    refused: Vec<faults::Guard>,
    /// How much room its disk says it has; bytes of all of it, where somebody fills it.
    room: Option<faults::Room>,
    filled: Option<u64>,
    /// What has become of its directory, and what it has said to that.
    spoiling: Option<(Spoiling, Rc<Cell<Said>>)>,
    /// An older copy of its directory, and the last entry in it.
    older: Option<(PathBuf, u64)>,
    /// Its store is compared up to there.
    pub compared: i64,
}

/// A member's clocks.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// Millionths that it runs too fast.
    drift: i64,
    /// When it began to, and what it had shown then: milliseconds since the beginning.
    since: u64,
    shown: u64,
    /// Seconds that its wall clock is ahead.
    wall_ahead: i64,
}

impl Clock {
    /// What it shows at a time of the world, in whole milliseconds since the beginning.
    fn shows(&self, true_ms: u64) -> u64 {
        let passed = true_ms.saturating_sub(self.since);
        let drifted = passed.cast_signed() * self.drift / 1_000_000;
        (self.shown + passed).saturating_add_signed(drifted)
    }
}

/// What a member shows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// The last entry applied.
    pub applied: u64,
    /// The store's revision by then.
    pub revision: i64,
    /// The revision that it is compacted at.
    pub compacted: i64,
    /// How many leases there are.
    pub leases: usize,
    /// The term of that entry, if the log still tells.
    pub applied_term: Option<u64>,
    /// The last entry that its log was cut below.
    pub purged: u64,
    /// The last one in its log that a crash would leave.
    pub durable: u64,
    /// The end of its log.
    pub last: u64,
    /// Its term.
    pub term: u64,
    /// The term that it leads.
    pub leads: Option<u64>,
    /// What room its disk has, as it has seen it.
    pub level: Level,
    /// Whether NOSPACE is raised.
    pub is_alarmed: bool,
    /// Whether CORRUPT is raised.
    pub is_corrupt: bool,
}

impl Member {
    /// A member of a cluster of `members`, with an empty data directory.
    pub fn new(place: usize, members: usize, made: Made<'_>, seed: u64) -> Member {
        let member = Member::at(place, members, made, seed);
        let dir = member.dir();
        staged::identify(&dir, &member.flags()).expect("the flags name it");
        power::watch(&dir);
        member
    }

    /// A member that a cluster has added.
    pub fn joining(place: usize, identity: &Identity, made: Made<'_>, seed: u64) -> Member {
        let member = Member {
            joins: true,
            ..Member::at(place, place + 1, made, seed)
        };
        let dir = member.dir();
        identity.store(&dir).expect("it can be written");
        power::watch(&dir);
        member
    }

    fn at(place: usize, members: usize, made: Made<'_>, seed: u64) -> Member {
        let initial = (0..members).map(|at| format!("m{at}={}", net::url(at)));
        let mut member = Member {
            place,
            root: made.root.to_path_buf(),
            initial: initial.collect::<Vec<_>>().join(","),
            joins: false,
            is_gone: false,
            life: 0,
            running: None,
            rest: Rest::default(),
            paused_until_ns: 0,
            disk_stalled_until_ns: 0,
            store_stalled_until_ns: 0,
            applying_stalled_until_ns: 0,
            slow_log: (0, 0),
            flush_failed_ns: None,
            compares: made.compares,
            random: Random::new(seed),
            floor: Shown::default(),
            applied_before: 0,
            clock: Clock::default(),
            flushed: 0,
            cut: Arc::default(),
            refused: Vec::new(),
            room: None,
            filled: None,
            spoiling: None,
            older: None,
            compared: 1,
        };
        std::fs::create_dir(member.dir()).expect("a directory of its own");
        member.lay_disk();
        member
    }

    /// Its data directory.
    pub fn dir(&self) -> PathBuf {
        self.dir_of(self.life)
    }

    fn dir_of(&self, life: u64) -> PathBuf {
        self.root.join(format!("m{}-{life}", self.place))
    }

    fn flags(&self) -> MemberFlags {
        MemberFlags {
            name: format!("m{}", self.place),
            initial_cluster: self.initial.clone(),
            token: "simulated".into(),
            peer_urls: net::url(self.place),
        }
    }

    fn config(&self) -> Config {
        let flags = self.flags();
        let mut arguments = vec![
            format!("--name={}", flags.name),
            format!("--data-dir={}", self.dir().display()),
            format!("--initial-cluster={}", flags.initial_cluster),
            format!("--initial-cluster-token={}", flags.token),
            format!("--initial-advertise-peer-urls={}", flags.peer_urls),
            format!("--listen-peer-urls={}", flags.peer_urls),
            format!(
                "--initial-cluster-state={}",
                if self.joins { "existing" } else { "new" }
            ),
            "--heartbeat-interval=50".into(),
            "--election-timeout=500".into(),
            "--snapshot-count=60".into(),
            "--snapshot-catchup-entries=30".into(),
            "--watch-progress-notify-interval=300ms".into(),
        ];
        if self.compares {
            arguments.extend([
                "--corrupt-check-time=700ms".to_owned(),
                "--compact-hash-check-time=300ms".to_owned(),
                "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true".to_owned(),
            ]);
        }
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

    /// Whether clients reach it.
    pub fn is_serving(&self) -> bool {
        self.with(|_, _| ()).is_some()
    }

    /// Starts its process.
    pub fn start(&mut self, net: &Net) {
        // A runtime goes by the time at which it is made.
        system::set_clock(self.clock_ns(), self.clock.wall_ahead);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (tasks, stage, slot) = (LocalSet::new(), Stage::default(), Slot::default());
        let (arrivals, arriving) = unbounded_channel();
        net.listen(self.place, Some(arrivals));
        let (config, dial) = (self.config(), net.dial_of(self.place));
        let (into, applied, place) = (slot.clone(), self.applied_before, self.place);
        let spoilt = self.spoiling.as_ref();
        let spoilt = spoilt.map(|(spoiling, said)| (spoiling.what(), said.clone()));
        let starting = async move {
            let started = match staged::start(&config, dial, arriving, tuned()).await {
                Ok(started) => started,
                Err(error) => {
                    end_of_start(place, &error.to_string(), spoilt.as_ref());
                    return;
                }
            };
            if let Some((what, said)) = spoilt {
                assert!(may_start(what), "m{place} starts with {what:?}");
                said.set(Said::Started);
            }
            let last = started.log.last_index();
            assert!(
                last >= applied,
                "m{place} had applied {applied}, and its log ends at {last}"
            );
            *into.borrow_mut() = Some(started);
        };
        tasks.spawn_local(starting);
        self.rest = Rest::default();
        self.compared = 1;
        // What the last life has applied may be applied anew.
        self.floor = Shown {
            term: self.floor.term,
            ..Shown::default()
        };
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
        system::set_clock(self.clock_ns(), self.clock.wall_ahead);
        let staged = running.staged.borrow();
        let done = staged.as_ref().map(|staged| work(staged, &running.tasks));
        system::set_clock(system::true_ns(), 0);
        done
    }

    /// What its clock shows.
    fn clock_ns(&self) -> u64 {
        let true_ms = (system::true_ns() - EPOCH_NS) / system::NS_A_MS;
        EPOCH_NS + self.clock.shows(true_ms) * system::NS_A_MS
    }

    /// A turn: what its disks have done, then everything that is to do now.
    pub fn turn(&mut self) -> Turn {
        let Some(running) = &self.running else {
            return Turn::Idle;
        };
        if running.stage.has_ended() {
            return Turn::Ended;
        }
        let now_ns = system::true_ns();
        if now_ns < self.paused_until_ns {
            return Turn::Idle;
        }
        let true_ms = (now_ns - EPOCH_NS) / system::NS_A_MS;
        let shows = self.clock.shows(true_ms);
        // A slow clock stands still now and then.
        if true_ms > 0 && shows == self.clock.shows(true_ms - 1) {
            return Turn::Idle;
        }
        let clock_ns = EPOCH_NS + shows * system::NS_A_MS;
        system::set_clock(clock_ns, self.clock.wall_ahead);
        let stalls = self.stalls(now_ns);
        let (rest, random) = (self.rest, &mut self.random);
        let turn = || {
            let worked = running.work(stalls, random);
            let goes_on = worked || clock_ns >= rest.until_ns || rest.is_broken();
            goes_on.then(|| running.run())
        };
        match survive(turn) {
            _ if running.stage.has_ended() => Turn::Ended,
            Some(Some(rest)) => {
                self.rest = rest;
                Turn::Worked
            }
            _ => Turn::Idle,
        }
    }

    /// Has its engine keep what was applied, as engines do by themselves.
    pub fn flush(&mut self) {
        if system::true_ns() < self.store_stalled_until_ns {
            return;
        }
        let flushed = self.with(|staged, _| {
            let engine = staged.core.store.engine();
            engine.flush_by_itself();
            let persisted = engine.persisted().log_position;
            let index = persisted.map_or(0, |position| position.index);
            // Where its power was cut meanwhile, the disk has less.
            (!steps::has_ended()).then(|| (index, engine.background_errors()))
        });
        let Some((index, failed)) = flushed.flatten() else {
            return;
        };
        self.flushed = self.flushed.max(index);
        if failed > 0 && self.flush_failed_ns.is_none() {
            self.flush_failed_ns = Some(system::true_ns());
        }
    }

    /// Has that fail.
    pub fn fail_flush(&mut self) {
        let dir = self.with(|staged, _| staged.core.store.engine().dir().to_path_buf());
        let Some(dir) = dir else {
            return;
        };
        let _refused = faults::inject(&dir, Operation::Sync, libc::EIO, 0);
        self.flush();
    }

    /// A member whose engine has failed by itself ends: it must not be trusted to go on.
    ///
    /// # Errors
    /// It goes on.
    pub fn hears_of_flushes(&mut self, now_ns: u64) -> Result<(), String> {
        let Some(failed_ns) = self.flush_failed_ns else {
            return Ok(());
        };
        if !self.works(now_ns) {
            self.flush_failed_ns = Some(now_ns);
            return Ok(());
        }
        if failed_ns + FLUSH_HEARD_NS >= now_ns {
            return Ok(());
        }
        let failed = self.with(|staged, _| staged.core.store.engine().background_errors());
        match failed {
            Some(1..) => Err(format!(
                "m{} goes on though a flush of its engine failed",
                self.place
            )),
            // A snapshot has another one in its place.
            _ => {
                self.flush_failed_ns = None;
                Ok(())
            }
        }
    }

    fn stalls(&self, now_ns: u64) -> Stalls {
        let (takes_ms, until_ns) = self.slow_log;
        let is_slow = now_ns < until_ns && !(now_ns / system::NS_A_MS).is_multiple_of(takes_ms);
        Stalls {
            log: now_ns < self.disk_stalled_until_ns || is_slow,
            store: now_ns < self.store_stalled_until_ns,
            applying: now_ns < self.applying_stalled_until_ns,
        }
    }

    /// Has its log's disk take so many milliseconds for a write, for a while.
    pub fn slow_log(&mut self, takes_ms: u64, until_ns: u64) {
        self.slow_log = (takes_ms, until_ns);
    }

    /// Nothing stands still, or is slow, any more.
    pub fn hurry(&mut self) {
        self.disk_stalled_until_ns = 0;
        self.store_stalled_until_ns = 0;
        self.applying_stalled_until_ns = 0;
        self.slow_log = (0, 0);
    }

    /// Has its power cut at one of the next calls of its log's disk.
    pub fn cut_at_call(&self, calls: u64, random: Random) {
        power::cut_in(&self.dir(), calls, self.cutting(random));
    }

    /// The same once a file of its log has got its name.
    pub fn cut_after_name(&self, calls: u64, random: Random) {
        power::cut_after_name(&self.dir(), calls, self.cutting(random));
    }

    fn cutting(&self, mut random: Random) -> impl FnOnce(Unkept) + Send + use<> {
        let old = self.dir();
        let new = self.dir_of(self.life + 1);
        let cut = self.cut.clone();
        move |unkept| {
            disk::without_power(&old, &new, &unkept, &mut random);
            cut.store(true, Ordering::Relaxed);
            // Nobody hears anything of it from now on.
            steps::mark_ended();
        }
    }

    /// Has its disk refuse a call by an error of that number, after so many that it does.
    pub fn refuse(&mut self, refused: Refused, calls: u64, errno: i32) {
        let operation = match refused {
            Refused::Write => Operation::Write,
            Refused::Sync => Operation::Sync,
            Refused::Name => Operation::Name,
        };
        let fault = faults::inject_times(&self.dir(), operation, errno, calls, 1);
        self.refused.push(fault);
    }

    /// Has its disk have no room for new files, however many bytes are left.
    pub fn refuse_files(&mut self) {
        for operation in [Operation::Create, Operation::Allocate] {
            let fault = faults::inject(&self.dir(), operation, libc::ENOSPC, 0);
            self.refused.push(fault);
        }
    }

    /// Has its disk be full but for so many bytes. What it gives up can be taken from it by filling it again.
    pub fn fill_disk(&mut self, free_bytes: u64) {
        let bytes = faults::taken(&self.dir()) + free_bytes;
        self.filled = Some(self.filled.map_or(bytes, |before| before.min(bytes)));
        self.lay_disk();
    }

    /// Whether somebody fills its disk.
    pub fn is_filled(&self) -> bool {
        self.filled.is_some()
    }

    /// Whether its disk may be without room.
    pub fn has_no_room(&self) -> bool {
        self.is_filled() || !self.refused.is_empty()
    }

    /// Whether it is run, and its disk does what it is told.
    pub fn works(&self, now_ns: u64) -> bool {
        let Stalls {
            log,
            store,
            applying,
        } = self.stalls(now_ns);
        let is_slow = now_ns < self.slow_log.1;
        now_ns >= self.paused_until_ns && !(log || store || applying || is_slow)
    }

    /// There is room on its disk again.
    pub fn empty_disk(&mut self) {
        self.filled = None;
        self.lay_disk();
    }

    /// Has the disk of its present directory be as large as it is.
    fn lay_disk(&mut self) {
        self.room = None;
        let dir = self.dir();
        self.room = Some(match self.filled {
            Some(bytes) => faults::bound(&dir, bytes),
            None => faults::leave(&dir, FREE_BYTES),
        });
    }

    /// Its disk refuses nothing any more, and its power stays.
    pub fn spare(&mut self) {
        self.refused.clear();
        power::uncut(&self.dir());
    }

    /// Keeps a copy of its directory as it is now.
    pub fn keep_older(&mut self) {
        let Some(last) = self.with(|staged, _| staged.log.last_index()) else {
            return;
        };
        let copy = self.dir().with_extension("older");
        self.forget_older();
        disk::copy_tree(&self.dir(), &copy);
        self.older = Some((copy, last));
    }

    fn forget_older(&mut self) {
        if let Some((copy, _)) = self.older.take() {
            std::fs::remove_dir_all(copy).expect("nobody uses it");
        }
    }

    /// Has its directory, while it is down, be what it did not leave there. `other` is another member's.
    pub fn spoil(&mut self, what: Spoilt, other: &Path, random: &mut Random) {
        let older = self.older.as_ref();
        let other = match (what, older) {
            // Where the store is not ahead of it, nobody can tell that a log is older.
            (Spoilt::LogOlder, Some((copy, last))) if *last < self.flushed => copy,
            (Spoilt::StoreOlder, Some((copy, _))) => copy,
            (Spoilt::LogOlder | Spoilt::StoreOlder, _) => return,
            _ => other,
        };
        let spoiling = Spoiling::spoil(&self.dir(), what, other, random);
        self.spoiling = spoiling.map(|spoiling| (spoiling, Rc::default()));
        self.forget_older();
    }

    /// Has it hand leadership to another, if it leads.
    pub fn move_leader(&self, to: usize) {
        self.with(|staged, tasks| {
            let core = staged.core.clone();
            let named = format!("m{to}");
            let to = core
                .members()
                .into_iter()
                .find(|member| member.attributes.name == named);
            let Some(to) = to.map(|member| member.id) else {
                return;
            };
            tasks.spawn_local(async move {
                // Only a leader can, and it may fail.
                drop(core.move_leader(to).await);
            });
        });
    }

    /// Its wall clock jumps.
    pub fn jump(&mut self, seconds: i64) {
        self.clock.wall_ahead += seconds;
    }

    /// Its clocks run too fast by so many millionths from now on.
    pub fn drift(&mut self, millionths: i64) {
        let true_ms = (system::true_ns() - EPOCH_NS) / system::NS_A_MS;
        self.clock = Clock {
            drift: millionths,
            since: true_ms,
            shown: self.clock.shows(true_ms),
            ..self.clock
        };
    }

    /// What its store holds from a revision on.
    pub fn held(&self, from: i64) -> Option<Held> {
        self.with(|staged, _| {
            let store = &staged.core.store;
            let mut changes: Vec<(i64, usize, Change)> = Vec::new();
            store.scan(RevisionPair::new(from, 0), &mut |record| {
                let kv = KeyValue::decode(&record.encoded).expect("it is sound");
                let place = usize::try_from(record.pair.sub).expect("a few");
                let change = Change {
                    key: text(&kv.key),
                    value: (!record.tombstone).then(|| text(&kv.value)),
                    lease: kv.lease.0,
                };
                changes.push((record.pair.main.0, place, change));
                true
            });
            Held {
                changes,
                from,
                upto: store.revision().0,
                compacted: store.compact_revision().0,
            }
        })
    }

    /// What it shows.
    pub fn shown(&self) -> Option<Shown> {
        self.with(|staged, _| {
            let store = &staged.core.store;
            let leadership = staged.core.door.consensus.leadership();
            let cluster = store.cluster();
            let is_corrupt = |alarm: Alarm| alarm.alarm == AlarmType::Corrupt;
            let applied = store.applied_index();
            let view = staged.log.view();
            Shown {
                applied,
                applied_term: view.term_at(applied, &view.known()),
                purged: staged.log.purged_index(),
                durable: staged.log.durable_index(),
                revision: store.revision().0,
                compacted: store.compact_revision().0,
                leases: store.read().leases.len(),
                last: staged.log.last_index(),
                term: leadership.term,
                leads: leadership.own_term,
                level: store.headroom().level(),
                is_alarmed: cluster.is_out_of_space(),
                is_corrupt: cluster.alarms.iter().any(is_corrupt),
            }
        })
    }

    /// The places of those who have a vote, as far as it has applied, and as its log says, by which a leader
    /// goes; none of who has not told its name.
    pub fn voters(&self) -> Option<[Vec<Option<usize>>; 2]> {
        self.with(|staged, _| {
            let cluster = staged.core.store.cluster();
            let replication = staged.core.door.consensus.replication();
            let logged =
                |id: MemberId| id == staged.core.member || replication.voters.contains(&id);
            let place = |name: &str| name.strip_prefix('m')?.parse().ok();
            let places_of = |has_vote: &dyn Fn(&MemberRecord) -> bool| {
                let voters = cluster.members.iter().filter(|member| has_vote(member));
                let places = voters.map(|member| place(&member.attributes.name));
                places.collect()
            };
            [
                places_of(&|member| !member.learner),
                places_of(&|member| logged(member.id)),
            ]
        })
    }

    /// The last entry that its log was cut below.
    pub fn purged(&self) -> Option<u64> {
        self.with(|staged, _| staged.log.purged_index())
    }

    /// What it shows has not gone back.
    ///
    /// # Errors
    /// It has.
    pub fn goes_on(&mut self, shown: Shown) -> Result<(), String> {
        let floor = self.floor;
        let goes_on = shown.applied >= floor.applied
            && shown.revision >= floor.revision
            && shown.compacted >= floor.compacted
            && shown.term >= floor.term;
        self.floor = shown;
        match goes_on {
            true => Ok(()),
            false => Err(format!(
                "m{} went back from {floor:?} to {shown:?}",
                self.place
            )),
        }
    }

    /// Its process ends at once, and the power of its disk with it.
    pub fn crash(&mut self, net: &Net, random: &mut Random) {
        let Some(running) = self.running.take() else {
            return;
        };
        net.listen(self.place, None);
        self.spare();
        self.applied_before = self.applied_before.max(self.floor.applied);
        let (old, new) = (self.dir(), self.dir_of(self.life + 1));
        if !self.cut.swap(false, Ordering::Relaxed) {
            let unkept = power::take(&old);
            disk::without_power(&old, &new, &unkept, random);
        }
        self.life += 1;
        self.flush_failed_ns = None;
        power::watch(&new);
        self.lay_disk();
        running.end();
        std::fs::remove_dir_all(&old).expect("nobody uses it");
        // Whoever was told that it is spoilt has put back what was there.
        if let Some((spoiling, said)) = self.spoiling.take() {
            match said.get() {
                Said::Nothing => self.spoiling = Some((spoiling, said)),
                Said::Refused => spoiling.mend(&new),
                Said::Started => {}
            }
        }
    }
}

impl Running {
    /// Has its disks, its applying and its threads for what blocks do what they have to, but for what stands
    /// still. Whether they did anything.
    fn work(&self, stalls: Stalls, random: &mut Random) -> bool {
        let _stage = self.stage.enter();
        let mut worked = false;
        for work in self.stage.work().iter() {
            let stands_still = match work.name() {
                "wal-writer" | "wal-spares" => stalls.log,
                "snapshot" => stalls.store,
                "engram-apply" => stalls.applying,
                _ => false,
            };
            // The writer writes once a turn, everybody else as long as there is something to do.
            match work.name() {
                _ if stands_still => {}
                "wal-writer" => worked |= work.step() == Step::Worked,
                _ => {
                    while work.step() == Step::Worked {
                        worked = true;
                    }
                }
            }
            if self.stage.has_ended() {
                return worked;
            }
        }
        match stalls.store {
            true => worked,
            false => self.block(random) || worked,
        }
    }

    /// Has some of what waits for a thread that may block be done, in any order. Whether anything was.
    fn block(&self, random: &mut Random) -> bool {
        let mut worked = false;
        for _ in 0..self.stage.waiting() {
            // Threads take a while to begin.
            if random.once_in(2) {
                continue;
            }
            let at = random.index(self.stage.waiting());
            if let Some(work) = self.stage.take_waiting(at) {
                let _context = self.runtime.enter();
                work();
                worked = true;
            }
            if self.stage.has_ended() {
                break;
            }
        }
        worked
    }

    /// Runs its tasks until none has anything to do at this moment.
    fn run(&self) -> Rest {
        let _stage = self.stage.enter();
        match self.stage.has_ended() {
            true => Rest::default(),
            false => self.runtime.block_on(self.tasks.run_until(system::rest())),
        }
    }

    fn end(self) {
        let _stage = self.stage.enter();
        let context = self.runtime.enter();
        self.stage.forget_waiting();
        drop(self.tasks);
        drop(self.staged);
        drop(context);
        drop(self.runtime);
    }
}

/// A start that failed: it is tried again once the disk refuses nothing, or once there is again what was.
fn end_of_start(place: usize, said: &str, spoilt: Option<&(Spoilt, Rc<Cell<Said>>)>) {
    let is_refusal = REFUSALS.iter().any(|refusal| said.contains(refusal));
    if !is_refusal {
        let Some((what, answer)) = spoilt else {
            panic!("m{place} does not start: {said}");
        };
        let is_advice = ADVICE.iter().any(|advice| said.contains(advice));
        assert!(is_advice, "m{place} with {what:?} gives no advice: {said}");
        answer.set(Said::Refused);
    }
    steps::mark_ended();
}

/// Whether a member may start with what has become of its directory: where a bit is one of a spare's, or the
/// log still has what a store lacks.
fn may_start(what: Spoilt) -> bool {
    matches!(
        what,
        Spoilt::Bit | Spoilt::StoreLost | Spoilt::StoreOlder | Spoilt::StoreForeign
    )
}

/// What `work` comes to; none where the member's process ends in it.
fn survive<R>(work: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Err(panic) if !panic.is::<MemberEnded>() => resume_unwind(panic),
        done => done.ok(),
    }
}

/// A simulated disk is memory: small segments, and a log that is cut soon.
fn tuned() -> Tuned {
    Tuned {
        log: Box::new(|log| wal::Options {
            segment_bytes: SEGMENT_BYTES,
            spare_segments: 1,
            ..log
        }),
        log_disk_bytes: LOG_DISK_BYTES,
    }
}
