//! The service on the peer listener.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service as _;

use super::error::{declined, refused};
use super::guests::{Admitted, Guests, Known};
use super::handshake::Sender;
use super::message::peer_server::{Peer, PeerServer};
use super::message::{self as pb, AppendResponse};
use super::{CallError, Directory, Limits, PeerHandler, handshake, http, limits};
use crate::net::{self, Handler, Listener, PeerAddress, PeerInfo, Security};
use crate::threads::ForCaller;
use crate::types::{LeaseId, MemberId, Revision};

/// The one call that those may make who do not know who they are yet.
const MEMBERS_PATH: &str = "/engram.peer.v1.Peer/Members";

/// Answers peers out of a handler. Clones share it.
pub struct Server<H> {
    handler: Arc<H>,
    directory: Arc<dyn Directory>,
    grpc: PeerServer<Service<H>>,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Server<H> {
        Server {
            handler: self.handler.clone(),
            directory: self.directory.clone(),
            grpc: self.grpc.clone(),
        }
    }
}

impl<H: PeerHandler> Server<H> {
    /// A server of `handler` for the members that `directory` knows.
    pub fn new(handler: Arc<H>, directory: Arc<dyn Directory>, limits: Limits) -> Server<H> {
        let grpc = PeerServer::new(Service(handler.clone()))
            .max_decoding_message_size(limits.message_bytes)
            .max_encoding_message_size(limits.message_bytes);
        Server {
            handler,
            directory,
            grpc,
        }
    }

    /// Serves one connection, of whatever kind, to its end or until `stop` is true.
    pub async fn serve_connection<IO>(&self, io: IO, peer: PeerInfo, stop: watch::Receiver<bool>)
    where
        IO: super::Connection + 'static,
    {
        self.serve_guest(io, peer, stop, Known::default()).await;
    }

    /// The same; `known` is told once a member is known to be at the other end.
    async fn serve_guest<IO>(
        &self,
        io: IO,
        peer: PeerInfo,
        stop: watch::Receiver<bool>,
        known: Known,
    ) where
        IO: super::Connection + 'static,
    {
        let address = peer.address;
        let limits = connection_limits();
        let server = self.clone();
        let calls = Calls { server, known };
        if let Err(error) = net::serve_connection(io, calls, peer, &limits, stop).await {
            crate::log!(debug, "a connection from a peer ended", peer = %address, error = error);
        }
    }
}

/// The calls of one connection.
struct Calls<H> {
    server: Server<H>,
    known: Known,
}

impl<H> Clone for Calls<H> {
    fn clone(&self) -> Calls<H> {
        Calls {
            server: self.server.clone(),
            known: self.known.clone(),
        }
    }
}

