//! openraft's log store over the write-ahead log, with the recent entries in memory.
//!
//! openraft re-reads entries for applying and for replication; the recent ones come from memory
//! (as decoded as they were appended), older ones from the log's segments.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, LogIdOptionExt, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use super::alone::Alone;
use super::durable::{Durable, Reached, Waiting};
use super::entry;
use super::later::Later;
use super::marks::{LogRefused, Marks};
use super::{Entry, LogId, TypeConfig, Vote};
use crate::fatal::end_process;
use crate::metrics::Metrics;
use crate::mutants::is_planted;
use crate::storage::LogPosition;
use crate::wal::{Keep, ReadError, Record, Recovered, Wal};

/// The most bytes of recent entries held in memory. Followers that lag by less are served from it.
const CACHE_BYTES_MAX: usize = 8 << 20;
/// The newest entries that stay decoded: what the apply thread still has before it. Followers need
/// only the bytes, and an entry applied later than that is decoded again.
const DECODED_MAX: usize = 8;
/// What an entry takes beside its batch, in memory or in the log. Bytes.
const ENTRY_OVERHEAD: usize = 128;
/// What stays free of a full log, of what a leader sends, for votes and marks, and for what a frame at a
/// segment's end leaves unused. Bytes.
pub(super) const HELD_FROM_LEADERS: u64 = 2 << 20;
/// The same of what this member proposes itself: what frees room comes this way.
pub(super) const HELD_FROM_PROPOSALS: u64 = 16 << 10;
/// Bytes waiting for the log's disk from which on nothing more is taken in from outside: more than
/// peers send unanswered. What consensus itself then still hands over is small.
const QUEUED_BYTES_MAX: usize = 32 << 20;
/// The most bytes of entries that one read returns, unless the first is larger by itself: what one
/// append to a follower carries.
const READ_BYTES_MAX: usize = crate::peer::APPEND_BYTES_MAX;

/// See the module. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    wal: Arc<Wal>,
    tail: Arc<Mutex<Tail>>,
    durable: Arc<Durable>,
    metrics: Arc<Metrics>,
    appended: Arc<AtomicU64>,
    later: Arc<Later>,
    alone: Alone,
}

/// The log's room for entries: on its disk, and before it. Clones are one.
#[derive(Clone)]
pub(super) struct LogRoom {
    wal: Weak<Wal>,
    /// Bytes that were let in and may not have come to the log yet.
    taken: Arc<AtomicU64>,
}

/// Room for entries that were let in, until they are durable or nobody's: the writer would wait for room that
/// only a purge can give, and the purge behind it in the queue.
#[derive(Debug)]
#[must_use]
pub(super) struct Taken {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl LogRoom {
    /// Takes room for so many entries of so many bytes together, where they can be written, and `held` bytes
    /// more (an eighth of a segment at most), although the disk has no room for another segment. None where they
    /// cannot.
    pub fn take(&self, entries: usize, bytes: u64, held: u64) -> Option<Taken> {
        let bytes = bytes + widened(entries * ENTRY_OVERHEAD);
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let taken = Taken {
            bytes,
            all: self.taken.clone(),
        };
        let Some(wal) = self.wal.upgrade() else {
            return Some(taken);
        };
        let wanted = before
            .saturating_add(bytes)
            .saturating_add(held_of(&wal, held));
        let has_room = wal.last_bytes().is_none_or(|left| left >= wanted);
        has_room.then_some(taken)
    }

    /// The same for who can wait: nothing for which a segment has yet to be made. Whether the disk has room for it is
    /// known only after that was tried, and meanwhile more could be let in than ever fits. What is alone on its
    /// way has a whole segment for itself.
    pub fn take_placed(&self, entries: usize, bytes: u64, held: u64) -> Option<Taken> {
        let taken = self.take(entries, bytes, held)?;
        let Some(wal) = self.wal.upgrade() else {
            return Some(taken);
        };
        let all = self.taken.load(Ordering::Relaxed);
        let held = held_of(&wal, held);
        let is_alone = all == taken.bytes && wal.queued_bytes() == 0;
        let is_placed = wal.has_place(all.saturating_add(held)) || (is_alone && wal.has_spare());
        is_placed.then_some(taken)
    }

