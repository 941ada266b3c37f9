//! Who a certificate says its holder is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::der::{Malformed, Reader, Value, tag};

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// The kinds of alternative names that are read (RFC 5280, 4.2.1.6).
const DNS_NAME: u8 = tag::implicit(2);
const URI: u8 = tag::implicit(6);
const IP_ADDRESS: u8 = tag::implicit(7);

/// The other end of a connection, out of the certificate that was verified in its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Common name of the subject; empty where there is none. With several the last one counts, as
    /// in Go.
    pub common_name: String,
    /// DNS names of the subject's alternative names, as they are written.
    pub dns_names: Vec<String>,
    /// IP addresses of the subject's alternative names.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs of the subject's alternative names (SPIFFE's are).
    pub uris: Vec<String>,
    /// Serial number, big endian, without leading zeros.
    pub serial: Vec<u8>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
}

/// A certificate that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("x509: malformed certificate")]
pub struct MalformedCertificate;

impl From<Malformed> for MalformedCertificate {
    fn from(_: Malformed) -> MalformedCertificate {
        MalformedCertificate
    }
}

impl PeerIdentity {
    /// Reads a certificate. Verifies nothing.
    ///
    /// # Errors
    /// It is no X.509 certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, MalformedCertificate> {
        let parts = Parts::of(certificate)?;
        let mut identity = PeerIdentity {
            common_name: common_name(parts.subject)?,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            serial: without_leading_zeros(parts.serial).to_vec(),
            fingerprint: Sha256::digest(certificate).into(),
        };
        let mut names = parts.alternative_names()?;
        while let Some(name) = names.next()? {
            identity.take(name);
        }
        Ok(identity)
    }

    fn take(&mut self, name: Value<'_>) {
        let text = || String::from_utf8_lossy(name.content).into_owned();
        match name.tag {
            DNS_NAME => self.dns_names.push(text()),
            URI => self.uris.push(text()),
            IP_ADDRESS => self.ip_addresses.extend(ip_address(name.content)),
            _ => {}
        }
    }
}

/// The parts of a certificate that are looked at (RFC 5280, 4.1).
struct Parts<'a> {
    serial: &'a [u8],
    validity: Reader<'a>,
    subject: Reader<'a>,
    extensions: Option<Reader<'a>>,
}

impl<'a> Parts<'a> {
    fn of(certificate: &'a [u8]) -> Result<Parts<'a>, Malformed> {
        let mut signed = signed(certificate)?;
        let _version = signed.optional(&[tag::explicit(0)])?;
        let serial = signed.expect(tag::INTEGER)?;
        let _algorithm = signed.sequence()?;
        let _issuer = signed.sequence()?;
        let validity = signed.sequence()?;
        let subject = signed.sequence()?;
        let _key = signed.sequence()?;
        let _unique_ids = (
            signed.optional(&[tag::implicit(1), tag::explicit(1)])?,
            signed.optional(&[tag::implicit(2), tag::explicit(2)])?,
        );
        let extensions = match signed.optional(&[tag::explicit(3)])? {
            Some(wrapped) => Some(Reader::new(wrapped.content).sequence()?),
            None => None,
        };
        Ok(Parts {
            serial,
            validity,
            subject,
            extensions,
        })
    }

    /// The alternative names; nothing to read where there are none.
    fn alternative_names(&self) -> Result<Reader<'a>, Malformed> {
        let mut extensions = self.extensions.unwrap_or(Reader::new(&[]));
        while !extensions.is_empty() {
            let mut extension = extensions.sequence()?;
            if extension.expect(tag::OID)? != ALTERNATIVE_NAMES {
                continue;
            }
            let _is_critical = extension.optional(&[0x01])?;
            return Reader::new(extension.expect(tag::OCTET_STRING)?).sequence();
        }
        Ok(Reader::new(&[]))
    }
}

/// What is signed of a certificate or of a revocation list, of which there is one and nothing behind it.
fn signed(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut whole = Reader::new(bytes);
    let signed = whole.sequence()?.sequence()?;
    match whole.is_empty() {
        true => Ok(signed),
        false => Err(Malformed),
    }
}

/// The last common name of a subject.
fn common_name(mut subject: Reader<'_>) -> Result<String, Malformed> {
    let mut found = String::new();
    while !subject.is_empty() {
        let mut attributes = Reader::new(subject.expect(tag::SET)?);
        while !attributes.is_empty() {
            let mut attribute = attributes.sequence()?;
            let kind = attribute.expect(tag::OID)?;
            let value = attribute.next()?.ok_or(Malformed)?;
            if kind == COMMON_NAME {
                found = value.text().unwrap_or_default();
            }
        }
    }
    Ok(found)
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4.or_else(|_| v6()).ok()
}

/// A serial number's bytes as they are compared: certificates and lists may pad them.
pub(super) fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// When a certificate ends, seconds since 1970.
///
/// # Errors
/// It is no X.509 certificate.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, MalformedCertificate> {
    let mut validity = Parts::of(certificate)?.validity;
    let _not_before = validity.next()?;
    let end = validity.next()?.ok_or(Malformed)?;
    Ok(end.seconds()?)
}

/// The serial numbers in a revocation list (RFC 5280, 5.1), without leading zeros.
///
/// # Errors
/// It is no such list, or there is more than one.
pub(super) fn revoked_serials(list: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut signed = signed(list)?;
    let _version = signed.optional(&[tag::INTEGER])?;
    let _algorithm = signed.sequence()?;
    let _issuer = signed.sequence()?;
    let times = [tag::UTC_TIME, tag::GENERALIZED_TIME];
    signed.optional(&times)?.ok_or(Malformed)?;
    let _next_update = signed.optional(&times)?;
    let Some(entries) = signed.optional(&[tag::SEQUENCE])? else {
        return Ok(Vec::new());
    };
    let mut entries = Reader::new(entries.content);
    let mut serials = Vec::new();
    while !entries.is_empty() {
        let serial = entries.sequence()?.expect(tag::INTEGER)?;
        serials.push(without_leading_zeros(serial));
    }
    Ok(serials)
}