impl<H: PeerHandler> Handler for Calls<H> {
    fn call(
        &self,
        request: ::http::Request<Incoming>,
        _peer: &PeerInfo,
    ) -> impl Future<Output = ::http::Response<Body>> + Send + 'static + use<H> {
        let Calls { server, known } = self.clone();
        Box::pin(async move {
            if !http::is_grpc(&request) {
                return http::answer(&request, &*server.handler);
            }
            let anonymous = request.uri().path() == MEMBERS_PATH;
            match handshake::check(request.headers(), &*server.directory, anonymous) {
                Ok(Sender::Member) => known.note(),
                Ok(Sender::Stranger) => {}
                Err(refusal) => return refused(refusal).into_http(),
            }
            let mut grpc = server.grpc;
            match grpc.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}

/// Accepts connections and serves them until `stop` is true, on the current runtime.
pub async fn serve<H: PeerHandler>(
    listener: Listener,
    security: Security,
    server: Server<H>,
    mut stop: watch::Receiver<bool>,
) {
    let mut guests = Guests::new(limits::CONNECTIONS_MAX);
    let mut closed = Closed::default();
    let stopping = stop.clone();
    let security = security.for_listener();
    loop {
        let accepted = tokio::select! {
            // An error means that the sender is gone, which is the end as well.
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept_here() => accepted,
            Some(()) = guests.next_ended() => continue,
        };
        match accepted {
            Ok((socket, from)) => {
                let (server, stop) = (server.clone(), stopping.clone());
                let security = security.clone();
                let admitted = guests.admit(|known| {
                    // A peer is a caller too: what it sends must not end this process.
                    let served = ForCaller::new(async move {
                        match net::secure(socket, from, &security).await {
                            Ok((stream, info)) => {
                                server.serve_guest(stream, info, stop, known).await;
                            }
                            Err(error) => rejected(from, &error),
                        }
                    });
                    async move {
                        // It has said why.
                        let _ = served.await;
                    }
                });
                closed.note(admitted, from);
            }
            Err(error) => {
                crate::log!(warn, "no connection from a peer could be accepted", error = %error);
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Each connection bounds its own end.
    while guests.next_ended().await.is_some() {}
}

/// Tells of connections that were closed since too many are open, now and then.
#[derive(Default)]
struct Closed {
    untold: u64,
    told: Option<Instant>,
}

impl Closed {
    fn note(&mut self, admitted: Admitted, from: PeerAddress) {
        if admitted == Admitted::Yes {
            return;
        }
        self.untold += 1;
        if self
            .told
            .is_some_and(|at| at.elapsed() < limits::TELL_EVERY)
        {
            return;
        }
        self.told = Some(Instant::now());
        let closed = std::mem::take(&mut self.untold);
        match admitted {
            Admitted::No => crate::log!(
                warn, "closed a connection to the peer port: members have too many open",
                "remote-addr" = %from, closed = closed
            ),
            Admitted::Yes | Admitted::ForAnother => crate::log!(
                warn, "closed connections to the peer port on which no member had said who it is: too many are \
                open; who else can reach this port?",
                "last-remote-addr" = %from, closed = closed
            ),
        }
    }
}

/// In etcd's words.
fn rejected(from: PeerAddress, error: &str) {
    crate::log!(warn, "rejected connection on peer endpoint", "remote-addr" = %from, error = error);
}

fn connection_limits() -> net::Limits {
    net::Limits {
        ping_interval_min: std::time::Duration::ZERO,
        connections_max: limits::CONNECTIONS_MAX,
        streams_max: limits::STREAMS_MAX,
        keepalive_interval: limits::PING_INTERVAL,
        keepalive_timeout: limits::PING_TIMEOUT,
        shutdown_grace: limits::SHUTDOWN_GRACE,
    }
}

/// The generated service's methods, each a call of the handler.
struct Service<H>(Arc<H>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl<H: PeerHandler> Peer for Service<H> {
    type AppendStream = Pin<Box<dyn stream::Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Answer<Self::AppendStream> {
        let requests = whole_messages(request.into_inner());
        let answers = self.0.append(requests).map(Ok);
        Ok(Response::new(Box::pin(answers)))
    }

    type PromisedStream =
        Pin<Box<dyn stream::Stream<Item = Result<pb::PromisedResponse, Status>> + Send>>;

    async fn promised(
        &self,
        request: Request<Streaming<pb::PromisedRequest>>,
    ) -> Answer<Self::PromisedStream> {
        let handler = self.0.clone();
        let questions = whole_messages(request.into_inner());
        let answers = questions.map(move |pb::PromisedRequest {}| Ok(handler.promised()));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        answer(self.0.vote(request.into_inner()).await)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Answer<pb::SnapshotAnswer> {
        let parts = request.into_inner();
        let parts = parts.map(|part| part.map_err(|status| CallError::from_status(&status)));
        answer(self.0.install_snapshot(parts.boxed()).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Answer<pb::TransferLeaderResponse> {
        answer(self.0.transfer_leader(request.into_inner()).await)
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        let proposed = self.0.propose(request.into_inner().batch).await;
        answer(proposed.map(|()| pb::ProposeResponse {}))
    }

    async fn read_index(
        &self,
        _request: Request<pb::ReadIndexRequest>,
    ) -> Answer<pb::ReadIndexResponse> {
        let index = self.0.read_index().await;
        answer(index.map(|index| pb::ReadIndexResponse { index }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<pb::LeaseKeepAliveRequest>,
    ) -> Answer<pb::LeaseKeepAliveResponse> {
        let renewed = self.0.lease_keep_alive(LeaseId(request.into_inner().id));
        answer(renewed.await.map(|ttl| pb::LeaseKeepAliveResponse { ttl }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Answer<pb::LeaseTimeToLiveResponse> {
        let request = request.into_inner();
        let asked = self.0.lease_time_to_live(LeaseId(request.id), request.keys);
        answer(asked.await)
    }

    async fn leases(&self, _request: Request<pb::LeasesRequest>) -> Answer<pb::LeasesResponse> {
        let leases = self.0.leases().await;
        let ids = leases.map(|leases| leases.into_iter().map(|id| id.0).collect());
        answer(ids.map(|ids| pb::LeasesResponse { ids }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Answer<pb::HashKvResponse> {
        answer(
            self.0
                .hash_kv(Revision(request.into_inner().revision))
                .await,
        )
    }

    async fn members(&self, _request: Request<pb::MembersRequest>) -> Answer<pb::MembersResponse> {
        Ok(Response::new(self.0.members()))
    }

    async fn change_members(
        &self,
        request: Request<pb::ChangeMembersRequest>,
    ) -> Answer<pb::ChangeMembersResponse> {
        let members = self.0.change_members(request.into_inner()).await;
        answer(members.map(|members| pb::ChangeMembersResponse { members }))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Answer<pb::MoveLeaderResponse> {
        let moved = self.0.move_leader(MemberId(request.into_inner().to)).await;
        answer(moved.map(|()| pb::MoveLeaderResponse {}))
    }
}

fn answer<T>(answered: Result<T, pb::Declined>) -> Answer<T> {
    answered.map(Response::new).map_err(declined)
}

/// A connection that broke is nothing; a message that this member does not take will come again.
fn log_broken(status: &Status) {
    match status.code() {
        Code::OutOfRange => {
            crate::log!(warn, "a peer's message is too large for this member: give \
            all members the same --max-request-bytes", error = %status)
        }
        _ => crate::log!(debug, "a peer's stream broke", error = %status),
    }
}

/// The messages up to where the stream ends or breaks: what came before is worth as much either way.
fn whole_messages<M: Send + 'static>(messages: Streaming<M>) -> BoxStream<'static, M> {
    messages
        .map(|message| message.inspect_err(log_broken).ok())
        .take_while(|message| std::future::ready(message.is_some()))
        .filter_map(std::future::ready)
        .boxed()
}
