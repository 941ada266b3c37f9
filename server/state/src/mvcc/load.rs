//! Building the index from stored records.
//!
//! Records come in revision order, keys in no order at all; the tree is built from sorted keys, at
//! once. Until then a hash table finds a key's place; it is looked up only, never iterated.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as Place, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use std::hint::black_box;

use crate::types::{KeyValue, KeyValueRef, LeaseId, Revision, RevisionPair, Stored};

use super::super::effects::RecordRef;
use super::super::lease::Leases;
use super::super::load::LoadError;
use super::count::ChangeLog;
use super::entry::{Entry, Version};
use super::key_order::sorted_places;
use super::tree::{Item, OrderTree};
use super::write::record_bytes;
use super::{Mvcc, NEVER_COMPACTED};

/// The highest revision and version that is taken over from elsewhere: beyond what any store reaches, and with
/// room to count on.
pub const NUMBER_MAX: i64 = 1 << 62;
/// The highest that is loaded: whoever took over the highest there is has counted on since.
const COUNTED_MAX: i64 = NUMBER_MAX + (1 << 61);

/// Records, and places, that are looked at together before the first of them has its turn: they lie anywhere in
/// memory, and a processor waits for all of them as long as for one where none depends on another.
const AHEAD: usize = 64;

/// A stored record as the index takes it in. Made of each record by itself, so by any thread.
pub struct Loaded {
    stored: Stored,
    version: Version,
    lease: LeaseId,
    /// The key's.
    hash: u64,
}

