//! The edge: what clients say becomes calls of the core, what the core answers becomes bytes.
//!
//! Owns the table of calls, the checks that need no store, limits, deadlines, gRPC's framing and
//! status codes, and the plain HTTP pages. Must never hold state of the store, retry a proposal, or
//! make a gRPC status elsewhere than in `error`.
//!
//! Invariants:
//! - A call without a row in `table` is not served.
//! - Whatever a client sends ends in an answer, never in a panic; what is read of it is bounded by
//!   `--max-request-bytes` and 512 KiB.
//! - Checks come in etcd's order, so that the first mistake answers as it does there.

#![forbid(unsafe_code)]

mod access;
mod arrival;
mod auth;
pub mod backend;
mod binary_metadata;
mod call_request;
mod caller;
mod charged;
mod cluster;
mod coarse;
mod compression;
mod concurrency;
mod content;
mod durations;
pub mod error;
mod exposition;
#[cfg(any(test, feature = "fixtures"))]
mod fake;
/// What fuzzing looks into.
#[cfg(any(test, feature = "fixtures"))]
pub mod fixture {
    pub use crate::fake::Fake;
    pub use crate::gateway::fixture::*;
}
mod framing;
mod gateway;
mod head;
mod health;
mod http;
mod interrupted;
mod kv;
mod lease;
mod maintenance;
mod metrics;
mod mux;
mod overlap;
mod plain_head;
mod profiles;
mod request_stats;
mod request_text;
mod rest;
mod spans;
mod streams;
pub mod table;
#[cfg(test)]
mod tests;
mod variables;
mod watch;

use engram_codec as codec;
use engram_config as config;
use engram_net as net;
#[cfg(test)]
use engram_process::home;
use engram_process::{budget, log, threads, trace};
use engram_read as read;
use engram_state as state;
use engram_types as types;

pub use access::Access;
pub use metrics::Metrics;
pub use profiles::PROFILES;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_spans::{Call, Spans};
use futures_util::{FutureExt, stream};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::budget::{Budget, Count, Counted};
use crate::codec::answer::Header;
use crate::codec::{Frame, MESSAGE_BYTES_MAX};
use crate::net::{Handler, PeerAddress, PeerInfo};
use crate::threads::ForCaller;
use crate::types::Revision;
use arrival::Arrival;
use backend::Backend;
use call_request::CallRequest;
use caller::{Caller, Certificate, Credentials};
use charged::Memory;
use compression::Encoding;
use error::Refusal;
use interrupted::Until;
use rest::Rest;
use streams::{Answers, ByteCodec, Once, Open, Requests};
use table::{Kind, ROWS, Row, Rpc, Table};

/// What a message may have beyond `--max-request-bytes` (etcd's).
const MESSAGE_OVERHEAD: usize = 512 << 10;

/// Requests that may wait for memory to be received, and for how long: what has come of them waits
/// in the connection's window.
const REQUESTS_WAITING_MAX: usize = 32;
/// Headers that take less are not charged while their call is under way.
const HEADERS_CHARGED_MIN: usize = 16 << 10;
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may take to send a request, besides what its size takes.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How fast it must at least send a large one.
const REQUEST_BYTES_A_SECOND: u64 = 128 << 10;

/// The edge's limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--warning-unary-request-duration`: a unary call that takes longer is logged.
    pub warning_unary_request: Duration,
    /// `--warning-apply-duration`: a read that takes longer is logged and counted as a slow apply.
    pub warning_apply: Duration,
    /// `--metrics=extensive`: histograms of how long calls take.
    pub extensive_metrics: bool,
    /// `--cors` and `--host-whitelist`.
    pub access: Access,
    /// `--enable-grpc-gateway`.
    pub gateway: bool,
    /// `--enable-pprof`.
    pub profiles: bool,
    /// What makes the spans of calls, with `--enable-distributed-tracing`.
    pub spans: Option<Spans>,
    /// Memory for requests that are being received, bytes.
    pub request_budget_bytes: u64,
    /// `--client-cert-auth`: every client has a certificate, and its common name is a user's.
    pub client_cert_auth: bool,
    /// Calls under way at once, over all connections. A connection has no more of them than are free.
    pub calls_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            warning_unary_request: Duration::from_millis(300),
            warning_apply: Duration::from_millis(100),
            extensive_metrics: false,
            access: Access::default(),
            gateway: true,
            profiles: false,
            spans: None,
            request_budget_bytes: 256 << 20,
            client_cert_auth: false,
            calls_max: 50_000,
        }
    }
}

