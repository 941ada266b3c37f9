//! gRPC's standard health check: the server as a whole is serving, no service has a health of its
//! own.

use bytes::Bytes;
use engram_proto::health::health_check_response::ServingStatus;
use engram_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use futures_util::{StreamExt, stream};

use super::decode;
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, only_request};
use crate::codec::Frame;

pub(super) fn check(message: Bytes) -> Result<Frame, Refusal> {
    let wanted: HealthCheckRequest = decode(message)?;
    if !wanted.service.is_empty() {
        return Err(Refusal::UNKNOWN_SERVICE);
    }
    Ok(status(ServingStatus::Serving))
}

pub(super) fn list(message: Bytes) -> Result<Frame, Refusal> {
    let HealthListRequest {} = decode(message)?;
    let whole = HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    };
    Ok(Frame::from(&HealthListResponse {
        statuses: [(String::new(), whole)].into(),
    }))
}

/// Tells the health once; it does not change as long as there is a connection to tell it on.
pub(super) fn watch(mut requests: Requests) -> Answers {
    let first = async move {
        let wanted: HealthCheckRequest = only_request(&mut requests).await?;
        let known = wanted.service.is_empty();
        let health = if known {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        Ok(Outgoing::Frame(status(health)))
    };
    Box::pin(stream::once(first).chain(stream::pending()))
}

fn status(status: ServingStatus) -> Frame {
    Frame::from(&HealthCheckResponse {
        status: status.into(),
    })
}
