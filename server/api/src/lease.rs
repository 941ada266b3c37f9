//! Leases: revoking, renewing, looking.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use futures_util::stream;

use super::backend::{Backend, LeaseUse, ServeError};
use super::caller::{Caller, Credentials};
use super::error::Refusal;
use super::streams::{Answers, Outgoing, Requests, next_request};
use super::{Edge, decode, decode_streamed, spans};
use crate::codec::{Frame, answer};
use crate::types::request::Op;
use crate::types::{KeyRange, LeaseId};

impl<B: Backend> Edge<B> {
    pub(super) async fn lease_revoke(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let revoke: pb::LeaseRevokeRequest = decode(message)?;
        let _span = self.span(|| spans::lease_revoke(revoke.id));
        caller.authenticated()?;
        let op = caller.asks(Op::LeaseRevoke(LeaseId(revoke.id)))?;
        let (revision, _) = self.propose(op).await?;
        Ok(answer::header_only(&self.header(revision)))
    }

    pub(super) async fn lease_time_to_live(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let wanted: pb::LeaseTimeToLiveRequest = decode(message)?;
        caller.authenticated()?;
        let report = self
            .backend()
            .lease_time_to_live(LeaseId(wanted.id), wanted.keys)
            .await?;
        // The keys as the leader named them: no other is told.
        self.check(caller, |auth, by| {
            if auth.check_admin(by).is_ok() {
                return Ok(());
            }
            let mut keys = report.keys.iter();
            keys.try_for_each(|key| auth.may_read(by, &KeyRange::single(key.clone())))
        })?;
        let response = pb::LeaseTimeToLiveResponse {
            header: Some(self.header_message()),
            id: wanted.id,
            ttl: report.remaining_seconds,
            granted_ttl: report.granted_seconds,
            keys: report.keys,
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn lease_leases(
        &self,
        message: Bytes,
        caller: &Caller,
    ) -> Result<Frame, Refusal> {
        let pb::LeaseLeasesRequest {} = decode(message)?;
        caller.authenticated()?;
        let leases = self.backend().leases().await?;
        if let Some(by) = caller.identity()? {
            self.backend().read_barrier().await?;
            self.backend()
                .check_leases(by, leases.clone(), LeaseUse::Read)
                .await?;
        }
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
    pub(super) fn lease_keep_alive(self, requests: Requests, credentials: Credentials) -> Answers {
        // Boxed: the stream moves it with every answer.
        let call = Box::new((self, requests, credentials));
        Box::pin(stream::unfold(Some(call), |state| async move {
            let mut call = state?;
            let (edge, requests, credentials) = &mut *call;
            match edge.keep_alive_next(requests, credentials).await {
                Ok(Some(frame)) => Some((Ok(Outgoing::Frame(frame)), Some(call))),
                Ok(None) => None,
                Err(refusal) => Some((Err(refusal), None)),
            }
        }))
    }

    async fn keep_alive_next(
        &self,
        requests: &mut Requests,
        credentials: &Credentials,
    ) -> Result<Option<Frame>, Refusal> {
        let Some(message) = next_request(requests).await? else {
            return Ok(None);
        };
        let renew: pb::LeaseKeepAliveRequest = decode_streamed(message)?;
        let _span = self.span(|| spans::lease_renew(renew.id));
        // Made before the renewal: its revision must not be above the one at which the lease lived.
        let header = self.header_now();
        let id = LeaseId(renew.id);
        if self.backend().is_auth_enabled() {
            // Boxed: this future is copied with every request, and as large as its largest part.
            Box::pin(self.check_may_renew(id, credentials)).await?;
        }
        let ttl = match self.backend().lease_keep_alive(id).await {
            Err(ServeError::LeaseNotFound) => 0,
            renewed => renewed?,
        };
        Ok(Some(answer::lease(&header, id, ttl)))
    }

    async fn check_may_renew(&self, id: LeaseId, credentials: &Credentials) -> Result<(), Refusal> {
        let caller = self.holder(credentials).await?;
        if let Some(by) = caller.authenticated()? {
            self.backend()
                .check_leases(by, vec![id], LeaseUse::Write)
                .await?;
        }
        Ok(())
    }
}
