//! Reading: which versions a range holds at a revision, and what is answered of them.
//!
//! The plain case (in key order, without filters) is planned from the index alone, so that the lock
//! is held briefly and values are read from storage without it. Everything else is answered whole.

use bytes::Bytes;

use crate::types::request::{self, SortOrder, SortTarget};
use crate::types::result::{self, ApplyError, Item};
use crate::types::{KeyRange, KeyValue, LeaseId, RangeEnd, Revision, RevisionPair, Stored};

use super::super::effects::Values;
use super::entry::{Entry, Version};
use super::{Horizon, Mvcc, present};

/// What a plain range answers, before values are read from storage.
#[derive(Debug)]
pub struct Plan {
    /// The revision read at.
    pub revision: Revision,
    /// The newest revision, for the header.
    pub head: Revision,
    /// The key-values, in the order asked for.
    pub slots: Vec<Slot>,
    /// Whether more matched than the limit let through.
    pub more: bool,
    /// How many keys the range holds, whatever the limit says.
    pub count: i64,
}

/// One key-value of a plan.
#[derive(Clone, Debug)]
pub enum Slot {
    /// At hand, with its value.
    Stored(Stored),
    /// An encoded key-value without value and lease, as a keys-only range answers it.
    Meta(Bytes),
    /// In storage, at this revision.
    At(RevisionPair),
}

impl Plan {
    /// A plan that is nothing but these.
    pub fn of(slots: Vec<Slot>) -> Plan {
        Plan {
            revision: Revision::default(),
            head: Revision::default(),
            slots,
            more: false,
            count: 0,
        }
    }

    /// How many values are in storage.
    pub fn values_to_read(&self) -> usize {
        let slots = self.slots.iter();
        slots.filter(|slot| matches!(slot, Slot::At(_))).count()
    }

    /// Whether a range can be planned: key order, either way, and no revision filter.
    pub fn serves(query: &request::Range) -> bool {
        query.sort_target == SortTarget::Key && !query.has_revision_filter()
    }

    /// Reads from storage what is not at hand. None if compaction has dropped some of it since the
    /// plan was made (never, while the plan's revision is pinned or not below the compact revision).
    pub fn resolve(self, values: &dyn Values) -> Option<result::Range> {
        let items = resolve(self.slots, values, |_, record| record)?;
        let Plan {
            head, more, count, ..
        } = self;
        Some(result::Range {
            revision: head,
            items,
            more,
            count,
            away: None,
        })
    }
}

/// Replaces the slots that point into storage, reading them in storage order. `missing` decides
/// what an absent record means.
fn resolve(
    slots: Vec<Slot>,
    values: &dyn Values,
    missing: impl Fn(RevisionPair, Option<Bytes>) -> Option<Bytes>,
) -> Option<Vec<Item>> {
    let mut wanted: Vec<(RevisionPair, usize)> = Vec::new();
    let mut items: Vec<Item> = Vec::with_capacity(slots.len());
    for (place, slot) in slots.into_iter().enumerate() {
        items.push(match slot {
            Slot::Stored(stored) => Item::Stored(stored),
            Slot::Meta(bytes) => Item::Encoded(bytes),
            Slot::At(pair) => {
                wanted.push((pair, place));
                Item::Encoded(Bytes::new())
            }
        });
    }
    if wanted.is_empty() {
        return Some(items);
    }
    wanted.sort_unstable();
    let pairs: Vec<RevisionPair> = wanted.iter().map(|(pair, _)| *pair).collect();
    let records = values.get_many(&pairs);
    assert!(
        records.len() == pairs.len(),
        "storage answers every revision asked for"
    );
    for ((pair, place), record) in wanted.into_iter().zip(records) {
        items[place] = Item::Encoded(missing(pair, record.map(|record| record.encoded))?);
    }
    Some(items)
}

/// A version of a key that exists at the revision looked at.
pub(crate) struct Found<'a> {
    entry: &'a Entry,
    version: &'a Version,
}

impl<'a> Found<'a> {
    pub(super) fn new(entry: &'a Entry, version: &'a Version) -> Found<'a> {
        Found { entry, version }
    }

    /// The size of its record in storage.
    pub(super) fn record_bytes(&self) -> u32 {
        self.version.bytes()
    }

    pub(crate) fn version(&self) -> i64 {
        self.version.version()
    }

    pub(crate) fn create_revision(&self) -> Revision {
        self.version.create()
    }

    pub(crate) fn mod_revision(&self) -> Revision {
        self.version.main()
    }

    pub(crate) fn stored(&self) -> &Stored {
        self.entry.stored()
    }

    pub(super) fn passes(&self, query: &request::Range) -> bool {
        let within = |revision: Revision, min: i64, max: i64| {
            (min == 0 || revision.0 >= min) && (max == 0 || revision.0 <= max)
        };
        within(
            self.mod_revision(),
            query.min_mod_revision,
            query.max_mod_revision,
        ) && within(
            self.create_revision(),
            query.min_create_revision,
            query.max_create_revision,
        )
    }

    /// What a keys-only range answers.
    pub(super) fn meta(&self) -> Bytes {
        let revisions = (self.create_revision(), self.mod_revision(), self.version());
        KeyValue::encode_parts(self.stored().key(), revisions, b"", LeaseId::NONE)
    }
}

