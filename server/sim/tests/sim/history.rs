//! What clients were told, held against what came to be: revisions make every history one.

use std::collections::BTreeMap;

use crate::system;
use crate::truth::{Change, Found, Truth};

/// What clocks that drift, and a lease's whole milliseconds, may take from a lease.
const LEASE_SLACK_NS: u64 = 60_000_000;

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Puts a value unlike any other, on a lease (0: none).
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    /// Deletes a key.
    Delete { key: String },
    /// Puts a value at two keys where the first was last put at a revision (0: is not there); else reads it.
    Swap {
        key: String,
        revision: i64,
        value: String,
        also: String,
    },
    /// Reads a key, at a revision (0: the latest).
    Read {
        key: String,
        at: i64,
        serializable: bool,
    },
    /// Compacts.
    Compact { at: i64 },
    /// Grants a lease.
    Grant { id: i64, ttl: i64 },
    /// Renews it.
    Renew { id: i64 },
    /// Revokes it.
    Revoke { id: i64 },
    /// Hashes what is readable at a revision (0: the latest).
    Hash { at: i64 },
    /// Defragments.
    Defragment,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done, and the store was at this revision then.
    Done(i64),
    /// So many keys were deleted, and the revision.
    Deleted(i64, i64),
    /// The compare did not hold at this revision, where the key was this.
    Kept(i64, Option<Found>),
    /// A read at this revision of the store found this.
    Read(i64, Option<Found>),
    /// The revision is compacted.
    Compacted,
    /// The lease lives so many seconds from the call on.
    Lives(i64),
    /// What is readable at the second revision, compacted at the first, hashes to this.
    Hashed(i64, i64, u32),
    /// It was defragmented.
    Defragmented,
    /// There is no such lease.
    Gone,
    /// It certainly has not happened.
    Refused,
    /// The same, for want of room.
    NoSpace,
    /// Nobody knows.
    Unknown,
}

/// A call and its end. Times in virtual nanoseconds.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was made.
    pub began_ns: u64,
    /// When the answer came.
    pub ended_ns: u64,
    /// What was asked.
    pub asked: Asked,
    /// The answer.
    pub told: Told,
}

impl Call {
    /// The value that it puts.
    fn value(&self) -> Option<&str> {
        match &self.asked {
            Asked::Put { value, .. } | Asked::Swap { value, .. } => Some(value),
            _ => None,
        }
    }

    /// A revision that its answer names.
    pub fn revision(&self) -> Option<i64> {
        match self.told {
            Told::Done(revision)
            | Told::Deleted(revision, _)
            | Told::Kept(revision, _)
            | Told::Read(revision, _) => Some(revision),
            _ => None,
        }
    }

    /// Whether it is a write that was done, if only to find that there was nothing to do.
    pub fn is_done_write(&self) -> bool {
        matches!(
            (&self.asked, &self.told),
            (
                Asked::Put { .. } | Asked::Swap { .. } | Asked::Delete { .. },
                Told::Done(_) | Told::Deleted(..) | Told::Kept(..)
            )
        )
    }

    /// Whether it made that revision.
    fn wrote(&self) -> bool {
        match (&self.asked, &self.told) {
            (Asked::Put { .. } | Asked::Swap { .. }, Told::Done(_)) => true,
            (_, Told::Deleted(_, deleted)) => *deleted > 0,
            _ => false,
        }
    }
}

/// What is wrong with a history, in words; nothing where it is linearizable.
pub fn judge(calls: &[Call], truth: &Truth) -> Result<(), String> {
    for call in calls {
        fits(call, calls, truth)?;
    }
    in_order(calls, truth)?;
    compacted_is_gone(calls)?;
    hashes_agree(calls)?;
    leases_live(calls, truth)
}

