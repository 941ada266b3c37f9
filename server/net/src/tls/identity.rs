//! Who a certificate says its holder is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::AttributeValue;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// `id-at-commonName`.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

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

impl From<x509_cert::der::Error> for MalformedCertificate {
    fn from(_: x509_cert::der::Error) -> MalformedCertificate {
        MalformedCertificate
    }
}

impl PeerIdentity {
    /// Reads a certificate. Verifies nothing.
    ///
    /// # Errors
    /// It is no X.509 certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, MalformedCertificate> {
        let read = Certificate::from_der(certificate)?;
        let signed = read.tbs_certificate();
        let mut identity = PeerIdentity {
            common_name: common_name(signed.subject()),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            serial: without_leading_zeros(signed.serial_number().as_bytes()).to_vec(),
            fingerprint: Sha256::digest(certificate).into(),
        };
        let names = signed.get_extension::<SubjectAltName>()?;
        for name in names.map_or(Vec::new(), |(_, names)| names.0) {
            identity.take(&name);
        }
        Ok(identity)
    }

    fn take(&mut self, name: &GeneralName) {
        match name {
            GeneralName::DnsName(name) => self.dns_names.push(name.to_string()),
            GeneralName::UniformResourceIdentifier(uri) => self.uris.push(uri.to_string()),
            GeneralName::IpAddress(octets) => {
                self.ip_addresses.extend(ip_address(octets.as_bytes()));
            }
            _ => {}
        }
    }
}

/// The last common name of a subject.
fn common_name(subject: &Name) -> String {
    let names = subject.iter().filter(|part| part.oid == COMMON_NAME);
    let last = names.last().and_then(|part| text(&part.value));
    last.unwrap_or_default()
}

/// The text of a string of any kind.
fn text(value: &AttributeValue) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String | Tag::NumericString | Tag::PrintableString | Tag::Ia5String => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        // Latin-1, as everybody reads it.
        Tag::TeletexString => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let pairs = bytes.chunks_exact(2);
            let units: Vec<u16> = pairs
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4.or_else(|_| v6()).ok()
}

/// A serial number's bytes as they are compared: certificates and lists may pad them.
fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// When a certificate ends, seconds since 1970.
///
/// # Errors
/// It is no X.509 certificate.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, MalformedCertificate> {
    let read = Certificate::from_der(certificate)?;
    let end = read.tbs_certificate().validity().not_after;
    let seconds = end.to_unix_duration().as_secs();
    i64::try_from(seconds).map_err(|_| MalformedCertificate)
}

/// The serial numbers in a revocation list (RFC 5280, 5.1), without leading zeros.
///
/// # Errors
/// It is no such list, or there is more than one.
pub(super) fn revoked_serials(list: &[u8]) -> Result<Vec<Vec<u8>>, MalformedCertificate> {
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list)?;
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    let serials = revoked
        .iter()
        .map(|entry| without_leading_zeros(entry.serial_number.as_bytes()).to_vec());
    Ok(serials.collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn named(name: DnValue) -> String {
        let certificate = made(|params| params.distinguished_name.push(DnType::CommonName, name));
        PeerIdentity::read(&certificate).unwrap().common_name
    }

    #[test]
    fn a_common_name_is_read_in_whatever_string_it_is_written() {
        let printable = DnValue::PrintableString("a member".try_into().unwrap());
        let teletex = DnValue::TeletexString("a member".try_into().unwrap());
        let bmp = DnValue::BmpString("Mitglied \u{e4}".try_into().unwrap());
        assert_eq!(named(printable), "a member");
        assert_eq!(named(teletex), "a member");
        assert_eq!(named(bmp), "Mitglied \u{e4}");
        assert_eq!(named(DnValue::Utf8String("\u{1f511}".into())), "\u{1f511}");
        assert_eq!(
            PeerIdentity::read(&made(|_| ())).unwrap().common_name,
            "",
            "there is none"
        );
    }

    #[test]
    fn the_last_of_several_common_names_counts() {
        let certificate = made(|params| {
            // rcgen has one of a kind: by its number it is another.
            let again = DnType::from_oid(&[2, 5, 4, 3]);
            params.distinguished_name.push(DnType::CommonName, "first");
            params.distinguished_name.push(again, "last");
        });
        let read = PeerIdentity::read(&certificate).unwrap();
        assert_eq!(read.common_name, "last");
    }

    #[test]
    fn a_serial_number_is_read_without_what_pads_it() {
        let serial = [0x80, 1, 0];
        let certificate = made(|params| {
            params.serial_number = Some(SerialNumber::from(serial.to_vec()));
        });
        assert_eq!(PeerIdentity::read(&certificate).unwrap().serial, serial);
    }

    #[test]
    fn an_end_before_and_after_2050_is_read() {
        for (year, seconds) in [(2049, 2_493_072_000), (2099, 4_070_908_800)] {
            let certificate = made(|params| params.not_after = rcgen::date_time_ymd(year, 1, 1));
            assert_eq!(not_after(&certificate), Ok(seconds));
        }
    }

    #[test]
    fn what_is_cut_short_or_has_something_behind_it_is_none() {
        let whole = made(|_| ()).to_vec();
        let read = |bytes: &[u8]| PeerIdentity::read(&bytes.into());
        assert!(read(&whole).is_ok());
        assert!(read(&whole[..whole.len() - 1]).is_err());
        assert!(read(&[&whole[..], &[0]].concat()).is_err());
        assert!(read(&[]).is_err());
    }
}
