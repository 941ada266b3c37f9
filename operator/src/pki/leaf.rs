//! Certificates that an authority signs.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use sha2::{Digest as _, Sha256};

use super::ring::Ring;
use super::{EARLIER_SECONDS, Files, PkiError, is_early, not_after, set_lifetime, text};

/// What a certificate was made from, so that another request makes another one.
const REQUEST: &str = "request";

/// What a certificate shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// Its common name.
    pub name: String,
    /// DNS names and addresses that it is good for.
    pub hosts: Vec<String>,
    /// Whether its holder is served with it.
    pub server: bool,
    /// Whether its holder asks with it.
    pub client: bool,
    /// How long it is good, in seconds.
    pub lifetime: i64,
}

/// Brings a certificate's Secret up to date: a new one where there is none, where a third of its
/// time is left, or where another one is asked for or another authority signs; and the bundle of
/// who is trusted.
///
/// # Errors
/// Making one failed, or the authority's Secret is damaged.
pub fn renew_leaf(
    before: &Files,
    ring: &Ring,
    authority: &str,
    request: &LeafRequest,
    now: i64,
) -> Result<Files, PkiError> {
    let mut files = before.clone();
    files.insert("ca.crt".into(), ring.bundle().into_bytes());
    let fingerprint = fingerprint(ring, request);
    let ends = files.get("tls.crt").and_then(|pem| not_after(pem));
    // Nobody has seen yet who would sign another one.
    let may_wait = ring.is_lost() && ends.is_some_and(|end| end > now);
    if may_wait && files.contains_key("tls.key") {
        return Ok(files);
    }
    let lasts = ends.is_some_and(|end| end - now >= request.lifetime / 3);
    let early = files.get("tls.crt").is_some_and(|pem| is_early(pem, now));
    if lasts
        && !early
        && files.contains_key("tls.key")
        && text(&files, REQUEST).as_ref() == Some(&fingerprint)
    {
        return Ok(files);
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(request.hosts.clone())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, &request.name);
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let usages = [
        (request.server, ExtendedKeyUsagePurpose::ServerAuth),
        (request.client, ExtendedKeyUsagePurpose::ClientAuth),
    ];
    params.extended_key_usages = usages
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, usage)| usage)
        .collect();
    params.use_authority_key_identifier_extension = true;
    set_lifetime(&mut params, now - EARLIER_SECONDS, now + request.lifetime);
    let certificate = params.signed_by(&key, &ring.issuer(authority)?)?;
    files.insert("tls.crt".into(), certificate.pem().into_bytes());
    files.insert("tls.key".into(), key.serialize_pem().into_bytes());
    files.insert(REQUEST.into(), fingerprint.into_bytes());
    Ok(files)
}

fn fingerprint(ring: &Ring, request: &LeafRequest) -> String {
    let all = format!("{}{request:?}", ring.certificate());
    Sha256::digest(all)
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
