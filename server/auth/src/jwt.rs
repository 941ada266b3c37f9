//! JSON Web Tokens as etcd makes and takes them: `username`, `revision` and `exp`, signed by the one
//! method that `--auth-token` names. What a token says of its method must be that one, so that no key
//! is ever used in another way than it was meant.
//!
//! Source: etcd's `server/auth/jwt.go` and `options.go`; RFC 7515, 7518, 7519, 8037. The signatures are
//! aws-lc's, as everywhere in Engram.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self as sign, ParsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::server::ParsedCertificate;
use serde_json::{Value, json};

use crate::types::auth::Identity;

/// As Go reads it: without padding, bits that say nothing are not looked at.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));
/// The longest token that is looked at, bytes: an RSA signature of 8192 bits and a long name.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Why `--auth-token=jwt,…` cannot be used. etcd's words where it has some.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// No such method.
    #[error("auth: invalid auth signature method")]
    Method,
    /// Neither key is given, or for an HMAC no private one.
    #[error("auth: missing key data")]
    NoKey,
    /// The keys are not of one pair.
    #[error("auth: public and private keys don't match")]
    Mismatch,
    /// A file holds no key of that method.
    #[error("auth: {0} holds no key for this sign-method: give one in PEM")]
    Unreadable(&'static str),
}

/// The member can check tokens, and not make them: it was given a public key alone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("auth: token signing attempted with verify-only key")]
pub struct VerifyOnly;

/// See the module.
pub struct Jwt {
    method: &'static str,
    ttl_seconds: u64,
    signer: Option<Signer>,
    verifier: Verifier,
}

