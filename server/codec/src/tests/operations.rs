//! Operations of every kind, drawn for the tests beside.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::types::auth::{Allows, AuthOp, Identity, Permission, Secret};
use crate::types::request::{
    Alarm, AlarmType, Asked, Compact, Compare, CompareResult, CompareTarget, DeleteRange,
    LeaseGrant, MemberAttributes, Op, Put, Range, SortOrder, SortTarget, Txn, TxnOp,
};
use crate::types::{KeyRange, LeaseId, MemberId};

pub(super) fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

pub(super) fn key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..=12).prop_map(Bytes::from)
}

pub(super) fn key_range() -> impl Strategy<Value = KeyRange> {
    (
        key(),
        prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), key()],
    )
        .prop_map(|(start, end)| KeyRange::from_request(start, end))
}

fn range() -> impl Strategy<Value = Range> {
    let order = prop_oneof![
        Just(SortOrder::None),
        Just(SortOrder::Ascend),
        Just(SortOrder::Descend)
    ];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::Create),
        Just(SortTarget::Mod),
        Just(SortTarget::Value)
    ];
    let numbers = proptest::array::uniform6(any::<i64>());
    (key_range(), numbers, order, target, any::<[bool; 3]>()).prop_map(
        |(range, numbers, sort_order, sort_target, flags)| Range {
            range,
            limit: numbers[0],
            revision: numbers[1],
            sort_order,
            sort_target,
            serializable: flags[0],
            keys_only: flags[1],
            count_only: flags[2],
            min_mod_revision: numbers[2],
            max_mod_revision: numbers[3],
            min_create_revision: numbers[4],
            max_create_revision: numbers[5],
        },
    )
}

fn put() -> impl Strategy<Value = Put> {
    (key(), bytes(40), any::<i64>(), any::<[bool; 3]>()).prop_map(|(key, value, lease, flags)| {
        Put {
            key,
            value: if flags[1] { Bytes::new() } else { value },
            lease: if flags[2] {
                LeaseId::NONE
            } else {
                LeaseId(lease)
            },
            prev_kv: flags[0],
            ignore_value: flags[1],
            ignore_lease: flags[2],
        }
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::Create),
        any::<i64>().prop_map(CompareTarget::Mod),
        bytes(9).prop_map(CompareTarget::Value),
        any::<i64>().prop_map(CompareTarget::Lease),
    ];
    let relation = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual)
    ];
    (key_range(), relation, target).prop_map(|(range, result, target)| Compare {
        range,
        result,
        target,
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        range().prop_map(TxnOp::Range),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::DeleteRange)
    ];
    let op = leaf.prop_recursive(4, 24, 4, |inner| {
        (
            vec(compare(), 0..3),
            vec(inner.clone(), 0..4),
            vec(inner, 0..4),
        )
            .prop_map(|(compare, success, failure)| {
                TxnOp::Txn(Txn {
                    compare,
                    success,
                    failure,
                })
            })
    });
    (vec(compare(), 0..4), vec(op.clone(), 0..5), vec(op, 0..5)).prop_map(
        |(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        },
    )
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let alarm_type = prop_oneof![Just(AlarmType::NoSpace), Just(AlarmType::Corrupt)];
    let text = "[a-z:/]{0,12}";
    prop_oneof![
        put().prop_map(Op::Put),
        delete().prop_map(Op::DeleteRange),
        txn().prop_map(Op::Txn),
        any::<i64>().prop_map(|revision| Op::Compact(Compact { revision })),
        any::<(i64, i64)>().prop_map(|(id, ttl_seconds)| Op::LeaseGrant(LeaseGrant {
            id: LeaseId(id),
            ttl_seconds
        })),
        any::<i64>().prop_map(|id| Op::LeaseRevoke(LeaseId(id))),
        (any::<u64>(), alarm_type, any::<bool>()).prop_map(|(id, kind, raise)| {
            let member = MemberId(id);
            Op::Alarm(if raise {
                Alarm::Activate(member, kind)
            } else {
                Alarm::Deactivate(member, kind)
            })
        }),
        (any::<u64>(), any::<u64>(), text, vec(text, 0..3)).prop_map(|(id, n, name, urls)| {
            Op::PublishMember {
                member: MemberId(id),
                incarnation: n,
                attributes: MemberAttributes {
                    name,
                    client_urls: urls,
                    apply_version: n as u32,
                },
            }
        }),
        text.prop_map(Op::SetClusterVersion),
        auth_op().prop_map(Op::Auth),
    ]
}

fn auth_op() -> impl Strategy<Value = AuthOp> {
    let text = "[a-z]{0,8}";
    let secret = || "[ -~]{0,60}".prop_map(|text| Secret(text.into_bytes()));
    let permission = (key(), bytes(4), 0..3).prop_map(|(key, range_end, allows)| Permission {
        key,
        range_end,
        allows: [Allows::Read, Allows::Write, Allows::ReadWrite][allows as usize],
    });
    prop_oneof![
        Just(AuthOp::Enable),
        Just(AuthOp::Disable),
        (text, secret())
            .prop_map(|(user, token_prefix)| AuthOp::Authenticate { user, token_prefix }),
        (text, secret(), any::<bool>()).prop_map(|(name, password_hash, no_password)| {
            AuthOp::UserAdd {
                name,
                password_hash,
                no_password,
            }
        }),
        text.prop_map(AuthOp::UserDelete),
        (text, secret()).prop_map(|(name, password_hash)| AuthOp::UserChangePassword {
            name,
            password_hash,
        }),
        (text, text).prop_map(|(user, role)| AuthOp::UserGrantRole { user, role }),
        (text, text).prop_map(|(user, role)| AuthOp::UserRevokeRole { user, role }),
        text.prop_map(AuthOp::RoleAdd),
        text.prop_map(AuthOp::RoleDelete),
        (text, permission)
            .prop_map(|(role, permission)| AuthOp::RoleGrantPermission { role, permission }),
        (text, key(), bytes(4)).prop_map(|(role, key, range_end)| AuthOp::RoleRevokePermission {
            role,
            key,
            range_end,
        }),
    ]
}

/// An operation, and now and then somebody who asks for it.
pub(super) fn asked() -> impl Strategy<Value = Op> {
    let by = proptest::option::of(("[a-z]{0,8}", any::<u64>()));
    (op(), by).prop_map(|(op, by)| match by {
        None => op,
        Some((user, revision)) => {
            let by = Identity { user, revision };
            Op::By(Box::new(Asked { by, op }))
        }
    })
}
