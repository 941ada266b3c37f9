//! The server's end of TLS, the same for every listener.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::address::verify_address;
use super::identity::PeerIdentity;
use super::material::{Content, PerFile, authorities, certified_key, revoked_serials};
use super::policy::Choice;
use super::reload::Reloading;
use super::rules::{ClientVerifier, Rules};
use super::{ALPN_HTTP1, ALPN_HTTP2, HANDSHAKE_TIMEOUT, HandshakeError, Side, TlsError};
use crate::config::{TlsFiles, TlsPolicy};
use crate::stream::{Socket, Stream};
use crate::{PeerAddress, farewell};

/// Handshakes under way at once on one listener; the next connection is closed. One takes about a
/// millisecond of a core and some ten KiB: this many are served in a second or two after every
/// client came back at once, and a flood of silent connections costs megabytes, not more.
pub const PENDING_HANDSHAKES_MAX: usize = 1024;

/// Accepts TLS connections. Clones share files and counters; [`Acceptor::for_listener`] has its own
/// bound on handshakes.
#[derive(Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
    pending: Arc<Semaphore>,
    timeout: Duration,
}

struct Shared {
    side: Side,
    served: Arc<Reloading<Served>>,
    /// Whether the other end's address is compared with its certificate.
    verifies_address: bool,
    failed: AtomicU64,
}

/// What the files amount to.
struct Served {
    config: Arc<ServerConfig>,
    /// When the certificate ends, seconds since 1970.
    ends: i64,
}

/// A connection whose handshake is done.
pub struct Secured {
    /// Its bytes, decrypted.
    pub stream: Stream,
    /// Who is at the other end, if it presented a certificate, which was verified then.
    pub identity: Option<Arc<PeerIdentity>>,
}

impl Acceptor {
    /// Reads the files of one side. A certificate is asked of the other end with
    /// `client_cert_auth`, and with `trusted_ca` alone as well, as in etcd.
    ///
    /// # Errors
    /// A file is missing, unreadable (a revocation list too: nobody is let in unchecked) or does
    /// not fit the others; a cipher suite is not here.
    pub fn new(side: Side, files: &TlsFiles, policy: &TlsPolicy) -> Result<Acceptor, TlsError> {
        let choice = Choice::of(policy)?;
        let settings = files.clone();
        let build =
            move |contents: &PerFile<Option<Content>>| serve(side, &settings, &choice, contents);
        let shared = Shared {
            side,
            served: Arc::new(Reloading::open(side.name(), paths(files), build)?),
            verifies_address: side == Side::Peer && !files.skip_client_san_verification,
            failed: AtomicU64::new(0),
        };
        Ok(Acceptor {
            shared: Arc::new(shared),
            pending: Arc::new(Semaphore::new(PENDING_HANDSHAKES_MAX)),
            timeout: HANDSHAKE_TIMEOUT,
        })
    }

    /// The same acceptor with a bound of its own on handshakes under way.
    pub fn for_listener(&self) -> Acceptor {
        self.with_bounds(PENDING_HANDSHAKES_MAX, HANDSHAKE_TIMEOUT)
    }

    pub(super) fn with_bounds(&self, pending_max: usize, timeout: Duration) -> Acceptor {
        Acceptor {
            shared: Arc::clone(&self.shared),
            pending: Arc::new(Semaphore::new(pending_max)),
            timeout,
        }
    }

    /// Whose connections these are.
    pub fn side(&self) -> Side {
        self.shared.side
    }

    /// Does the handshake, within [`HANDSHAKE_TIMEOUT`]. Files that changed are used from here on;
    /// open connections keep what they began with. A connection that is refused is closed in
    /// order: the other end reads the reason and then an end.
    ///
    /// # Errors
    /// The other end is not to be let in, does not speak TLS, or says nothing in time.
    pub async fn accept(
        &self,
        socket: Socket,
        from: PeerAddress,
    ) -> Result<Secured, HandshakeError> {
        let secured = self.accept_within_bounds(socket, from).await;
        if secured.is_err() {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
        }
        secured
    }

    async fn accept_within_bounds(
        &self,
        socket: Socket,
        from: PeerAddress,
    ) -> Result<Secured, HandshakeError> {
        let Ok(permit) = self.pending.try_acquire() else {
            return Err(HandshakeError::Busy);
        };
        let deadline = tokio::time::Instant::now() + self.timeout;
        let accepting = async {
            let config = Arc::clone(&self.shared.served.fresh().await.config);
            TlsAcceptor::from(config)
                .accept(socket)
                .into_fallible()
                .await
        };
        let stream = match tokio::time::timeout_at(deadline, accepting).await {
            Err(_) => return Err(HandshakeError::TimedOut),
            Ok(Ok(stream)) => stream,
            Ok(Err((error, socket))) => {
                drop(permit);
                farewell::close(socket).await;
                return Err(HandshakeError::of(&error));
            }
        };
        let identity = identity(&stream).map_err(HandshakeError::Refused)?;
        let checking = self.check_address(identity.as_deref(), from);
        let checked = tokio::time::timeout_at(deadline, checking).await;
        drop(permit);
        let checked = checked.unwrap_or(Err(HandshakeError::TimedOut));
        let stream = Stream::Tls(Box::new(TlsStream::from(stream)));
        if let Err(error) = checked {
            farewell::close(stream).await;
            return Err(error);
        }
        Ok(Secured { stream, identity })
    }