enum Signer {
    Hmac(Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static sign::RsaSignatureEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

enum Verifier {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// What a method signs and verifies with.
enum Family {
    Hmac(hmac::Algorithm),
    Rsa(
        &'static sign::RsaSignatureEncoding,
        &'static sign::RsaParameters,
    ),
    Ec(
        &'static sign::EcdsaSigningAlgorithm,
        &'static sign::EcdsaVerificationAlgorithm,
    ),
    Ed,
}

/// The methods, by their names in RFC 7518 and 8037.
fn method(name: &str) -> Option<(&'static str, Family)> {
    use Family::{Ec, Ed, Hmac, Rsa};
    Some(match name {
        "HS256" => ("HS256", Hmac(hmac::HMAC_SHA256)),
        "HS384" => ("HS384", Hmac(hmac::HMAC_SHA384)),
        "HS512" => ("HS512", Hmac(hmac::HMAC_SHA512)),
        "RS256" => (
            "RS256",
            Rsa(&sign::RSA_PKCS1_SHA256, &sign::RSA_PKCS1_2048_8192_SHA256),
        ),
        "RS384" => (
            "RS384",
            Rsa(&sign::RSA_PKCS1_SHA384, &sign::RSA_PKCS1_2048_8192_SHA384),
        ),
        "RS512" => (
            "RS512",
            Rsa(&sign::RSA_PKCS1_SHA512, &sign::RSA_PKCS1_2048_8192_SHA512),
        ),
        "PS256" => (
            "PS256",
            Rsa(&sign::RSA_PSS_SHA256, &sign::RSA_PSS_2048_8192_SHA256),
        ),
        "PS384" => (
            "PS384",
            Rsa(&sign::RSA_PSS_SHA384, &sign::RSA_PSS_2048_8192_SHA384),
        ),
        "PS512" => (
            "PS512",
            Rsa(&sign::RSA_PSS_SHA512, &sign::RSA_PSS_2048_8192_SHA512),
        ),
        "ES256" => {
            let signing = &sign::ECDSA_P256_SHA256_FIXED_SIGNING;
            ("ES256", Ec(signing, &sign::ECDSA_P256_SHA256_FIXED))
        }
        "ES384" => {
            let signing = &sign::ECDSA_P384_SHA384_FIXED_SIGNING;
            ("ES384", Ec(signing, &sign::ECDSA_P384_SHA384_FIXED))
        }
        "ES512" => {
            let signing = &sign::ECDSA_P521_SHA512_FIXED_SIGNING;
            ("ES512", Ec(signing, &sign::ECDSA_P521_SHA512_FIXED))
        }
        "EdDSA" => ("EdDSA", Ed),
        _ => return None,
    })
}

impl Jwt {
    /// Tokens of a method that count for some seconds. Keys are files' contents: PEM, of which the public
    /// one may be a certificate; for an HMAC whatever the private one holds.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub fn new(
        name: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
        ttl_seconds: u64,
    ) -> Result<Jwt, JwtError> {
        let (method, family) = method(name).ok_or(JwtError::Method)?;
        let (signer, verifier) = match family {
            Family::Hmac(algorithm) => {
                let secret = private.filter(|secret| !secret.is_empty());
                let key = hmac::Key::new(algorithm, secret.ok_or(JwtError::NoKey)?);
                let key = Box::new(key);
                (Some(Signer::Hmac(key.clone())), Verifier::Hmac(key))
            }
            family => pair(&family, public, private)?,
        };
        let jwt = Jwt {
            method,
            ttl_seconds,
            signer,
            verifier,
        };
        if let (Some(_), Some(_), Some(signer)) = (public, private, &jwt.signer) {
            let probe = b"one pair";
            let signed = signer.sign(probe).ok_or(JwtError::Unreadable("priv-key"))?;
            if !jwt.verifier.holds(probe, &signed) {
                return Err(JwtError::Mismatch);
            }
        }
        Ok(jwt)
    }

    /// A token for a user at an auth revision; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// There is no private key.
    pub fn issue(&self, user: &str, revision: u64, now: u64) -> Result<String, VerifyOnly> {
        let signer = self.signer.as_ref().ok_or(VerifyOnly)?;
        let header = json!({ "alg": self.method, "typ": "JWT" });
        let claims = json!({
            "exp": now.saturating_add(self.ttl_seconds),
            "revision": revision,
            "username": user,
        });
        let mut token = BASE64.encode(header.to_string());
        token.push('.');
        token.push_str(&BASE64.encode(claims.to_string()));
        let signed = signer.sign(token.as_bytes()).ok_or(VerifyOnly)?;
        token.push('.');
        token.push_str(&BASE64.encode(signed));
        Ok(token)
    }

    /// Whose token it is, and the auth revision that it was made at; none where it does not count.
    pub fn holder(&self, token: &str, now: u64) -> Option<Identity> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header.get("alg")?.as_str()? != self.method {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        if !self.verifier.holds(signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Value = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let seconds = |name| match claims.get(name) {
            None => Some(None),
            Some(value) => value.as_f64().map(Some),
        };
        let now = now as f64;
        // As in Go, a token without an end has none.
        let ended = seconds("exp")?.is_some_and(|exp| now >= exp);
        let begins = seconds("nbf")?.is_some_and(|nbf| now < nbf);
        if ended || begins {
            return None;
        }
        Some(Identity {
            user: claims.get("username")?.as_str()?.to_owned(),
            revision: claims.get("revision")?.as_f64()? as u64,
        })
    }
}

/// Reads a pair of keys, or one of them.
fn pair(
    family: &Family,
    public: Option<&[u8]>,
    private: Option<&[u8]>,
) -> Result<(Option<Signer>, Verifier), JwtError> {
    let signer = private.map(|pem| {
        let der = section(pem, &PRIVATE);
        let signer = der.and_then(|(_, der)| Signer::read(family, &der));
        signer.ok_or(JwtError::Unreadable("priv-key"))
    });
    let signer = signer.transpose()?;
    let algorithm: &'static dyn VerificationAlgorithm = match family {
        Family::Rsa(_, verifying) => *verifying,
        Family::Ec(_, verifying) => *verifying,
        Family::Ed | Family::Hmac(_) => &sign::ED25519,
    };
    let key = match (public, &signer) {
        (None, None) => return Err(JwtError::NoKey),
        (Some(pem), _) => public_key(pem).ok_or(JwtError::Unreadable("pub-key"))?,
        (None, Some(signer)) => signer.public_key(),
    };
    let key = ParsedPublicKey::new(algorithm, key);
    let key = key.map_err(|_| JwtError::Unreadable("pub-key"))?;
    Ok((signer, Verifier::Public(key)))
}

const PRIVATE: [SectionKind; 3] = [
    SectionKind::PrivateKey,
    SectionKind::RsaPrivateKey,
    SectionKind::EcPrivateKey,
];
const PUBLIC: [SectionKind; 2] = [SectionKind::PublicKey, SectionKind::Certificate];

/// The first section of one of some kinds.
fn section(text: &[u8], kinds: &[SectionKind]) -> Option<(SectionKind, Vec<u8>)> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text).filter_map(Result::ok);
    sections.find(|(kind, _)| kinds.contains(kind))
}

