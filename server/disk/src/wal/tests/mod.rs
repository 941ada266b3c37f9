//! Tests of the whole log, and what they share.

mod crashes;
mod damage;
mod frames;
mod mebibyte;
mod model;
mod operation;
mod owners;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use super::fixture::segment_path;
use super::recovery::{Log, read_log};
use super::segment::Name;
use super::{Entry, Options, Owner, Record, RecoverError, Recovered, Wal, open};

/// Small segments, nothing kept in memory, so that rotation and reads from disk are the rule.
fn small() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        cache_bytes: 0,
        ..Options::default()
    }
}

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn reopen(dir: &Path) -> (Wal, Recovered) {
    open(dir, small()).unwrap()
}

fn entry(index: u64, payload: &[u8]) -> Record {
    Record::Entry {
        index,
        term: 1 + index / 10,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn vote(text: &str) -> Record {
    Record::Vote(Bytes::copy_from_slice(text.as_bytes()))
}

fn purge(index: u64) -> Record {
    Record::Purge {
        index,
        payload: Bytes::from(format!("purged {index}")),
    }
}

/// Appends and waits until it is durable.
fn append(wal: &Wal, records: Vec<Record>) {
    let (sender, receiver) = mpsc::channel();
    wal.append(records, true, Box::new(move || sender.send(()).unwrap()));
    receiver
        .recv_timeout(Duration::from_secs(30))
        .expect("the append is acknowledged");
}

fn all_entries(wal: &Wal) -> Vec<Entry> {
    wal.entries(wal.first_index())
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Payload bytes of an entry that differ from all other entries' and are not compressible to zeros.
fn payload(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (index as usize * 31 + at * 7 + at / 251 + 1) as u8)
        .collect()
}

fn segment_numbers(dir: &Path) -> Vec<u64> {
    let names = crate::fs::file_names(dir).unwrap();
    let parsed = names.iter().filter_map(|name| Name::parse(name));
    parsed
        .filter_map(|name| {
            if let Name::Segment(number) = name {
                Some(number)
            } else {
                None
            }
        })
        .collect()
}

fn inspect(dir: &Path) -> Result<Log, RecoverError> {
    read_log(dir, &segment_numbers(dir), Owner::default(), 0)
}

fn copy_dir(from: &Path) -> TempDir {
    let to = temporary();
    for name in crate::fs::file_names(from).unwrap() {
        fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
