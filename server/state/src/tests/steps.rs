//! Applying in steps: whoever looks in while a batch is applied sees the store before it.

use std::fmt::Write as _;

use crate::fixture::*;
use crate::types::request::{
    self, Compare, CompareResult, CompareTarget, Op, SortOrder, SortTarget, TxnOp,
};
use crate::types::result::Applied;
use crate::types::{LeaseId, Revision};
use crate::{Effects, Hold, Meter, State, apply};

/// More keys than a step has.
const KEYS: usize = 300;

/// A state at which readers look whenever they are let in.
struct Watched<'a> {
    state: &'a mut State,
    storage: &'a Storage,
    before: String,
    looks: usize,
}

impl Watched<'_> {
    fn look(&mut self) {
        self.looks += 1;
        assert_eq!(view(self.state, self.storage), self.before);
    }
}

impl Hold for Watched<'_> {
    fn state(&mut self) -> &mut State {
        self.state
    }

    fn in_company(&mut self, read: &mut dyn FnMut(&State)) {
        self.look();
        read(self.state);
    }

    fn breathe(&mut self) {
        self.look();
    }
}

/// Everything that readers may ask for.
fn view(state: &State, storage: &Storage) -> String {
    let mvcc = &state.mvcc;
    let mut out = format!("{:?} {:?} ", mvcc.revision(), mvcc.compact_revision());
    let page = |start: &str| request::Range {
        limit: 7,
        ..request::Range::all(keys(start, "\0"))
    };
    let sorted = |sort_target| request::Range {
        sort_target,
        sort_order: SortOrder::Descend,
        ..all()
    };
    let queries = [
        all(),
        page("\0"),
        page("key-150"),
        request::Range {
            count_only: true,
            ..request::Range::all(keys("key-1", "key-2"))
        },
        request::Range::all(keys("key-042", "")),
        sorted(SortTarget::Mod),
        sorted(SortTarget::Value),
        request::Range {
            min_mod_revision: 3,
            ..all()
        },
        at(mvcc.compact_revision().0),
        at(mvcc.revision().0),
    ];
    for query in &queries {
        let found = mvcc.range(query, storage).expect("readable");
        writeln!(out, "{}", show_range(&found)).unwrap();
    }
    let future = mvcc.range(&at(mvcc.revision().0 + 1), storage);
    let compare = |key: &str, end: &str, target| Compare {
        range: keys(key, end),
        target,
        result: CompareResult::Equal,
    };
    let txn = request::Txn {
        compare: vec![
            compare("key-042", "", CompareTarget::Value("new".into())),
            compare("key-1", "key-2", CompareTarget::Version(1)),
        ],
        success: vec![TxnOp::Range(all())],
        failure: vec![TxnOp::Range(page("key-2"))],
    };
    let mut meter = Meter {
        keys: 1 << 20,
        bytes: 1 << 30,
        past: false,
        later: None,
    };
    let txn = state.read_txn(&txn, storage, &mut meter);
    let txn = txn.map(|found| Applied::Txn(found.expect("within the meter")));
    let mut plan = mvcc.hash_keep(Revision(0)).unwrap();
    for record in storage.records.values() {
        if !plan.feed(record.lent()) {
            break;
        }
    }
    write!(out, "{:?} {} {:?}", future.err(), show(&txn), plan.finish()).unwrap();
    mvcc.pin(mvcc.revision()).unwrap();
    mvcc.unpin(mvcc.revision());
    out
}

/// Applies a batch with readers looking in, then writes and shows it. How often they looked.
fn run(machine: &mut Machine, ops: &[Op]) -> usize {
    let mut effects = Effects::default();
    let before = view(&machine.state, &machine.storage);
    let mut watched = Watched {
        state: &mut machine.state,
        storage: &machine.storage,
        before: before.clone(),
        looks: 0,
    };
    for op in ops {
        apply(&mut watched, op, &machine.storage, &mut effects)
            .result
            .unwrap();
        watched.look();
    }
    let looks = watched.looks;
    machine.batch = effects;
    let events = machine.write();
    // Written, and not shown yet.
    assert_eq!(view(&machine.state, &machine.storage), before);
    machine.state.show();
    let after = view(&machine.state, &machine.storage);
    assert!(events.is_empty() || after != before);
    // What is shown is what a restart would find.
    assert_eq!(view(&machine.reloaded(), &machine.storage), after);
    looks
}

fn puts(value: &str) -> Vec<Op> {
    let put = |n| Op::Put(put(&format!("key-{n:03}"), value));
    (0..KEYS).map(put).collect()
}

fn machines() -> impl Iterator<Item = Machine> {
    [0, 4 << 10, 1 << 20].into_iter().map(Machine::new)
}

#[test]
fn nobody_sees_half_a_deletion() {
    for mut machine in machines() {
        run(&mut machine, &puts("old"));
        run(&mut machine, &puts("new"));
        let looks = run(&mut machine, &[Op::DeleteRange(delete("key-0", "key-25"))]);
        assert!(looks > 4, "readers are let in {looks} times");
        assert_eq!(machine.state.mvcc.keys_total(), 50);
    }
}

#[test]
fn nobody_sees_half_a_transaction() {
    for mut machine in machines() {
        run(&mut machine, &puts("old"));
        let mut ops: Vec<TxnOp> = (0..KEYS)
            .map(|n| TxnOp::Put(put(&format!("key-{n:03}"), "new")))
            .collect();
        ops.push(TxnOp::Range(all()));
        ops.push(TxnOp::DeleteRange(request::DeleteRange {
            prev_kv: true,
            ..delete("key-1", "key-3")
        }));
        ops.push(TxnOp::Put(put("key-150", "again")));
        let compare = Compare {
            range: keys("key-", "key."),
            target: CompareTarget::Value("old".into()),
            result: CompareResult::Equal,
        };
        let txn = request::Txn {
            compare: vec![compare],
            success: ops,
            failure: vec![],
        };
        let looks = run(&mut machine, &[Op::Txn(txn)]);
        assert!(looks > 8, "readers are let in {looks} times");
        assert_eq!(machine.state.mvcc.keys_total(), 101);
    }
}

#[test]
fn nobody_sees_half_a_batch() {
    for mut machine in machines() {
        run(&mut machine, &puts("old"));
        let revision = machine.revision();
        let grant = request::LeaseGrant {
            id: LeaseId(1),
            ttl_seconds: 60,
        };
        let leased = |n| {
            Op::Put(request::Put {
                lease: LeaseId(1),
                ..put(&format!("key-{n:03}"), "leased")
            })
        };
        let mut ops = vec![Op::LeaseGrant(grant)];
        ops.extend((0..200).map(leased));
        // Beyond what readers see, so that it must not be told to them yet.
        ops.push(Op::Compact(request::Compact {
            revision: revision + 150,
        }));
        run(&mut machine, &ops);
        run(
            &mut machine,
            &[Op::LeaseRevoke(LeaseId(1)), Op::Put(put("last", "1"))],
        );
        assert_eq!(machine.state.mvcc.keys_total(), 101);
        machine.reclaim(50);
        run(&mut machine, &puts("again"));
    }
}
