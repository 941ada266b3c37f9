//! The clients' records of one round, indexed by how a revision may be found to be theirs.

use std::collections::{BTreeMap, HashMap};

use super::{Version, shows};
use crate::audit::operation::{Change, Operation, Outcome, Record, Seen};

/// A key as somebody was shown it.
struct Observation<'a> {
    revision: i64,
    key: &'a str,
    seen: &'a Seen,
    record: &'a Record,
}

/// What is still to be found in the history, or may be.
pub(super) struct Claims<'a> {
    acknowledged: BTreeMap<i64, &'a Record>,
    /// Puts and swaps without an answer, by their value.
    writes: HashMap<&'a str, &'a Record>,
    /// Deletes without an answer, by key.
    deletes: HashMap<&'a str, Vec<&'a Record>>,
    /// Revokes: their answer does not tell whether a revision is theirs.
    revokes: Vec<(i64, &'a Record)>,
    /// The latest first.
    observations: Vec<Observation<'a>>,
    open: u64,
}

impl<'a> Claims<'a> {
    /// Indexes the records of a round that began at revision `start`.
    pub(super) fn of(records: &'a [Record], start: i64) -> Result<Self, String> {
        let mut claims = Self {
            acknowledged: BTreeMap::new(),
            writes: HashMap::new(),
            deletes: HashMap::new(),
            revokes: Vec::new(),
            observations: Vec::new(),
            open: 0,
        };
        for record in records {
            match &record.outcome {
                Outcome::Changed(revision) => claims.note_change(record, *revision, start)?,
                Outcome::Observed(revision, seen) => {
                    claims.note_observation(record, *revision, seen)?;
                }
                Outcome::Done => claims.note_revoke(record),
                Outcome::Unknown => claims.note_unknown(record),
            }
        }
        claims
            .observations
            .sort_by_key(|observation| -observation.revision);
        Ok(claims)
    }

    fn note_change(&mut self, record: &'a Record, revision: i64, start: i64) -> Result<(), String> {
        if revision <= start {
            return Err(format!(
                "revision {revision} was acknowledged for {record:?}, but it had been used before \
                 the restart, when the store was at {start}"
            ));
        }
        match self.acknowledged.insert(revision, record) {
            None => Ok(()),
            Some(other) => Err(format!(
                "revision {revision} was acknowledged twice: for {other:?} and for {record:?}"
            )),
        }
    }

    fn note_observation(
        &mut self,
        record: &'a Record,
        revision: i64,
        seen: &'a Seen,
    ) -> Result<(), String> {
        if revision < record.floor {
            return Err(format!(
                "a stale answer: {record:?} was sent when revision {} had been acknowledged",
                record.floor
            ));
        }
        let key = match &record.operation {
            Operation::Swap { guard, .. } => guard,
            Operation::Get { key } | Operation::Delete { key } => key,
            other => return Err(format!("{other:?} shows no key")),
        };
        self.observations.push(Observation {
            revision,
            key,
            seen,
            record,
        });
        Ok(())
    }

    fn note_revoke(&mut self, record: &'a Record) {
        if let Operation::Revoke { lease } = record.operation {
            self.revokes.push((lease, record));
        }
    }

    fn note_unknown(&mut self, record: &'a Record) {
        match &record.operation {
            Operation::Put { value, .. } | Operation::Swap { value, .. } => {
                self.writes.insert(value, record);
                self.open += 1;
            }
            Operation::Delete { key } => {
                self.deletes.entry(key).or_default().push(record);
                self.open += 1;
            }
            Operation::Revoke { lease } => {
                self.revokes.push((*lease, record));
                self.open += 1;
            }
            Operation::Grant { .. } | Operation::Get { .. } => {}
        }
    }

    /// Takes the operation that was told this revision.
    pub(super) fn acknowledged(&mut self, revision: i64) -> Option<&'a Record> {
        self.acknowledged.remove(&revision)
    }

    /// Takes an operation without an answer that these changes can be of.
    pub(super) fn unknown(
        &mut self,
        revision: i64,
        changes: &[&Change],
        keys_of: impl Fn(i64) -> Vec<String>,
    ) -> Option<&'a Record> {
        let found = match changes.first()? {
            Change::Put { value, .. } => self.writes.remove(value.as_str()),
            Change::Delete { key } => match self.take_delete(revision, key) {
                Some(record) => Some(record),
                None => self.take_revoke(changes, keys_of),
            },
        }?;
        self.open -= u64::from(matches!(found.outcome, Outcome::Unknown));
        Some(found)
    }

    /// One that was sent in time: a lease that ended deletes keys too, and says as little whose work
    /// that is.
    fn take_delete(&mut self, revision: i64, key: &str) -> Option<&'a Record> {
        let deletes = self.deletes.get_mut(key)?;
        let place = deletes.iter().rposition(|record| record.floor < revision)?;
        Some(deletes.remove(place))
    }

    fn take_revoke(
        &mut self,
        changes: &[&Change],
        keys_of: impl Fn(i64) -> Vec<String>,
    ) -> Option<&'a Record> {
        let deleted: Vec<&str> = changes.iter().map(|change| change.key()).collect();
        let position = self
            .revokes
            .iter()
            .position(|(lease, _)| keys_of(*lease) == deleted)?;
        Some(self.revokes.swap_remove(position).1)
    }

    /// Checks what was shown at `revision` against the keys as they are now.
    pub(super) fn check_observations(
        &mut self,
        revision: i64,
        keys: &BTreeMap<String, Version>,
    ) -> Result<(), String> {
        while let Some(last) = self.observations.pop_if(|last| last.revision <= revision) {
            let held = keys.get(last.key);
            if last.revision < revision || !shows(last.seen, held) {
                return Err(format!(
                    "{:?} was shown {:?} at revision {}; the history says {held:?} at {revision}",
                    last.record.operation, last.seen, last.revision
                ));
            }
            must_have_done_nothing(last.record, held)?;
        }
        Ok(())
    }

    /// After the last revision: everything that was acknowledged has been found. Returns how many
    /// operations without an answer did not happen.
    pub(super) fn nothing_is_missing(&self, head: i64) -> Result<u64, String> {
        if let Some((revision, record)) = self.acknowledged.first_key_value() {
            return Err(format!(
                "{} acknowledged writes are lost, the first at revision {revision}: {record:?}; \
                 the store is at revision {head}",
                self.acknowledged.len()
            ));
        }
        match self.observations.first() {
            None => Ok(self.open),
            Some(last) => Err(format!(
                "{:?} was told revision {}, and the store is at revision {head}",
                last.record, last.revision
            )),
        }
    }
}

/// An operation that says it changed nothing must have had a reason.
fn must_have_done_nothing(record: &Record, held: Option<&Version>) -> Result<(), String> {
    let wrong = match &record.operation {
        Operation::Swap { expected, .. } => held.map_or(0, |version| version.modified) == *expected,
        Operation::Delete { .. } => held.is_some(),
        _ => false,
    };
    match wrong {
        true => Err(format!(
            "{record:?} changed nothing, but the key was {held:?}"
        )),
        false => Ok(()),
    }
}
