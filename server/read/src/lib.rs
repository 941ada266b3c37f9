//! Local reads: a plan from the index under the lock, values from the engine after letting go.
//!
//! What is little work is answered at once. What is more is read at a pinned revision in bounded
//! steps, a few at a time over all clients: first how large the answer will be, from the index
//! alone, then its key-values page by page, as the client takes them, so that the largest answer
//! takes no more memory than a page. Only an answer in another order than the keys' is gathered
//! before it is sent.
//!
//! Owns how a range is read, whole or page by page, at a pinned revision. Must never write, wait for
//! Raft (whoever asks for a linearizable read passes the barrier first), hold the lock over a read
//! of many values, or look at more than [`KEYS_A_HOLD`] keys in one hold of it.

#![forbid(unsafe_code)]

mod cursor;
mod large;
mod measure;
mod order;
mod pages;
mod select;
#[cfg(test)]
mod tests;

use engram_applied::{storage, store};
use engram_codec as codec;
use engram_process::budget;
use engram_state as state;
use engram_types as types;

pub use cursor::Cursor;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::{Budget, Exhausted, Turns};
use crate::codec::Pages;
use crate::state::{Meter, Plan, TxnPath};
use crate::store::{Pin, Store};
use crate::types::request::{Compare, Range, SortOrder, SortTarget, Txn};
use crate::types::result::{self, Applied, ApplyError, Away, Kept, Later};
use crate::types::{Revision, RevisionPair, within};

/// Keys looked at in one hold of the lock: some tenths of a millisecond.
const KEYS_A_HOLD: usize = 2048;
/// Values read between two holds.
const VALUES_A_HOLD: usize = 512;
/// Holds of the lock in one turn.
const HOLDS_A_TURN: usize = 8;
/// Keys looked at for one page.
const PAGE_KEYS: usize = 2048;
/// A page ends with the key-value that reaches so many bytes.
const PAGE_BYTES: usize = 256 << 10;
/// What an answer that is sent page by page is charged: the page under way and the one before it.
const PAGES_CHARGE: usize = 4 * PAGE_BYTES;
/// Values that are read from storage on the thread that asks; more are read in a turn.
const VALUES_AT_ONCE: usize = 64;
/// How often a plan is made anew because compaction dropped what it pointed to meanwhile. A plan
/// older than a compaction's step is rare; several in a row mean that the last try holds the lock.
const PLAN_TRIES: usize = 3;
/// The largest message that gRPC's clients take.
const MESSAGE_MAX: usize = i32::MAX as usize;

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision asked for is compacted or in the future.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// There is no memory for the answer, and too many wait for some.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The answer would be so many bytes, more than any client takes.
    #[error("an answer of {0} bytes is too large")]
    TooLarge(usize),
}

/// What a read answers.
#[derive(Debug)]
pub struct Answer<T> {
    /// The store's revision when it was read.
    pub head: Revision,
    /// What was found.
    pub found: T,
    /// What its runs hold, if it has some.
    pub pages: Option<Pages>,
}

/// Reads of the local state. Clones share it.
#[derive(Clone)]
pub struct Reader {
    store: Arc<Store>,
    ranges: Arc<AtomicU64>,
    turns: Turns,
    budget: Budget,
}

impl Reader {
    /// A reader of `store`. `budget` bounds the memory of answers under construction.
    pub fn new(store: Arc<Store>, turns: Turns, budget: Budget) -> Reader {
        Reader {
            store,
            ranges: Arc::default(),
            turns,
            budget,
        }
    }

    /// Ranges read so far, whole or by page, those in read-only transactions included.
    pub fn ranges(&self) -> u64 {
        self.ranges.load(Ordering::Relaxed)
    }