    async fn check_address(
        &self,
        identity: Option<&PeerIdentity>,
        from: PeerAddress,
    ) -> Result<(), HandshakeError> {
        match (identity, from) {
            (Some(identity), PeerAddress::Tcp(address)) if self.shared.verifies_address => {
                let verified = verify_address(identity, address.ip()).await;
                verified.map_err(HandshakeError::Refused)
            }
            _ => Ok(()),
        }
    }

    /// Looks at the files now instead of at the next handshake.
    pub fn reload(&self) {
        self.shared.served.look();
    }

    /// When the certificate that is shown ends, seconds since 1970. May read the files anew.
    pub fn certificate_ends(&self) -> i64 {
        self.shared.served.fresh_blocking().ends
    }

    /// Handshakes that failed so far.
    pub fn handshakes_failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// How often changed files could not be used.
    pub fn reloads_failed(&self) -> u64 {
        self.shared.served.failures()
    }
}

fn identity(
    stream: &tokio_rustls::server::TlsStream<Socket>,
) -> Result<Option<Arc<PeerIdentity>>, String> {
    let presented = stream.get_ref().1.peer_certificates();
    let Some(certificate) = presented.and_then(<[_]>::first) else {
        return Ok(None);
    };
    let identity = PeerIdentity::read(certificate).map_err(|error| error.to_string())?;
    Ok(Some(Arc::new(identity)))
}

fn paths(files: &TlsFiles) -> PerFile<Option<PathBuf>> {
    PerFile {
        certificate: files.cert.clone(),
        key: files.key.clone(),
        authorities: files.trusted_ca.clone(),
        revoked: files.crl.clone(),
    }
}

fn serve(
    side: Side,
    files: &TlsFiles,
    choice: &Choice,
    contents: &PerFile<Option<Content>>,
) -> Result<Served, TlsError> {
    let (Some(certificate), Some(key)) = (&contents.certificate, &contents.key) else {
        return Err(missing_pair(files));
    };
    let provider = &choice.provider;
    let (pair, ends) = certified_key(certificate, key, provider)?;
    // Also where nobody is asked for a certificate: a file that is given has to be good.
    let rules = rules(files, contents)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&choice.versions)?;
    let builder = match client_roots(side, files, contents)? {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(verifier(roots, rules, choice)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    // Every connection is verified in full: a session resumed would bring back a client whose
    // certificate has ended or was revoked since. Clients of etcd connect once and stay.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Served {
        config: Arc::new(config),
        ends,
    })
}

fn missing_pair(files: &TlsFiles) -> TlsError {
    let show = |path: &Option<PathBuf>| {
        let path = path.as_ref();
        path.map_or(String::new(), |path| path.display().to_string())
    };
    TlsError::Pair {
        key: show(&files.key),
        certificate: show(&files.cert),
    }
}

/// The authorities that clients are verified against; none where no certificate is asked for.
fn client_roots(
    side: Side,
    files: &TlsFiles,
    contents: &PerFile<Option<Content>>,
) -> Result<Option<RootCertStore>, TlsError> {
    match &contents.authorities {
        Some(bundle) => Ok(Some(authorities(bundle)?)),
        None if files.client_cert_auth => Err(TlsError::NoAuthority(side.flag_prefix())),
        None => Ok(None),
    }
}

fn verifier(
    roots: RootCertStore,
    rules: Rules,
    choice: &Choice,
) -> Result<Arc<ClientVerifier>, TlsError> {
    let provider = Arc::clone(&choice.provider);
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(Arc::new(ClientVerifier {
        chain: chain.map_err(|error| rustls::Error::General(error.to_string()))?,
        rules,
    }))
}

pub(super) fn rules(
    files: &TlsFiles,
    contents: &PerFile<Option<Content>>,
) -> Result<Rules, TlsError> {
    let revoked = contents.revoked.as_ref().map(revoked_serials).transpose()?;
    Ok(Rules {
        common_names: files.allowed_common_names.clone(),
        hostnames: files.allowed_hostnames.clone(),
        revoked: revoked.unwrap_or_default(),
    })
}
