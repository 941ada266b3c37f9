//! Which verified certificates are let in, and the verifiers that ask for it in the handshake.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::hostname::verify_hostname;
use super::identity::PeerIdentity;

/// What a certificate has to hold beyond a valid chain.
#[derive(Clone, Default)]
pub(super) struct Rules {
    /// Common names of which it has to have one; empty allows all.
    pub(super) common_names: Vec<String>,
    /// Hosts of which it has to be one's; empty allows all.
    pub(super) hostnames: Vec<String>,
    /// Serial numbers that are let in no more.
    pub(super) revoked: HashSet<Vec<u8>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("common_names", &self.common_names)
            .field("hostnames", &self.hostnames)
            .field("revoked", &self.revoked.len())
            .finish()
    }
}

impl Rules {
    /// Checks what the other end presented, whose chain was verified before.
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let holder = read(end_entity)?;
        if !self.lets_in(&holder) {
            // Its alert is Go's for it: "bad certificate".
            return Err(CertificateError::NotValidForName.into());
        }
        if self.revoked.is_empty() {
            return Ok(());
        }
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            if self.revoked.contains(&read(certificate)?.serial) {
                return Err(CertificateError::Revoked.into());
            }
        }
        Ok(())
    }

    fn lets_in(&self, holder: &PeerIdentity) -> bool {
        let by_name =
            self.common_names.is_empty() || self.common_names.contains(&holder.common_name);
        let is_one_of = |host: &String| verify_hostname(holder, host).is_ok();
        let by_host = self.hostnames.is_empty() || self.hostnames.iter().any(is_one_of);
        by_name && by_host
    }
}

fn read(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, Error> {
    PeerIdentity::read(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// An authority of a known name with another key (one made anew, say) is an unknown one, as in Go;
/// webpki calls it a bad signature.
fn unknown_authority(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    }
}

/// Verifies clients: the chain as rustls does it, then the rules.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) rules: Rules,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(unknown_authority)?;
        self.rules.check(end_entity, intermediates)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// How a server's chain is verified.
#[derive(Debug)]
pub(super) enum ServerChain {
    /// Against authorities, for the host that was asked for.
    Verified(Arc<WebPkiServerVerifier>),
    /// There are no authorities: nobody is believed.
    Nobody,
    /// Members that made their certificates themselves (`--peer-auto-tls`) believe each other, as
    /// in etcd: the connection is encrypted and not authenticated.
    Anybody,
}

/// Verifies servers: the chain, then the rules.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) chain: ServerChain,
    pub(super) rules: Rules,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.chain {
            ServerChain::Verified(chain) => {
                chain
                    .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                    .map_err(unknown_authority)?;
            }
            ServerChain::Nobody => return Err(CertificateError::UnknownIssuer.into()),
            ServerChain::Anybody => {}
        }
        self.rules.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
