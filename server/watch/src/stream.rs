//! The asynchronous shell: one Watch call of the API, from requests to response frames.
//!
//! Owns the order of responses, the progress timer, and the reading of the past for the stream's
//! lagging watchers (one at a time; storage on a blocking thread). It is polled by one task.

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::before::{self, Fetching};
use super::event::{EventList, Published};
use super::frame::{Head, WatchFrame, response_len};
use super::history::{Past, read_storage};
use super::hub::Hub;
use super::queue::{Item, Mailbox, Taken};
use super::registry::{Step, StreamKey, Wakes};
use super::watcher::Watcher;
use super::{Create, NO_WATCHER, Request};
use crate::types::{KeyRange, Revision};

/// Answers to requests that may wait to be sent before the edge stops reading requests (etcd: 16).
const CONTROLS_MAX: usize = 16;

/// The shortest interval of periodic progress.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// etcd's text for a start below the compact revision or below zero.
const COMPACTED_REASON: &str = "etcdserver: mvcc: required revision has been compacted";

/// One Watch call. Dropping it ends its watchers.
pub struct WatchStream {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    key: StreamKey,
    ready: VecDeque<Ready>,
    /// How many of `ready` answer requests.
    controls: usize,
    lagging: VecDeque<Arc<Watcher>>,
    reading: Option<Reading>,
    /// What the first of `ready` waits for.
    fetching: Option<Fetching>,
    notified: Vec<Arc<Watcher>>,
    timer: Option<Interval>,
    tally: Tally,
}

/// A response that can be made now.
enum Ready {
    Control(Head),
    Queued(Item),
    Past {
        watcher: Arc<Watcher>,
        events: EventList,
        revision: Revision,
    },
    /// What is left of a response that is sent in fragments.
    Rest {
        watcher: Arc<Watcher>,
        events: EventList,
        revision: Revision,
    },
}

struct Reading {
    watcher: Arc<Watcher>,
    task: JoinHandle<Past>,
}

/// What was sent since the mailbox was last looked into.
#[derive(Default)]
struct Tally {
    bytes_released: usize,
    events_left: i64,
    events_sent: u64,
}

impl WatchStream {
    pub(super) fn new(hub: Arc<Hub>, mailbox: Arc<Mailbox>, key: StreamKey) -> WatchStream {
        WatchStream {
            hub,
            mailbox,
            key,
            ready: VecDeque::new(),
            controls: 0,
            lagging: VecDeque::new(),
            reading: None,
            fetching: None,
            notified: Vec::new(),
            timer: None,
            tally: Tally::default(),
        }
    }

    /// Takes a request. Its answer, where it gets one, comes out of [`WatchStream::next`]. Returns the
    /// id of the watcher that it made, if it made one. Must be called within a tokio runtime that has timers.
    pub fn handle(&mut self, request: Request) -> Option<i64> {
        match request {
            Request::Create(create) => self.create(create),
            Request::Cancel(id) => {
                self.cancel(id);
                None
            }
            Request::Progress => {
                let revision = self.hub.store.revision();
                let mut wakes = Wakes::default();
                self.hub
                    .registry()
                    .progress_of_all(self.key, revision, &mut wakes);
                wakes.send();
                None
            }
        }
    }

    /// Whether the edge may read further requests: false while too many answers wait to be sent.
    pub fn wants_requests(&self) -> bool {
        self.controls < CONTROLS_MAX
    }