fn fits(call: &Call, calls: &[Call], truth: &Truth) -> Result<(), String> {
    let ensure = |holds: bool, why: &str| match holds {
        true => Ok(()),
        false => Err(format!("{why}: {call:?}")),
    };
    let made = call.value().and_then(|value| truth.made(value));
    let is_change = |revision: i64, changes: &[Change]| {
        truth
            .revised(revision)
            .is_some_and(|revised| revised.changes == changes)
    };
    match (&call.asked, &call.told) {
        (Asked::Put { key, value, lease }, Told::Done(revision)) => {
            let change = put(key, value, *lease);
            ensure(
                is_change(*revision, &[change]),
                "an acknowledged put is not there",
            )
        }
        (
            Asked::Swap {
                key,
                revision: expected,
                value,
                also,
            },
            Told::Done(revision),
        ) => {
            let changes = [put(key, value, 0), put(also, value, 0)];
            ensure(
                is_change(*revision, &changes),
                "an acknowledged swap is not there",
            )?;
            let before = truth
                .at(key, revision - 1)
                .map_or(0, |found| found.revision);
            ensure(
                before == *expected,
                "a swap was made though its compare did not hold",
            )
        }
        (
            Asked::Swap {
                key,
                revision: expected,
                ..
            },
            Told::Kept(revision, found),
        ) => {
            let was = truth.at(key, *revision);
            ensure(made.is_none(), "a swap whose compare did not hold was made")?;
            ensure(was == found.as_ref(), "a swap found what was not there")?;
            let before = was.map_or(0, |found| found.revision);
            ensure(
                before != *expected,
                "a swap was not made though its compare held",
            )
        }
        (Asked::Delete { key }, Told::Deleted(revision, deleted)) => {
            let change = Change {
                key: key.clone(),
                value: None,
                lease: 0,
            };
            match deleted {
                0 => ensure(
                    truth.at(key, *revision).is_none(),
                    "a deletion missed its key",
                ),
                _ => ensure(
                    is_change(*revision, &[change]),
                    "an acknowledged deletion is not there",
                ),
            }
        }
        (Asked::Read { key, at, .. }, Told::Read(head, found)) => {
            let at = if *at > 0 { *at } else { *head };
            ensure(
                at <= *head && truth.at(key, at) == found.as_ref(),
                "a read found what was not there at its revision",
            )
        }
        (Asked::Read { at, .. }, Told::Compacted) => ensure(
            was_compacted(calls, *at + 1, call.ended_ns),
            "a revision is refused that nobody had compacted",
        ),
        (Asked::Compact { at }, Told::Compacted) => ensure(
            was_compacted(calls, *at, call.ended_ns),
            "a compaction is refused that nobody had made",
        ),
        (_, Told::Refused | Told::NoSpace | Told::Gone) => {
            ensure(made.is_none(), "what was refused has happened")
        }
        _ => Ok(()),
    }
}

fn put(key: &str, value: &str, lease: i64) -> Change {
    Change {
        key: key.into(),
        value: Some(value.into()),
        lease,
    }
}

/// Whether somebody had asked for a compaction at a revision, or a later one.
fn was_compacted(calls: &[Call], at: i64, by_ns: u64) -> bool {
    let asks = |call: &Call| matches!(call.asked, Asked::Compact { at: asked } if asked >= at);
    calls
        .iter()
        .any(|call| call.began_ns <= by_ns && asks(call))
}

/// Whoever begins after an answer sees what it told of.
fn in_order(calls: &[Call], truth: &Truth) -> Result<(), String> {
    let ends = calls
        .iter()
        .filter_map(|call| Some((call.ended_ns, call.revision()?)));
    let known = greatest_so_far(ends);
    for call in calls {
        let Some(seen) = known_before(&known, call.began_ns) else {
            continue;
        };
        let is_stale = match (&call.asked, call.revision()) {
            (
                Asked::Read {
                    serializable: true, ..
                },
                _,
            ) => false,
            (_, Some(revision)) if call.wrote() => revision <= seen,
            (_, Some(revision)) => revision < seen,
            _ => call
                .value()
                .and_then(|value| truth.made(value))
                .is_some_and(|at| at <= seen),
        };
        if is_stale {
            return Err(format!(
                "revision {seen} was known before it began: {call:?}"
            ));
        }
    }
    Ok(())
}

/// At each of some moments the greatest of what was known by then.
fn greatest_so_far(moments: impl Iterator<Item = (u64, i64)>) -> Vec<(u64, i64)> {
    let mut all: Vec<_> = moments.collect();
    all.sort_unstable();
    let mut greatest = 0;
    for (_, known) in &mut all {
        greatest = greatest.max(*known);
        *known = greatest;
    }
    all
}

fn known_before(known: &[(u64, i64)], ns: u64) -> Option<i64> {
    let before = known.partition_point(|(ended, _)| *ended < ns);
    before.checked_sub(1).map(|at| known[at].1)
}

