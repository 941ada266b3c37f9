//! Users, roles, whether authentication is on, and the auth revision: the rules of etcd's auth store.
//!
//! Owns what a change does to them (`change`), what a user may do ([`Auth::may_read`] and its kin),
//! and the one authoriser of operations (`check`). Must never hash a password or know a token: both
//! are made before an operation is proposed, or after it is applied.
//!
//! Source: etcd's `server/auth/store.go`, `range_perm_cache.go`, `etcdserver/apply/auth.go`.

mod change;
mod check;
mod merged;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::Change;
use crate::types::KeyRange;
use crate::types::auth::{AuthError, Identity, ROOT_ROLE, Role, User};

pub(super) use change::apply;
pub use check::authorise;
use merged::Merged;

/// The revision of an auth store that nobody has changed.
pub const FIRST_REVISION: u64 = 1;

/// See the module.
#[derive(Clone, Debug)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// What each user's roles allow together.
    merged: BTreeMap<String, Merged>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            enabled: false,
            revision: FIRST_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            merged: BTreeMap::new(),
        }
    }
}

/// What storage holds of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthTables {
    /// Whether authentication is on, and the auth revision; none in a store that knows neither.
    pub switch: Option<(bool, u64)>,
    /// The users.
    pub users: Vec<User>,
    /// The roles.
    pub roles: Vec<Role>,
}

impl AuthTables {
    /// What writes them into an empty store.
    pub fn into_changes(self) -> Vec<Change> {
        let switch = self.switch.into_iter();
        let switch = switch.map(|(enabled, revision)| Change::SetAuth { enabled, revision });
        let users = self.users.into_iter().map(Change::PutUser);
        let roles = self.roles.into_iter().map(Change::PutRole);
        switch.chain(users).chain(roles).collect()
    }
}

impl Auth {
    /// Takes over what storage held.
    pub fn load(tables: AuthTables) -> Auth {
        let (enabled, revision) = tables.switch.unwrap_or((false, FIRST_REVISION));
        let users = tables
            .users
            .into_iter()
            .map(|user| (user.name.clone(), user));
        let roles = tables
            .roles
            .into_iter()
            .map(|role| (role.name.clone(), role));
        let mut auth = Auth {
            enabled,
            revision: revision.max(FIRST_REVISION),
            users: users.collect(),
            roles: roles.collect(),
            merged: BTreeMap::new(),
        };
        auth.merge();
        auth
    }

    /// What storage holds of it.
    pub fn tables(&self) -> AuthTables {
        let is_untouched = !self.enabled && self.revision == FIRST_REVISION;
        AuthTables {
            switch: (!is_untouched).then_some((self.enabled, self.revision)),
            users: self.users.values().cloned().collect(),
            roles: self.roles.values().cloned().collect(),
        }
    }

    /// Whether authentication is on.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The auth revision: one more with each change of users, roles or the switch.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// A role.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// The users, ascending by name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// The roles, ascending by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// Whether `by` may do what only root may.
    ///
    /// # Errors
    /// Nobody said who asks, there is no such user, or it has not the root role.
    pub fn check_admin(&self, by: &Identity) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if by.user.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        let user = self.users.get(&by.user).ok_or(AuthError::UserNotFound)?;
        match is_root(user) {
            true => Ok(()),
            false => Err(AuthError::PermissionDenied),
        }
    }

    /// Whether `by` is told about a user.
    ///
    /// # Errors
    /// It is neither that user nor root.
    pub fn check_user_get(&self, by: &Identity, user: &str) -> Result<(), AuthError> {
        let admin = self.check_admin(by);
        if by.user == user && !user.is_empty() {
            return Ok(());
        }
        admin
    }

    /// Whether `by` is told about a role.
    ///
    /// # Errors
    /// It neither has that role nor is root.
    pub fn check_role_get(&self, by: &Identity, role: &str) -> Result<(), AuthError> {
        let own = |user: &User| user.roles.iter().any(|held| held == role);
        let admin = self.check_admin(by);
        match self.users.get(&by.user).is_some_and(own) {
            true => Ok(()),
            false => admin,
        }
    }

    /// Whether `by` may read `range`.
    ///
    /// # Errors
    /// It may not; or nobody said who asks, or what was said of it is out of date.
    pub fn may_read(&self, by: &Identity, range: &KeyRange) -> Result<(), AuthError> {
        self.may(by, |merged| merged.may_read(range))
    }

    /// Whether `by` may write `range`.
    ///
    /// # Errors
    /// See [`Auth::may_read`].
    pub fn may_write(&self, by: &Identity, range: &KeyRange) -> Result<(), AuthError> {
        self.may(by, |merged| merged.may_write(range))
    }

    fn may(&self, by: &Identity, held: impl FnOnce(&Merged) -> bool) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if by.revision == 0 {
            return Err(AuthError::UserEmpty);
        }
        if by.revision < self.revision {
            return Err(AuthError::OldRevision);
        }
        let user = self.users.get(&by.user);
        let user = user.ok_or(AuthError::PermissionDenied)?;
        if is_root(user) || self.merged.get(&by.user).is_some_and(held) {
            return Ok(());
        }
        Err(AuthError::PermissionDenied)
    }

    /// Reckons anew what each user may do.
    fn merge(&mut self) {
        let of = |user: &User| {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            Merged::of(roles.flat_map(|role| &role.permissions))
        };
        let merged = self
            .users
            .values()
            .map(|user| (user.name.clone(), of(user)));
        self.merged = merged.collect();
    }
}

fn is_root(user: &User) -> bool {
    user.roles.iter().any(|role| role == ROOT_ROLE)
}