/// A call's request, as it comes: from a connection, or through the gateway.
trait RequestBody:
    ::http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
    + Send
    + Unpin
    + 'static
{
}

impl<R> RequestBody for R where
    R: ::http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Send
        + Unpin
        + 'static
{
}

/// Answers clients out of a backend. Clones share everything.
pub struct Edge<B>(Arc<Shared<B>>);

struct Shared<B> {
    backend: Arc<B>,
    config: Config,
    table: Table,
    metrics: Arc<Metrics>,
    /// Calls under way; unary ones until they are answered.
    calls: Count,
    /// Of requests that are being received.
    requests: Budget,
}

impl<B> Clone for Edge<B> {
    fn clone(&self) -> Edge<B> {
        Edge(Arc::clone(&self.0))
    }
}

impl<B: Backend> Handler for Edge<B> {
    fn call(
        &self,
        request: Request<Incoming>,
        peer: &PeerInfo,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<B> {
        let edge = self.clone();
        let peer = peer.clone();
        // Boxed: the connection copies the future it is given, and once more to spawn it.
        Box::pin(async move {
            if is_grpc(&request) {
                return edge.call_grpc(CallRequest::new(request), peer).await;
            }
            if edge.is_call(&request) {
                return content::refused(request.headers());
            }
            edge.call_http(request, peer).await
        })
    }
}

/// What `--listen-client-urls` serve where `--listen-client-http-urls` are given: gRPC alone.
pub struct GrpcEdge<B>(Edge<B>);

impl<B> Clone for GrpcEdge<B> {
    fn clone(&self) -> GrpcEdge<B> {
        GrpcEdge(self.0.clone())
    }
}

impl<B: Backend> Handler for GrpcEdge<B> {
    fn call(
        &self,
        request: Request<Incoming>,
        peer: &PeerInfo,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<B> {
        let edge = self.0.clone();
        let peer = peer.clone();
        Box::pin(async move {
            if is_grpc(&request) {
                return edge.call_grpc(CallRequest::new(request), peer).await;
            }
            http::only_grpc()
        })
    }
}

/// What `--listen-client-http-urls` serve: everything but gRPC.
pub struct HttpEdge<B>(Edge<B>);

impl<B> Clone for HttpEdge<B> {
    fn clone(&self) -> HttpEdge<B> {
        HttpEdge(self.0.clone())
    }
}

impl<B: Backend> Handler for HttpEdge<B> {
    fn call(
        &self,
        request: Request<Incoming>,
        peer: &PeerInfo,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<B> {
        let (edge, peer) = (self.0.clone(), peer.clone());
        async move { edge.call_http(request, peer).await }
    }
}

/// What `--listen-metrics-urls` serve: health and metrics, nothing of the data.
pub struct MetricsEdge<B>(Edge<B>);

impl<B> Clone for MetricsEdge<B> {
    fn clone(&self) -> MetricsEdge<B> {
        MetricsEdge(self.0.clone())
    }
}

impl<B: Backend> Handler for MetricsEdge<B> {
    fn call(
        &self,
        request: Request<Incoming>,
        _peer: &PeerInfo,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<B> {
        let edge = self.0.clone();
        let (parts, body) = request.into_parts();
        async move {
            let _rest = (parts.version == ::http::Version::HTTP_2).then(|| Rest::of(body));
            if let Some(refused) = plain_head::refused(&parts) {
                return refused;
            }
            let answered = ForCaller::new(edge.http(&parts, true)).await;
            answered.unwrap_or_else(|_| http::panicked())
        }
    }
}

fn is_grpc<R>(request: &Request<R>) -> bool {
    let content_type = request.headers().get(::http::header::CONTENT_TYPE);
    request.version() == ::http::Version::HTTP_2 && content_type.is_some_and(content::is_grpc)
}

/// Decodes a request's message.
fn decode<M: prost::Message + Default>(message: Bytes) -> Result<M, Refusal> {
    M::decode(message).map_err(|error| Refusal::malformed(&error, false))
}

/// Decodes a message of a stream.
fn decode_streamed<M: prost::Message + Default>(message: Bytes) -> Result<M, Refusal> {
    M::decode(message).map_err(|error| Refusal::malformed(&error, true))
}

impl<B: Backend> Edge<B> {
    /// An edge of `backend`.
    pub fn new(backend: Arc<B>, config: Config) -> Edge<B> {
        let metrics = Arc::new(Metrics::new(config.extensive_metrics));
        let requests = Budget::new(
            config.request_budget_bytes,
            REQUESTS_WAITING_MAX,
            REQUEST_PATIENCE,
        );
        let calls = Count::up_to(config.calls_max);
        Edge(Arc::new(Shared {
            backend,
            config,
            table: Table::new(),
            metrics,
            calls,
            requests,
        }))
    }

