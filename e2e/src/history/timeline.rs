//! The one order of all writes, as the members' watches tell it.

use std::collections::BTreeMap;

use super::Kv;
use super::observer::{Event, Watch};

/// All events, by revision.
#[derive(Debug, Default)]
pub struct Timeline {
    events: BTreeMap<i64, Vec<Event>>,
}

/// The store at one revision.
pub type State = BTreeMap<String, Kv>;

impl Timeline {
    /// Merges what the watches of every key saw. They are to have seen everything up to `last`, and
    /// may have seen more: a write whose client gave up can happen after the last read.
    ///
    /// # Errors
    /// Two watches that saw different events of one revision; a revision that nobody saw.
    pub fn merge(watches: &[Watch], last: i64) -> Result<Self, String> {
        let mut timeline = Self::default();
        for watch in watches.iter().filter(|watch| watch.key.is_none()) {
            for (revision, events) in by_revision(watch) {
                timeline.add(watch, revision, events)?;
            }
        }
        let told: Vec<i64> = timeline.events.keys().copied().collect();
        let end = last.max(told.last().copied().unwrap_or(last));
        let due: Vec<i64> = (2..=end).collect();
        match told.iter().zip(&due).find(|(told, due)| told != due) {
            Some((told, due)) => Err(format!(
                "revision {due} has no event at any member; the next one is of {told}"
            )),
            None if told.len() != due.len() => Err(format!(
                "the events end at {:?}, a read was of revision {last}",
                told.last()
            )),
            None => Ok(timeline),
        }
    }

    fn add(&mut self, watch: &Watch, revision: i64, events: Vec<Event>) -> Result<(), String> {
        let known = self
            .events
            .entry(revision)
            .or_insert_with(|| events.clone());
        // The state before may have been compacted where one member looked it up; the rest is one.
        let bare = |events: &[Event]| -> Vec<Event> {
            let events = events.iter().cloned();
            events
                .map(|event| Event {
                    before: None,
                    ..event
                })
                .collect()
        };
        if bare(known) != bare(&events) {
            return Err(format!(
                "members disagree on revision {revision}: the one at place {} says {events:?}, \
                 another said {known:?}",
                watch.member
            ));
        }
        Ok(())
    }

    /// The events of a revision.
    pub fn at(&self, revision: i64) -> &[Event] {
        self.events.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// All events of revisions in a range, in order.
    pub fn between(&self, first: i64, last: i64) -> impl Iterator<Item = &Event> {
        let last = last.max(first - 1);
        let range = self
            .events
            .iter()
            .filter(move |(at, _)| (first..=last).contains(*at));
        range.flat_map(|(_, events)| events)
    }

    /// The last revision.
    pub fn last(&self) -> i64 {
        self.events.keys().next_back().copied().unwrap_or(1)
    }

    /// Every revision with the store as it was before and with its events.
    pub fn replay(&self, mut look: impl FnMut(i64, &State, &[Event])) {
        let mut state = State::new();
        for (revision, events) in &self.events {
            look(*revision, &state, events);
            apply(&mut state, events);
        }
        look(self.last() + 1, &state, &[]);
    }
}

/// Has events happen to the store.
pub fn apply(state: &mut State, events: &[Event]) {
    for event in events {
        match event.is_delete {
            true => drop(state.remove(&event.kv.key)),
            false => drop(state.insert(event.kv.key.clone(), event.kv.clone())),
        }
    }
}

fn by_revision(watch: &Watch) -> BTreeMap<i64, Vec<Event>> {
    let mut by_revision: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    for event in watch.messages.iter().flat_map(|message| &message.events) {
        by_revision
            .entry(event.revision)
            .or_default()
            .push(event.clone());
    }
    by_revision
}
