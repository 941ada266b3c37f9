//! Chunks: runs of messages of one kind, compressed, each with its own checksums.
//!
//! ```text
//! 0   magic "EGBK"          16  messages u32            32  first revision i64
//! 4   format u16            20  raw bytes u32           40  last revision i64
//! 6   kind u16              24  compressed bytes u32    48  body: zstd of the messages
//! 8   sequence u64          28  CRC-32C of raw u32      …   CRC-32C of everything before u32
//! ```
//!
//! Integers are big endian. The raw body is protobuf messages, each behind its length as a varint.
//! A chunk says by itself what it is and where it belongs, so that a log archive can append chunks
//! of later records without touching those that are there.

use std::fmt;

use bytes::{Buf as _, Bytes};
use prost::Message;

use crate::buffer::Buffer;

/// Raw bytes after which a chunk is closed. A single larger message makes a larger chunk.
pub const CHUNK_BYTES: usize = 8 << 20;
/// Raw bytes that a reader makes room for: what one message of gRPC may have.
const RAW_BYTES_MAX: usize = 1 << 31;
/// zstd's level: its default. Higher ones cost more than they save on JSON and protobuf.
const LEVEL: i32 = 3;
/// That of what is written beside a server's own work: a third of the time, a little larger.
const LEVEL_FAST: i32 = -3;
/// That of what does not become shorter: stored about as it is, in zstd's form; what is there twice is still found.
const LEVEL_STORED: i32 = -50;
/// Where a chunk is tried, evenly over it, and how much of it there.
const TRIALS: usize = 16;
const TRIAL_BYTES: usize = 4 << 10;
/// What has to become shorter by less than this part, 1/32, is not worked on.
const GAIN_MIN: usize = 32;
const MAGIC: [u8; 4] = *b"EGBK";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;
const TRAILER_BYTES: usize = 4;

/// What a chunk's messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `engram.backup.v1.Record`, in the order of revisions.
    Records,
    /// `engram.backup.v1.Lease`.
    Leases,
    /// `engram.backup.v1.AuthRow`.
    Auth,
    /// `engram.backup.v1.Member`.
    Members,
    /// `engram.backup.v1.Note`, of the log archive, in the order of the log.
    Notes,
    /// `engram.backup.v1.Moment`, of the log archive, in the order of the log.
    Moments,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Records,
        Kind::Leases,
        Kind::Auth,
        Kind::Members,
        Kind::Notes,
        Kind::Moments,
    ];

    fn number(self) -> u16 {
        match self {
            Kind::Records => 1,
            Kind::Leases => 2,
            Kind::Auth => 3,
            Kind::Members => 4,
            Kind::Notes => 5,
            Kind::Moments => 6,
        }
    }

    /// The kind of a number.
    pub fn of(number: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Records => "records",
            Kind::Leases => "leases",
            Kind::Auth => "auth",
            Kind::Members => "members",
            Kind::Notes => "notes",
            Kind::Moments => "moments",
        }
    }
}

/// Why bytes are no chunk.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChunkError {
    /// They are too few, or begin otherwise.
    #[error("it is no chunk of a backup or an archive")]
    NoChunk,
    /// Another version wrote it.
    #[error("it has format {0}, this engramctl reads {VERSION}: use the engramctl that wrote it")]
    Format(u16),
    /// Bytes were changed.
    #[error("a checksum does not fit: it is damaged")]
    Checksum,
    /// It is sound, and makes no sense.
    #[error("{0}")]
    Nonsense(&'static str),
}

/// A chunk, ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What it holds.
    pub kind: Kind,
    /// Its place among the backup's chunks, from 0.
    pub sequence: u64,
    /// How many messages it holds.
    pub messages: u32,
    /// Bytes of the messages.
    pub raw_bytes: u64,
    /// Of records: the first revision in it, else 0.
    pub first_revision: i64,
    /// Of records: the last revision in it, else 0.
    pub last_revision: i64,
    /// The chunk itself.
    pub bytes: Bytes,
}

/// Gathers messages into chunks.
#[derive(Debug)]
pub struct Packer {
    level: i32,
    compressor: Compressor,
    kind: Kind,
    sequence: u64,
    raw: Vec<u8>,
    messages: u32,
    first_revision: i64,
    last_revision: i64,
}

