//! Writing: one transaction's changes, all at one revision.

use bytes::Bytes;

use crate::types::{KeyRange, KeyValue, LeaseId, Revision, RevisionPair, Stored, request, result};

use super::super::State;
use super::super::effects::{Change, Effects, Event, Meter, Previous, RevisionRecord, Values};
use super::super::hold::{Hold, STEP, look};
use super::Horizon;
use super::entry::{Entry, Version};
use crate::types::result::ApplyError;

/// A record's key in etcd's store: 8 bytes main, '_', 8 bytes sub, and 't' in a tombstone.
pub(super) const RECORD_KEY_BYTES: usize = 17;

/// A transaction under way. Its changes are in the index at once, at the store's next revision;
/// [`Writer::finish`] makes that the store's revision. Readers that come in between, when the state
/// is let go of, see the store as it was shown last.
pub(crate) struct Writer<'a> {
    hold: &'a mut dyn Hold,
    values: &'a dyn Values,
    effects: &'a mut Effects,
    next: RevisionPair,
}

/// What a put did to the index.
struct PutOutcome {
    /// The memory is the index's: recent events keep it for long, and as a copy it would be as large again.
    encoded: Bytes,
    previous: Previous,
    created: bool,
    charge: (usize, usize),
    superseded: Option<(Version, Stored)>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        hold: &'a mut dyn Hold,
        values: &'a dyn Values,
        effects: &'a mut Effects,
    ) -> Writer<'a> {
        let next = RevisionPair {
            main: hold.state().mvcc.revision.next(),
            sub: 0,
        };
        Writer {
            hold,
            values,
            effects,
            next,
        }
    }

    /// The newest revision as the transaction sees it: the store's, plus one once it has written.
    pub(crate) fn revision(&self) -> Revision {
        match self.next.sub {
            0 => Revision(self.next.main.0 - 1),
            _ => self.next.main,
        }
    }

    /// Reads what the transaction sees; what is beyond the meter is left for later.
    pub(crate) fn range(
        &mut self,
        query: &request::Range,
        meter: &mut Meter,
    ) -> Result<result::Range, ApplyError> {
        let (revision, values) = (self.revision(), self.values);
        let mvcc = &self.hold.state().mvcc;
        let horizon = Horizon {
            revision,
            compacted: mvcc.compacted,
        };
        mvcc.range_within(query, horizon, self.next, meter, values)
    }

    /// The encoded key-value of `key` as the transaction sees it.
    pub(crate) fn current(&mut self, key: &[u8]) -> Option<Bytes> {
        let mvcc = &self.hold.state().mvcc;
        let entry = mvcc.tree.get(key)?;
        if entry.newest().is_tombstone() {
            return None;
        }
        Some(match entry.stored().encoded() {
            Some(encoded) => Bytes::copy_from_slice(encoded),
            None => mvcc.stored_at(entry.newest().pair(), self.values),
        })
    }

    /// Puts a key and attaches it to `lease`, which exists or is none.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) {
        let pair = self.advance();
        let State { mvcc, leases, .. } = self.hold.state();
        let outcome = mvcc.tree.update_or_insert(
            key,
            |entry| put_over(entry, key, value, lease, pair),
            || put_new(key, value, lease, pair),
        );
        let PutOutcome {
            encoded,
            previous,
            created,
            charge,
            superseded,
        } = outcome;
        mvcc.cache.recharge(charge.0, charge.1);
        if let Some((version, key)) = superseded {
            mvcc.superseded.supersede(version, pair.main, key);
        }
        if created {
            mvcc.changes.created(pair.main, key);
        }
        leases.attach(key, lease);
        self.record(pair, false, encoded.clone());
        let key = key_slice(&encoded, key.len());
        self.effects.events.push(Event {
            pair,
            tombstone: false,
            key,
            encoded,
            previous,
        });
    }

    /// Deletes the keys of a range in order and returns how many there were.
    pub(crate) fn delete_range(&mut self, range: &KeyRange) -> i64 {
        let keys: Vec<Stored> = look(self.hold, !range.is_single(), |state| {
            let found = state.mvcc.live(range);
            found.map(|found| found.stored().clone()).collect()
        });
        let deleted = i64::try_from(keys.len()).expect("the index counts in u32");
        self.reserve(keys.len());
        for stored in keys {
            self.delete(stored.key());
        }
        deleted
    }

    /// Room for so many changes more: growing what holds a million takes tens of milliseconds.
    fn reserve(&mut self, changes: usize) {
        self.effects.changes.reserve(changes);
        self.effects.events.reserve(changes);
        let mvcc = &mut self.hold.state().mvcc;
        mvcc.unwritten.reserve(changes);
        mvcc.superseded.reserve(changes);
    }

    fn delete(&mut self, key: &[u8]) {
        let pair = self.advance();
        let State { mvcc, leases, .. } = self.hold.state();
        let none = Revision(0);
        let encoded = KeyValue::encode_parts(key, (none, none, 0), b"", LeaseId::NONE);
        let tombstone = Version::tombstone(pair, record_bytes(&encoded, true));
        let (previous, charge, superseded, queue_key) = mvcc
            .tree
            .update(key, |entry| bury(entry, key, tombstone))
            .expect("a key to delete is in the index");
        mvcc.cache.recharge(charge, 0);
        mvcc.superseded
            .supersede(superseded, pair.main, queue_key.clone());
        mvcc.superseded.bury(pair, queue_key);
        mvcc.changes.deleted(pair.main, key);
        leases.attach(key, LeaseId::NONE);
        self.record(pair, true, encoded);
        let event = KeyValue::encode_parts(key, (none, pair.main, 0), b"", LeaseId::NONE);
        let key = key_slice(&event, key.len());
        self.effects.events.push(Event {
            pair,
            tombstone: true,
            key,
            encoded: event,
            previous,
        });
    }

    fn record(&mut self, pair: RevisionPair, tombstone: bool, encoded: Bytes) {
        let mvcc = &mut self.hold.state().mvcc;
        mvcc.logical_bytes += u64::from(record_bytes(&encoded, tombstone));
        let record = RevisionRecord {
            pair,
            tombstone,
            encoded,
        };
        mvcc.unwritten.push(record.clone());
        self.effects.changes.push(Change::PutRevision(record));
    }

    fn advance(&mut self) -> RevisionPair {
        let pair = self.next;
        if pair.sub % STEP == STEP - 1 {
            self.hold.breathe();
        }
        self.hold.state().mvcc.tip = pair.main;
        self.next.sub = pair
            .sub
            .checked_add(1)
            .expect("a request touches fewer than 2^32 keys");
        pair
    }

    /// Ends the transaction: if it has changed something, the store's revision rises by one.
    pub(crate) fn finish(self) {
        if self.next.sub == 0 {
            return;
        }
        self.hold.state().mvcc.revision = self.next.main;
        self.effects
            .changes
            .push(Change::SetRevision(self.next.main));
    }
}

