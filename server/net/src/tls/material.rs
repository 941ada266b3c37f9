//! From files' bytes to certificates, keys, authorities and revocation lists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::identity::{self, not_after};

/// One thing for each file of a side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PerFile<T> {
    /// The certificate with its intermediates, PEM.
    pub(super) certificate: T,
    /// Its key, PEM: PKCS #8, PKCS #1 or SEC 1.
    pub(super) key: T,
    /// The CA bundle, PEM.
    pub(super) authorities: T,
    /// The revocation list, DER as etcd wants it, or PEM.
    pub(super) revoked: T,
}

impl<T> PerFile<T> {
    pub(super) fn try_map<'a, U, E>(
        &'a self,
        mut with: impl FnMut(&'a T) -> Result<U, E>,
    ) -> Result<PerFile<U>, E> {
        Ok(PerFile {
            certificate: with(&self.certificate)?,
            key: with(&self.key)?,
            authorities: with(&self.authorities)?,
            revoked: with(&self.revoked)?,
        })
    }
}

/// A file and what is in it.
pub(super) struct Content {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

fn wrong(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// A certificate with its key, and when it ends (seconds since 1970).
///
/// # Errors
/// One of them cannot be read, or they are no pair.
pub(super) fn certified_key(
    certificate: &Content,
    key: &Content,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, i64), TlsError> {
    let chain = certificates(certificate)?;
    let ends = not_after(&chain[0]).map_err(|error| wrong(&certificate.path, error))?;
    let private = PrivateKeyDer::from_pem_slice(&key.bytes)
        .map_err(|error| wrong(&key.path, format!("no private key: {error}")))?;
    let signer = provider.key_provider.load_private_key(private);
    let signer = signer.map_err(|error| wrong(&key.path, error))?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Ok(()) => Ok((pair, ends)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(wrong(
            &key.path,
            "tls: private key does not match public key",
        )),
        Err(error) => Err(wrong(&certificate.path, error)),
    }
}

fn certificates(content: &Content) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&content.bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(&content.path, error))?;
    if chain.is_empty() {
        let reason = "tls: failed to find certificate PEM data in certificate input";
        return Err(wrong(&content.path, reason));
    }
    Ok(chain)
}

/// The authorities of a bundle.
///
/// # Errors
/// There is none, or one cannot be read.
pub(super) fn authorities(content: &Content) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(content)? {
        let added = store.add(certificate);
        added.map_err(|error| wrong(&content.path, error))?;
    }
    Ok(store)
}

/// The authorities that the system trusts; what it cannot read is left out.
pub(super) fn system_authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Serial numbers that a list revokes, without leading zeros. As in etcd, the list is trusted as
/// the operator's file: neither its signature nor its age counts, and it holds for certificates of
/// every authority, so that no revoked one is let in for a formality.
///
/// # Errors
/// It is no list. Nothing is guessed then: a listener that cannot tell must not start.
pub(super) fn revoked_serials(content: &Content) -> Result<HashSet<Vec<u8>>, TlsError> {
    if content.bytes.starts_with(b"-----BEGIN") {
        let mut serials = HashSet::new();
        for list in CertificateRevocationListDer::pem_slice_iter(&content.bytes) {
            let list = list.map_err(|error| wrong(&content.path, error))?;
            serials.extend(serials_of(&content.path, &list)?);
        }
        return Ok(serials);
    }
    serials_of(&content.path, &content.bytes)
}

fn serials_of(path: &Path, list: &[u8]) -> Result<HashSet<Vec<u8>>, TlsError> {
    let serials = identity::revoked_serials(list);
    let serials = serials.map_err(|_| wrong(path, "x509: malformed crl"))?;
    Ok(serials.into_iter().collect())
}
