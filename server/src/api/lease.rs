//! Leases: revoking, renewing, looking.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use futures_util::stream;

use super::backend::{Backend, ServeError};
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, next_request};
use super::{Edge, decode};
use crate::codec::{Frame, answer};
use crate::types::LeaseId;
use crate::types::request::Op;

impl<B: Backend> Edge<B> {
    pub(super) async fn lease_revoke(&self, message: Bytes) -> Result<Frame, Refusal> {
        let revoke: pb::LeaseRevokeRequest = decode(message)?;
        let (revision, _) = self.propose(Op::LeaseRevoke(LeaseId(revoke.id))).await?;
        Ok(answer::header_only(&self.header(revision)))
    }

    pub(super) async fn lease_time_to_live(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::LeaseTimeToLiveRequest = decode(message)?;
        let report = self
            .backend()
            .lease_time_to_live(LeaseId(wanted.id), wanted.keys)
            .await?;
        let response = pb::LeaseTimeToLiveResponse {
            header: Some(self.header_message()),
            id: wanted.id,
            ttl: report.remaining_seconds,
            granted_ttl: report.granted_seconds,
            keys: report.keys,
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn lease_leases(&self, message: Bytes) -> Result<Frame, Refusal> {
        let pb::LeaseLeasesRequest {} = decode(message)?;
        let leases = self.backend().leases().await?;
        let response = pb::LeaseLeasesResponse {
            header: Some(self.header_message()),
            leases: leases
                .into_iter()
                .map(|id| pb::LeaseStatus { id: id.0 })
                .collect(),
        };
        Ok(Frame::from(&response))
    }

    /// Answers each request in turn, until the client has no more.
    pub(super) fn lease_keep_alive(self, requests: Requests) -> Answers {
        Box::pin(stream::unfold(Some((self, requests)), |state| async move {
            let (edge, mut requests) = state?;
            match edge.keep_alive_next(&mut requests).await {
                Ok(Some(frame)) => Some((Ok(Outgoing::Frame(frame)), Some((edge, requests)))),
                Ok(None) => None,
                Err(refusal) => Some((Err(refusal), None)),
            }
        }))
    }

    async fn keep_alive_next(&self, requests: &mut Requests) -> Result<Option<Frame>, Refusal> {
        let Some(message) = next_request(requests).await? else {
            return Ok(None);
        };
        let renew: pb::LeaseKeepAliveRequest = decode(message)?;
        // Made before the renewal: its revision must not be above the one at which the lease lived.
        let header = self.header_now();
        let id = LeaseId(renew.id);
        let ttl = match self.backend().lease_keep_alive(id).await {
            Err(ServeError::LeaseNotFound) => 0,
            renewed => renewed?,
        };
        Ok(Some(answer::lease(&header, id, ttl)))
    }
}
