//! The operator's own certificate authorities, one for clients and one for members, and what they
//! sign. Pure: the time and the Secrets' contents are arguments.
//!
//! An authority is replaced long before it ends, in three steps, so that nobody need restart: the
//! next one is made and shown to all beside the present one; once everybody has seen it, it signs;
//! the one before stays in the bundle until it ends.

mod expiry;
mod leaf;
mod ring;
#[cfg(test)]
mod tests;

use expiry::is_early;
pub use expiry::{common_name, not_after};
pub use leaf::{LeafRequest, renew_leaf};
pub use ring::{Ring, renew_ring, replace_lost_ring};

use std::collections::BTreeMap;
use std::time::Duration;

/// Clocks differ, those of nodes among them: certificates are good from an hour before they are made on.
const EARLIER_SECONDS: i64 = 3600;

/// A Secret's data.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What goes wrong with certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Making one failed.
    #[error("a certificate cannot be made: {0}")]
    Make(String),
    /// A Secret does not hold what it should.
    #[error("{0}")]
    Content(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

/// A part of a Secret as text.
fn text(files: &Files, key: &str) -> Option<String> {
    files
        .get(key)
        .and_then(|bytes| String::from_utf8(bytes.clone()).ok())
}

/// Says from when to when a certificate is good, in seconds since 1970.
fn set_lifetime(params: &mut rcgen::CertificateParams, from: i64, to: i64) {
    let since_epoch =
        |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(from);
    params.not_after = epoch + since_epoch(to);
}
