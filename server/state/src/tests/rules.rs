//! Rules that the recorded session does not show: alarms, leases, members, compares.

use crate::fixture::*;
use crate::types::request::{
    self, AlarmType, Compare, CompareResult, CompareTarget, MemberAttributes, Op, TxnOp,
};
use crate::types::result::{Alarm, Applied, ApplyError};
use crate::types::{LeaseId, MemberId, Revision};
use crate::{MemberNode, Meter};

const ME: MemberId = MemberId(7);

fn raise(machine: &mut Machine, alarm: AlarmType) {
    machine.reconfigure(&[node(ME.0, false)]);
    machine
        .run(Op::Alarm(request::Alarm::Activate(ME, alarm)))
        .unwrap();
}

fn grant(id: i64) -> Op {
    Op::LeaseGrant(request::LeaseGrant {
        id: LeaseId(id),
        ttl_seconds: 10,
    })
}

fn txn(op: TxnOp) -> Op {
    Op::Txn(request::Txn {
        success: vec![],
        failure: vec![op],
        ..Default::default()
    })
}

#[test]
fn no_space_refuses_what_grows_and_lets_the_rest_through() {
    let mut machine = Machine::new(0);
    machine.put("a", "1").unwrap();
    machine.put("a", "2").unwrap();
    machine.run(grant(5)).unwrap();
    raise(&mut machine, AlarmType::NoSpace);
    for op in [
        Op::Put(put("b", "1")),
        txn(TxnOp::Put(put("b", "1"))),
        grant(6),
    ] {
        assert_eq!(machine.run(op).err(), Some(ApplyError::NoSpace));
    }
    machine.delete("a", "").unwrap();
    machine
        .run(txn(TxnOp::DeleteRange(delete("a", ""))))
        .unwrap();
    machine.compact(2).unwrap();
    machine.run(Op::LeaseRevoke(LeaseId(5))).unwrap();
    let clear = Op::Alarm(request::Alarm::Deactivate(ME, AlarmType::NoSpace));
    machine.run(clear).unwrap();
    machine.put("b", "1").unwrap();
}

#[test]
fn corrupt_refuses_every_write_and_no_alarm_or_member_change() {
    let mut machine = Machine::new(0);
    machine.put("a", "1").unwrap();
    raise(&mut machine, AlarmType::NoSpace);
    raise(&mut machine, AlarmType::Corrupt);
    let compact = Op::Compact(request::Compact { revision: 2 });
    let ops = [
        Op::Put(put("b", "1")),
        Op::DeleteRange(delete("a", "")),
        txn(TxnOp::DeleteRange(delete("a", ""))),
        compact,
        grant(6),
        Op::LeaseRevoke(LeaseId(6)),
    ];
    for op in ops {
        assert_eq!(machine.run(op).err(), Some(ApplyError::Corrupt));
    }
    assert_eq!(machine.list(&all()), "a=1");
    machine
        .run(Op::SetClusterVersion("3.7.0".to_owned()))
        .unwrap();
    assert_eq!(machine.state.cluster_version.as_deref(), Some("3.7.0"));
}

#[test]
fn one_corrupt_member_of_three_stops_nobody_but_itself() {
    let mut machine = Machine::new(0);
    machine.reconfigure(&[node(1, false), node(2, false), node(3, false)]);
    let activate = |member| {
        Op::Alarm(request::Alarm::Activate(
            MemberId(member),
            AlarmType::Corrupt,
        ))
    };
    machine.run(activate(3)).unwrap();
    machine.put("a", "1").unwrap();
    machine.run(activate(2)).unwrap();
    assert_eq!(machine.put("a", "2").err(), Some(ApplyError::Corrupt));
    let clear = Op::Alarm(request::Alarm::Deactivate(MemberId(3), AlarmType::Corrupt));
    machine.run(clear).unwrap();
    machine.put("a", "2").unwrap();
}

#[test]
fn alarms_are_raised_for_members_alone_and_go_with_them() {
    let mut machine = Machine::new(0);
    machine.reconfigure(&[node(1, false), node(2, false), node(3, false)]);
    for alarm in [AlarmType::NoSpace, AlarmType::Corrupt] {
        let activate = |member| Op::Alarm(request::Alarm::Activate(MemberId(member), alarm));
        for stranger in [0, 9] {
            let refused = machine.run(activate(stranger)).err();
            assert_eq!(refused, Some(ApplyError::MemberNotFound));
        }
        machine.run(activate(3)).unwrap();
    }
    assert_eq!(machine.storage.tables.alarms.len(), 2);
    assert_eq!(machine.put("a", "1").err(), Some(ApplyError::NoSpace));
    machine.reconfigure(&[node(1, false), node(2, false)]);
    assert_eq!(machine.state.alarms.iter().count(), 0);
    assert!(machine.storage.tables.alarms.is_empty());
    machine.put("a", "1").unwrap();
}