    /// The edge of `--listen-client-urls` beside `--listen-client-http-urls`.
    pub fn grpc_only(&self) -> GrpcEdge<B> {
        GrpcEdge(self.clone())
    }

    /// The edge of `--listen-client-http-urls`.
    pub fn http_only(&self) -> HttpEdge<B> {
        HttpEdge(self.clone())
    }

    /// The edge of `--listen-metrics-urls`.
    pub fn metrics_only(&self) -> MetricsEdge<B> {
        MetricsEdge(self.clone())
    }

    /// The edge's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn backend(&self) -> &B {
        &self.0.backend
    }

    fn config(&self) -> &Config {
        &self.0.config
    }

    /// The header of an answer that has a revision of its own.
    fn header(&self, revision: Revision) -> Header {
        Header {
            revision,
            ..self.header_now()
        }
    }

    fn header_now(&self) -> Header {
        let backend::Header {
            cluster,
            member,
            revision,
            term,
        } = self.backend().header();
        Header {
            cluster,
            member,
            revision,
            term,
        }
    }

    fn header_message(&self) -> pb::ResponseHeader {
        let header = self.header_now();
        pb::ResponseHeader {
            cluster_id: header.cluster.0,
            member_id: header.member.0,
            revision: header.revision.0,
            raft_term: header.term,
        }
    }

    /// The header of the member list's answers, in which etcd names no revision.
    fn header_without_revision(&self) -> pb::ResponseHeader {
        pb::ResponseHeader {
            revision: 0,
            ..self.header_message()
        }
    }

    fn require_voter(&self) -> Result<(), Refusal> {
        if self.backend().is_learner() {
            return Err(Refusal::NOT_SUPPORTED_FOR_LEARNER);
        }
        Ok(())
    }

    /// The memory for requests, as this connection may use it.
    fn memory(&self, peer: &PeerInfo) -> Memory {
        Memory {
            budget: self.0.requests.clone(),
            connection: Arc::clone(&peer.receiving),
        }
    }

    /// Answers a gRPC call; a panic in it ends the call alone.
    async fn call_grpc(
        self,
        request: Box<CallRequest<Incoming>>,
        peer: PeerInfo,
    ) -> Response<Body> {
        let named = content::subtype(request.headers());
        let mut answer = match head::refused(&request.head) {
            Some(refused) => refused,
            None => {
                let answered = ForCaller::new(self.grpc(request, peer)).await;
                answered.unwrap_or_else(|_| Refusal::PANICKED.into_status().into_http())
            }
        };
        if let Some(named) = named {
            content::echo(&named, answer.headers_mut());
        }
        answer
    }

    /// Whether a request asks for a call over HTTP/2, whatever it says that it carries.
    fn is_call(&self, request: &Request<Incoming>) -> bool {
        request.version() == ::http::Version::HTTP_2
            && self.0.table.find(request.uri().path()).is_some()
    }

    /// The same for a request that is not gRPC.
    async fn call_http(&self, request: Request<Incoming>, peer: PeerInfo) -> Response<Body> {
        let answered = match request.version() {
            ::http::Version::HTTP_2 => {
                let answering = Box::pin(self.guarded_http(request.map(Rest::of), peer));
                ForCaller::new(answering).await
            }
            _ => ForCaller::new(Box::pin(self.guarded_http(request, peer))).await,
        };
        answered.unwrap_or_else(|_| http::panicked())
    }