    /// Whether the disk keeps up with what is appended: where it does not, who would append more is
    /// told so, or waits, before openraft takes it. Its thread waits for no disk.
    pub fn keeps_up(&self) -> bool {
        let wal = self.wal.upgrade();
        wal.is_none_or(|wal| wal.queued_bytes() < QUEUED_BYTES_MAX)
    }
}

/// What is held back of so many bytes: an eighth of a segment at most.
fn held_of(wal: &Wal, held: u64) -> u64 {
    held.min(widened(wal.record_bytes_max() / 8))
}

fn widened(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What is known of the log without reading it.
struct Tail {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest configuration that is not known to be committed before the start; none once it is truncated.
    membership: Option<LogId>,
    recent: VecDeque<Entry>,
    recent_bytes: usize,
}

/// What this member knows of its own log, for who checks what others say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Its vote.
    pub vote: Option<Vote>,
    /// What it has handed to be applied.
    pub committed: Option<LogId>,
    /// How far the log was purged.
    pub purged: Option<LogId>,
    /// The last entry.
    pub last: Option<LogId>,
    /// The newest configuration in the log, unless it was committed before the start.
    pub membership: Option<LogId>,
}

/// A look at the log that does not keep it open.
#[derive(Clone)]
pub struct LogView {
    wal: Weak<Wal>,
    tail: Arc<Mutex<Tail>>,
    durable: Arc<Durable>,
    alone: Alone,
}

impl LogView {
    /// Whether this member is the whole cluster.
    pub(super) fn alone(&self) -> &Alone {
        &self.alone
    }

    /// Makes everything appended so far durable, also what rides on a later append.
    ///
    /// # Errors
    /// The log was closed.
    pub async fn sync(&self) -> io::Result<()> {
        let wal = self.wal.upgrade().ok_or_else(closed)?;
        sync(&wal).await
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        let tail = self.tail.lock();
        Known {
            vote: tail.vote,
            committed: tail.committed,
            purged: tail.purged,
            last: tail.last,
            membership: tail.membership,
        }
    }

    /// Whether another entry is held under the same term and index, as far as memory tells.
    pub fn holds_another(&self, entry: &Entry) -> bool {
        let tail = self.tail.lock();
        let first = tail.recent.front().map(|first| first.log_id.index());
        let place = first.and_then(|first| entry.log_id.index().checked_sub(first));
        let held = place.and_then(|place| tail.recent.get(usize::try_from(place).ok()?));
        held.is_some_and(|held| held.log_id == entry.log_id && held.payload != entry.payload)
    }

    /// The term of an entry that the log holds, or that was the last to be purged.
    pub fn term_at(&self, index: u64, known: &Known) -> Option<u64> {
        let purged = known.purged.filter(|id| id.index() == index);
        match purged {
            Some(id) => Some(id.committed_leader_id().term),
            None => self.wal.upgrade()?.term(index),
        }
    }

    /// Whether the log holds this entry, and a crash would leave it.
    pub fn holds_durably(&self, id: &LogId, known: &Known) -> bool {
        // In this order: what takes the place of a truncated entry is noted as not durable before
        // the log has it.
        self.term_at(id.index(), known) == Some(id.committed_leader_id().term)
            && self.durable.is_reached(id.index())
    }
}

fn closed() -> io::Error {
    io::Error::other("the log was closed")
}

async fn sync(wal: &Wal) -> io::Result<()> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let flushed = move || {
        // Whoever asked is gone only at a stop.
        let _ = sender.send(());
    };
    wal.append(Vec::new(), true, Box::new(flushed));
    receiver.await.map_err(|_| closed())
}