    /// The turns in which much is read, for other work of that kind.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Answers a range, with the store's revision at that moment.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn range(&self, query: &Range) -> Result<Answer<result::Range>, ReadError> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        if query.range.is_single() {
            return Ok(whole(read_now(&self.store, query)?));
        }
        for _ in 0..PLAN_TRIES {
            match self.begin(query)? {
                Begun::Answered(head, found) => return Ok(whole((head, found))),
                Begun::Planned(plan) => {
                    let head = plan.head;
                    if let Some(found) = self.resolve(plan).await {
                        return Ok(whole((head, found)));
                    }
                }
                // Boxed, like all of this room that waits: what is little work has a small future.
                Begun::Large(pin, later) => return Box::pin(self.read_large(pin, later)).await,
            }
        }
        let state = self.store.read();
        let found = state.mvcc.range(query, &*self.store)?;
        Ok(whole((state.mvcc.revision(), found)))
    }

    /// Answers what is little work, or pins what is read in steps.
    fn begin(&self, query: &Range) -> Result<Begun, ApplyError> {
        let state = self.store.read();
        let mvcc = &state.mvcc;
        let (head, at) = (mvcc.revision(), mvcc.revision_read(query)?);
        if mvcc.fits(query, at, &mut { Meter::OPERATION }) {
            if query.count_only || Plan::serves(query) {
                return Ok(Begun::Planned(mvcc.plan(query)?));
            }
            return Ok(Begun::Answered(head, mvcc.range(query, &*self.store)?));
        }
        let pin = Arc::new(self.store.pin_found(&state, at));
        let later = Later {
            query: query.clone(),
            below: RevisionPair {
                main: at.next(),
                sub: 0,
            },
            count: mvcc.count_at_tip(&query.range, at),
        };
        Ok(Begun::Large(pin, later))
    }

    async fn resolve(&self, plan: Plan) -> Option<result::Range> {
        if plan.values_to_read() <= VALUES_AT_ONCE {
            return plan.resolve(&*self.store);
        }
        let store = self.store.clone();
        Box::pin(self.turns.take(move || plan.resolve(&*store))).await
    }

    async fn read_large(
        &self,
        pin: Arc<Pin>,
        later: Later,
    ) -> Result<Answer<result::Range>, ReadError> {
        let head = pin.head();
        let mut found = result::Range {
            revision: head,
            away: Some(Box::new(Away::Later(later))),
            ..result::Range::default()
        };
        let pages = self.fill(vec![large::Want::Range(&mut found)], pin).await?;
        Ok(Answer { head, found, pages })
    }

    /// Begins a paged read at one revision, which stays readable as long as the cursor lives.
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    pub async fn cursor(&self, query: Range) -> Result<Cursor, ApplyError> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        let (pin, later) = {
            let state = self.store.read();
            let at = state.mvcc.revision_read(&query)?;
            let counted = state.mvcc.counts_quickly(&query.range, at, KEYS_A_HOLD);
            let later = Later {
                below: RevisionPair {
                    main: at.next(),
                    sub: 0,
                },
                count: counted.then(|| state.mvcc.count_when(&query.range, at)),
                query: Range {
                    count_only: true,
                    ..query.clone()
                },
            };
            (Arc::new(self.store.pin_found(&state, at)), later)
        };
        let count = match later.count {
            Some(count) => count,
            None => measure::measure(&self.turns, &pin, &later).await.count,
        };
        Ok(Cursor::new(self.store.clone(), query, pin, count))
    }

    /// Answers a transaction that only reads.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn txn(&self, txn: &Txn) -> Result<Answer<result::Txn>, ReadError> {
        let (head, mut found, pin) = match self.begin_txn(txn)? {
            Some(begun) => begun,
            None => Box::pin(self.compare_in_steps(txn.clone())).await?,
        };
        self.ranges
            .fetch_add(range_count(&found), Ordering::Relaxed);
        let pages = match pin {
            None => None,
            Some(pin) => {
                let wants = large::wants_of(&mut found);
                Box::pin(self.fill(wants, Arc::new(pin))).await?
            }
        };
        Ok(Answer { head, found, pages })
    }

    /// The answer as far as it is little work; none if the compares are much.
    fn begin_txn(&self, txn: &Txn) -> Result<Option<BegunTxn>, ApplyError> {
        let mut meter = Meter::OPERATION;
        let state = self.store.read();
        let found = state.read_txn(txn, &*self.store, &mut meter)?;
        let pin = meter.later.map(|at| self.store.pin_found(&state, at));
        Ok(found.map(|found| (state.mvcc.revision(), found, pin)))
    }

    /// Looks at compares over many keys, one hold of the lock after the other, at a pinned revision.
    async fn compare_in_steps(&self, txn: Txn) -> Result<BegunTxn, ApplyError> {
        let pin = {
            let state = self.store.read();
            self.store.pin_found(&state, state.mvcc.revision())
        };
        let looking = move || {
            let head = pin.revision();
            let path = TxnPath::choose(&txn, &mut |compare| holds(&pin, compare));
            let mut meter = Meter::NOTHING;
            pin.with(|state, engine| {
                let found = state.read_txn_along(&txn, &path, head, &engine, &mut meter)?;
                let lowest = meter.later.map(|at| pin.also(state, at));
                Ok((head, found, lowest))
            })
        };
        self.turns.take(looking).await
    }

    /// Reads what applying an operation has left for later. `kept` keeps it readable until then.
    ///
    /// # Errors
    /// See [`ReadError`]. What the operation has written stays.
    pub async fn complete(
        &self,
        applied: &mut Applied,
        kept: Kept,
    ) -> Result<Option<Pages>, ReadError> {
        let pin = kept.0.downcast::<Pin>();
        let pin = pin.unwrap_or_else(|_| unreachable!("the apply thread keeps a pin"));
        let wants = match applied {
            Applied::Txn(txn) => large::wants_of(txn),
            Applied::DeleteRange(delete) => vec![large::Want::Delete(delete)],
            _ => Vec::new(),
        };
        self.fill(wants, pin).await
    }
}

