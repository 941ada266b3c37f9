//! Authentication is not part of this release: there are no users, no roles, and it is off. What
//! etcd answers in that state is answered; what would create a user or a role says that it cannot.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use super::backend::Backend;
use super::error::Refusal;
use super::table::Rpc;
use super::{Edge, decode};
use crate::codec::Frame;

const SERVICE: &str = "etcdserverpb.Auth";
/// The revision of an auth store that nobody has changed.
const FIRST_AUTH_REVISION: u64 = 1;
/// What bcrypt takes of a password.
const PASSWORD_MAX: usize = 72;

impl<B: Backend> Edge<B> {
    pub(super) fn auth(&self, rpc: Rpc, message: Bytes) -> Result<Frame, Refusal> {
        match rpc {
            Rpc::AuthStatus => Ok(Frame::from(&pb::AuthStatusResponse {
                header: Some(self.header_message()),
                enabled: false,
                auth_revision: FIRST_AUTH_REVISION,
            })),
            Rpc::AuthDisable => Ok(Frame::from(&pb::AuthDisableResponse {
                header: Some(self.header_message()),
            })),
            Rpc::UserList => Ok(Frame::from(&pb::AuthUserListResponse {
                header: Some(self.header_message()),
                users: Vec::new(),
            })),
            Rpc::RoleList => Ok(Frame::from(&pb::AuthRoleListResponse {
                header: Some(self.header_message()),
                roles: Vec::new(),
            })),
            _ => Err(refusal(rpc, message)?),
        }
    }
}

/// Why a call about a user or role that does not exist is refused.
fn refusal(rpc: Rpc, message: Bytes) -> Result<Refusal, Refusal> {
    Ok(match rpc {
        Rpc::AuthEnable => Refusal::ROOT_USER_NOT_EXIST,
        Rpc::Authenticate => Refusal::AUTH_NOT_ENABLED,
        Rpc::UserAdd => {
            let user: pb::AuthUserAddRequest = decode(message)?;
            if user.password.len() > PASSWORD_MAX {
                Refusal::PASSWORD_TOO_LONG
            } else if user.name.is_empty() {
                Refusal::USER_EMPTY
            } else {
                Refusal::not_served(SERVICE, "UserAdd")
            }
        }
        Rpc::UserChangePassword => {
            let user: pb::AuthUserChangePasswordRequest = decode(message)?;
            if user.password.len() > PASSWORD_MAX {
                Refusal::PASSWORD_TOO_LONG
            } else {
                Refusal::USER_NOT_FOUND
            }
        }
        Rpc::RoleAdd => {
            let role: pb::AuthRoleAddRequest = decode(message)?;
            if role.name.is_empty() {
                Refusal::ROLE_EMPTY
            } else {
                Refusal::not_served(SERVICE, "RoleAdd")
            }
        }
        Rpc::RoleGrantPermission => {
            let grant: pb::AuthRoleGrantPermissionRequest = decode(message)?;
            if grant.perm.is_none() {
                Refusal::PERMISSION_NOT_GIVEN
            } else {
                Refusal::ROLE_NOT_FOUND
            }
        }
        Rpc::RoleGet | Rpc::RoleDelete | Rpc::RoleRevokePermission => Refusal::ROLE_NOT_FOUND,
        _ => Refusal::USER_NOT_FOUND,
    })
}
