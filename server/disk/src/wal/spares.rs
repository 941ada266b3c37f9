//! The thread that has zeroed files ready before they are needed, and takes back purged segments.
//!
//! Writing over zeros that are already on the disk makes `fdatasync` about twice as fast as growing a
//! file, and a full disk shows here, a whole segment before the writer would run into it. A purged
//! segment is renamed, zeroed and used again: that needs no new space.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::frame::is_zero;
use super::options::{FatalError, Options, Space};
use super::recovery::Segment;
use super::segment::Name;
use crate::fs::{DataFile, is_out_of_space, remove_durably};
use crate::threads::{
    self,
    steps::{self, Step, Steps},
};

/// Bytes that are zeroed between two syncs, so that the writer's own syncs never wait for much.
const ZERO_STEP_BYTES: u64 = 1024 * 1024;
/// Pause between two steps while nobody waits for the file: 64 MiB take less than a second.
const ZERO_PAUSE: Duration = Duration::from_millis(5);
/// So often in a row there has to be no space before the disk counts as full. That costs a cluster of one
/// its alarm, which only people clear, so one failed call must not be enough.
const FULL_AFTER: u32 = 3;
/// How soon it is tried again before that: what is left of the current segment is soon written.
const RETRY_SOON: Duration = Duration::from_millis(10);
/// Bytes that are read at once to see whether a file is zeroed.
const VERIFY_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
struct State {
    /// Files that hold zeros only, durably.
    ready: VecDeque<DataFile>,
    /// Spares of an earlier run, not yet verified.
    found: Vec<u64>,
    /// Segments that were given up, oldest first.
    retired: VecDeque<(u64, Segment)>,
    /// Number of the next spare file.
    next_number: u64,
    /// When making one may be tried again after the disk was full.
    retry_at: Option<Instant>,
    /// How often in a row there was no space for a spare.
    refused: u32,
    exhausted: bool,
    /// The writer waits: no pauses.
    urgent: bool,
    /// The writer is about to end: it no longer waits for a full disk.
    draining: bool,
    closing: bool,
}

/// The spare segments of a log.
#[derive(Debug)]
pub(super) struct Spares {
    dir: PathBuf,
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of all files of the log.
    disk_bytes: AtomicU64,
}

/// The thread that makes them.
pub(super) struct Maker(pub(super) Arc<Spares>);

impl Steps for Maker {
    fn step(&mut self, may_wait: bool) -> Step {
        self.0.work(may_wait)
    }
}

enum Task {
    Verify(u64),
    Retire(u64, Segment, Fate),
    Make,
    End,
}

#[derive(Clone, Copy)]
enum Fate {
    Recycle,
    Delete,
}

/// The log is being closed: what was begun is left for the next start to clear away.
struct Closing;

