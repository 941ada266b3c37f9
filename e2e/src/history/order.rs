//! Strict serializability: every answer fits the one order of all writes, and that order fits time.
//!
//! A write stands at its revision. A read, or a write that changed nothing, stands between the
//! revision of its answer and the next one, and must have seen the store as it was there. So every
//! answered operation has a place, `2 × revision` or one more; what is left to check is that nothing
//! that returned before another was called stands behind it.

mod effects;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::observer::Event;
use super::timeline::{State, Timeline, apply};
use super::{Action, Answer, Operation, Outcome};
use effects::{changed, made, saw_right};

/// A place in the order of all operations: twice the revision for a write, one more for what saw the
/// store after it.
type Place = i64;

/// What the check found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Operations with an answer.
    pub answered: usize,
    /// Writes without one that had happened: their places in the history, and their revisions.
    pub happened: BTreeMap<usize, i64>,
    /// Writes without one that had not.
    pub lost: usize,
}

/// Checks a history against the order of all writes.
///
/// # Errors
/// The first operation that no correct server could have answered so, or the first write that
/// nobody asked for, as a sentence.
pub fn check(timeline: &Timeline, history: &[Operation]) -> Result<Summary, String> {
    let mut books = Books::open(timeline, history);
    books.answers_fit()?;
    books.open_writes_fit()?;
    books.open_deletes_fit()?;
    books.nothing_is_left_over()?;
    Ok(books.summary)
}

struct Books<'a> {
    timeline: &'a Timeline,
    history: &'a [Operation],
    /// Which operation made each revision.
    makers: BTreeMap<i64, usize>,
    /// For each operation the highest place of all that returned before it was called.
    floors: Vec<Place>,
    summary: Summary,
}

impl<'a> Books<'a> {
    fn open(timeline: &'a Timeline, history: &'a [Operation]) -> Self {
        Self {
            timeline,
            history,
            makers: BTreeMap::new(),
            floors: floors(history),
            summary: Summary::default(),
        }
    }

    /// Every answer is what the store had to answer at its place.
    fn answers_fit(&mut self) -> Result<(), String> {
        let mut by_revision: BTreeMap<i64, Vec<(usize, &Answer)>> = BTreeMap::new();
        for (index, operation) in self.history.iter().enumerate() {
            if let Some(answer) = operation.answer() {
                by_revision
                    .entry(answer.revision)
                    .or_default()
                    .push((index, answer));
                self.summary.answered += 1;
            }
        }
        let mut state = State::new();
        for revision in 1..=self.timeline.last() {
            let events = self.timeline.at(revision);
            let mut after = state.clone();
            apply(&mut after, events);
            for (index, answer) in by_revision.remove(&revision).unwrap_or_default() {
                self.answer_fits(index, answer, &state, &after)?;
            }
            state = after;
        }
        match by_revision.pop_first() {
            Some((revision, answers)) => Err(self.wrong(
                answers[0].0,
                &format!(
                    "revision {revision} never was: the last is {}",
                    self.timeline.last()
                ),
            )),
            None => Ok(()),
        }
    }

    fn answer_fits(
        &mut self,
        index: usize,
        answer: &Answer,
        before: &State,
        after: &State,
    ) -> Result<(), String> {
        let operation = &self.history[index];
        let is_write = changed(&operation.action, answer, before, self.timeline);
        if is_write {
            self.claim(index, answer.revision, before)?;
        } else {
            saw_right(&operation.action, answer, after).map_err(|why| self.wrong(index, &why))?;
        }
        if matches!(operation.action, Action::Peek { .. }) {
            return Ok(()); // it may be of the past
        }
        let place = answer.revision * 2 + i64::from(!is_write);
        match place < self.floors[index] {
            true => Err(self.wrong(
                index,
                &format!(
                    "it stands at revision {}, but before it was asked somebody had been told of \
                     revision {}",
                    answer.revision,
                    self.floors[index] / 2
                ),
            )),
            false => Ok(()),
        }
    }

    /// Notes that an operation made a revision, which must have just its events.
    fn claim(&mut self, index: usize, revision: i64, before: &State) -> Result<(), String> {
        let events = self.timeline.at(revision);
        if !made(&self.history[index].action, events, before) {
            return Err(self.wrong(
                index,
                &format!("at revision {revision} happened {events:?}"),
            ));
        }
        match self.makers.insert(revision, index) {
            Some(other) => Err(self.wrong(
                index,
                &format!(
                    "revision {revision} was made by {:?} too",
                    self.history[other]
                ),
            )),
            None => Ok(()),
        }
    }

