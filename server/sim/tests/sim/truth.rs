//! What came to be: every change that some member has applied, and when it was first seen.

use std::collections::BTreeMap;

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value; none where it was deleted.
    pub value: Option<String>,
    /// The lease that it hangs on from then on; 0 is none.
    pub lease: i64,
}

/// What one revision changed.
#[derive(Clone, Debug)]
pub struct Revised {
    /// In order.
    pub changes: Vec<Change>,
    /// When a member was first seen to have it.
    pub seen_ns: u64,
}

/// A key as it is at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its value.
    pub value: String,
    /// When it was put.
    pub revision: i64,
    /// The lease it hangs on.
    pub lease: i64,
}

/// What a member's store holds from a revision on.
#[derive(Debug)]
pub struct Held {
    /// Revision, place in it, change: ascending.
    pub changes: Vec<(i64, usize, Change)>,
    /// From which revision on.
    pub from: i64,
    /// The store's revision.
    pub upto: i64,
    /// What it is compacted at; 0 or less where it is not.
    pub compacted: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    revisions: BTreeMap<i64, Revised>,
    keys: BTreeMap<String, BTreeMap<i64, Option<Found>>>,
    values: BTreeMap<String, i64>,
}

impl Truth {
    /// The last revision.
    pub fn last(&self) -> i64 {
        self.revisions.keys().next_back().copied().unwrap_or(1)
    }

    /// All of it.
    pub fn revisions(&self) -> impl Iterator<Item = (i64, &Revised)> {
        self.revisions
            .iter()
            .map(|(revision, all)| (*revision, all))
    }

    /// What a revision changed.
    pub fn revised(&self, revision: i64) -> Option<&Revised> {
        self.revisions.get(&revision)
    }

    /// The revision that put a value.
    pub fn made(&self, value: &str) -> Option<i64> {
        self.values.get(value).copied()
    }

    /// A key at a revision.
    pub fn at(&self, key: &str, revision: i64) -> Option<&Found> {
        let (_, found) = self.keys.get(key)?.range(..=revision).next_back()?;
        found.as_ref()
    }

    /// Holds what a member has against what others had, and learns what is new.
    ///
    /// # Errors
    /// It has something else, or lacks something.
    pub fn meet(&mut self, held: &Held, now_ns: u64) -> Result<(), String> {
        let known = self.last();
        for (revision, place, change) in &held.changes {
            if *revision <= known {
                self.is_same(*revision, *place, change)?;
            } else {
                self.learn(*revision, *place, change, now_ns)?;
            }
        }
        if held.upto > self.last() {
            let last = self.last();
            return Err(format!(
                "revision {} came to be without a change; the last is {last}",
                held.upto
            ));
        }
        self.lacks_nothing(held)
    }

    fn is_same(&self, revision: i64, place: usize, change: &Change) -> Result<(), String> {
        let known = self.revisions.get(&revision);
        let known = known.and_then(|revised| revised.changes.get(place));
        match known == Some(change) {
            true => Ok(()),
            false => Err(format!(
                "revision {revision} is {change:?}, elsewhere it was {known:?}"
            )),
        }
    }

    fn learn(
        &mut self,
        revision: i64,
        place: usize,
        change: &Change,
        now_ns: u64,
    ) -> Result<(), String> {
        let last = self.last();
        let is_next = if place == 0 {
            revision == last + 1
        } else {
            revision == last
        };
        if !is_next {
            return Err(format!("revision {revision} follows {last}"));
        }
        if let Some(value) = &change.value
            && let Some(before) = self.values.insert(value.clone(), revision)
            && before != revision
        {
            return Err(format!(
                "{value} was put twice, at {before} and at {revision}"
            ));
        }
        let found = change.value.as_ref().map(|value| Found {
            value: value.clone(),
            revision,
            lease: change.lease,
        });
        self.keys
            .entry(change.key.clone())
            .or_default()
            .insert(revision, found);
        let revised = self.revisions.entry(revision).or_insert(Revised {
            changes: Vec::new(),
            seen_ns: now_ns,
        });
        if revised.changes.len() != place {
            return Err(format!(
                "revision {revision} has no change {}",
                revised.changes.len()
            ));
        }
        revised.changes.push(change.clone());
        Ok(())
    }

    /// A member has every change that a compaction may not have taken.
    fn lacks_nothing(&self, held: &Held) -> Result<(), String> {
        let mut held_changes = held
            .changes
            .iter()
            .map(|(revision, place, _)| (*revision, *place))
            .peekable();
        for (revision, revised) in self.revisions.range(held.from..=held.upto) {
            for (place, change) in revised.changes.iter().enumerate() {
                if held_changes.next_if_eq(&(*revision, place)).is_some() {
                    continue;
                }
                if *revision > held.compacted || self.is_kept(*revision, change, held.compacted) {
                    return Err(format!("revision {revision} lacks {change:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a compaction keeps a change: it is what its key was then.
    fn is_kept(&self, revision: i64, change: &Change, compacted: i64) -> bool {
        self.at(&change.key, compacted)
            .is_some_and(|found| found.revision == revision)
    }
}
