//! The pieces of a snapshot from another member: nothing is written but the files of a store, in their own
//! directory, which goes with the transfer.

use engram_snapshot::transfer::{Incoming, PIECE_BYTES_MAX, Piece};

use super::Target;
use crate::input::Input;
use crate::scratch;

pub const TARGET: Target = Target {
    name: "snapshot_pieces",
    run,
    seeds,
    cases: 3_000,
};

/// Names of a store's files, and names that try to be elsewhere.
const NAMES: [&str; 10] = [
    "CURRENT",
    "MANIFEST-000004",
    "000007.sst",
    "OPTIONS-000005",
    "../000008.sst",
    "000009.log",
    "",
    "/tmp/CURRENT",
    "a/000001.sst",
    "MANIFEST-",
];

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let dir = scratch::empty_dir("store.incoming");
    let mut incoming = Incoming::begin(&dir).expect("memory can be written");
    let (mut ends, mut taken) = (false, 0);
    while !input.is_empty() {
        let piece = piece(&mut input);
        if incoming.accept(&piece).is_err() {
            ends = true;
            break;
        }
        taken += piece.data.len() as u64;
    }
    assert_eq!(bytes_below(&dir), taken, "what was taken is what is there");
    match ends {
        true => drop(incoming),
        false => drop(incoming.finish()),
    }
    assert_eq!(
        bytes_below(&dir),
        0,
        "a transfer that is over leaves nothing"
    );
    let beside = std::fs::read_dir(scratch::path(""))
        .expect("it is there")
        .flatten();
    let names: Vec<_> = beside.map(|entry| entry.file_name()).collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().ends_with("sst")),
        "{names:?}"
    );
}

fn piece(input: &mut Input<'_>) -> Piece {
    let kind = input.byte();
    let file = match kind % 16 {
        place @ 0..=9 => NAMES[usize::from(place)].to_owned(),
        _ => String::from_utf8_lossy(input.piece()).into_owned(),
    };
    let offset = input.number();
    let data = match kind {
        240.. => vec![kind; PIECE_BYTES_MAX + 1].into(),
        _ => input.kept(),
    };
    let (end_of_file, is_damaged) = (input.byte().is_multiple_of(2), kind & 0x30 == 0x30);
    let mut piece = Piece::new(&file, offset, data, end_of_file);
    piece.crc32c ^= u32::from(is_damaged);
    piece
}

/// The bytes of all files below a directory.
fn bytes_below(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path().is_dir() {
            true => bytes_below(&entry.path()),
            false => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

fn seeds() -> Vec<Vec<u8>> {
    let current = [&[0, 0, 16][..], b"MANIFEST-000004\n", &[0]].concat();
    let manifest = [1, 0, 3, 1, 2, 3, 1, 1, 3, 2, 4, 5, 0];
    vec![
        current.clone(),
        [&current[..], &manifest].concat(),
        vec![2, 0, 1, 7, 1, 2, 1, 1, 7, 0],
        vec![4, 0, 1, 7, 0],
        vec![
            10, 9, b'0', b'0', b'0', b'0', b'0', b'1', b'.', b's', b's', 0, 1, 7, 0,
        ],
        vec![240, 0, 0],
        vec![2, 0, 0, 1],
        vec![0x32, 0, 1, 7, 0],
    ]
}
