//! Certificates of an authority made here, and handshakes over loopback, for the tests of this floor
//! and of those above.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Acceptor, Connector, HandshakeError, Secured};
use crate::config::{ListenUrl, TlsFiles};
use crate::{PeerAddress, Socket, Stream};

/// The serial numbers that a revocation list names; none where it is no list.
#[must_use]
pub fn revoked(list: &[u8]) -> Option<Vec<Vec<u8>>> {
    super::identity::revoked_serials(list).ok()
}

/// When a certificate ends, seconds since 1970; none where it is none.
#[must_use]
pub fn ends(certificate: &[u8]) -> Option<i64> {
    super::identity::not_after(&certificate.into()).ok()
}

/// Longer than anything here takes, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate authority with a directory for its files.
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub(super) bundle: String,
}

/// What a certificate is to say.
#[derive(Clone)]
pub struct Wanted<'a> {
    /// Its subject.
    pub common_name: &'a str,
    /// The names and addresses it is for.
    pub names: &'a [&'a str],
    /// Its serial number.
    pub serial: u64,
    /// Whether its time is over.
    pub ended: bool,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Wanted {
            common_name: "member",
            names: &["localhost", "127.0.0.1"],
            serial: 4711,
            ended: false,
        }
    }
}

impl Authority {
    /// A new authority; its certificate is in `ca.pem`.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let bundle = params.self_signed(&key).unwrap().pem();
        let authority = Authority {
            directory: tempfile::tempdir().unwrap(),
            issuer: Issuer::new(params, key),
            bundle,
        };
        std::fs::write(authority.path("ca.pem"), &authority.bundle).unwrap();
        authority
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>-key.pem`.
    pub fn issue(&self, name: &str, wanted: &Wanted<'_>) -> (PathBuf, PathBuf) {
        let names: Vec<String> = wanted.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, wanted.common_name);
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        let now = SystemTime::now();
        params.not_before = (now - 2 * DAY).into();
        params.not_after = match wanted.ended {
            true => (now - DAY).into(),
            false => (now + DAY).into(),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}-key.pem")),
        );
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    /// A list that revokes these serial numbers.
    pub fn revoke(&self, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let now = SystemTime::now();
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    /// Files of a server that asks clients for certificates of this authority.
    pub fn server_files(&self) -> TlsFiles {
        let (cert, key) = self.issue("server", &Wanted::default());
        TlsFiles {
            cert: Some(cert),
            key: Some(key),
            trusted_ca: Some(self.path("ca.pem")),
            client_cert_auth: true,
            ..TlsFiles::default()
        }
    }

    /// Files of a client that presents a certificate of this authority.
    pub fn client_files(&self, wanted: &Wanted<'_>) -> TlsFiles {
        let (cert, key) = self.issue("client", wanted);
        TlsFiles {
            cert: Some(cert),
            key: Some(key),
            trusted_ca: Some(self.path("ca.pem")),
            ..TlsFiles::default()
        }
    }

    /// Files of a client that presents none.
    pub fn anonymous_files(&self) -> TlsFiles {
        TlsFiles {
            trusted_ca: Some(self.path("ca.pem")),
            ..TlsFiles::default()
        }
    }
}

/// A listener on a free port, and its URL.
pub async fn listen() -> (TcpListener, ListenUrl) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = ListenUrl::parse(&format!("https://{address}")).unwrap();
    (listener, url)
}

/// Accepts one connection and does its handshake.
pub async fn accept_one(
    listener: &TcpListener,
    acceptor: &Acceptor,
) -> Result<Secured, HandshakeError> {
    let (stream, from) = listener.accept().await.unwrap();
    acceptor
        .accept(Socket::Tcp(stream), PeerAddress::Tcp(from))
        .await
}

/// Both ends' outcome of one connection; the client's after its first read, since in TLS 1.3 only
/// that tells whether its certificate was accepted. An accepted client is sent `hello`.
pub async fn meet(
    acceptor: &Acceptor,
    connector: &Connector,
) -> (Result<Secured, HandshakeError>, io::Result<Stream>) {
    let (listener, url) = listen().await;
    let server = async {
        let mut secured = accept_one(&listener, acceptor).await?;
        secured.stream.write_all(b"hello").await.unwrap();
        secured.stream.flush().await.unwrap();
        Ok(secured)
    };
    let client = async {
        let mut stream = connector.connect(&url).await?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await?;
        assert_eq!(&hello, b"hello");
        Ok(stream)
    };
    let both = async { tokio::join!(server, client) };
    tokio::time::timeout(LIMIT, both).await.unwrap()
}

/// How it ended, in words.
pub fn text<T>(outcome: Result<T, impl ToString>) -> String {
    match outcome {
        Ok(_) => "it was let in".to_owned(),
        Err(error) => error.to_string(),
    }
}
