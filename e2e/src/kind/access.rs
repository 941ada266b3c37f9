//! A declared cluster's members, spoken to from this machine over TLS, with what the operator put
//! into the Secret for clients.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use engram_proto::etcdserverpb::watch_client::WatchClient;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use super::Kind;
use crate::client::Client;
use crate::wallet;

/// The files of a Secret for clients.
const FILES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
/// How long a connection may take: a node that is gone answers nothing at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long a Service may take to lead to pods that are ready, and how often it is tried.
const REACH_LIMIT: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// What it takes to speak to one cluster's members.
#[derive(Clone)]
pub struct Access {
    host: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "access as a client of {:?}", self.host)
    }
}

impl Kind {
    /// Access with what the operator put into the Secret for clients of a cluster, see
    /// [`Self::access_with`].
    pub fn access(&self, namespace: &str, cluster: &str) -> Access {
        self.access_with(namespace, cluster, &format!("{cluster}-client-tls"))
    }

    /// Access with what a Secret holds. Members have to show a certificate for the client Service's
    /// name, wherever they are reached.
    ///
    /// # Panics
    /// If the Secret is not there, or what it holds is no certificate.
    pub fn access_with(&self, namespace: &str, cluster: &str, secret: &str) -> Access {
        let [authority, certificate, key] =
            FILES.map(|file| self.secret_file(namespace, secret, file));
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            let root = root.expect("ca.crt is PEM");
            roots.add(root).expect("ca.crt holds authorities");
        }
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("tls.key is a key");
        let tls = wallet::http2_client(roots, chain.expect("tls.crt is PEM"), key);
        let host = format!("{cluster}-client.{namespace}.svc");
        Access {
            host: ServerName::try_from(host).expect("it is a host name"),
            tls,
        }
    }

    /// A file of a Secret; empty if the Secret has no such file.
    ///
    /// # Panics
    /// If the Secret is not there.
    pub fn secret_file(&self, namespace: &str, secret: &str, file: &str) -> String {
        let file = format!("index .data {file:?}");
        let template =
            format!("go-template={{{{if {file}}}}}{{{{{file} | base64decode}}}}{{{{end}}}}");
        self.must(&["-n", namespace, "get", "secret", secret, "-o", &template])
    }
}

impl Access {
    /// Connects to a member, or to a Service, at an address. Each call gives up after `call_limit`.
    ///
    /// # Errors
    /// The transport's, as text.
    pub async fn connect(
        &self,
        address: SocketAddr,
        call_limit: Duration,
    ) -> Result<Client, String> {
        let dial = Dial {
            access: self.clone(),
            address,
        };
        // What is dialled is the address: this URL becomes the requests' authority.
        let endpoint = Endpoint::from_static("http://localhost")
            .connect_timeout(CONNECT_LIMIT)
            .timeout(call_limit);
        // The handshake after the connection has no limit of its own.
        let connecting =
            tokio::time::timeout(2 * CONNECT_LIMIT, endpoint.connect_with_connector(dial));
        let connected = connecting.await.map_err(|late| late.to_string())?;
        connected.map(over).map_err(|error| format!("{error:?}"))
    }

    /// The certificate that a member shows at an address.
    ///
    /// # Errors
    /// The transport's, or that it is not trusted.
    pub async fn shown(&self, address: SocketAddr) -> io::Result<CertificateDer<'static>> {
        let (access, limit) = (self.clone(), 2 * CONNECT_LIMIT);
        let stream = tokio::time::timeout(limit, Dial { access, address }.open()).await??;
        let (_, session) = stream.inner().get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        let first = chain.first().cloned();
        first.ok_or_else(|| io::Error::other("no certificate was shown"))
    }

    /// [`Self::connect`], again and again for a while: a Service's ports lead to pods a moment after
    /// these have become ready.
    ///
    /// # Panics
    /// If nobody answers at all.
    pub async fn reach(&self, address: SocketAddr, call_limit: Duration) -> Client {
        let deadline = Instant::now() + REACH_LIMIT;
        loop {
            match self.connect(address, call_limit).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn over(channel: Channel) -> Client {
    Client {
        kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
        watch: WatchClient::new(channel.clone()),
        lease: LeaseClient::new(channel.clone()),
        maintenance: MaintenanceClient::new(channel.clone()),
        cluster: ClusterClient::new(channel.clone()),
        channel,
    }
}

/// Opens connections for tonic.
#[derive(Clone)]
struct Dial {
    access: Access,
    address: SocketAddr,
}

impl Dial {
    async fn open(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.access.tls);
        let stream = connector.connect(self.access.host, stream).await?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().open())
    }
}
