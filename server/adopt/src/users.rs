//! What entries of etcd's log change of users and roles, and as whom every entry was asked for.
//!
//! Source: `applyV3.auth*` and `authApplierV3` of etcd's `etcdserver/apply`, `auth/store.go`.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use prost::Message;

use super::request::Unfit;
use crate::codec::auth;
use crate::types::auth::{AuthOp, Identity, Secret};
use crate::types::request::{Asked, Op};

/// `RequestHeader`: who asked, and at which auth revision that was known.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(string, tag = "2")]
    user: String,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

/// The operation, as etcd holds it against the users when it applies it: by whoever asked for it.
/// What etcd asks once, before it proposes, is allowed; so a compaction is a member's.
pub(super) fn asked(header: Option<&Header>, op: Op) -> Op {
    let by = match &op {
        Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) | Op::LeaseRevoke(_) | Op::Auth(_) => {
            header.filter(|header| !header.user.is_empty()).map(known)
        }
        Op::Compact(_) => Some(Identity::member()),
        _ => None,
    };
    match by {
        Some(by) => Op::By(Box::new(Asked { by, op })),
        None => op,
    }
}

fn known(header: &Header) -> Identity {
    Identity {
        user: header.user.clone(),
        revision: header.auth_revision,
    }
}

/// The fields of `InternalRaftRequest` that change users, roles or the switch. What is inside is
/// decoded where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Enable,
    Disable,
    UserAdd,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
}

/// What a field changes; none where etcd refuses it whoever asks.
///
/// # Errors
/// It cannot be decoded.
pub(super) fn change(field: Field, bytes: &Bytes) -> Result<Option<AuthOp>, Unfit> {
    Ok(match field {
        Field::Enable => Some(AuthOp::Enable),
        Field::Disable => Some(AuthOp::Disable),
        Field::UserAdd => user_add(decode(bytes)?)?,
        Field::UserDelete => {
            let request: pb::AuthUserDeleteRequest = decode(bytes)?;
            Some(AuthOp::UserDelete(request.name))
        }
        Field::UserChangePassword => {
            let request: pb::AuthUserChangePasswordRequest = decode(bytes)?;
            let hash = hash(&request.password, &request.hashed_password)?;
            hash.map(|password_hash| AuthOp::UserChangePassword {
                name: request.name,
                password_hash,
            })
        }
        Field::UserGrantRole => {
            let request: pb::AuthUserGrantRoleRequest = decode(bytes)?;
            let (user, role) = (request.user, request.role);
            Some(AuthOp::UserGrantRole { user, role })
        }
        Field::UserRevokeRole => {
            let request: pb::AuthUserRevokeRoleRequest = decode(bytes)?;
            let (user, role) = (request.name, request.role);
            Some(AuthOp::UserRevokeRole { user, role })
        }
        Field::RoleAdd => {
            let request: pb::AuthRoleAddRequest = decode(bytes)?;
            Some(AuthOp::RoleAdd(request.name))
        }
        Field::RoleDelete => {
            let request: pb::AuthRoleDeleteRequest = decode(bytes)?;
            Some(AuthOp::RoleDelete(request.role))
        }
        Field::RoleGrantPermission => {
            let request: pb::AuthRoleGrantPermissionRequest = decode(bytes)?;
            let permission = request.perm.and_then(auth::permission);
            permission.map(|permission| AuthOp::RoleGrantPermission {
                role: request.name,
                permission,
            })
        }
        Field::RoleRevokePermission => {
            let request: pb::AuthRoleRevokePermissionRequest = decode(bytes)?;
            Some(AuthOp::RoleRevokePermission {
                role: request.role,
                key: request.key,
                range_end: request.range_end,
            })
        }
    })
}

fn user_add(request: pb::AuthUserAddRequest) -> Result<Option<AuthOp>, Unfit> {
    let no_password = request.options.is_some_and(|options| options.no_password);
    let hash = match no_password {
        true => Some(Secret::default()),
        false => hash(&request.password, &request.hashed_password)?,
    };
    Ok(hash.map(|password_hash| AuthOp::UserAdd {
        name: request.name,
        password_hash,
        no_password,
    }))
}

/// A password's hash, as etcd wrote it; none for what it refuses.
///
/// # Errors
/// The password stands there itself: only etcd before 3.5 wrote such entries.
fn hash(password: &str, hash: &str) -> Result<Option<Secret>, Unfit> {
    match (password.is_empty(), hash.is_empty()) {
        (false, true) => Err(Unfit::Unknown),
        _ => Ok(auth::hash_from_base64(hash)),
    }
}

fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, Unfit> {
    M::decode(bytes.clone()).map_err(|_| Unfit::Damaged("a change of users or roles"))
}