impl LogStore {
    /// Takes over a recovered log.
    ///
    /// # Errors
    /// What the log says is nothing that consensus can go on with.
    pub fn new(
        wal: Wal,
        recovered: Recovered,
        metrics: Arc<Metrics>,
    ) -> Result<LogStore, LogRefused> {
        let marks = Marks::read(recovered)?;
        let tail = Tail {
            vote: marks.vote,
            committed: marks.committed,
            purged: marks.purged,
            last: marks.last,
            membership: None,
            recent: VecDeque::new(),
            recent_bytes: 0,
        };
        Ok(LogStore {
            wal: Arc::new(wal),
            tail: Arc::new(Mutex::new(tail)),
            // Everything that was recovered is.
            durable: Arc::default(),
            metrics,
            appended: Arc::default(),
            later: Arc::default(),
            alone: Alone::default(),
        })
    }

    /// What is measured.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What the log's writer keeps for the Raft thread.
    pub fn later(&self) -> &Arc<Later> {
        &self.later
    }

    /// Whether nothing was ever written to the log.
    pub fn is_pristine(&self) -> bool {
        let tail = self.tail.lock();
        tail.vote.is_none() && tail.last.is_none()
    }

    /// The last entry's index; 0 in an empty log.
    pub fn last_index(&self) -> u64 {
        self.tail.lock().last.map_or(0, |id| id.index())
    }

    /// The index of the last entry that a crash would leave; 0 for none.
    pub fn durable_index(&self) -> u64 {
        self.durable.reached(self.last_index())
    }

    /// The last index that is known to be committed.
    pub fn committed_index(&self) -> u64 {
        let committed = self.tail.lock().committed;
        committed.map_or(0, |id| id.index())
    }

    /// Refuses a commit mark beyond the log's end: an entry is committed only once it is there.
    ///
    /// # Errors
    /// It is so.
    pub fn refuse_mark_beyond(&self) -> Result<(), LogRefused> {
        let tail = self.tail.lock();
        Marks::refuse_beyond(tail.committed, tail.last)
    }

    /// The index up to which the log was purged; 0 where it was not.
    pub fn purged_index(&self) -> u64 {
        self.tail.lock().purged.map_or(0, |id| id.index())
    }

    /// A look at it for who checks what peers say.
    pub fn view(&self) -> LogView {
        LogView {
            wal: Arc::downgrade(&self.wal),
            tail: self.tail.clone(),
            durable: self.durable.clone(),
            alone: self.alone.clone(),
        }
    }

