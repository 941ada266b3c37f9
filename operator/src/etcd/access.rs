//! Users, roles and authentication itself, in etcd's own calls.

use engram_proto::authpb;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::auth_client::AuthClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;

use super::{CALL_LIMIT, EtcdError, MemberClient, refused};

/// What the cluster says where there is none of a name.
const USER_NOT_FOUND: &str = "user name not found";
const ROLE_NOT_FOUND: &str = "role name not found";
/// What it says of a wrong password.
const WRONG_PASSWORD: &str = "authentication failed";
/// What it says where nobody has to say who they are.
const NOT_ENABLED: &str = "authentication is not enabled";

/// Keys, and what may be done with them: the type (etcd's number), the first and the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// etcd's number: 0 reading, 1 writing, 2 both.
    pub kind: i32,
    /// The first key.
    pub key: Vec<u8>,
    /// The end of the range; empty for one key.
    pub end: Vec<u8>,
}

/// What came of showing a password.
#[derive(Clone, Debug)]
pub enum Shown {
    /// It is right: a token.
    Right(AsciiMetadataValue),
    /// It is not.
    Wrong,
    /// The cluster asks nobody who they are.
    Unasked,
}

impl MemberClient {
    fn access(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    /// The same connection, by the holder of a token.
    #[must_use]
    pub fn holding(&self, token: AsciiMetadataValue) -> Self {
        Self {
            channel: self.channel.clone(),
            token: Some(token),
        }
    }

    /// Whether the cluster asks clients who they are.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn auth_is_on(&self) -> Result<bool, EtcdError> {
        let request = self.timed(pb::AuthStatusRequest::default(), CALL_LIMIT);
        let answer = self.access().auth_status(request).await;
        let answer = answer.map_err(refused("auth status"))?;
        Ok(answer.into_inner().enabled)
    }

