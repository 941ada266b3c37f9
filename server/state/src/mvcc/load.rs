//! Building the index from stored records.
//!
//! Records come in revision order, keys in no order at all; the tree is built from sorted keys, at
//! once. Until then a hash table finds a key's place; it is looked up only, never iterated.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as Place, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use crate::types::{KeyValue, LeaseId, Revision, RevisionPair, Stored};

use super::super::effects::RevisionRecord;
use super::super::lease::Leases;
use super::super::load::LoadError;
use super::count::ChangeLog;
use super::entry::{Entry, Version};
use super::key_order::sorted_places;
use super::tree::{Item, OrderTree};
use super::write::record_bytes;
use super::{Mvcc, NEVER_COMPACTED};

/// The highest revision and version: beyond what any store reaches, and with room to count on.
const NUMBER_MAX: i64 = 1 << 62;

/// Takes in records and makes the key space of them.
pub(crate) struct Loader {
    mvcc: Mvcc,
    leases: Leases,
    /// In the order first met. None only while the tree is made of them.
    entries: Vec<Option<Entry>>,
    places: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// The places of keys whose hash another key has.
    collided: HashMap<Box<[u8]>, u32>,
    /// The places whose values are kept, oldest first.
    cached: VecDeque<u32>,
    last: RevisionPair,
}

