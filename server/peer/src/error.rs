//! What can go wrong with a call to a peer, and how it looks on the wire.

use std::time::Duration;

use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::{Code, Status};

use super::{Declined, Refusal};

/// Where a status names the refusal.
const REFUSAL_KEY: &str = "engram-refusal";
/// Where a status names why a request was declined: the number of the [`Declined`].
const DECLINED_KEY: &str = "engram-declined";

/// Why a call to a peer has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection: nothing was sent.
    #[error("the member cannot be reached: {0}")]
    Unreachable(String),
    /// The peer does not listen to this member: nothing was done.
    #[error("the member refused the call: {0}")]
    Refused(Refusal),
    /// The peer understood and did not do it ([`Declined::TimedOut`]: it does not know).
    #[error("the member declined: {}", .0.as_str_name())]
    Declined(Declined),
    /// It took too long: whether it was done is unknown.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke, or one side said nonsense: whether it was done is unknown.
    #[error("the call broke off: {0}")]
    Broken(String),
}

impl CallError {
    /// What the status of a failed call means.
    pub(super) fn from_status(status: &Status) -> CallError {
        let text = |key| {
            let value = status.metadata().get(key);
            value.and_then(|value: &AsciiMetadataValue| value.to_str().ok())
        };
        if let Some(refusal) = text(REFUSAL_KEY).and_then(Refusal::from_token) {
            return CallError::Refused(refusal);
        }
        let declined = text(DECLINED_KEY).and_then(|number| number.parse::<i32>().ok());
        if let Some(declined) = declined.and_then(|number| Declined::try_from(number).ok()) {
            return CallError::Declined(declined);
        }
        CallError::Broken(format!("{}: {}", status.code(), status.message()))
    }
}

/// The status of a call whose sender is not heard.
pub(super) fn refused(refusal: Refusal) -> Status {
    let mut status = Status::new(Code::PermissionDenied, refusal.to_string());
    let value = MetadataValue::from_static(refusal.token());
    status.metadata_mut().insert(REFUSAL_KEY, value);
    status
}

/// The status of a call that was understood and not done.
pub(super) fn declined(declined: Declined) -> Status {
    let mut status = Status::new(Code::FailedPrecondition, declined.as_str_name());
    let value = MetadataValue::from(declined as i32);
    status.metadata_mut().insert(DECLINED_KEY, value);
    status
}
