//! Users.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use crate::backend::Backend;
use crate::caller::Caller;
use crate::codec::{Frame, auth};
use crate::error::Refusal;
use crate::types::auth::{AuthError, AuthOp, Secret};
use crate::{Edge, decode};

/// What bcrypt takes of a password.
const PASSWORD_MAX: usize = 72;

impl<B: Backend> Edge<B> {
    pub(super) async fn user_add(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let wanted: pb::AuthUserAddRequest = decode(message)?;
        let no_password = wanted.options.is_some_and(|options| options.no_password);
        let password_hash = match no_password {
            true => Secret::default(),
            false => self.hashed(wanted.password).await?,
        };
        let op = AuthOp::UserAdd {
            name: wanted.name,
            password_hash,
            no_password,
        };
        self.change_users(op, caller).await
    }

    pub(super) async fn user_change_password(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let wanted: pb::AuthUserChangePasswordRequest = decode(message)?;
        // As in etcd, a client may have hashed it itself.
        let password_hash = match wanted.password.is_empty() {
            true => {
                auth::hash_from_base64(&wanted.hashed_password).ok_or(AuthError::NoPasswordUser)?
            }
            false => self.hashed(wanted.password).await?,
        };
        let op = AuthOp::UserChangePassword {
            name: wanted.name,
            password_hash,
        };
        self.change_users(op, caller).await
    }

    async fn hashed(&self, password: String) -> Result<Secret, Refusal> {
        if password.len() > PASSWORD_MAX {
            return Err(Refusal::PASSWORD_TOO_LONG);
        }
        let password = Secret(password.into_bytes());
        Ok(self.backend().hash_password(password).await?)
    }

    pub(super) async fn user_get(&self, message: Bytes, caller: &Caller) -> Result<Frame, Refusal> {
        let pb::AuthUserGetRequest { name } = decode(message)?;
        self.backend().read_barrier().await?;
        self.check(caller, |auth, by| auth.check_user_get(by, &name))?;
        let auth = self.backend().auth();
        let user = auth.user(&name).ok_or(AuthError::UserNotFound)?;
        Ok(Frame::from(&pb::AuthUserGetResponse {
            header: Some(self.header_message()),
            roles: user.roles.clone(),
        }))
    }

    pub(super) async fn user_list(&self, caller: &Caller) -> Result<Frame, Refusal> {
        self.backend().read_barrier().await?;
        self.check_admin(caller)?;
        let auth = self.backend().auth();
        Ok(Frame::from(&pb::AuthUserListResponse {
            header: Some(self.header_message()),
            users: auth.users().map(|user| user.name.clone()).collect(),
        }))
    }

    pub(super) async fn user_delete(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let pb::AuthUserDeleteRequest { name } = decode(message)?;
        self.change_users(AuthOp::UserDelete(name), caller).await
    }

    pub(super) async fn user_grant_role(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let pb::AuthUserGrantRoleRequest { user, role } = decode(message)?;
        let op = AuthOp::UserGrantRole { user, role };
        self.change_users(op, caller).await
    }

    pub(super) async fn user_revoke_role(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let pb::AuthUserRevokeRoleRequest { name, role } = decode(message)?;
        let op = AuthOp::UserRevokeRole { user: name, role };
        self.change_users(op, caller).await
    }
}
