//! The pure core: watchers, their places in history, and the ring. Every method runs under the
//! hub's lock, does no IO and waits for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use super::event::{EventList, Published};
use super::history::{Gathering, RING_LOOKED_MAX};
use super::index::Index;
use super::queue::{Mailbox, events_bytes};
use super::ring::Ring;
use super::watcher::Watcher;
use super::{AUTO_WATCH_ID, Config, Create, Home, NO_WATCHER};
use crate::mutants::is_planted;
use crate::types::Revision;

/// Why a watcher was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CreateError {
    /// The range's end is not above its start.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The id is taken on this stream.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// A stream's place in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamKey(usize);

/// What the next step of a lagging watcher is.
#[derive(Debug)]
pub(super) enum Step {
    /// It has ended; there is nothing to do.
    Ended,
    /// Its next revision is compacted: it has ended now.
    Compacted,
    /// It has everything and is live again.
    Live,
    /// Events from the ring, with the header's revision. It may still lag.
    Recent(Vec<Arc<Published>>, Revision),
    /// These revisions are to be read from storage.
    Storage {
        /// The first.
        from: Revision,
        /// The last.
        to: Revision,
    },
}

/// Whom to wake after the lock is released.
#[derive(Default)]
pub(super) struct Wakes {
    homeless: Vec<Waker>,
    homes: Vec<(Arc<dyn Home>, Vec<Waker>)>,
}

struct Slot {
    watcher: Arc<Watcher>,
    stream: StreamKey,
    /// The next revision it needs. A live watcher also needs nothing below the head.
    cursor: Revision,
    /// Progress below this would fall short of what the client asked for.
    progress_from: Revision,
    lagging: bool,
    /// Its events of the batch being published.
    hits: EventList,
}

struct Stream {
    mailbox: Arc<Mailbox>,
    watchers: BTreeMap<i64, usize>,
    /// Ids of watchers that compaction has ended. As in etcd they stay taken, and the stream tells
    /// no progress, until the client cancels them.
    ended: BTreeSet<i64>,
    next_id: i64,
    /// Progress was asked for when the store was at this revision and the hub behind it.
    progress_owed: Option<Revision>,
}

/// Watchers, streams and recent history.
pub(super) struct Registry {
    index: Index,
    slots: Vec<Option<Slot>>,
    slots_free: Vec<usize>,
    streams: Vec<Option<Stream>>,
    streams_free: Vec<usize>,
    streams_owed: Vec<StreamKey>,
    ring: Ring,
    head: Revision,
    lagging_count: usize,
    queue_bytes_max: usize,
    /// Reused by every batch.
    found: Vec<usize>,
    touched: Vec<usize>,
}

impl Registry {
    /// An empty registry whose history begins after `head`.
    pub fn new(head: Revision, config: &Config) -> Registry {
        Registry {
            index: Index::default(),
            slots: Vec::new(),
            slots_free: Vec::new(),
            streams: Vec::new(),
            streams_free: Vec::new(),
            streams_owed: Vec::new(),
            ring: Ring::new(head.next(), config.ring_bytes),
            head,
            lagging_count: 0,
            queue_bytes_max: config.stream_queue_bytes,
            found: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Watchers, streams, lagging watchers and the ring's bytes.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        (
            self.slots.len() - self.slots_free.len(),
            self.streams.len() - self.streams_free.len(),
            self.lagging_count,
            self.ring.bytes(),
        )
    }

    /// Opens a stream.
    pub fn open(&mut self, mailbox: Arc<Mailbox>) -> StreamKey {
        let stream = Stream {
            mailbox,
            watchers: BTreeMap::new(),
            ended: BTreeSet::new(),
            next_id: 0,
            progress_owed: None,
        };
        StreamKey(place(&mut self.streams, &mut self.streams_free, stream))
    }

    /// Closes a stream with all its watchers.
    pub fn close(&mut self, key: StreamKey) {
        let stream = self.streams[key.0].take().expect("a stream is closed once");
        self.streams_free.push(key.0);
        self.streams_owed.retain(|owed| *owed != key);
        for slot in stream.watchers.into_values() {
            self.free_slot(slot);
        }
    }