impl Spares {
    pub(super) fn new(dir: &Path, options: &Options, found: Vec<u64>, segments_bytes: u64) -> Self {
        let next_number = found.last().map_or(1, |last| last.saturating_add(1));
        let state = State {
            found,
            next_number,
            ..State::default()
        };
        Self {
            dir: dir.to_path_buf(),
            options: options.clone(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            disk_bytes: AtomicU64::new(segments_bytes),
        }
    }

    /// Bytes of the log's files, spares included.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Whether the disk had no room for the next segment when it was tried last.
    pub(super) fn is_exhausted(&self) -> bool {
        self.state.lock().exhausted
    }

    /// Bytes of the files that are ready.
    pub(super) fn ready_bytes(&self) -> u64 {
        let ready = self.state.lock().ready.len();
        u64::try_from(ready).map_or(u64::MAX, |ready| ready * self.options.segment_bytes)
    }

    /// Somebody waits for the next file: no pauses until it is taken.
    pub(super) fn hurry(&self) {
        let mut state = self.state.lock();
        if !state.urgent {
            state.urgent = true;
            self.changed.notify_all();
        }
    }

    /// A zeroed file of the configured size. Waits while the disk is full; `None` if the log is
    /// closed meanwhile.
    pub(super) fn take(&self) -> Option<DataFile> {
        let mut state = self.state.lock();
        loop {
            if let Some(file) = state.ready.pop_front() {
                state.urgent = false;
                self.changed.notify_all();
                return Some(file);
            }
            if state.draining && state.exhausted {
                return None;
            }
            state.urgent = true;
            self.changed.notify_all();
            if steps::is_on_stage() {
                drop(state);
                if self.work(false) != Step::Worked {
                    // Nobody can wait here: it is as if the process were killed meanwhile.
                    steps::end_member();
                }
                state = self.state.lock();
                continue;
            }
            self.changed.wait(&mut state);
        }
    }

    /// For work on a stage: whether there is a spare, or one can be made now.
    pub(super) fn is_ready(&self) -> bool {
        while self.state.lock().ready.is_empty() {
            if self.work(false) != Step::Worked {
                return false;
            }
        }
        true
    }

    /// Gives up a segment; called in ascending order of numbers.
    pub(super) fn retire(&self, number: u64, segment: Segment) {
        self.state.lock().retired.push_back((number, segment));
        self.changed.notify_all();
    }

    /// From now on `take` does not wait for a full disk.
    pub(super) fn drain(&self) {
        self.state.lock().draining = true;
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// One task of the thread.
    fn work(&self, may_wait: bool) -> Step {
        threads::idle();
        let Some(task) = self.next_task(may_wait) else {
            return Step::Nothing;
        };
        // What it does is the disk's work, bounded by a segment.
        match threads::on_disk(|| self.run_task(task)) {
            Ok(()) => Step::Worked,
            Err(Closing) => Step::Ended,
        }
    }

    fn run_task(&self, task: Task) -> Result<(), Closing> {
        match task {
            Task::Verify(number) => self.verify(number),
            Task::Retire(number, segment, Fate::Recycle) => self.recycle(number, segment),
            Task::Retire(number, segment, Fate::Delete) => self.delete(number, &segment),
            Task::Make => self.make(),
            Task::End => Err(Closing),
        }
    }

    /// None where there is nothing to do and it may not wait.
    fn next_task(&self, may_wait: bool) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.closing {
                return Some(Task::End);
            }
            if let Some(number) = state.found.pop() {
                return Some(Task::Verify(number));
            }
            let is_short = state.ready.len() < self.options.spare_segments;
            if let Some((number, segment)) = state.retired.pop_front() {
                // A reader that still has the file must not see it zeroed; nobody new can get it.
                let is_unread = Arc::strong_count(&segment.file) == 1;
                let fits = segment.bytes == self.options.segment_bytes;
                let fate = if is_short && is_unread && fits {
                    Fate::Recycle
                } else {
                    Fate::Delete
                };
                return Some(Task::Retire(number, segment, fate));
            }
            match state.retry_at {
                _ if is_short && state.retry_at.is_none_or(|at| at <= Instant::now()) => {
                    return Some(Task::Make);
                }
                _ if !may_wait => return None,
                Some(at) if is_short => drop(self.changed.wait_until(&mut state, at)),
                _ => self.changed.wait(&mut state),
            }
        }
    }

    /// A spare of an earlier run: trusted only if it is what a spare must be.
    fn verify(&self, number: u64) -> Result<(), Closing> {
        let path = Name::Spare(number).path(&self.dir);
        let is_short = self.state.lock().ready.len() < self.options.spare_segments;
        let file = self.must("open", &path, DataFile::open(&path));
        let bytes = self.must("stat", &path, file.bytes());
        let is_sound = is_short
            && bytes == self.options.segment_bytes
            && self.must("read", &path, holds_only_zeros(&file, bytes));
        if is_sound {
            self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.add_ready(file);
        } else {
            self.must("removal", &path, remove_durably(&path));
        }
        Ok(())
    }

    fn make(&self) -> Result<(), Closing> {
        let number = self.take_number();
        let path = Name::Unfinished(number).path(&self.dir);
        if !(self.options.may_grow)(self.options.segment_bytes) {
            return self.out_of_space(&path);
        }
        let created = DataFile::create(&path).and_then(|file| {
            file.allocate(self.options.segment_bytes)?;
            Ok(file)
        });
        let file = match created {
            Err(error) if is_out_of_space(&error) => return self.refused(&path),
            created => self.must("creation", &path, created),
        };
        // Allocated blocks are not enough everywhere (copy-on-write filesystems).
        match self.zero(&file) {
            Ok(finished) => finished?,
            Err(error) if is_out_of_space(&error) => return self.refused(&path),
            Err(error) => self.must("zeroing", &path, Err(error)),
        }
        self.disk_bytes
            .fetch_add(self.options.segment_bytes, Ordering::Relaxed);
        self.finish(number, file);
        Ok(())
    }

    fn recycle(&self, number: u64, segment: Segment) -> Result<(), Closing> {
        let spare = self.take_number();
        let path = Name::Segment(number).path(&self.dir);
        let unfinished = Name::Unfinished(spare).path(&self.dir);
        let file = Arc::into_inner(segment.file).expect("nobody else has the file");
        let file = self.must("rename", &path, file.rename(&unfinished));
        self.must("zeroing", &unfinished, self.zero(&file))?;
        self.finish(spare, file);
        Ok(())
    }

