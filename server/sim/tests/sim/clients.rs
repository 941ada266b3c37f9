//! Clients: calls at any member, and watchers.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use engram_process::threads::steps;
use engram_server::api::backend::{Backend as _, ServeError};
use engram_server::node::Core;
use engram_server::types::request::{
    Compact, Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, Txn, TxnOp,
};
use engram_server::types::result::{self, Applied, ApplyError, Item};
use engram_server::types::{KeyRange, KeyValue, LeaseId};

use crate::history::{Asked, Call, Told};
use crate::member::Member;
use crate::random::Random;
use crate::service::Service;
use crate::system;
use crate::truth::{Found, Truth};
use crate::watchers::{Shared, Watched, watch};

/// Keys that are written and read.
const KEYS: u64 = 6;
/// Calls under way at most.
const AT_ONCE: usize = 12;
/// Of which at a member that everything happens to.
const AT_VICTIM: usize = 4;
/// Leases are granted for so many seconds at least and at most.
const TTL: (u64, u64) = (1, 3);
/// Watchers that begin in the past, at most.
const VISITORS: usize = 24;

/// A call under way: to which life of which member.
struct Pending {
    place: usize,
    life: u64,
    call: Call,
    answer: Rc<RefCell<Option<(u64, Told)>>>,
}

/// A watcher that stays where it is: its member, and where it began.
pub struct Visitor {
    /// Where.
    pub place: usize,
    /// From which revision on.
    pub began: i64,
    /// What it got.
    pub watched: Shared,
    life: u64,
}

/// All of them.
pub struct Clients {
    random: Random,
    pending: Vec<Pending>,
    /// The calls that have ended.
    pub calls: Vec<Call>,
    /// The watcher at each member.
    pub watched: Vec<Shared>,
    /// The others.
    pub visitors: Vec<Visitor>,
    /// The greatest revision that anybody asked to be compacted.
    pub compacted: i64,
    /// The greatest revision that anybody was told.
    known: i64,
    made: u64,
    leases: Vec<i64>,
}

impl Clients {
    /// Clients of so many members.
    pub fn new(members: usize, seed: u64) -> Clients {
        Clients {
            random: Random::new(seed),
            pending: Vec::new(),
            calls: Vec::new(),
            watched: (0..members).map(|_| Watched::from(2)).collect(),
            visitors: Vec::new(),
            compacted: 0,
            known: 1,
            made: 0,
            leases: Vec::new(),
        }
    }

    /// Begins to watch at one member more.
    pub fn watch_another(&mut self) {
        self.watched.push(Watched::from(2));
    }

    /// Takes in answers, and `makes_calls` now and then.
    pub fn turn(
        &mut self,
        members: &[Member],
        truth: &Truth,
        service: &mut Service,
        makes_calls: bool,
    ) {
        self.collect(members, service);
        if makes_calls && self.pending.len() < AT_ONCE && self.random.once_in(6) {
            let place = self.random.index(members.len());
            let asked = self.draw(truth);
            if self.may_ask(place, service) {
                self.call(&members[place], asked);
            }
        }
        for (member, watched) in members.iter().zip(&self.watched) {
            watch(member, watched);
        }
        if makes_calls && self.visitors.len() < VISITORS && self.random.once_in(300) {
            self.visit(members);
        }
    }