    /// Makes a watcher. `revision` is the store's, which may be ahead of the head. Returns whether
    /// the watcher has a past to read.
    pub fn create(
        &mut self,
        key: StreamKey,
        create: &Create,
        revision: Revision,
    ) -> Result<(Arc<Watcher>, bool), CreateError> {
        assert!(
            create.start_revision >= 0,
            "negative starts are refused before"
        );
        if create.range.is_empty() {
            return Err(CreateError::EmptyRange);
        }
        let id = self.stream(key).choose_id(create.watch_id)?;
        let (cursor, progress_from) = match create.start_revision {
            0 => (revision.next(), revision),
            start => (Revision(start), Revision(start)),
        };
        let lagging = cursor <= self.head;
        let index = self.slots_free.last().copied().unwrap_or(self.slots.len());
        let watcher = Watcher::new(id, index, create);
        let hits = EventList::Empty;
        let slot = Slot {
            watcher: watcher.clone(),
            stream: key,
            cursor,
            progress_from,
            lagging,
            hits,
        };
        assert_eq!(
            place(&mut self.slots, &mut self.slots_free, slot),
            index,
            "the place foreseen"
        );
        self.index.insert(&watcher.range, index);
        self.stream(key).watchers.insert(id, index);
        self.lagging_count += usize::from(lagging);
        Ok((watcher, lagging))
    }

    /// Ends a watcher at its client's request: nothing queued for it is sent any more. False: there
    /// is none with this id.
    pub fn cancel(&mut self, key: StreamKey, id: i64) -> bool {
        let stream = self.stream(key);
        let Some(slot) = stream.watchers.remove(&id) else {
            return stream.ended.remove(&id);
        };
        self.free_slot(slot).mute();
        true
    }

