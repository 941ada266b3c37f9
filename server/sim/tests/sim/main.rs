//! Whole members on one thread, in virtual time, under faults drawn from a seed.
//!
//! Everything of a member is the product's: its start from a data directory, consensus, the log, the
//! apply thread's work, RocksDB, watches, reads, the protocol between members. Only what is outside is
//! ours: clocks and random bytes (`system`), the network's bytes (`net`), when a piece of work is done
//! and what a disk has kept without power (`member`).
//!
//! `sim [SEEDS [FIRST]]`, `sim one SEED`; with the feature `mutants`, `sim mutants` has every planted fault
//! found.

mod children;
mod clients;
mod cluster;
mod history;
mod member;
#[cfg(feature = "mutants")]
mod mutants;
mod net;
mod random;
mod system;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::Report;

/// The stack of a seed's thread: everything of every member runs on it.
const STACK_BYTES: usize = 64 << 20;
/// Memory that is a disk, where there is one.
const DISK: &str = "/dev/shm";

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
        Some("mutants") => mutants::find_all(),
        _ => many(asked(0, 20), asked(1, 1)),
    }
}

/// Runs seeds, each in a process of its own: libraries keep counters that a second seed would find.
fn many(seeds: u64, first: u64) {
    let began = Instant::now();
    let once = children::run(first).unwrap_or_else(|error| fail(first, &error));
    let twice = children::run(first).unwrap_or_else(|error| fail(first, &error));
    if once != twice {
        fail(
            first,
            &format!("the same seed came to {once:?}, then to {twice:?}"),
        );
    }
    let virtual_ms = AtomicU64::new(0);
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let said = children::run(seed).unwrap_or_else(|error| fail(seed, &error));
            let (ms, report) = said.trim().split_once(' ').expect("its time, and the rest");
            virtual_ms.fetch_add(ms.parse().expect("a number"), Ordering::Relaxed);
            println!("seed {seed}: {report}");
        }
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let took = began.elapsed();
    let passed = Duration::from_millis(virtual_ms.load(Ordering::Relaxed));
    let speed = passed.as_secs_f64() / took.as_secs_f64();
    println!(
        "{seeds} seeds from {first}: all held; {took:.1?}, {speed:.0} virtual seconds a second"
    );
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
    match run(seed) {
        Ok(report) => println!("{} {report:?}", report.ms),
        Err(error) => {
            println!("{error}");
            std::process::exit(1)
        }
    }
}

/// A task's panic would be its own: here it is the seed's end, and the process's.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        println!(
            "panicked with seed {}: {panic}",
            SEED.load(Ordering::Relaxed)
        );
        // SAFETY: it ends the process. Exit handlers would wait for threads that are in its way.
        unsafe { libc::_exit(101) }
    }));
}

/// Runs a seed on a thread of its own: what libraries keep for a thread begins anew.
fn run(seed: u64) -> Result<Report, String> {
    SEED.store(seed, Ordering::Relaxed);
    let root = match std::path::Path::new(DISK).is_dir() {
        true => tempfile::tempdir_in(DISK),
        false => tempfile::tempdir(),
    }
    .expect("a directory");
    let path = root.path().to_path_buf();
    let run = move || {
        system::begin(seed);
        let outcome = cluster::run(seed, &path);
        system::end();
        outcome
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let outcome = thread.spawn(run).expect("a thread").join();
    outcome.unwrap_or_else(|_| Err("it panicked, as said above".into()))
}

fn fail(seed: u64, error: &str) -> ! {
    println!("seed {seed}: {error}");
    println!("again: make sim SEEDS=1 FIRST={seed} (ENGRAM_SIM_LOG=1 for the members' logs)");
    std::process::exit(1)
}