impl Default for Packer {
    fn default() -> Packer {
        Packer {
            level: LEVEL,
            compressor: Compressor::default(),
            kind: Kind::Records,
            sequence: 0,
            raw: Vec::new(),
            messages: 0,
            first_revision: 0,
            last_revision: 0,
        }
    }
}

impl Packer {
    /// One that spends less time on compressing.
    pub fn fast() -> Packer {
        Packer {
            level: LEVEL_FAST,
            // Memory that is not written to costs nothing, and growing copies what is.
            raw: Vec::with_capacity(CHUNK_BYTES),
            ..Packer::default()
        }
    }

    /// Adds a message, of `revision` if it is a record's. Returns the chunk before it where that is
    /// full, or of another kind.
    pub fn add(&mut self, kind: Kind, message: &impl Message, revision: i64) -> Option<Chunk> {
        let closed = self.begin(kind, message.encoded_len(), revision);
        let encoded = message.encode_length_delimited(&mut self.raw);
        encoded.expect("a vector has room");
        closed
    }

    /// The same of a message that is encoded already.
    pub fn add_encoded(&mut self, kind: Kind, message: &[u8], revision: i64) -> Option<Chunk> {
        let closed = self.begin(kind, message.len(), revision);
        prost::encoding::encode_varint(wide(message.len()), &mut self.raw);
        self.raw.extend_from_slice(message);
        closed
    }

    /// Makes room for a message of so many bytes.
    fn begin(&mut self, kind: Kind, bytes: usize, revision: i64) -> Option<Chunk> {
        let is_full = self.raw.len() + bytes > CHUNK_BYTES;
        let closed = match self.messages > 0 && (is_full || kind != self.kind) {
            true => self.close(),
            false => None,
        };
        if self.messages == 0 {
            self.first_revision = revision;
        }
        self.kind = kind;
        self.last_revision = revision;
        self.messages += 1;
        closed
    }

    /// The chunk of what was added last; none if nothing was.
    pub fn close(&mut self) -> Option<Chunk> {
        if self.messages == 0 {
            return None;
        }
        let chunk = Chunk {
            kind: self.kind,
            sequence: self.sequence,
            messages: self.messages,
            raw_bytes: wide(self.raw.len()),
            first_revision: self.first_revision,
            last_revision: self.last_revision,
            bytes: self.encode(),
        };
        self.sequence += 1;
        self.messages = 0;
        self.raw.clear();
        Some(chunk)
    }

    fn encode(&mut self) -> Bytes {
        let bound = zstd_safe::compress_bound(self.raw.len());
        let mut buffer = Buffer::of(HEADER_BYTES + bound + TRAILER_BYTES);
        let out = buffer.bytes_mut();
        let body = &mut out[HEADER_BYTES..HEADER_BYTES + bound];
        let level = match self.compressor.is_worth_it(&self.raw) {
            true => self.level,
            false => LEVEL_STORED,
        };
        let compressed = self.compressor.compress(body, &self.raw, level);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&self.kind.number().to_be_bytes());
        header.extend_from_slice(&self.sequence.to_be_bytes());
        let raw_sum = crc32c::crc32c(&self.raw);
        for word in [
            self.messages,
            narrow(self.raw.len()),
            narrow(compressed),
            raw_sum,
        ] {
            header.extend_from_slice(&word.to_be_bytes());
        }
        header.extend_from_slice(&self.first_revision.to_be_bytes());
        header.extend_from_slice(&self.last_revision.to_be_bytes());
        out[..HEADER_BYTES].copy_from_slice(&header);
        let end = HEADER_BYTES + compressed;
        let sum = crc32c::crc32c(&out[..end]);
        out[end..end + TRAILER_BYTES].copy_from_slice(&sum.to_be_bytes());
        buffer.freeze(end + TRAILER_BYTES)
    }
}

/// zstd, with the memory that it works in.
struct Compressor(zstd_safe::CCtx<'static>);

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor(zstd_safe::CCtx::create())
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// How many bytes of `out` it takes, which has room for the most.
    fn compress(&mut self, out: &mut [u8], raw: &[u8], level: i32) -> usize {
        let compressed = self.0.compress(out, raw, level);
        compressed.expect("the bound is enough")
    }

    /// Whether bytes become shorter by compression, by some of them: values may be encrypted, or compressed
    /// already, and then zstd looks for nothing at a third of all that a backup costs.
    fn is_worth_it(&mut self, raw: &[u8]) -> bool {
        let stride = (raw.len() / TRIALS).max(TRIAL_BYTES);
        let mut sample = Vec::with_capacity(TRIALS * TRIAL_BYTES);
        for piece in raw.chunks(stride) {
            sample.extend_from_slice(&piece[..piece.len().min(TRIAL_BYTES)]);
        }
        let mut out = vec![0; zstd_safe::compress_bound(sample.len())];
        let compressed = self.compress(&mut out, &sample, 1);
        compressed + sample.len() / GAIN_MIN < sample.len() || sample.len() < TRIAL_BYTES
    }
}

