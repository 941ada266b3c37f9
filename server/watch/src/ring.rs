//! The most recent events, in order, within a budget of bytes: what lagging watchers read instead
//! of storage.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Published;
use crate::types::Revision;

/// Recent events. Every event at or above [`Ring::from`] is in it.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Published>>,
    bytes: usize,
    bytes_max: usize,
    from: Revision,
}

impl Ring {
    /// An empty ring that will hold what happens from `from` on.
    pub fn new(from: Revision, bytes_max: usize) -> Ring {
        Ring {
            events: VecDeque::new(),
            bytes: 0,
            bytes_max,
            from,
        }
    }

    /// The lowest revision from which on nothing is missing.
    pub fn from(&self) -> Revision {
        self.from
    }

    /// The memory it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an event. Events come in ascending order.
    pub fn push(&mut self, event: Arc<Published>) {
        assert!(
            self.events.back().is_none_or(|last| last.pair < event.pair),
            "events are published in order"
        );
        self.bytes += event.memory_bytes();
        self.events.push_back(event);
    }

    /// Drops the oldest revisions, whole, until the budget holds. What is dropped goes to
    /// `dropped`, so that it is freed outside of any lock.
    pub fn shrink(&mut self, dropped: &mut Vec<Arc<Published>>) {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.events.front().map(|event| event.pair.main) else {
                break;
            };
            while let Some(event) = self.events.pop_front_if(|event| event.pair.main == oldest) {
                self.bytes -= event.memory_bytes();
                dropped.push(event);
            }
            self.from = oldest.next();
        }
    }

    /// Forgets everything; what happens from `from` on will be held.
    pub fn reset(&mut self, from: Revision) {
        self.events.clear();
        self.bytes = 0;
        self.from = from;
    }

    /// The events at or above `revision`, ascending.
    pub fn since(&self, revision: Revision) -> impl Iterator<Item = &Arc<Published>> {
        let start = self
            .events
            .partition_point(|event| event.pair.main < revision);
        self.events.range(start..)
    }
}
