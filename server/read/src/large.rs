//! Answers that are too much work for one hold of the lock: sized first, then read as they are sent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::measure::{Measured, measure};
use super::order::{Ordered, considered_max, ordered};
use super::pages::{Source, Walking, pages};
use super::{MESSAGE_MAX, PAGES_CHARGE, ReadError, Reader, is_backwards, limit_of};
use crate::codec::Pages;
use crate::codec::answer::{self, Field};
use crate::store::Pin;
use crate::types::request::{Range, SortTarget};
use crate::types::result::{self, Away, Later, Run, Txn, TxnOp};
use crate::types::within;

/// What a key-value that is being sorted takes beside its bytes.
const ORDERED_OVERHEAD: usize = 128;

/// An answer whose key-values are away.
pub(super) enum Want<'a> {
    Range(&'a mut result::Range),
    Delete(&'a mut result::DeleteRange),
}

/// What was left for later in a transaction, in the order in which it is answered.
pub(super) fn wants_of(txn: &mut Txn) -> Vec<Want<'_>> {
    let mut wants = Vec::new();
    gather(txn, &mut wants);
    wants
}

fn gather<'a>(txn: &'a mut Txn, wants: &mut Vec<Want<'a>>) {
    for op in &mut txn.responses {
        match op {
            TxnOp::Range(range) if range.away.is_some() => wants.push(Want::Range(range)),
            TxnOp::DeleteRange(delete) if delete.away.is_some() => {
                wants.push(Want::Delete(delete));
            }
            TxnOp::Txn(inner) => within(|| gather(inner, wants)),
            _ => {}
        }
    }
}

impl Want<'_> {
    fn away(&mut self) -> &mut Option<Box<Away>> {
        match self {
            Want::Range(range) => &mut range.away,
            Want::Delete(delete) => &mut delete.away,
        }
    }

    fn field(&self) -> Field {
        match self {
            Want::Range(_) => Field::Kvs,
            Want::Delete(_) => Field::PrevKvs,
        }
    }

    fn take_later(&mut self) -> Later {
        match self.away().take().map(|away| *away) {
            Some(Away::Later(later)) => later,
            _ => unreachable!("gathered because it is left for later"),
        }
    }

    fn settle(&mut self, sized: &Sized, bytes: usize) {
        *self.away() = Some(Box::new(Away::Run(Run { bytes })));
        if let Want::Range(range) = self {
            range.count = sized.measured.count;
            range.more = sized.more();
        }
    }
}

/// A read whose size is known.
struct Sized {
    later: Later,
    measured: Measured,
}

impl Sized {
    fn matched_considered(&self) -> usize {
        self.measured.matched.min(considered_max(&self.later.query))
    }

    fn answered(&self) -> usize {
        let limit = limit_of(&self.later.query).unwrap_or(usize::MAX);
        self.matched_considered().min(limit)
    }

    fn more(&self) -> bool {
        limit_of(&self.later.query).is_some_and(|limit| self.measured.matched > limit)
    }

    /// What is gathered before the first byte is sent.
    fn memory(&self) -> usize {
        let query = &self.later.query;
        if query.count_only || query.sort_target == SortTarget::Key {
            return 0;
        }
        let overhead = self.answered().saturating_mul(ORDERED_OVERHEAD);
        let values = match query.sort_target {
            // The value to sort by, and the key-value.
            SortTarget::Value => {
                let largest = self.answered().saturating_mul(self.measured.largest);
                self.measured.bytes.min(largest).saturating_mul(2)
            }
            _ => 0,
        };
        overhead.saturating_add(values)
    }
}

impl Reader {
    /// Begins to read what is wanted. `pin` keeps all of it readable.
    pub(super) async fn fill(
        &self,
        mut wants: Vec<Want<'_>>,
        pin: Arc<Pin>,
    ) -> Result<Option<Pages>, ReadError> {
        let mut all = Vec::with_capacity(wants.len());
        let mut memory = PAGES_CHARGE;
        for want in &mut wants {
            let later = want.take_later();
            let measured = measure(&self.turns, &pin, &later).await;
            let sized = Sized { later, measured };
            memory = memory.saturating_add(sized.memory());
            all.push(sized);
        }
        // At once for all of them: two that have a part each and wait for more would wait for ever.
        let charge = self.budget.take(memory).await?;
        let mut sources = VecDeque::new();
        let mut total = 0usize;
        for (want, sized) in wants.iter_mut().zip(all) {
            let (bytes, source) = self.source(want.field(), &sized, &pin).await;
            total = total.saturating_add(bytes);
            want.settle(&sized, bytes);
            sources.extend(source);
        }
        if total > MESSAGE_MAX {
            return Err(ReadError::TooLarge(total));
        }
        Ok((!sources.is_empty()).then(|| pages(self.turns.clone(), sources, charge)))
    }

    /// Where the pages come from, and how many bytes they come to.
    async fn source(&self, field: Field, sized: &Sized, pin: &Arc<Pin>) -> (usize, Option<Source>) {
        let query: &Range = &sized.later.query;
        if query.count_only {
            return (0, None);
        }
        if query.sort_target == SortTarget::Key {
            let walking = Walking {
                pin: pin.clone(),
                later: sized.later.clone(),
                rest: Some(query.range.clone()),
                left: sized.answered(),
                field,
            };
            debug_assert!(!is_backwards(query) || field == Field::Kvs);
            return (sized.measured.bytes, Some(Source::Walk(Box::new(walking))));
        }
        match ordered(&self.turns, pin, &sized.later).await {
            Ordered::Slots(slots) => {
                let lens = slots.iter().map(|(_, len)| answer::field_len(*len));
                let bytes = lens.sum();
                (bytes, Some(Source::Slots(pin.clone(), slots.into_iter())))
            }
            Ordered::Items(items) => {
                let bytes = items.iter().map(|item| answer::field_len(item.len()));
                (bytes.sum(), Some(Source::Items(items.into_iter())))
            }
        }
    }
}
