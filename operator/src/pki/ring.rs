//! An authority and its successor.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{EARLIER_SECONDS, Files, PkiError, is_early, not_after, set_lifetime, text};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
/// Since when the next authority is shown, in seconds since 1970.
const NEXT_SINCE: &str = "next.since";
const PREVIOUS: &str = "previous.crt";
/// How long the next authority is shown before it signs: kubelets look at Secrets about once a
/// minute, members at every handshake.
const SHOWN_SECONDS: i64 = 600;

/// An authority with its successor and its predecessor, as the Secret holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The Secret's data.
    pub files: Files,
}

impl Ring {
    /// What everybody trusts: the present authority, the next one, and the one before.
    #[must_use]
    pub fn bundle(&self) -> String {
        let parts = [CERTIFICATE, NEXT_CERTIFICATE, PREVIOUS];
        parts
            .iter()
            .filter_map(|key| text(&self.files, key))
            .collect()
    }

    /// The present authority's certificate; where it was lost, the next one's.
    #[must_use]
    pub fn certificate(&self) -> String {
        let present = text(&self.files, CERTIFICATE);
        let present = present.or_else(|| text(&self.files, NEXT_CERTIFICATE));
        present.unwrap_or_default()
    }

    /// Whether the authority was lost, and the next one does not sign yet for whoever has a certificate.
    pub(super) fn is_lost(&self) -> bool {
        is_lost(&self.files)
    }

    /// What signs in the present authority's name.
    pub(super) fn issuer(&self, name: &str) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let key = text(&self.files, KEY).or_else(|| text(&self.files, NEXT_KEY));
        let key = key.ok_or_else(|| incomplete(KEY))?;
        // The certificate itself is not read: what counts for a signature is the name and the key.
        Ok(Issuer::new(parameters(name), KeyPair::from_pem(&key)?))
    }
}

fn incomplete(what: &str) -> PkiError {
    PkiError::Content(format!(
        "the authority's Secret has no {what}: delete it to have a new one made"
    ))
}

fn is_lost(files: &Files) -> bool {
    let has = |key: &str| files.contains_key(key);
    !has(CERTIFICATE) && !has(KEY) && has(NEXT_CERTIFICATE) && has(NEXT_KEY)
}

/// An authority instead of one whose Secret is gone, and of which only `bundle` is left: it is shown to
/// everybody beside that before it signs, as in a renewal. `lifetime` is in seconds.
///
/// # Errors
/// Making one failed.
pub fn replace_lost_ring(
    bundle: &[u8],
    name: &str,
    lifetime: i64,
    now: i64,
) -> Result<Ring, PkiError> {
    let (certificate, key) = make(name, lifetime, now)?;
    let files = [
        (NEXT_CERTIFICATE, certificate),
        (NEXT_KEY, key),
        (NEXT_SINCE, now.to_string().into_bytes()),
        (PREVIOUS, bundle.to_vec()),
    ];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
    Ok(Ring {
        files: files.into(),
    })
}

/// Brings an authority up to date: makes it, announces, takes up or forgets one, as it is due.
/// `lifetime` is in seconds.
///
/// # Errors
/// Making one failed, or the Secret is damaged.
pub fn renew_ring(before: &Files, name: &str, lifetime: i64, now: i64) -> Result<Ring, PkiError> {
    let mut files = before.clone();
    if before.is_empty() {
        let (certificate, key) = make(name, lifetime, now)?;
        files.insert(CERTIFICATE.into(), certificate);
        files.insert(KEY.into(), key);
        return Ok(Ring { files });
    }
    let lost = is_lost(&files);
    let missing = [CERTIFICATE, KEY]
        .into_iter()
        .find(|file| !files.contains_key(*file));
    if let Some(missing) = missing.filter(|_| !lost) {
        return Err(incomplete(missing));
    }
    let present = if lost { NEXT_CERTIFICATE } else { CERTIFICATE };
    let ends = ends(&files, present)?;
    let shown = SHOWN_SECONDS.min(lifetime / 12);
    let since = text(&files, NEXT_SINCE).and_then(|text| text.parse::<i64>().ok());
    let early = |files: &Files, key: &str| files.get(key).is_some_and(|pem| is_early(pem, now));
    let begins_again = early(&files, present);
    if early(&files, NEXT_CERTIFICATE) {
        // Nobody would believe what it signs.
        for key in [NEXT_CERTIFICATE, NEXT_KEY, NEXT_SINCE] {
            files.remove(key);
        }
    }
    if files.contains_key(NEXT_CERTIFICATE) {
        if since.is_some_and(|since| since > now + SHOWN_SECONDS) {
            // By a clock that was ahead: it is shown from now on.
            files.insert(NEXT_SINCE.into(), now.to_string().into_bytes());
        } else if since.is_none_or(|since| now - since >= shown) {
            take_up(&mut files);
        }
    } else if begins_again || ends - now < lifetime / 3 {
        let (certificate, key) = make(name, lifetime, now)?;
        files.insert(NEXT_CERTIFICATE.into(), certificate);
        files.insert(NEXT_KEY.into(), key);
        files.insert(NEXT_SINCE.into(), now.to_string().into_bytes());
    }
    let over = files
        .get(PREVIOUS)
        .is_some_and(|pem| not_after(pem).is_none_or(|end| end <= now));
    if over {
        files.remove(PREVIOUS);
    }
    Ok(Ring { files })
}

fn ends(files: &Files, key: &str) -> Result<i64, PkiError> {
    files
        .get(key)
        .and_then(|pem| not_after(pem))
        .ok_or_else(|| incomplete(key))
}

fn take_up(files: &mut Files) {
    let next = (files.remove(NEXT_CERTIFICATE), files.remove(NEXT_KEY));
    files.remove(NEXT_SINCE);
    if let (Some(certificate), Some(key)) = next {
        let previous = files.insert(CERTIFICATE.into(), certificate);
        files.extend(previous.map(|previous| (PREVIOUS.to_owned(), previous)));
        files.insert(KEY.into(), key);
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make(name: &str, lifetime: i64, now: i64) -> Result<(Vec<u8>, Vec<u8>), PkiError> {
    let key = KeyPair::generate()?;
    let mut params = parameters(name);
    set_lifetime(&mut params, now - EARLIER_SECONDS, now + lifetime);
    let certificate = params.self_signed(&key)?;
    Ok((
        certificate.pem().into_bytes(),
        key.serialize_pem().into_bytes(),
    ))
}
