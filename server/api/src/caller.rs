//! Who makes a call: what its metadata says, and who that is once authentication is on.
//!
//! Nothing is looked up, and nothing is refused here, while it is off.

use std::sync::Arc;

use http::HeaderMap;

use super::Edge;
use super::backend::Backend;
use super::error::Refusal;
use super::table::{Access, Row};
use crate::net::tls::PeerIdentity;
use crate::state::Auth;
use crate::types::auth::{AuthError, Identity, Secret};
use crate::types::request::{Asked, Op};

/// What a call says of who makes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    /// The token, where there is one.
    token: Option<Secret>,
    /// The certificate of the connection, where its name is to be believed.
    certificate: Certificate,
}

/// Who is at a connection's other end, as its certificate says.
pub(super) type Certificate = Option<Arc<PeerIdentity>>;

impl Credentials {
    /// `token`, else `authorization`, as etcd's clients and its gateway send it; and the certificate,
    /// whose common name is a user's where there is no token.
    pub fn of(headers: &HeaderMap, certificate: &Certificate) -> Credentials {
        let given = headers
            .get("token")
            .or_else(|| headers.get("authorization"));
        let token = given.map(|value| {
            let value = value.as_bytes();
            Secret(value.strip_prefix(b"Bearer ").unwrap_or(value).to_vec())
        });
        let certificate = certificate.clone();
        Credentials { token, certificate }
    }
}

/// Who makes a call.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Authentication is off.
    Anybody,
    /// Who was found; its user is empty where the call does not say.
    Known(Identity),
    /// The call's token is nobody's.
    Unknown,
}

impl Caller {
    /// Who is to be held against the users; none while authentication is off.
    ///
    /// # Errors
    /// The call's token is nobody's.
    pub fn identity(&self) -> Result<Option<&Identity>, AuthError> {
        match self {
            Caller::Anybody => Ok(None),
            Caller::Known(identity) => Ok(Some(identity)),
            Caller::Unknown => Err(AuthError::InvalidToken),
        }
    }

    /// The same, where somebody must have authenticated.
    ///
    /// # Errors
    /// Nobody has.
    pub fn authenticated(&self) -> Result<Option<&Identity>, AuthError> {
        match self.identity()? {
            Some(identity) if identity.revision == 0 => Err(AuthError::UserEmpty),
            identity => Ok(identity),
        }
    }

    /// The operation, with who asks for it.
    ///
    /// # Errors
    /// See [`Caller::identity`].
    pub fn asks(&self, op: Op) -> Result<Op, AuthError> {
        Ok(match self.identity()? {
            None => op,
            Some(by) => Op::By(Box::new(Asked { by: by.clone(), op })),
        })
    }
}

impl<B: Backend> Edge<B> {
    /// Who makes a call with these headers.
    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        certificate: &Certificate,
    ) -> Result<Caller, Refusal> {
        if !self.backend().is_auth_enabled() {
            return Ok(Caller::Anybody);
        }
        Box::pin(self.look_up(&Credentials::of(headers, certificate))).await
    }

    /// Who holds credentials now.
    pub(super) async fn holder(&self, credentials: &Credentials) -> Result<Caller, Refusal> {
        if !self.backend().is_auth_enabled() {
            return Ok(Caller::Anybody);
        }
        self.look_up(credentials).await
    }

    async fn look_up(&self, credentials: &Credentials) -> Result<Caller, Refusal> {
        // Taken before: whoever changes users meanwhile is not missed.
        let revision = self.backend().auth().revision();
        let Some(token) = &credentials.token else {
            let named = |certificate: &Arc<PeerIdentity>| Identity {
                user: certificate.common_name.clone(),
                revision,
            };
            let identity = credentials.certificate.as_ref().map(named);
            return Ok(Caller::Known(identity.unwrap_or_default()));
        };
        let Ok(token) = std::str::from_utf8(&token.0) else {
            return Ok(Caller::Unknown);
        };
        let holder = self.backend().holder(token, revision).await?;
        Ok(holder.map_or(Caller::Unknown, Caller::Known))
    }

    /// Holds a caller against the row of the call, as far as that says it alone.
    pub(super) fn check_access(&self, row: &Row, caller: &Caller) -> Result<(), Refusal> {
        if let Caller::Anybody = caller {
            return Ok(());
        }
        match row.access {
            // Of keys, leases and users the calls themselves look after.
            Access::Open | Access::Keys | Access::LeaseKeys | Access::OwnOrRoot => {}
            Access::Authenticated | Access::RootToChange => {
                caller.authenticated()?;
            }
            Access::Root => self.check_admin(caller)?,
        }
        Ok(())
    }

    /// Whether a caller may do what only root may.
    pub(super) fn check_admin(&self, caller: &Caller) -> Result<(), Refusal> {
        self.check(caller, Auth::check_admin)
    }

    /// Holds a caller against the users as they are now.
    pub(super) fn check(
        &self,
        caller: &Caller,
        check: impl FnOnce(&Auth, &Identity) -> Result<(), AuthError>,
    ) -> Result<(), Refusal> {
        let Some(by) = caller.identity()? else {
            return Ok(());
        };
        let auth: Arc<Auth> = self.backend().auth();
        Ok(check(&auth, by)?)
    }

    /// Whether a read that was checked before is still as it was checked: users may have changed
    /// while it read.
    pub(super) fn check_unchanged(&self, caller: &Caller) -> Result<(), Refusal> {
        let known = caller.identity()?;
        match known.filter(|by| by.revision != 0) {
            Some(by) if by.revision != self.backend().auth().revision() => {
                Err(Refusal::AUTH_OLD_REVISION)
            }
            _ => Ok(()),
        }
    }
}
