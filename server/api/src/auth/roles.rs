//! Roles and their permissions.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use crate::backend::Backend;
use crate::caller::Caller;
use crate::codec::{Frame, auth};
use crate::error::Refusal;
use crate::types::auth::{Allows, AuthError, AuthOp, Permission, ROOT_ROLE, Role};
use crate::{Edge, decode};

impl<B: Backend> Edge<B> {
    pub(super) async fn role_add(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let pb::AuthRoleAddRequest { name } = decode(message)?;
        self.change_users(AuthOp::RoleAdd(name), caller).await
    }

    pub(super) async fn role_get(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let pb::AuthRoleGetRequest { role } = decode(message)?;
        self.backend().read_barrier().await?;
        self.check(caller, |auth, by| auth.check_role_get(by, &role))?;
        let auth = self.backend().auth();
        let role = auth.role(&role).ok_or(AuthError::RoleNotFound)?;
        let shown = shown(role);
        Ok(Frame::from(&pb::AuthRoleGetResponse {
            header: Some(self.header_message()),
            perm: shown.iter().map(auth::permission_message).collect(),
        }))
    }

    pub(super) async fn role_list(&self, caller: &Caller) -> Result<Frame, Refusal> {
        self.backend().read_barrier().await?;
        self.check_admin(caller)?;
        let auth = self.backend().auth();
        Ok(Frame::from(&pb::AuthRoleListResponse {
            header: Some(self.header_message()),
            roles: auth.roles().map(|role| role.name.clone()).collect(),
        }))
    }

    pub(super) async fn role_delete(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let pb::AuthRoleDeleteRequest { role } = decode(message)?;
        self.change_users(AuthOp::RoleDelete(role), caller).await
    }

    pub(super) async fn role_grant_permission(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let wanted: pb::AuthRoleGrantPermissionRequest = decode(message)?;
        let given = wanted.perm.ok_or(AuthError::PermissionNotGiven)?;
        let op = AuthOp::RoleGrantPermission {
            role: wanted.name,
            permission: auth::permission(given).ok_or(AuthError::InvalidManagement)?,
        };
        self.change_users(op, caller).await
    }

    pub(super) async fn role_revoke_permission(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let wanted: pb::AuthRoleRevokePermissionRequest = decode(message)?;
        let op = AuthOp::RoleRevokePermission {
            role: wanted.role,
            key: wanted.key,
            range_end: wanted.range_end,
        };
        self.change_users(op, caller).await
    }
}

/// The permissions as clients are told them: root's role may do everything, whatever it holds.
fn shown(role: &Role) -> Vec<Permission> {
    if role.name != ROOT_ROLE {
        return role.permissions.clone();
    }
    vec![Permission {
        key: Bytes::new(),
        range_end: Bytes::from_static(b"\0"),
        allows: Allows::ReadWrite,
    }]
}
