//! The history as it must have been: the model that every revision is replayed into.

mod claims;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use engram_proto::etcdserverpb::WatchResponse;
use engram_proto::mvccpb::KeyValue;

use super::operation::{Change, Operation, Outcome, Record, Seen, text};
use claims::Claims;

/// One key as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Revision of the put that made the key.
    pub created: i64,
    /// Revision of its last put.
    pub modified: i64,
    /// Puts since it was made.
    pub version: i64,
    /// Its value.
    pub value: String,
    /// Its lease, 0 for none.
    pub lease: i64,
}

impl Version {
    /// What a key-value of an answer says.
    pub fn of(kv: &KeyValue) -> Self {
        Self {
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            value: text(&kv.value),
            lease: kv.lease,
        }
    }
}

/// One event of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its revision.
    pub revision: i64,
    /// What changed.
    pub change: Change,
    /// `create_revision` and `version` as the event stated them.
    pub counters: (i64, i64),
    /// The key before, if the event told it.
    pub before: Option<Version>,
}

impl Event {
    /// The events of a watch response, in its order.
    pub fn all_of(response: &WatchResponse) -> Vec<Self> {
        let known = response
            .events
            .iter()
            .filter_map(|event| Some((event, event.kv.as_ref()?)));
        let event = |(event, kv): (&engram_proto::mvccpb::Event, &KeyValue)| Self {
            revision: kv.mod_revision,
            change: Change::of_event(event.r#type(), kv),
            counters: (kv.create_revision, kv.version),
            before: event.prev_kv.as_ref().map(Version::of),
        };
        known.map(event).collect()
    }
}

/// A lease as the clients know it.
#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: Duration,
    granted: Instant,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It was acknowledged, and not revoked.
    Alive,
    /// Its revoke was acknowledged.
    Ended,
    /// A grant or a revoke without an answer.
    Open,
}

/// Leases below this time to live may expire during the audit; others must not.
const SHORT_TTL: Duration = Duration::from_secs(60);

/// The whole store, as far as the history has been read.
#[derive(Debug)]
pub struct Ledger {
    head: i64,
    keys: BTreeMap<String, Version>,
    leases: BTreeMap<i64, Lease>,
    acknowledged: u64,
    unknown_done: u64,
    unknown_undone: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty store: revision 1.
    pub fn new() -> Self {
        Self {
            head: 1,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            acknowledged: 0,
            unknown_done: 0,
            unknown_undone: 0,
        }
    }

    /// The last revision read.
    pub fn head(&self) -> i64 {
        self.head
    }

    /// What was judged so far, in words.
    pub fn summary(&self) -> String {
        format!(
            "{} revisions, {} acknowledged writes, unknown outcomes: {} had happened, {} had not",
            self.head, self.acknowledged, self.unknown_done, self.unknown_undone
        )
    }

    /// Replays the revisions after [`Ledger::head`] and settles the clients' records against them.
    /// `events` are all events of these revisions; no client may be at work meanwhile.
    ///
    /// # Errors
    /// The first contradiction, as a sentence.
    pub fn judge(&mut self, events: &[Event], records: &[Record]) -> Result<(), String> {
        let mut claims = Claims::of(records, self.head)?;
        claims.check_observations(self.head, &self.keys)?;
        self.note_grants(records);
        for group in events.chunk_by(|a, b| a.revision == b.revision) {
            let revision = group[0].revision;
            if revision != self.head + 1 {
                return Err(format!(
                    "revision {revision} follows {} in the history",
                    self.head
                ));
            }
            self.settle(group, &mut claims)?;
            self.replay(group)?;
            self.head = revision;
            claims.check_observations(revision, &self.keys)?;
        }
        let undone = claims.nothing_is_missing(self.head)?;
        self.unknown_undone += undone;
        self.note_revokes(records)
    }