    /// A write without an answer that had happened was asked for before; a refused one had not
    /// happened.
    fn open_writes_fit(&mut self) -> Result<(), String> {
        let mut revision_of: BTreeMap<&str, i64> = BTreeMap::new();
        for event in self.timeline.between(2, self.timeline.last()) {
            if !event.is_delete {
                revision_of.insert(&event.kv.value, event.revision);
            }
        }
        for (index, operation) in self.history.iter().enumerate() {
            let Some(value) = operation.action.value() else {
                continue;
            };
            if let Outcome::Refused(why) = &operation.outcome
                && why.contains("lease not found")
            {
                return Err(self.wrong(index, "its lease was granted, and never revoked"));
            }
            match (&operation.outcome, revision_of.get(value)) {
                (Outcome::Refused(_), Some(revision)) => {
                    let why = format!("it was refused and yet happened at revision {revision}");
                    return Err(self.wrong(index, &why));
                }
                (Outcome::Unknown(_), Some(revision)) => self.open_write_fits(index, *revision)?,
                (Outcome::Unknown(_), None) => self.summary.lost += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn open_write_fits(&mut self, index: usize, revision: i64) -> Result<(), String> {
        self.summary.happened.insert(index, revision);
        if revision * 2 < self.floors[index] {
            let why = format!("it happened at revision {revision}, before it was asked");
            return Err(self.wrong(index, &why));
        }
        let mut before = State::new();
        // Only a swap's condition needs the state, and what it needs is in the events of one key.
        if let Action::Swap { key, .. } = &self.history[index].action {
            let earlier = self.timeline.between(2, revision - 1);
            let of_key: Vec<Event> = earlier
                .filter(|event| event.kv.key == *key)
                .cloned()
                .collect();
            apply(&mut before, &of_key);
        }
        self.claim(index, revision, &before)
    }

    /// Deletes have no value that names them: every deletion that nobody was told of needs an open
    /// delete (or revoke) that was asked for before it, each of them once.
    fn open_deletes_fit(&mut self) -> Result<(), String> {
        let mut open: Vec<usize> = (0..self.history.len())
            .filter(|index| self.history[*index].is_open())
            .filter(|index| self.history[*index].action.value().is_none())
            .collect();
        open.sort_by_key(|index| self.floors[*index]);
        let mut claims = Vec::new();
        let (makers, history, floors) = (&self.makers, self.history, &self.floors);
        self.timeline.replay(|revision, before, events| {
            if makers.contains_key(&revision) || events.is_empty() {
                return;
            }
            let fits = |index: &usize| {
                floors[*index] <= revision * 2 && made(&history[*index].action, events, before)
            };
            if let Some(position) = open.iter().position(fits) {
                claims.push((revision, open.remove(position)));
            }
        });
        let settled = claims.iter().map(|(revision, index)| (*index, *revision));
        self.summary.happened.extend(settled);
        self.summary.lost += open.len();
        self.makers.extend(claims);
        Ok(())
    }

    fn nothing_is_left_over(&self) -> Result<(), String> {
        let mut revisions = 2..=self.timeline.last();
        match revisions.find(|revision| !self.makers.contains_key(revision)) {
            Some(revision) => Err(format!(
                "nobody asked for what happened at revision {revision}: {:?}",
                self.timeline.at(revision)
            )),
            None => Ok(()),
        }
    }

    fn wrong(&self, index: usize, why: &str) -> String {
        format!("{:?} cannot be: {why}", self.history[index])
    }
}

/// Where an answered operation stands, for what comes after it. Of a revoke it is not known yet
/// whether it made its revision, so it counts as the write; a peek binds nobody.
fn place(operation: &Operation) -> Option<Place> {
    let answer = operation.answer()?;
    let is_write = match &operation.action {
        Action::Peek { .. } => return None,
        Action::Put { .. } | Action::Revoke { .. } => true,
        Action::Swap { .. } => answer.succeeded,
        Action::Delete { .. } => answer.deleted > 0,
        _ => false,
    };
    Some(answer.revision * 2 + i64::from(!is_write))
}

/// For each operation the highest place of all that returned before it was called.
fn floors(history: &[Operation]) -> Vec<Place> {
    let placed = history
        .iter()
        .filter_map(|operation| Some((operation.back, place(operation)?)));
    let mut returned: Vec<(u64, Place)> = placed.collect();
    returned.sort_unstable();
    let mut order: Vec<usize> = (0..history.len()).collect();
    order.sort_by_key(|index| history[*index].call);
    let mut floors = vec![0; history.len()];
    let mut floor = 0;
    let mut next = returned.into_iter().peekable();
    for index in order {
        while let Some((_, place)) = next.next_if(|(back, _)| *back < history[index].call) {
            floor = floor.max(place);
        }
        floors[index] = floor;
    }
    floors
}
