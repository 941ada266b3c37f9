//! Encryption of whole objects: AES-256-GCM, under a key of each object's own.
//!
//! ```text
//! 0   magic "EGCR"          8   key id, 8 bytes
//! 4   format u16            16  salt, 32 random bytes
//! 6   zero u16              48  frames: 64 KiB each, the last one shorter, each with its tag of 16 bytes
//! ```
//!
//! The object's key is HKDF-SHA256 of the store's key and the salt, so that however many objects there
//! are no nonce is ever used twice: a frame's is its number, and whether it is the last. With each frame
//! the header and the object's name are authenticated: an object under another one's name, or cut short,
//! is noticed.

mod key;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;

use self::key::{ID_BYTES, Key};
pub use self::key::{KeyError, KeyId, Keys};

const MAGIC: [u8; 4] = *b"EGCR";
const FORMAT: u16 = 1;
const SALT_BYTES: usize = 32;
const SALT_AT: usize = 8 + ID_BYTES;
pub(crate) const HEADER_BYTES: usize = SALT_AT + SALT_BYTES;
const FRAME_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
/// What an object's key is derived for.
const PURPOSE: &[u8] = b"engram object 1";

/// Why an object cannot be decrypted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CipherError {
    /// Its key is not there.
    #[error(
        "it is encrypted with key {key}, and {}: give the file that holds that key with --encryption-key-file, in Kubernetes by spec.encryption of the EngramBackupStore",
        given(keys)
    )]
    Key {
        /// The key it needs.
        key: KeyId,
        /// The keys that were given.
        keys: Vec<KeyId>,
    },
    /// Another version wrote it.
    #[error("its encryption has format {0}, and {FORMAT} is read here: use a newer engramctl")]
    Format(u16),
    /// Bytes were changed, or are missing, or it lay under another name.
    #[error(
        "its encryption does not fit: it is damaged, or was moved here from another place (its key, {0}, is there)"
    )]
    Changed(KeyId),
    /// It ends within its header.
    #[error("it is damaged: it ends within its header")]
    Short,
}

impl CipherError {
    /// Whether the object is not what it should be. That its key is missing says nothing of it.
    pub fn is_damage(&self) -> bool {
        matches!(self, CipherError::Changed(_) | CipherError::Short)
    }
}

fn given(keys: &[KeyId]) -> String {
    match keys {
        [] => "no key is given".to_owned(),
        keys => {
            let keys: Vec<&str> = keys.iter().map(KeyId::as_ref).collect();
            format!("what is given is key {}", keys.join(", "))
        }
    }
}

/// Bytes of an object in the store, by those of what it holds.
pub fn encrypted_len(bytes: u64) -> u64 {
    let frame = u64::try_from(FRAME_BYTES).expect("a constant fits");
    let tag = u64::try_from(TAG_BYTES).expect("a constant fits");
    let header = u64::try_from(HEADER_BYTES).expect("a constant fits");
    header + bytes + bytes.div_ceil(frame).max(1) * tag
}

/// Bytes of an encrypted object whose beginning holds so many of what is in it.
pub(crate) fn encrypted_head(bytes: u64) -> u64 {
    let frame = u64::try_from(FRAME_BYTES).expect("a constant fits");
    // One byte more: it tells whether the last of these frames is the object's last.
    encrypted_len(bytes.div_ceil(frame) * frame) + 1
}

/// The key that an object is encrypted with; none where it is not.
///
/// # Errors
/// It ends within its header.
pub fn key_of(bytes: &[u8]) -> Result<Option<KeyId>, CipherError> {
    match Header::read(bytes)? {
        Some(header) => Ok(Some(header.key())),
        None => Ok(None),
    }
}

/// What every encrypted object begins with.
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn read(bytes: &[u8]) -> Result<Option<Header<'_>>, CipherError> {
        if !bytes.starts_with(&MAGIC) {
            return Ok(None);
        }
        let header = bytes.get(..HEADER_BYTES).ok_or(CipherError::Short)?;
        let format = u16::from_be_bytes([header[4], header[5]]);
        match format {
            FORMAT => Ok(Some(Header(header))),
            other => Err(CipherError::Format(other)),
        }
    }

    fn key(&self) -> KeyId {
        KeyId::of(&self.0[8..SALT_AT])
    }
}

/// The frames of one object.
struct Frames {
    key: LessSafeKey,
    /// What is authenticated with each.
    beside: Vec<u8>,
}