    async fn grpc<R: RequestBody>(
        self,
        request: Box<CallRequest<R>>,
        peer: PeerInfo,
    ) -> Response<Body> {
        let path = request.path();
        let Some(at) = self.0.table.find(path) else {
            let refusal = Refusal::unknown_method(path, Table::knows_service(path));
            return refusal.into_status().into_http();
        };
        let Ok(call) = self.0.calls.enter_for(&peer.calls) else {
            return Refusal::OVERLOADED.into_status().into_http();
        };
        self.metrics().started(at);
        let memory = self.memory(&peer);
        let _headers = match content::header_bytes(request.headers()) {
            bytes if bytes < HEADERS_CHARGED_MIN => None,
            bytes => match Box::pin(memory.take(bytes)).await {
                Ok(charge) => Some(charge),
                Err(_) => return Refusal::OVERLOADED.into_status().into_http(),
            },
        };
        let span = self.span_of_call(&ROWS[at], request.headers(), peer.local);
        // The name of a certificate is a user's only if every client must have one.
        let named = self.config().client_cert_auth;
        let certificate = peer.identity.filter(|_| named);
        match ROWS[at].kind {
            Kind::Unary => {
                let answering = self.unary(at, request, peer.address, certificate, &memory, span);
                let answer = answering.await;
                drop(call);
                answer
            }
            // Boxed, like every rare call below: a call's future is copied as it is spawned, and
            // these would make the hot ones' as large as the largest of them.
            Kind::ServerStream | Kind::BidiStream => {
                Box::pin(self.streaming(at, request, certificate, call, memory, span)).await
            }
        }
    }

    async fn unary<R: RequestBody>(
        self,
        at: usize,
        request: Box<CallRequest<R>>,
        peer: PeerAddress,
        certificate: Certificate,
        memory: &Memory,
        span: Option<Arc<Call>>,
    ) -> Response<Body> {
        let deadline = framing::deadline(request.headers());
        let mut arrived = None;
        let answered = {
            // Pinned where it is made: what is timed is a reference, not a copy of it.
            let answering =
                pin!(self.answer_unary(at, request, &certificate, memory, &mut arrived));
            let answering = in_time(deadline, answering);
            match &span {
                None => answering.await,
                Some(span) => Box::pin(engram_spans::within(Arc::clone(span), answering)).await,
            }
        };
        if let Some(arrived) = arrived {
            self.account(at, peer, &arrived, &answered);
        }
        if let Some(span) = span {
            spans::end(&span, answered.as_ref().map(|_| ()));
        }
        match answered {
            Ok(frame) => {
                self.metrics().sent(at, frame.message_len());
                self.metrics().handled(at, tonic::Code::Ok);
                framing::answer(frame)
            }
            Err(refusal) => {
                self.metrics().handled(at, refusal.code());
                refusal.into_status().into_http()
            }
        }
    }

    /// `arrived` is set once the request is there, and stays where this is dropped.
    async fn answer_unary<R: RequestBody>(
        &self,
        at: usize,
        request: Box<CallRequest<R>>,
        certificate: &Certificate,
        memory: &Memory,
        arrived: &mut Option<Arrival>,
    ) -> Result<Frame, Refusal> {
        let row = &ROWS[at];
        let encoding = Encoding::of(request.headers())?;
        let max = self.config().max_request_bytes + MESSAGE_OVERHEAD;
        let message = Self::receive(request.body, encoding, max, memory).await?;
        let headers = &request.head.headers;
        self.metrics().received(at, message.len());
        *arrived = Some(Arrival::now(&message, self.metrics().clock()));
        self.admit(row, headers)?;
        let caller = self.caller(headers, certificate).await?;
        self.check_access(row, &caller)?;
        let credentials = || Credentials::of(headers, certificate);
        let answer = self.dispatch(row, message, &caller, credentials).await?;
        match answer.message_len() {
            len if len > MESSAGE_BYTES_MAX => Err(Refusal::answer_too_large(len)),
            _ => Ok(answer),
        }
    }

