//! Whether an etcd's directory (`member`) holds anything that somebody wrote, looked at from outside.
//!
//! An etcd that is started on Engram's data directory finds no `member`, makes one, and begins a
//! cluster of its own beside the data. What it wrote then is its own: who is a member, and of which
//! version. Only where nothing else is found, and everything was understood, is it said that nobody
//! wrote anything; every doubt counts as data.
//!
//! Source of the format: etcd's `server/storage/wal` (`encoder.go`, `record.proto`), `raft.proto`
//! and `raft_internal.proto`.

use std::io;
use std::path::Path;

use crate::fs;

/// What etcd calls its first segment.
const FIRST_SEGMENT: &str = "0000000000000000-0000000000000000.wal";
/// What is read of a segment: the records of a start are a few kilobytes of it.
const RECORDS_MAX: u64 = 1 << 20;

/// What such a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// No file at all.
    Nothing,
    /// What an etcd writes when it starts, and nothing of a client.
    NothingWritten,
    /// Data, or what was not understood.
    Data,
}

/// Looks at the directory `member` of an etcd. Nothing is changed.
pub fn look(member: &Path) -> Contents {
    // What cannot be read is not known to be empty.
    try_look(member).unwrap_or(Contents::Data)
}

fn try_look(member: &Path) -> io::Result<Contents> {
    let (wal, snap) = (member.join("wal"), member.join("snap"));
    let names = |dir: &Path| match fs::is_dir(dir) {
        true => fs::file_names(dir),
        false => Ok(Vec::new()),
    };
    let (logs, snapshots) = (names(&wal)?, names(&snap)?);
    let is_known = |name: &String| name == "wal" || name == "snap";
    if !fs::file_names(member)?.iter().all(is_known) {
        return Ok(Contents::Data);
    }
    if logs.is_empty() && snapshots.is_empty() {
        return Ok(Contents::Nothing);
    }
    // Files made ahead of their use end in `.tmp`; a `.snap` is a snapshot of data.
    let mut segments = logs.iter().filter(|name| !name.ends_with(".tmp"));
    let begins = segments.next().is_some_and(|name| name == FIRST_SEGMENT);
    let known_snapshots = snapshots.iter().all(|name| name == "db");
    if !begins || segments.next().is_some() || !known_snapshots {
        return Ok(Contents::Data);
    }
    let (bytes, _) = fs::read_first(&wal.join(FIRST_SEGMENT), RECORDS_MAX)?;
    Ok(match records(&bytes) == Some(()) {
        true => Contents::NothingWritten,
        false => Contents::Data,
    })
}

/// Reads records up to the zeroes that a segment is filled with; nothing where one holds data, is
/// not understood, or where the bytes end before the zeroes begin.
fn records(mut bytes: &[u8]) -> Option<()> {
    loop {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let head = u64::from_le_bytes(*head);
        if head == 0 {
            return Some(());
        }
        // The length in 56 bits; the highest bit says that padding follows, the next ones how much.
        let len = usize::try_from(head & ((1 << 56) - 1)).ok()?;
        let padding = match head >> 63 {
            0 => 0,
            _ => usize::try_from((head >> 56) & 7).ok()?,
        };
        let record = rest.get(..len)?;
        bytes = rest.get(len + padding..)?;
        harmless_record(record)?;
    }
}

/// `walpb.Record`: 1 its type, 2 a checksum, 3 its data.
fn harmless_record(record: &[u8]) -> Option<()> {
    const METADATA: u64 = 1;
    const ENTRY: u64 = 2;
    const STATE: u64 = 3;
    const CHECKSUM: u64 = 4;
    const SNAPSHOT: u64 = 5;
    let fields = fields(record)?;
    let data = bytes_of(&fields, 3);
    match number_of(&fields, 1) {
        METADATA | STATE | CHECKSUM => Some(()),
        ENTRY => harmless_entry(data),
        // `walpb.Snapshot`: 1 the index of the last entry in it.
        SNAPSHOT => (number_of(&self::fields(data)?, 1) == 0).then_some(()),
        _ => None,
    }
}

/// `raftpb.Entry`: 1 its type (0 a request, 1 and 2 a change of the members), 4 its data.
fn harmless_entry(entry: &[u8]) -> Option<()> {
    let fields = fields(entry)?;
    match number_of(&fields, 1) {
        0 => harmless_request(bytes_of(&fields, 4)),
        1 | 2 => Some(()),
        _ => None,
    }
}

/// `InternalRaftRequest`: 1 and 100 say who asks, 1300 the cluster's version, 1301 what a member
/// tells of itself, 10 is of alarms. A leader's first entry is empty.
fn harmless_request(request: &[u8]) -> Option<()> {
    fields(request)?.into_iter().try_for_each(|(field, value)| {
        match (field, value) {
            (1 | 100 | 1300 | 1301, _) => Some(()),
            // Which alarms are raised is asked through the log; 1 is the action, 0 that question.
            (10, Value::Bytes(alarm)) => (number_of(&fields(alarm)?, 1) == 0).then_some(()),
            _ => None,
        }
    })
}