/// The hasher of keys that are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the table's keys are u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Loader {
    pub(crate) fn new(value_cache_bytes: usize, leases: Leases) -> Loader {
        Loader {
            mvcc: Mvcc::new(value_cache_bytes),
            leases,
            entries: Vec::new(),
            places: HashMap::default(),
            collided: HashMap::new(),
            cached: VecDeque::new(),
            last: RevisionPair::default(),
        }
    }

    /// Takes in the next record.
    pub(crate) fn feed(&mut self, record: RevisionRecord) -> Result<(), LoadError> {
        let pair = record.pair;
        if pair <= self.last {
            return Err(LoadError::OutOfOrder { pair });
        }
        self.last = pair;
        let kv = KeyValue::decode(&record.encoded)
            .map_err(|source| LoadError::Damaged { pair, source })?;
        if !is_sound(&record, &kv) {
            return Err(LoadError::Nonsense { pair });
        }
        let bytes = record_bytes(&record.encoded, record.tombstone);
        self.mvcc.logical_bytes += u64::from(bytes);
        let (stored, version, lease) = if record.tombstone {
            (
                Stored::key_only(&kv.key),
                Version::tombstone(pair, bytes),
                LeaseId::NONE,
            )
        } else {
            let version = Version::put(pair, kv.create_revision, kv.version, bytes);
            (Stored::full(&record.encoded), version, kv.lease)
        };
        self.leases.attach(&kv.key, lease);
        self.add(&kv.key, stored, version);
        Ok(())
    }

    fn add(&mut self, key: &[u8], stored: Stored, version: Version) {
        let place = self.place_of(key);
        let index = usize::try_from(place).expect("a u32 fits");
        let mut charged = 0;
        let queue_key = match self.entries.get_mut(index) {
            None => {
                let key = version.is_tombstone().then(|| stored.clone());
                self.entries.push(Some(Entry::new(stored, version)));
                key
            }
            Some(entry) => {
                let entry = entry.as_mut().expect("taken only at the end");
                charged = entry.cached_bytes();
                let before = *entry.newest();
                let (_, queue_key) = entry.push(stored, version);
                self.mvcc
                    .superseded
                    .supersede(before, version.main(), queue_key.clone());
                version.is_tombstone().then_some(queue_key)
            }
        };
        if let Some(queue_key) = queue_key {
            self.mvcc.superseded.bury(version.pair(), queue_key);
        }
        self.charge(place, charged);
    }

    /// The key's place, which is the end of the entries where the key is new.
    fn place_of(&mut self, key: &[u8]) -> u32 {
        let end = u32::try_from(self.entries.len()).expect("the tree counts in u32");
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        let place = match self.places.entry(hasher.finish()) {
            Place::Vacant(vacant) => *vacant.insert(end),
            Place::Occupied(occupied) => *occupied.get(),
        };
        if place == end || key_at(&self.entries, place) == key {
            return place;
        }
        if let Some(place) = self.collided.get(key) {
            return *place;
        }
        self.collided.insert(key.into(), end);
        end
    }

    /// Charges the value cache for what a place holds now, and lets the oldest values go.
    fn charge(&mut self, place: u32, before: usize) {
        let after = self.entry(place).cached_bytes();
        self.mvcc.cache.recharge(before, after);
        if before == 0 && after > 0 {
            self.cached.push_back(place);
        }
        while self.mvcc.cache.bytes() > self.mvcc.cache.budget() {
            let oldest = self
                .cached
                .pop_front()
                .expect("what is charged is in the queue");
            let freed = self.entry(oldest).evict();
            self.mvcc.cache.recharge(freed, 0);
        }
    }

    fn entry(&mut self, place: u32) -> &mut Entry {
        let index = usize::try_from(place).expect("a u32 fits");
        self.entries[index].as_mut().expect("taken only at the end")
    }

    /// The key space and the leases, at the revision and compaction that storage states.
    pub(crate) fn finish(
        self,
        revision: Option<Revision>,
        scheduled: Option<Revision>,
        finished: Option<Revision>,
    ) -> Result<(Mvcc, Leases), LoadError> {
        let found = self
            .last
            .main
            .max(scheduled.unwrap_or_default())
            .max(finished.unwrap_or_default())
            .max(Revision::EMPTY_STORE);
        let revision = revision.unwrap_or(found);
        if found > revision && found > Revision::EMPTY_STORE {
            return Err(LoadError::BeyondRevision { found, revision });
        }
        if revision.0 > NUMBER_MAX {
            return Err(LoadError::OutOfReach { revision });
        }
        let revision = revision.max(Revision::EMPTY_STORE);
        let mark = |at: Option<Revision>| at.map_or(NEVER_COMPACTED, |at| at.max(NEVER_COMPACTED));
        let Loader {
            mut mvcc,
            leases,
            entries,
            ..
        } = self;
        mvcc.tree = build(entries);
        mvcc.revision = revision;
        mvcc.compacted = mark(scheduled.max(finished));
        mvcc.reclaimed = mark(finished);
        mvcc.tip = revision;
        mvcc.seen = mvcc.newest();
        mvcc.changes = ChangeLog::since(revision);
        Ok((mvcc, leases))
    }
}

/// Whether a store can have written a record: the files may come from a peer, or from a disk that lies.
fn is_sound(record: &RevisionRecord, kv: &KeyValue) -> bool {
    let pair = record.pair;
    let is_written = record.tombstone
        || (kv.mod_revision == pair.main
            && kv.create_revision <= pair.main
            && (1..=NUMBER_MAX).contains(&kv.version));
    // The index finds the key at the record's beginning.
    let begins_with_key = KeyValue::key_of(&record.encoded) == Some(&kv.key);
    !kv.key.is_empty() && begins_with_key && is_written
}

fn key_at(entries: &[Option<Entry>], place: u32) -> &[u8] {
    let index = usize::try_from(place).expect("a u32 fits");
    entries[index]
        .as_ref()
        .expect("taken only at the end")
        .key()
}

fn build(mut entries: Vec<Option<Entry>>) -> OrderTree<Entry> {
    let end = u32::try_from(entries.len()).expect("the tree counts in u32");
    let order = sorted_places(end, |place| key_at(&entries, place));
    OrderTree::from_sorted(order.into_iter().map(|place| {
        let index = usize::try_from(place).expect("a u32 fits");
        entries[index].take().expect("each place is taken once")
    }))
}
