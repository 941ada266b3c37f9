//! Whose a backup is: names are given again, and so are clusters' ids where the flags are the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The first incarnation of a cluster's id, and of every backup of format 1.
pub const FIRST: &str = "0";
/// Characters of an id or an incarnation.
const CHARS_MAX: usize = 64;

/// A cluster's id, and which of the clusters that had it one after the other. A cluster that was made
/// again with the same flags, or that was set back to an earlier state, is another incarnation: its
/// history does not go on where the backups' ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Whose {
    /// The cluster's id, hexadecimal.
    pub cluster_id: String,
    /// [`FIRST`], or a word of its own.
    pub incarnation: String,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster_id, self.incarnation)
    }
}

/// What names no cluster.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} names no cluster: ID, or ID/INCARNATION, as `engramctl backup list` shows them")]
pub struct WhoseError(String);

impl TryFrom<String> for Whose {
    type Error = WhoseError;

    fn try_from(text: String) -> Result<Whose, WhoseError> {
        let selector: Selector = text.parse()?;
        let incarnation = selector.incarnation.ok_or(WhoseError(text))?;
        Ok(Whose {
            cluster_id: selector.cluster_id,
            incarnation,
        })
    }
}

impl From<Whose> for String {
    fn from(whose: Whose) -> String {
        whose.to_string()
    }
}

/// Whose backups are meant: an id, of one incarnation or of any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The cluster's id, hexadecimal.
    pub cluster_id: String,
    /// None: any.
    pub incarnation: Option<String>,
}

impl Selector {
    /// Whether they are meant.
    pub fn matches(&self, whose: &Whose) -> bool {
        let incarnation = self.incarnation.as_ref();
        self.cluster_id == whose.cluster_id
            && incarnation.is_none_or(|one| *one == whose.incarnation)
    }
}

impl FromStr for Selector {
    type Err = WhoseError;

    fn from_str(text: &str) -> Result<Selector, WhoseError> {
        let is_word = |part: &str| {
            (1..=CHARS_MAX).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric())
        };
        let (id, incarnation) = match text.split_once('/') {
            Some((id, incarnation)) => (id, Some(incarnation)),
            None => (text, None),
        };
        match is_word(id) && incarnation.is_none_or(is_word) {
            true => Ok(Selector {
                cluster_id: id.to_ascii_lowercase(),
                incarnation: incarnation.map(str::to_owned),
            }),
            false => Err(WhoseError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_means_every_incarnation_unless_one_is_named() {
        let whose = |text: &str| Whose::try_from(text.to_owned()).expect("it names one");
        let any: Selector = "CDF8".parse().expect("an id");
        let second: Selector = "cdf8/18ec".parse().expect("an incarnation");
        assert!(any.matches(&whose("cdf8/0")) && any.matches(&whose("cdf8/18ec")));
        assert!(!second.matches(&whose("cdf8/0")) && second.matches(&whose("cdf8/18ec")));
        assert!(!any.matches(&whose("cdf9/0")));
        for bad in ["", "/", "cdf8/", "a b", "a/b/c", &"a".repeat(65)] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert!(Whose::try_from("cdf8".to_owned()).is_err());
    }
}