/// A field's value.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, by number. Nothing where it is none.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(len)?;
                message = rest;
                Value::Bytes(bytes)
            }
            // None of these messages has another kind.
            _ => return None,
        };
        fields.push((tag >> 3, value));
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The number in a field; 0 where it is not there.
fn number_of(fields: &[(u64, Value<'_>)], wanted: u64) -> u64 {
    let found = fields.iter().rev().find_map(|(field, value)| match value {
        Value::Number(number) if *field == wanted => Some(*number),
        _ => None,
    });
    found.unwrap_or(0)
}

/// The bytes in a field; none where it is not there.
fn bytes_of<'a>(fields: &[(u64, Value<'a>)], wanted: u64) -> &'a [u8] {
    let found = fields.iter().rev().find_map(|(field, value)| match value {
        Value::Bytes(bytes) if *field == wanted => Some(*bytes),
        _ => None,
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn message(fields: &[(u64, Value<'_>)]) -> Vec<u8> {
        let mut out = Vec::new();
        let put = |out: &mut Vec<u8>, mut value: u64| {
            while value >= 0x80 {
                out.push(value.to_le_bytes()[0] | 0x80);
                value >>= 7;
            }
            out.push(value.to_le_bytes()[0]);
        };
        for (field, value) in fields {
            match value {
                Value::Number(number) => {
                    put(&mut out, field << 3);
                    put(&mut out, *number);
                }
                Value::Bytes(bytes) => {
                    put(&mut out, field << 3 | 2);
                    put(&mut out, bytes.len() as u64);
                    out.extend_from_slice(bytes);
                }
            }
        }
        out
    }

    /// A record as etcd frames it: padded to eight bytes.
    fn record(kind: u64, data: &[u8]) -> Vec<u8> {
        let body = message(&[
            (1, Value::Number(kind)),
            (2, Value::Number(77)),
            (3, Value::Bytes(data)),
        ]);
        let padding = body.len().next_multiple_of(8) - body.len();
        let mut head = body.len() as u64;
        if padding > 0 {
            head |= (0x80 | padding as u64) << 56;
        }
        let mut framed = head.to_le_bytes().to_vec();
        framed.extend_from_slice(&body);
        framed.resize(framed.len() + padding, 0);
        framed
    }

    fn entry(kind: u64, data: &[u8]) -> Vec<u8> {
        let entry = message(&[
            (1, Value::Number(kind)),
            (2, Value::Number(2)),
            (3, Value::Number(5)),
            (4, Value::Bytes(data)),
        ]);
        record(2, &entry)
    }

    fn request(field: u64) -> Vec<u8> {
        let header = message(&[(1, Value::Number(7))]);
        message(&[
            (100, Value::Bytes(&header)),
            (field, Value::Bytes(b"anything")),
        ])
    }

    /// What a start writes, then `more`.
    fn segment(more: &[u8]) -> Vec<u8> {
        let mut bytes = [
            record(4, b""),
            record(1, b"metadata"),
            record(5, b""),
            entry(1, b"a member"),
            entry(0, b""),
            entry(0, &request(1301)),
            entry(0, &request(1300)),
            record(3, &message(&[(1, Value::Number(2))])),
        ]
        .concat();
        bytes.extend_from_slice(more);
        bytes.resize(bytes.len() + 4096, 0);
        bytes
    }

    fn directory(bytes: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("wal")).unwrap();
        fs::create_dir(dir.path().join("snap")).unwrap();
        fs::write(dir.path().join("wal").join(FIRST_SEGMENT), bytes).unwrap();
        fs::write(dir.path().join("wal/0.tmp"), "").unwrap();
        fs::write(dir.path().join("snap/db"), "pages").unwrap();
        dir
    }

    #[test]
    fn what_a_start_writes_is_nothing() {
        let dir = directory(&segment(b""));
        assert_eq!(look(dir.path()), Contents::NothingWritten);
        let asked = message(&[(10, Value::Bytes(b""))]);
        let dir = directory(&segment(&entry(0, &asked)));
        assert_eq!(look(dir.path()), Contents::NothingWritten, "alarms listed");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(look(empty.path()), Contents::Nothing);
        fs::create_dir(empty.path().join("wal")).unwrap();
        assert_eq!(look(empty.path()), Contents::Nothing);
    }

    #[test]
    fn what_a_client_wrote_is_data() {
        // A put, a transaction, a lease, users, a compaction.
        let raise = message(&[(1, Value::Number(1))]);
        let raised = message(&[(10, Value::Bytes(&raise))]);
        let dir = directory(&segment(&entry(0, &raised)));
        assert_eq!(look(dir.path()), Contents::Data);
        for field in [2, 4, 6, 8, 1000, 7] {
            let dir = directory(&segment(&entry(0, &request(field))));
            assert_eq!(look(dir.path()), Contents::Data, "field {field}");
        }
        let snapshot = message(&[(1, Value::Number(9))]);
        let dir = directory(&segment(&record(5, &snapshot)));
        assert_eq!(look(dir.path()), Contents::Data);
    }

    #[test]
    fn what_is_not_understood_is_data() {
        let whole = segment(b"");
        for bytes in [
            &b"not a log at all"[..],
            b"",
            &whole[..40],
            &segment(&[0xff; 16]),
        ] {
            assert_eq!(look(directory(bytes).path()), Contents::Data);
        }
        for stranger in [
            "note.txt",
            "wal/0000000000000001-0000000000001234.wal",
            "snap/0000000000000002-0000000000000005.snap",
        ] {
            let dir = directory(&whole);
            fs::write(dir.path().join(stranger), "x").unwrap();
            assert_eq!(look(dir.path()), Contents::Data, "{stranger}");
        }
        let dir = directory(&whole);
        fs::remove_file(dir.path().join("wal").join(FIRST_SEGMENT)).unwrap();
        assert_eq!(look(dir.path()), Contents::Data, "a log elsewhere");
        assert_eq!(look(&dir.path().join("nowhere")), Contents::Data);
    }
}