    /// Reads the request. One that is not there yet must be within a time that its size allows.
    async fn receive<R: RequestBody>(
        body: R,
        encoding: Encoding,
        max: usize,
        memory: &Memory,
    ) -> Result<Bytes, Refusal> {
        let mut reading = pin!(framing::read_unary(body, encoding, max, memory));
        // Nearly always it came with its header, and no timer is needed.
        if let Some(read) = reading.as_mut().now_or_never() {
            return read;
        }
        let received = tokio::time::timeout(request_time(max), reading).await;
        received.unwrap_or(Err(Refusal::REQUEST_NOT_SENT))
    }

    /// What etcd's interceptors check, in their order.
    fn admit(&self, row: &Row, headers: &HeaderMap) -> Result<(), Refusal> {
        // A learner answers its status and serializable ranges (checked when the range is read),
        // and gives snapshots.
        if !matches!(row.rpc, Rpc::Status | Rpc::Range | Rpc::Snapshot) {
            self.require_voter()?;
        }
        let version = match headers.get("client-api-version") {
            None => "unknown",
            Some(value) => std::str::from_utf8(value.as_bytes())
                .map_err(|_| Refusal::INVALID_CLIENT_VERSION)?,
        };
        self.metrics().client_version(row.kind, version);
        if requires_leader(headers) && self.backend().leader().is_none() {
            return Err(Refusal::NO_LEADER);
        }
        Ok(())
    }

    async fn dispatch(
        &self,
        row: &Row,
        message: Bytes,
        caller: &Caller,
        credentials: impl Fn() -> Credentials,
    ) -> Result<Frame, Refusal> {
        match row.rpc {
            Rpc::Range => self.range(message, caller).await,
            Rpc::Put => self.put(message, caller).await,
            Rpc::DeleteRange => self.delete_range(message, caller).await,
            Rpc::Txn => self.txn(message, caller).await,
            Rpc::Compact => Box::pin(self.compact(message, caller)).await,
            Rpc::LeaseGrant => Box::pin(self.lease_grant(message)).await,
            Rpc::LeaseRevoke => Box::pin(self.lease_revoke(message, caller)).await,
            Rpc::LeaseTimeToLive => Box::pin(self.lease_time_to_live(message, caller)).await,
            Rpc::LeaseLeases => Box::pin(self.lease_leases(message, caller)).await,
            Rpc::MemberList => Box::pin(self.member_list(message)).await,
            Rpc::MemberAdd => Box::pin(self.member_add(message)).await,
            Rpc::MemberRemove => Box::pin(self.member_remove(message)).await,
            Rpc::MemberUpdate => Box::pin(self.member_update(message)).await,
            Rpc::MemberPromote => Box::pin(self.member_promote(message)).await,
            Rpc::Alarm => Box::pin(self.alarm(message, caller)).await,
            Rpc::Status => self.status(message),
            Rpc::Defragment => Box::pin(self.defragment(message)).await,
            Rpc::Hash => Box::pin(self.hash(message)).await,
            Rpc::HashKv => Box::pin(self.hash_kv(message)).await,
            Rpc::MoveLeader => Box::pin(self.move_leader(message)).await,
            Rpc::Downgrade => Box::pin(self.downgrade(message)).await,
            Rpc::HealthCheck => health::check(message),
            Rpc::HealthList => health::list(message),
            rpc if row.service == "etcdserverpb.Auth" => {
                Box::pin(self.auth(rpc, message, caller)).await
            }
            rpc if concurrency::SERVICES.contains(&row.service) => {
                let asking = self.asking(credentials());
                Box::pin(asking.answer(rpc, message)).await
            }
            _ => Err(Refusal::not_served(row.service, row.method)),
        }
    }

