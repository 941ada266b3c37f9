//! The chunks of backups and of the log archive: damaged ones, and some whose checksums fit.

use engram_objects::chunk::{ChunkError, Kind, Packer, Unpacked, unpack};
use engram_proto::backup::{AuthRow, Lease, Member, Moment, Note, Record};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "chunks",
    run,
    seeds,
    cases: 10_000,
};

const HEADER_BYTES: usize = 48;
const TRAILER_BYTES: usize = 4;
/// No message of a chunk that CI or a fuzzer makes is longer.
const RAW_BYTES_MAX: usize = 64 << 10;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => damaged(&mut input),
        1 => forged(&mut input),
        _ => packed(&mut input),
    }
}

/// Not a byte of a chunk can change unnoticed.
fn damaged(input: &mut Input<'_>) {
    let sound = sound();
    let mut bytes = sound.clone();
    input.damage(&mut bytes);
    assert_eq!(
        unpack(&bytes).is_ok(),
        bytes == sound,
        "damage is not noticed"
    );
    // The same with a checksum that fits, as one would write it who means harm.
    if bytes.len() > HEADER_BYTES + TRAILER_BYTES {
        fit(&mut bytes);
        if let Ok(unpacked) = unpack(&bytes) {
            read(&unpacked);
        }
    }
}

fn forged(input: &mut Input<'_>) {
    let (kind, sequence, messages) = (input.byte(), input.number(), u32::from(input.byte()));
    let raw = input.rest();
    let raw = &raw[..raw.len().min(RAW_BYTES_MAX)];
    let mut body = vec![0; zstd_safe::compress_bound(raw.len())];
    let compressed = zstd_safe::compress(&mut body[..], raw, 1).expect("the bound is enough");
    let mut bytes = b"EGBK\0\x01\0".to_vec();
    bytes.push(kind % 8);
    bytes.extend(sequence.to_be_bytes());
    let length = |bytes: usize| u32::try_from(bytes).expect("it is short");
    for word in [
        messages,
        length(raw.len()),
        length(compressed),
        crc32c::crc32c(raw),
    ] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend([0; 16]);
    bytes.extend(&body[..compressed]);
    bytes.extend([0; TRAILER_BYTES]);
    fit(&mut bytes);
    if let Ok(unpacked) = unpack(&bytes) {
        assert_eq!(unpacked.sequence, sequence);
        read(&unpacked);
    }
}

/// What is packed is read back.
fn packed(input: &mut Input<'_>) {
    let mut packer = Packer::fast();
    let mut records = Vec::new();
    while !input.is_empty() && records.len() < 200 {
        let record = record(input.number() as i64, input.piece());
        assert_eq!(packer.add(Kind::Records, &record, record.revision), None);
        records.push(record);
    }
    let chunk = packer.close();
    assert_eq!(chunk.is_none(), records.is_empty());
    let mut found: Vec<Record> = Vec::new();
    if let Some(chunk) = chunk {
        let unpacked = unpack(&chunk.bytes).expect("just packed");
        let take = |record| {
            found.push(record);
            Ok::<_, ChunkError>(())
        };
        unpacked.messages(take).expect("just packed");
    }
    assert_eq!(found, records);
}

fn fit(bytes: &mut [u8]) {
    let at = bytes.len() - TRAILER_BYTES;
    let sum = crc32c::crc32c(&bytes[..at]).to_be_bytes();
    bytes[at..].copy_from_slice(&sum);
}

fn read(unpacked: &Unpacked) {
    fn each<M: prost::Message + Default>(unpacked: &Unpacked) {
        drop(unpacked.messages(|_: M| Ok::<_, ChunkError>(())));
    }
    match unpacked.kind {
        Kind::Records => each::<Record>(unpacked),
        Kind::Leases => each::<Lease>(unpacked),
        Kind::Auth => each::<AuthRow>(unpacked),
        Kind::Members => each::<Member>(unpacked),
        Kind::Notes => each::<Note>(unpacked),
        Kind::Moments => each::<Moment>(unpacked),
    }
}

fn record(revision: i64, value: &[u8]) -> Record {
    Record {
        revision,
        sub: 0,
        tombstone: false,
        key_value: value.to_vec().into(),
    }
}

fn sound() -> Vec<u8> {
    let mut packer = Packer::default();
    for revision in 2..12 {
        packer.add(Kind::Records, &record(revision, &[7; 30]), revision);
    }
    packer.close().expect("records").bytes.to_vec()
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0],
        vec![0, 4, 60, 0, 1],
        // The lengths that the header states.
        vec![0, 0, 20, 0, 4, 0xff, 0xff, 0xff, 0xff],
        vec![0, 0, 24, 0, 4, 0, 0, 0, 1],
        vec![1, 1, 5, 1, 2, 8, 2],
        vec![1, 5, 0, 2, 3, 8, 1, 16, 0],
        vec![1, 0, 0, 0],
        vec![
            2, 2, 3, b'a', b'b', b'c', 3, 0, 255, 1, 0, 0, 0, 0, 0, 0, 0, 1, b'x',
        ],
    ]
}
