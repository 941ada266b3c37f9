//! The key-values of a large answer, a page at a time, made as the client takes them.

use std::collections::VecDeque;
use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{PAGE_BYTES, PAGE_KEYS, is_backwards};
use crate::budget::{Charge, Turns};
use crate::codec::answer::{self, Field};
use crate::codec::{BrokenOff, Pages};
use crate::state::{Plan, Slot, Walk};
use crate::store::Pin;
use crate::types::KeyRange;
use crate::types::result::{Item, Later};

/// How long a client may take no page of its answer before the rest is dropped.
const STALL_MAX: Duration = Duration::from_secs(20);
/// How long an answer may take altogether: its revision is kept from being reclaimed meanwhile.
const WHOLE_MAX: Duration = Duration::from_secs(600);

/// Where the pages of one run come from.
pub(super) enum Source {
    /// The index, in key order.
    Walk(Box<Walking>),
    /// Key-values whose place is known, in the answer's order.
    Slots(Arc<Pin>, std::vec::IntoIter<(Slot, usize)>),
    /// Key-values at hand.
    Items(std::vec::IntoIter<Bytes>),
}

pub(super) struct Walking {
    pub pin: Arc<Pin>,
    pub later: Later,
    pub rest: Option<KeyRange>,
    /// Key-values still to come.
    pub left: usize,
    pub field: Field,
}

impl Source {
    /// The next page; none at the end.
    fn page(&mut self) -> Option<Bytes> {
        match self {
            Source::Walk(walking) => walking.page(),
            Source::Slots(pin, slots) => {
                let slots = first(slots, |(_, len)| *len);
                let slots = slots.into_iter().map(|(slot, _)| slot).collect();
                let engine = pin.with(|_, engine| engine);
                encode(Field::Kvs, &resolve(slots, &engine))
            }
            Source::Items(items) => {
                let page = first(items, Bytes::len);
                let page: Vec<Item> = page.into_iter().map(Item::Encoded).collect();
                encode(Field::Kvs, &page)
            }
        }
    }
}

impl Walking {
    fn page(&mut self) -> Option<Bytes> {
        while self.left > 0 {
            let range = self.rest.take()?;
            let (slots, engine) = self.step(&range);
            self.left -= slots.len();
            if let Some(page) = encode(self.field, &resolve(slots, &engine)) {
                return Some(page);
            }
        }
        None
    }

    fn step(&mut self, range: &KeyRange) -> (Vec<Slot>, crate::storage::Engine) {
        let Walking {
            pin, later, left, ..
        } = self;
        let query = &later.query;
        let walk = Walk {
            below: later.below,
            backwards: is_backwards(query),
            looked_max: PAGE_KEYS,
        };
        let mut slots = Vec::new();
        let mut bytes = 0;
        let (rest, engine) = pin.with(|state, engine| {
            let rest = state.mvcc.walk(&walk, range, &mut |seen| {
                if seen.passes(query) {
                    bytes += seen.encoded_bytes(query.keys_only);
                    slots.push(seen.slot(query.keys_only));
                }
                slots.len() < *left && bytes < PAGE_BYTES
            });
            (rest, engine)
        });
        self.rest = rest;
        (slots, engine)
    }
}

/// The first of `all`, about a page of them.
fn first<T>(all: &mut std::vec::IntoIter<T>, len: impl Fn(&T) -> usize) -> Vec<T> {
    let mut page = Vec::new();
    let mut bytes = 0;
    while page.len() < PAGE_KEYS && bytes < PAGE_BYTES {
        let Some(next) = all.next() else { break };
        bytes += len(&next);
        page.push(next);
    }
    page
}

fn resolve(slots: Vec<Slot>, engine: &crate::storage::Engine) -> Vec<Item> {
    let read = Plan::of(slots).resolve(engine);
    read.expect("a pinned revision is not reclaimed").items
}

fn encode(field: Field, items: &[Item]) -> Option<Bytes> {
    (!items.is_empty()).then(|| answer::fields(field, items))
}