#[test]
fn what_an_earlier_version_stored_for_strangers_stops_nobody_and_can_be_cleared() {
    let mut machine = Machine::new(0);
    machine.reconfigure(&[node(1, false), node(2, false)]);
    for alarm in [AlarmType::NoSpace, AlarmType::Corrupt] {
        let member = MemberId(9);
        machine.storage.tables.alarms.push(Alarm { member, alarm });
    }
    machine.state = machine.reloaded();
    assert_eq!(machine.state.alarms.iter().count(), 2);
    machine.put("a", "1").unwrap();
    let clear = request::Alarm::Deactivate(MemberId(9), AlarmType::Corrupt);
    machine.run(Op::Alarm(clear)).unwrap();
    assert_eq!(machine.storage.tables.alarms.len(), 1);
    // The next configuration takes the rest away.
    machine.reconfigure(&[node(1, false), node(2, false)]);
    assert!(machine.storage.tables.alarms.is_empty());
}

#[test]
fn an_alarm_is_named_when_raised_again_and_not_when_cleared_again() {
    let mut machine = Machine::new(0);
    raise(&mut machine, AlarmType::NoSpace);
    let named = |answer| match answer {
        Ok(Applied::Alarm(alarms)) => alarms.len(),
        other => panic!("not an alarm: {other:?}"),
    };
    let up = Op::Alarm(request::Alarm::Activate(ME, AlarmType::NoSpace));
    let down = Op::Alarm(request::Alarm::Deactivate(ME, AlarmType::NoSpace));
    assert_eq!(named(machine.run(up)), 1);
    assert_eq!(machine.storage.tables.alarms.len(), 1);
    assert_eq!(machine.reloaded().alarms.iter().count(), 1);
    assert_eq!(named(machine.run(down.clone())), 1);
    assert_eq!(named(machine.run(down)), 0);
    assert!(machine.storage.tables.alarms.is_empty());
}

#[test]
fn a_put_moves_a_key_between_leases_and_detaches_it() {
    let mut machine = Machine::new(0);
    machine.grant(1).unwrap();
    machine.grant(2).unwrap();
    let attached =
        |machine: &Machine, id: i64| machine.state.leases.get(LeaseId(id)).unwrap().1.count();
    machine.put_leased("a", 1).unwrap();
    machine.put_leased("a", 2).unwrap();
    assert_eq!((attached(&machine, 1), attached(&machine, 2)), (0, 1));
    let keep = request::Put {
        ignore_lease: true,
        ..put("a", "x")
    };
    machine.run(Op::Put(keep)).unwrap();
    assert_eq!(machine.state.leases.lease_of(b"a"), LeaseId(2));
    machine.put("a", "y").unwrap();
    assert_eq!(attached(&machine, 2), 0);
    machine.put_leased("a", 1).unwrap();
    machine.delete("a", "").unwrap();
    assert_eq!(attached(&machine, 1), 0);
}

#[test]
fn a_revoked_lease_takes_its_keys_in_key_order_and_one_revision() {
    let mut machine = Machine::new(0);
    machine.grant(1).unwrap();
    for key in ["c", "a", "b"] {
        machine.put_leased(key, 1).unwrap();
    }
    let outcome = machine.apply(&Op::LeaseRevoke(LeaseId(1)));
    assert_eq!(outcome.revision, Revision(5));
    let events = machine.write();
    assert!(
        events
            .iter()
            .map(|event| &event.key[..])
            .eq([&b"a"[..], b"b", b"c"])
    );
    assert!(
        events
            .iter()
            .all(|event| event.tombstone && event.pair.main == Revision(5))
    );
    machine.grant(1).unwrap();
    machine.run(Op::LeaseRevoke(LeaseId(1))).unwrap();
    assert_eq!(
        machine.revision(),
        5,
        "a lease without keys changes no revision"
    );
}

#[test]
fn an_absent_key_compares_as_zeros_and_never_by_value() {
    let mut machine = Machine::new(0);
    let mut holds = |target: CompareTarget, result: CompareResult| {
        let compare = vec![Compare {
            range: keys("none", ""),
            result,
            target,
        }];
        let txn = request::Txn {
            compare,
            ..Default::default()
        };
        match machine.run(Op::Txn(txn)) {
            Ok(Applied::Txn(txn)) => txn.succeeded,
            other => panic!("not a transaction: {other:?}"),
        }
    };
    assert!(holds(CompareTarget::Version(0), CompareResult::Equal));
    assert!(holds(CompareTarget::Mod(1), CompareResult::Less));
    assert!(holds(CompareTarget::Lease(0), CompareResult::Equal));
    assert!(!holds(
        CompareTarget::Value(bytes::Bytes::new()),
        CompareResult::Equal
    ));
    assert!(!holds(
        CompareTarget::Value(bytes::Bytes::new()),
        CompareResult::NotEqual
    ));
}