/// The size of a record as etcd stores it. A request bounds it far below 4 GiB.
pub(super) fn record_bytes(encoded: &[u8], tombstone: bool) -> u32 {
    let bytes = RECORD_KEY_BYTES + usize::from(tombstone) + encoded.len();
    u32::try_from(bytes).expect("a record is far smaller than 4 GiB")
}

fn put_over(
    entry: &mut Entry,
    key: &[u8],
    value: &[u8],
    lease: LeaseId,
    pair: RevisionPair,
) -> PutOutcome {
    let before = *entry.newest();
    let created = before.is_tombstone();
    let create = if created { pair.main } else { before.create() };
    let version = before.version() + 1;
    let encoded = KeyValue::encode_parts(key, (create, pair.main, version), value, lease);
    let newest = Version::put(pair, create, version, record_bytes(&encoded, false));
    let charged = entry.cached_bytes();
    let kept = Stored::full(&encoded);
    let encoded = Bytes::from_owner(kept.clone());
    let (stored, queue_key) = entry.push(kept, newest);
    PutOutcome {
        encoded,
        previous: if created {
            Previous::None
        } else {
            previous_of(entry, &before, stored, pair.main)
        },
        created,
        charge: (charged, entry.cached_bytes()),
        superseded: Some((before, queue_key)),
    }
}

fn put_new(key: &[u8], value: &[u8], lease: LeaseId, pair: RevisionPair) -> (Entry, PutOutcome) {
    let encoded = KeyValue::encode_parts(key, (pair.main, pair.main, 1), value, lease);
    let newest = Version::put(pair, pair.main, 1, record_bytes(&encoded, false));
    let kept = Stored::full(&encoded);
    let encoded = Bytes::from_owner(kept.clone());
    let entry = Entry::new(kept, newest);
    let charge = (0, entry.cached_bytes());
    let outcome = PutOutcome {
        encoded,
        previous: Previous::None,
        created: true,
        charge,
        superseded: None,
    };
    (entry, outcome)
}

/// Puts a tombstone on top. Returns what was there, the bytes it was charged, its version, and the
/// key for the queue.
fn bury(entry: &mut Entry, key: &[u8], tombstone: Version) -> (Previous, usize, Version, Stored) {
    let before = *entry.newest();
    let charged = entry.cached_bytes();
    let (stored, queue_key) = entry.push(Stored::key_only(key), tombstone);
    let previous = previous_of(entry, &before, stored, tombstone.main());
    (previous, charged, before, queue_key)
}

/// What watchers hear was there before: the key's value before the transaction, even where the
/// transaction itself has changed the key already.
fn previous_of(entry: &Entry, before: &Version, stored: Stored, main: Revision) -> Previous {
    if before.main() == main {
        let earlier = entry.at(Revision(main.0 - 1));
        return earlier.map_or(Previous::None, |version| Previous::At(version.pair()));
    }
    if before.is_tombstone() {
        return Previous::None;
    }
    match stored.encoded() {
        Some(_) => Previous::Known(stored),
        None => Previous::At(before.pair()),
    }
}

/// The key within an encoded key-value, sharing its memory. The key is the first field: a tag, its
/// length, its bytes.
fn key_slice(encoded: &Bytes, len: usize) -> Bytes {
    let key = KeyValue::key_of(encoded).expect("a stored key-value begins with its key");
    assert!(key.len() == len, "the key encoded is the key given");
    encoded.slice_ref(key)
}
