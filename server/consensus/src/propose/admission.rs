//! Who is admitted to the queue while more comes than can be done.
//!
//! How long one that comes would wait is known: the batches that are ahead, and how long one takes while
//! others wait behind it. While the member keeps up nobody is refused: a burst is worked off, a disk that
//! stands still for seconds comes back, and clients are served late, which is better for them than an error
//! that most of them do not retry. It is *overloaded* once who comes would wait longer than [`LONG`] and that
//! has been so for [`LASTING`] without becoming less: more comes than goes. Somebody has to be refused
//! then, and who is refused at once loses less than who waits for the request timeout. From then on no more
//! is admitted than waits for [`HELD`], so that what is admitted is served as if nothing were wrong, until
//! [`CALM`] has passed in which nobody had to be refused, or [`TRIED_AFTER`] in all.
//!
//! Nobody is refused while less than a batch waits: it goes with the next one, however slow the disk. And
//! nobody is admitted, overloaded or not, who would wait longer than [`MOST`].
//!
//! Plain: it is told when batches go and come back, reads no clock, and asks nobody. Who comes costs a
//! comparison.

use std::time::Duration;

use super::{BATCH_BYTES_MAX, BATCH_MAX};
use crate::types::request::Op;

/// A wait that is a fault if it stays. What waits a second or two is better served late than refused.
const LONG: Duration = Duration::from_secs(2);
/// How long such a wait may last, where it does not become less, before it is overload.
const LASTING: Duration = Duration::from_secs(1);
/// What is waited for at most under overload: from there on etcd calls a request slow.
const HELD: Duration = Duration::from_millis(100);
/// Under overload, how long nobody has to be refused before it is over.
const CALM: Duration = Duration::from_secs(1);
/// What nobody waits longer than. etcdctl gives up after 5 s and the server after 7: what is served later is
/// work for nobody, and is asked for again.
const MOST: Duration = Duration::from_secs(4);
/// Batches by whose times the next one's is known: the middle one's, which one slow sync does not change.
const SAMPLES: usize = 9;
/// With fewer nothing is known.
const SAMPLES_MIN: usize = 3;
/// What a batch counts for at least, however little of it a large request behind it left room for.
const PART_MIN: f64 = 0.5;
/// A wait becomes less that shrinks by this part of the time that passes: so much of what can be done is left over.
const LESS: f64 = 0.1;
/// Overload is tried without after so long, whoever had to be refused since: what comes may be bursts that can be
/// worked off, of which one a second keeps it from being calm.
const TRIED_AFTER: Duration = Duration::from_secs(30);

/// A moment: the time since any other that stays the same.
pub type Moment = Duration;

/// What waits in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Requests.
    pub requests: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Backlog {
    /// How many full batches it makes. One request may be larger than one.
    fn batches(self) -> f64 {
        let by_requests = self.requests as f64 / BATCH_MAX as f64;
        let by_bytes = self.bytes as f64 / BATCH_BYTES_MAX as f64;
        by_requests.max(by_bytes)
    }
}

/// Who is refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Data: under overload it is what there is too much of.
    Data,
    /// A new lease, which does not make way for data.
    Lease,
    /// What frees space, ends leases or administers the cluster: never refused for want of time.
    Duty,
}

impl Class {
    /// An operation's.
    pub fn of(op: &Op) -> Class {
        match op.bare() {
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => Class::Data,
            Op::LeaseGrant(_) => Class::Lease,
            _ => Class::Duty,
        }
    }
}

