//! What fuzzing of the gateway looks into: a request's JSON, both ways.

use bytes::Bytes;

use super::json::{self, Seen, Splitter};
use super::paths;

/// A request of the call at `path`, as protobuf's bytes; none where it is refused, or there is no such call.
#[must_use]
pub fn encode(path: &str, json: &[u8]) -> Option<Vec<u8>> {
    json::encode(json, paths::find(path)?.input()).ok()
}

/// The same request's JSON; none where the bytes are not its.
#[must_use]
pub fn decode(path: &str, message: Bytes) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let of = paths::find(path)?.input();
    json::decode(message, of, &mut out).ok()?;
    Some(out)
}

/// Where the first message of a body ends that comes in these pieces; none where it does not end, or is none.
#[must_use]
pub fn end<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
    let (mut splitter, mut before) = (Splitter::default(), 0);
    for piece in pieces {
        match splitter.look(piece) {
            Seen::More => before += piece.len(),
            Seen::End(at) => return Some(before + at),
            Seen::NoMessage => return None,
        }
    }
    None
}
