//! A range read page by page at one pinned revision.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Pin, Store};
use crate::types::request::Range;
use crate::types::result::{self, ApplyError, Item};
use crate::types::{KeyRange, KeyValue, RangeEnd, Revision};

/// See the module. While it lives, compaction keeps what its revision needs.
pub struct Cursor {
    pin: Pin,
    query: Range,
}

impl Cursor {
    /// Pins the revision asked for (or the latest) and begins at the range's first key.
    pub(super) fn new(store: &Arc<Store>, mut query: Range) -> Result<Cursor, ApplyError> {
        let pin = store.pin(&query)?;
        query.revision = pin.revision().0;
        Ok(Cursor { pin, query })
    }

    /// The store's revision when the cursor was made.
    pub fn head(&self) -> Revision {
        self.pin.head()
    }

    /// The next key-values, at most `limit` (> 0). `more`: whether the range holds keys beyond
    /// these; `count`: how many it holds from the page's first key on.
    pub fn next_page(&mut self, limit: usize) -> result::Range {
        self.query.limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let (plan, engine) = self.pin.plan(&self.query);
        let page = plan
            .resolve(&engine)
            .expect("a pinned revision is not reclaimed");
        if let Some(last) = page.items.last() {
            self.query.range = after(last, &self.query.range.end);
        }
        page
    }
}

/// The rest of the range beyond `item`.
fn after(item: &Item, end: &RangeEnd) -> KeyRange {
    let key = KeyValue::key_of(item.as_ref()).expect("a key-value begins with its key");
    let mut start = Vec::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.push(0);
    let end = match end {
        RangeEnd::SingleKey => RangeEnd::Before(Bytes::copy_from_slice(&start)),
        end => end.clone(),
    };
    KeyRange {
        start: start.into(),
        end,
    }
}
