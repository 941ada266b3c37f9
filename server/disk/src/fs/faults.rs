//! Faults for tests: makes operations on files below a directory fail or wait, and notes which were
//! done. A program that is built together with tests has it too (cargo builds a crate once for both);
//! nothing there asks for a fault, and then an operation costs a look at one flag more.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creating a file.
    Create,
    /// Allocating blocks.
    Allocate,
    /// A write.
    Write,
    /// A data sync.
    Sync,
    /// Making the names in a directory durable, of which the path is asked for.
    Name,
}

/// Whether anybody has ever asked for anything here.
static IN_USE: AtomicBool = AtomicBool::new(false);

struct Fault {
    id: u64,
    below: PathBuf,
    operation: Operation,
    errno: i32,
    /// Operations that still succeed before the fault sets in.
    successes: u64,
    /// Operations that fail before it is over.
    failures: u64,
}

static FAULTS: Mutex<(u64, Vec<Fault>)> = Mutex::new((0, Vec::new()));

/// A fault that lasts until it is dropped.
#[must_use]
pub struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        FAULTS.lock().1.retain(|fault| fault.id != self.0);
    }
}

/// Lets `operation` fail with `errno` on files below `below`, after `successes` that go well.
pub fn inject(below: &Path, operation: Operation, errno: i32, successes: u64) -> Guard {
    inject_times(below, operation, errno, successes, u64::MAX)
}

/// As [`inject`], but only so many `failures`.
pub fn inject_times(
    below: &Path,
    operation: Operation,
    errno: i32,
    successes: u64,
    failures: u64,
) -> Guard {
    IN_USE.store(true, Ordering::Relaxed);
    let mut faults = FAULTS.lock();
    faults.0 += 1;
    let id = faults.0;
    faults.1.push(Fault {
        id,
        below: below.to_path_buf(),
        operation,
        errno,
        successes,
        failures,
    });
    Guard(id)
}

/// How much room a disk has.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// So many bytes, whatever is written.
    Bytes(u64),
    /// What the files below it do not take of so many.
    Of(u64),
}

impl Left {
    fn bytes(self, below: &Path) -> u64 {
        match self {
            Left::Bytes(bytes) => bytes,
            Left::Of(bytes) => bytes.saturating_sub(taken(below)),
        }
    }
}

/// The number of the last limit, and those that hold: number, directory, what is left there.
type Limits = (u64, Vec<(u64, PathBuf, Left)>);

static ROOM: Mutex<Limits> = Mutex::new((0, Vec::new()));

/// A disk with that much room, until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Room(u64);

impl Drop for Room {
    fn drop(&mut self) {
        ROOM.lock().1.retain(|(id, ..)| *id != self.0);
    }
}

/// Has the disk below `below` say that `free_bytes` of it are left.
pub fn leave(below: &Path, free_bytes: u64) -> Room {
    limit(below, Left::Bytes(free_bytes))
}

/// Has the disk below `below` have room for so many bytes of files: what would take more is refused.
pub fn bound(below: &Path, bytes: u64) -> Room {
    limit(below, Left::Of(bytes))
}

fn limit(below: &Path, left: Left) -> Room {
    IN_USE.store(true, Ordering::Relaxed);
    let mut room = ROOM.lock();
    room.0 += 1;
    let id = room.0;
    room.1.push((id, below.to_path_buf(), left));
    Room(id)
}

/// The bytes that files below a directory take.
#[must_use]
pub fn taken(below: &Path) -> u64 {
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => taken(&entry.path()),
        Ok(metadata) => metadata.len(),
        // It has just gone.
        Err(_) => 0,
    });
    bytes.sum()
}

/// The room that a disk has been left.
pub(super) fn left(path: &Path) -> Option<u64> {
    if !IN_USE.load(Ordering::Relaxed) {
        return None;
    }
    let room = ROOM.lock();
    let found = room.1.iter().find(|(_, below, _)| path.starts_with(below));
    found.map(|(_, below, left)| left.bytes(below))
}

/// A file is about to end at `end`: refused where its disk has no room for what it has grown by then.
pub(super) fn grow(path: &Path, file: &File, end: u64) -> io::Result<()> {
    if !IN_USE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let room = ROOM.lock();
    let found = room.1.iter().find(|(_, below, _)| path.starts_with(below));
    let Some((_, below, left @ Left::Of(_))) = found else {
        return Ok(());
    };
    let grown = end.saturating_sub(file.metadata()?.len());
    match grown > 0 && left.bytes(below) < grown {
        true => Err(rustix::io::Errno::NOSPC.into()),
        false => Ok(()),
    }
}

/// One stall: its number, where it is and what waits.
type Stalled = (u64, PathBuf, Operation);

static STALLS: Mutex<(u64, Vec<Stalled>)> = Mutex::new((0, Vec::new()));
static UNSTALLED: Condvar = Condvar::new();

/// A stall that lasts until it is dropped.
#[must_use]
pub struct Stall(u64);

impl Drop for Stall {
    fn drop(&mut self) {
        STALLS.lock().1.retain(|(id, ..)| *id != self.0);
        UNSTALLED.notify_all();
    }
}

/// Lets `operation` wait on files below `below`, as a disk that has stopped for a while.
pub fn stall(below: &Path, operation: Operation) -> Stall {
    IN_USE.store(true, Ordering::Relaxed);
    let mut stalls = STALLS.lock();
    stalls.0 += 1;
    let id = stalls.0;
    stalls.1.push((id, below.to_path_buf(), operation));
    Stall(id)
}

fn wait(path: &Path, operation: Operation) {
    let mut stalls = STALLS.lock();
    let is_met = |(_, below, stalled): &(u64, PathBuf, Operation)| {
        *stalled == operation && path.starts_with(below)
    };
    while stalls.1.iter().any(is_met) {
        UNSTALLED.wait(&mut stalls);
    }
}

static NOTES: Mutex<Vec<(PathBuf, Vec<Noted>)>> = Mutex::new(Vec::new());

/// An operation that was begun, and for a write where and how many bytes.
pub type Noted = (Operation, u64, usize);

/// Begins to note what is written and synced below `below`.
pub fn note(below: &Path) {
    IN_USE.store(true, Ordering::Relaxed);
    NOTES.lock().push((below.to_path_buf(), Vec::new()));
}

/// What was noted below `below` until now, in order.
pub fn noted(below: &Path) -> Vec<Noted> {
    let notes = NOTES.lock();
    let found = notes.iter().find(|(dir, _)| dir == below);
    found.map_or(Vec::new(), |(_, noted)| noted.clone())
}

pub(super) fn tell(path: &Path, noted: Noted) {
    if !IN_USE.load(Ordering::Relaxed) {
        return;
    }
    for (below, list) in NOTES.lock().iter_mut() {
        if path.starts_with(below) {
            list.push(noted);
        }
    }
}

pub(super) fn check(path: &Path, operation: Operation) -> io::Result<()> {
    if !IN_USE.load(Ordering::Relaxed) {
        return Ok(());
    }
    wait(path, operation);
    let mut faults = FAULTS.lock();
    for fault in &mut faults.1 {
        if fault.operation != operation || !path.starts_with(&fault.below) {
            continue;
        }
        if fault.successes > 0 {
            fault.successes -= 1;
        } else if fault.failures > 0 {
            fault.failures -= 1;
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
    }
    Ok(())
}
