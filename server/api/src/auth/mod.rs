//! Users, roles and the switch: the Auth service.
//!
//! Who may make a call says its row in the table, and again whatever applies it. Passwords are
//! hashed here, before anything is proposed: none is in the log.

mod roles;
mod users;

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use super::backend::Backend;
use super::caller::Caller;
use super::durations::RequestType;
use super::error::Refusal;
use super::table::Rpc;
use super::{Edge, decode};
use crate::codec::{Frame, answer};
use crate::types::auth::{AuthError, AuthOp, Secret};
use crate::types::request::Op;
use crate::types::result::Applied;
use engram_auth::Tokens;

/// How often a password is checked anew because users changed meanwhile.
const AUTHENTICATE_TRIES: u32 = 8;

impl<B: Backend> Edge<B> {
    pub(super) async fn auth(
        &self,
        rpc: Rpc,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let (request, started) = (RequestType::of_users(rpc), self.metrics().request_clock());
        let answered = self.answer_of_users(rpc, message, caller).await;
        // A refusal by the rules is an answer, as etcd counts it.
        let is_served = !answered.as_ref().is_err_and(Refusal::is_of_the_member);
        self.metrics().answered(request, started, is_served);
        answered
    }

    async fn answer_of_users(
        &self,
        rpc: Rpc,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        match rpc {
            Rpc::AuthEnable => self.change_users(AuthOp::Enable, caller).await,
            Rpc::AuthDisable => self.change_users(AuthOp::Disable, caller).await,
            Rpc::AuthStatus => self.auth_status(caller).await,
            Rpc::Authenticate => self.authenticate(message).await,
            Rpc::UserAdd => self.user_add(message, caller).await,
            Rpc::UserGet => self.user_get(message, caller).await,
            Rpc::UserList => self.user_list(caller).await,
            Rpc::UserDelete => self.user_delete(message, caller).await,
            Rpc::UserChangePassword => self.user_change_password(message, caller).await,
            Rpc::UserGrantRole => self.user_grant_role(message, caller).await,
            Rpc::UserRevokeRole => self.user_revoke_role(message, caller).await,
            Rpc::RoleAdd => self.role_add(message, caller).await,
            Rpc::RoleGet => self.role_get(message, caller).await,
            Rpc::RoleList => self.role_list(caller).await,
            Rpc::RoleDelete => self.role_delete(message, caller).await,
            Rpc::RoleGrantPermission => self.role_grant_permission(message, caller).await,
            Rpc::RoleRevokePermission => self.role_revoke_permission(message, caller).await,
            _ => Err(Refusal::not_served("etcdserverpb.Auth", "?")),
        }
    }

    /// Has a change of users applied. All of them answer with a header and nothing else.
    async fn change_users(&self, op: AuthOp, caller: &Caller) -> Result<Frame, Refusal> {
        let (revision, _) = self.propose(caller.asks(Op::Auth(op))?).await?;
        Ok(answer::header_only(&self.header(revision)))
    }

    async fn auth_status(&self, caller: &Caller) -> Result<Frame, Refusal> {
        // Anybody is told, but for who holds a token that is none.
        caller.identity()?;
        self.backend().read_barrier().await?;
        let auth = self.backend().auth();
        Ok(Frame::from(&pb::AuthStatusResponse {
            header: Some(self.header_message()),
            enabled: auth.is_enabled(),
            auth_revision: auth.revision(),
        }))
    }

    /// A token for a user whose password is checked at the revision that the token is assigned at.
    async fn authenticate(&self, message: Bytes) -> Result<Frame, Refusal> {
        let pb::AuthenticateRequest { name, password } = decode(message)?;
        let password = Secret(password.into_bytes());
        self.backend().read_barrier().await?;
        for _ in 0..AUTHENTICATE_TRIES {
            let checked = self.check_password(&name, &password).await?;
            if let Some(token) = self.backend().sign_token(&name, checked).await? {
                let header = Some(self.header_message());
                return Ok(Frame::from(&pb::AuthenticateResponse { header, token }));
            }
            let token_prefix = Tokens::prefix().map_err(|_| Refusal::OVERLOADED)?;
            let user = name.clone();
            let op = Op::Auth(AuthOp::Authenticate { user, token_prefix });
            let (revision, applied) = self.propose(op).await?;
            let Applied::Token(token) = applied else {
                unreachable!("an authentication answers with a token")
            };
            // Else the password may be another by now.
            if self.backend().auth().revision() == checked {
                return Ok(Frame::from(&pb::AuthenticateResponse {
                    header: Some(pb::ResponseHeader {
                        revision: revision.0,
                        ..self.header_message()
                    }),
                    token: String::from_utf8(token.0).unwrap_or_default(),
                }));
            }
        }
        Err(Refusal::AUTH_OLD_REVISION)
    }

    /// The auth revision at which the password was the user's.
    async fn check_password(&self, name: &str, password: &Secret) -> Result<u64, Refusal> {
        let auth = self.backend().auth();
        if !auth.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        let user = auth.user(name).ok_or(AuthError::Failed)?;
        if user.no_password {
            return Err(AuthError::NoPasswordUser.into());
        }
        let hash = user.password_hash.clone();
        let matches = self
            .backend()
            .check_password(hash, password.clone())
            .await?;
        if !matches {
            crate::log!(warn, "invalid authentication was requested", user = name);
            return Err(AuthError::Failed.into());
        }
        Ok(auth.revision())
    }
}