/// What was compacted before a read began is not served to it.
fn compacted_is_gone(calls: &[Call]) -> Result<(), String> {
    let ends = calls
        .iter()
        .filter_map(|call| match (&call.asked, &call.told) {
            (Asked::Compact { at }, Told::Done(_)) => Some((call.ended_ns, *at)),
            _ => None,
        });
    let known = greatest_so_far(ends);
    for call in calls {
        if let (
            Asked::Read {
                at,
                serializable: false,
                ..
            },
            Told::Read(..),
        ) = (&call.asked, &call.told)
            && *at > 0
            && known_before(&known, call.began_ns).is_some_and(|compacted| *at < compacted)
        {
            return Err(format!("a compacted revision was served: {call:?}"));
        }
    }
    Ok(())
}

/// Whoever hashes the same revision, compacted at the same one, comes to the same.
fn hashes_agree(calls: &[Call]) -> Result<(), String> {
    let mut known: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    for call in calls {
        let Told::Hashed(compacted, at, hash) = call.told else {
            continue;
        };
        let first = *known.entry((compacted, at)).or_insert(hash);
        if first != hash {
            return Err(format!("elsewhere it hashed to {first}: {call:?}"));
        }
    }
    Ok(())
}

/// A key goes with its lease only after somebody revoked that, or when its time was over; and nobody is
/// told that a lease is gone before.
fn leases_live(calls: &[Call], truth: &Truth) -> Result<(), String> {
    let mut of_lease: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
    let mut deletions: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        match &call.asked {
            Asked::Grant { id, .. } | Asked::Renew { id } | Asked::Revoke { id } => {
                of_lease.entry(*id).or_default().push(call)
            }
            Asked::Delete { key } => deletions.entry(key).or_default().push(call),
            _ => {}
        }
    }
    let none = Vec::new();
    for (revision, revised) in truth.revisions() {
        for change in revised
            .changes
            .iter()
            .filter(|change| change.value.is_none())
        {
            let Some(before) = truth.at(&change.key, revision - 1) else {
                return Err(format!(
                    "revision {revision} deletes what was not there: {change:?}"
                ));
            };
            let asked = deletions.get(change.key.as_str()).unwrap_or(&none);
            let is_asked = asked.iter().any(|call| match call.told {
                Told::Deleted(at, _) => at == revision,
                _ => call.began_ns <= revised.seen_ns,
            });
            if is_asked {
                continue;
            }
            if before.lease == 0 {
                return Err(format!(
                    "revision {revision} deletes what nobody deleted: {change:?}"
                ));
            }
            let calls = of_lease.get(&before.lease).unwrap_or(&none);
            if let Some(until) = lives_until(calls, revised.seen_ns, revised.seen_ns)
                && revised.seen_ns + LEASE_SLACK_NS < until
            {
                let early = (until - revised.seen_ns) / 1_000_000;
                return Err(format!(
                    "lease {} ended {early} ms too early, at revision {revision}",
                    before.lease
                ));
            }
        }
    }
    for (id, calls) in &of_lease {
        for call in calls.iter().filter(|call| call.told == Told::Gone) {
            if let Some(until) = lives_until(calls, call.began_ns, call.ended_ns)
                && call.ended_ns + LEASE_SLACK_NS < until
            {
                return Err(format!(
                    "lease {id} is said to be gone, and was to live until {until}: {call:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Until when a lease lives at least, by what was told before a moment; none where it may be revoked before
/// another.
fn lives_until(calls: &[&Call], told_ns: u64, by_ns: u64) -> Option<u64> {
    let is_revoked =
        |call: &&Call| matches!(call.asked, Asked::Revoke { .. }) && call.began_ns <= by_ns;
    if calls.iter().any(is_revoked) {
        return None;
    }
    let told = calls.iter().filter(|call| call.ended_ns <= told_ns);
    let lives = told.filter_map(|call| {
        let seconds = match (&call.asked, &call.told) {
            (Asked::Grant { ttl, .. }, Told::Done(_)) => *ttl,
            (Asked::Renew { .. }, Told::Lives(left)) => *left,
            _ => return None,
        };
        Some(call.began_ns + seconds.unsigned_abs() * system::NS_A_SECOND)
    });
    lives.max()
}