/// A public key, its own or a certificate's, as X.509's `SubjectPublicKeyInfo`.
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    let (kind, der) = section(pem, &PUBLIC)?;
    if kind == SectionKind::PublicKey {
        return Some(der);
    }
    let der = CertificateDer::from(der);
    let certificate = ParsedCertificate::try_from(&der).ok()?;
    Some(certificate.subject_public_key_info().to_vec())
}

impl Signer {
    fn read(family: &Family, der: &[u8]) -> Option<Signer> {
        match family {
            Family::Rsa(encoding, _) => {
                let key = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
                Some(Signer::Rsa(key.ok()?, encoding))
            }
            Family::Ec(algorithm, _) => {
                let key = EcdsaKeyPair::from_private_key_der(algorithm, der);
                Some(Signer::Ec(key.ok()?))
            }
            Family::Ed => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
                Some(Signer::Ed(key.ok()?))
            }
            Family::Hmac(_) => None,
        }
    }

    fn public_key(&self) -> Vec<u8> {
        match self {
            Signer::Hmac(_) => Vec::new(),
            Signer::Rsa(key, _) => key.public_key().as_ref().to_vec(),
            Signer::Ec(key) => key.public_key().as_ref().to_vec(),
            Signer::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// None where the system has no randomness to give.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Signer::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Signer::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ec(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            Signer::Ed(key) => Some(key.sign(message).as_ref().to_vec()),
        }
    }
}

impl Verifier {
    fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn secret(name: &str, secret: &[u8]) -> Jwt {
        Jwt::new(name, None, Some(secret), 300).unwrap()
    }

    fn key_of(algorithm: &'static rcgen::SignatureAlgorithm) -> rcgen::KeyPair {
        rcgen::KeyPair::generate_for(algorithm).unwrap()
    }

    #[test]
    fn a_token_is_taken_by_who_has_the_key_until_it_ends() {
        let ec = key_of(&rcgen::PKCS_ECDSA_P256_SHA256);
        let ec384 = key_of(&rcgen::PKCS_ECDSA_P384_SHA384);
        let ec521 = key_of(&rcgen::PKCS_ECDSA_P521_SHA512);
        let ed = key_of(&rcgen::PKCS_ED25519);
        let rsa = key_of(&rcgen::PKCS_RSA_SHA256);
        for (name, key) in [
            ("ES256", &ec),
            ("ES384", &ec384),
            ("ES512", &ec521),
            ("EdDSA", &ed),
            ("RS256", &rsa),
            ("RS384", &rsa),
            ("RS512", &rsa),
            ("PS256", &rsa),
            ("PS384", &rsa),
            ("PS512", &rsa),
        ] {
            let (private, public) = (key.serialize_pem(), key.public_key_pem());
            let (private, public) = (Some(private.as_bytes()), Some(public.as_bytes()));
            let certificate = rcgen::CertificateParams::default()
                .self_signed(key)
                .unwrap()
                .pem();
            let signs = Jwt::new(name, public, private, 300).expect(name);
            let alone = Jwt::new(name, None, private, 300).expect(name);
            let verifies = Jwt::new(name, Some(certificate.as_bytes()), None, 300).expect(name);
            assert_eq!(verifies.issue("alice", 7, NOW), Err(VerifyOnly));
            let wanted = Some(Identity {
                user: "alice".into(),
                revision: 7,
            });
            for token in [&signs, &alone].map(|jwt| jwt.issue("alice", 7, NOW).unwrap()) {
                for jwt in [&signs, &alone, &verifies] {
                    assert_eq!(jwt.holder(&token, NOW + 299), wanted, "{name}");
                    assert_eq!(jwt.holder(&token, NOW + 300), None, "{name}");
                }
            }
        }
    }

