//! Opening a log, and the handle through which it is used.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::birth::{Begun, Birth, begin_segment};
use super::index::Keep;
use super::options::Options;
use super::read::{Entries, ReadError, read_entries};
use super::record::{Entry, EntryId, Record, STATE_PAYLOAD_BYTES_MAX, first_truncated};
use super::recovery::{
    Log, RecoverError, Recovered, Restated, Segment, TornTail, load_header, read_log,
    refuse_foreign, widen,
};
use super::scan::End;
use super::segment::{Name, Owner};
use super::spares::{Maker, Spares, make_first};
use super::writer::{Done, Job, Queued, Shared, Start, State, UNSYNCED_BYTES_MAX, Writer};
use crate::fs::{DataFile, DirLock, create_private_dir, file_names, remove_durably, sync_dir};
use crate::threads::steps::{self, Stepping};

/// A log that is open. Share it as `Arc<Wal>`; every method takes `&self` except `close`.
///
/// Dropping it is closing it: what waits is written and synced, and the threads are joined.
pub struct Wal {
    pub(super) shared: Arc<Shared>,
    spares: Arc<Spares>,
    options: Options,
    writer: Option<Stepping>,
    spares_thread: Option<Stepping>,
    /// Held last, so that nobody else opens the directory before the threads have ended.
    _lock: DirLock,
}

/// Opens the log in `dir`, making both if they do not exist, and reads back what it holds.
///
/// Everything in `Recovered` is durable on return. A frame that a crash tore is cleared from the
/// disk and reported in `Recovered::cut`; damage is refused and nothing is changed.
///
/// That the youngest segment file was deleted by hand cannot be seen here: the caller compares
/// `Recovered::last` with what it has applied.
pub fn open(dir: &Path, options: Options) -> Result<(Wal, Recovered), RecoverError> {
    check_options(&options)?;
    create_private_dir(dir)?;
    let lock = DirLock::acquire(dir)?;
    let names = list(dir)?;
    let mut log = read_log(dir, &names.segments, options.owner, options.cache_bytes)?;
    // Nothing is changed before the whole log was found sound.
    for number in &names.unfinished {
        let path = Name::Unfinished(*number).path(dir);
        remove_durably(&path).map_err(io_failed("removal", &path))?;
    }
    if let Some(cut) = &log.cut {
        clear(&log, cut)?;
    }
    rewrite_last_frame(&log, &options)?;
    sync_segments(dir, &log, &options)?;
    if log.current.is_none() {
        begin_log(dir, &mut log, &names.spares, &options)?;
    }
    let recovered = recovered(&log);
    Ok((start(dir, options, log, names.spares, lock)?, recovered))
}

/// Whether there is a log in `dir`, whosever. Changes nothing, and makes no directory.
///
/// # Errors
/// The directory cannot be listed.
pub fn exists(dir: &Path) -> Result<bool, RecoverError> {
    Ok(!segments_in(dir)?.is_empty())
}

/// Refuses a log in `dir` that is not `owner`'s. Changes nothing. `open` refuses it as well: this is
/// for looking before anything else is touched.
///
/// # Errors
/// Somebody else wrote a segment, or its header cannot be read.
pub fn check_owner(dir: &Path, owner: Owner) -> Result<(), RecoverError> {
    for number in segments_in(dir)? {
        let path = Name::Segment(number).path(dir);
        let file = DataFile::open_to_read(&path).map_err(io_failed("open", &path))?;
        refuse_foreign(&path, &load_header(&file)?, owner)?;
    }
    Ok(())
}

