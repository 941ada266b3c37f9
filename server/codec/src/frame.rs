//! One encoded message, ready to be sent, and the writer that makes it.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use engram_proto::etcdserverpb::SnapshotResponse;
use futures_util::stream::BoxStream;
use prost::Message as _;

use crate::types::Stored;
use crate::types::result::{Item, Run};

/// gRPC's prefix of every message: one byte for "not compressed", four for its length.
pub const PREFIX_LEN: usize = 5;

/// The most bytes of a message that may be sent. Source: etcd's `maxSendBytes`, `math.MaxInt32`.
pub const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// From this size on a stored value is sent from where it lies instead of being copied. Below, the
/// copy is cheaper than one more piece to account for and send.
const SPLICE_MIN: usize = 16 << 10;

/// A message with gRPC's prefix, in the pieces it is sent in. Nearly always it is one piece.
#[derive(Debug)]
pub struct Frame {
    first: Bytes,
    more: Vec<Piece>,
    len: usize,
    pages: Option<Pages>,
}

/// One piece of a message.
#[derive(Clone, Debug)]
pub enum Piece {
    /// It.
    Bytes(Bytes),
    /// So many bytes that come out of the frame's [`Pages`].
    Run(usize),
}

/// What the runs of an answer hold, in order, read as it is sent. A page belongs to one run.
pub struct Pages(pub BoxStream<'static, Result<Bytes, BrokenOff>>);

/// The rest of an answer cannot be had: its client was too slow for what it reads to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was not read in time")]
pub struct BrokenOff;

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}

impl Frame {
    /// A piece of a snapshot, whose bytes are sent from where they lie.
    pub fn of_snapshot(answer: &SnapshotResponse) -> Frame {
        let blob = &answer.blob;
        let spliced = if splices(blob.len()) { blob.len() } else { 0 };
        let mut writer = FrameWriter::new(answer.encoded_len(), spliced);
        let before = SnapshotResponse {
            blob: Bytes::new(),
            version: String::new(),
            ..answer.clone()
        };
        before
            .encode(&mut writer.buffer)
            .expect("the buffer has room for the message");
        if !blob.is_empty() {
            writer.bytes(0x1a, blob);
        }
        if !answer.version.is_empty() {
            writer.open(0x22, answer.version.len());
            writer.buffer.put_slice(answer.version.as_bytes());
        }
        writer.finish()
    }

    /// The message's length in bytes, without the prefix. One above [`MESSAGE_BYTES_MAX`] is refused
    /// instead of being sent: its prefix need not be true.
    #[inline]
    pub fn message_len(&self) -> usize {
        self.len
    }

    /// The frame with what its runs hold.
    #[inline]
    pub fn with_pages(self, pages: Option<Pages>) -> Frame {
        Frame { pages, ..self }
    }

    /// The pieces in order, of which the first begins with the prefix, and what the runs hold.
    #[inline]
    pub fn into_pieces(self) -> (Bytes, std::vec::IntoIter<Piece>, Option<Pages>) {
        (self.first, self.more.into_iter(), self.pages)
    }

    /// The message's pieces without the prefix, and without what its runs hold.
    pub fn message_pieces(&self) -> impl Iterator<Item = &[u8]> {
        let first = self
            .first
            .get(PREFIX_LEN..)
            .expect("a frame begins with its prefix");
        let more = self.more.iter().filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(bytes.as_ref()),
            Piece::Run(_) => None,
        });
        std::iter::once(first).chain(more)
    }
}

/// The bytes a varint takes.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// The bytes of an integer field with a one-byte tag; zero is left out.
pub(super) fn int_len(value: i64) -> usize {
    uint_len(value.cast_unsigned())
}

/// As [`int_len`].
pub(super) fn uint_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// The bytes of a length-delimited field with a one-byte tag, empty or not.
pub(super) fn delimited_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Writes one message. The caller says its exact length beforehand, which is asserted at the end:
/// a wrong length would corrupt everything that follows on the connection.
pub(super) struct FrameWriter {
    buffer: BytesMut,
    first: Option<Bytes>,
    more: Vec<Piece>,
    len: usize,
    spliced: usize,
}

impl FrameWriter {
    /// For a message of `len` bytes, of which `spliced` come in large pieces (see [`splices`]).
    pub(super) fn new(len: usize, spliced: usize) -> FrameWriter {
        let mut buffer = BytesMut::with_capacity(PREFIX_LEN + len - spliced);
        buffer.put_u8(0);
        buffer.put_u32(wire_len(len));
        FrameWriter {
            buffer,
            first: None,
            more: Vec::new(),
            len,
            spliced: 0,
        }
    }

    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    pub(super) fn uint(&mut self, tag: u8, value: u64) {
        if value != 0 {
            self.buffer.put_u8(tag);
            self.varint(value);
        }
    }