    /// Queues what the batch means for every watcher. Events ascend and lie above the head, none
    /// above `revision`, which becomes the head. Returns how many events were queued.
    pub fn publish(
        &mut self,
        revision: Revision,
        events: Vec<Arc<Published>>,
        wakes: &mut Wakes,
        dropped: &mut Vec<Arc<Published>>,
    ) -> i64 {
        assert!(revision >= self.head, "published revisions never go back");
        for event in events {
            assert!(event.pair.main > self.head, "an event is published once");
            assert!(
                event.pair.main <= revision,
                "an event is not above its batch's revision"
            );
            self.find_watchers(&event);
            self.ring.push(event);
        }
        let mut queued = 0;
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            queued += self.enqueue(slot, wakes);
        }
        self.touched = touched;
        self.head = revision;
        self.ring.shrink(dropped);
        self.pay_progress(wakes);
        queued
    }

    /// The store was replaced and is at `revision` now: watchers go on from where they were, in
    /// the new history.
    pub fn reset(&mut self, revision: Revision, wakes: &mut Wakes) {
        assert!(
            revision >= self.head,
            "an installed snapshot is never older than the store"
        );
        let needed = self.head.next();
        self.head = revision;
        self.ring.reset(revision.next());
        for slot in self.slots.iter_mut().flatten().filter(|slot| !slot.lagging) {
            slot.cursor = slot.cursor.max(needed);
            if slot.cursor > revision {
                continue;
            }
            slot.lagging = true;
            self.lagging_count += 1;
            let stream = self.streams[slot.stream.0]
                .as_ref()
                .expect("a watcher has a stream");
            wakes.add(
                &stream.mailbox,
                stream.mailbox.push_lagging(slot.watcher.clone()),
            );
        }
        self.pay_progress(wakes);
    }

    /// Notes every stream to wake.
    pub fn nudge(&self, wakes: &mut Wakes) {
        for stream in self.streams.iter().flatten() {
            wakes.add(&stream.mailbox, stream.mailbox.nudge());
        }
    }

    /// The watchers of a stream.
    pub fn watchers(&self, key: StreamKey) -> Vec<Arc<Watcher>> {
        let stream = self.streams[key.0].as_ref();
        let stream = stream.expect("a stream is used until it is closed");
        let watcher = |slot: &usize| {
            let slot = self.slots[*slot].as_ref();
            slot.expect("a stream's watchers have slots")
                .watcher
                .clone()
        };
        stream.watchers.values().map(watcher).collect()
    }

    /// Queues an answer with watch id −1 if every watcher of the stream has got everything, once
    /// the hub has reached `revision` (the store's). Otherwise there is no answer.
    pub fn progress_of_all(&mut self, key: StreamKey, revision: Revision, wakes: &mut Wakes) {
        if self.head >= revision {
            return self.answer_progress(key, wakes);
        }
        if self.stream(key).progress_owed.replace(revision).is_none() {
            self.streams_owed.push(key);
        }
    }

    /// Queues a watcher's own progress, if it has got everything.
    pub fn progress_of(&mut self, watcher: &Watcher, wakes: &mut Wakes) {
        if watcher.ended() {
            return;
        }
        let slot = self.slots[watcher.slot]
            .as_ref()
            .expect("a watcher has a slot until it ends");
        if slot.has_everything_at(self.head) {
            let mailbox = &self.streams[slot.stream.0]
                .as_ref()
                .expect("a watcher's")
                .mailbox;
            let waker = mailbox.push_progress(watcher.id, self.head, self.queue_bytes_max);
            wakes.add(mailbox, waker);
        }
    }

    /// The next step of a lagging watcher. Events from the ring count as sent to it.
    pub fn step(&mut self, watcher: &Watcher, compacted: Revision, config: &Config) -> Step {
        if watcher.ended() {
            return Step::Ended;
        }
        let head = self.head;
        let slot = self.slots[watcher.slot]
            .as_mut()
            .expect("a watcher has a slot until it ends");
        assert!(slot.lagging, "only lagging watchers step");
        if slot.cursor < compacted {
            let key = slot.stream;
            let stream = self.stream(key);
            stream.watchers.remove(&watcher.id);
            stream.ended.insert(watcher.id);
            self.free_slot(watcher.slot);
            return Step::Compacted;
        }
        if slot.cursor > head {
            slot.lagging = false;
            self.lagging_count -= 1;
            return Step::Live;
        }
        if slot.cursor < self.ring.from() {
            return Step::Storage {
                from: slot.cursor,
                to: head,
            };
        }
        let (events, next) = read_ring(&self.ring, watcher, (slot.cursor, head), compacted, config);
        slot.cursor = next;
        Step::Recent(events, head)
    }

    /// A lagging watcher has read everything below `next` from storage. Returns the header's
    /// revision for what it read, or none if it has ended meanwhile.
    pub fn advance(&mut self, watcher: &Watcher, next: Revision) -> Option<Revision> {
        if watcher.ended() {
            return None;
        }
        let slot = self.slots[watcher.slot]
            .as_mut()
            .expect("a watcher has a slot until it ends");
        assert!(
            slot.lagging && next > slot.cursor,
            "reading the past moves the cursor on"
        );
        slot.cursor = next;
        Some(self.head)
    }

    fn stream(&mut self, key: StreamKey) -> &mut Stream {
        self.streams[key.0]
            .as_mut()
            .expect("a stream is used until it is closed")
    }

    fn free_slot(&mut self, index: usize) -> Arc<Watcher> {
        let slot = self.slots[index]
            .take()
            .expect("a registered watcher has a slot");
        self.slots_free.push(index);
        self.index.remove(&slot.watcher.range, index);
        self.lagging_count -= usize::from(slot.lagging);
        slot.watcher.end();
        slot.watcher
    }

    fn find_watchers(&mut self, event: &Arc<Published>) {
        self.found.clear();
        self.index.collect(&event.key, &mut self.found);
        for &index in &self.found {
            let slot = self.slots[index]
                .as_mut()
                .expect("indexed watchers have slots");
            let wanted = !slot.lagging
                && event.pair.main >= slot.cursor
                && slot.watcher.filter.admits(event.tombstone);
            if !wanted {
                continue;
            }
            if slot.hits.as_slice().is_empty() {
                self.touched.push(index);
            }
            slot.hits.push(event.clone());
        }
    }

    /// Queues a watcher's events of the batch, or makes it lag where its stream has no room.
    fn enqueue(&mut self, index: usize, wakes: &mut Wakes) -> i64 {
        let slot = self.slots[index]
            .as_mut()
            .expect("touched watchers have slots");
        let mailbox = &self.streams[slot.stream.0]
            .as_ref()
            .expect("a watcher's")
            .mailbox;
        let events = std::mem::take(&mut slot.hits);
        let bytes = events_bytes(&events);
        let [first, last] = [events.as_slice().first(), events.as_slice().last()]
            .map(|event| event.expect("touched watchers have events").pair.main);
        let count = i64::try_from(events.as_slice().len()).expect("a count fits 63 bits");
        let pushed = mailbox.push_events(&slot.watcher, events, last, bytes, self.queue_bytes_max);
        if let Ok(waker) = pushed {
            wakes.add(mailbox, waker);
            return count;
        }
        slot.cursor = first;
        slot.lagging = true;
        self.lagging_count += 1;
        wakes.add(mailbox, mailbox.push_lagging(slot.watcher.clone()));
        0
    }

    fn pay_progress(&mut self, wakes: &mut Wakes) {
        let mut owed = std::mem::take(&mut self.streams_owed);
        owed.retain(|&key| {
            let head = self.head;
            if self
                .stream(key)
                .progress_owed
                .is_some_and(|revision| revision > head)
            {
                return true;
            }
            self.stream(key).progress_owed = None;
            self.answer_progress(key, wakes);
            false
        });
        self.streams_owed = owed;
    }

    fn answer_progress(&mut self, key: StreamKey, wakes: &mut Wakes) {
        let stream = self.streams[key.0]
            .as_ref()
            .expect("a stream is used until it is closed");
        let up_to_date = stream.watchers.values().all(|&slot| {
            let slot = self.slots[slot]
                .as_ref()
                .expect("a stream's watchers have slots");
            slot.has_everything_at(self.head)
        });
        let up_to_date = up_to_date || is_planted("progress-ahead");
        if stream.watchers.is_empty() || !stream.ended.is_empty() || !up_to_date {
            return;
        }
        let waker = stream
            .mailbox
            .push_progress(NO_WATCHER, self.head, self.queue_bytes_max);
        wakes.add(&stream.mailbox, waker);
    }
}