#[test]
fn a_failing_operation_late_in_a_transaction_leaves_nothing_of_the_earlier_ones() {
    let mut machine = Machine::new(0);
    let bad = request::Put {
        lease: LeaseId(9),
        ..put("b", "1")
    };
    let answer = machine.txn(vec![TxnOp::Put(put("a", "1")), TxnOp::Put(bad)]);
    assert_eq!(answer.err(), Some(ApplyError::LeaseNotFound));
    assert_eq!((machine.revision(), machine.list(&all()).as_str()), (1, ""));
}

#[test]
fn a_negative_revision_is_the_latest_alone_but_below_a_compaction_in_a_transaction() {
    let mut machine = Machine::new(0);
    machine.put("a", "1").unwrap();
    assert!(machine.txn(vec![TxnOp::Range(at(-1))]).is_ok());
    assert_eq!(
        machine.txn(vec![TxnOp::Range(at(-2))]).err(),
        Some(ApplyError::Compacted)
    );
    machine.compact(2).unwrap();
    assert_eq!(
        machine.txn(vec![TxnOp::Range(at(-1))]).err(),
        Some(ApplyError::Compacted)
    );
    assert!(machine.range(&at(-1)).is_ok());
}

#[test]
fn a_read_only_transaction_answers_what_the_log_would() {
    let mut machine = Machine::new(0);
    machine.put("a", "1").unwrap();
    let inner = request::Txn {
        success: vec![TxnOp::Range(all())],
        ..Default::default()
    };
    let txn = request::Txn {
        success: vec![TxnOp::Txn(inner)],
        ..Default::default()
    };
    let read = machine
        .state
        .read_txn(&txn, &machine.storage, &mut { Meter::OPERATION })
        .map(|answer| Applied::Txn(answer.expect("few compares")));
    assert_eq!(show(&read), show(&machine.run(Op::Txn(txn))));
}

fn node(id: u64, learner: bool) -> MemberNode {
    MemberNode {
        id: MemberId(id),
        peer_urls: vec![format!("http://peer-{id}")],
        learner,
    }
}

fn publish(id: u64, incarnation: u64, name: &str) -> Op {
    Op::PublishMember {
        member: MemberId(id),
        incarnation,
        attributes: MemberAttributes {
            name: name.to_owned(),
            client_urls: vec![],
            apply_version: 0,
        },
    }
}

#[test]
fn members_are_those_of_the_configuration_and_a_wiped_one_is_not_heard() {
    let mut machine = Machine::new(0);
    machine.reconfigure(&[node(1, false), node(2, true)]);
    machine.run(publish(1, 11, "first")).unwrap();
    machine.run(publish(1, 12, "wiped")).unwrap();
    machine.run(publish(3, 1, "stranger")).unwrap();
    machine.reconfigure(&[node(1, false), node(2, false)]);
    let loaded = machine.reloaded();
    for state in [&machine.state, &loaded] {
        assert_eq!(state.members.len(), 2);
        let member = state.members.get(MemberId(1)).unwrap();
        assert_eq!(
            (member.attributes.name.as_str(), member.incarnation),
            ("first", 11)
        );
        assert!(!state.members.get(MemberId(2)).unwrap().learner);
        assert!(!state.members.is_removed(MemberId(1)));
    }
}

#[test]
fn a_member_no_longer_named_is_removed_for_good() {
    let mut machine = Machine::new(0);
    machine.reconfigure(&[node(1, false), node(2, false)]);
    machine.run(publish(2, 21, "second")).unwrap();
    machine.reconfigure(&[node(1, false)]);
    machine.run(publish(2, 21, "second")).unwrap();
    let loaded = machine.reloaded();
    for state in [&machine.state, &loaded] {
        assert!(state.members.get(MemberId(2)).is_none());
        assert!(state.members.is_removed(MemberId(2)));
        assert_eq!(state.members.removed().collect::<Vec<_>>(), [MemberId(2)]);
    }
}

#[test]
fn transactions_within_transactions_have_room_on_any_stack() {
    let mut nested = put("deep", "1");
    nested.prev_kv = true;
    let mut op = TxnOp::Put(nested);
    for _ in 0..4_999 {
        op = TxnOp::Txn(request::Txn {
            failure: vec![],
            success: vec![op],
            ..Default::default()
        });
    }
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let running = small.spawn(move || {
        let mut machine = Machine::new(0);
        let op = txn_of(op.clone());
        assert!(machine.run(op).is_ok());
        machine.list(&request::Range::all(keys("deep", "")))
    });
    assert_eq!(running.unwrap().join().unwrap(), "deep=1");
}

fn txn_of(op: TxnOp) -> Op {
    Op::Txn(request::Txn {
        success: vec![op],
        ..Default::default()
    })
}
