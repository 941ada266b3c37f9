//! The certificate that `--auto-tls` and `--peer-auto-tls` make.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::TlsError;
use crate::fs;

/// A year, as etcd counts it. Seconds.
const YEAR: u64 = 365 * 24 * 3600;
/// Longer than this no certificate is made, so that its end has four digits.
const YEARS_MAX: u64 = 1_000;

/// Where a certificate and its key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, mode 0600.
    pub key: PathBuf,
}

/// The certificate in `directory` (`cert.pem`, `key.pem`): the one that is there, else a new one
/// for `hosts` (IP addresses and names), valid for `years`. As in etcd it serves as its own
/// authority and for both ends, and stays until the operator removes it. Its key is one of P-256,
/// where etcd takes P-521: the handshake costs a tenth.
///
/// # Errors
/// `years` is 0, or the files cannot be written.
pub fn self_signed(directory: &Path, hosts: &[String], years: u64) -> Result<SelfSigned, TlsError> {
    if years == 0 {
        return Err(TlsError::Validity);
    }
    let made = SelfSigned {
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    };
    if fs::stamp(&made.certificate).is_ok() && fs::stamp(&made.key).is_ok() {
        return Ok(made);
    }
    let failed = |error: &dyn std::fmt::Display| TlsError::SelfSigned(error.to_string());
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = params(hosts, years)
        .and_then(|params| params.self_signed(&key))
        .map_err(|error| failed(&error))?;
    fs::create_private_dir(directory).map_err(|error| failed(&error))?;
    // The key first: a certificate without it would be taken for a pair half made.
    fs::write_durably(&made.key, key.serialize_pem().as_bytes()).map_err(|e| failed(&e))?;
    fs::write_durably(&made.certificate, certificate.pem().as_bytes()).map_err(|e| failed(&e))?;
    crate::log!(warn, "automatically generate certificates",
        "cert-file" = %made.certificate.display(), hosts = ?hosts, "validity-years" = years);
    Ok(made)
}

fn params(hosts: &[String], years: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + Duration::from_secs(years.min(YEARS_MAX) * YEAR)).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::OrganizationName, "etcd");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}