impl Slot {
    fn has_everything_at(&self, head: Revision) -> bool {
        !self.lagging && head >= self.progress_from
    }
}

impl Stream {
    /// The id asked for, or the lowest one never chosen before that is free.
    fn choose_id(&mut self, wanted: i64) -> Result<i64, CreateError> {
        if wanted != AUTO_WATCH_ID {
            return if self.is_taken(wanted) {
                Err(CreateError::DuplicateId)
            } else {
                Ok(wanted)
            };
        }
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        Ok(id)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }
}

impl Wakes {
    /// Notes a stream to wake, if it sleeps.
    fn add(&mut self, mailbox: &Mailbox, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        let Some(home) = &mailbox.home else {
            return self.homeless.push(waker);
        };
        // There are no more homes than connection threads.
        match self
            .homes
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, home))
        {
            Some((_, wakers)) => wakers.push(waker),
            None => self.homes.push((home.clone(), vec![waker])),
        }
    }

    /// Wakes them all, one call a home.
    pub fn send(self) {
        self.homeless.into_iter().for_each(Waker::wake);
        for (home, wakers) in self.homes {
            home.wake(wakers);
        }
    }
}

/// What a watcher wants of the ring between two revisions. The value before an event is told as
/// long as the revision before it is readable, whatever the ring still remembers.
fn read_ring(
    ring: &Ring,
    watcher: &Watcher,
    (from, head): (Revision, Revision),
    compacted: Revision,
    config: &Config,
) -> (Vec<Arc<Published>>, Revision) {
    let mut gathering = Gathering::new(config, RING_LOOKED_MAX);
    let mut next = head.next();
    for event in ring.since(from) {
        if !gathering.look(event.pair.main) {
            next = event.pair.main;
            break;
        }
        if !watcher.wants(event) {
            continue;
        }
        if watcher.prev_kv && event.pair.main <= compacted {
            gathering.add(event.preceded_by(None));
        } else {
            gathering.add(event.clone());
        }
    }
    (gathering.finish(), next)
}

fn place<T>(entries: &mut Vec<Option<T>>, free: &mut Vec<usize>, entry: T) -> usize {
    let Some(index) = free.pop() else {
        entries.push(Some(entry));
        return entries.len() - 1;
    };
    entries[index] = Some(entry);
    index
}
