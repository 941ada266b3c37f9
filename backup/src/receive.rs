//! Chunks out of a member's records as they come, and what is to be known of all of them.
//!
//! Nothing is believed before it was checked: each piece by its checksum, each record as a restore would check it, and all
//! of them by HashKV, which the member made of the records that it sent, and which is made here of those that came.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, Bytes};
use engram_proto::backup as pb;
use engram_server::snapshot::file::{AuthRow, Tables, check_record};
use engram_server::state::{Hashing, RevisionRecord};
use engram_server::types::{Revision, RevisionPair};
use prost::Message;
use tokio::sync::mpsc;

use crate::create::CreateError;
use crate::format::{Chunk, Kind, Packer, sha256_of};
use crate::read::{auth_row, record_of};
use crate::source::SourceError;

/// What came.
pub(crate) struct Received {
    /// Compactions, users and the version: leases and members are counted, not kept.
    pub(crate) tables: Tables,
    pub(crate) leases: u64,
    pub(crate) records: u64,
    /// HashKV of them.
    pub(crate) hash: u32,
    pub(crate) digests: Digests,
}

/// SHA-256 of the records of some revisions, and of the last one.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    wanted: BTreeSet<i64>,
    found: BTreeMap<i64, String>,
    current: (i64, Vec<Bytes>),
}

impl Digests {
    pub(crate) fn of(wanted: BTreeSet<i64>) -> Digests {
        Digests {
            wanted,
            ..Digests::default()
        }
    }

    /// Takes in the next record, ascending.
    pub(crate) fn add(&mut self, record: &RevisionRecord) {
        let revision = record.pair.main.0;
        if revision != self.current.0 {
            if self.wanted.contains(&self.current.0) {
                self.found.insert(self.current.0, digest(&self.current.1));
            }
            self.current.0 = revision;
            self.current.1.clear();
        }
        self.current.1.push(record.encoded.clone());
    }

    /// The digests of those that were wanted, and that of the last revision, where it has any records.
    pub(crate) fn finish(mut self, last: i64) -> (BTreeMap<i64, String>, Option<String>) {
        let last_records = (self.current.0 == last).then(|| digest(&self.current.1));
        if let Some(records) = last_records.clone()
            && self.wanted.contains(&last)
        {
            self.found.insert(last, records);
        }
        (self.found, last_records)
    }
}

fn digest(parts: &[Bytes]) -> String {
    sha256_of(parts.iter().map(Bytes::as_ref))
}

/// Makes chunks of pieces until the last one has come. Ends early where nobody takes them.
pub(crate) fn pack(
    head: pb::SnapshotHead,
    mut pieces: mpsc::Receiver<Bytes>,
    wanted: BTreeSet<i64>,
    out: &mpsc::Sender<Chunk>,
) -> Result<Received, CreateError> {
    let mut receiving = Receiving {
        packer: Packer::default(),
        hashing: Hashing::default(),
        last: RevisionPair::default(),
        received: Received {
            tables: tables_of(&head),
            leases: 0,
            records: 0,
            hash: 0,
            digests: Digests::of(wanted),
        },
        head,
        is_over: false,
    };
    while let Some(piece) = pieces.blocking_recv() {
        receiving.take(piece, out)?;
    }
    match receiving.is_over {
        true => Ok(receiving.received),
        false => Err(SourceError::Endless.into()),
    }
}

fn tables_of(head: &pb::SnapshotHead) -> Tables {
    let compaction = |revision: i64| (revision >= 0).then_some(Revision(revision));
    Tables {
        compact_scheduled: compaction(head.compact_scheduled),
        compact_finished: compaction(head.compact_finished),
        version: head.storage_version.clone(),
        ..Tables::default()
    }
}

struct Receiving {
    packer: Packer,
    hashing: Hashing,
    last: RevisionPair,
    received: Received,
    head: pb::SnapshotHead,
    /// Whether the last piece has come.
    is_over: bool,
}

impl Receiving {
    fn take(&mut self, piece: Bytes, out: &mpsc::Sender<Chunk>) -> Result<(), CreateError> {
        let piece = pb::SnapshotPiece::decode(piece);
        let piece = piece.map_err(|_| damaged("a piece cannot be read"))?;
        if self.is_over || crc32c::crc32c(&piece.raw) != piece.crc32c {
            return Err(damaged("a piece is not what was sent"));
        }
        if let Some(end) = piece.end {
            return self.finish(&end, out);
        }
        let kind = u16::try_from(piece.kind).ok().and_then(Kind::of);
        let kind = kind.ok_or_else(|| damaged("a piece of no kind"))?;
        let mut uncounted = piece.uncounted.iter().copied().peekable();
        let mut rest = piece.raw;
        for place in 0..piece.messages {
            let bytes = prost::decode_length_delimiter(&mut rest);
            let bytes = bytes.ok().filter(|bytes| *bytes <= rest.len());
            let message = rest.split_to(bytes.ok_or_else(|| damaged("a message"))?);
            let counts = uncounted.next_if_eq(&place).is_none();
            let revision = self.message(kind, message.clone(), counts)?;
            send(out, self.packer.add_encoded(kind, &message, revision))?;
        }
        match rest.has_remaining() {
            true => Err(damaged("more than its messages")),
            false => Ok(()),
        }
    }