/// The bounds of a range of more than one key.
pub(super) fn bounds(range: &KeyRange) -> (&[u8], Option<&[u8]>) {
    match &range.end {
        RangeEnd::Unbounded => (&range.start, None),
        RangeEnd::Before(end) => (&range.start, Some(end)),
        RangeEnd::SingleKey => unreachable!("a single key is looked up, not walked to"),
    }
}

impl Mvcc {
    /// Answers a range in full: any sort order, any filter.
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    pub fn range(
        &self,
        query: &request::Range,
        values: &dyn Values,
    ) -> Result<result::Range, ApplyError> {
        self.range_at_head(query, self.seen, values)
    }

    /// What a plain range answers, from the index alone. Values in storage are read later, without
    /// the lock ([`Plan::resolve`]).
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    ///
    /// # Panics
    /// The range is not plain ([`Plan::serves`] tells).
    pub fn plan(&self, query: &request::Range) -> Result<Plan, ApplyError> {
        let at = self.seen.readable(query.revision)?;
        Ok(self.plan_at(query, self.seen.revision, at))
    }

    /// The keys of a range that exist at the newest revision, in order.
    pub(crate) fn live(&self, range: &KeyRange) -> impl Iterator<Item = Found<'_>> {
        self.entries(range)
            .map(|entry| Found {
                entry,
                version: entry.newest(),
            })
            .filter(|found| !found.version.is_tombstone())
    }

    /// The keys of a range that existed at a revision, in order.
    pub(crate) fn there(&self, range: &KeyRange, at: Revision) -> impl Iterator<Item = Found<'_>> {
        existing(self.entries(range), at)
    }

    /// The key-value behind a version that was found.
    pub(crate) fn key_value(&self, found: &Found<'_>, values: &dyn Values) -> KeyValue {
        let is_newest = found.version.pair() == found.entry.newest().pair();
        let encoded = match found.stored().encoded().filter(|_| is_newest) {
            Some(encoded) => Bytes::copy_from_slice(encoded),
            None => self.stored_at(found.version.pair(), values),
        };
        KeyValue::decode(&encoded).expect("stored key-values were encoded by this store")
    }

    /// Like [`Mvcc::range`], for a reader who sees so far.
    pub(super) fn range_at_head(
        &self,
        query: &request::Range,
        horizon: Horizon,
        values: &dyn Values,
    ) -> Result<result::Range, ApplyError> {
        let at = horizon.readable(query.revision)?;
        let head = horizon.revision;
        if query.count_only || Plan::serves(query) {
            let Plan {
                slots, more, count, ..
            } = self.plan_at(query, head, at);
            let items = resolve_held(slots, values);
            return Ok(result::Range {
                revision: head,
                items,
                more,
                count,
                away: None,
            });
        }
        Ok(self.sorted_range(query, head, at, values))
    }

    fn plan_at(&self, query: &request::Range, head: Revision, at: Revision) -> Plan {
        assert!(
            query.count_only || Plan::serves(query),
            "only a plain range can be planned"
        );
        let count = self.count_when(&query.range, at);
        if query.count_only {
            return Plan {
                revision: at,
                head,
                slots: Vec::new(),
                more: false,
                count,
            };
        }
        let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
        let page = limit.unwrap_or(usize::MAX);
        let found = self.entries(&query.range);
        let found: Vec<Found<'_>> = if query.sort_order == SortOrder::Descend {
            existing(found.rev(), at).take(page).collect()
        } else {
            existing(found, at).take(page).collect()
        };
        let taken = i64::try_from(found.len()).expect("the tree counts in u32");
        let more = limit.is_some() && count > taken;
        if more
            && query.sort_order != SortOrder::Descend
            && let Some(last) = found.last()
        {
            self.carry_count(&query.range, at, last.stored().key(), count - taken);
        }
        let slots = found
            .iter()
            .map(|found| self.slot(found, query.keys_only))
            .collect();
        Plan {
            revision: at,
            head,
            slots,
            more,
            count,
        }
    }

    /// A range that is filtered by revision or sorted by something else than the key.
    fn sorted_range(
        &self,
        query: &request::Range,
        head: Revision,
        at: Revision,
        values: &dyn Values,
    ) -> result::Range {
        let count = self.count_when(&query.range, at);
        let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
        // etcd's quirk: unsorted, but with a target, the first keys up to one above the limit are
        // taken, and those are sorted.
        let fetched = match limit {
            Some(limit) if query.sort_order == SortOrder::None && !query.has_revision_filter() => {
                limit.saturating_add(1)
            }
            _ => usize::MAX,
        };
        let mut found: Vec<Found<'_>> = existing(self.entries(&query.range), at)
            .take(fetched)
            .filter(|found| found.passes(query))
            .collect();
        let more = limit.is_some_and(|limit| found.len() > limit);
        let page = limit.unwrap_or(usize::MAX);
        let items = if query.sort_target == SortTarget::Value {
            self.sorted_by_value(&found, query, page, values)
        } else {
            sort(&mut found, query.sort_target, query.sort_order);
            found.truncate(page);
            let slots = found
                .iter()
                .map(|found| self.slot(found, query.keys_only))
                .collect();
            resolve_held(slots, values)
        };
        result::Range {
            revision: head,
            items,
            more,
            count,
            away: None,
        }
    }

    /// Sorts by value, for which every value is read; keys-only then leaves out values alone, and
    /// the lease stays (etcd's quirk).
    fn sorted_by_value(
        &self,
        found: &[Found<'_>],
        query: &request::Range,
        page: usize,
        values: &dyn Values,
    ) -> Vec<Item> {
        let slots = found.iter().map(|found| self.slot(found, false)).collect();
        let mut decoded: Vec<(KeyValue, Bytes)> = resolve_held(slots, values)
            .into_iter()
            .map(|item| {
                let encoded = item.into_bytes();
                let kv = KeyValue::decode(&encoded);
                (
                    kv.expect("stored key-values were encoded by this store"),
                    encoded,
                )
            })
            .collect();
        match query.sort_order {
            SortOrder::Descend => decoded.sort_by(|(a, _), (b, _)| b.value.cmp(&a.value)),
            SortOrder::None | SortOrder::Ascend => {
                decoded.sort_by(|(a, _), (b, _)| a.value.cmp(&b.value));
            }
        }
        decoded.truncate(page);
        let answer = |(kv, encoded): (KeyValue, Bytes)| {
            let bare = || {
                KeyValue {
                    value: Bytes::new(),
                    ..kv
                }
                .encode()
            };
            Item::Encoded(if query.keys_only { bare() } else { encoded })
        };
        decoded.into_iter().map(answer).collect()
    }

    pub(super) fn entries(&self, range: &KeyRange) -> impl DoubleEndedIterator<Item = &Entry> {
        let (single, many) = if range.is_single() {
            (self.tree.get(&range.start), None)
        } else {
            let (start, end) = bounds(range);
            (None, Some(self.tree.range(start, end)))
        };
        single.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn slot(&self, found: &Found<'_>, keys_only: bool) -> Slot {
        if keys_only {
            return Slot::Meta(found.meta());
        }
        let pair = found.version.pair();
        if pair == found.entry.newest().pair() && found.entry.is_cached() {
            found.entry.touch();
            return Slot::Stored(found.stored().clone());
        }
        match self.unwritten_at(pair) {
            Some(record) => Slot::Stored(Stored::full(&record.encoded)),
            None => Slot::At(pair),
        }
    }
}

/// Reads what slots need, under the lock: everything the index names is in storage.
fn resolve_held(slots: Vec<Slot>, values: &dyn Values) -> Vec<Item> {
    let damaged =
        |pair, encoded: Option<Bytes>| Some(encoded.unwrap_or_else(|| present(pair, None)));
    resolve(slots, values, damaged).expect("an absent record has ended the process")
}

fn existing<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    at: Revision,
) -> impl Iterator<Item = Found<'a>> {
    entries.filter_map(move |entry| entry.at(at).map(|version| Found { entry, version }))
}

/// Sorts by what the index knows. Equal ones stay in key order, which etcd leaves open.
fn sort(found: &mut [Found<'_>], target: SortTarget, order: SortOrder) {
    if target == SortTarget::Key {
        if order == SortOrder::Descend {
            found.reverse();
        }
        return;
    }
    let rank = |found: &Found<'_>| match target {
        SortTarget::Version => found.version(),
        SortTarget::Create => found.create_revision().0,
        SortTarget::Mod => found.mod_revision().0,
        SortTarget::Key | SortTarget::Value => unreachable!("sorted elsewhere"),
    };
    match order {
        SortOrder::Descend => found.sort_by_key(|found| std::cmp::Reverse(rank(found))),
        SortOrder::None | SortOrder::Ascend => found.sort_by_key(rank),
    }
}