    /// Whoever waits for one member alone is not in the way of the others.
    fn may_ask(&self, place: usize, service: &Service) -> bool {
        let waits = |pending: &&Pending| pending.place == place;
        service.victim() != Some(place) || self.pending.iter().filter(waits).count() < AT_VICTIM
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    fn visit(&mut self, members: &[Member]) {
        let member = &members[self.random.index(members.len())];
        let began = self.random.between(
            self.compacted.max(2).unsigned_abs(),
            self.known
                .max(2)
                .unsigned_abs()
                .max(self.compacted.unsigned_abs()),
        );
        let began = began.cast_signed();
        let watched = Watched::from(began);
        if !watch(member, &watched) {
            return;
        }
        self.visitors.push(Visitor {
            place: member.place,
            began,
            watched,
            life: member.life,
        });
    }

    /// Whether those who watch a member that lives have everything up to a revision.
    pub fn have_all(&self, members: &[Member], revision: i64) -> bool {
        let visitors = self
            .visitors
            .iter()
            .filter(|visitor| members[visitor.place].life == visitor.life);
        members
            .iter()
            .zip(&self.watched)
            .all(|(member, watched)| !member.is_up() || watched.borrow().has(revision))
            && visitors.into_iter().all(|visitor| {
                visitor.watched.borrow().has(revision) || visitor.watched.borrow().is_refused()
            })
    }

    /// Takes in answers. What a crash took with it has an unknown outcome.
    fn collect(&mut self, members: &[Member], service: &mut Service) {
        let now_ns = system::true_ns();
        let mut left = Vec::new();
        for pending in self.pending.drain(..) {
            let answer = pending.answer.borrow_mut().take();
            let mut call = pending.call;
            match answer {
                Some((ended_ns, told)) => (call.ended_ns, call.told) = (ended_ns, told),
                None if members[pending.place].life != pending.life => call.ended_ns = now_ns,
                None => {
                    left.push(Pending {
                        call,
                        answer: pending.answer,
                        ..pending
                    });
                    continue;
                }
            }
            self.known = self.known.max(call.revision().unwrap_or(0));
            service.note(pending.place, &call);
            self.calls.push(call);
        }
        self.pending = left;
    }

    fn key(&mut self) -> String {
        format!("key-{}", self.random.below(KEYS))
    }

    fn value(&mut self) -> String {
        self.made += 1;
        // Some take more than one sector.
        let padding = match self.random.once_in(8) {
            true => self.random.index(1_500),
            false => 0,
        };
        format!("value-{}{}", self.made, ".".repeat(padding))
    }

    fn lease(&mut self) -> Option<i64> {
        let recent = self.leases.len().min(4);
        let back = self.random.index(recent.max(1));
        self.leases.iter().rev().nth(back).copied()
    }

    fn draw(&mut self, truth: &Truth) -> Asked {
        match self.random.below(40) {
            0..=11 => {
                let lease = self.random.once_in(4).then(|| self.lease()).flatten();
                Asked::Put {
                    key: self.key(),
                    value: self.value(),
                    lease: lease.unwrap_or(0),
                }
            }
            12..=14 => Asked::Delete { key: self.key() },
            15..=19 => {
                let key = self.key();
                let right = truth
                    .at(&key, truth.last())
                    .map_or(0, |found| found.revision);
                let revision = if self.random.once_in(4) {
                    right - 1
                } else {
                    right
                };
                let mut also = self.key();
                if also == key {
                    also = format!("{key}-too");
                }
                Asked::Swap {
                    key,
                    revision: revision.max(0),
                    value: self.value(),
                    also,
                }
            }
            28 => {
                let back = self.random.between(0, 30).cast_signed();
                Asked::Hash {
                    at: (self.known - back).max(1),
                }
            }
            29 if self.random.once_in(4) => Asked::Defragment,
            30 => Asked::Read {
                key: self.key(),
                at: 0,
                serializable: true,
            },
            31..=33 => {
                let at = (self.known - self.random.between(0, 40).cast_signed()).max(1);
                Asked::Read {
                    key: self.key(),
                    at,
                    serializable: self.random.once_in(3),
                }
            }
            34 if self.random.once_in(2) => {
                let at = (self.known - self.random.between(0, 30).cast_signed()).max(1);
                Asked::Compact { at }
            }
            35 => {
                self.made += 1;
                Asked::Grant {
                    id: self.made.cast_signed(),
                    ttl: self.random.between(TTL.0, TTL.1).cast_signed(),
                }
            }
            36 if self.random.once_in(3) && !self.leases.is_empty() => Asked::Revoke {
                id: self.lease().unwrap_or(1),
            },
            37..=39 if !self.leases.is_empty() => Asked::Renew {
                id: self.lease().unwrap_or(1),
            },
            _ => Asked::Read {
                key: self.key(),
                at: 0,
                serializable: false,
            },
        }
    }

    fn call(&mut self, member: &Member, asked: Asked) {
        let answer: Rc<RefCell<Option<(u64, Told)>>> = Rc::default();
        let (into, asks) = (answer.clone(), asked.clone());
        let made = member.with(|staged, tasks| {
            let core = staged.core.clone();
            tasks.spawn_local(async move {
                let told = make(&core, asks).await;
                // Nobody hears from a process that has ended.
                if !steps::has_ended() {
                    *into.borrow_mut() = Some((system::true_ns(), told));
                }
            });
        });
        if made.is_none() {
            return;
        }
        match &asked {
            Asked::Compact { at } => self.compacted = self.compacted.max(*at),
            Asked::Grant { id, .. } => self.leases.push(*id),
            _ => {}
        }
        self.pending.push(Pending {
            place: member.place,
            life: member.life,
            call: Call {
                began_ns: system::true_ns(),
                ended_ns: 0,
                asked,
                told: Told::Unknown,
            },
            answer,
        });
    }
}

async fn make(core: &Core, asked: Asked) -> Told {
    if core.is_learner() && !is_asked_of_learners(&asked) {
        return Told::Refused;
    }
    match asked {
        Asked::Put { key, value, lease } => propose(core, Op::Put(put(key, value, lease))).await,
        Asked::Delete { key } => {
            propose(
                core,
                Op::DeleteRange(DeleteRange {
                    range: single(&key),
                    prev_kv: false,
                }),
            )
            .await
        }
        Asked::Swap {
            key,
            revision,
            value,
            also,
        } => propose(core, Op::Txn(swap(key, revision, value, also))).await,
        Asked::Read {
            key,
            at,
            serializable,
        } => read(core, &key, at, serializable).await,
        Asked::Compact { at } => propose(core, Op::Compact(Compact { revision: at })).await,
        Asked::Grant { id, ttl } => told(core.lease_grant(LeaseId(id), ttl).await),
        Asked::Renew { id } => match core.lease_keep_alive(LeaseId(id)).await {
            Ok(0) => Told::Gone,
            Ok(left) => Told::Lives(left),
            Err(error) => failed(&error),
        },
        Asked::Revoke { id } => propose(core, Op::LeaseRevoke(LeaseId(id))).await,
        Asked::Hash { at } => match core.hash_kv(at).await {
            Ok(found) => Told::Hashed(found.compact_revision.0, found.hash_revision.0, found.hash),
            Err(error) => failed(&error),
        },
        Asked::Defragment => match core.defragment().await {
            Ok(()) => Told::Defragmented,
            Err(error) => failed(&error),
        },
    }
}

/// What is asked of learners: of the rest the API takes nothing to them. It refuses reads that are not serializable
/// too, but what they answer must not hang on that.
fn is_asked_of_learners(asked: &Asked) -> bool {
    matches!(asked, Asked::Read { .. })
}

fn single(key: &str) -> KeyRange {
    KeyRange::single(key.to_owned().into())
}

fn put(key: String, value: String, lease: i64) -> Put {
    Put {
        key: key.into(),
        value: value.into(),
        lease: LeaseId(lease),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn swap(key: String, revision: i64, value: String, also: String) -> Txn {
    Txn {
        compare: vec![Compare {
            range: single(&key),
            result: CompareResult::Equal,
            target: CompareTarget::Mod(revision),
        }],
        failure: vec![TxnOp::Range(Range::all(single(&key)))],
        success: vec![
            TxnOp::Put(put(key, value.clone(), 0)),
            TxnOp::Put(put(also, value, 0)),
        ],
    }
}

async fn propose(core: &Core, op: Op) -> Told {
    told(core.propose(op).await)
}

fn told(answer: Result<result::Outcome, ServeError>) -> Told {
    let outcome = match answer {
        Ok(outcome) => outcome,
        Err(error) => return failed(&error),
    };
    let revision = outcome.revision.0;
    match &outcome.result {
        Ok(Applied::DeleteRange(deleted)) => Told::Deleted(revision, deleted.deleted),
        Ok(Applied::Txn(txn)) if !txn.succeeded => match txn.responses.first() {
            Some(result::TxnOp::Range(range)) => {
                Told::Kept(revision, range.items.first().map(found))
            }
            other => panic!("a swap answers {other:?}"),
        },
        Ok(_) => Told::Done(revision),
        Err(ApplyError::Compacted) => Told::Compacted,
        Err(ApplyError::LeaseNotFound) => Told::Gone,
        Err(ApplyError::NoSpace) => Told::NoSpace,
        Err(_) => Told::Refused,
    }
}

fn failed(error: &ServeError) -> Told {
    match error {
        ServeError::Apply(ApplyError::Compacted) => Told::Compacted,
        ServeError::LeaseNotFound | ServeError::Apply(ApplyError::LeaseNotFound) => Told::Gone,
        ServeError::NoSpace | ServeError::Apply(ApplyError::NoSpace) => Told::NoSpace,
        ServeError::Timeout
        | ServeError::TimeoutLeaderFail
        | ServeError::TimeoutConnectionLost
        | ServeError::Stopped
        | ServeError::Internal(_) => Told::Unknown,
        _ => Told::Refused,
    }
}

async fn read(core: &Core, key: &str, at: i64, serializable: bool) -> Told {
    let query = Range {
        revision: at,
        serializable,
        ..Range::all(single(key))
    };
    if !serializable && core.read_barrier().await.is_err() {
        return Told::Unknown;
    }
    match core.range(&query).await {
        Ok(answer) => Told::Read(answer.head.0, answer.found.items.first().map(found)),
        Err(error) => failed(&error),
    }
}

fn found(item: &Item) -> Found {
    let kv = KeyValue::decode(&Bytes::copy_from_slice(item.as_ref())).expect("it is sound");
    Found {
        value: text(&kv.value),
        revision: kv.mod_revision.0,
        lease: kv.lease.0,
    }
}

/// Bytes that these clients wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