fn segments_in(dir: &Path) -> Result<Vec<u64>, RecoverError> {
    match list(dir) {
        Ok(names) => Ok(names.segments),
        Err(RecoverError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

impl Wal {
    /// Queues records, which become durable together or not at all if they fit one frame (1 MiB).
    ///
    /// With `sync`, `done` runs on the log's thread once they and everything appended before are
    /// durable, in the order of the appends; it must be quick and must not call `append`. Appends
    /// that wait together share one write and one `fdatasync`.
    ///
    /// Without `sync` the records ride on the next append that has it (or on `close`), and `done`
    /// runs before this returns: for commit marks, which may be lost.
    ///
    /// Never waits for the disk: what waits is bounded by whoever hands it entries from outside, who
    /// looks at [`Wal::queued_bytes`] first. If the process is killed first, `done` never runs.
    ///
    /// # Panics
    /// If an entry does not follow the one before it, a truncation or purge reaches where it cannot,
    /// or a payload is too large (`record_bytes_max`; 1024 bytes for anything but entries): the
    /// caller's bug, and better found before it is on the disk. Also if the writer has died.
    pub fn append(&self, records: Vec<Record>, sync: bool, done: Done) {
        if records.is_empty() && !sync {
            return done();
        }
        self.check_sizes(&records);
        let bytes = records.iter().map(Record::encoded_bytes).sum();
        let mut state = self.shared.state.lock();
        assert!(!state.stopped, "the log's writer has ended");
        let records = index_records(&mut state, records);
        if sync {
            state.synced_jobs += 1;
            state.queued_bytes += bytes;
            state.queue.push_back(Job {
                records,
                bytes,
                done: Some(done),
            });
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        queue_unsynced(&mut state, records, bytes);
        let is_much = state.queued_bytes > UNSYNCED_BYTES_MAX;
        drop(state);
        if is_much {
            self.shared.work.notify_one();
        }
        done();
    }

    /// The entries of a range, appended ones included whether written or not; clipped to the last
    /// entry, and to `max_bytes` of payload but at least one entry.
    pub fn read(&self, indexes: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        read_entries(&self.shared, indexes, max_bytes)
    }

    /// The entries from an index on, read in chunks; it ends at what is the last entry by then.
    pub fn entries(&self, from: u64) -> Entries<'_> {
        Entries::new(self, from)
    }

    /// The first of the newest entries that fit `keep`: those before it may be purged.
    pub fn kept_from(&self, keep: Keep) -> u64 {
        self.shared.state.lock().index.kept_from(keep)
    }

    /// The term of an entry, if the log holds it.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.shared.state.lock().index.term(index)
    }

    /// Index of the first entry that can be read; of the next entry if there is none.
    pub fn first_index(&self) -> u64 {
        self.shared.state.lock().index.first()
    }

    /// The last entry, if the log holds one.
    pub fn last(&self) -> Option<EntryId> {
        self.shared.state.lock().index.last()
    }

    /// The purge point: the last purged index and the payload of its record.
    pub fn purged(&self) -> Option<(u64, Bytes)> {
        self.shared.state.lock().index.purged().cloned()
    }

    /// Bytes of the log's files on the disk, spares included.
    pub fn bytes(&self) -> u64 {
        self.spares.disk_bytes()
    }

    /// Bytes that can still be written where the disk has no room for another segment, less what
    /// waits; none while another segment is there or being made.
    pub fn last_bytes(&self) -> Option<u64> {
        if !self.spares.is_exhausted() {
            return None;
        }
        let state = self.shared.state.lock();
        let queued = u64::try_from(state.queued_bytes).unwrap_or(u64::MAX);
        Some(state.segment_left_bytes.saturating_sub(queued))
    }

    /// Whether so many bytes, what waits included, have their place on the disk already: in the current segment,
    /// and in the spares behind it. Where they have none, the next segment is made without pauses.
    pub fn has_place(&self, bytes: u64) -> bool {
        // In this order: a spare that becomes the current segment meanwhile counts as none.
        let (left, queued) = {
            let state = self.shared.state.lock();
            let queued = u64::try_from(state.queued_bytes).unwrap_or(u64::MAX);
            (state.segment_left_bytes, queued)
        };
        let spare = self.spares.ready_bytes();
        let has_place = left.saturating_add(spare) >= bytes.max(queued);
        if !has_place {
            self.spares.hurry();
        }
        has_place
    }

    /// Whether the segment after the current one is there.
    pub fn has_spare(&self) -> bool {
        self.spares.ready_bytes() > 0
    }

    /// Bytes that wait for the disk, what is being written included.
    pub fn queued_bytes(&self) -> usize {
        self.shared.state.lock().queued_bytes
    }

    /// Bytes that an entry's payload may have: a little less than a segment.
    pub fn record_bytes_max(&self) -> usize {
        self.options.record_bytes_max()
    }

    /// Writes and syncs what waits and ends the threads. While the disk is full, what does not fit
    /// is given up; its `done` never runs.
    pub fn close(mut self) {
        self.end_threads();
    }

    fn end_threads(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        self.spares.drain();
        self.writer.take().into_iter().for_each(Stepping::join);
        self.spares.close();
        self.spares_thread
            .take()
            .into_iter()
            .for_each(Stepping::join);
    }

    fn check_sizes(&self, records: &[Record]) {
        for record in records {
            let bytes = record.payload().map_or(0, Bytes::len);
            let bytes_max = match record {
                Record::Entry { .. } => self.record_bytes_max(),
                _ => STATE_PAYLOAD_BYTES_MAX,
            };
            assert!(
                bytes <= bytes_max,
                "a payload of {bytes} bytes; {bytes_max} are allowed"
            );
        }
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.end_threads();
    }
}

/// Brings the index up to date and stamps the entries.
fn index_records(state: &mut State, records: Vec<Record>) -> Vec<Queued> {
    let index = &mut state.index;
    records
        .into_iter()
        .map(|record| {
            let mut stamp = 0;
            match &record {
                Record::Entry {
                    index: at,
                    term,
                    payload,
                } => {
                    stamp = index.push(*at, *term, payload.clone());
                }
                Record::TruncateAfter { index: last } => {
                    let from = first_truncated(*last);
                    let is_held = index.purged().is_none_or(|(purged, _)| from > *purged);
                    assert!(is_held, "W4: what is purged cannot be truncated");
                    index.truncate(from);
                }
                Record::Purge {
                    index: last,
                    payload,
                } => {
                    assert!(*last < u64::MAX, "W4: an entry must be able to follow");
                    index.purge(*last, payload.clone());
                }
                Record::Vote(_) | Record::Committed(_) => {}
            }
            Queued { record, stamp }
        })
        .collect()
}

/// Queues records for the next sync. A commit mark replaces the one that waits before it.
fn queue_unsynced(state: &mut State, records: Vec<Queued>, bytes: usize) {
    let is_mark = |records: &[Queued]| {
        matches!(
            records,
            [Queued {
                record: Record::Committed(_),
                ..
            }]
        )
    };
    if is_mark(&records)
        && let Some(waiting) = state.queue.back_mut()
        && waiting.done.is_none()
        && is_mark(&waiting.records)
    {
        let replaced = std::mem::replace(&mut waiting.bytes, bytes);
        waiting.records = records;
        state.queued_bytes = state.queued_bytes - replaced + bytes;
        return;
    }
    state.queued_bytes += bytes;
    state.queue.push_back(Job {
        records,
        bytes,
        done: None,
    });
}

fn check_options(options: &Options) -> Result<(), RecoverError> {
    let sizes = Options::SEGMENT_BYTES_MIN..=Options::SEGMENT_BYTES_MAX;
    if !sizes.contains(&options.segment_bytes) || !options.segment_bytes.is_multiple_of(4096) {
        let message = "the segment size must be a multiple of 4096 from 16 KiB to 1 GiB";
        return Err(RecoverError::Options(message));
    }
    if !(1..=Options::SPARE_SEGMENTS_MAX).contains(&options.spare_segments) {
        return Err(RecoverError::Options(
            "the number of spare segments must be from 1 to 16",
        ));
    }
    Ok(())
}

#[derive(Default)]
struct Names {
    segments: Vec<u64>,
    spares: Vec<u64>,
    unfinished: Vec<u64>,
}

fn list(dir: &Path) -> Result<Names, RecoverError> {
    let mut names = Names::default();
    for name in file_names(dir).map_err(io_failed("listing", dir))? {
        // Names that the log does not make are somebody else's and left alone.
        match Name::parse(&name) {
            Some(Name::Segment(number)) => names.segments.push(number),
            Some(Name::Spare(number)) => names.spares.push(number),
            Some(Name::Unfinished(number)) => names.unfinished.push(number),
            None => {}
        }
    }
    Ok(names)
}

/// Zeroes the torn frame (W2), so that its bytes can never be read as part of a later one.
fn clear(log: &Log, cut: &TornTail) -> Result<(), RecoverError> {
    let file = &log
        .segments
        .get(&cut.segment)
        .expect("the cut segment was read")
        .file;
    file.write_zeros_at(cut.bytes, cut.offset)
        .map_err(io_failed("clearing", &cut.file))?;
    file.sync_data().map_err(io_failed("sync", &cut.file))
}

/// A sync that failed may have left the last frame in the page cache as if it were written: the
/// system reports such an error once, and syncs of the next process succeed without it. Written
/// again, it is synced again. No frame before it is in doubt (W1), and a segment's first frame was
/// durable before the segment had its name.
fn rewrite_last_frame(log: &Log, options: &Options) -> Result<(), RecoverError> {
    let Some((id, end)) = log.current.filter(|_| options.sync) else {
        return Ok(());
    };
    let file = &log
        .segments
        .get(&id.number)
        .expect("the current segment was read")
        .file;
    let mut frame = vec![0; end.offset - end.last_frame];
    let at = widen(end.last_frame);
    file.read_exact_at(&mut frame, at)
        .map_err(io_failed("read", file.path()))?;
    file.write_all_at(&frame, at)
        .map_err(io_failed("write", file.path()))
}

/// A killed process may have left frames in the page cache that were never synced. What is reported
/// as recovered must be durable, and W1 must hold for the next frame.
fn sync_segments(dir: &Path, log: &Log, options: &Options) -> Result<(), RecoverError> {
    if !options.sync {
        return Ok(());
    }
    for segment in log.segments.values() {
        segment
            .file
            .sync_data()
            .map_err(io_failed("sync", segment.file.path()))?;
    }
    sync_dir(dir).map_err(io_failed("sync", dir))
}

/// Begins the first segment of an empty directory.
fn begin_log(
    dir: &Path,
    log: &mut Log,
    spares: &[u64],
    options: &Options,
) -> Result<(), RecoverError> {
    // Spares are made after the first segment: without one, segments were deleted.
    if !spares.is_empty() {
        return Err(RecoverError::SegmentMissing {
            file: Name::Segment(1).path(dir),
        });
    }
    let path = Name::Segment(1).path(dir);
    let file = make_first(dir, options).map_err(io_failed("creation", &path))?;
    let end = End {
        offset: 0,
        chain: 0,
        sequence: 1,
        torn_bytes: 0,
        last_frame: 0,
    };
    let birth = Birth {
        number: 1,
        end,
        next_index: 0,
        restated: &Restated::default(),
    };
    let Begun { id, file, end } =
        begin_segment(file, dir, &birth, options).map_err(|error| RecoverError::Io {
            operation: error.operation,
            path: error.path,
            source: error.source,
        })?;
    let segment = Segment {
        file: Arc::new(file),
        bytes: options.segment_bytes,
        entry_max: None,
    };
    log.segments.insert(1, segment);
    log.current = Some((id, end));
    Ok(())
}

fn recovered(log: &Log) -> Recovered {
    Recovered {
        vote: log.restated.vote.clone(),
        committed: log.restated.committed.clone(),
        purged: log.restated.purged.clone(),
        first_index: log.index.first(),
        last: log.index.last(),
        cut: log.cut.clone(),
    }
}

fn start(
    dir: &Path,
    options: Options,
    log: Log,
    spares: Vec<u64>,
    lock: DirLock,
) -> Result<Wal, RecoverError> {
    let Log {
        segments,
        index,
        restated,
        current,
        ..
    } = log;
    let (segment, end) = current.expect("a log has a segment by now");
    let youngest = segments
        .get(&segment.number)
        .expect("the current segment is known")
        .clone();
    let next_index = index.next();
    let segments_bytes = segments.values().map(|segment| segment.bytes).sum();
    let spares = Arc::new(Spares::new(dir, &options, spares, segments_bytes));
    let state = State {
        queue: std::collections::VecDeque::new(),
        queued_bytes: 0,
        synced_jobs: 0,
        index,
        segments,
        segment_left_bytes: youngest.bytes.saturating_sub(widen(end.offset)),
        closing: false,
        stopped: false,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        work: Condvar::new(),
    });
    let mut writer = Writer::new(
        Arc::clone(&shared),
        Arc::clone(&spares),
        options.clone(),
        dir.to_path_buf(),
        Start {
            segment,
            file: youngest.file,
            segment_bytes: youngest.bytes,
            end,
            restated,
            next_index,
        },
    );
    // What a purge freed before the last stop is still there.
    writer.release(&[]);
    let failed = io_failed("start of a thread", dir);
    let writer = steps::start("wal-writer", writer).map_err(failed)?;
    let maker = Maker(Arc::clone(&spares));
    let failed = io_failed("start of a thread", dir);
    let spares_thread = steps::start("wal-spares", maker).map_err(failed)?;
    let (writer, spares_thread) = (Some(writer), Some(spares_thread));
    Ok(Wal {
        shared,
        spares,
        options,
        writer,
        spares_thread,
        _lock: lock,
    })
}

fn io_failed(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> RecoverError + use<> {
    let path = path.to_path_buf();
    move |source| RecoverError::Io {
        operation,
        path,
        source,
    }
}