    pub(super) fn int(&mut self, tag: u8, value: i64) {
        self.uint(tag, value.cast_unsigned());
    }

    pub(super) fn flag(&mut self, tag: u8, value: bool) {
        self.uint(tag, u64::from(value));
    }

    /// The tag and length of a field whose content follows.
    pub(super) fn open(&mut self, tag: u8, len: usize) {
        self.buffer.put_u8(tag);
        self.varint(len as u64);
    }

    /// A field that holds encoded bytes, which may be shared.
    pub(super) fn bytes(&mut self, tag: u8, bytes: &Bytes) {
        self.open(tag, bytes.len());
        if splices(bytes.len()) {
            self.splice(bytes.clone());
        } else {
            self.buffer.put_slice(bytes);
        }
    }

    /// A field that holds a stored key-value.
    pub(super) fn item(&mut self, tag: u8, item: &Item) {
        match item {
            Item::Encoded(bytes) => self.bytes(tag, bytes),
            Item::Stored(stored) => self.stored(tag, stored),
        }
    }

    fn stored(&mut self, tag: u8, stored: &Stored) {
        let bytes: &[u8] = stored.as_ref();
        self.open(tag, bytes.len());
        if splices(bytes.len()) {
            self.splice(Bytes::from_owner(stored.clone()));
        } else {
            self.buffer.put_slice(bytes);
        }
    }

    fn splice(&mut self, piece: Bytes) {
        self.spliced += piece.len();
        self.cut();
        self.more.push(Piece::Bytes(piece));
    }

    /// Fields that come out of the frame's pages.
    pub(super) fn run(&mut self, run: Run) {
        self.spliced += run.bytes;
        self.cut();
        self.more.push(Piece::Run(run.bytes));
    }

    /// What was written so far is a piece.
    fn cut(&mut self) {
        let before = self.buffer.split().freeze();
        match self.first {
            None => self.first = Some(before),
            Some(_) => self.more.push(Piece::Bytes(before)),
        }
    }

    pub(super) fn finish(mut self) -> Frame {
        let rest = self.buffer.split().freeze();
        let first = match self.first.take() {
            None => rest,
            Some(first) => {
                if !rest.is_empty() {
                    self.more.push(Piece::Bytes(rest));
                }
                first
            }
        };
        let pieces = self.more.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Run(bytes) => *bytes,
        });
        let written = first.len() + pieces.sum::<usize>();
        assert_eq!(
            written,
            PREFIX_LEN + self.len,
            "a message has the length it was announced with"
        );
        Frame {
            first,
            more: self.more,
            len: self.len,
            pages: None,
        }
    }
}

/// The length in the prefix. What does not fit it is never sent ([`MESSAGE_BYTES_MAX`]).
fn wire_len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Whether a value of `len` bytes is sent as a piece of its own.
pub(super) fn splices(len: usize) -> bool {
    len >= SPLICE_MIN
}

/// A message of the protobuf library as a frame, for the answers that are rare or small.
impl<M: prost::Message> From<&M> for Frame {
    fn from(message: &M) -> Frame {
        let len = message.encoded_len();
        let mut buffer = BytesMut::with_capacity(PREFIX_LEN + len);
        buffer.put_u8(0);
        buffer.put_u32(wire_len(len));
        message
            .encode(&mut buffer)
            .expect("the buffer has room for the message");
        Frame {
            first: buffer.freeze(),
            more: Vec::new(),
            len,
            pages: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engram_proto::etcdserverpb::ResponseHeader;

    #[test]
    fn a_piece_of_a_snapshot_is_what_the_library_makes_of_it() {
        for bytes in [0, 1, SPLICE_MIN - 1, SPLICE_MIN, 300_000] {
            let answer = SnapshotResponse {
                header: (bytes > 1).then(|| ResponseHeader {
                    revision: 7,
                    ..ResponseHeader::default()
                }),
                remaining_bytes: bytes as u64,
                blob: vec![7; bytes].into(),
                version: if bytes > 0 { "3.7.0" } else { "" }.to_owned(),
            };
            let of = |frame: &Frame| frame.message_pieces().collect::<Vec<_>>().concat();
            let frame = Frame::of_snapshot(&answer);
            assert_eq!(of(&frame), of(&Frame::from(&answer)), "{bytes}");
            assert_eq!(frame.more.is_empty(), bytes < SPLICE_MIN);
        }
    }
}
