//! When a certificate ends, and whose it is: just enough DER to find it. Nothing is verified here, and reading is
//! bounded by the input.

use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// When the first certificate of a PEM text ends, in seconds since 1970.
#[must_use]
pub fn not_after(pem: &[u8]) -> Option<i64> {
    validity(pem).map(|(_, ends)| ends)
}

/// Whether the first certificate of a PEM text is good at a later time only: whoever made it had a clock that was
/// ahead, and nobody believes it yet.
pub(super) fn is_early(pem: &[u8], now: i64) -> bool {
    validity(pem).is_some_and(|(begins, _)| begins > now)
}

/// From when to when the first certificate of a PEM text is good.
fn validity(pem: &[u8]) -> Option<(i64, i64)> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (tag, validity, _) = element(from_validity(&certificate)?)?;
    if tag != SEQUENCE {
        return None;
    }
    let (from, before, after) = element(validity)?;
    let (to, after, _) = element(after)?;
    let read = |tag, time| read_time(tag, std::str::from_utf8(time).ok()?);
    Some((read(from, before)?, read(to, after)?))
}

/// The common name of the first certificate of a PEM text: the last one, as servers read it.
#[must_use]
pub fn common_name(pem: &[u8]) -> Option<String> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, _, rest) = element(from_validity(&certificate)?)?;
    let (_, mut names, _) = element(rest)?;
    let mut found = None;
    while !names.is_empty() {
        let (_, set, after) = element(names)?;
        let (_, pair, _) = element(set)?;
        let (_, kind, value) = element(pair)?;
        if kind == COMMON_NAME {
            found = Some(element(value)?.1);
        }
        names = after;
    }
    let name = std::str::from_utf8(found?).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// What of a certificate begins with how long it is good.
fn from_validity(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    if tag == VERSION {
        rest = after;
    }
    // serialNumber, signature, issuer
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    Some(rest)
}

fn read_time(tag: u8, text: &str) -> Option<i64> {
    let text = match tag {
        // Years of two digits are those from 1950 to 2049 (RFC 5280).
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits
            .iter()
            .fold(0, |sum, &digit| (sum << 8) | usize::from(digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}
