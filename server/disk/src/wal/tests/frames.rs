//! Frames and records as bytes.

use bytes::Bytes;
use proptest::prelude::*;

use crate::wal::frame::{
    FRAME_HEADER_BYTES, Position, apply_mask, chain_after, has_unwritten_sector, header_at, seal,
    sector_shares,
};
use crate::wal::record::{Borrowed, Record, decode};
use crate::wal::segment::{Name, SegmentId};

fn position(offset: usize) -> Position {
    Position {
        segment: SegmentId {
            number: 3,
            nonce: 77,
        },
        offset,
        sequence: 9,
        chain: 5,
    }
}

/// Mostly zeros, constants and short runs: what makes sectors look unwritten.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let run = (prop_oneof![Just(0u8), any::<u8>()], 1usize..1500)
        .prop_map(|(byte, count)| vec![byte; count]);
    prop::collection::vec(run, 0..6).prop_map(|runs| {
        let mut body = runs.concat();
        body.resize(body.len().next_multiple_of(8), 0);
        body
    })
}

proptest! {
    #[test]
    fn no_sector_of_a_sealed_frame_looks_unwritten_even_with_one_byte_cleared(
        body in body(), offset in (512usize..1100).prop_map(|offset| offset * 8),
    ) {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        frame.extend_from_slice(&body);
        let header = seal(&mut frame, &position(offset), 1);
        prop_assert!(!has_unwritten_sector(&frame, offset));
        for share in sector_shares(&frame, offset) {
            prop_assert!(share.iter().filter(|byte| **byte != 0).count() >= 2);
        }
        prop_assert_eq!(chain_after(5, &frame), header.chain);
        let mut file = vec![0; offset];
        file.extend_from_slice(&frame);
        prop_assert_eq!(header_at(position(0).segment, &file, offset), Some(header));
        apply_mask(&mut frame[FRAME_HEADER_BYTES..], header.mask);
        prop_assert_eq!(&frame[FRAME_HEADER_BYTES..], &body[..]);
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = header_at(position(0).segment, &bytes, 8);
    }
}

#[test]
fn a_frame_is_sound_only_where_it_was_written() {
    let mut frame = vec![1; FRAME_HEADER_BYTES + 64];
    seal(&mut frame, &position(4096), 1);
    let mut file = vec![0; 4096];
    file.extend_from_slice(&frame);
    file.extend_from_slice(&frame);
    let here = position(4096).segment;
    assert!(header_at(here, &file, 4096).is_some());
    assert!(header_at(here, &file, 4096 + frame.len()).is_none());
    assert!(header_at(SegmentId { nonce: 78, ..here }, &file, 4096).is_none());
    assert!(header_at(SegmentId { number: 4, ..here }, &file, 4096).is_none());
}

#[test]
fn usual_payloads_are_stored_as_they_are() {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    let payload = Bytes::from(vec![b'x'; 5000]);
    Record::Entry {
        index: 1,
        term: 1,
        payload,
    }
    .encode(&mut frame);
    assert_eq!(seal(&mut frame, &position(4096), 1).mask, 0);
}

#[test]
fn records_read_back_as_they_were_written() {
    let payload = Bytes::from_static(b"twelve bytes");
    let mut bytes = Vec::new();
    let records = [
        Record::Entry {
            index: 7,
            term: 3,
            payload: payload.clone(),
        },
        Record::Vote(payload.clone()),
        Record::Committed(Bytes::new()),
        Record::TruncateAfter { index: None },
        Record::TruncateAfter { index: Some(4) },
        Record::Purge {
            index: 9,
            payload: payload.clone(),
        },
    ];
    records.iter().for_each(|record| record.encode(&mut bytes));
    assert_eq!(
        bytes.len(),
        records.iter().map(Record::encoded_bytes).sum::<usize>()
    );
    let mut found = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let next = decode(rest).unwrap();
        found.push(next.record);
        rest = &rest[next.bytes..];
    }
    let expected = [
        Borrowed::Entry {
            index: 7,
            term: 3,
            payload: &payload,
        },
        Borrowed::Vote(&payload),
        Borrowed::Committed(&[]),
        Borrowed::Truncate { from: 0 },
        Borrowed::Truncate { from: 5 },
        Borrowed::Purge {
            index: 9,
            payload: &payload,
        },
    ];
    assert_eq!(found, expected);
}

#[test]
fn every_changed_byte_of_a_record_is_noticed_but_padding() {
    let mut bytes = Vec::new();
    Record::Entry {
        index: 7,
        term: 3,
        payload: Bytes::from_static(b"five!"),
    }
    .encode(&mut bytes);
    for at in 0..bytes.len() - 3 {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(decode(&changed).is_none(), "byte {at}");
    }
}

#[test]
fn names_are_read_only_as_they_are_written() {
    let dir = std::path::Path::new("d");
    for name in [
        Name::Segment(1),
        Name::Spare(0xabc),
        Name::Unfinished(u64::MAX),
    ] {
        let path = name.path(dir);
        let text = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(Name::parse(text), Some(name));
    }
    for name in [
        "LOCK",
        "1.wal",
        "000000000000000A.wal",
        "+00000000000001.wal",
        "spare-.zero",
    ] {
        assert_eq!(Name::parse(name), None, "{name}");
    }
}
