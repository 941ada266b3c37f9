//! Connections to a known address under a known name: no name server is asked, since pods are
//! known by their addresses long before DNS has heard of them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;
use tower_service::Service;

use super::EtcdError;
use crate::pki::Files;

/// Either kind of stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to one address.
#[derive(Clone)]
pub(super) struct Connector {
    address: SocketAddr,
    host: ServerName<'static>,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(super) fn new(
        address: SocketAddr,
        host: &str,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let host = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        Ok(Self { address, host, tls })
    }

    async fn open(self) -> io::Result<TokioIo<Box<dyn Stream>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = self.tls else {
            return Ok(TokioIo::new(Box::new(stream)));
        };
        let stream = TlsConnector::from(config)
            .connect(self.host, stream)
            .await?;
        Ok(TokioIo::new(Box::new(stream)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().open())
    }
}

pub(super) fn client_config(files: &Files) -> Result<ClientConfig, EtcdError> {
    let wrong = |what: String| EtcdError::Tls(what);
    let part = |key: &str| {
        files
            .get(key)
            .ok_or_else(|| wrong(format!("the Secret has no {key}")))
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(part("ca.crt")?) {
        let root = root.map_err(|error| wrong(format!("ca.crt: {error}")))?;
        roots
            .add(root)
            .map_err(|error| wrong(format!("ca.crt: {error}")))?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(part("tls.crt")?).collect();
    let chain = chain.map_err(|error| wrong(format!("tls.crt: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?);
    let key = key.map_err(|error| wrong(format!("tls.key: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(error.to_string()))?;
    let config = builder
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    let mut config = config.map_err(|error| wrong(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