    fn delete(&self, number: u64, segment: &Segment) -> Result<(), Closing> {
        let path = Name::Segment(number).path(&self.dir);
        self.must("removal", &path, remove_durably(&path));
        self.disk_bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
        // Space was freed: no need to wait for the next attempt.
        self.state.lock().retry_at = None;
        Ok(())
    }

    fn finish(&self, number: u64, file: DataFile) {
        let path = Name::Spare(number).path(&self.dir);
        let file = self.must("rename", &path, file.rename(&path));
        self.add_ready(file);
    }

    fn add_ready(&self, file: DataFile) {
        let mut state = self.state.lock();
        state.ready.push_back(file);
        state.retry_at = None;
        state.refused = 0;
        let recovered = std::mem::take(&mut state.exhausted);
        self.changed.notify_all();
        drop(state);
        if recovered {
            (self.options.on_space)(Space::Recovered);
        }
    }

    /// The system had no space for a spare.
    fn refused(&self, unfinished: &Path) -> Result<(), Closing> {
        let mut state = self.state.lock();
        state.refused = state.refused.saturating_add(1);
        if state.refused >= FULL_AFTER {
            drop(state);
            return self.out_of_space(unfinished);
        }
        state.retry_at = Some(Instant::now() + RETRY_SOON);
        drop(state);
        self.remove_unfinished(unfinished);
        Ok(())
    }

    fn remove_unfinished(&self, unfinished: &Path) {
        if let Err(error) = remove_durably(unfinished)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.must("removal", unfinished, Err(error))
        }
    }

    fn out_of_space(&self, unfinished: &Path) -> Result<(), Closing> {
        self.remove_unfinished(unfinished);
        let mut state = self.state.lock();
        state.retry_at = Some(Instant::now() + self.options.space_retry);
        if !state.ready.is_empty() || state.exhausted {
            return Ok(());
        }
        state.exhausted = true;
        self.changed.notify_all();
        drop(state);
        (self.options.on_space)(Space::Exhausted);
        Ok(())
    }

    /// Zeroes a whole file in steps, each durable. The outer error is the disk's.
    fn zero(&self, file: &DataFile) -> io::Result<Result<(), Closing>> {
        let mut offset = 0;
        while offset < self.options.segment_bytes {
            let bytes = ZERO_STEP_BYTES.min(self.options.segment_bytes - offset);
            file.write_zeros_at(bytes, offset)?;
            if self.options.sync {
                file.sync_data()?;
            }
            offset += bytes;
            if self.pause() {
                return Ok(Err(Closing));
            }
        }
        Ok(Ok(()))
    }

    /// Returns whether the log is being closed.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        if !state.urgent && !state.closing && !steps::is_on_stage() {
            self.changed.wait_for(&mut state, ZERO_PAUSE);
        }
        state.closing
    }

    fn take_number(&self) -> u64 {
        let mut state: MutexGuard<'_, State> = self.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        number
    }

    fn must<T>(&self, operation: &'static str, path: &Path, result: io::Result<T>) -> T {
        result.unwrap_or_else(|source| {
            end_process(
                &self.options,
                FatalError {
                    operation,
                    path: path.to_path_buf(),
                    source,
                },
            )
        })
    }
}

/// Makes the very first segment file of a log, zeroed, under the name of an unfinished spare.
pub(super) fn make_first(dir: &Path, options: &Options) -> io::Result<DataFile> {
    let file = DataFile::create(&Name::Unfinished(0).path(dir))?;
    file.allocate(options.segment_bytes)?;
    file.write_zeros_at(options.segment_bytes, 0)?;
    if options.sync {
        file.sync_data()?;
    }
    Ok(file)
}

/// Tells the caller, and ends the process if the caller did not.
pub(super) fn end_process(options: &Options, error: FatalError) -> ! {
    (options.on_fatal)(error);
    std::process::abort()
}

fn holds_only_zeros(file: &DataFile, bytes: u64) -> io::Result<bool> {
    let mut buffer = vec![0; VERIFY_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let chunk = usize::try_from(bytes - offset)
            .unwrap_or(VERIFY_BYTES)
            .min(VERIFY_BYTES);
        file.read_exact_at(&mut buffer[..chunk], offset)?;
        if !is_zero(&buffer[..chunk]) {
            return Ok(false);
        }
        offset += super::recovery::widen(chunk);
    }
    Ok(true)
}