    #[test]
    fn whatever_is_not_signed_by_the_key_in_the_method_is_refused() {
        let jwt = secret("HS256", b"secret");
        let token = jwt.issue("alice", 7, NOW).unwrap();
        assert!(jwt.holder(&token, NOW).is_some());
        assert_eq!(secret("HS256", b"other").holder(&token, NOW), None);
        assert_eq!(secret("HS512", b"secret").holder(&token, NOW), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last letter holds two bits that say nothing.
            assert!(
                jwt.holder(&changed, NOW).is_none() || at + 1 == token.len(),
                "{at}"
            );
        }
        // No method at all, and a public key used as a secret.
        let claims = BASE64.encode(r#"{"username":"root","revision":7}"#);
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        for token in [
            format!("{none}.{claims}."),
            String::new(),
            "..".into(),
            "a.b.c".into(),
        ] {
            assert_eq!(jwt.holder(&token, NOW), None, "{token}");
        }
        let key = key_of(&rcgen::PKCS_ECDSA_P256_SHA256);
        let public = key.public_key_pem();
        let forged = secret("HS256", public.as_bytes())
            .issue("root", 7, NOW)
            .unwrap();
        let verifies = Jwt::new("ES256", Some(public.as_bytes()), None, 300).unwrap();
        assert_eq!(verifies.holder(&forged, NOW), None);
    }

    #[test]
    fn claims_are_read_as_go_reads_them() {
        let jwt = secret("HS256", b"secret");
        let signed = |claims: &str| {
            let header = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
            let text = format!("{header}.{}", BASE64.encode(claims));
            let Some(Signer::Hmac(key)) = &jwt.signer else {
                unreachable!("an HMAC")
            };
            let signature = hmac::sign(key, text.as_bytes());
            format!("{text}.{}", BASE64.encode(signature))
        };
        for (claims, counts) in [
            (r#"{"username":"a","revision":3}"#, true),
            (
                r#"{"username":"a","revision":3.0,"exp":1700000000.5}"#,
                true,
            ),
            (r#"{"username":"a","revision":3,"exp":1700000000}"#, false),
            (r#"{"username":"a","revision":3,"exp":"1800000000"}"#, false),
            (r#"{"username":"a","revision":3,"nbf":1700000001}"#, false),
            (r#"{"username":"a","revision":"3"}"#, false),
            (r#"{"username":1,"revision":3}"#, false),
            (r#"{"revision":3}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(
                jwt.holder(&signed(claims), NOW).is_some(),
                counts,
                "{claims}"
            );
        }
    }

    #[test]
    fn keys_that_are_none_are_refused_by_name() {
        let (one, other) = (
            key_of(&rcgen::PKCS_ECDSA_P256_SHA256),
            key_of(&rcgen::PKCS_ECDSA_P256_SHA256),
        );
        let (private, public) = (one.serialize_pem(), other.public_key_pem());
        let new = |name, public: Option<&str>, private: Option<&str>| {
            let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
            let (public, private) = (bytes(public), bytes(private));
            Jwt::new(name, public.as_deref(), private.as_deref(), 300).err()
        };
        assert_eq!(new("none", None, Some("x")), Some(JwtError::Method));
        assert_eq!(new("HS256", Some("x"), None), Some(JwtError::NoKey));
        assert_eq!(new("RS256", None, None), Some(JwtError::NoKey));
        let mismatch = new("ES256", Some(&public), Some(&private));
        assert_eq!(mismatch, Some(JwtError::Mismatch));
        let unreadable = new("RS256", None, Some(&private));
        assert_eq!(unreadable, Some(JwtError::Unreadable("priv-key")));
        let unreadable = new("ES384", Some(&public), None);
        assert_eq!(unreadable, Some(JwtError::Unreadable("pub-key")));
    }
}