/// A chunk that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// What it holds.
    pub kind: Kind,
    /// Its place among the backup's chunks.
    pub sequence: u64,
    messages: u32,
    raw: Bytes,
}

impl Unpacked {
    /// Calls `take` with each message, in order.
    ///
    /// # Errors
    /// A message is none, their number is another one, or `take` failed.
    pub fn messages<M: Message + Default, E: From<ChunkError>>(
        &self,
        mut take: impl FnMut(M) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = self.raw.clone();
        let mut found = 0;
        while rest.has_remaining() {
            let message = M::decode_length_delimited(&mut rest);
            take(message.map_err(|_| ChunkError::Nonsense("a message in it cannot be read"))?)?;
            found += 1;
        }
        match found == self.messages {
            true => Ok(()),
            false => Err(ChunkError::Nonsense("it holds another number of messages").into()),
        }
    }
}

/// Reads a chunk: every byte of it counts.
///
/// # Errors
/// See [`ChunkError`].
pub fn unpack(bytes: &[u8]) -> Result<Unpacked, ChunkError> {
    let (rest, sum) = split(bytes)?;
    match crc32c::crc32c(rest).to_be_bytes() == *sum {
        true => unpack_rest(rest, true),
        false => Err(ChunkError::Checksum),
    }
}

/// The same of a chunk of which somebody has compared a stronger digest of all of its bytes: what they decompress to
/// is no other than it was when that digest was made.
///
/// # Errors
/// See [`ChunkError`].
pub fn unpack_known(bytes: &[u8]) -> Result<Unpacked, ChunkError> {
    let (rest, _) = split(bytes)?;
    unpack_rest(rest, false)
}

/// All before the last checksum, and it.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), ChunkError> {
    let whole = bytes.len().checked_sub(TRAILER_BYTES);
    whole
        .and_then(|at| bytes.split_at_checked(at))
        .filter(|(rest, _)| rest.len() >= HEADER_BYTES && rest.starts_with(&MAGIC))
        .ok_or(ChunkError::NoChunk)
}

fn unpack_rest(rest: &[u8], compare: bool) -> Result<Unpacked, ChunkError> {
    let (mut header, body) = rest.split_at(HEADER_BYTES);
    header.advance(MAGIC.len());
    let version = header.get_u16();
    if version != VERSION {
        return Err(ChunkError::Format(version));
    }
    let number = header.get_u16();
    let kind = Kind::of(number).ok_or(ChunkError::Nonsense("it is of an unknown kind"))?;
    let sequence = header.get_u64();
    let messages = header.get_u32();
    let raw_bytes = usize::try_from(header.get_u32()).expect("a u32 fits");
    let compressed = usize::try_from(header.get_u32()).expect("a u32 fits");
    let raw_sum = header.get_u32();
    if compressed != body.len() || raw_bytes > RAW_BYTES_MAX {
        return Err(ChunkError::Nonsense("its lengths do not fit"));
    }
    let mut raw = Buffer::of(raw_bytes);
    let found = zstd_safe::decompress(raw.bytes_mut(), body);
    let differs = || compare && crc32c::crc32c(raw.as_ref()) != raw_sum;
    if found != Ok(raw_bytes) || differs() {
        return Err(ChunkError::Checksum);
    }
    Ok(Unpacked {
        kind,
        sequence,
        messages,
        raw: raw.freeze(raw_bytes),
    })
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits")
}

