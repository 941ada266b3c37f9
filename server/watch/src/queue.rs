//! What is on its way to one stream: the only place where the apply thread and a stream meet.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::Home;
use super::event::EventList;
use super::watcher::Watcher;
use crate::types::Revision;

/// What a progress answer is charged for, so that a client that asks and never reads is bounded.
const PROGRESS_BYTES: usize = 64;

/// One response to be, in order of sending.
#[derive(Debug)]
pub(super) enum Item {
    /// Events for a watcher.
    Events {
        /// For whom.
        watcher: Arc<Watcher>,
        /// What.
        events: EventList,
        /// The header's revision.
        revision: Revision,
    },
    /// Everything at or below the revision was sent.
    Progress {
        /// The watcher, or [`super::NO_WATCHER`] for all of the stream.
        watch_id: i64,
        /// The revision.
        revision: Revision,
    },
}

/// A stream's end that the registry sees.
pub(super) struct Mailbox {
    /// Whom to ask to wake the stream; none: it is woken directly.
    pub home: Option<Arc<dyn Home>>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    lagging: Vec<Arc<Watcher>>,
    /// Charged for everything queued or taken but not yet sent.
    bytes: usize,
    waker: Option<Waker>,
}

/// What a stream takes out of its mailbox.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Responses, in order.
    pub items: Vec<Item>,
    /// Watchers that have to read the past from now on.
    pub lagging: Vec<Arc<Watcher>>,
}

impl Mailbox {
    /// A mailbox of a stream that lives at `home`.
    pub fn new(home: Option<Arc<dyn Home>>) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            home,
            queue: Mutex::default(),
        })
    }

    /// Queues events within the bound of `bytes_max`; anything is admitted to an empty queue. Gives
    /// the events back where there is no room. On success, a waker to be woken, if the stream sleeps.
    pub fn push_events(
        &self,
        watcher: &Arc<Watcher>,
        events: EventList,
        revision: Revision,
        bytes: usize,
        bytes_max: usize,
    ) -> Result<Option<Waker>, EventList> {
        let mut queue = self.queue.lock();
        if queue.bytes > 0 && queue.bytes.saturating_add(bytes) > bytes_max {
            return Err(events);
        }
        queue.bytes += bytes;
        queue.items.push(Item::Events {
            watcher: watcher.clone(),
            events,
            revision,
        });
        Ok(queue.waker.take())
    }

    /// Queues progress; without room it is left out, as etcd leaves it out.
    pub fn push_progress(
        &self,
        watch_id: i64,
        revision: Revision,
        bytes_max: usize,
    ) -> Option<Waker> {
        let mut queue = self.queue.lock();
        if queue.bytes.saturating_add(PROGRESS_BYTES) > bytes_max {
            return None;
        }
        queue.bytes += PROGRESS_BYTES;
        queue.items.push(Item::Progress { watch_id, revision });
        queue.waker.take()
    }

    /// Tells the stream that a watcher lags now.
    pub fn push_lagging(&self, watcher: Arc<Watcher>) -> Option<Waker> {
        let mut queue = self.queue.lock();
        queue.lagging.push(watcher);
        queue.waker.take()
    }

    /// A waker of the stream, if it sleeps.
    pub fn nudge(&self) -> Option<Waker> {
        self.queue.lock().waker.take()
    }

    /// Takes everything. `released` are the bytes of responses sent since the last time. Where
    /// no responses wait, `waker` is kept to be woken by the next push.
    pub fn take(&self, released: usize, waker: Option<&Waker>) -> Taken {
        let mut queue = self.queue.lock();
        queue.bytes = queue
            .bytes
            .checked_sub(released)
            .expect("only what was charged is released");
        let taken = Taken {
            items: std::mem::take(&mut queue.items),
            lagging: std::mem::take(&mut queue.lagging),
        };
        if taken.items.is_empty() {
            queue.waker = waker.cloned().or(queue.waker.take());
        }
        taken
    }
}

impl Item {
    /// What it was charged for.
    pub fn charged_bytes(&self) -> usize {
        match self {
            Item::Events { events, .. } => events_bytes(events),
            Item::Progress { .. } => PROGRESS_BYTES,
        }
    }
}

/// What queued events are charged for.
pub(super) fn events_bytes(events: &EventList) -> usize {
    events
        .as_slice()
        .iter()
        .map(|event| event.memory_bytes())
        .sum()
}