    /// The next response, when there is one. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> WatchFrame {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next response, or a wake-up when there may be one. Must be polled within a tokio
    /// runtime.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<WatchFrame> {
        loop {
            // Nothing overtakes a response that waits for what was there before its events.
            if self.poll_fetching(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(frame) = self.pop() {
                return Poll::Ready(frame);
            }
            if self.fetching.is_some() {
                continue;
            }
            self.poll_timer(cx);
            self.poll_reading(cx);
            self.look_into_mailbox(cx);
            let stepped = self.read_past();
            if !self.ready.is_empty() {
                continue;
            }
            if stepped {
                // There is more past to read, but other tasks come first.
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
    }

    fn poll_fetching(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(fetching) = &mut self.fetching {
            ready!(fetching.as_mut().poll(cx));
            self.fetching = None;
        }
        Poll::Ready(())
    }

    /// Begins to read what the next response needs of storage. False: it needs nothing.
    fn begin_fetching(&mut self) -> bool {
        self.fetching = match self.ready.front() {
            Some(
                Ready::Queued(Item::Events {
                    watcher, events, ..
                })
                | Ready::Past {
                    watcher, events, ..
                },
            ) if watcher.prev_kv && !watcher.muted() => before::fetch(&self.hub.store, events),
            _ => None,
        };
        self.fetching.is_some()
    }

    fn create(&mut self, mut create: Create) -> Option<i64> {
        let revision = self.hub.store.revision();
        if create.range.start.is_empty() {
            let start = Bytes::from_static(&[0]);
            create.range = KeyRange {
                start,
                end: create.range.end,
            };
        }
        if create.start_revision < 0 {
            self.refuse(revision, COMPACTED_REASON.to_owned());
            return None;
        }
        if let Some(reason) = create.denied {
            self.refuse(revision, reason);
            return None;
        }
        let (created, queued) = {
            let mut registry = self.hub.registry();
            let created = registry.create(self.key, &create, revision);
            // What is queued now was queued without the new watcher in mind: progress above all,
            // which must not follow its creation. Nothing for it can be queued yet.
            (created, self.mailbox.take(0, None))
        };
        self.accept(queued);
        let (watcher, lagging) = match created {
            Ok(created) => created,
            Err(error) => {
                self.refuse(revision, error.to_string());
                return None;
            }
        };
        if watcher.progress_notify {
            self.notified.push(watcher.clone());
            self.timer
                .get_or_insert_with(|| progress_timer(self.hub.config.progress_interval));
        }
        let watch_id = watcher.id;
        self.push_control(Head {
            revision,
            watch_id,
            created: true,
            ..Head::default()
        });
        if lagging {
            self.lagging.push_back(watcher);
        }
        Some(watch_id)
    }

    fn refuse(&mut self, revision: Revision, cancel_reason: String) {
        self.push_control(Head {
            revision,
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason,
            ..Head::default()
        });
    }

    fn cancel(&mut self, watch_id: i64) {
        let revision = self.hub.store.revision();
        if !self.hub.registry().cancel(self.key, watch_id) {
            return;
        }
        self.notified.retain(|watcher| !watcher.ended());
        self.push_control(Head {
            revision,
            watch_id,
            canceled: true,
            ..Head::default()
        });
    }

    /// Ends the watchers whose keys are refused, and says why. Nothing of them is sent any more but
    /// what is left of a response that is sent in fragments.
    pub fn retain(&mut self, refused: impl Fn(&KeyRange) -> Option<String>) {
        let watchers = self.hub.registry().watchers(self.key);
        for watcher in watchers {
            let Some(cancel_reason) = refused(&watcher.range) else {
                continue;
            };
            self.hub.registry().cancel(self.key, watcher.id);
            self.push_control(Head {
                revision: self.hub.store.revision(),
                watch_id: watcher.id,
                canceled: true,
                cancel_reason,
                ..Head::default()
            });
        }
        self.notified.retain(|watcher| !watcher.ended());
    }

    fn push_control(&mut self, head: Head) {
        self.controls += 1;
        self.ready.push_back(Ready::Control(head));
    }

    fn pop(&mut self) -> Option<WatchFrame> {
        loop {
            if self.begin_fetching() {
                return None;
            }
            match self.ready.pop_front()? {
                Ready::Control(head) => {
                    self.controls -= 1;
                    return Some(WatchFrame::control(&head, &*self.hub.headers));
                }
                Ready::Queued(item) => {
                    if let Some(frame) = self.pop_queued(item) {
                        return Some(frame);
                    }
                }
                Ready::Past { watcher, .. } if watcher.muted() => {}
                Ready::Past {
                    watcher,
                    events,
                    revision,
                } => {
                    self.tally.count_sent(&events);
                    return Some(self.response(watcher, events, revision, false));
                }
                Ready::Rest {
                    watcher,
                    events,
                    revision,
                } => {
                    return Some(self.response(watcher, events, revision, true));
                }
            }
        }
    }

    fn pop_queued(&mut self, item: Item) -> Option<WatchFrame> {
        self.tally.bytes_released += item.charged_bytes();
        match item {
            Item::Progress { watch_id, revision } => {
                let head = Head {
                    revision,
                    watch_id,
                    ..Head::default()
                };
                Some(WatchFrame::control(&head, &*self.hub.headers))
            }
            Item::Events {
                watcher,
                events,
                revision,
            } => {
                self.tally.count_left(&events);
                if watcher.muted() {
                    return None;
                }
                self.tally.count_sent(&events);
                Some(self.response(watcher, events, revision, false))
            }
        }
    }

    fn response(
        &mut self,
        watcher: Arc<Watcher>,
        mut events: EventList,
        revision: Revision,
        rest: bool,
    ) -> WatchFrame {
        watcher.events_sent();
        let headers = &*self.hub.headers;
        let (limit, prev_kv) = (self.hub.config.fragment_bytes, watcher.prev_kv);
        let mut head = Head {
            revision,
            watch_id: watcher.id,
            ..Head::default()
        };
        let whole = !watcher.fragment
            || events.as_slice().len() < 2
            || response_len(&head, &events, prev_kv, headers) < limit;
        if whole && !rest {
            return WatchFrame::events(&head, events, prev_kv, headers);
        }
        let frame = WatchFrame::fragment(&mut head, &mut events, prev_kv, limit, headers);
        if !events.as_slice().is_empty() {
            self.ready.push_front(Ready::Rest {
                watcher,
                events,
                revision,
            });
        }
        frame
    }

    fn look_into_mailbox(&mut self, cx: &mut Context<'_>) {
        let tally = std::mem::take(&mut self.tally);
        let taken = self.mailbox.take(tally.bytes_released, Some(cx.waker()));
        if tally.events_left != 0 || tally.events_sent != 0 {
            self.hub.count_events(tally.events_left, tally.events_sent);
        }
        self.accept(taken);
    }

    fn accept(&mut self, taken: Taken) {
        self.ready
            .extend(taken.items.into_iter().map(Ready::Queued));
        self.lagging.extend(taken.lagging);
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let Some(timer) = &mut self.timer else { return };
        if timer.poll_tick(cx).is_pending() {
            return;
        }
        // The next tick lies an interval ahead. Polling once more makes it wake this task.
        let _ = timer.poll_tick(cx);
        self.notified.retain(|watcher| !watcher.ended());
        let mut wakes = Wakes::default();
        let mut registry = self.hub.registry();
        for watcher in &self.notified {
            if watcher.interval_over() {
                registry.progress_of(watcher, &mut wakes);
            }
        }
        drop(registry);
        wakes.send();
    }

    /// Takes one step for the first lagging watcher. True if there may be more to do at once.
    fn read_past(&mut self) -> bool {
        if self.reading.is_some() {
            return false;
        }
        let Some(watcher) = self.lagging.pop_front() else {
            return false;
        };
        let compacted = self.hub.store.compact_revision();
        let step = self
            .hub
            .registry()
            .step(&watcher, compacted, &self.hub.config);
        match step {
            Step::Ended | Step::Live => {}
            Step::Compacted => self.end_compacted(&watcher, compacted),
            Step::Recent(events, revision) => {
                self.push_past(watcher.clone(), events, revision);
                self.lagging.push_back(watcher);
            }
            Step::Storage { from, to } => self.start_reading(watcher, from, to),
        }
        true
    }

    fn start_reading(&mut self, watcher: Arc<Watcher>, from: Revision, to: Revision) {
        let (hub, reader) = (self.hub.clone(), watcher.clone());
        let turns = hub.config.turns.clone();
        let read = move || read_storage(&*hub.store, &reader, from, to, &hub.config);
        let task = tokio::spawn(async move { turns.take(read).await });
        self.reading = Some(Reading { watcher, task });
    }

    fn poll_reading(&mut self, cx: &mut Context<'_>) {
        let Some(reading) = &mut self.reading else {
            return;
        };
        let Poll::Ready(done) = Pin::new(&mut reading.task).poll(cx) else {
            return;
        };
        let watcher = reading.watcher.clone();
        self.reading = None;
        let past = match done {
            Ok(past) => past,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down: nobody waits for what comes next.
            Err(_) => return,
        };
        if let Past::Events { events, next } = past {
            let Some(revision) = self.hub.registry().advance(&watcher, next) else {
                return;
            };
            self.push_past(watcher.clone(), events, revision);
        }
        // Its next step finds out what follows: more past, the present, or that it is compacted.
        self.lagging.push_back(watcher);
    }

    fn end_compacted(&mut self, watcher: &Watcher, compact_revision: Revision) {
        let watch_id = watcher.id;
        self.notified.retain(|watcher| !watcher.ended());
        self.push_control(Head {
            watch_id,
            canceled: true,
            compact_revision,
            ..Head::default()
        });
    }

    fn push_past(
        &mut self,
        watcher: Arc<Watcher>,
        events: Vec<Arc<Published>>,
        revision: Revision,
    ) {
        if !events.is_empty() {
            let events = EventList::from(events);
            self.ready.push_back(Ready::Past {
                watcher,
                events,
                revision,
            });
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.registry().close(self.key);
        // Nothing is queued any more: what is left is counted as gone.
        let taken = self.mailbox.take(0, None);
        self.ready
            .extend(taken.items.into_iter().map(Ready::Queued));
        for ready in &self.ready {
            if let Ready::Queued(Item::Events { events, .. }) = ready {
                self.tally.count_left(events);
            }
        }
        self.hub
            .count_events(self.tally.events_left, self.tally.events_sent);
    }
}

impl Tally {
    fn count_left(&mut self, events: &EventList) {
        self.events_left += i64::try_from(events.as_slice().len()).expect("a count fits 63 bits");
    }

    fn count_sent(&mut self, events: &EventList) {
        self.events_sent += u64::try_from(events.as_slice().len()).expect("a count fits 64 bits");
    }
}

/// A timer with up to a tenth added, so that streams made together do not all tell their progress
/// together.
fn progress_timer(interval: Duration) -> Interval {
    let interval = interval.max(PROGRESS_INTERVAL_MIN);
    let thousandths = RandomState::new().hash_one(()) % 100;
    let jitter = interval / 1000 * u32::try_from(thousandths).expect("below 100");
    let period = interval + jitter;
    let mut timer = interval_at(Instant::now() + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
