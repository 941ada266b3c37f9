//! The thread that turns queued records into frames: one write and one sync each (W1).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::birth::{Begun, Birth, begin_segment};
use super::frame::{FRAME_HEADER_BYTES, Position, seal};
use super::index::{Index, Place, widened};
use super::options::{FatalError, Options};
use super::record::{RECORD_HEADER_BYTES, Record, STATE_PAYLOAD_BYTES_MAX, first_truncated};
use super::recovery::{Restated, Segment, widen};
use super::scan::End;
use super::segment::{HEADER_BYTES, SegmentId};
use super::spares::{Spares, end_process};
use crate::fs::DataFile;
use crate::mutants::is_planted;
use crate::threads::{
    self,
    steps::{Step, Steps},
};

/// Bytes at which a frame is closed although more records wait. One larger record still goes whole.
const FRAME_BYTES_FULL: usize = 1024 * 1024;
/// Bytes of records that need no sync which may wait for one that does.
pub(super) const UNSYNCED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the frame that restates vote, commit mark and purge point, at most.
const RESTATED_BYTES_MAX: usize =
    FRAME_HEADER_BYTES + 3 * (RECORD_HEADER_BYTES + STATE_PAYLOAD_BYTES_MAX);

/// Payload bytes that a record may have, given the size of segments.
pub(super) fn record_bytes_max(segment_bytes: u64) -> usize {
    let fixed = HEADER_BYTES + RESTATED_BYTES_MAX + FRAME_HEADER_BYTES + RECORD_HEADER_BYTES;
    usize::try_from(segment_bytes).expect("at most SEGMENT_BYTES_MAX") - fixed
}

/// What runs when an append is durable.
pub(super) type Done = Box<dyn FnOnce() + Send>;

/// A record in the queue; `stamp` is the index's for an entry.
pub(super) struct Queued {
    pub(super) record: Record,
    pub(super) stamp: u64,
}

/// One append.
pub(super) struct Job {
    pub(super) records: Vec<Queued>,
    /// Bytes that the records take in a frame.
    pub(super) bytes: usize,
    /// Absent for an append that needs no sync.
    pub(super) done: Option<Done>,
}

/// What callers and the writer share.
pub(super) struct State {
    pub(super) queue: VecDeque<Job>,
    /// Bytes of the queue and of the batch that is being written.
    pub(super) queued_bytes: usize,
    /// Appends in the queue that wait for a sync.
    pub(super) synced_jobs: usize,
    pub(super) index: Index,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Bytes left in the current segment.
    pub(super) segment_left_bytes: u64,
    pub(super) closing: bool,
    /// The writer has ended.
    pub(super) stopped: bool,
}

/// The state and its signals.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is something to write, or the log is being closed.
    pub(super) work: Condvar,
}

/// The log is closed while the disk is full: what waits cannot be written and is not acknowledged.
struct Abandoned;

struct Written {
    index: u64,
    stamp: u64,
    place: Place,
}

/// The writer's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    options: Options,
    dir: PathBuf,
    segment: SegmentId,
    file: Arc<DataFile>,
    segment_bytes: usize,
    end: End,
    /// As of the last frame that was written.
    restated: Restated,
    /// The index after the last entry, as of the last frame that was written.
    next_index: u64,
    frame: FrameBuffer,
}

/// The next frame.
struct FrameBuffer {
    /// Room for the header, then records.
    bytes: Vec<u8>,
    records: u32,
    /// Entries of the frame; offsets count from the frame's start until it is written.
    entries: Vec<Written>,
    /// What the newest segment would restate after this frame.
    restated: Restated,
    /// The index after the last entry once this frame is written.
    next_index: u64,
}

impl FrameBuffer {
    fn new(restated: Restated, next_index: u64) -> Self {
        let bytes = vec![0; FRAME_HEADER_BYTES];
        Self {
            bytes,
            records: 0,
            entries: Vec::new(),
            restated,
            next_index,
        }
    }

