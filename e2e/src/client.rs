//! gRPC clients, without the retries and rewrites of etcd's client library: what the server says is
//! what a test sees.

use std::net::SocketAddr;
use std::time::Duration;

use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use engram_proto::etcdserverpb::watch_client::WatchClient;
use engram_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, ResponseHeader,
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// How long a call may take before the client gives up on it: longer than the server's own limit
/// (7 s), so that its answer is seen.
const CALL_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The clients of one connection.
#[derive(Clone)]
pub struct Client {
    /// Keys and values.
    pub kv: KvClient<Channel>,
    /// Watches.
    pub watch: WatchClient<Channel>,
    /// Leases.
    pub lease: LeaseClient<Channel>,
    /// Status, alarms, hashes.
    pub maintenance: MaintenanceClient<Channel>,
    /// Members.
    pub cluster: ClusterClient<Channel>,
    /// The connection itself.
    pub channel: Channel,
}

impl Client {
    /// Opens a connection.
    ///
    /// # Errors
    /// The transport's, as text.
    pub async fn try_connect(address: SocketAddr) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.expect("a socket address makes a URL");
        let channel = endpoint.connect_timeout(CONNECT_LIMIT).timeout(CALL_LIMIT);
        let channel = channel
            .connect()
            .await
            .map_err(|error| format!("{error:?}"))?;
        Ok(Self::over(channel))
    }

    /// Opens a connection.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn connect(address: SocketAddr) -> Self {
        let connected = Self::try_connect(address).await;
        connected.unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// Clients that connect when they are first used, and again whenever the connection is lost.
    /// Must be called within a runtime.
    pub fn lazy(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.expect("a socket address makes a URL");
        let channel = endpoint.connect_timeout(CONNECT_LIMIT).timeout(CALL_LIMIT);
        Self::over(channel.connect_lazy())
    }

    fn over(channel: Channel) -> Self {
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            channel,
        }
    }

    /// Writes a key; returns the revision.
    ///
    /// # Errors
    /// The server's or the transport's.
    pub async fn put(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Result<i64, Status> {
        let request = PutRequest {
            key: key.into().into(),
            value: value.into().into(),
            ..PutRequest::default()
        };
        let answer = self.kv.put(request).await?.into_inner();
        Ok(revision_of(answer.header.as_ref()))
    }

    /// Reads one key at a revision (0: the latest), linearizably.
    ///
    /// # Errors
    /// The server's or the transport's.
    pub async fn get(
        &mut self,
        key: impl Into<Vec<u8>>,
        revision: i64,
    ) -> Result<RangeResponse, Status> {
        let request = RangeRequest {
            key: key.into().into(),
            revision,
            ..RangeRequest::default()
        };
        Ok(self.kv.range(request).await?.into_inner())
    }

    /// Reads every key.
    ///
    /// # Errors
    /// The server's or the transport's.
    pub async fn everything(&mut self) -> Result<RangeResponse, Status> {
        self.everything_at(0).await
    }

    /// Reads every key at a revision (0: the latest).
    ///
    /// # Errors
    /// The server's or the transport's.
    pub async fn everything_at(&mut self, revision: i64) -> Result<RangeResponse, Status> {
        let request = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            revision,
            ..RangeRequest::default()
        };
        Ok(self.kv.range(request).await?.into_inner())
    }

    /// Deletes one key; returns the revision and how many keys went.
    ///
    /// # Errors
    /// The server's or the transport's.
    pub async fn delete(&mut self, key: impl Into<Vec<u8>>) -> Result<(i64, i64), Status> {
        let request = DeleteRangeRequest {
            key: key.into().into(),
            ..DeleteRangeRequest::default()
        };
        let answer = self.kv.delete_range(request).await?.into_inner();
        Ok((revision_of(answer.header.as_ref()), answer.deleted))
    }

    /// Opens a stream with one watcher, of a range of keys from a revision on.
    ///
    /// # Errors
    /// The server's or the transport's.
    pub async fn watch_range(
        &mut self,
        create: WatchCreateRequest,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let request = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
        };
        // The stream of requests stays open: its end would end the watch.
        let requests = tokio_stream::StreamExt::chain(
            tokio_stream::once(request),
            tokio_stream::pending::<WatchRequest>(),
        );
        Ok(self.watch.watch(requests).await?.into_inner())
    }
}

/// The revision that an answer's header states.
///
/// # Panics
/// If there is no header: etcd's answers with a revision all have one.
pub fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.expect("the answer has a header").revision
}

/// A runtime for the clients: two threads, as the machine of CI has cores.
///
/// # Panics
/// If threads are not to be had.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime of two threads")
}