impl Frames {
    fn of(key: &Key, header: &[u8], name: &str) -> Frames {
        let parts = [PURPOSE, &header[SALT_AT..HEADER_BYTES]];
        let derived = key.secret().expand(&parts, &AES_256_GCM);
        let derived = derived.expect("the length of a key is one that HKDF gives");
        Frames {
            key: LessSafeKey::new(UnboundKey::from(derived)),
            beside: [header, name.as_bytes()].concat(),
        }
    }

    fn nonce(place: u32, is_last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 5..NONCE_LEN - 1].copy_from_slice(&place.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(is_last);
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, place: u32, is_last: bool, plain: &[u8], out: &mut Vec<u8>) {
        let (from, nonce) = (out.len(), Frames::nonce(place, is_last));
        out.extend_from_slice(plain);
        let aad = Aad::from(&self.beside[..]);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, aad, &mut out[from..]);
        let tag = tag.expect("a frame is shorter than the cipher's limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// Takes a frame's bytes and tag; nothing was taken where they do not fit.
    fn open(&self, place: u32, is_last: bool, frame: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(plain) = frame.len().checked_sub(TAG_BYTES) else {
            return false;
        };
        let from = out.len();
        out.resize(from + plain, 0);
        let (cipher, tag) = frame.split_at(plain);
        let (nonce, aad) = (Frames::nonce(place, is_last), Aad::from(&self.beside[..]));
        let opened = self
            .key
            .open_separate_gather(nonce, aad, cipher, tag, &mut out[from..]);
        if opened.is_err() {
            out.truncate(from);
        }
        opened.is_ok()
    }
}

impl Keys {
    /// The bytes to be stored under this name: encrypted with the first key, or as they are where there
    /// is none.
    ///
    /// # Panics
    /// The system has no random bytes to give.
    pub fn encrypt(&self, name: &str, plain: Bytes) -> Bytes {
        let mut salt = [0; SALT_BYTES];
        match self.first() {
            None => plain,
            Some(key) => {
                aws_lc_rs::rand::fill(&mut salt).expect("the system gives random bytes");
                encrypt_with(key, salt, name, &plain)
            }
        }
    }

    /// What an object of this name holds. One that is not encrypted is what it holds.
    ///
    /// # Errors
    /// Its key is not among these, or it is not what was stored under this name.
    pub fn decrypt(&self, name: &str, bytes: Bytes) -> Result<Bytes, CipherError> {
        self.open(name, bytes, true)
    }

    /// The beginning of what an object holds, by its own first [`encrypted_head`] bytes; all of it where
    /// it is shorter.
    pub(crate) fn decrypt_head(
        &self,
        name: &str,
        bytes: Bytes,
        asked: u64,
    ) -> Result<Bytes, CipherError> {
        let is_whole = u64::try_from(bytes.len()).is_ok_and(|length| length < asked);
        self.open(name, bytes, is_whole)
    }

    fn open(&self, name: &str, bytes: Bytes, is_whole: bool) -> Result<Bytes, CipherError> {
        let Some(header) = Header::read(&bytes)? else {
            return Ok(bytes);
        };
        let id = header.key();
        let Some(key) = self.find(&id) else {
            return Err(CipherError::Key {
                key: id,
                keys: self.ids(),
            });
        };
        let frames = Frames::of(key, header.0, name);
        let mut rest = &bytes[HEADER_BYTES..];
        let mut plain = Vec::with_capacity(rest.len());
        for place in 0..=u32::MAX {
            let is_last = rest.len() <= FRAME_BYTES + TAG_BYTES;
            if is_last && !is_whole {
                return Ok(plain.into());
            }
            let (frame, behind) = match is_last {
                true => (rest, &[][..]),
                false => rest.split_at(FRAME_BYTES + TAG_BYTES),
            };
            if !frames.open(place, is_last, frame, &mut plain) {
                return Err(CipherError::Changed(id));
            }
            if is_last {
                return Ok(plain.into());
            }
            rest = behind;
        }
        Err(CipherError::Changed(id))
    }
}

fn encrypt_with(key: &Key, salt: [u8; SALT_BYTES], name: &str, plain: &[u8]) -> Bytes {
    let length = encrypted_len(u64::try_from(plain.len()).unwrap_or(u64::MAX));
    let mut out = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&key.id_bytes());
    out.extend_from_slice(&salt);
    let frames = Frames::of(key, &out.clone(), name);
    let mut pieces = plain.chunks(FRAME_BYTES).peekable();
    if plain.is_empty() {
        frames.seal(0, true, plain, &mut out);
    }
    let mut place = 0;
    while let Some(piece) = pieces.next() {
        frames.seal(place, pieces.peek().is_none(), piece, &mut out);
        place = place
            .checked_add(1)
            .expect("an object has less than 256 TiB");
    }
    out.into()
}

#[cfg(test)]
mod tests;
