//! What tests and fuzzing look into: etcd's log written as etcd's encoder does, and read as an adoption does.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::log::{self, HardState, RaftEntry};
use crate::request;
use crate::segment::{Record, kind};
use crate::state::MemberRecord;
use crate::translate::{Rules, Translation};
use crate::types::MemberId;
use crate::types::request::Op;

/// The rules of a translation, as the flags' defaults have it.
const RULES: Rules = Rules {
    lease_ttl_min: 1,
    learners_max: 1,
};

/// Reads the log in `dir` behind entry `applied` and translates what follows, for a cluster of one: the
/// indexes of the entries.
///
/// # Errors
/// It is refused: what is said of it.
pub fn read(dir: &Path, applied: u64) -> Result<Vec<u64>, String> {
    let mut log = log::read(dir, applied).map_err(|error| error.to_string())?;
    log.follow(applied).map_err(|error| error.to_string())?;
    let member = MemberRecord {
        id: MemberId(7),
        peer_urls: vec!["http://127.0.0.1:2380".into()],
        ..MemberRecord::default()
    };
    let mut translation = Translation::of(&[member], &[], &[]);
    let mut indexes = Vec::new();
    for entry in &log.entries {
        let carried = translation.entry(entry, RULES);
        indexes.push(carried.map_err(|error| error.to_string())?.position.index);
    }
    Ok(indexes)
}

/// What an entry of etcd's asks for; none where it is refused, or asks for nothing.
#[must_use]
pub fn operation(data: &Bytes) -> Option<Op> {
    request::operation(data, RULES.lease_ttl_min).ok().flatten()
}

/// A log that is being written.
pub struct Writer {
    dir: PathBuf,
    chain: u32,
    file: Vec<u8>,
    names: Vec<String>,
}

impl Writer {
    /// Begins a log of member 7 of cluster 9.
    pub fn new(dir: &Path) -> Writer {
        let mut writer = Writer {
            dir: dir.to_path_buf(),
            chain: 0,
            file: Vec::new(),
            names: Vec::new(),
        };
        writer.begin(0);
        writer.snapshot(0, 0);
        writer
    }

    /// Begins another file, whose first entry is `index`.
    pub fn cut(&mut self, index: u64) {
        self.flush();
        self.file.clear();
        self.begin(index);
    }

    fn begin(&mut self, index: u64) {
        let name = format!("{:016x}-{index:016x}.wal", self.names.len());
        self.names.push(name);
        let record = Record {
            kind: kind::CHECKSUM,
            checksum: self.chain,
            data: bytes::Bytes::new(),
        };
        self.frame(&record);
        // `etcdserverpb.Metadata`: member 7, cluster 9.
        self.record(kind::METADATA, &[8, 7, 16, 9]);
    }

    /// Appends a record.
    pub fn record(&mut self, kind: i64, data: &[u8]) {
        self.chain = crc32c::crc32c_append(self.chain, data);
        let record = Record {
            kind,
            checksum: self.chain,
            data: bytes::Bytes::copy_from_slice(data),
        };
        self.frame(&record);
    }

    fn frame(&mut self, record: &Record) {
        let body = record.encode_to_vec();
        let padding = body.len().next_multiple_of(8) - body.len();
        let mut head = body.len() as u64;
        if padding > 0 {
            head |= (0x80 | padding as u64) << 56;
        }
        self.file.extend_from_slice(&head.to_le_bytes());
        self.file.extend_from_slice(&body);
        self.file.resize(self.file.len() + padding, 0);
    }

    /// Appends an entry; its data are its index and term, spelled out.
    pub fn entry(&mut self, term: u64, index: u64) {
        self.entry_of(
            0,
            term,
            index,
            format!("entry {index} of term {term}").as_bytes(),
        );
    }

    /// Appends an entry with these data.
    pub fn entry_of(&mut self, kind_of_entry: i32, term: u64, index: u64, data: &[u8]) {
        let entry = RaftEntry {
            kind: kind_of_entry,
            term,
            index,
            data: bytes::Bytes::copy_from_slice(data),
        };
        self.record(kind::ENTRY, &entry.encode_to_vec());
    }

    /// Appends what the member promised.
    pub fn state(&mut self, term: u64, commit: u64) {
        let state = HardState { term, commit };
        self.record(kind::STATE, &state.encode_to_vec());
    }

    /// Appends the mark of a snapshot.
    pub fn snapshot(&mut self, term: u64, index: u64) {
        let mut data = vec![8];
        prost::encoding::encode_varint(index, &mut data);
        data.push(16);
        prost::encoding::encode_varint(term, &mut data);
        self.record(kind::SNAPSHOT, &data);
    }

    /// Where the file in work ends.
    pub fn offset(&self) -> usize {
        self.file.len()
    }

    /// The path of the file in work.
    pub fn path(&self) -> PathBuf {
        self.dir.join(self.names.last().expect("one was begun"))
    }

    /// Writes the file in work, filled with zeroes.
    pub fn flush(&self) {
        let mut bytes = self.file.clone();
        bytes.resize(bytes.len() + 4096, 0);
        std::fs::write(self.path(), bytes).unwrap();
    }
}
