//! A store as a backup takes it: its records as they are, in one pass, with what they hash to.
//!
//! The bbolt file of [`super::write`] is for etcd's tools: its length is told before its first byte, so the store
//! is read twice for it, and hashed as a file. Whoever takes a backup wants the records, which cost a third of
//! that; HashKV is made beside, of the very bytes that are sent.

use bytes::{BufMut as _, Bytes, BytesMut};
use engram_proto::backup as pb;
use prost::Message;
use prost::encoding::{self, WireType};

use super::{SnapshotError, auth_rows_of, downgraded, etcd_schema};
use crate::state::{HashPlan, RecordRef, Tables};
use crate::storage::Scanner;
use crate::types::Revision;

/// Bytes from which on a piece is sent.
const PIECE_BYTES: usize = 256 << 10;
/// Before a piece's messages: the key and length of the field that they are, so that they are sent from where they were
/// gathered. The length takes five bytes, as many as any has.
const FRONT_BYTES: usize = 6;
/// Room for a piece: its last message may go beyond [`PIECE_BYTES`].
const ROOM_BYTES: usize = PIECE_BYTES + (64 << 10);
/// The field of `engram.backup.v1.SnapshotPiece` that holds messages.
const RAW: u32 = 7;

/// What messages are, by the numbers of chunks (`docs/backup-format.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Records = 1,
    Leases = 2,
    Auth = 3,
    Members = 4,
}

/// Nobody listens any more.
struct Gone;

/// Sends what the scanner sees; `plan` was made under the lock that the view was taken under, at the latest
/// revision. `send` may block; when it returns false the rest is left out. Blocks until done.
///
/// # Errors
/// The store cannot be read. What was sent by then has no end, so nobody takes it for whole.
pub fn write(
    scanner: &Scanner<'_>,
    plan: HashPlan,
    send: impl FnMut(Bytes) -> bool,
) -> Result<(), SnapshotError> {
    let tables = scanner.tables()?;
    // A receiver that has left wants no more, and no word of it.
    let _ = Sending::new(send).all(scanner, plan, &tables);
    Ok(())
}

struct Sending<F> {
    send: F,
    kind: Kind,
    /// All of a piece but its messages.
    piece: pb::SnapshotPiece,
    /// Its messages, behind room for what comes before them.
    raw: BytesMut,
    /// Room for what comes before a record's bytes.
    front: Vec<u8>,
}

impl<F: FnMut(Bytes) -> bool> Sending<F> {
    fn new(send: F) -> Sending<F> {
        Sending {
            send,
            kind: Kind::Records,
            piece: pb::SnapshotPiece::default(),
            raw: room(),
            front: Vec::new(),
        }
    }

    fn all(
        mut self,
        scanner: &Scanner<'_>,
        mut plan: HashPlan,
        tables: &Tables,
    ) -> Result<(), Gone> {
        let compaction = |at: Option<Revision>| at.map_or(-1, |at| at.0);
        self.piece.head = Some(pb::SnapshotHead {
            revision: plan.revision().0,
            compact_scheduled: compaction(tables.compact_scheduled),
            compact_finished: compaction(tables.compact_finished),
            storage_version: storage_version(tables),
        });
        self.flush()?;
        let mut records = 0;
        let mut heard = Ok(());
        scanner.records(&mut |record| {
            let Some(counts) = plan.take(record) else {
                return false;
            };
            records += 1;
            heard = self.record(record, counts);
            heard.is_ok()
        });
        heard?;
        for (id, ttl_seconds) in &tables.leases {
            let lease = pb::Lease {
                id: id.0,
                ttl_seconds: *ttl_seconds,
                remaining_seconds: 0,
            };
            self.message(Kind::Leases, &lease)?;
        }
        for row in auth_rows_of(tables) {
            self.message(Kind::Auth, &row)?;
        }
        for member in &tables.members {
            let member = pb::Member {
                id: member.id.0,
                name: member.attributes.name.clone(),
                peer_urls: member.peer_urls.clone(),
                client_urls: member.attributes.client_urls.clone(),
                learner: member.learner,
            };
            self.message(Kind::Members, &member)?;
        }
        self.flush()?;
        self.piece.end = Some(pb::SnapshotEnd {
            records,
            hash_kv: plan.finish().hash,
        });
        self.flush()
    }

