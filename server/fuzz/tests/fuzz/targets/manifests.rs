//! What says what a backup or a segment of the log archive is: damaged, and with any content under a checksum
//! that fits.

use bytes::Bytes;
use engram_archive::Segment;
use engram_backup::format::{Manifest, Verification};
use engram_objects::{Keys, sha256};

use super::{Target, numbered};

pub const TARGET: Target = Target {
    name: "manifests",
    run,
    seeds,
    cases: 12_000,
};

/// What an engramctl of format 4 wrote.
const GOLDEN: &str = include_str!("../../../../../backup/goldens/format-4.MANIFEST");

fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 5 {
        0 => drop(Manifest::decode(bytes)),
        1 => manifest(&sealed(bytes)),
        2 => {
            let golden = Manifest::decode(GOLDEN.as_bytes()).expect("it is sound");
            let said = Verification::decode(&golden, &sealed(bytes));
            if serde_json::from_slice::<serde_json::Value>(bytes).is_err() {
                let is_good = said.is_none_or(|said| said.good);
                assert!(!is_good, "what cannot be read counts for good");
            }
        }
        3 => segment(bytes),
        _ => {
            let keys = Keys::of(&[[7; 32]]);
            drop(Manifest::decrypt(&sealed(bytes), "demo/a/MANIFEST", &keys));
            // Behind the magic, which nothing else begins with.
            let object = [b"EGCR", bytes].concat();
            let read = keys.decrypt("demo/a/attempt/00000000.chunk", object.into());
            assert!(read.is_err(), "made without the key, and it is read");
        }
    }
}

fn manifest(bytes: &[u8]) {
    let Ok(once) = Manifest::decode(bytes) else {
        return;
    };
    let again = Manifest::decode(&once.encode());
    assert_eq!(again.as_ref(), Ok(&once));
    let summary = once.summary("somewhere".into(), None, None);
    assert_eq!(summary.revision, once.revision);
    drop((once.whose(), once.is_agreed(), once.attempt().len()));
}

/// The first line is the header, what follows it chunks.
fn segment(bytes: &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (line, chunks) = bytes.split_at(end);
    let whole = [&sealed(line)[..], chunks.get(1..).unwrap_or_default()].concat();
    if let Ok(segment) = Segment::read(&Bytes::from(whole)) {
        let taken = |_| Ok::<_, engram_archive::SegmentError>(());
        drop(segment.records(taken));
        drop(segment.notes(|_| Ok::<_, engram_archive::SegmentError>(())));
        drop(segment.moments());
    }
}

/// A line, and its checksum on the next.
fn sealed(line: &[u8]) -> Vec<u8> {
    [line, b"\n", sha256(line).as_bytes(), b"\n"].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let line = GOLDEN.lines().next().expect("a line");
    let header = r#"{"format":1,"whose":"cdf8/0","run":0,"sequence":0,"firstRevision":2,"lastRevision":1,"lastIndex":5,"term":2,"memberId":"1","firstMs":0,"lastMs":0,"records":0,"engramVersion":"0.1.0","chunks":[]}"#;
    let verified =
        r#"{"format":1,"attempt":"a","at":"2026-01-02T03:04:05Z","good":false,"reason":"x"}"#;
    let encrypted = include_str!("../../../../../backup/goldens/format-3.MANIFEST");
    let encrypted = encrypted.lines().next().expect("a line");
    numbered([GOLDEN, line, verified, header, encrypted])
}
