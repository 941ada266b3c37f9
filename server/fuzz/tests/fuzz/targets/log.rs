//! The log as a start reads it: a sound one with damaged bytes, and segments whose checksums fit though
//! nobody would have written them.

use std::sync::OnceLock;
use std::sync::mpsc;

use bytes::Bytes;
use engram_disk::wal::fixture::{self, FORGED_BYTES, Found};
use engram_disk::wal::{self, Options, Record};

use super::{Target, damage_at};
use crate::input::Input;
use crate::scratch;

pub const TARGET: Target = Target {
    name: "log",
    run,
    seeds,
    cases: 12_000,
};

/// Where frames begin.
const HEADER_BYTES: usize = 4096;
/// Zeros in place of so many bytes may be a sector that the disk never wrote: no share of one is smaller.
const SHARE_MIN: usize = 8;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 2 {
        0 => damaged(&mut input),
        _ => forged(&mut input),
    }
}

/// A sound log: its bytes, and what is in it.
fn sound() -> &'static (Vec<u8>, Found) {
    static SOUND: OnceLock<(Vec<u8>, Found)> = OnceLock::new();
    SOUND.get_or_init(|| {
        let dir = scratch::empty_dir("sound-log");
        let options = Options {
            segment_bytes: 16 << 10,
            cache_bytes: 0,
            ..Options::default()
        };
        let (log, _) = wal::open(&dir, options).expect("an empty directory");
        for records in written() {
            let (done, durable) = mpsc::channel();
            log.append(
                records,
                true,
                Box::new(move || done.send(()).expect("somebody waits")),
            );
            durable.recv().expect("it is durable");
        }
        log.close();
        let bytes = std::fs::read(fixture::segment_path(&dir, 1)).expect("its segment");
        (bytes, fixture::read(&dir, &[1]).expect("it is sound"))
    })
}

/// Frames of several shapes.
fn written() -> Vec<Vec<Record>> {
    let entry = |index, payload: Vec<u8>| Record::Entry {
        index,
        term: 1 + index / 4,
        payload: payload.into(),
    };
    vec![
        vec![
            Record::Vote(Bytes::from_static(b"a vote")),
            entry(0, b"first".to_vec()),
        ],
        vec![entry(1, vec![7; 700]), entry(2, vec![])],
        vec![
            entry(3, vec![0; 1500]),
            Record::Committed(Bytes::from_static(b"2")),
        ],
        vec![
            Record::TruncateAfter { index: Some(2) },
            entry(3, vec![0xff; 20]),
        ],
        (4..12)
            .map(|index| entry(index, vec![index as u8; 90]))
            .collect(),
        vec![entry(12, vec![0; 1200]), entry(13, vec![3; 900])],
    ]
}

fn damaged(input: &mut Input<'_>) {
    let (sound, truth) = sound();
    let mut bytes = sound.clone();
    input.damage(&mut bytes);
    let Some(found) = read(&[bytes.clone()]) else {
        return;
    };
    assert!(found.end <= truth.end, "more is read than was written");
    assert_eq!(bytes[..found.end], sound[..found.end], "damage is read");
    if found.end == truth.end {
        assert_eq!(
            (&found.entries, &found.restated),
            (&truth.entries, &truth.restated)
        );
        return;
    }
    let lost = found.end..truth.end;
    let zeroed = |at: usize| {
        let share = at..at + SHARE_MIN;
        bytes[share.clone()].iter().all(|byte| *byte == 0)
            && sound[share].iter().any(|byte| *byte != 0)
    };
    let is_torn = lost.step_by(SHARE_MIN).any(zeroed);
    assert!(
        is_torn,
        "what was durable is cut at {} though no sector is missing",
        found.end
    );
}

fn forged(input: &mut Input<'_>) {
    let numbers = 1 + input.below(3);
    let segments: Vec<Vec<u8>> = (1..=numbers).map(|number| segment(number, input)).collect();
    if let Some(found) = read(&segments) {
        let follow = |pair: &[wal::EntryId]| pair[1].index == pair[0].index + 1;
        assert!(
            found.entries.windows(2).all(follow),
            "entries do not follow"
        );
        assert!(found.end <= FORGED_BYTES);
    }
}

fn segment(number: usize, input: &mut Input<'_>) -> Vec<u8> {
    let (sequence, next_index) = match input.byte() % 4 {
        0 => (input.number(), input.number()),
        _ => (1, 0),
    };
    let mut frames = Vec::new();
    for _ in 0..input.below(8) {
        let mut body = Vec::new();
        let mut records = 0;
        for _ in 0..input.below(6) {
            body.extend(record(input));
            records += 1;
        }
        if input.byte() == 1 {
            (records, body) = (u32::from(input.byte()), input.piece().to_vec());
        }
        frames.push((records, body));
    }
    fixture::forged(number as u64, sequence, next_index, &frames)
}

fn record(input: &mut Input<'_>) -> Vec<u8> {
    fixture::record(&match input.byte() % 6 {
        0 => Record::Vote(input.kept()),
        1 => Record::Committed(input.kept()),
        2 => Record::TruncateAfter {
            index: (input.byte() > 0).then(|| input.number()),
        },
        3 => Record::Purge {
            index: input.number(),
            payload: input.kept(),
        },
        _ => Record::Entry {
            index: input.number(),
            term: input.number(),
            payload: input.kept(),
        },
    })
}

/// What a start reads of these segments; whatever else looks at them does not fail otherwise either.
fn read(segments: &[Vec<u8>]) -> Option<Found> {
    let dir = scratch::empty_dir("log");
    let numbers: Vec<u64> = (1..=segments.len() as u64).collect();
    for (number, bytes) in numbers.iter().zip(segments) {
        std::fs::write(fixture::segment_path(&dir, *number), bytes).expect("memory can be written");
    }
    let found = fixture::read(&dir, &numbers);
    let looked = wal::look(&dir, &mut |_| ());
    let dumped = wal::dump(&dir, &mut |_| ());
    if found.is_ok() {
        assert!(
            looked.is_ok(),
            "a sound log cannot be looked at: {looked:?}"
        );
        assert!(dumped.is_ok(), "a sound log cannot be dumped: {dumped:?}");
    }
    match found {
        Ok(found) => Some(found),
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            None
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0],
        // A byte is another one; a sector of the last frame is missing; a whole frame; the file is short.
        damage_at(HEADER_BYTES + 40, &[0, 1, 0xaa]),
        damage_at(7168, &[5, 0, 2]),
        damage_at(HEADER_BYTES + 512, &[5, 0, 8]),
        damage_at(9000, &[135]),
        damage_at(HEADER_BYTES, &[4, 3]),
        // Forged: an entry, a truncation, a purge; two segments; numbers without room to count on.
        vec![1, 0, 1, 2, 1, 4, 0, 1, 3, b'a', b'b', b'c', 0, 0],
        vec![1, 0, 1, 1, 3, 4, 0, 1, 1, b'a', 2, 1, 0, 3, 5, 1, b'p', 0],
        vec![
            1, 1, 1, 1, 1, 4, 0, 1, 1, b'a', 0, 0, 2, 1, 1, 1, 4, 1, 1, 1, b'b', 0,
        ],
        vec![1, 0, 0, 254, 0, 254, 0, 1, 1, 4, 254, 0, 254, 0, 1, b'a', 0],
        vec![1, 0, 1, 1, 0, 1, 2, 1, 9],
    ]
}
