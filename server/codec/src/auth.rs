//! Changes of users and roles, as a batch and as etcd's messages hold them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engram_proto::etcd::authpb;
use engram_proto::etcdserverpb as pb;
use engram_proto::raft;
use raft::auth_op::Change;

use crate::types::auth::{Allows, AuthOp, Permission, Secret};

/// As a batch holds it.
pub fn to_message(op: &AuthOp) -> raft::AuthOp {
    let change = match op.clone() {
        AuthOp::Enable => Change::Enable(pb::AuthEnableRequest {}),
        AuthOp::Disable => Change::Disable(pb::AuthDisableRequest {}),
        AuthOp::Authenticate { user, token_prefix } => Change::Authenticate(raft::Authenticate {
            user,
            token_prefix: token_prefix.0.into(),
        }),
        AuthOp::UserAdd {
            name,
            password_hash,
            no_password,
        } => Change::UserAdd(pb::AuthUserAddRequest {
            name,
            password: String::new(),
            options: Some(authpb::UserAddOptions { no_password }),
            hashed_password: text(password_hash),
        }),
        AuthOp::UserDelete(name) => Change::UserDelete(pb::AuthUserDeleteRequest { name }),
        AuthOp::UserChangePassword {
            name,
            password_hash,
        } => Change::UserChangePassword(pb::AuthUserChangePasswordRequest {
            name,
            password: String::new(),
            hashed_password: text(password_hash),
        }),
        AuthOp::UserGrantRole { user, role } => {
            Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role })
        }
        AuthOp::UserRevokeRole { user, role } => {
            Change::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: user, role })
        }
        AuthOp::RoleAdd(name) => Change::RoleAdd(pb::AuthRoleAddRequest { name }),
        AuthOp::RoleDelete(role) => Change::RoleDelete(pb::AuthRoleDeleteRequest { role }),
        AuthOp::RoleGrantPermission { role, permission } => {
            Change::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
                name: role,
                perm: Some(permission_message(&permission)),
            })
        }
        AuthOp::RoleRevokePermission {
            role,
            key,
            range_end,
        } => Change::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
            role,
            key,
            range_end,
        }),
    };
    raft::AuthOp {
        change: Some(change),
    }
}

/// bcrypt's hashes are ASCII.
fn text(hash: Secret) -> String {
    String::from_utf8(hash.0).unwrap_or_default()
}

/// Reads what a batch holds; none for what no build has written.
pub fn from_message(op: raft::AuthOp) -> Option<AuthOp> {
    Some(match op.change? {
        Change::Enable(_) => AuthOp::Enable,
        Change::Disable(_) => AuthOp::Disable,
        Change::Authenticate(message) => AuthOp::Authenticate {
            user: message.user,
            token_prefix: Secret(message.token_prefix.to_vec()),
        },
        Change::UserAdd(message) => AuthOp::UserAdd {
            name: message.name,
            password_hash: Secret(message.hashed_password.into_bytes()),
            no_password: message.options.is_some_and(|options| options.no_password),
        },
        Change::UserDelete(message) => AuthOp::UserDelete(message.name),
        Change::UserChangePassword(message) => AuthOp::UserChangePassword {
            name: message.name,
            password_hash: Secret(message.hashed_password.into_bytes()),
        },
        Change::UserGrantRole(message) => AuthOp::UserGrantRole {
            user: message.user,
            role: message.role,
        },
        Change::UserRevokeRole(message) => AuthOp::UserRevokeRole {
            user: message.name,
            role: message.role,
        },
        Change::RoleAdd(message) => AuthOp::RoleAdd(message.name),
        Change::RoleDelete(message) => AuthOp::RoleDelete(message.role),
        Change::RoleGrantPermission(message) => AuthOp::RoleGrantPermission {
            role: message.name,
            permission: permission(message.perm?)?,
        },
        Change::RoleRevokePermission(message) => AuthOp::RoleRevokePermission {
            role: message.role,
            key: message.key,
            range_end: message.range_end,
        },
    })
}

/// A bcrypt hash as a client may send it; none for what is no base64 of ASCII.
pub fn hash_from_base64(text: &str) -> Option<Secret> {
    let bytes = STANDARD.decode(text).ok()?;
    bytes.is_ascii().then_some(Secret(bytes))
}

/// A permission, as etcd's clients know it.
pub fn permission_message(permission: &Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: match permission.allows {
            Allows::Read => 0,
            Allows::Write => 1,
            Allows::ReadWrite => 2,
        },
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    }
}

/// Reads a permission; none for one of an unknown kind.
pub fn permission(message: authpb::Permission) -> Option<Permission> {
    let allows = match message.perm_type {
        0 => Allows::Read,
        1 => Allows::Write,
        2 => Allows::ReadWrite,
        _ => return None,
    };
    Some(Permission {
        key: message.key,
        range_end: message.range_end,
        allows,
    })
}
