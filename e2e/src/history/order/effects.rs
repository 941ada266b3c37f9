//! What each action does to the store, and what it sees of it.

use super::super::observer::Event;
use super::super::timeline::{State, Timeline};
use super::super::{Action, Answer};

/// Whether an answered operation changed something.
pub fn changed(action: &Action, answer: &Answer, before: &State, timeline: &Timeline) -> bool {
    match action {
        Action::Put { .. } => true,
        Action::Swap { .. } => answer.succeeded,
        Action::Delete { .. } => answer.deleted > 0,
        Action::Revoke { .. } => made(action, timeline.at(answer.revision), before),
        _ => false,
    }
}

/// Whether `events` are what the action does to the store as it was `before`.
pub fn made(action: &Action, events: &[Event], before: &State) -> bool {
    let is_put = |event: &Event, key: &str, value: &str, lease: i64| {
        !event.is_delete
            && (
                event.kv.key.as_str(),
                event.kv.value.as_str(),
                event.kv.lease,
            ) == (key, value, lease)
    };
    match (action, events) {
        (Action::Put { key, value, lease }, [event]) => is_put(event, key, value, *lease),
        (
            Action::Swap {
                key,
                expected,
                value,
                other,
            },
            [first, rest @ ..],
        ) => {
            let condition = before.get(key).map_or(0, |kv| kv.modified) == *expected;
            let second = match (other, rest) {
                (None, []) => true,
                (Some(other), [second]) => is_put(second, other, value, 0),
                _ => false,
            };
            condition && is_put(first, key, value, 0) && second
        }
        (Action::Delete { key }, [event]) => event.is_delete && event.kv.key == *key,
        (Action::Revoke { lease }, events) => {
            let hung = before.values().filter(|kv| kv.lease == *lease);
            let due: Vec<&str> = hung.map(|kv| kv.key.as_str()).collect();
            let mut gone: Vec<&str> = events.iter().map(|event| event.kv.key.as_str()).collect();
            gone.sort_unstable();
            !due.is_empty() && gone == due && events.iter().all(|event| event.is_delete)
        }
        _ => false,
    }
}

/// Whether an operation that changed nothing saw the store as it was.
///
/// # Errors
/// What it should have seen, as a sentence.
pub fn saw_right(action: &Action, answer: &Answer, state: &State) -> Result<(), String> {
    let seen = |key: &str| state.get(key).cloned();
    let due = match action {
        Action::Get { key } | Action::Peek { key } => seen(key).into_iter().collect(),
        Action::List { from, to } => {
            let range = state.range::<String, _>(from..to);
            range.map(|(_, kv)| kv.clone()).collect()
        }
        Action::Swap { key, expected, .. } => {
            if seen(key).map_or(0, |kv| kv.modified) == *expected {
                return Err("its condition held".to_owned());
            }
            seen(key).into_iter().collect()
        }
        Action::Delete { key } if seen(key).is_some() => {
            return Err("the key was there".to_owned());
        }
        Action::Revoke { lease } if state.values().any(|kv| kv.lease == *lease) => {
            return Err("keys stayed with the revoked lease".to_owned());
        }
        _ => Vec::new(),
    };
    match answer.kvs == due {
        true => Ok(()),
        false => Err(format!("due was {due:?}")),
    }
}