    /// Calls `then` once the first entry of a range is durable here, with the last of them that is.
    /// Dropping what is returned is giving up.
    pub(super) fn when_durable(
        &self,
        indexes: RangeInclusive<u64>,
        then: impl FnOnce(u64, Reached) + Send + 'static,
    ) -> Waiting<'_> {
        match is_planted("apply-undurable") {
            true => self.durable.when_reached(0..=0, {
                let end = *indexes.end();
                Box::new(move |_, reached| then(end, reached))
            }),
            false => self.durable.when_reached(indexes, Box::new(then)),
        }
    }

    /// What was applied before the start: it can no more be truncated.
    pub fn note_applied(&self, applied: Option<LogId>) {
        let mut tail = self.tail.lock();
        tail.committed = tail.committed.max(applied);
    }

    /// Makes everything appended so far durable, also what rides on a later append.
    ///
    /// # Errors
    /// The log was closed.
    pub async fn sync(&self) -> io::Result<()> {
        sync(&self.wal).await
    }

    /// Finishes what a crash interrupted: a snapshot that ends with `installed` is in force, but
    /// the log still ends before it. Durable on return; blocks. For the start.
    ///
    /// # Errors
    /// The log was closed.
    pub fn begin_after(&self, installed: LogPosition) -> io::Result<()> {
        let log_id = entry::log_id(installed.term, installed.index);
        self.append_blocking(vec![purge_record(&log_id)])?;
        self.tail.lock().purge(log_id);
        Ok(())
    }

    /// The vote, and the last entry.
    pub(super) fn end(&self) -> (Option<Vote>, Option<LogId>) {
        let tail = self.tail.lock();
        (tail.vote, tail.last)
    }

    /// Appends an entry and votes for its term. Durable on return; blocks. For the start.
    ///
    /// # Errors
    /// The log was closed.
    pub(super) fn append_by_force(&self, vote: Vote, entry: Entry) -> io::Result<()> {
        let position = entry::position(&entry.log_id);
        let record = Record::Entry {
            index: position.index,
            term: position.term,
            payload: entry::encode(&entry),
        };
        self.append_blocking(vec![Record::Vote(entry::encode_vote(&vote)), record])?;
        let mut tail = self.tail.lock();
        tail.vote = Some(vote);
        tail.push(entry);
        Ok(())
    }

    /// Appends entries that were encoded already. Durable on return; blocks. For the start.
    ///
    /// # Errors
    /// The log was closed.
    pub(super) fn append_made(&self, records: Vec<Record>, entries: &[Entry]) -> io::Result<()> {
        self.append_blocking(records)?;
        let mut tail = self.tail.lock();
        for entry in entries {
            tail.push(entry.clone());
        }
        Ok(())
    }

    /// Notes a vote. Durable on return; blocks. For the start.
    ///
    /// # Errors
    /// The log was closed.
    pub(super) fn promise(&self, vote: Vote) -> io::Result<()> {
        self.append_blocking(vec![Record::Vote(entry::encode_vote(&vote))])?;
        self.tail.lock().vote = Some(vote);
        Ok(())
    }

    /// The most bytes that an entry may have.
    pub(super) fn entry_bytes_max(&self) -> usize {
        self.wal.record_bytes_max()
    }

    fn append_blocking(&self, records: Vec<Record>) -> io::Result<()> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let flushed = move || {
            // It waits below.
            let _ = sender.send(());
        };
        self.wal.append(records, true, Box::new(flushed));
        crate::threads::steps::receive(&receiver).map_err(|_| closed())
    }

    /// The last entry that may be purged where the newest are kept as `keep` says; 0 for none.
    pub(super) fn purgeable(&self, keep: Keep) -> u64 {
        self.wal.kept_from(keep).saturating_sub(1)
    }

    /// The room for entries, which may be asked for after the log was closed.
    pub(super) fn room(&self) -> LogRoom {
        LogRoom {
            wal: Arc::downgrade(&self.wal),
            taken: Arc::default(),
        }
    }

    /// Whether the disk has no room for the segment after the current one.
    pub fn is_full(&self) -> bool {
        self.wal.last_bytes().is_some()
    }

    /// The log's bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.wal.bytes()
    }

    /// Bytes of entries appended since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// What memory does not hold is read on a thread for it: openraft's own waits for no disk.
    async fn read(&self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let cached_from = {
            let tail = self.tail.lock();
            let first = tail
                .recent
                .front()
                .map_or(u64::MAX, |entry| entry.log_id.index());
            if start >= first {
                return Ok(tail.cached(start, end, READ_BYTES_MAX));
            }
            first
        };
        let (log, end) = (self.clone(), end.min(cached_from));
        let read = crate::threads::spawn_blocking(move || log.read_from_disk(start, end));
        // It fails only where the runtime ends: a panic has ended the process.
        read.await.map_err(io::Error::other)?
    }

    fn read_from_disk(&self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let records = self
            .wal
            .read(start..end, READ_BYTES_MAX)
            .map_err(io::Error::other)?;
        let decode =
            |record: crate::wal::Entry| entry::decode(record.payload).map_err(io::Error::other);
        records.into_iter().map(decode).collect()
    }

    /// Finds the configurations that the log's end holds, behind what is known to be committed.
    async fn find_configurations(&self) -> io::Result<()> {
        let (mut from, end) = {
            let tail = self.tail.lock();
            let kept = tail.committed.max(tail.purged);
            (kept.next_index(), tail.last.next_index())
        };
        self.tail.lock().membership = None;
        while from < end {
            let entries = self.read(from, end).await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            from = last.log_id.index() + 1;
            let mut tail = self.tail.lock();
            for entry in &entries {
                if matches!(entry.payload, EntryPayload::Membership(_)) {
                    tail.configure(entry.log_id);
                }
            }
        }
        Ok(())
    }

    async fn append_synced(&self, record: Record) -> io::Result<()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let flushed = move || {
            // Whoever asked is gone only at a stop.
            let _ = sender.send(());
        };
        self.wal.append(vec![record], true, Box::new(flushed));
        receiver
            .await
            .map_err(|_| io::Error::other("the log was closed"))
    }
}

