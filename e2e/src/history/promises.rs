//! What etcd promises of watches, held against the order of all writes.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::Kv;
use super::observer::{Event, Watch};
use super::timeline::{State, Timeline, apply};

/// Checks every watch. What was compacted up to `compacted` may lack the state before an event.
///
/// # Errors
/// The first promise that was broken, with its name, the watch and what was due.
pub fn check(timeline: &Timeline, watches: &[Watch], compacted: i64) -> Result<(), String> {
    for watch in watches {
        let broken = |sentence: String| {
            format!(
                "watcher {} at the member at place {} (key {:?}, from revision {}): {sentence}",
                watch.watcher, watch.member, watch.key, watch.start
            )
        };
        ordered_unique_atomic(watch).map_err(broken)?;
        bookmarkable(watch).map_err(broken)?;
        reliable_and_resumable(timeline, watch).map_err(broken)?;
    }
    states_before(timeline, watches, compacted)
}

/// Ordered: revisions never go back. Unique: no event comes twice. Atomic: a revision comes whole,
/// in one message.
fn ordered_unique_atomic(watch: &Watch) -> Result<(), String> {
    let mut last = watch.start - 1;
    for message in watch
        .messages
        .iter()
        .filter(|message| !message.is_progress())
    {
        let revisions: Vec<i64> = message.events.iter().map(|event| event.revision).collect();
        let first = revisions[0];
        if first <= last {
            return Err(format!(
                "not ordered, unique and atomic: revision {first} came after {last}"
            ));
        }
        if !revisions.is_sorted() {
            return Err(format!(
                "not ordered: one message held revisions {revisions:?}"
            ));
        }
        last = revisions[revisions.len() - 1];
    }
    Ok(())
}

/// Bookmarkable: after a notification of progress no event up to its revision comes.
fn bookmarkable(watch: &Watch) -> Result<(), String> {
    let mut bookmark = 0;
    let mut last = 0;
    for message in &watch.messages {
        if let Some(event) = message
            .events
            .iter()
            .find(|event| event.revision <= bookmark)
        {
            return Err(format!(
                "not bookmarkable: {event:?} came after progress {bookmark}"
            ));
        }
        last = message.events.last().map_or(last, |event| event.revision);
        if message.is_progress() {
            if message.revision < bookmark.max(last) {
                return Err(format!(
                    "not bookmarkable: progress {} came after {}",
                    message.revision,
                    bookmark.max(last)
                ));
            }
            bookmark = message.revision;
        }
    }
    Ok(())
}

/// Reliable and resumable: from the first revision asked for to the last one told (by an event or
/// by progress), every event of the watched keys came, and none that did not happen.
fn reliable_and_resumable(timeline: &Timeline, watch: &Watch) -> Result<(), String> {
    let told = |message: &super::observer::Message| match message.events.last() {
        Some(event) => event.revision,
        None => message.revision,
    };
    let reached = watch.messages.iter().map(told).max().unwrap_or(0);
    let is_watched = |event: &&Event| watch.key.as_ref().is_none_or(|key| *key == event.kv.key);
    let mut due = timeline.between(watch.start, reached).filter(is_watched);
    for event in watch.messages.iter().flat_map(|message| &message.events) {
        let expected = due.next();
        let is_it = expected.is_some_and(|expected| is_same(expected, event));
        if !is_it {
            return Err(format!(
                "not reliable and resumable: {event:?} came where {expected:?} was due"
            ));
        }
    }
    match due.next() {
        Some(missed) => Err(format!(
            "not reliable: {missed:?} did not come, though progress reached {reached}"
        )),
        None => Ok(()),
    }
}

fn is_same(one: &Event, other: &Event) -> bool {
    (one.revision, one.is_delete, &one.kv) == (other.revision, other.is_delete, &other.kv)
}

/// The state before each event is the true one; and the events' counters follow from it.
fn states_before(timeline: &Timeline, watches: &[Watch], compacted: i64) -> Result<(), String> {
    let mut told: BTreeMap<(i64, &str), Vec<&Event>> = BTreeMap::new();
    for event in watches
        .iter()
        .flat_map(|watch| &watch.messages)
        .flat_map(|message| &message.events)
    {
        told.entry((event.revision, &event.kv.key))
            .or_default()
            .push(event);
    }
    let mut broken = Ok(());
    timeline.replay(|revision, before, events| {
        let mut state = before.clone();
        for event in events {
            let told = &told[&(revision, event.kv.key.as_str())];
            let wrong = told
                .iter()
                .find_map(|event| wrong_in(event, &state, compacted));
            if let (Ok(()), Some(wrong)) = (&broken, wrong) {
                broken = Err(wrong);
            }
            apply(&mut state, std::slice::from_ref(event));
        }
    });
    broken
}

fn wrong_in(event: &Event, state: &State, compacted: i64) -> Option<String> {
    let before = state.get(&event.kv.key);
    let may_lack = before.is_none_or(|kv| kv.modified <= compacted);
    if event.before.as_ref() != before && !(event.before.is_none() && may_lack) {
        return Some(format!(
            "{event:?} has a wrong state before it: it was {before:?}"
        ));
    }
    let due = match before {
        Some(before) => (before.created, before.version + 1),
        None => (event.revision, 1),
    };
    let Kv {
        created, version, ..
    } = event.kv;
    let wrong = !event.is_delete && (created, version) != due;
    wrong.then(|| format!("{event:?} has wrong counters: due were {due:?}"))
}