    /// Finds out who wrote a revision, and whether it holds all that this operation writes.
    fn settle(&mut self, group: &[Event], claims: &mut Claims<'_>) -> Result<(), String> {
        let revision = group[0].revision;
        let changes: Vec<&Change> = group.iter().map(|event| &event.change).collect();
        let (record, acknowledged) = match claims.acknowledged(revision) {
            Some(record) => (record, true),
            None => match claims.unknown(revision, &changes, |lease| self.keys_of(lease)) {
                Some(record) => (record, false),
                None => return self.must_be_an_expiry(revision, &changes),
            },
        };
        let expected = self.effect_of(&record.operation)?;
        if changes != expected.iter().collect::<Vec<_>>() {
            return Err(format!(
                "revision {revision} holds {changes:?}; {:?} ({:?}) writes {expected:?}",
                record.operation, record.outcome
            ));
        }
        if revision <= record.floor {
            return Err(format!(
                "{record:?} took effect at revision {revision}, but was sent after revision {} had \
                 been acknowledged",
                record.floor
            ));
        }
        match acknowledged {
            true => self.acknowledged += 1,
            false => self.unknown_done += 1,
        }
        Ok(())
    }

    /// What an operation changes if it takes effect on the store as it is now.
    fn effect_of(&self, operation: &Operation) -> Result<Vec<Change>, String> {
        let put = |key: &String, value: &String, lease| Change::Put {
            key: key.clone(),
            value: value.clone(),
            lease,
        };
        match operation {
            Operation::Put { key, value, lease } => Ok(vec![put(key, value, *lease)]),
            Operation::Swap {
                guard,
                expected,
                other,
                value,
            } => {
                let modified = self.keys.get(guard).map_or(0, |version| version.modified);
                if modified != *expected {
                    return Err(format!(
                        "{operation:?} took effect, but the key was last modified at {modified}"
                    ));
                }
                Ok(vec![put(guard, value, 0), put(other, value, 0)])
            }
            Operation::Delete { key } => Ok(vec![Change::Delete { key: key.clone() }]),
            Operation::Revoke { lease } => {
                let deletes = self.keys_of(*lease).into_iter();
                Ok(deletes.map(|key| Change::Delete { key }).collect())
            }
            Operation::Grant { .. } | Operation::Get { .. } => Ok(Vec::new()),
        }
    }

    /// The keys of a lease, in order.
    fn keys_of(&self, lease: i64) -> Vec<String> {
        let attached = self
            .keys
            .iter()
            .filter(|(_, version)| version.lease == lease);
        attached.map(|(key, _)| key.clone()).collect()
    }

    fn must_be_an_expiry(&self, revision: i64, changes: &[&Change]) -> Result<(), String> {
        let deleted: Vec<String> = changes
            .iter()
            .map(|change| change.key().to_owned())
            .collect();
        let all_deletes = changes
            .iter()
            .all(|change| matches!(change, Change::Delete { .. }));
        let lease = deleted
            .first()
            .and_then(|key| self.keys.get(key))
            .map_or(0, |key| key.lease);
        let Some(known) = self.leases.get(&lease).filter(|_| all_deletes) else {
            return Err(format!(
                "revision {revision} holds {changes:?}, which nobody wrote"
            ));
        };
        if known.ttl >= SHORT_TTL || known.granted.elapsed() < known.ttl {
            return Err(format!(
                "lease {lease} expired at revision {revision}, before its time"
            ));
        }
        match deleted == self.keys_of(lease) {
            true => Ok(()),
            false => Err(format!(
                "lease {lease} expired at revision {revision} and took {deleted:?}, its keys were {:?}",
                self.keys_of(lease)
            )),
        }
    }

    fn replay(&mut self, group: &[Event]) -> Result<(), String> {
        for event in group {
            let before = self.keys.remove(event.change.key());
            if event.before != before {
                return Err(format!(
                    "{event:?} tells what was before wrongly: it was {before:?}"
                ));
            }
            let Change::Put { key, value, lease } = &event.change else {
                if before.is_none() {
                    return Err(format!("{event:?} deletes a key that was not there"));
                }
                continue;
            };
            let after = Version {
                created: before
                    .as_ref()
                    .map_or(event.revision, |before| before.created),
                modified: event.revision,
                version: before.as_ref().map_or(0, |before| before.version) + 1,
                value: value.clone(),
                lease: *lease,
            };
            if event.counters != (after.created, after.version) {
                return Err(format!("{event:?} should state {after:?}"));
            }
            self.keys.insert(key.clone(), after);
        }
        Ok(())
    }

