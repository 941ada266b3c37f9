//! Calls to other members.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::{Response, Status};

use super::activity::Seen;
use super::append::{AppendTurns, Appending, Requests};
use super::channel::Channel;
use super::link::{Link, Route};
use super::message::peer_client::PeerClient;
use super::message::{self, AppendRequest, SnapshotPart};
use super::promised::{self, Promises};
use super::{CallError, Limits, Refusal, limits};
use crate::types::{LeaseId, MemberId, Revision};

/// The parts of a snapshot. A type of its own, because the compiler cannot prove of a call with a
/// boxed stream in it that it may move between threads.
struct Parts(BoxStream<'static, SnapshotPart>);

impl Stream for Parts {
    type Item = SnapshotPart;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SnapshotPart>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// The way to one member. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    route: Arc<Route>,
    replication: Arc<Link>,
    control: Arc<Link>,
    bulk: Arc<Link>,
    message_bytes: usize,
}

impl Client {
    /// No connections yet.
    pub(super) fn new(route: Arc<Route>, limits: Limits) -> Client {
        Client {
            replication: Link::new(route.clone(), "replication"),
            control: Link::new(route.clone(), "control"),
            bulk: Link::new(route.clone(), "snapshots"),
            route,
            message_bytes: limits.message_bytes,
        }
    }

    /// Sets where the member is reached, unless that was told ([`Client::tell_urls`]).
    pub(super) fn set_urls(&self, urls: &[String]) {
        let changed = self.route.urls.lock().give(urls);
        self.redial_if(changed);
    }

    /// Tells where the member is reached from now on, the likeliest first.
    pub(super) fn tell_urls(&self, urls: Vec<String>) {
        let changed = self.route.urls.lock().tell(urls);
        self.redial_if(changed);
    }

    /// Connections that stand are kept; others are made at once, at the next call.
    fn redial_if(&self, changed: bool) {
        if changed {
            let links = [&self.replication, &self.control, &self.bulk];
            links.iter().for_each(|link| link.urls_changed());
        }
    }

    /// The member.
    pub fn target(&self) -> MemberId {
        self.route.target
    }

    /// Says that the member does not hold what it had acknowledged.
    pub fn forgot(&self) {
        self.route.directory.forgot(self.target());
    }

    /// Since when the member is in touch without a break; none where it is not.
    pub(super) fn active_since(&self) -> Option<Instant> {
        self.route.activity.since()
    }

    /// Whether the member is in touch, and how often it was lost.
    pub(super) fn activity(&self) -> Seen {
        self.route.activity.seen()
    }

    /// Opens a pipelined append stream on the connection for replication.
    ///
    /// # Errors
    /// See [`CallError`]; of `requests` some may have been read by then.
    pub async fn append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> Result<Appending, CallError> {
        self.open_append(&self.replication, requests).await
    }

    /// Opens an append stream for heartbeats, on the control connection.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn append_turns(&self) -> Result<AppendTurns, CallError> {
        let (sender, mut receiver) = mpsc::channel(1);
        let requests = stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed();
        let answers = self.open_append(&self.control, requests).await?;
        Ok(AppendTurns::new(sender, answers))
    }

    /// Opens a stream over which the member is asked what it has promised, on the control connection.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn promises(&self) -> Result<Promises, CallError> {
        let (sender, questions) = promised::questions();
        let mut client = self.client(&self.control).await?;
        let answers = client.promised(questions).await;
        let answers = answers.map_err(|status| self.failed(&self.control, &status))?;
        Ok(Promises::new(sender, answers.into_inner()))
    }

    async fn open_append(
        &self,
        link: &Arc<Link>,
        requests: BoxStream<'static, AppendRequest>,
    ) -> Result<Appending, CallError> {
        let requests = Requests::new(requests);
        // Made first: whatever fails from here on drops it, and the requests with it.
        let guard = requests.guard();
        let opening = async {
            let mut client = self.client(link).await?;
            let answers = client.append(requests).await;
            answers.map_err(|status| self.failed(link, &status))
        };
        let limit = limits::ANSWER_STALL_MAX;
        let opened = tokio::time::timeout(limit, opening).await;
        let answers = opened.unwrap_or(Err(CallError::TimedOut(limit)))?;
        Ok(Appending::new(answers.into_inner(), guard))
    }

    /// Asks for a vote, or whether it would be given.
    ///
    /// # Errors
    /// See [`CallError`]. None of them is a vote.
    pub async fn vote(
        &self,
        request: message::VoteRequest,
        limit: Duration,
    ) -> Result<message::VoteResponse, CallError> {
        let call = |mut client: PeerClient<Channel>| async move { client.vote(request).await };
        self.unary(&self.control, limit, call).await
    }

    /// Tells that leadership is handed over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn transfer_leader(
        &self,
        request: message::TransferLeaderRequest,
        limit: Duration,
    ) -> Result<message::TransferLeaderResponse, CallError> {
        let call =
            |mut client: PeerClient<Channel>| async move { client.transfer_leader(request).await };
        self.unary(&self.control, limit, call).await
    }

    /// Sends a snapshot over a connection of its own, which is closed afterwards. Returns once it
    /// is installed, or refused for a later vote.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn install_snapshot(
        &self,
        parts: BoxStream<'static, SnapshotPart>,
    ) -> Result<message::SnapshotAnswer, CallError> {
        let _hung_up = self.bulk.for_a_while();
        let mut client = self.client(&self.bulk).await?;
        let answered = client.install_snapshot(Parts(parts)).await;
        let answered = answered.map_err(|status| self.failed(&self.bulk, &status))?;
        Ok(answered.into_inner())
    }

    /// Hands an encoded batch to the leader. It is never sent again from here.
    ///
    /// # Errors
    /// See [`CallError`]: after `TimedOut` and `Broken` it may be committed nonetheless.
    pub async fn propose(&self, batch: Bytes, limit: Duration) -> Result<(), CallError> {
        let request = message::ProposeRequest { batch };
        let call = |mut client: PeerClient<Channel>| async move { client.propose(request).await };
        // Batches are large: they go beside replication, which is idle towards the leader.
        self.unary(&self.replication, limit, call).await.map(drop)
    }

    /// Asks the leader for the index that a linearizable read waits for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn read_index(&self, limit: Duration) -> Result<u64, CallError> {
        let request = message::ReadIndexRequest {};
        let call =
            |mut client: PeerClient<Channel>| async move { client.read_index(request).await };
        let answer = self.unary(&self.control, limit, call).await?;
        Ok(answer.index)
    }

    /// Renews a lease; its time to live, seconds.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn lease_keep_alive(&self, id: LeaseId, limit: Duration) -> Result<i64, CallError> {
        let request = message::LeaseKeepAliveRequest { id: id.0 };
        let call =
            |mut client: PeerClient<Channel>| async move { client.lease_keep_alive(request).await };
        let answer = self.unary(&self.control, limit, call).await?;
        Ok(answer.ttl)
    }

    /// What is left of a lease, and with `keys` the keys attached.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
        limit: Duration,
    ) -> Result<message::LeaseTimeToLiveResponse, CallError> {
        let request = message::LeaseTimeToLiveRequest { id: id.0, keys };
        let call = |mut client: PeerClient<Channel>| async move {
            client.lease_time_to_live(request).await
        };
        self.unary(&self.control, limit, call).await
    }

    /// The leases.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn leases(&self, limit: Duration) -> Result<Vec<LeaseId>, CallError> {
        let request = message::LeasesRequest {};
        let call = |mut client: PeerClient<Channel>| async move { client.leases(request).await };
        let answer = self.unary(&self.control, limit, call).await?;
        Ok(answer.ids.into_iter().map(LeaseId).collect())
    }

    /// The hash of the member's store at a revision; 0 is the latest.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn hash_kv(
        &self,
        revision: Revision,
        limit: Duration,
    ) -> Result<message::HashKvResponse, CallError> {
        let request = message::HashKvRequest {
            revision: revision.0,
        };
        let call = |mut client: PeerClient<Channel>| async move { client.hash_kv(request).await };
        self.unary(&self.control, limit, call).await
    }

    /// The member table.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn members(&self, limit: Duration) -> Result<message::MembersResponse, CallError> {
        let request = message::MembersRequest {};
        let call = |mut client: PeerClient<Channel>| async move { client.members(request).await };
        self.unary(&self.control, limit, call).await
    }

    /// Hands a membership request to the leader; the members after it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn change_members(
        &self,
        request: message::ChangeMembersRequest,
        limit: Duration,
    ) -> Result<Vec<message::Member>, CallError> {
        let call =
            |mut client: PeerClient<Channel>| async move { client.change_members(request).await };
        let answer = self.unary(&self.control, limit, call).await?;
        Ok(answer.members)
    }

    /// Has the leader hand leadership to `to`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn move_leader(&self, to: MemberId, limit: Duration) -> Result<(), CallError> {
        let request = message::MoveLeaderRequest { to: to.0 };
        let call =
            |mut client: PeerClient<Channel>| async move { client.move_leader(request).await };
        self.unary(&self.control, limit, call).await.map(drop)
    }

    async fn unary<A, F>(
        &self,
        link: &Arc<Link>,
        limit: Duration,
        call: impl FnOnce(PeerClient<Channel>) -> F,
    ) -> Result<A, CallError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let calling = async {
            let client = self.client(link).await?;
            let answered = call(client).await;
            let answered = answered.map_err(|status| self.failed(link, &status))?;
            Ok(answered.into_inner())
        };
        let answered = tokio::time::timeout(limit, calling).await;
        answered.unwrap_or(Err(CallError::TimedOut(limit)))
    }

    async fn client(&self, link: &Arc<Link>) -> Result<PeerClient<Channel>, CallError> {
        let (channel, origin) = link.channel().await?;
        let client = PeerClient::with_origin(channel, origin);
        Ok(client
            .max_decoding_message_size(self.message_bytes)
            .max_encoding_message_size(self.message_bytes))
    }

    /// Reads a status; the directory is told of refusals.
    fn failed(&self, link: &Link, status: &Status) -> CallError {
        let error = CallError::from_status(status);
        let CallError::Refused(refusal) = error else {
            return error;
        };
        if let Refusal::OtherCluster | Refusal::OtherTarget | Refusal::TargetReplaced = refusal {
            link.wrong_number();
        }
        self.route.directory.refused(self.target(), refusal);
        error
    }
}
