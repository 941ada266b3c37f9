//! What goes wrong at the start and in handshakes, in the words of etcd and Go where they have
//! some: operators know them and tools look for them.

use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a listener or a connector with TLS is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("open {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Half of a pair, or none of it.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {certificate}]")]
    Pair {
        /// The key's file, if given.
        key: String,
        /// The certificate's file, if given.
        certificate: String,
    },
    /// Certificates are asked for and nothing can verify them. etcd would take every certificate
    /// that the system's public CAs have signed.
    #[error(
        "--{0}client-cert-auth is set without --{0}trusted-ca-file: name the CA whose clients may connect"
    )]
    NoAuthority(&'static str),
    /// A suite that this build does not have.
    #[error(
        "unexpected TLS cipher suite {0:?}: engram has only suites with forward secrecy and authenticated encryption; remove it from --cipher-suites"
    )]
    CipherSuite(String),
    /// Versions, suites and key do not go together.
    #[error("TLS settings: {0}")]
    Settings(#[from] Error),
    /// A certificate is asked for that is never valid.
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    Validity,
    /// A certificate could not be made.
    #[error("cannot generate cert: {0}")]
    SelfSigned(String),
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// As many handshakes as allowed are under way.
    #[error("too many TLS handshakes under way")]
    Busy,
    /// It took too long.
    #[error("TLS handshake timeout")]
    TimedOut,
    /// The other end went away before it said anything of use.
    #[error("EOF")]
    Gone,
    /// One end refused the other.
    #[error("{0}")]
    Refused(String),
}

impl HandshakeError {
    pub(super) fn of(error: &io::Error) -> HandshakeError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => HandshakeError::Gone,
            _ => HandshakeError::Refused(describe(error)),
        }
    }
}

/// The same error with Go's words, if it is one of TLS.
pub(crate) fn worded(error: io::Error) -> io::Error {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<Error>());
    match is_tls {
        true => io::Error::new(error.kind(), describe(&error)),
        false => error,
    }
}

/// An error of the transport in Go's words where it has some.
fn describe(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::AlertReceived(alert)) => format!("remote error: tls: {}", alert_text(*alert)),
        Some(Error::InvalidCertificate(reason)) => certificate_text(reason),
        Some(Error::NoCertificatesPresented) => {
            "tls: client didn't provide a certificate".to_owned()
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Some(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)) => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        Some(other) => format!("tls: {other}"),
        None => error.to_string(),
    }
}

fn certificate_text(error: &CertificateError) -> String {
    let reason = match error {
        // Only the rules of `Rules` say it without a context.
        CertificateError::NotValidForName => {
            return "client certificate authentication failed".to_owned();
        }
        CertificateError::Revoked => return "transport: certificate revoked".to_owned(),
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {reason}")
}

fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        AlertDescription::InternalError => "internal error",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::UnexpectedMessage => "unexpected message",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}