/// A length in a chunk, whose one message has less than gRPC's 2 GiB.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("a chunk has less than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engram_proto::backup::{Lease, Record};
    use proptest::prelude::*;

    fn record(revision: i64, value: Vec<u8>) -> Record {
        Record {
            revision,
            sub: 0,
            tombstone: false,
            key_value: value.into(),
        }
    }

    fn read(chunk: &Chunk) -> Vec<Record> {
        let mut records = Vec::new();
        let unpacked = unpack(&chunk.bytes).expect("just packed");
        assert_eq!(
            (unpacked.kind, unpacked.sequence),
            (chunk.kind, chunk.sequence)
        );
        let take = |record| {
            records.push(record);
            Ok::<_, ChunkError>(())
        };
        unpacked.messages(take).expect("just packed");
        records
    }

    #[test]
    fn kinds_never_share_a_chunk() {
        let mut packer = Packer::default();
        assert_eq!(packer.close(), None);
        assert_eq!(packer.add(Kind::Records, &record(2, vec![1]), 2), None);
        let lease = Lease::default();
        let first = packer
            .add(Kind::Leases, &lease, 0)
            .expect("closed by another kind");
        let second = packer.close().expect("a lease");
        assert_eq!(
            (first.kind, first.sequence, first.last_revision),
            (Kind::Records, 0, 2)
        );
        assert_eq!(
            (second.kind, second.sequence, second.messages),
            (Kind::Leases, 1, 1)
        );
        assert_eq!(packer.close(), None);
    }

    #[test]
    fn a_message_larger_than_a_chunk_has_one_of_its_own() {
        let mut packer = Packer::default();
        packer.add(Kind::Records, &record(1, vec![7; 10]), 1);
        let small = packer.add(Kind::Records, &record(2, vec![7; CHUNK_BYTES + 1]), 2);
        let large = packer.add(Kind::Records, &record(3, vec![7]), 3);
        assert_eq!(small.map(|chunk| chunk.messages), Some(1));
        let large = large.expect("closed by the next");
        assert_eq!((large.messages, large.first_revision), (1, 2));
        assert!(large.bytes.len() < 10_000, "it is compressed");
        assert_eq!(read(&large)[0].key_value.len(), CHUNK_BYTES + 1);
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_noticed() {
        let mut packer = Packer::default();
        for revision in 1..20 {
            packer.add(Kind::Records, &record(revision, vec![7; 30]), revision);
        }
        let whole = packer.close().expect("records").bytes;
        for at in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] ^= mask;
                assert!(unpack(&bytes).is_err(), "byte {at}");
            }
            assert!(unpack(&whole[..at]).is_err(), "{at} bytes");
        }
        assert!(unpack(&[whole.as_ref(), b"x"].concat()).is_err());
    }

    /// Bytes that no compression shortens.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        std::iter::repeat_with(&mut next)
            .flatten()
            .take(bytes)
            .collect()
    }

    #[test]
    fn what_cannot_be_shortened_is_stored_and_what_can_be_is_shortened() {
        let packed = |values: &[Vec<u8>]| {
            let mut packer = Packer::default();
            for (revision, value) in (1..).zip(values) {
                packer.add(Kind::Records, &record(revision, value.clone()), revision);
            }
            let chunk = packer.close().expect("records");
            let found: Vec<_> = read(&chunk).into_iter().map(|it| it.key_value).collect();
            assert!(
                found
                    .iter()
                    .zip(values)
                    .all(|(found, value)| found == value)
            );
            (chunk.bytes.len(), chunk.raw_bytes)
        };
        let noise = noise(4 << 20);
        let (stored, raw) = packed(std::slice::from_ref(&noise));
        assert!(stored as u64 <= raw + raw / 1_000, "{stored} of {raw}");
        // A half of it is enough to be worked on, wherever it lies.
        let mixed: Vec<_> = noise
            .chunks(4096)
            .flat_map(|piece| [piece.to_vec(), vec![b'x'; 4096]])
            .take(1024)
            .collect();
        let (stored, raw) = packed(&mixed);
        assert!(stored as u64 <= raw * 6 / 10, "{stored} of {raw}");
        let mut compressor = Compressor::default();
        assert!(!compressor.is_worth_it(&noise) && compressor.is_worth_it(b"few"));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_back(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 1..50)
        ) {
            let mut packer = Packer::default();
            let mut chunks = Vec::new();
            let records: Vec<Record> =
                (1..).zip(values).map(|(revision, value)| record(revision, value)).collect();
            for record in &records {
                chunks.extend(packer.add(Kind::Records, record, record.revision));
            }
            chunks.extend(packer.close());
            let found: Vec<Record> = chunks.iter().flat_map(read).collect();
            prop_assert_eq!(found, records);
        }
    }
}
