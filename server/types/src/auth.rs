//! Users, roles and permissions, and what changes them.
//!
//! Invariant: passwords' hashes and tokens are [`Secret`]: no `Debug` of anything shows them.

use std::fmt;

use bytes::Bytes;

use super::{KeyRange, RangeEnd};

/// The user that must exist before authentication can be enabled.
pub const ROOT_USER: &str = "root";
/// The role that may do everything.
pub const ROOT_ROLE: &str = "root";

/// Bytes that must not be seen in a log, a metric or a panic.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who asks, as far as is known where it was asked. It travels with what is proposed and is held
/// against the users again where that is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name; empty where nobody said who asks.
    pub user: String,
    /// The auth revision at which the user was known; 0 where nobody said who asks.
    pub revision: u64,
}

impl Identity {
    /// A member that does as the leader what only root may: revokes what has expired, compacts by
    /// itself. Whether it leads is not a question of users.
    pub fn member() -> Identity {
        Identity {
            user: ROOT_USER.to_owned(),
            revision: u64::MAX,
        }
    }
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allows {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Both.
    ReadWrite,
}

/// A permission on keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The first key.
    pub key: Bytes,
    /// etcd's end of the range, as it was granted: empty is the key alone, a lone zero byte no end.
    pub range_end: Bytes,
    /// What is allowed.
    pub allows: Allows,
}

impl Permission {
    /// The keys.
    pub fn range(&self) -> KeyRange {
        KeyRange::from_request(self.key.clone(), self.range_end.clone())
    }

    /// Whether somebody may grant it: it has a key, and an end that is none or beyond it.
    pub fn is_valid(&self) -> bool {
        !self.key.is_empty()
            && match self.range().end {
                RangeEnd::SingleKey | RangeEnd::Unbounded => true,
                RangeEnd::Before(end) => self.key < end,
            }
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The bcrypt hash of the password; empty where there is none.
    pub password_hash: Secret,
    /// The roles, ascending.
    pub roles: Vec<String>,
    /// Whether the user was made without a password.
    pub no_password: bool,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The name.
    pub name: String,
    /// The permissions, ascending by key.
    pub permissions: Vec<Permission>,
}

/// A change of users, roles or the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthOp {
    /// Turns authentication on.
    Enable,
    /// Turns it off.
    Disable,
    /// A simple token for a user whose password was checked. Its last part is where it is applied.
    Authenticate {
        /// Who.
        user: String,
        /// The token's random first part.
        token_prefix: Secret,
    },
    /// A new user.
    UserAdd {
        /// The name.
        name: String,
        /// The bcrypt hash of the password; empty without one.
        password_hash: Secret,
        /// Whether the user is to have no password.
        no_password: bool,
    },
    /// A user goes.
    UserDelete(String),
    /// A user's password is another.
    UserChangePassword {
        /// Whose.
        name: String,
        /// The bcrypt hash.
        password_hash: Secret,
    },
    /// A user gets a role.
    UserGrantRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// A user loses a role.
    UserRevokeRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// A new role.
    RoleAdd(String),
    /// A role goes.
    RoleDelete(String),
    /// A role gets a permission.
    RoleGrantPermission {
        /// The role.
        role: String,
        /// The permission.
        permission: Permission,
    },
    /// A role loses a permission.
    RoleRevokePermission {
        /// The role.
        role: String,
        /// The permission's first key.
        key: Bytes,
        /// Its end, as it was granted.
        range_end: Bytes,
    },
}

/// Why a call is refused on grounds of who makes it, or what users and roles there are. Each is one
/// of etcd's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum AuthError {
    #[error("auth: root user does not exist")]
    RootUserNotExist,
    #[error("auth: root user does not have root role")]
    RootRoleNotExist,
    #[error("auth: user already exists")]
    UserExists,
    #[error("auth: user name is empty")]
    UserEmpty,
    #[error("auth: user not found")]
    UserNotFound,
    #[error("auth: role already exists")]
    RoleExists,
    #[error("auth: role not found")]
    RoleNotFound,
    #[error("auth: role name is empty")]
    RoleEmpty,
    #[error("auth: permission not given")]
    PermissionNotGiven,
    #[error("auth: authentication failed, invalid user ID or password")]
    Failed,
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("auth: permission denied")]
    PermissionDenied,
    #[error("auth: role is not granted to the user")]
    RoleNotGranted,
    #[error("auth: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("auth: authentication is not enabled")]
    NotEnabled,
    #[error("auth: revision in header is old")]
    OldRevision,
    #[error("auth: invalid auth token")]
    InvalidToken,
    #[error("auth: invalid auth management")]
    InvalidManagement,
}
