//! The client's end: connections that this member makes to others.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, TlsStream};

use super::acceptor::rules;
use super::error::worded;
use super::material::{Content, PerFile, authorities, certified_key, system_authorities};
use super::policy::Choice;
use super::reload::Reloading;
use super::rules::{ServerChain, ServerVerifier};
use super::{ALPN_HTTP2, HANDSHAKE_TIMEOUT, Side, TlsError};
use crate::config::{Address, ListenUrl, TlsFiles, TlsPolicy};
use crate::stream::{Socket, Stream};

/// How long finding and reaching an address may take unless [`Connector::within`] says otherwise: all addresses of a
/// name together. Within an election timeout of etcd's default (1 s) a member that does not answer is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes connections. Clones share files; a changed file is used from the next connection on.
#[derive(Clone)]
pub struct Connector {
    /// Without it, there is no TLS.
    dialed: Option<Arc<Reloading<Dialed>>>,
    /// How long finding and reaching an address may take.
    limit: Duration,
}

/// What the files amount to.
struct Dialed {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// A connector for URLs without TLS.
    pub fn plain() -> Connector {
        Connector::by(None)
    }

    fn by(dialed: Option<Arc<Reloading<Dialed>>>) -> Connector {
        Connector {
            dialed,
            limit: CONNECT_TIMEOUT,
        }
    }

    /// The same with another bound for finding and reaching an address.
    #[must_use]
    pub fn within(self, limit: Duration) -> Connector {
        Connector { limit, ..self }
    }

    /// Reads the files of one side: the certificate to present (`client_cert`, else `cert`, else
    /// none), the authorities that servers are verified against (else the system's) and what else a
    /// server's certificate has to hold, the rules that etcd applies at both ends. With
    /// `self_signed` nothing is verified, as in etcd: every member is its own authority.
    ///
    /// # Errors
    /// A file is missing, unreadable or does not fit the others; a cipher suite is not here.
    pub fn new(side: Side, files: &TlsFiles, policy: &TlsPolicy) -> Result<Connector, TlsError> {
        let choice = Choice::of(policy)?;
        let settings = files.clone();
        let build = move |contents: &PerFile<Option<Content>>| dial(&settings, &choice, contents);
        let dialed = Reloading::open(side.name(), paths(files), build)?;
        Ok(Connector::by(Some(Arc::new(dialed))))
    }

    /// Opens a connection to a URL: `http` and `unix` without TLS, `https` and `unixs` with it, for
    /// the URL's host. Bounded by its limit ([`CONNECT_TIMEOUT`]) and [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// Nobody answers in time (`TimedOut`), the system's errors, or one end refuses the other: the
    /// text is Go's then. In TLS 1.3 the other end's refusal of our certificate comes with the
    /// first read instead.
    pub async fn connect(&self, url: &ListenUrl) -> io::Result<Stream> {
        let socket = within(self.limit, "connecting", open(&url.address)).await?;
        if !url.scheme.is_tls() {
            return Ok(Stream::Plain(socket));
        }
        let Some(dialed) = &self.dialed else {
            let reason = format!("{url} needs TLS, and there are no TLS settings");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        let name = server_name(&url.address)?;
        let shaking = async {
            let config = Arc::clone(&dialed.fresh().await.config);
            TlsConnector::from(config).connect(name, socket).await
        };
        let stream = within(HANDSHAKE_TIMEOUT, "the TLS handshake", shaking).await;
        Ok(Stream::Tls(Box::new(TlsStream::from(
            stream.map_err(worded)?,
        ))))
    }

    /// Looks at the files now instead of at the next connection.
    pub fn reload(&self) {
        if let Some(dialed) = &self.dialed {
            dialed.look();
        }
    }

    /// How often changed files could not be used.
    pub fn reloads_failed(&self) -> u64 {
        self.dialed.as_ref().map_or(0, |dialed| dialed.failures())
    }
}

async fn within<T>(
    limit: Duration,
    what: &str,
    doing: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = |_| {
        let reason = format!("{what} took longer than {limit:?}");
        io::Error::new(io::ErrorKind::TimedOut, reason)
    };
    tokio::time::timeout(limit, doing).await.map_err(late)?
}

async fn open(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Socket(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Writes are gathered above, so that the system need not.
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
    }
}

/// Whom the certificate has to name: the URL's host, or `localhost` behind a Unix socket.
fn server_name(address: &Address) -> io::Result<ServerName<'static>> {
    let host = match address {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Socket(_) => "localhost",
    };
    // The zone of a link-local address is this machine's matter.
    let host = host.split_once('%').map_or(host, |(address, _)| address);
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))
}

fn paths(files: &TlsFiles) -> PerFile<Option<PathBuf>> {
    let (certificate, key) = match &files.client_cert {
        Some(_) => (&files.client_cert, &files.client_key),
        None => (&files.cert, &files.key),
    };
    PerFile {
        certificate: certificate.clone(),
        key: key.clone(),
        authorities: files.trusted_ca.clone(),
        revoked: files.crl.clone(),
    }
}

fn dial(
    files: &TlsFiles,
    choice: &Choice,
    contents: &PerFile<Option<Content>>,
) -> Result<Dialed, TlsError> {
    let provider = &choice.provider;
    let verifier = ServerVerifier {
        chain: chain(files, choice, contents)?,
        rules: rules(files, contents)?,
        provider: Arc::clone(provider),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&choice.versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&contents.certificate, &contents.key) {
        (Some(certificate), Some(key)) => {
            let (pair, _) = certified_key(certificate, key, provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // As at the other end: every connection is verified in full.
    config.resumption = Resumption::disabled();
    Ok(Dialed {
        config: Arc::new(config),
    })
}

fn chain(
    files: &TlsFiles,
    choice: &Choice,
    contents: &PerFile<Option<Content>>,
) -> Result<ServerChain, TlsError> {
    let roots: RootCertStore = match &contents.authorities {
        Some(bundle) => authorities(bundle)?,
        None if files.self_signed => return Ok(ServerChain::Anybody),
        None => system_authorities(),
    };
    if roots.is_empty() {
        return Ok(ServerChain::Nobody);
    }
    let provider = Arc::clone(&choice.provider);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(ServerChain::Verified(verifier))
}
