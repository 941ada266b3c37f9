//! `auth`, `user`, `role`: users, their roles, and what those allow.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

/// A password or a token: shown by no message.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Secret, Infallible> {
        Ok(Secret(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// `auth`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Auth {
    /// Enables authentication
    Enable,
    /// Disables authentication
    Disable,
    /// Returns authentication status
    Status,
}

/// `user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Adds a new user
    Add {
        /// The user's name, or name:password
        user: Secret,
        /// Ask the terminal for the password; false: read it from standard input
        #[arg(long, default_value_t = true, action = ArgAction::Set)]
        interactive: bool,
        /// Supply password from the command line flag
        #[arg(long)]
        new_user_password: Option<Secret>,
        /// Create a user without password (CN based auth only)
        #[arg(long)]
        no_password: bool,
    },
    /// Deletes a user
    Delete {
        /// The user's name
        user: String,
    },
    /// Gets detailed information of a user
    Get {
        /// The user's name
        user: String,
        /// Show permissions of roles granted to the user
        #[arg(long)]
        detail: bool,
    },
    /// Lists all users
    List,
    /// Changes password of user
    Passwd {
        /// The user's name
        user: String,
        /// Ask the terminal for the password; false: read it from standard input
        #[arg(long, default_value_t = true, action = ArgAction::Set)]
        interactive: bool,
    },
    /// Grants a role to a user
    GrantRole {
        /// The user's name
        user: String,
        /// The role's name
        role: String,
    },
    /// Revokes a role from a user
    RevokeRole {
        /// The user's name
        user: String,
        /// The role's name
        role: String,
    },
}

/// `role`.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Adds a new role
    Add {
        /// The role's name
        role: String,
    },
    /// Deletes a role
    Delete {
        /// The role's name
        role: String,
    },
    /// Gets detailed information of a role
    Get {
        /// The role's name
        role: String,
    },
    /// Lists all roles
    List,
    /// Grants a key to a role
    GrantPermission {
        /// The role's name
        role: String,
        /// What is allowed
        #[arg(ignore_case = true)]
        permission: Permission,
        /// Which keys
        #[command(flatten)]
        keys: Keys,
    },
    /// Revokes a key from a role
    RevokePermission {
        /// The role's name
        role: String,
        /// Which keys
        #[command(flatten)]
        keys: Keys,
    },
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// Reads
    Read,
    /// Writes
    Write,
    /// Both
    Readwrite,
}

/// The keys of a permission.
#[derive(Args, Debug)]
pub struct Keys {
    /// The key
    pub key: String,
    /// The end of the range that begins with it
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    pub end: Option<String>,
    /// Every key that begins with it
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// Every key from it on
    #[arg(long)]
    pub from_key: bool,
}