    fn add(&mut self, queued: &Queued) {
        let offset = u32::try_from(self.bytes.len()).expect("a frame fits its segment");
        let is_left_out = is_planted("truncate-unlogged")
            && matches!(queued.record, Record::TruncateAfter { .. });
        if !is_left_out {
            queued.record.encode(&mut self.bytes);
            self.records += 1;
        }
        match &queued.record {
            Record::Entry { index, payload, .. } => {
                let payload_bytes = u32::try_from(payload.len()).expect("append checked the size");
                let place = Place {
                    segment: 0,
                    offset,
                    payload_bytes,
                    mask: 0,
                };
                self.entries.push(Written {
                    index: *index,
                    stamp: queued.stamp,
                    place,
                });
                self.next_index = index + 1;
            }
            Record::Vote(_) if is_planted("vote-not-restated") => {}
            Record::Vote(payload) => self.restated.vote = Some(payload.clone()),
            Record::Committed(payload) => self.restated.committed = Some(payload.clone()),
            Record::TruncateAfter { index } => {
                self.next_index = self.next_index.min(first_truncated(*index));
            }
            Record::Purge { index, payload } => {
                let is_newer = self
                    .restated
                    .purged
                    .as_ref()
                    .is_none_or(|(old, _)| old < index);
                if is_newer {
                    self.restated.purged = Some((*index, payload.clone()));
                }
                self.next_index = self.next_index.max(index + 1);
            }
        }
    }

    fn clear(&mut self) {
        self.bytes.truncate(FRAME_HEADER_BYTES);
        // One giant record must not pin its memory for ever.
        self.bytes.shrink_to(2 * FRAME_BYTES_FULL);
        self.records = 0;
        self.entries.clear();
    }
}

/// Where a writer begins.
pub(super) struct Start {
    pub(super) segment: SegmentId,
    pub(super) file: Arc<DataFile>,
    pub(super) segment_bytes: u64,
    pub(super) end: End,
    pub(super) restated: Restated,
    pub(super) next_index: u64,
}

impl Steps for Writer {
    /// Writes what waits, one write and one sync for all of it. Ends when the log is closed and
    /// everything is written.
    fn step(&mut self, may_wait: bool) -> Step {
        if !may_wait && !self.has_room() {
            return Step::Nothing;
        }
        let Some(jobs) = self.next_jobs(may_wait) else {
            return Step::Nothing;
        };
        if jobs.is_empty() {
            return Step::Ended;
        }
        threads::turn();
        if self.write_jobs(&jobs).is_err() {
            return Step::Ended;
        }
        threads::turn();
        self.release(&jobs);
        jobs.into_iter()
            .filter_map(|job| job.done)
            .for_each(|done| done());
        Step::Worked
    }
}

