//! What becomes of users and roles, in the words of etcd's log. Every member tells it as it applies it.

use crate::types::auth::{Allows, AuthOp};

/// Tells of what was done for those who manage users.
pub(super) fn tell(op: &AuthOp) {
    match op {
        // The switch is told of where it is seen to have moved, and who shows a password is told of nowhere.
        AuthOp::Enable | AuthOp::Disable | AuthOp::Authenticate { .. } => {}
        AuthOp::UserAdd { name, .. } => {
            crate::log!(info, "added a user", "user-name" = name);
        }
        AuthOp::UserDelete(name) => {
            crate::log!(info, "deleted a user", "user-name" = name);
        }
        AuthOp::UserChangePassword { name, .. } => {
            crate::log!(info, "changed a password of a user", "user-name" = name);
        }
        AuthOp::UserGrantRole { user, role } => {
            crate::log!(
                info,
                "granted a role to a user",
                "user-name" = user,
                "added-role-name" = role
            );
        }
        AuthOp::UserRevokeRole { user, role } => {
            crate::log!(
                info,
                "revoked a role from a user",
                "user-name" = user,
                "revoked-role-name" = role
            );
        }
        AuthOp::RoleAdd(role) => {
            crate::log!(info, "created a role", "role-name" = role);
        }
        AuthOp::RoleDelete(role) => {
            crate::log!(info, "deleted a role", "role-name" = role);
        }
        // etcd's words, and its name of the field: it is a role.
        AuthOp::RoleGrantPermission { role, permission } => {
            let allows = match permission.allows {
                Allows::Read => "READ",
                Allows::Write => "WRITE",
                Allows::ReadWrite => "READWRITE",
            };
            crate::log!(
                info,
                "granted/updated a permission to a user",
                "user-name" = role,
                "permission-name" = allows,
                key = text(&permission.key),
                "range-end" = text(&permission.range_end)
            );
        }
        AuthOp::RoleRevokePermission {
            role,
            key,
            range_end,
        } => {
            crate::log!(
                info,
                "revoked a permission on range",
                "role-name" = role,
                key = text(key),
                "range-end" = text(range_end)
            );
        }
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