    /// Checks a message; returns its revision.
    fn message(&mut self, kind: Kind, message: Bytes, counts: bool) -> Result<i64, CreateError> {
        match kind {
            Kind::Records => {
                let record = record_of(read::<pb::Record>(message)?);
                self.record(&record, counts)?;
                return Ok(record.pair.main.0);
            }
            Kind::Leases => {
                read::<pb::Lease>(message)?;
                self.received.leases += 1;
            }
            Kind::Auth => {
                let row: AuthRow = auth_row(read::<pb::AuthRow>(message)?);
                self.received.tables.auth.push(row);
            }
            Kind::Members => drop(read::<pb::Member>(message)?),
            Kind::Notes | Kind::Moments => return Err(damaged("a piece of no kind")),
        }
        Ok(0)
    }

    fn record(&mut self, record: &RevisionRecord, counts: bool) -> Result<(), CreateError> {
        check_record(record.pair, record.tombstone, &record.encoded)?;
        if record.pair <= self.last || record.pair.main.0 > self.head.revision {
            return Err(damaged("a record out of order"));
        }
        self.last = record.pair;
        self.received.records += 1;
        if counts {
            self.hashing.add(record.lent());
        }
        self.received.digests.add(record);
        Ok(())
    }

    fn finish(
        &mut self,
        end: &pb::SnapshotEnd,
        out: &mpsc::Sender<Chunk>,
    ) -> Result<(), CreateError> {
        self.received.hash = self.hashing.finish();
        if (end.hash_kv, end.records) != (self.received.hash, self.received.records) {
            return Err(damaged("the records do not hash to what was sent"));
        }
        self.is_over = true;
        send(out, self.packer.close())
    }
}

fn read<M: Message + Default>(message: Bytes) -> Result<M, CreateError> {
    M::decode(message).map_err(|_| damaged("a message"))
}

fn damaged(what: &'static str) -> CreateError {
    SourceError::Damaged(what).into()
}

/// A receiver that is gone has an error of its own to tell.
fn send(out: &mpsc::Sender<Chunk>, chunk: Option<Chunk>) -> Result<(), CreateError> {
    match chunk {
        Some(chunk) => out.blocking_send(chunk).map_err(|_| CreateError::Untaken),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engram_server::types::{KeyValue, LeaseId};

    fn record(revision: i64) -> pb::Record {
        let revisions = (Revision(revision), Revision(revision), 1);
        let key = format!("key-{revision}");
        pb::Record {
            revision,
            key_value: KeyValue::encode_parts(key.as_bytes(), revisions, b"value", LeaseId::NONE),
            ..pb::Record::default()
        }
    }

    /// Two pieces of ten records each, and the end; the first record does not count.
    fn pieces() -> Vec<Bytes> {
        let mut hashing = Hashing::default();
        let mut pieces = Vec::new();
        for first in [2, 12] {
            let mut raw = Vec::new();
            for revision in first..first + 10 {
                let record = record(revision);
                record.encode_length_delimited(&mut raw).expect("room");
                if revision > 2 {
                    hashing.add(record_of(record).lent());
                }
            }
            pieces.push(pb::SnapshotPiece {
                kind: 1,
                messages: 10,
                crc32c: crc32c::crc32c(&raw),
                uncounted: if first == 2 { vec![0] } else { vec![] },
                raw: raw.into(),
                ..pb::SnapshotPiece::default()
            });
        }
        let end = pb::SnapshotEnd {
            records: 20,
            hash_kv: hashing.finish(),
        };
        pieces.push(pb::SnapshotPiece {
            end: Some(end),
            ..pb::SnapshotPiece::default()
        });
        let encoded = pieces.iter().map(|piece| piece.encode_to_vec().into());
        encoded.collect()
    }

    fn packed(pieces: &[Bytes]) -> Result<(Received, Vec<Chunk>), CreateError> {
        let (sender, waiting) = mpsc::channel(pieces.len());
        for piece in pieces {
            sender.try_send(piece.clone()).expect("room");
        }
        drop(sender);
        let head = pb::SnapshotHead {
            revision: 21,
            compact_scheduled: -1,
            compact_finished: -1,
            ..pb::SnapshotHead::default()
        };
        let (out, mut chunks) = mpsc::channel(8);
        let received = pack(head, waiting, BTreeSet::from([5, 21]), &out)?;
        drop(out);
        let chunks = std::iter::from_fn(|| chunks.try_recv().ok());
        Ok((received, chunks.collect()))
    }

    #[test]
    fn pieces_become_chunks_and_what_is_missing_or_changed_is_noticed() {
        let pieces = pieces();
        let (received, chunks) = packed(&pieces).expect("whole");
        assert_eq!((received.records, chunks.len()), (20, 1));
        assert_eq!((chunks[0].first_revision, chunks[0].last_revision), (2, 21));
        let (digests, last) = received.digests.finish(21);
        let revisions: Vec<_> = digests.keys().copied().collect();
        assert_eq!((revisions, digests.get(&21)), (vec![5, 21], last.as_ref()));
        for missing in 0..pieces.len() {
            let mut some = pieces.clone();
            some.remove(missing);
            assert!(packed(&some).is_err(), "without piece {missing}");
        }
        for (place, piece) in pieces.iter().enumerate() {
            for at in 0..piece.len() {
                let mut bytes = piece.to_vec();
                bytes[at] ^= 0x04;
                let mut changed = pieces.clone();
                changed[place] = bytes.into();
                assert!(packed(&changed).is_err(), "byte {at} of piece {place}");
            }
        }
        let twice = [&pieces[..], &pieces[..]].concat();
        assert!(packed(&twice).is_err());
    }
}
