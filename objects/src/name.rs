//! Names that are part of an object's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Characters of a backup's or a cluster's name. It is part of an object's name.
const NAME_CHARS_MAX: usize = 128;

/// A backup's id, or a cluster's name in the store: letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// What is no name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no name: 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, '.', '_' and '-', with a letter or digit first"
)]
pub struct IdError(String);

impl FromStr for BackupId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<BackupId, IdError> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= NAME_CHARS_MAX
            && text.chars().all(is_inner);
        match is_name {
            true => Ok(BackupId(text.to_owned())),
            false => Err(IdError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = IdError;

    fn try_from(text: String) -> Result<BackupId, IdError> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> String {
        id.0
    }
}

impl AsRef<str> for BackupId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
