//! Answers in another order than the keys': which key-values they hold, found in bounded steps.

use std::sync::Arc;

use bytes::Bytes;

use super::select::Selection;
use super::{HOLDS_A_TURN, KEYS_A_HOLD, VALUES_A_HOLD, limit_of};
use crate::budget::Turns;
use crate::state::{Plan, Slot, Walk};
use crate::store::Pin;
use crate::types::request::{Range, SortOrder, SortTarget};
use crate::types::result::{Item, Later};
use crate::types::{KeyRange, KeyValue};

/// The key-values of an answer, in its order, with the bytes each takes encoded.
pub(super) enum Ordered {
    Slots(Vec<(Slot, usize)>),
    Items(Vec<Bytes>),
}

/// What an unsorted range with a limit sorts all the same, when it names a target: the first keys,
/// up to one above the limit (etcd's quirk).
pub(super) fn considered_max(query: &Range) -> usize {
    match limit_of(query) {
        Some(limit) if query.sort_order == SortOrder::None && !query.has_revision_filter() => {
            limit.saturating_add(1)
        }
        _ => usize::MAX,
    }
}

pub(super) async fn ordered(turns: &Turns, pin: &Arc<Pin>, later: &Later) -> Ordered {
    let mut sorting = Sorting {
        pin: pin.clone(),
        rest: Some(later.query.range.clone()),
        left: considered_max(&later.query),
        chosen: match later.query.sort_target {
            SortTarget::Value => Chosen::ByValue(selection(&later.query)),
            _ => Chosen::ByRank(selection(&later.query)),
        },
        later: later.clone(),
    };
    while sorting.rest.is_some() {
        sorting = turns
            .take(move || {
                sorting.turn();
                sorting
            })
            .await;
    }
    turns.take(move || sorting.finish()).await
}

fn selection<K: Ord, P>(query: &Range) -> Selection<K, P> {
    let max = limit_of(query).unwrap_or(usize::MAX);
    Selection::new(max, query.sort_order == SortOrder::Descend)
}

struct Sorting {
    pin: Arc<Pin>,
    later: Later,
    rest: Option<KeyRange>,
    /// How many keys may still be considered.
    left: usize,
    chosen: Chosen,
}

enum Chosen {
    ByRank(Selection<i64, (Slot, usize)>),
    ByValue(Selection<Bytes, Bytes>),
}

impl Sorting {
    fn turn(&mut self) {
        for _ in 0..HOLDS_A_TURN {
            let Some(range) = self.rest.take() else {
                return;
            };
            self.rest = match &self.chosen {
                Chosen::ByRank(_) => self.look(&range),
                Chosen::ByValue(_) => self.read(&range),
            };
            if self.left == 0 {
                self.rest = None;
            }
        }
    }

    fn walk(&self, looked_max: usize) -> Walk {
        Walk {
            below: self.later.below,
            backwards: false,
            looked_max: looked_max.min(self.left),
        }
    }

    /// Sorts some keys by what the index knows.
    fn look(&mut self, range: &KeyRange) -> Option<KeyRange> {
        let walk = self.walk(KEYS_A_HOLD);
        let (pin, query, left) = (&self.pin, &self.later.query, &mut self.left);
        let Chosen::ByRank(selection) = &mut self.chosen else {
            unreachable!("called for ranks")
        };
        pin.with(|state, _| {
            state.mvcc.walk(&walk, range, &mut |seen| {
                *left -= 1;
                if seen.passes(query) {
                    selection.offer(seen.rank(query.sort_target), || {
                        (
                            seen.slot(query.keys_only),
                            seen.encoded_bytes(query.keys_only),
                        )
                    });
                }
                *left > 0
            })
        })
    }

    /// Sorts some keys by their values, which are read.
    fn read(&mut self, range: &KeyRange) -> Option<KeyRange> {
        let walk = self.walk(VALUES_A_HOLD);
        let (pin, query, left) = (&self.pin, &self.later.query, &mut self.left);
        let mut slots = Vec::new();
        let (rest, engine) = pin.with(|state, engine| {
            let rest = state.mvcc.walk(&walk, range, &mut |seen| {
                *left -= 1;
                if seen.passes(query) {
                    slots.push(seen.slot(false));
                }
                *left > 0
            });
            (rest, engine)
        });
        let Chosen::ByValue(selection) = &mut self.chosen else {
            unreachable!("called for values")
        };
        let read = Plan::of(slots).resolve(&engine);
        for item in read.expect("a pinned revision is not reclaimed").items {
            let encoded = Item::into_bytes(item);
            let kv = KeyValue::decode(&encoded).expect("stored by this store");
            // A value of its own: what it was decoded from need not stay for it.
            let value = Bytes::copy_from_slice(&kv.value);
            selection.offer(value, || match query.keys_only {
                true => bare(kv),
                false => encoded,
            });
        }
        rest
    }

    fn finish(self) -> Ordered {
        match self.chosen {
            Chosen::ByRank(selection) => Ordered::Slots(selection.into_sorted()),
            Chosen::ByValue(selection) => Ordered::Items(selection.into_sorted()),
        }
    }
}

/// Without its value; the lease stays (etcd's quirk).
fn bare(kv: KeyValue) -> Bytes {
    KeyValue {
        value: Bytes::new(),
        ..kv
    }
    .encode()
}
