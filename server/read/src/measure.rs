//! How large an answer will be, found out from the index alone, in bounded steps.

use std::sync::Arc;

use super::{HOLDS_A_TURN, KEYS_A_HOLD, limit_of};
use crate::budget::Turns;
use crate::codec::answer;
use crate::state::Walk;
use crate::store::Pin;
use crate::types::KeyRange;
use crate::types::request::SortTarget;
use crate::types::result::Later;

/// What a walk over all that a read looks at has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// How many keys the range holds.
    pub count: i64,
    /// How many of them the filters let through; no more than the limit and one are counted where
    /// that is enough.
    pub matched: usize,
    /// The bytes of those within the limit, as fields of the answer. Without meaning where the
    /// order decides which those are.
    pub bytes: usize,
    /// The bytes of the largest.
    pub largest: usize,
}

pub(super) async fn measure(turns: &Turns, pin: &Arc<Pin>, later: &Later) -> Measured {
    let mut measuring = Measuring::new(pin.clone(), later.clone());
    while measuring.rest.is_some() {
        measuring = turns
            .take(move || {
                measuring.turn();
                measuring
            })
            .await;
    }
    measuring.finish()
}

struct Measuring {
    pin: Arc<Pin>,
    later: Later,
    rest: Option<KeyRange>,
    limit: usize,
    existing: i64,
    found: Measured,
}

impl Measuring {
    fn new(pin: Arc<Pin>, later: Later) -> Measuring {
        let is_counted = later.query.count_only && later.count.is_some();
        Measuring {
            rest: (!is_counted).then(|| later.query.range.clone()),
            limit: limit_of(&later.query).unwrap_or(usize::MAX),
            pin,
            later,
            existing: 0,
            found: Measured::default(),
        }
    }

    fn turn(&mut self) {
        for _ in 0..HOLDS_A_TURN {
            let Some(range) = self.rest.take() else {
                return;
            };
            let pin = self.pin.clone();
            self.rest = pin.with(|state, _| self.step(&state.mvcc, &range));
        }
    }

    fn step(&mut self, mvcc: &crate::state::Mvcc, range: &KeyRange) -> Option<KeyRange> {
        let query = &self.later.query;
        let walk = Walk {
            below: self.later.below,
            backwards: super::is_backwards(query),
            looked_max: KEYS_A_HOLD,
        };
        // Whoever knows the count needs no more than to see that there is more.
        let counted = self.later.count.is_some();
        let in_key_order = query.sort_target == SortTarget::Key;
        let (existing, found, limit) = (&mut self.existing, &mut self.found, self.limit);
        let mut ended = false;
        let rest = mvcc.walk(&walk, range, &mut |seen| {
            *existing += 1;
            if query.count_only || !seen.passes(query) {
                return true;
            }
            found.matched += 1;
            if !in_key_order || found.matched <= limit {
                let len =
                    seen.encoded_bytes(query.keys_only && query.sort_target != SortTarget::Value);
                found.bytes += answer::field_len(len);
                found.largest = found.largest.max(len);
            }
            ended = counted && in_key_order && found.matched > limit;
            !ended
        });
        rest.filter(|_| !ended)
    }

    fn finish(self) -> Measured {
        Measured {
            count: self.later.count.unwrap_or(self.existing),
            ..self.found
        }
    }
}
