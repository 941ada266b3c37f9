//! Digests of objects: SHA-256 in hexadecimal, and what tells a chunk's bytes from any others.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    sha256_of([bytes])
}

/// SHA-256 of parts one after the other, in hexadecimal.
pub fn sha256_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Context::new(&SHA256);
    parts.into_iter().for_each(|part| digest.update(part));
    let digest = digest.finish();
    let digest = digest.as_ref().iter();
    digest.map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of a chunk, hexadecimal, and which one it is: a field of that name where it is a part of an object.
///
/// Both are of 256 bits, and nobody finds other bytes for either. BLAKE3 takes a fraction of the time, which is a
/// quarter of a restore's with SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// BLAKE3: what is written.
    Blake3(String),
    /// SHA-256: what was written before, and is read.
    Sha256(String),
}

impl Digest {
    /// That of bytes, as it is written.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::Blake3(blake3::hash(bytes).to_hex().to_string())
    }

    /// Whether bytes are the ones that it is of.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        match self {
            Digest::Blake3(_) => *self == Digest::of(bytes),
            Digest::Sha256(digest) => *digest == sha256(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no bytes, and of the three that both standards give as an example.
    #[test]
    fn digests_are_those_of_their_standards() {
        let of = |text: &str| Digest::of(text.as_bytes());
        let blake3 = |hex: &str| Digest::Blake3(hex.into());
        let none = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(of(""), blake3(none));
        let abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(of("abc"), blake3(abc));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
        for digest in [of("abc"), Digest::Sha256(abc.into())] {
            assert!(digest.fits(b"abc") && !digest.fits(b"abd") && !digest.fits(b""));
        }
    }

    #[test]
    fn one_of_an_unknown_name_is_none() {
        let read = |text: &str| serde_json::from_str::<Digest>(text).ok();
        assert_eq!(
            read(r#"{"sha256":"00"}"#),
            Some(Digest::Sha256("00".into()))
        );
        assert_eq!(read(r#"{"md5":"00"}"#), None);
        // Neither stands for the other.
        let text = sha256(b"abc");
        assert!(!Digest::Blake3(text).fits(b"abc"));
    }
}
