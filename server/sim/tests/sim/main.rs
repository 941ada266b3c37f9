//! Whole members on one thread, in virtual time, under faults drawn from a seed.
//!
//! Everything of a member is the product's: its start from a data directory, consensus, the log, the
//! apply thread's work, RocksDB (in one seed of eight), watches, reads, the protocol between members. Only
//! what is outside is ours: clocks and random bytes (`system`), the network's bytes (`net`), when a piece
//! of work is done and what a disk has kept without power (`member`).
//!
//! `sim [SEEDS [FIRST]]`, `sim one SEED`; with the feature `mutants`, `sim mutants [WORDS]` has every planted
//! fault found. A seed that fails ends it, and is tried again with an earlier end and fewer faults, down to those that it takes;
//! `sim long SEEDS FIRST` goes on, and says in the end which have failed.

mod admin;
mod alarm;
mod children;
mod clients;
mod cluster;
mod disk;
mod faults;
mod formats;
mod history;
mod logs;
mod member;
#[cfg(feature = "mutants")]
mod mutants;
mod net;
mod random;
mod service;
mod shrink;
mod system;
mod truth;
mod watchers;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::{Plan, Report};
use engram_process::threads::steps::MemberEnded;
use faults::Fault;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The stack of a seed's thread: everything of every member runs on it.
const STACK_BYTES: usize = 64 << 20;
/// Memory that is a disk, where there is one.
const DISK: &str = "/dev/shm";

/// Of so many seeds one has its stores in RocksDB, the others in memory.
const ROCKSDB_EVERY: u64 = 8;

/// The seed that runs.
static SEED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let asked = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    match arguments.first().map(String::as_str) {
        Some("one") => one(asked(0, 1)),
        #[cfg(feature = "mutants")]
        Some("mutants") => mutants::find_all(&arguments[1..]),
        word => many(asked(0, 20), asked(1, 1), word == Some("long")),
    }
}

/// Runs seeds, each in a process of its own: libraries keep counters that a second seed would find. The first
/// that fails is the end of it, unless it `goes_on`.
fn many(seeds: u64, first: u64, goes_on: bool) {
    let began = Instant::now();
    let once = children::run(first);
    let twice = children::run(first);
    if once != twice {
        fail(
            first,
            &format!("the same seed came to {once:?}, then to {twice:?}"),
        );
    }
    let virtual_ms = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let tell = |seed: u64, said: Result<String, String>| {
        let said = match said {
            Ok(said) => said,
            Err(error) if !goes_on => fail(seed, &error),
            Err(error) => {
                println!("seed {seed} FAILS: {}", error.trim());
                failed.lock().expect("nobody panics").push(seed);
                return;
            }
        };
        let (ms, report) = said.trim().split_once(' ').expect("its time, and the rest");
        virtual_ms.fetch_add(ms.parse().expect("a number"), Ordering::Relaxed);
        println!("seed {seed}: {report}");
    };
    tell(first, once);
    let next = AtomicU64::new(first + 1);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            tell(seed, children::run(seed));
        }
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let took = began.elapsed();
    // The first one ran twice, and counts once: what is said is a little less than it was.
    let passed = Duration::from_millis(virtual_ms.load(Ordering::Relaxed)).as_secs_f64();
    let processor = children::processor_time().as_secs_f64();
    let failed = failed.into_inner().expect("nobody panics");
    let held = match failed.len() {
        0 => "all held".to_owned(),
        count => format!("{count} failed: {failed:?}"),
    };
    println!(
        "{seeds} seeds from {first}: {held}; {took:.1?}, {passed:.0} virtual seconds, {:.0} a CPU second",
        passed / processor
    );
    if !failed.is_empty() {
        std::process::exit(1)
    }
}

/// Runs one seed in this process.
fn one(seed: u64) {
    let log = engram_server::trace::Options {
        level: match std::env::var_os("ENGRAM_SIM_LOG") {
            Some(_) => engram_server::trace::Level::Info,
            None => engram_server::trace::Level::Fatal,
        },
        ..Default::default()
    };
    engram_server::trace::init(&log).expect("the log is stderr");
    end_on_panic();
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("ENGRAM_SIM_MUTANT") {
        engram_process::mutants::plant(Some(&name));
    }
    match run(plan(seed)) {
        (_, Ok(report)) => println!("{} {report:?}", report.ms),
        (came, Err(error)) => {
            println!("{error}");
            println!("{FAULTS_SAID}{}", numbers(&came));
            if std::env::var_os("ENGRAM_SIM_FAULTS").is_some() {
                came.iter().for_each(|fault| println!("{fault:?}"));
            }
            std::process::exit(1)
        }
    }
}

/// What a seed says before the numbers of its faults.
const FAULTS_SAID: &str = "faults: ";

fn numbers(came: &[Fault]) -> String {
    let numbers = came.iter().map(|fault| fault.number.to_string());
    numbers.collect::<Vec<_>>().join(",")
}

/// What is asked for: a seed, without what `ENGRAM_SIM_WITHOUT` names, and up to `ENGRAM_SIM_UNTIL`.
fn plan(seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    let until = std::env::var(shrink::UNTIL);
    if let Some(ms) = until.ok().and_then(|until| until.parse().ok()) {
        plan.until_ms = ms;
    }
    if let Ok(without) = std::env::var(shrink::WITHOUT) {
        plan.without = without
            .split(',')
            .filter_map(|number| number.parse().ok())
            .collect();
    }
    plan
}

/// A task's panic would be its own: here it is the seed's end, and the process's.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        // The end of one member's process: no fault of the simulator's.
        if panic.payload().is::<MemberEnded>() {
            return;
        }
        // Who asked may be gone.
        let seed = SEED.load(Ordering::Relaxed);
        drop(writeln!(
            std::io::stdout(),
            "panicked with seed {seed}: {panic}"
        ));
        // SAFETY: it ends the process. Exit handlers would wait for threads that are in its way.
        unsafe { libc::_exit(101) }
    }));
}

/// Runs a seed on a thread of its own: what libraries keep for a thread begins anew.
fn run(plan: Plan) -> (Vec<Fault>, Result<Report, String>) {
    SEED.store(plan.seed, Ordering::Relaxed);
    let root = match std::path::Path::new(DISK).is_dir() {
        true => tempfile::tempdir_in(DISK),
        false => tempfile::tempdir(),
    }
    .expect("a directory");
    let path = root.path().to_path_buf();
    // Most stores are in memory, which takes a tenth of the time; the product's engine is not forgotten.
    if !plan.seed.is_multiple_of(ROCKSDB_EVERY) {
        engram_server::storage::keep_in_memory();
    }
    let run = move || {
        system::begin(plan.seed);
        let outcome = cluster::run(&plan, &path);
        system::end();
        outcome
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let outcome = thread.spawn(run).expect("a thread").join();
    outcome.expect("a panic ends the process")
}

/// Says what failed and how to see it again, with as few faults as it takes.
fn fail(seed: u64, error: &str) -> ! {
    println!("seed {seed}: {error}");
    let smallest = shrink::smallest(seed, error);
    println!("again: {smallest} make sim-one SEED={seed} (ENGRAM_SIM_LOG=1 for the members' logs)");
    std::process::exit(1)
}