/// A truncation of what is committed: another leader was elected without it. Its entries and this
/// member's are two histories.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the leader's log contradicts this member's: entries from {first} on should be truncated, and those up to {kept} are committed here"
)]
struct Truncation {
    first: u64,
    kept: u64,
}

const TRUNCATION_ADVICE: &str = "a member of the cluster has lost what it had acknowledged (its disk or its log was replaced, or --unsafe-no-fsync is on): keep all data directories, compare the members' data, remove the wrong ones and add them anew";

impl Tail {
    /// The entries from `start` to before `end`: at least one where there is one, then as many as
    /// fit `bytes_max`.
    fn cached(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let first = self
            .recent
            .front()
            .map_or(start, |entry| entry.log_id.index());
        let skip = usize::try_from(start - first).unwrap_or(usize::MAX);
        let take = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += payload_bytes(entry) + ENTRY_OVERHEAD;
            is_first || bytes <= bytes_max
        };
        let wanted = self.recent.iter().skip(skip).take(take);
        wanted.take_while(fits).cloned().collect()
    }

    fn push(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        if matches!(entry.payload, EntryPayload::Membership(_)) {
            self.configure(entry.log_id);
        }
        self.recent_bytes += entry_bytes(&entry);
        self.recent.push_back(entry);
        if let Some(applied) = self.recent.len().checked_sub(DECODED_MAX + 1)
            && let EntryPayload::Normal(batch) = &mut self.recent[applied].payload
        {
            batch.forget_decoded();
        }
        while self.recent_bytes > CACHE_BYTES_MAX && self.recent.len() > 1 {
            self.pop_front();
        }
    }

    /// The log's next configuration is this. The one before it was committed before it was proposed.
    fn configure(&mut self, at: LogId) {
        self.committed = self.committed.max(self.membership.replace(at));
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.recent.pop_front() {
            self.recent_bytes -= entry_bytes(&entry);
        }
    }

    /// Whether the entries from `first` on may be truncated.
    fn may_truncate(&self, first: u64) -> Result<(), Truncation> {
        let kept = self.committed.max(self.purged).map(|id| id.index());
        match kept {
            Some(kept) if first <= kept => Err(Truncation { first, kept }),
            _ => Ok(()),
        }
    }

    fn truncate_after(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |id| id.index() + 1);
        while self
            .recent
            .back()
            .is_some_and(|entry| entry.log_id.index() >= keep)
        {
            if let Some(entry) = self.recent.pop_back() {
                self.recent_bytes -= entry_bytes(&entry);
            }
        }
        self.last = last;
        self.membership = self.membership.filter(|id| id.index() < keep);
    }

    fn purge(&mut self, upto: LogId) {
        while self
            .recent
            .front()
            .is_some_and(|entry| entry.log_id.index() <= upto.index())
        {
            self.pop_front();
        }
        self.purged = Some(upto);
        self.last = self.last.max(self.purged);
    }
}

/// Whether a read failed because the entries are gone.
fn is_purged(error: &io::Error) -> bool {
    let read = error.get_ref().and_then(|read| read.downcast_ref());
    matches!(read, Some(ReadError::Purged { .. }))
}

fn purge_record(log_id: &LogId) -> Record {
    Record::Purge {
        index: log_id.index(),
        payload: entry::encode_log_id(log_id),
    }
}

