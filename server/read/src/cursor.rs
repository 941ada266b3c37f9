//! A range read step by step at one pinned revision, in key order.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{PAGE_BYTES, PAGE_KEYS};
use crate::state::{Plan, Walk};
use crate::store::{Pin, Store};
use crate::types::request::{Range, SortTarget};
use crate::types::result::{self, ApplyError, Item};
use crate::types::{KeyRange, KeyValue, Revision, RevisionPair};

/// See the module. While it lives, or its pin where that was taken from it, compaction keeps what
/// its revision needs.
pub struct Cursor {
    store: Arc<Store>,
    /// By key: keys are the order pages come in.
    query: Range,
    rest: Option<KeyRange>,
    order: PageOrder,
    pin: Weak<Pin>,
    /// Held until it is handed over.
    held: Option<Arc<Pin>>,
    head: Revision,
    /// Keys from here to the range's end.
    remaining: i64,
}

impl Cursor {
    /// Begins at the first key of a range that holds `count` keys at the pinned revision.
    pub(super) fn new(store: Arc<Store>, mut query: Range, pin: Arc<Pin>, count: i64) -> Cursor {
        let order = PageOrder::taken_from(&mut query);
        query.revision = pin.revision().0;
        Cursor {
            store,
            rest: Some(query.range.clone()),
            query,
            order,
            head: pin.head(),
            pin: Arc::downgrade(&pin),
            held: Some(pin),
            remaining: count,
        }
    }

    /// The store's revision when the cursor was made.
    pub fn head(&self) -> Revision {
        self.head
    }

    /// Hands over what keeps the revision readable between steps, to somebody who bounds for how
    /// long. Once that is dropped, a step may answer that the revision is compacted.
    pub fn take_pin(&mut self) -> Option<Arc<Pin>> {
        self.held.take()
    }

    /// The next key-values, at most `limit` (> 0): what one step of bounded work finds, which may be
    /// none before the end. `more`: whether the range holds keys beyond these; `count`: how many it
    /// holds from the first of them on.
    ///
    /// # Errors
    /// The pin was given up and the revision is compacted since.
    pub fn step(&mut self, limit: usize) -> Result<result::Range, ApplyError> {
        // Held while this step is done, whoever gives up the cursor's own meanwhile.
        let pin = match self.pin.upgrade() {
            Some(pin) => pin,
            None => Arc::new(self.store.pin(&self.query)?),
        };
        let count = self.remaining;
        let slots = self.look(&pin, limit.max(1));
        let engine = pin.with(|_, engine| engine);
        let page = Plan::of(slots).resolve(&engine);
        let mut items = page.expect("a pinned revision is not reclaimed").items;
        self.order.sort(&mut items);
        self.remaining -= i64::try_from(items.len()).expect("a page's length fits");
        Ok(result::Range {
            items,
            more: self.remaining > 0,
            count,
            ..result::Range::default()
        })
    }

    fn look(&mut self, pin: &Pin, limit: usize) -> Vec<crate::state::Slot> {
        let Some(range) = self.rest.take() else {
            return Vec::new();
        };
        let walk = Walk {
            below: RevisionPair {
                main: pin.revision().next(),
                sub: 0,
            },
            backwards: false,
            looked_max: PAGE_KEYS,
        };
        let keys_only = self.query.keys_only;
        let (mut slots, mut bytes) = (Vec::new(), 0);
        self.rest = pin.with(|state, _| {
            state.mvcc.walk(&walk, &range, &mut |seen| {
                bytes += seen.encoded_bytes(keys_only);
                slots.push(seen.slot(keys_only));
                slots.len() < limit && bytes < PAGE_BYTES
            })
        });
        slots
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
