//! Local reads: a plan from the index under the lock, values from the engine after letting go.
//!
//! Owns how a range is read, whole or page by page, at a pinned revision. Must never write, wait for
//! Raft (whoever asks for a linearizable read passes the barrier first), or hold the lock over a
//! read of many values.

mod cursor;

pub use cursor::Cursor;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::state::{Plan, State};
use crate::store::Store;
use crate::types::request::{Range, SortOrder, Txn};
use crate::types::result::{self, ApplyError};
use crate::types::{Revision, within};

/// From this many keys on, a range is read page by page, so that the lock is held briefly.
const WHOLE_MAX: i64 = 10_000;
/// How often a plan is made anew because compaction dropped what it pointed to meanwhile. A plan
/// older than a compaction's step is rare; several in a row mean that the last try holds the lock.
const PLAN_TRIES: usize = 3;

/// Reads of the local state. Clones share it.
#[derive(Clone)]
pub struct Reader {
    store: Arc<Store>,
    ranges: Arc<AtomicU64>,
}

impl Reader {
    /// A reader of `store`.
    pub fn new(store: Arc<Store>) -> Reader {
        Reader {
            store,
            ranges: Arc::default(),
        }
    }

    /// Ranges read so far, whole or by page, those in read-only transactions included.
    pub fn ranges(&self) -> u64 {
        self.ranges.load(Ordering::Relaxed)
    }

    /// Answers a range, with the store's revision at that moment.
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    pub fn range(&self, query: &Range) -> Result<(Revision, result::Range), ApplyError> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        if !Plan::serves(query) {
            let state = self.store.read();
            let range = state.mvcc.range(query, &*self.store)?;
            return Ok((state.mvcc.revision(), range));
        }
        let whole = query.range.is_single()
            || query.count_only
            || (1..=WHOLE_MAX).contains(&query.limit)
            || self.store.read().mvcc.keys_total() <= WHOLE_MAX.unsigned_abs();
        if whole {
            self.range_at_once(query)
        } else {
            self.range_by_pages(query)
        }
    }

    fn range_at_once(&self, query: &Range) -> Result<(Revision, result::Range), ApplyError> {
        for _ in 0..PLAN_TRIES {
            let plan = self.store.read().mvcc.plan(query)?;
            let head = plan.head;
            if let Some(range) = plan.resolve(&*self.store) {
                return Ok((head, range));
            }
        }
        let state = self.store.read();
        let range = state.mvcc.range(query, &*self.store)?;
        Ok((state.mvcc.revision(), range))
    }

    fn range_by_pages(&self, query: &Range) -> Result<(Revision, result::Range), ApplyError> {
        if query.sort_order == SortOrder::Descend {
            return self.range_at_once(query);
        }
        let mut cursor = Cursor::new(self.store.clone(), query.clone())?;
        let mut whole = result::Range::default();
        let mut left = if query.limit > 0 {
            query.limit
        } else {
            i64::MAX
        };
        loop {
            let page = cursor.next_page(WHOLE_MAX.min(left).unsigned_abs() as usize)?;
            if whole.items.is_empty() {
                whole.count = page.count;
            }
            left -= page.items.len() as i64;
            whole.items.extend(page.items);
            whole.more = page.more;
            if !page.more || left <= 0 {
                return Ok((cursor.head(), whole));
            }
        }
    }

    /// Begins a paged read at one revision, which stays readable as long as the cursor lives.
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    pub fn cursor(&self, query: Range) -> Result<Cursor, ApplyError> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        Cursor::new(self.store.clone(), query)
    }

    /// Answers a transaction that only reads.
    ///
    /// # Errors
    /// A revision asked for is compacted or in the future.
    pub fn txn(&self, txn: &Txn) -> Result<(Revision, result::Txn), ApplyError> {
        let state: &State = &self.store.read();
        let answer = state.read_txn(txn, &*self.store)?;
        self.ranges
            .fetch_add(range_count(&answer), Ordering::Relaxed);
        Ok((state.mvcc.revision(), answer))
    }
}

fn range_count(txn: &result::Txn) -> u64 {
    let count = |answer: &result::TxnOp| match answer {
        result::TxnOp::Txn(inner) => within(|| range_count(inner)),
        _ => 1,
    };
    txn.responses.iter().map(count).sum()
}
