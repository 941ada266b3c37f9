//! What members' logs hold, held against what was applied: an index has one term wherever it is applied, what is
//! applied anywhere is durable at a quorum, and each log is cut below what its store keeps, and goes on as far as
//! was applied.

use std::collections::BTreeMap;

use crate::member::Shown;

/// See the module.
#[derive(Debug)]
pub struct Logs {
    /// How many have a vote; none where that changes.
    voters: Option<usize>,
    /// The last entry that a crash would leave, by place.
    durable: Vec<u64>,
    /// The greatest index that anybody has applied.
    applied: u64,
    /// Of applied entries.
    terms: BTreeMap<u64, u64>,
}

impl Logs {
    /// The logs of so many members with a vote, if that stays so.
    pub fn of(voters: Option<usize>) -> Logs {
        Logs {
            voters,
            durable: vec![0; voters.unwrap_or(0)],
            applied: 0,
            terms: BTreeMap::new(),
        }
    }

    /// Takes note of how far a member's log is durable: before anybody is looked at who may have heard of it.
    pub fn note(&mut self, place: usize, shown: &Shown) {
        if let Some(durable) = self.durable.get_mut(place) {
            *durable = shown.durable;
        }
    }

    /// A member runs, and does not show itself yet: its log goes on all the same.
    pub fn lose_sight(&mut self, place: usize) {
        if let Some(durable) = self.durable.get_mut(place) {
            *durable = u64::MAX;
        }
    }

    /// How far was applied of the terms before one, as far as members were looked at: what its leader has to have.
    pub fn applied_before(&self, term: u64) -> u64 {
        let mut applied = self.terms.iter().rev();
        let before = applied.find(|(_, of)| **of < term);
        before.map_or(0, |(index, _)| *index)
    }

    /// Looks at a member.
    ///
    /// # Errors
    /// Its log does not hold what it must.
    pub fn look(&mut self, place: usize, shown: &Shown) -> Result<(), String> {
        let Shown {
            purged,
            applied,
            applied_term,
            durable,
            last,
            ..
        } = *shown;
        if purged > applied || applied > durable || durable > last {
            return Err(format!(
                "m{place} has purged up to {purged}, applied {applied}, has {durable} durable and {last} in its log"
            ));
        }
        if let Some(term) = applied_term {
            let first = *self.terms.entry(applied).or_insert(term);
            if first != term {
                return Err(format!(
                    "m{place} has applied {applied} of term {term}, elsewhere it was of {first}"
                ));
            }
        }
        if applied <= self.applied {
            return Ok(());
        }
        self.applied = applied;
        let Some(voters) = self.voters else {
            return Ok(());
        };
        let have = self.durable.iter().filter(|durable| **durable >= applied);
        match have.count() > voters / 2 {
            true => Ok(()),
            false => Err(format!(
                "m{place} has applied {applied}, which no quorum has durably: {:?}",
                self.durable
            )),
        }
    }
}
