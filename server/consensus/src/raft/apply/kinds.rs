//! How long requests took to apply, by etcd's name of their kind.

use std::time::Duration;

use crate::metrics::Parts;
use crate::types::auth::AuthOp;
use crate::types::request::Op;
use crate::types::result::Outcome;

/// Tells that a batch was applied in so long; each of its requests took an equal share.
pub(super) fn applied(parts: &Parts, ops: &[Op], outcomes: &[Outcome], took: Duration) {
    let each = took / u32::try_from(ops.len()).unwrap_or(u32::MAX).max(1);
    // A batch has few kinds, mostly one.
    let mut kinds: Vec<(&str, bool, usize)> = Vec::with_capacity(1);
    for (op, outcome) in ops.iter().zip(outcomes) {
        let (name, succeeded) = (name(op.bare()), outcome.result.is_ok());
        let known = kinds
            .iter_mut()
            .find(|kind| (kind.0, kind.1) == (name, succeeded));
        match known {
            Some(kind) => kind.2 += 1,
            None => kinds.push((name, succeeded, 1)),
        }
    }
    for (name, succeeded, requests) in kinds {
        parts.applied(name, succeeded, requests, each);
    }
}

/// Source: etcd's server/etcdserver/apply/uber_apply.go, `dispatch`.
fn name(op: &Op) -> &'static str {
    match op {
        Op::Put(_) => "Put",
        Op::DeleteRange(_) => "DeleteRange",
        Op::Txn(_) => "Txn",
        Op::Compact(_) => "Compaction",
        Op::LeaseGrant(_) => "LeaseGrant",
        Op::LeaseRevoke(_) => "LeaseRevoke",
        Op::Alarm(_) => "Alarm",
        Op::PublishMember { .. } => "ClusterMemberAttrSet",
        Op::SetClusterVersion(_) => "ClusterVersionSet",
        Op::Auth(op) => auth_name(op),
        Op::By(asked) => name(asked.op.bare()),
    }
}

fn auth_name(op: &AuthOp) -> &'static str {
    match op {
        AuthOp::Enable => "AuthEnable",
        AuthOp::Disable => "AuthDisable",
        AuthOp::Authenticate { .. } => "Authenticate",
        AuthOp::UserAdd { .. } => "AuthUserAdd",
        AuthOp::UserDelete(_) => "AuthUserDelete",
        AuthOp::UserChangePassword { .. } => "AuthUserChangePassword",
        AuthOp::UserGrantRole { .. } => "AuthUserGrantRole",
        AuthOp::UserRevokeRole { .. } => "AuthUserRevokeRole",
        AuthOp::RoleAdd(_) => "AuthRoleAdd",
        AuthOp::RoleDelete(_) => "AuthRoleDelete",
        AuthOp::RoleGrantPermission { .. } => "AuthRoleGrantPermission",
        AuthOp::RoleRevokePermission { .. } => "AuthRoleRevokePermission",
    }
}
