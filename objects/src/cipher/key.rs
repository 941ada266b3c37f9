//! Keys of stores: read from files, known by ids that say nothing of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a key's id.
pub(super) const ID_BYTES: usize = 8;
/// Bytes that a file with a key may have: its text, and line breaks.
const FILE_BYTES_MAX: u64 = 256;
/// What a key's id is derived for.
const PURPOSE: &[u8] = b"engram key id 1";

/// By what a key is known: derived from it one way, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    pub(super) fn of(bytes: &[u8]) -> KeyId {
        KeyId(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl AsRef<str> for KeyId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a file is no key's.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("encryption key file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error(
        "encryption key file {}: it holds no key: 32 random bytes in base64 or hexadecimal are needed, as `openssl rand -base64 32` prints them",
        path.display()
    )]
    NoKey {
        /// Which.
        path: PathBuf,
    },
}

pub(super) struct Key {
    id: [u8; ID_BYTES],
    secret: Prk,
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    pub(super) fn new(bytes: &[u8; KEY_BYTES]) -> Key {
        // A key is uniformly random, which is what HKDF would extract from worse ones.
        let secret = Prk::new_less_safe(HKDF_SHA256, bytes);
        let mut id = [0; ID_BYTES];
        let parts = [PURPOSE];
        let derived = secret.expand(&parts, Length(ID_BYTES));
        let filled = derived.and_then(|derived| derived.fill(&mut id));
        filled.expect("the length of an id is one that HKDF gives");
        Key { id, secret }
    }

    pub(super) fn id(&self) -> KeyId {
        KeyId::of(&self.id)
    }

    pub(super) fn id_bytes(&self) -> [u8; ID_BYTES] {
        self.id
    }

    pub(super) fn secret(&self) -> &Prk {
        &self.secret
    }
}

/// The keys of a store: the first one writes, each of them reads. None: objects are stored as they are.
#[derive(Clone, Default)]
pub struct Keys(Arc<Vec<Key>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Keys {
    /// Reads a key from each file.
    ///
    /// # Errors
    /// One cannot be read, or holds no key.
    pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<Keys, KeyError> {
        let read = files.iter().map(|file| read(file.as_ref()));
        Ok(Keys(Arc::new(read.collect::<Result<_, _>>()?)))
    }

    /// These keys.
    pub fn of(keys: &[[u8; KEY_BYTES]]) -> Keys {
        Keys(Arc::new(keys.iter().map(Key::new).collect()))
    }

    /// The key that writes; none where there is none.
    pub fn writing(&self) -> Option<KeyId> {
        self.first().map(Key::id)
    }

    /// All of them, the one that writes first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.0.iter().map(Key::id).collect()
    }

    pub(super) fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    pub(super) fn find(&self, id: &KeyId) -> Option<&Key> {
        self.0.iter().find(|key| key.id() == *id)
    }
}

fn read(path: &Path) -> Result<Key, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    let no_key = || KeyError::NoKey {
        path: path.to_owned(),
    };
    // Whatever lies there by mistake is not read whole.
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(no_key());
    }
    let text = std::fs::read(path).map_err(failed)?;
    let text = text.trim_ascii();
    let bytes = unhex(text).or_else(|| STANDARD.decode(text).ok());
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(|bytes| Key::new(&bytes)).ok_or_else(no_key)
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() != KEY_BYTES * 2 {
        return None;
    }
    let digits: Option<Vec<u8>> = text
        .iter()
        .map(|digit| char::from(*digit).to_digit(16))
        .map(|digit| digit.and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let pairs = digits?;
    Some(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