/// Overload begins, or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It begins: who comes now would wait so long.
    Begins(Duration),
    /// It is over: so many were refused.
    Over(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Admission {
    /// Whether anything was left when the last batch went.
    is_behind: bool,
    /// From when on the batch under way counts: when it went, or, if it had waited for the one before,
    /// when that one came back.
    since: Moment,
    /// How many full ones it is.
    size: f64,
    /// How long a full one took, by the last batches of this backlog, the latest first.
    times: Vec<Duration>,
    /// The middle one, once enough are known.
    time: Option<Duration>,
    /// A wait that is too long: since when it has not become less, how long it was then, and how many had been
    /// refused.
    long: Option<(Moment, Duration, u64)>,
    overload: Option<Overload>,
    /// From how many waiting batches on data and new leases are refused.
    data_from: Option<f64>,
    leases_from: Option<f64>,
    refused: u64,
}

/// Overload under way.
#[derive(Clone, Copy, Debug)]
struct Overload {
    began: Moment,
    /// How many had been refused when it began.
    before: u64,
    /// How many had been when somebody last looked and there were more, and when that was.
    refused: u64,
    refused_at: Moment,
}

impl Admission {
    /// Whether one that comes while `ahead` waits is admitted.
    pub fn admits(&mut self, class: Class, ahead: Backlog) -> bool {
        let refused_from = match class {
            Class::Data => self.data_from,
            Class::Lease => self.leases_from,
            Class::Duty => None,
        };
        let is_admitted = refused_from.is_none_or(|batches| ahead.batches() < batches);
        self.refused += u64::from(!is_admitted);
        is_admitted
    }

    /// A `batch` went at `now`, and `left` waits behind it. Tells where overload begins.
    pub fn taken(&mut self, now: Moment, batch: Backlog, left: Backlog) -> Option<Turn> {
        if !self.is_behind {
            self.since = now;
        }
        self.size = batch.batches().max(PART_MIN);
        self.is_behind = left.requests > 0;
        if !self.is_counting() {
            // The next backlog may be of other requests, and the disk another one by then.
            self.times.clear();
            self.time = None;
        }
        let turn = match self.overload {
            Some(_) => None,
            None => self.look(now, left),
        };
        self.bound();
        turn
    }

    /// The batch came back at `now`.
    pub fn done(&mut self, now: Moment) {
        if !self.is_counting() {
            return;
        }
        let took = now.saturating_sub(self.since);
        self.times.insert(0, took.div_f64(self.size));
        self.times.truncate(SAMPLES);
        self.since = now;
        if self.times.len() >= SAMPLES_MIN {
            let mut sorted = self.times.clone();
            sorted.sort_unstable();
            self.time = Some(sorted[(sorted.len() - 1) / 2]);
        }
        self.bound();
    }

    /// Tells where overload is over at `now`. To be asked every now and then.
    pub fn look_for_calm(&mut self, now: Moment) -> Option<Turn> {
        let overload = self.overload.as_mut()?;
        if overload.refused != self.refused {
            overload.refused = self.refused;
            overload.refused_at = now;
        }
        let is_calm = now.saturating_sub(overload.refused_at) >= CALM;
        if !is_calm && now.saturating_sub(overload.began) < TRIED_AFTER {
            return None;
        }
        let refused = self.refused - overload.before;
        self.overload = None;
        self.bound();
        Some(Turn::Over(refused))
    }

    /// How long one that comes while `ahead` waits will wait, where that is known.
    pub fn wait(&self, ahead: Backlog) -> Option<Duration> {
        // The batch under way, and its own part of the last one.
        Some(self.time?.mul_f64(1.0 + ahead.batches()))
    }

    /// Whether it is overload now.
    pub fn is_overloaded(&self) -> bool {
        self.overload.is_some()
    }

    /// How many were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether the batch under way tells how long one takes: with nothing behind it it may be a small one.
    /// Under overload that nothing is left is what the bound makes.
    fn is_counting(&self) -> bool {
        self.is_behind || self.overload.is_some()
    }

    fn look(&mut self, now: Moment, left: Backlog) -> Option<Turn> {
        let Some(wait) = self.wait(left).filter(|wait| *wait > LONG) else {
            self.long = None;
            return None;
        };
        let (since, before, refused) = *self.long.get_or_insert((now, wait, self.refused));
        let passed = now.saturating_sub(since);
        // A wait is known to a batch: it is looked at over several, and less is less by more than one.
        let batch = self.time.unwrap_or_default();
        if passed < LASTING.max(batch * 4) {
            return None;
        }
        // Where somebody was refused it is less because of that.
        let is_less = wait + passed.mul_f64(LESS) + batch < before && self.refused == refused;
        if is_less {
            self.long = Some((now, wait, self.refused));
            return None;
        }
        self.long = None;
        self.overload = Some(Overload {
            began: now,
            before: self.refused,
            refused: self.refused,
            refused_at: now,
        });
        Some(Turn::Begins(wait))
    }

    /// Reckons from when on who comes is refused.
    fn bound(&mut self) {
        let time = self.time.map(|time| time.as_secs_f64().max(1e-6));
        let from = |wait: Duration| time.map(|time| (wait.as_secs_f64() / time - 1.0).max(1.0));
        self.leases_from = from(MOST);
        self.data_from = match self.overload {
            Some(_) => from(HELD),
            None => from(MOST),
        };
    }
}

#[cfg(test)]
mod tests;