    async fn streaming<R: RequestBody>(
        self,
        at: usize,
        request: Box<CallRequest<R>>,
        certificate: Certificate,
        call: Counted,
        memory: Memory,
        span: Option<Arc<Call>>,
    ) -> Response<Body> {
        let row = &ROWS[at];
        let started = self.metrics().clock();
        let admitted = Encoding::of(request.headers()).and_then(|encoding| {
            self.admit(row, request.headers())?;
            Ok(encoding)
        });
        let admitted = match admitted {
            Ok(encoding) => self
                .caller(request.headers(), &certificate)
                .await
                .and_then(|caller| self.check_access(row, &caller).map(|()| encoding)),
            refused => refused,
        };
        let credentials = Credentials::of(request.headers(), &certificate);
        let encoding = match admitted {
            Ok(encoding) => encoding,
            Err(refusal) => {
                self.metrics().handled(at, refusal.code());
                self.metrics().timed(at, started);
                if let Some(span) = span {
                    spans::end(&span, Err(&refusal));
                }
                return refusal.into_status().into_http();
            }
        };
        let metrics = Arc::clone(&self.0.metrics);
        let max = self.config().max_request_bytes + MESSAGE_OVERHEAD;
        let interruption = self.interruption(request.headers());
        let wants_records = maintenance::wants_records(request.headers());
        let open: Open = Box::new(move |requests| {
            let answers = match row.rpc {
                Rpc::Snapshot if wants_records => self.snapshot_records(requests),
                _ => self.open_stream(row, requests, credentials),
            };
            Box::pin(Until::new(answers, interruption))
        });
        let codec = ByteCodec {
            metrics: Arc::clone(&metrics),
            row: at,
        };
        let once = Once {
            open: Some(open),
            call: Some(call),
            metrics,
            row: at,
            started,
            span,
        };
        let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(max);
        let limits = charged::Limits {
            bytes: max,
            time: request_time(max),
        };
        let request = request.map(|body| charged::Charged::new(body, memory, limits));
        if encoding == Encoding::Identity {
            return grpc.streaming(once, request).await;
        }
        let (mut parts, body) = request.into_parts();
        // What tonic reads is not compressed any more.
        parts.headers.remove(compression::HEADER);
        let opened = compression::Opened::new(body, encoding, max);
        grpc.streaming(once, Request::from_parts(parts, opened))
            .await
    }

    fn open_stream(self, row: &Row, requests: Requests, credentials: Credentials) -> Answers {
        match row.rpc {
            Rpc::Watch => self.watch(requests, credentials),
            Rpc::LeaseKeepAlive => self.lease_keep_alive(requests, credentials),
            Rpc::RangeStream => self.range_stream(requests, credentials),
            Rpc::Snapshot => self.snapshot(requests),
            Rpc::Observe => self.asking(credentials).observe(requests),
            Rpc::HealthWatch => health::watch(requests),
            _ => {
                let refusal = Refusal::not_served(row.service, row.method);
                Box::pin(stream::once(std::future::ready(Err(refusal))))
            }
        }
    }

    /// Resolves when a stream has to end before its time: its deadline, no leader for long, the
    /// member stopping.
    fn interruption(&self, headers: &HeaderMap) -> watch::Interruption {
        let backend = Arc::clone(&self.0.backend);
        let require_leader = requires_leader(headers);
        let interrupted = async move { Refusal::from(backend.interrupted(require_leader).await) };
        let Some(deadline) = framing::deadline(headers) else {
            return interrupted.boxed();
        };
        let interrupted = tokio::time::timeout(deadline, interrupted);
        interrupted
            .map(|ended| ended.unwrap_or(Refusal::DEADLINE_EXCEEDED))
            .boxed()
    }
}

/// An answer within a deadline, where there is one.
async fn in_time(
    deadline: Option<Duration>,
    answering: impl Future<Output = Result<Frame, Refusal>>,
) -> Result<Frame, Refusal> {
    match deadline {
        None => answering.await,
        // It is over before anything could be done; tokio's would find what is there at once.
        Some(deadline) if deadline < DEADLINE_MIN => Err(Refusal::DEADLINE_EXCEEDED),
        Some(deadline) => tokio::time::timeout(deadline, answering)
            .await
            .unwrap_or(Err(Refusal::DEADLINE_EXCEEDED)),
    }
}

/// A deadline that is sooner passes before any call is answered: some microseconds.
const DEADLINE_MIN: Duration = Duration::from_micros(5);

/// How long a request of at most `max` bytes may take to come.
fn request_time(max: usize) -> Duration {
    REQUEST_TIME + Duration::from_secs(max as u64 / REQUEST_BYTES_A_SECOND)
}

fn requires_leader(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value == "true")
}
