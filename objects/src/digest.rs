//! SHA-256 in hexadecimal.

use aws_lc_rs::digest::{Context, SHA256};

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