/// What an entry weighs in the cache: its bytes and a little for itself.
fn entry_bytes(entry: &Entry) -> usize {
    payload_bytes(entry) + ENTRY_OVERHEAD
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.encoded().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// The first and the last entry of an append; none of an empty one.
fn indexes(records: &[Record]) -> Option<RangeInclusive<u64>> {
    let index = |record: &Record| match record {
        Record::Entry { index, .. } => Some(*index),
        _ => None,
    };
    Some(records.first().and_then(index)?..=records.last().and_then(index)?)
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        let mut entries: Vec<Entry> = Vec::new();
        // A read is bounded in bytes, so a long range takes several.
        loop {
            let from = entries
                .last()
                .map_or(start, |entry: &Entry| entry.log_id.index() + 1);
            if from >= end {
                return Ok(entries);
            }
            let more = self.read(from, end).await?;
            if more.is_empty() {
                return Ok(entries);
            }
            entries.extend(more);
        }
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        match self.read(start, end).await {
            // Only who replicates reads so, and maybe what is no more to be sent: a leader that has become a follower
            // purges what its streams still wait to read from a slow disk. An error would end openraft.
            // Of nothing it makes a heartbeat, after it has looked whether it still leads.
            Err(error) if is_purged(&error) => Ok(Vec::new()),
            read => read,
        }
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        if is_planted("vote-forgotten") {
            return Ok(None);
        }
        Ok(self.tail.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.tail.lock();
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if is_planted("vote-unsynced") {
            let record = Record::Vote(entry::encode_vote(vote));
            self.wal.append(vec![record], false, Box::new(|| {}));
            self.tail.lock().vote = Some(*vote);
            return Ok(());
        }
        self.append_synced(Record::Vote(entry::encode_vote(vote)))
            .await?;
        self.tail.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Rides on the next synced batch: losing it costs nothing but a later start of applying.
        let committed = match is_planted("commit-mark-ahead") {
            true => committed.max(self.tail.lock().last),
            false => committed,
        };
        if let Some(id) = committed {
            let record = Record::Committed(entry::encode_log_id(&id));
            self.wal.append(vec![record], false, Box::new(|| {}));
            self.tail.lock().committed = committed;
        }
        Ok(())
    }

    /// Also what the log's configurations show: the mark may be lost, or older than they are.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.find_configurations().await?;
        Ok(self.tail.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // On the Raft thread, which is awake: it hears of what came before first.
        self.later.tell();
        let mut records = Vec::new();
        let mut is_early = self.alone.is_so();
        {
            let mut tail = self.tail.lock();
            for entry in entries {
                is_early &= matches!(entry.payload, EntryPayload::Normal(_));
                let position = entry::position(&entry.log_id);
                let payload: Bytes = entry::encode(&entry);
                self.appended
                    .fetch_add(payload.len() as u64, Ordering::Relaxed);
                records.push(Record::Entry {
                    index: position.index,
                    term: position.term,
                    payload,
                });
                tail.push(entry);
            }
        }
        let append = match indexes(&records) {
            Some(indexes) => self.durable.appending(indexes),
            None => 0,
        };
        let (metrics, queued) = (self.metrics.clone(), Instant::now());
        let durable = self.durable.clone();
        let hears = match is_early {
            true => {
                callback.io_completed(Ok(()));
                None
            }
            false => Some(callback),
        };
        let flushed = move || {
            metrics.wal_fsync.observe(queued.elapsed().as_secs_f64());
            // Before openraft hears of it: what it commits by this flush is applied at once.
            durable.flushed(append);
            if let Some(callback) = hears {
                callback.io_completed(Ok(()));
            }
        };
        if is_planted("append-unflushed") {
            self.wal.append(records, true, Box::new(|| {}));
            flushed();
            return Ok(());
        }
        self.wal.append(records, true, Box::new(flushed));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.map(|id| id.index());
        let first = index.map_or(0, |index| index + 1);
        if let Err(refused) = self.tail.lock().may_truncate(first) {
            end_process(refused, TRUNCATION_ADVICE);
        }
        if !is_planted("truncated-counts") {
            self.durable.truncated(first);
        }
        // Ordered before what is appended next, and durable with it.
        self.wal.append(
            vec![Record::TruncateAfter { index }],
            false,
            Box::new(|| {}),
        );
        self.tail.lock().truncate_after(last_log_id);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        // It rides on the next batch, but where nothing is let in until it has made room.
        let at_once = self.is_full();
        self.wal
            .append(vec![purge_record(&log_id)], at_once, Box::new(|| {}));
        self.tail.lock().purge(log_id);
        Ok(())
    }
}
