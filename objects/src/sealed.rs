//! Small objects under a checksum: a line of JSON, and its SHA-256 in hexadecimal on the next.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sha256;

/// The two lines.
pub fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let line = serde_json::to_string(value).expect("strings and numbers are JSON");
    format!("{line}\n{}\n", sha256(line.as_bytes())).into_bytes()
}

/// The first line, where the second is its checksum.
pub fn unseal(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let (line, sum) = text.strip_suffix('\n')?.split_once('\n')?;
    (sha256(line.as_bytes()) == sum).then_some(line)
}

/// What a line says; none where it says something else.
pub fn read<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(line).ok()
}
