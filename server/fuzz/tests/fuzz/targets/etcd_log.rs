//! An etcd's log as an adoption reads it: a sound one with damaged bytes, and records whose checksums fit.

use std::path::Path;
use std::sync::OnceLock;

use engram_adopt::fixture::{self, Writer};

use super::Target;
use crate::input::Input;
use crate::scratch;

pub const TARGET: Target = Target {
    name: "etcd_log",
    run,
    seeds,
    cases: 8_000,
};

/// The last entry of the first file, which its member had noted as committed: only the second may be torn.
const COMMITTED: u64 = 4;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 2 {
        0 => damaged(&mut input),
        _ => written(&mut input),
    }
}

/// The names and the bytes of the two files of a sound log.
fn sound() -> &'static [(String, Vec<u8>)] {
    static SOUND: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let dir = scratch::empty_dir("sound-etcd-log");
        let mut writer = Writer::new(&dir);
        (1..=4).for_each(|index| writer.entry_of(0, 1, index, &[]));
        writer.state(1, COMMITTED);
        writer.cut(5);
        (5..=9).for_each(|index| writer.entry_of(0, 2, index, &[]));
        writer.state(2, 7);
        writer.flush();
        let files = std::fs::read_dir(&dir).expect("it is there").flatten();
        let mut files: Vec<_> = files
            .map(|file| {
                let name = file.file_name().into_string().expect("a number");
                (name, std::fs::read(file.path()).expect("it can be read"))
            })
            .collect();
        files.sort();
        files
    })
}

fn damaged(input: &mut Input<'_>) {
    let dir = scratch::empty_dir("etcd-log");
    let which = input.below(2);
    for (place, (name, bytes)) in sound().iter().enumerate() {
        let mut bytes = bytes.clone();
        if place == which {
            input.damage(&mut bytes);
        }
        std::fs::write(dir.join(name), bytes).expect("memory can be written");
    }
    if let Some(last) = read(&dir, 0) {
        assert!((COMMITTED..=9).contains(&last), "it ends at {last}");
    }
}

fn written(input: &mut Input<'_>) {
    let dir = scratch::empty_dir("etcd-log");
    let mut writer = Writer::new(&dir);
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => writer.state(input.number(), input.number()),
            1 => writer.snapshot(input.number(), input.number()),
            2 => writer.cut(input.number()),
            3 => {
                let kind = i64::from(input.byte() % 8);
                writer.record(kind, input.piece());
            }
            _ => {
                let (kind, term, index) = (input.byte() % 4, input.number(), input.number());
                writer.entry_of(i32::from(kind), term, index, input.piece());
            }
        }
    }
    writer.flush();
    read(&dir, 0);
    read(&dir, 3);
}

/// The last entry of a log; none where it is refused.
fn read(dir: &Path, applied: u64) -> Option<u64> {
    match fixture::read(dir, applied) {
        Ok(indexes) => {
            let follow = |pair: &[u64]| pair[1] == pair[0] + 1;
            assert!(indexes.windows(2).all(follow), "entries do not follow");
            indexes.last().copied()
        }
        Err(refused) => {
            assert!(!refused.is_empty());
            None
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0, 0],
        vec![0, 1, 0, 40, 0, 1, 0xaa],
        vec![0, 1, 5, 40, 0, 0, 2],
        vec![0, 0, 135, 90, 0],
        // Entries, what was committed, a snapshot, another file, a record of no kind.
        vec![1, 4, 0, 1, 1, 0, 4, 0, 1, 2, 0, 0, 1, 2],
        vec![1, 4, 0, 1, 1, 0, 1, 3, 40, 0, 3, 40, 4, 0, 3, 41, 0],
        vec![1, 4, 0, 1, 1, 0, 2, 2, 4, 0, 1, 2, 0],
        vec![1, 3, 6, 3, 1, 2, 3],
        vec![1, 4, 0, 254, 0, 254, 0, 0, 0, 254, 0, 254, 0],
    ]
}
