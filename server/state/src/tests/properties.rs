//! Random operations on the state and on the model: every answer, every event, every hash must be
//! equal, at every readable revision, however far reclaiming has come, before and after a restart.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::fixture::*;
use super::model::Model;
use crate::types::request::{
    Compact, Compare, CompareResult, CompareTarget, DeleteRange, LeaseGrant, Op, Put, Range,
    SortOrder, SortTarget, Txn, TxnOp,
};
use crate::types::{KeyRange, KeyValue, LeaseId, RangeEnd, Revision, RevisionPair};
use crate::{Change, CompactionHash, Event, KeyValueHash, Plan, Previous};

#[derive(Clone, Debug)]
enum Step {
    Apply(Op),
    /// Ends the batch.
    Write,
    /// Reclaims at most so many.
    Reclaim(usize),
    Ask(Range),
    Hash(i64),
    /// Pins a revision so far below the newest.
    Pin(i64),
    Unpin,
    Restart,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "ab", "abc", "b", "ba", "c", "ca", "d"])
        .prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        2 => Just(RangeEnd::SingleKey),
        1 => Just(RangeEnd::Unbounded),
        3 => key().prop_map(RangeEnd::Before),
    ];
    (key(), end).prop_map(|(start, end)| KeyRange { start, end })
}

fn value() -> impl Strategy<Value = Bytes> {
    vec(0u8..4, 0..12).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (0i64..4).prop_map(LeaseId)
}