impl Drop for Writer {
    /// Nobody hands anything to a writer that has ended, for whatever reason.
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        spares: Arc<Spares>,
        options: Options,
        dir: PathBuf,
        start: Start,
    ) -> Self {
        Self {
            shared,
            spares,
            options,
            dir,
            segment: start.segment,
            file: start.file,
            end: start.end,
            frame: FrameBuffer::new(start.restated.clone(), start.next_index),
            restated: start.restated,
            next_index: start.next_index,
            segment_bytes: usize::try_from(start.segment_bytes).expect("recovery read it whole"),
        }
    }

    /// For work on a stage, which cannot wait for room: whether what is queued can be written.
    fn has_room(&self) -> bool {
        let queued = self.shared.state.lock().queued_bytes;
        let fits = self.end.offset + FRAME_HEADER_BYTES + queued <= self.segment_bytes;
        fits || self.spares.is_ready()
    }

    /// The jobs of the next frames. None where there are none to write yet, and it may not wait;
    /// an empty list once the log is closed and everything is written.
    fn next_jobs(&self, may_wait: bool) -> Option<Vec<Job>> {
        let mut state = self.shared.state.lock();
        loop {
            let must_write = state.synced_jobs > 0 || state.queued_bytes > UNSYNCED_BYTES_MAX;
            if must_write || state.closing {
                break;
            }
            if !may_wait {
                return None;
            }
            threads::idle();
            self.shared.work.wait(&mut state);
            threads::turn();
        }
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        while bytes < FRAME_BYTES_FULL
            && let Some(job) = state.queue.pop_front()
        {
            bytes += job.bytes;
            state.synced_jobs -= usize::from(job.done.is_some());
            jobs.push(job);
        }
        Some(jobs)
    }

    fn write_jobs(&mut self, jobs: &[Job]) -> Result<(), Abandoned> {
        for queued in jobs.iter().flat_map(|job| &job.records) {
            let bytes = queued.record.encoded_bytes();
            let full = FRAME_BYTES_FULL.min(record_bytes_max(self.options.segment_bytes));
            if self.frame.records > 0 && self.frame.bytes.len() + bytes > full {
                self.write_frame()?;
            }
            self.frame.add(queued);
        }
        if self.frame.records > 0 {
            self.write_frame()?;
        }
        Ok(())
    }

    fn write_frame(&mut self) -> Result<(), Abandoned> {
        if self.end.offset + self.frame.bytes.len() > self.segment_bytes {
            self.rotate()?;
        }
        let position = self.position();
        let header = seal(&mut self.frame.bytes, &position, self.frame.records);
        if is_planted("wal-synced-before") {
            self.must("sync", self.file.sync_data());
        }
        let started = Instant::now();
        self.must(
            "write",
            threads::on_disk(|| {
                self.file
                    .write_all_at(&self.frame.bytes, widen(position.offset))
            }),
        );
        (self.options.on_written)(started.elapsed());
        if self.options.sync && !is_planted("wal-unsynced") && !is_planted("wal-synced-before") {
            let started = Instant::now();
            self.must("sync", threads::on_disk(|| self.file.sync_data()));
            tell_if_slow(started.elapsed());
        }
        self.end.offset += self.frame.bytes.len();
        self.end.chain = header.chain;
        self.end.sequence += 1;
        self.note_written(position.offset, header.mask);
        self.restated.clone_from(&self.frame.restated);
        self.next_index = self.frame.next_index;
        self.frame.clear();
        Ok(())
    }

    /// Tells the index where the frame's entries are.
    fn note_written(&mut self, frame_offset: usize, mask: u32) {
        let entry_max = self.frame.entries.iter().map(|entry| entry.index).max();
        if entry_max.is_none() {
            return;
        }
        let mut state = self.shared.state.lock();
        let segment = state.segments.get_mut(&self.segment.number);
        let segment = segment.expect("the current segment is never given up");
        segment.entry_max = segment.entry_max.max(entry_max);
        for entry in &self.frame.entries {
            let offset = widened(entry.place.offset) + frame_offset;
            let offset = u32::try_from(offset).expect("a segment has at most 1 GiB");
            let place = Place {
                segment: self.segment.number,
                offset,
                mask,
                ..entry.place
            };
            state.index.written(entry.index, entry.stamp, place);
        }
        state.index.shrink_recent();
    }

    /// Begins a new segment: header and restated records are durable before it gets its name.
    fn rotate(&mut self) -> Result<(), Abandoned> {
        // It may wait for room on the disk.
        let spare = threads::on_disk(|| self.spares.take()).ok_or(Abandoned)?;
        let number = self.segment.number + 1;
        let birth = Birth {
            number,
            end: self.end,
            next_index: self.next_index,
            restated: &self.restated,
        };
        let begun = begin_segment(spare, &self.dir, &birth, &self.options);
        let Begun { id, file, end } =
            begun.unwrap_or_else(|error| end_process(&self.options, error));
        self.segment = id;
        self.file = Arc::new(file);
        self.end = end;
        self.segment_bytes =
            usize::try_from(self.options.segment_bytes).expect("at most SEGMENT_BYTES_MAX");
        let segment = Segment {
            file: Arc::clone(&self.file),
            bytes: self.options.segment_bytes,
            entry_max: None,
        };
        self.shared.state.lock().segments.insert(number, segment);
        Ok(())
    }

    fn position(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.end.offset,
            sequence: self.end.sequence,
            chain: self.end.chain,
        }
    }

    /// The jobs are durable: makes room in the queue and gives up segments that a purge freed.
    pub(super) fn release(&mut self, jobs: &[Job]) {
        let mut state = self.shared.state.lock();
        state.queued_bytes -= jobs.iter().map(|job| job.bytes).sum::<usize>();
        state.segment_left_bytes = widen(self.segment_bytes.saturating_sub(self.end.offset));
        let retired = match &self.restated.purged {
            Some((purged, _)) => take_purged(&mut state.segments, *purged),
            None => Vec::new(),
        };
        drop(state);
        for (number, segment) in retired {
            self.spares.retire(number, segment);
        }
    }

    fn must<T>(&self, operation: &'static str, result: io::Result<T>) -> T {
        result.unwrap_or_else(|source| {
            let path = self.file.path().to_path_buf();
            end_process(
                &self.options,
                FatalError {
                    operation,
                    path,
                    source,
                },
            )
        })
    }
}

/// Segments that hold nothing above the purge point, oldest first (W4, W5). The youngest stays.
fn take_purged(segments: &mut BTreeMap<u64, Segment>, purged: u64) -> Vec<(u64, Segment)> {
    let mut taken = Vec::new();
    while segments.len() > 1
        && let Some(oldest) = segments.first_entry()
        && oldest
            .get()
            .entry_max
            .is_none_or(|entry_max| entry_max <= purged)
    {
        taken.push(oldest.remove_entry());
    }
    taken
}

/// How long a sync may take before it is said. Source: etcd's warnSyncDuration.
const SLOW_SYNC: Duration = Duration::from_secs(1);

fn tell_if_slow(took: Duration) {
    if took > SLOW_SYNC {
        crate::log!(
            warn,
            "slow fdatasync",
            took = took,
            "expected-duration" = SLOW_SYNC
        );
    }
}