/// How a range begins to be answered.
enum Begun {
    Answered(Revision, result::Range),
    Planned(Plan),
    Large(Arc<Pin>, Later),
}

type BegunTxn = (Revision, result::Txn, Option<Pin>);

fn whole((head, found): (Revision, result::Range)) -> Answer<result::Range> {
    Answer {
        head,
        found,
        pages: None,
    }
}

/// Reads a range whole, with the store's revision at that moment: for what is known to be little,
/// one key above all.
///
/// # Errors
/// The revision asked for is compacted or in the future.
pub fn read_now(store: &Store, query: &Range) -> Result<(Revision, result::Range), ApplyError> {
    if Plan::serves(query) {
        for _ in 0..PLAN_TRIES {
            let plan = store.read().mvcc.plan(query)?;
            let head = plan.head;
            if let Some(range) = plan.resolve(store) {
                return Ok((head, range));
            }
        }
    }
    let state = store.read();
    let range = state.mvcc.range(query, store)?;
    Ok((state.mvcc.revision(), range))
}

/// Whether a compare holds at the pinned revision.
fn holds(pin: &Pin, compare: &Compare) -> bool {
    use crate::state::CompareStep;
    let below = RevisionPair {
        main: pin.revision().next(),
        sub: 0,
    };
    let (mut any, mut rest) = (false, Some(compare.range.clone()));
    while let Some(range) = rest {
        let step = pin.with(|state, engine| state.compare_step(compare, &range, below, &engine));
        match step {
            CompareStep::Fails => return false,
            CompareStep::Holds {
                any: found,
                rest: left,
            } => {
                any |= found;
                rest = left;
            }
        }
    }
    CompareStep::ended(compare, any)
}

fn limit_of(query: &Range) -> Option<usize> {
    usize::try_from(query.limit).ok().filter(|limit| *limit > 0)
}

fn is_backwards(query: &Range) -> bool {
    query.sort_target == SortTarget::Key && query.sort_order == SortOrder::Descend
}

fn range_count(txn: &result::Txn) -> u64 {
    let count = |answer: &result::TxnOp| match answer {
        result::TxnOp::Txn(inner) => within(|| range_count(inner)),
        _ => 1,
    };
    txn.responses.iter().map(count).sum()
}