fn put() -> impl Strategy<Value = Put> {
    let flag = || prop::bool::weighted(0.2);
    (key(), value(), lease(), flag(), flag(), flag()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| {
            let lease = if ignore_lease { LeaseId::NONE } else { lease };
            let value = if ignore_value { Bytes::new() } else { value };
            Put {
                key,
                value,
                lease,
                prev_kv,
                ignore_value,
                ignore_lease,
            }
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

fn query() -> impl Strategy<Value = Range> {
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let bound = || prop_oneof![4 => Just(0i64), 1 => 1i64..30];
    let flag = || prop::bool::weighted(0.2);
    let revision = prop_oneof![2 => Just(0i64), 3 => -2i64..40];
    let what = (range(), -1i64..5, revision, target, order, flag(), flag());
    (what, bound(), bound(), bound(), bound()).prop_map(
        |(what, min_mod_revision, max_mod_revision, min_create_revision, max_create_revision)| {
            let (range, limit, revision, sort_target, sort_order, keys_only, count_only) = what;
            Range {
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision,
                max_mod_revision,
                min_create_revision,
                max_create_revision,
                ..Range::all(range)
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0i64..4).prop_map(CompareTarget::Version),
        (0i64..20).prop_map(CompareTarget::Create),
        (0i64..20).prop_map(CompareTarget::Mod),
        value().prop_map(CompareTarget::Value),
        (0i64..4).prop_map(CompareTarget::Lease),
    ];
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ]);
    (range(), result, target).prop_map(|(range, result, target)| Compare {
        range,
        result,
        target,
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    let op = prop_oneof![
        query().prop_map(TxnOp::Range),
        put().prop_map(TxnOp::Put),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::DeleteRange),
    ];
    let flat = |op| {
        (vec(compare(), 0..2), vec(op, 0..4)).prop_flat_map(|(compare, success)| {
            let failure = success.iter().rev().cloned().collect();
            Just(Txn {
                compare,
                success,
                failure,
            })
        })
    };
    let op = op.boxed();
    let nested = prop_oneof![4 => op.clone(), 1 => flat(op).prop_map(TxnOp::Txn)];
    (
        vec(compare(), 0..2),
        vec(nested.clone(), 0..4),
        vec(nested, 0..4),
    )
        .prop_map(|(compare, success, failure)| {
            let mut txn = Txn {
                compare,
                success,
                failure,
            };
            for branch in [&mut txn.success, &mut txn.failure] {
                without_duplicates(branch, &mut Vec::new());
            }
            txn
        })
}

/// Drops what etcd's edge refuses: two changes of one key in one transaction.
fn without_duplicates(ops: &mut Vec<TxnOp>, written: &mut Vec<KeyRange>) {
    ops.retain_mut(|op| {
        let range = match op {
            TxnOp::Range(_) => return true,
            TxnOp::Put(put) => KeyRange::single(put.key.clone()),
            TxnOp::DeleteRange(delete) => delete.range.clone(),
            TxnOp::Txn(inner) => {
                // Only one branch runs, but what follows must suit either.
                without_duplicates(&mut inner.success, written);
                without_duplicates(&mut inner.failure, written);
                return true;
            }
        };
        let meets = |other: &KeyRange| {
            ["a", "ab", "abc", "b", "ba", "c", "ca", "d"]
                .iter()
                .any(|key| range.contains(key.as_bytes()) && other.contains(key.as_bytes()))
        };
        if written.iter().any(meets) {
            return false;
        }
        written.push(range);
        true
    });
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        8 => put().prop_map(Op::Put),
        3 => delete().prop_map(Op::DeleteRange),
        4 => txn().prop_map(Op::Txn),
        2 => (-1i64..40).prop_map(|revision| Op::Compact(Compact { revision })),
        2 => (1i64..4).prop_map(|id| Op::LeaseGrant(LeaseGrant { id: LeaseId(id), ttl_seconds: 9 })),
        1 => (1i64..4).prop_map(|id| Op::LeaseRevoke(LeaseId(id))),
    ];
    prop_oneof![
        12 => op.prop_map(Step::Apply),
        4 => Just(Step::Write),
        3 => (1usize..4).prop_map(Step::Reclaim),
        6 => query().prop_map(Step::Ask),
        2 => (0i64..40).prop_map(Step::Hash),
        1 => (0i64..4).prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        1 => Just(Step::Restart),
    ]
}

struct Trial {
    machine: Machine,
    model: Model,
    pinned: Vec<Revision>,
}

impl Trial {
    fn take(&mut self, step: Step) {
        match step {
            Step::Apply(op) => self.apply(&op),
            Step::Write => self.write(),
            Step::Reclaim(max) => {
                self.machine
                    .state
                    .compact_step(max, &mut self.machine.batch);
            }
            Step::Ask(query) => self.ask(&query),
            Step::Hash(revision) => self.hash(revision),
            Step::Pin(below) => self.pin(Revision(self.model.revision - below)),
            Step::Unpin => {
                if let Some(revision) = self.pinned.pop() {
                    self.machine.state.mvcc.unpin(revision);
                }
            }
            Step::Restart => self.restart(),
        }
        self.ask_pinned();
        let alive = self.model.keys_at(&everything(), i64::MAX).len() as u64;
        assert_eq!(self.machine.state.mvcc.keys_total(), alive);
    }

    fn apply(&mut self, op: &Op) {
        let changes = self.machine.batch.changes.len();
        let events = self.machine.batch.events.len();
        let hashing = self.compaction_hash(op);
        let outcome = self.machine.apply(op);
        if let Some((hash, expected)) = hashing {
            assert_eq!(self.finish_hash(hash), expected, "as before {op:?}");
        }
        let expected = self.model.apply(op);
        assert_eq!(show(&outcome.result), show(&expected), "{op:?}");
        assert_eq!(outcome.revision.0, self.model.revision);
        if outcome.result.is_err() {
            assert_eq!(
                self.machine.batch.changes.len(),
                changes,
                "an error leaves nothing"
            );
            assert_eq!(
                self.machine.batch.events.len(),
                events,
                "an error leaves nothing"
            );
        }
    }

    fn write(&mut self) {
        let events = self.machine.write();
        events.iter().for_each(|event| self.check_event(event));
        if self.machine.cache_bytes == 0 {
            assert_eq!(self.machine.state.mvcc.value_cache_bytes(), 0);
        }
    }

    fn check_event(&self, event: &Event) {
        let now = KeyValue::decode(&event.encoded).unwrap();
        let main = event.pair.main.0;
        assert_eq!(now.key, event.key);
        match self.model.get(&event.key, main) {
            Some(kv) => assert_eq!(*kv, now),
            None => {
                assert!(event.tombstone);
                let bare = KeyValue {
                    key: now.key.clone(),
                    mod_revision: event.pair.main,
                    ..Default::default()
                };
                assert_eq!(now, bare);
            }
        }
        let expected = self.model.get(&event.key, main - 1).map(KeyValue::encode);
        match &event.previous {
            Previous::None => assert_eq!(expected, None),
            Previous::Known(stored) => assert_eq!(expected.as_deref(), stored.encoded()),
            Previous::At(pair) => {
                let expected = KeyValue::decode(&expected.unwrap()).unwrap();
                assert_eq!(expected.mod_revision, pair.main);
            }
        }
    }

    fn ask(&self, query: &Range) {
        let answer = self.machine.range(query).map(|range| show_range(&range));
        let expected = self.model.range(query).map(|range| show_range(&range));
        assert_eq!(answer, expected, "{query:?}");
        if Plan::serves(query) {
            let planned = self.machine.state.mvcc.plan(query).map(|plan| {
                show_range(
                    &plan
                        .resolve(&self.machine.storage)
                        .expect("held under the lock"),
                )
            });
            assert_eq!(planned, expected, "planned: {query:?}");
        }
    }

    fn ask_pinned(&self) {
        for revision in &self.pinned {
            let query = Range {
                revision: revision.0,
                limit: 2,
                ..Range::all(everything())
            };
            let plan = walked(&self.machine, &query);
            let answer = plan.resolve(&self.machine.storage).expect("pinned");
            let expected = self.model.range_at(&query, revision.0);
            assert_eq!(
                show_range(&answer),
                show_range(&expected),
                "pinned at {revision}"
            );
        }
    }

    /// The hash of what `op` compacts at, begun, and what it has to come to.
    fn compaction_hash(&self, op: &Op) -> Option<(CompactionHash, KeyValueHash)> {
        let Op::Compact(compact) = op else {
            return None;
        };
        let begun = self
            .machine
            .state
            .mvcc
            .compaction_hash(Revision(compact.revision))?;
        Some((begun, self.model.hash(compact.revision)))
    }

    fn finish_hash(&self, mut hash: CompactionHash) -> KeyValueHash {
        let mvcc = &self.machine.state.mvcc;
        let unwritten = self.machine.batch.changes.iter();
        let unwritten = unwritten.filter_map(|change| match change {
            Change::PutRevision(record) => Some(record),
            _ => None,
        });
        let stored = self.machine.storage.records.values().chain(unwritten);
        let records: Vec<_> = stored
            .filter(|record| record.pair.main <= hash.revision())
            .cloned()
            .collect();
        for page in records.chunks(3) {
            let visible = mvcc.visible_at(hash.revision(), hash.undecided(page));
            hash.feed(page, &visible);
        }
        hash.finish()
    }

    fn hash(&self, revision: i64) {
        match self.machine.hash(revision) {
            Ok(hash) => assert_eq!(hash, self.model.hash(revision)),
            Err(_) => {
                assert!(revision < self.model.compacted || revision > self.model.revision);
            }
        }
    }

    fn pin(&mut self, revision: Revision) {
        let readable = revision.0 >= self.model.compacted.max(1);
        if readable && self.machine.state.mvcc.pin(revision).is_ok() {
            self.pinned.push(revision);
        }
    }

    /// A restart between two batches; what was pinned is forgotten.
    fn restart(&mut self) {
        self.write();
        let loaded = self.machine.reloaded();
        let running = &self.machine.state;
        assert_eq!(loaded.mvcc.logical_bytes(), running.mvcc.logical_bytes());
        assert_eq!(loaded.mvcc.superseded_len(), running.mvcc.superseded_len());
        assert_eq!(
            loaded.mvcc.compact_revision(),
            running.mvcc.compact_revision()
        );
        assert_eq!(
            loaded.mvcc.compact_finished(),
            running.mvcc.compact_finished()
        );
        assert!(loaded.leases.iter().eq(running.leases.iter()));
        self.machine.state = loaded;
        self.pinned.clear();
        self.check_leases();
        self.ask_everything();
    }

    fn check_leases(&self) {
        for id in &self.model.leases {
            let (_, keys) = self.machine.state.leases.get(*id).expect("granted");
            assert!(keys.eq(self.model.keys_of(*id).iter()));
        }
        assert_eq!(self.machine.state.leases.len(), self.model.leases.len());
    }

    fn ask_everything(&self) {
        for revision in self.model.compacted.max(1)..=self.model.revision {
            let query = Range {
                revision,
                ..Range::all(everything())
            };
            self.ask(&query);
            self.ask(&Range {
                keys_only: true,
                limit: 2,
                ..query.clone()
            });
            self.ask(&Range {
                count_only: true,
                ..query
            });
            self.hash(revision);
        }
    }

    /// Lets reclaiming finish and checks that exactly what a finished compaction keeps is left.
    fn finish(mut self) {
        self.write();
        self.check_leases();
        self.ask_everything();
        for revision in std::mem::take(&mut self.pinned) {
            self.machine.state.mvcc.unpin(revision);
        }
        self.machine.reclaim(2);
        self.ask_everything();
        let compacted = self.model.compacted;
        let mut kept: Vec<RevisionPair> = Vec::new();
        for versions in self.model.history.values() {
            let last = versions
                .iter()
                .rposition(|(pair, _)| pair.main.0 <= compacted);
            let needed = versions.iter().enumerate().filter(|(place, (pair, kv))| {
                let visible = Some(*place) == last && (kv.is_some() || pair.main.0 == compacted);
                pair.main.0 > compacted || visible
            });
            kept.extend(needed.map(|(_, (pair, _))| *pair));
        }
        kept.sort_unstable();
        assert!(self.machine.storage.records.keys().eq(kept.iter()));
        self.restart();
    }
}

fn everything() -> KeyRange {
    KeyRange {
        start: Bytes::new(),
        end: RangeEnd::Unbounded,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_state_answers_as_the_model_does(
        steps in vec(step(), 1..80),
        cache_bytes in prop::sample::select(vec![0usize, 200, 1 << 20]),
    ) {
        let machine = Machine::new(cache_bytes);
        let mut trial = Trial { machine, model: Model::new(), pinned: Vec::new() };
        for step in steps {
            trial.take(step);
        }
        trial.finish();
    }
}
