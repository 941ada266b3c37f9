//! A range read page by page for a client that takes its time: what it keeps from being compacted,
//! and for how long.

use std::time::Duration;

use tokio::task::AbortHandle;

use crate::api::backend::RangeCursor;
use crate::budget::Turns;
use crate::read::Cursor;
use crate::types::Revision;
use crate::types::result::{self, ApplyError};

/// Pages of at most this many keys are read on the connection's thread, others in a turn.
const INLINE_KEYS_MAX: usize = 64;
/// How long a paged range keeps its revision from being reclaimed. A client that has not finished
/// by then goes on as long as nobody compacts the revision, and is told "compacted" when somebody
/// has, as etcd tells it at once. Ten gigabytes take less at 200 MB/s; and a client that stopped
/// reading holds up compaction for no longer than this, whether or not its stream is ever polled.
const PIN_MAX: Duration = Duration::from_secs(60);

/// The edge's cursor over the reader's.
pub struct PagedRange {
    /// Absent while a page is read elsewhere.
    cursor: Option<Cursor>,
    turns: Turns,
    head: Revision,
    pin_max: Duration,
    /// The task that holds the pin; none before the first page, which is read at once.
    pin: Option<AbortHandle>,
}

impl PagedRange {
    /// Pages of `cursor`. Must be used within a tokio runtime that has timers.
    pub fn new(cursor: Cursor, turns: Turns) -> PagedRange {
        PagedRange::pinned_for(PIN_MAX, cursor, turns)
    }

    fn pinned_for(pin_max: Duration, cursor: Cursor, turns: Turns) -> PagedRange {
        PagedRange {
            head: cursor.head(),
            turns,
            cursor: Some(cursor),
            pin_max,
            pin: None,
        }
    }

    /// Has the pin end with its time or with this, whichever is sooner. A task of its own, because
    /// a stream whose client does not read is not polled.
    fn bound_pin(&mut self) {
        let Some(pin) = self.cursor.as_mut().and_then(Cursor::take_pin) else {
            return;
        };
        let pin_max = self.pin_max;
        let task = tokio::spawn(async move {
            tokio::time::sleep(pin_max).await;
            drop(pin);
        });
        self.pin = Some(task.abort_handle());
    }
}

impl RangeCursor for PagedRange {
    fn head(&self) -> Revision {
        self.head
    }

    async fn next_page(&mut self, limit: usize) -> Result<result::Range, ApplyError> {
        let mut cursor = self
            .cursor
            .take()
            .expect("a page is asked for after the one before it");
        let mut inline = limit <= INLINE_KEYS_MAX;
        loop {
            let page = match std::mem::take(&mut inline) {
                true => cursor.step(limit),
                false => {
                    let step = move || (cursor.step(limit), cursor);
                    let page;
                    (page, cursor) = self.turns.take(step).await;
                    page
                }
            };
            let page = match page {
                // Nothing but deleted keys: on to the next step.
                Ok(page) if page.items.is_empty() && page.more => continue,
                page => page,
            };
            self.cursor = Some(cursor);
            let page = page?;
            if page.more {
                self.bound_pin();
            }
            return Ok(page);
        }
    }
}