    fn record(&mut self, record: RecordRef<'_>, counts: bool) -> Result<(), Gone> {
        self.becomes(Kind::Records)?;
        put_front(&mut self.front, record);
        let bytes = self.front.len() + record.encoded.len();
        encoding::encode_varint(wide(bytes), &mut self.raw);
        self.raw.extend_from_slice(&self.front);
        self.raw.extend_from_slice(record.encoded);
        if !counts {
            self.piece.uncounted.push(self.piece.messages);
        }
        self.added()
    }

    fn message(&mut self, kind: Kind, message: &impl Message) -> Result<(), Gone> {
        self.becomes(kind)?;
        let encoded = message.encode_length_delimited(&mut self.raw);
        encoded.expect("a vector has room");
        self.added()
    }

    fn becomes(&mut self, kind: Kind) -> Result<(), Gone> {
        if self.kind != kind {
            self.flush()?;
            self.kind = kind;
        }
        Ok(())
    }

    fn added(&mut self) -> Result<(), Gone> {
        self.piece.messages += 1;
        match self.raw.len() >= FRONT_BYTES + PIECE_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Sends what was gathered, if anything was.
    fn flush(&mut self) -> Result<(), Gone> {
        let mut piece = std::mem::take(&mut self.piece);
        if piece.messages == 0 && piece.head.is_none() && piece.end.is_none() {
            return Ok(());
        }
        if piece.messages > 0 {
            piece.kind = self.kind as u32;
            piece.crc32c = crc32c::crc32c(&self.raw[FRONT_BYTES..]);
        }
        let raw = std::mem::replace(&mut self.raw, room());
        match (self.send)(blob(&piece, raw)) {
            true => Ok(()),
            false => Err(Gone),
        }
    }
}

fn room() -> BytesMut {
    let mut raw = BytesMut::with_capacity(ROOM_BYTES);
    raw.put_bytes(0, FRONT_BYTES);
    raw
}

/// A piece as it is sent: its messages, then the rest of it. A reader of protobuf takes fields in any order.
fn blob(piece: &pb::SnapshotPiece, mut raw: BytesMut) -> Bytes {
    let bytes = raw.len() - FRONT_BYTES;
    let mut front = Vec::with_capacity(FRONT_BYTES);
    encoding::encode_key(RAW, WireType::LengthDelimited, &mut front);
    let low_bits = |place: usize| u8::try_from((bytes >> (7 * place)) & 0x7f).expect("seven bits");
    front.extend((0..4).map(|place| low_bits(place) | 0x80));
    front.push(low_bits(4));
    raw[..FRONT_BYTES].copy_from_slice(&front);
    piece.encode(&mut raw).expect("a buffer grows");
    raw.freeze()
}

/// What comes before a record's bytes in `engram.backup.v1.Record`, whose last field they are.
fn put_front(front: &mut Vec<u8>, record: RecordRef<'_>) {
    front.clear();
    encoding::int64::encode(1, &record.pair.main.0, front);
    if record.pair.sub != 0 {
        encoding::uint32::encode(2, &record.pair.sub, front);
    }
    if record.tombstone {
        encoding::bool::encode(3, &true, front);
    }
    encoding::encode_key(4, WireType::LengthDelimited, front);
    encoding::encode_varint(wide(record.encoded.len()), front);
}

/// As a snapshot file says it.
fn storage_version(tables: &Tables) -> String {
    let version = downgraded(tables).unwrap_or(etcd_schema::STORAGE_VERSION);
    version.to_owned()
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits")
}
