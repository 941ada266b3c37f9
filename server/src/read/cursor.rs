//! A range read page by page at one pinned revision.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::store::{Pin, Store};
use crate::types::request::{Range, SortTarget};
use crate::types::result::{self, ApplyError, Item};
use crate::types::{KeyRange, KeyValue, RangeEnd, Revision};

/// See the module. While it lives, or its pin where that was taken from it, compaction keeps what
/// its revision needs.
pub struct Cursor {
    store: Arc<Store>,
    /// By key: keys are the order pages come in.
    query: Range,
    order: PageOrder,
    pin: Weak<Pin>,
    /// Held until it is handed over.
    held: Option<Arc<Pin>>,
    head: Revision,
}

impl Cursor {
    /// Pins the revision asked for (or the latest) and begins at the range's first key.
    pub(super) fn new(store: Arc<Store>, mut query: Range) -> Result<Cursor, ApplyError> {
        let order = PageOrder::taken_from(&mut query);
        let pin = Arc::new(store.pin(&query)?);
        query.revision = pin.revision().0;
        Ok(Cursor {
            store,
            query,
            order,
            head: pin.head(),
            pin: Arc::downgrade(&pin),
            held: Some(pin),
        })
    }

    /// The store's revision when the cursor was made.
    pub fn head(&self) -> Revision {
        self.head
    }

    /// Hands over what keeps the revision readable between pages, to somebody who bounds for how
    /// long. Once that is dropped, a page may answer that the revision is compacted.
    pub fn take_pin(&mut self) -> Option<Arc<Pin>> {
        self.held.take()
    }

    /// The next key-values, at most `limit` (> 0). `more`: whether the range holds keys beyond
    /// these; `count`: how many it holds from the page's first key on.
    ///
    /// # Errors
    /// The pin was given up and the revision is compacted since.
    pub fn next_page(&mut self, limit: usize) -> Result<result::Range, ApplyError> {
        // Held while this page is read, whoever gives up the cursor's own meanwhile.
        let pin = match self.pin.upgrade() {
            Some(pin) => pin,
            None => Arc::new(self.store.pin(&self.query)?),
        };
        self.query.limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let (plan, engine) = pin.plan(&self.query);
        let mut page = plan
            .resolve(&engine)
            .expect("a pinned revision is not reclaimed");
        if let Some(last) = page.items.last() {
            self.query.range = after(last, &self.query.range.end);
        }
        self.order.sort(&mut page.items);
        Ok(page)
    }
}

/// How the key-values of one page are ordered. A range that is unsorted but names a target is, as in
/// etcd, cut by key and then sorted ascending, one page for itself.
struct PageOrder {
    target: SortTarget,
    /// Values are read to sort by them, and then left out.
    strip_values: bool,
}

impl PageOrder {
    /// Leaves a query by key, which reads what the order needs.
    fn taken_from(query: &mut Range) -> PageOrder {
        let target = std::mem::take(&mut query.sort_target);
        let strip_values = query.keys_only && target == SortTarget::Value;
        query.keys_only &= !strip_values;
        PageOrder {
            target,
            strip_values,
        }
    }

    fn sort(&self, items: &mut [Item]) {
        let number: fn(&KeyValue) -> i64 = match self.target {
            SortTarget::Key => return,
            SortTarget::Value => return self.sort_by_value(items),
            SortTarget::Version => |kv| kv.version,
            SortTarget::Create => |kv| kv.create_revision.0,
            SortTarget::Mod => |kv| kv.mod_revision.0,
        };
        items.sort_by_cached_key(|item| number(&decoded(item)));
    }

    fn sort_by_value(&self, items: &mut [Item]) {
        items.sort_by_cached_key(|item| decoded(item).value);
        if !self.strip_values {
            return;
        }
        for item in items {
            let bare = KeyValue {
                value: Bytes::new(),
                ..decoded(item)
            };
            *item = Item::Encoded(bare.encode());
        }
    }
}

fn decoded(item: &Item) -> KeyValue {
    let encoded = item.clone().into_bytes();
    KeyValue::decode(&encoded).expect("stored key-values were encoded by this store")
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