impl Drop for PagedRange {
    fn drop(&mut self) {
        if let Some(pin) = &self.pin {
            pin.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::read::Reader;
    use crate::store::fixture::Scratch;
    use crate::types::request::{Range, SortTarget};
    use crate::types::{KeyRange, KeyValue};

    const FOR_EVER: Duration = Duration::from_secs(3600);
    const SHORTLY: Duration = Duration::from_millis(20);

    fn reader(scratch: &Scratch) -> Reader {
        let budget = Budget::new(1 << 20, 1, FOR_EVER);
        Reader::new(scratch.store.clone(), Turns::new(1), budget)
    }

    /// Ten keys, of which the first page has two.
    async fn first_page(scratch: &Scratch, pin_max: Duration) -> PagedRange {
        for key in 0..10 {
            scratch.put(&format!("k{key}"), b"old");
        }
        let query = Range::all(KeyRange::from_request("k".into(), "l".into()));
        let cursor = reader(scratch).cursor(query).await.unwrap();
        let mut pages = PagedRange::pinned_for(pin_max, cursor, Turns::new(1));
        let page = pages.next_page(2).await.unwrap();
        assert_eq!((page.items.len(), page.count, page.more), (2, 10, true));
        pages
    }

    #[tokio::test]
    async fn an_unsorted_range_with_a_target_is_cut_by_key_and_sorted_page_by_page() {
        let scratch = Scratch::empty();
        for (place, key) in ["b", "a", "d", "c", "e"].into_iter().enumerate() {
            scratch.put(key, format!("{}", 9 - place).as_bytes());
        }
        let ask = async |target, keys_only| {
            let query = Range {
                sort_target: target,
                keys_only,
                ..Range::all(KeyRange::from_request("a".into(), "z".into()))
            };
            let cursor = reader(&scratch).cursor(query).await.unwrap();
            let mut pages = PagedRange::pinned_for(FOR_EVER, cursor, Turns::new(1));
            let mut said = String::new();
            while let page = pages.next_page(3).await.unwrap()
                && !page.items.is_empty()
            {
                for item in page.items {
                    let kv = KeyValue::decode(&item.into_bytes()).unwrap();
                    said += std::str::from_utf8(&kv.key).unwrap();
                    said += std::str::from_utf8(&kv.value).unwrap();
                }
                said.push(' ');
            }
            said
        };
        assert_eq!(ask(SortTarget::Key, true).await, "abc de ");
        assert_eq!(ask(SortTarget::Mod, true).await, "bac de ");
        assert_eq!(ask(SortTarget::Version, true).await, "abc de ");
        assert_eq!(ask(SortTarget::Value, true).await, "cab ed ");
        assert_eq!(ask(SortTarget::Value, false).await, "c6a8b9 e5d7 ");
    }

    /// Replaces every key and compacts what the page's revision needs.
    fn supersede(scratch: &Scratch) {
        for key in 0..10 {
            scratch.put(&format!("k{key}"), b"new");
        }
        scratch.compact(scratch.store.revision());
    }

    /// Waits until compaction has reclaimed everything.
    async fn reclaimed(scratch: &Scratch) {
        let all = async {
            while !scratch.reclaim_step() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), all).await;
        waited.expect("nothing is pinned any more");
    }

    #[tokio::test]
    async fn what_a_client_reads_stays_readable() {
        let scratch = Scratch::empty();
        let mut pages = first_page(&scratch, FOR_EVER).await;
        supersede(&scratch);
        assert!(!scratch.reclaim_step(), "what is being read was reclaimed");
        let page = pages.next_page(10).await.unwrap();
        assert_eq!((page.items.len(), page.count, page.more), (8, 8, false));
    }

    #[tokio::test]
    async fn a_client_that_never_reads_holds_up_compaction_for_so_long_only() {
        let scratch = Scratch::empty();
        let mut pages = first_page(&scratch, SHORTLY).await;
        supersede(&scratch);
        // Nobody polls the stream meanwhile.
        reclaimed(&scratch).await;
        assert_eq!(pages.next_page(2).await.err(), Some(ApplyError::Compacted));
    }

    #[tokio::test]
    async fn a_slow_client_goes_on_where_nothing_is_compacted() {
        let scratch = Scratch::empty();
        let mut pages = first_page(&scratch, SHORTLY).await;
        let pinned = pages.head;
        let unpinned = async {
            while scratch.store.read().mvcc.is_pinned(pinned) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), unpinned).await;
        waited.expect("the pin ends");
        let page = pages.next_page(10).await.unwrap();
        assert_eq!((page.items.len(), page.count, page.more), (8, 8, false));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_holds_up_nothing() {
        let scratch = Scratch::empty();
        let pages = first_page(&scratch, FOR_EVER).await;
        supersede(&scratch);
        assert!(!scratch.reclaim_step());
        drop(pages);
        reclaimed(&scratch).await;
    }
}