    /// Compares the store with what a read of everything at [`Ledger::head`] returned.
    ///
    /// # Errors
    /// The first key that differs.
    pub fn compare_keys(&self, read: &[KeyValue]) -> Result<(), String> {
        let read: BTreeMap<String, Version> = read
            .iter()
            .map(|kv| (text(&kv.key), Version::of(kv)))
            .collect();
        let names: BTreeSet<&String> = self.keys.keys().chain(read.keys()).collect();
        for name in names {
            let (held, found) = (self.keys.get(name), read.get(name));
            if held != found {
                return Err(format!(
                    "key {name} at revision {}: the history says {held:?}, the store {found:?}",
                    self.head
                ));
            }
        }
        Ok(())
    }

    fn note_grants(&mut self, records: &[Record]) {
        for record in records {
            let Operation::Grant { lease, ttl } = record.operation else {
                continue;
            };
            let standing = match record.outcome {
                Outcome::Unknown => Standing::Open,
                _ => Standing::Alive,
            };
            let ttl = Duration::from_secs(u64::try_from(ttl).expect("times to live are positive"));
            let granted = record.sent;
            self.leases.insert(
                lease,
                Lease {
                    ttl,
                    granted,
                    standing,
                },
            );
        }
    }

    fn note_revokes(&mut self, records: &[Record]) -> Result<(), String> {
        for record in records {
            let Operation::Revoke { lease } = record.operation else {
                continue;
            };
            let standing = match record.outcome {
                Outcome::Unknown => Standing::Open,
                _ => Standing::Ended,
            };
            if standing == Standing::Ended && !self.keys_of(lease).is_empty() {
                return Err(format!("lease {lease} was revoked and its keys are there"));
            }
            if let Some(known) = self.leases.get_mut(&lease) {
                known.standing = standing;
            }
        }
        Ok(())
    }

    /// Compares the leases with what `LeaseLeases` listed, and closes what was open about them.
    ///
    /// # Errors
    /// The first lease that is there and should not be, or the other way round.
    pub fn compare_leases(&mut self, listed: &BTreeSet<i64>) -> Result<(), String> {
        if let Some(lease) = listed.iter().find(|lease| !self.leases.contains_key(lease)) {
            return Err(format!("lease {lease} is listed and nobody was granted it"));
        }
        for (id, lease) in &mut self.leases {
            let may_have_expired = lease.ttl < SHORT_TTL && lease.granted.elapsed() >= lease.ttl;
            match (lease.standing, listed.contains(id)) {
                (Standing::Alive, false) if !may_have_expired => {
                    return Err(format!("lease {id} was granted and is gone"));
                }
                (Standing::Ended, true) => {
                    return Err(format!("lease {id} was revoked and is there"));
                }
                (Standing::Open, true) => lease.standing = Standing::Alive,
                _ => {}
            }
        }
        // The keys of an expired lease may still be in the part of the history that was read.
        let held: BTreeSet<i64> = self.keys.values().map(|version| version.lease).collect();
        self.leases
            .retain(|id, _| listed.contains(id) || held.contains(id));
        Ok(())
    }

    /// The leases that will not expire by themselves.
    pub fn long_leases(&self) -> Vec<i64> {
        let long = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.ttl >= SHORT_TTL);
        long.map(|(id, _)| *id).collect()
    }

    /// How many leases will expire by themselves.
    pub fn short_leases(&self) -> usize {
        self.leases.len() - self.long_leases().len()
    }
}

/// Whether an answer shows a key as the store holds it.
fn shows(seen: &Seen, held: Option<&Version>) -> bool {
    match (seen, held) {
        (None, None) => true,
        (Some((modified, value)), Some(held)) => (*modified, value) == (held.modified, &held.value),
        _ => false,
    }
}