impl Loaded {
    /// What a record says.
    ///
    /// # Errors
    /// It is damaged, or nothing that a store writes.
    pub fn of(record: RecordRef<'_>) -> Result<Loaded, LoadError> {
        let pair = record.pair;
        let kv = KeyValueRef::decode(record.encoded)
            .map_err(|source| LoadError::Damaged { pair, source })?;
        if !is_written(record, kv, COUNTED_MAX) {
            return Err(LoadError::Nonsense { pair });
        }
        let bytes = record_bytes(record.encoded, record.tombstone);
        let (stored, version, lease) = if record.tombstone {
            (
                Stored::key_only(kv.key),
                Version::tombstone(pair, bytes),
                LeaseId::NONE,
            )
        } else {
            let version = Version::put(pair, kv.create_revision, kv.version, bytes);
            (Stored::full(record.encoded), version, kv.lease)
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(kv.key);
        let hash = hasher.finish();
        Ok(Loaded {
            stored,
            version,
            lease,
            hash,
        })
    }
}

/// Takes in records and makes the key space of them.
pub(crate) struct Loader {
    mvcc: Mvcc,
    leases: Leases,
    /// Taken in together, see [`AHEAD`].
    waiting: Vec<Loaded>,
    /// In the order first met.
    entries: Entries,
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
            waiting: Vec::with_capacity(AHEAD),
            entries: Entries::default(),
            places: HashMap::default(),
            collided: HashMap::new(),
            cached: VecDeque::new(),
            last: RevisionPair::default(),
        }
    }

    /// Takes in the next record.
    pub(crate) fn feed(&mut self, loaded: Loaded) -> Result<(), LoadError> {
        let pair = loaded.version.pair();
        if pair <= self.last {
            return Err(LoadError::OutOfOrder { pair });
        }
        self.last = pair;
        self.waiting.push(loaded);
        if self.waiting.len() == AHEAD {
            self.take_in();
        }
        Ok(())
    }

    fn take_in(&mut self) {
        for loaded in &self.waiting {
            let begins = loaded.stored.as_ref().first();
            black_box((self.places.get(&loaded.hash), begins));
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.drain(..).for_each(|loaded| self.add(loaded));
        self.waiting = waiting;
    }

    fn add(&mut self, loaded: Loaded) {
        self.mvcc.logical_bytes += u64::from(loaded.version.bytes());
        self.leases.attach(loaded.stored.key(), loaded.lease);
        let place = self.place_of(loaded.stored.key(), loaded.hash);
        let Loaded {
            stored, version, ..
        } = loaded;
        let mut charged = 0;
        let queue_key = match self.entries.get_mut(place) {
            None => {
                let key = version.is_tombstone().then(|| stored.clone());
                self.entries.push(Entry::new(stored, version));
                key
            }
            Some(entry) => {
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
    fn place_of(&mut self, key: &[u8], hash: u64) -> u32 {
        let end = self.entries.len;
        let place = match self.places.entry(hash) {
            Place::Vacant(vacant) => *vacant.insert(end),
            Place::Occupied(occupied) => *occupied.get(),
        };
        if place == end || self.entries.key(place) == key {
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
        let after = self.entries.at(place).cached_bytes();
        self.mvcc.cache.recharge(before, after);
        if before == 0 && after > 0 {
            self.cached.push_back(place);
        }
        while self.mvcc.cache.bytes() > self.mvcc.cache.budget() {
            let oldest = self
                .cached
                .pop_front()
                .expect("what is charged is in the queue");
            let freed = self.entries.at(oldest).evict();
            self.mvcc.cache.recharge(freed, 0);
        }
    }

    /// The key space and the leases, at the revision and compaction that storage states.
    pub(crate) fn finish(
        mut self,
        revision: Option<Revision>,
        scheduled: Option<Revision>,
        finished: Option<Revision>,
        whole_after: Option<Revision>,
    ) -> Result<(Mvcc, Leases), LoadError> {
        self.take_in();
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
        if revision.0 > COUNTED_MAX {
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
        mvcc.tree = entries.into_tree();
        mvcc.revision = revision;
        mvcc.compacted = mark(scheduled.max(finished));
        mvcc.reclaimed = mark(finished);
        mvcc.whole_after = mark(whole_after.or(Some(mvcc.compacted))).min(mvcc.compacted);
        mvcc.tip = revision;
        mvcc.seen = mvcc.newest();
        mvcc.changes = ChangeLog::since(revision);
        Ok((mvcc, leases))
    }
}

/// Whether a record may be taken over from elsewhere.
pub fn is_sound(record: RecordRef<'_>, kv: &KeyValue) -> bool {
    is_written(record, kv.lent(), NUMBER_MAX)
}

/// Whether a store can have written a record whose version is `version_max` at most: the files may come from a
/// peer, or from a disk that lies.
fn is_written(record: RecordRef<'_>, kv: KeyValueRef<'_>, version_max: i64) -> bool {
    let pair = record.pair;
    let is_written = record.tombstone
        || (kv.mod_revision == pair.main
            && kv.create_revision <= pair.main
            && (1..=version_max).contains(&kv.version));
    // The index finds the key at the record's beginning.
    let begins_with_key = KeyValue::key_of(record.encoded) == Some(kv.key);
    !kv.key.is_empty() && begins_with_key && is_written
}

/// Entries by place, in chunks: none is moved as they become more.
#[derive(Default)]
struct Entries {
    /// All but the last are full. An entry is none only while the tree is made of them.
    chunks: Vec<Vec<Option<Entry>>>,
    /// How many there are: the tree counts in u32.
    len: u32,
}

/// Entries of a chunk.
const CHUNK: u32 = 1 << 12;

impl Entries {
    fn push(&mut self, entry: Entry) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK as usize));
        }
        let chunk = self.chunks.last_mut().expect("pushed where there was none");
        chunk.push(Some(entry));
        self.len = self.len.checked_add(1).expect("the tree counts in u32");
    }

    fn slot(&mut self, place: u32) -> Option<&mut Option<Entry>> {
        let chunk = self.chunks.get_mut((place / CHUNK) as usize)?;
        chunk.get_mut((place % CHUNK) as usize)
    }

    /// None behind the last.
    fn get_mut(&mut self, place: u32) -> Option<&mut Entry> {
        let entry = self.slot(place)?;
        Some(entry.as_mut().expect("taken only at the end"))
    }

    fn at(&mut self, place: u32) -> &mut Entry {
        self.get_mut(place).expect("a place that was given")
    }

    fn entry(&self, place: u32) -> &Option<Entry> {
        &self.chunks[(place / CHUNK) as usize][(place % CHUNK) as usize]
    }

    fn key(&self, place: u32) -> &[u8] {
        let entry = self.entry(place).as_ref();
        entry.expect("taken only at the end").key()
    }

    fn into_tree(mut self) -> OrderTree<Entry> {
        let order = sorted_places(self.len, |place| self.key(place));
        let mut at = 0;
        OrderTree::from_sorted(std::iter::from_fn(move || {
            let place = *order.get(at)?;
            if at.is_multiple_of(AHEAD) {
                self.look_at(&order[at..order.len().min(at + AHEAD)]);
            }
            at += 1;
            let taken = self.slot(place).and_then(Option::take);
            Some(taken.expect("each place is taken once"))
        }))
    }

    /// See [`AHEAD`]: the entries, and then what they point to.
    fn look_at(&self, places: &[u32]) {
        for &place in places {
            black_box(self.entry(place).is_some());
        }
        for &place in places {
            black_box(self.key(place).first());
        }
    }
}