/// The pages of all runs of an answer, in order.
pub(super) fn pages(turns: Turns, sources: VecDeque<Source>, charge: Charge) -> Pages {
    let making = Making {
        turns,
        sources,
        _charge: charge,
    };
    let made = stream::unfold(making, |making| async {
        let (page, making) = making.next().await?;
        Some((Ok(page), making))
    });
    Pages(Box::pin(Watched::new(Box::pin(made), STALL_MAX, WHOLE_MAX)))
}

struct Making {
    turns: Turns,
    sources: VecDeque<Source>,
    /// Of what is under way.
    _charge: Charge,
}

impl Making {
    async fn next(mut self) -> Option<(Bytes, Making)> {
        loop {
            let mut source = self.sources.pop_front()?;
            let (page, source) = self.turns.take(move || (source.page(), source)).await;
            if let Some(page) = page {
                self.sources.push_front(source);
                return Some((page, self));
            }
        }
    }
}

/// Pages that are dropped, with all that they hold, when nobody takes them.
struct Watched {
    shared: Arc<Shared>,
    watchdog: AbortHandle,
}

struct Shared {
    pages: Mutex<Option<BoxStream<'static, Result<Bytes, BrokenOff>>>>,
    taken: AtomicU64,
    /// Whether the client waits for a page, not the page for its client.
    wanted: AtomicBool,
}

impl Watched {
    fn new(
        pages: BoxStream<'static, Result<Bytes, BrokenOff>>,
        stall_max: Duration,
        whole_max: Duration,
    ) -> Watched {
        let shared = Arc::new(Shared {
            pages: Mutex::new(Some(pages)),
            taken: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
        });
        let watched = shared.clone();
        // A task of its own, because an answer that nobody reads is not polled.
        let watchdog = tokio::spawn(async move {
            watched.stalled(stall_max, whole_max).await;
            drop(watched.pages.lock().take());
        });
        Watched {
            shared,
            watchdog: watchdog.abort_handle(),
        }
    }
}

impl Shared {
    async fn stalled(&self, stall_max: Duration, whole_max: Duration) {
        let end = Instant::now() + whole_max;
        loop {
            let before = self.taken.load(Ordering::Relaxed);
            tokio::time::sleep(stall_max).await;
            let stalled = before == self.taken.load(Ordering::Relaxed)
                && !self.wanted.load(Ordering::Relaxed);
            if stalled || Instant::now() >= end {
                return;
            }
        }
    }
}

impl Stream for Watched {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut pages = self.shared.pages.lock();
        let Some(pages) = pages.as_mut() else {
            return Poll::Ready(Some(Err(BrokenOff)));
        };
        let polled = pages.as_mut().poll_next(cx);
        let pending = polled.is_pending();
        self.shared.wanted.store(pending, Ordering::Relaxed);
        if !pending {
            self.shared.taken.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn endless(held: Arc<()>) -> BoxStream<'static, Result<Bytes, BrokenOff>> {
        Box::pin(stream::repeat_with(move || {
            let _ = &held;
            Ok(Bytes::from_static(b"page"))
        }))
    }

    const SHORTLY: Duration = Duration::from_millis(40);
    const FOR_LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn what_nobody_reads_is_dropped_and_what_is_read_goes_on() {
        let held = Arc::new(());
        let mut read = Watched::new(endless(held.clone()), SHORTLY, FOR_LONG);
        for _ in 0..20 {
            tokio::time::sleep(SHORTLY / 8).await;
            assert!(read.next().await.unwrap().is_ok());
        }
        assert_eq!(Arc::strong_count(&held), 2);
        tokio::time::sleep(SHORTLY * 5).await;
        assert_eq!(Arc::strong_count(&held), 1, "nothing is held for it");
        assert_eq!(read.next().await, Some(Err(BrokenOff)));
    }

    #[tokio::test]
    async fn a_client_that_waits_for_us_is_no_slow_client() {
        let mut read = Watched::new(Box::pin(stream::pending()), SHORTLY, FOR_LONG);
        let waited = tokio::time::timeout(SHORTLY * 5, read.next()).await;
        assert!(waited.is_err(), "neither a page nor an end");
    }
}