    /// Has the cluster ask clients who they are, or not.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn turn_auth(&self, on: bool) -> Result<(), EtcdError> {
        if on {
            let request = self.timed(pb::AuthEnableRequest::default(), CALL_LIMIT);
            let done = self.access().auth_enable(request).await;
            return done.map_err(refused("auth enable")).map(drop);
        }
        let request = self.timed(pb::AuthDisableRequest::default(), CALL_LIMIT);
        let done = self.access().auth_disable(request).await;
        done.map_err(refused("auth disable")).map(drop)
    }

    /// Shows a password.
    ///
    /// # Errors
    /// The cluster did not say whether it is right.
    pub async fn show_password(&self, name: &str, password: &str) -> Result<Shown, EtcdError> {
        let request = pb::AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let request = self.timed(request, CALL_LIMIT);
        match self.access().authenticate(request).await {
            Ok(answer) => match answer.into_inner().token.parse() {
                Ok(token) => Ok(Shown::Right(token)),
                Err(_) => Err(EtcdError::Refused {
                    what: "authenticate",
                    message: "the token is no header's value".to_owned(),
                }),
            },
            Err(status) if status.message().contains(WRONG_PASSWORD) => Ok(Shown::Wrong),
            Err(status) if status.message().contains(NOT_ENABLED) => Ok(Shown::Unasked),
            Err(status) => Err(refused("authenticate")(status)),
        }
    }

    /// A user's roles; none where there is no such user.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn user(&self, name: &str) -> Result<Option<Vec<String>>, EtcdError> {
        let name = name.to_owned();
        let request = self.timed(pb::AuthUserGetRequest { name }, CALL_LIMIT);
        match self.access().user_get(request).await {
            Ok(answer) => Ok(Some(answer.into_inner().roles)),
            Err(status) if status.message().contains(USER_NOT_FOUND) => Ok(None),
            Err(status) => Err(refused("user get")(status)),
        }
    }

    /// Adds a user; without a password it is known by its certificate alone.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn add_user(&self, name: &str, password: Option<&str>) -> Result<(), EtcdError> {
        let options = authpb::UserAddOptions {
            no_password: password.is_none(),
        };
        let request = pb::AuthUserAddRequest {
            name: name.to_owned(),
            password: password.unwrap_or_default().to_owned(),
            options: Some(options),
            ..pb::AuthUserAddRequest::default()
        };
        let request = self.timed(request, CALL_LIMIT);
        let done = self.access().user_add(request).await;
        done.map_err(refused("user add")).map(drop)
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn change_password(&self, name: &str, password: &str) -> Result<(), EtcdError> {
        let request = pb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..pb::AuthUserChangePasswordRequest::default()
        };
        let request = self.timed(request, CALL_LIMIT);
        let done = self.access().user_change_password(request).await;
        done.map_err(refused("user passwd")).map(drop)
    }

    /// Takes a user away. That there is none is as good.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn delete_user(&self, name: &str) -> Result<(), EtcdError> {
        let name = name.to_owned();
        let request = self.timed(pb::AuthUserDeleteRequest { name }, CALL_LIMIT);
        match self.access().user_delete(request).await {
            Err(status) if !status.message().contains(USER_NOT_FOUND) => {
                Err(refused("user delete")(status))
            }
            _ => Ok(()),
        }
    }

    /// Gives a user a role.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn grant_role(&self, user: &str, role: &str) -> Result<(), EtcdError> {
        let request = pb::AuthUserGrantRoleRequest {
            user: user.to_owned(),
            role: role.to_owned(),
        };
        let request = self.timed(request, CALL_LIMIT);
        let done = self.access().user_grant_role(request).await;
        done.map_err(refused("user grant-role")).map(drop)
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn revoke_role(&self, user: &str, role: &str) -> Result<(), EtcdError> {
        let request = pb::AuthUserRevokeRoleRequest {
            name: user.to_owned(),
            role: role.to_owned(),
        };
        let request = self.timed(request, CALL_LIMIT);
        let done = self.access().user_revoke_role(request).await;
        done.map_err(refused("user revoke-role")).map(drop)
    }

    /// What a role allows; none where there is no such role.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn role(&self, name: &str) -> Result<Option<Vec<Grant>>, EtcdError> {
        let role = name.to_owned();
        let request = self.timed(pb::AuthRoleGetRequest { role }, CALL_LIMIT);
        let grant = |one: authpb::Permission| Grant {
            kind: one.perm_type,
            key: one.key.into(),
            end: one.range_end.into(),
        };
        match self.access().role_get(request).await {
            Ok(answer) => Ok(Some(
                answer.into_inner().perm.into_iter().map(grant).collect(),
            )),
            Err(status) if status.message().contains(ROLE_NOT_FOUND) => Ok(None),
            Err(status) => Err(refused("role get")(status)),
        }
    }

    /// Adds a role that allows nothing.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn add_role(&self, name: &str) -> Result<(), EtcdError> {
        let name = name.to_owned();
        let request = self.timed(pb::AuthRoleAddRequest { name }, CALL_LIMIT);
        let done = self.access().role_add(request).await;
        done.map_err(refused("role add")).map(drop)
    }

    /// Takes a role away. That there is none is as good.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn delete_role(&self, name: &str) -> Result<(), EtcdError> {
        let role = name.to_owned();
        let request = self.timed(pb::AuthRoleDeleteRequest { role }, CALL_LIMIT);
        match self.access().role_delete(request).await {
            Err(status) if !status.message().contains(ROLE_NOT_FOUND) => {
                Err(refused("role delete")(status))
            }
            _ => Ok(()),
        }
    }

    /// Has a role allow something, in place of what it said of the same keys.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn allow(&self, role: &str, grant: &Grant) -> Result<(), EtcdError> {
        let perm = authpb::Permission {
            perm_type: grant.kind,
            key: grant.key.clone().into(),
            range_end: grant.end.clone().into(),
        };
        let request = pb::AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(perm),
        };
        let request = self.timed(request, CALL_LIMIT);
        let done = self.access().role_grant_permission(request).await;
        done.map_err(refused("role grant-permission")).map(drop)
    }

    /// Has a role say nothing of these keys.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn disallow(&self, role: &str, grant: &Grant) -> Result<(), EtcdError> {
        let request = pb::AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: grant.key.clone().into(),
            range_end: grant.end.clone().into(),
        };
        let request = self.timed(request, CALL_LIMIT);
        let done = self.access().role_revoke_permission(request).await;
        done.map_err(refused("role revoke-permission")).map(drop)
    }
}
