//! A segment: two lines that say what it is (a JSON object, and the SHA-256 of that line), then the
//! chunks that the first line names, one behind the other: records, notes, moments.
//!
//! Unknown fields are left alone, so that a later version can add to them; a change of meaning is
//! another format number.

use bytes::Bytes;
use engram_objects::chunk::{Chunk, ChunkError, Kind, Packer, Unpacked, unpack_known};
use engram_objects::{Whose, sealed, sha256, sha256_of};
use engram_proto::backup as pb;
use serde::{Deserialize, Serialize};

/// The format's number.
pub const FORMAT: u32 = 1;
/// Bytes within which the two lines end: they grow with the number of chunks alone.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why bytes are no segment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SegmentError {
    /// Bytes were changed, or are missing.
    #[error("it is damaged: a checksum does not fit")]
    Damaged,
    /// Another version wrote it.
    #[error("it has format {0}, and {FORMAT} is read here: use a newer engramctl")]
    Format(u32),
    /// A chunk of it cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// A chunk, as the header names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// What it holds: `records`, `notes`, `moments`.
    pub kind: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of its messages.
    pub raw_bytes: u64,
    /// How many messages it holds.
    pub messages: u32,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// What a segment is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Of which cluster, and which of the clusters that had its id.
    pub whose: Whose,
    /// Which of the chains of that cluster; a gap ends one.
    pub run: u32,
    /// Its place in the chain, from 0.
    pub sequence: u64,
    /// SHA-256 of the header before it, hexadecimal; none for the first of a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<String>,
    /// The first revision whose records it holds: the one after its predecessor's last.
    pub first_revision: i64,
    /// The last one; where nothing was written, the one before the first.
    pub last_revision: i64,
    /// Of what was applied at `last_revision`, up to which entry of the log it is in here.
    pub last_index: u64,
    /// The term of the leader that wrote it, and its id, hexadecimal.
    pub term: u64,
    /// See `term`.
    pub member_id: String,
    /// Milliseconds since 1970 of its first moment; of the last before it, where it has none.
    pub first_ms: i64,
    /// The same of its last one.
    pub last_ms: i64,
    /// Of the first of a chain: SHA-256 of the records of the revision before `first_revision`; none
    /// where a compaction took them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// SHA-256 of the records of `last_revision`, as a backup's `lastRecords`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_records: Option<String>,
    /// How many records it holds.
    pub records: u64,
    /// The version of the engram that wrote it.
    pub engram_version: String,
    /// Its chunks, in order.
    pub chunks: Vec<Part>,
}

impl Header {
    /// Whether a note of this entry and revision lies in this segment's chain up to its end.
    pub fn covers(&self, index: u64, revision: i64) -> bool {
        revision < self.last_revision
            || (revision == self.last_revision && index <= self.last_index)
    }
}

/// SHA-256 of a revision's records (their encoded key-values, in order), hexadecimal.
pub fn digest<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> String {
    sha256_of(records)
}

/// Who writes a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Of which cluster.
    pub whose: Whose,
    /// The leader's term.
    pub term: u64,
    /// Its id, hexadecimal.
    pub member_id: String,
    /// Its version.
    pub version: String,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its last revision.
    pub revision: i64,
    /// Up to which entry what was applied there is in it.
    pub index: u64,
}

/// A segment in the making: records first, ascending; then notes, then moments.
#[derive(Debug)]
pub struct Builder {
    header: Header,
    packer: Packer,
    chunks: Vec<Chunk>,
    raw_bytes: usize,
    current: Vec<Bytes>,
    current_revision: i64,
    moments: u64,
}

/// A segment, ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// What it is.
    pub header: Header,
    /// SHA-256 of the header's line, hexadecimal: its successor's `predecessor`.
    pub hash: String,
    /// The object.
    pub bytes: Bytes,
}

impl Builder {
    /// The first segment of chain `run`, which begins after `start`; `before` are the records there.
    pub fn first(
        writer: &Writer,
        run: u32,
        start: Cut,
        now_ms: i64,
        before: Option<String>,
    ) -> Builder {
        let header = Header {
            format: FORMAT,
            whose: writer.whose.clone(),
            run,
            sequence: 0,
            predecessor: None,
            first_revision: start.revision + 1,
            last_revision: start.revision,
            last_index: start.index,
            term: writer.term,
            member_id: writer.member_id.clone(),
            first_ms: now_ms,
            last_ms: now_ms,
            last_records: before.clone(),
            before,
            records: 0,
            engram_version: writer.version.clone(),
            chunks: Vec::new(),
        };
        Builder::of(header)
    }

    /// The segment after `last`, whose header has that hash.
    pub fn after(writer: &Writer, last: &Header, hash: &str) -> Builder {
        let header = Header {
            format: FORMAT,
            whose: writer.whose.clone(),
            sequence: last.sequence + 1,
            predecessor: Some(hash.to_owned()),
            first_revision: last.last_revision + 1,
            term: writer.term,
            member_id: writer.member_id.clone(),
            first_ms: last.last_ms,
            before: None,
            records: 0,
            engram_version: writer.version.clone(),
            chunks: Vec::new(),
            ..last.clone()
        };
        Builder::of(header)
    }

    fn of(header: Header) -> Builder {
        Builder {
            current_revision: header.last_revision,
            header,
            packer: Packer::fast(),
            chunks: Vec::new(),
            raw_bytes: 0,
            current: Vec::new(),
            moments: 0,
        }
    }

    /// Bytes of records taken so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// The revision of the last record taken; before the first, the predecessor's last.
    pub fn revision(&self) -> i64 {
        self.current_revision
    }

    /// Takes the next record. False: a revision is missing before it, and it was not taken.
    #[must_use]
    pub fn record(&mut self, record: &pb::Record) -> bool {
        if record.revision != self.current_revision {
            if record.revision != self.current_revision + 1 {
                return false;
            }
            self.current_revision = record.revision;
            self.current.clear();
        }
        self.current.push(record.key_value.clone());
        self.raw_bytes += record.key_value.len();
        self.header.records += 1;
        let full = self.packer.add(Kind::Records, record, record.revision);
        self.chunks.extend(full);
        true
    }

    /// Takes the next note.
    pub fn note(&mut self, note: &pb::Note) {
        self.chunks.extend(self.packer.add(Kind::Notes, note, 0));
    }

    /// Takes the next moment. Clocks of leaders differ: time never goes back in a chain.
    pub fn moment(&mut self, mut moment: pb::Moment) {
        moment.unix_ms = moment.unix_ms.max(self.header.last_ms);
        if self.moments == 0 {
            self.header.first_ms = moment.unix_ms;
        }
        self.moments += 1;
        self.header.last_ms = moment.unix_ms;
        self.chunks
            .extend(self.packer.add(Kind::Moments, &moment, 0));
    }

    /// The segment, with everything up to `cut`.
    pub fn finish(mut self, cut: Cut) -> Built {
        self.chunks.extend(self.packer.close());
        let mut header = self.header;
        if !self.current.is_empty() {
            header.last_records = Some(digest(self.current.iter().map(Bytes::as_ref)));
        }
        header.last_revision = cut.revision;
        header.last_index = cut.index;
        header.chunks = self.chunks.iter().map(part).collect();
        // What it was packed in is of no more use, and as large as what is made now.
        drop(self.packer);
        let mut bytes = sealed::seal(&header);
        let hash = hash_of(&bytes);
        bytes.reserve_exact(self.chunks.iter().map(|chunk| chunk.bytes.len()).sum());
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.bytes);
        }
        Built {
            header,
            hash,
            bytes: bytes.into(),
        }
    }
}

fn part(chunk: &Chunk) -> Part {
    Part {
        kind: chunk.kind.name().to_owned(),
        bytes: u64::try_from(chunk.bytes.len()).expect("a length fits"),
        raw_bytes: chunk.raw_bytes,
        messages: chunk.messages,
        sha256: sha256(&chunk.bytes),
    }
}

/// SHA-256 of the first line.
fn hash_of(head: &[u8]) -> String {
    let line = head.split(|byte| *byte == b'\n').next();
    sha256(line.unwrap_or_default())
}

/// Reads the two lines at the beginning of `bytes`: the header, its hash, and their length.
///
/// # Errors
/// See [`SegmentError`].
pub(crate) fn read_head(bytes: &[u8]) -> Result<(Header, String, usize), SegmentError> {
    #[derive(Deserialize)]
    struct Any {
        format: u32,
    }
    let mut breaks = bytes.iter().enumerate().take(HEAD_BYTES_MAX);
    let mut line_end = || breaks.find(|(_, byte)| **byte == b'\n');
    let end = line_end().and_then(|_| line_end());
    let (end, _) = end.ok_or(SegmentError::Damaged)?;
    let lines = &bytes[..=end];
    let line = sealed::unseal(lines).ok_or(SegmentError::Damaged)?;
    let any: Any = sealed::read(line).ok_or(SegmentError::Damaged)?;
    if any.format != FORMAT {
        return Err(SegmentError::Format(any.format));
    }
    let header: Header = sealed::read(line).ok_or(SegmentError::Damaged)?;
    Ok((header, hash_of(lines), end + 1))
}

/// A segment that was read: every byte of it counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What it is.
    pub header: Header,
    /// SHA-256 of the header's line, hexadecimal.
    pub hash: String,
    chunks: Vec<Unpacked>,
}

impl Segment {
    /// Reads a segment.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn read(bytes: &Bytes) -> Result<Segment, SegmentError> {
        let (header, hash, mut at) = read_head(bytes)?;
        let mut chunks = Vec::new();
        for (place, part) in header.chunks.iter().enumerate() {
            let length = usize::try_from(part.bytes).map_err(|_| SegmentError::Damaged)?;
            let end = at.checked_add(length).ok_or(SegmentError::Damaged)?;
            let chunk = bytes.get(at..end).ok_or(SegmentError::Damaged)?;
            if sha256(chunk) != part.sha256 {
                return Err(SegmentError::Damaged);
            }
            let unpacked = unpack_known(chunk)?;
            let is_expected = unpacked.kind.name() == part.kind
                && u64::try_from(place).is_ok_and(|place| place == unpacked.sequence);
            if !is_expected {
                return Err(ChunkError::Nonsense("it is another chunk").into());
            }
            chunks.push(unpacked);
            at = end;
        }
        match at == bytes.len() {
            true => Ok(Segment {
                header,
                hash,
                chunks,
            }),
            false => Err(SegmentError::Damaged),
        }
    }

    /// Calls `take` with each record, in order.
    ///
    /// # Errors
    /// They are not the revisions that the header claims, or `take` failed.
    pub fn records<E: From<SegmentError>>(
        &self,
        mut take: impl FnMut(pb::Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let nonsense = |what| SegmentError::Chunk(ChunkError::Nonsense(what));
        let mut last = self.header.first_revision - 1;
        let mut count = 0;
        self.of_kind(Kind::Records, |record: pb::Record| {
            if record.revision != last && record.revision != last + 1 {
                return Err(nonsense("a revision is missing in it").into());
            }
            last = record.revision;
            count += 1;
            take(record)
        })?;
        match last == self.header.last_revision && count == self.header.records {
            true => Ok(()),
            false => Err(nonsense("it holds other records than it says").into()),
        }
    }

    /// Calls `take` with each note, in order.
    ///
    /// # Errors
    /// One cannot be read, or `take` failed.
    pub fn notes<E: From<SegmentError>>(
        &self,
        take: impl FnMut(pb::Note) -> Result<(), E>,
    ) -> Result<(), E> {
        self.of_kind(Kind::Notes, take)
    }

    /// Its moments, in order.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn moments(&self) -> Result<Vec<pb::Moment>, SegmentError> {
        let mut moments = Vec::new();
        self.of_kind(Kind::Moments, |moment| {
            moments.push(moment);
            Ok::<_, SegmentError>(())
        })?;
        Ok(moments)
    }

    fn of_kind<M: prost::Message + Default, E: From<SegmentError>>(
        &self,
        kind: Kind,
        mut take: impl FnMut(M) -> Result<(), E>,
    ) -> Result<(), E> {
        let chunks = self.chunks.iter().filter(|chunk| chunk.kind == kind);
        for chunk in chunks {
            chunk
                .messages(|message| take(message).map_err(Taken::Taker))
                .map_err(|taken| match taken {
                    Taken::Chunk(error) => SegmentError::Chunk(error).into(),
                    Taken::Taker(error) => error,
                })?;
        }
        Ok(())
    }
}

/// Who failed: the chunk, or whoever takes its messages.
enum Taken<E> {
    Chunk(ChunkError),
    Taker(E),
}

impl<E> From<ChunkError> for Taken<E> {
    fn from(error: ChunkError) -> Taken<E> {
        Taken::Chunk(error)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn writer() -> Writer {
        Writer {
            whose: Whose::try_from("cdf8/0".to_owned()).expect("an id"),
            term: 2,
            member_id: "8e9e".into(),
            version: "0.1.0".into(),
        }
    }

    pub(crate) fn record(revision: i64, sub: u32, key_value: &'static [u8]) -> pb::Record {
        pb::Record {
            revision,
            sub,
            tombstone: false,
            key_value: key_value.into(),
        }
    }

    fn note(revision: i64, index: u64, change: pb::note::Change) -> pb::Note {
        pb::Note {
            index,
            revision,
            change: Some(change),
        }
    }

    /// A segment with one of everything; it is also the golden file's.
    pub(crate) fn sample() -> Built {
        let start = Cut {
            revision: 4,
            index: 10,
        };
        let mut builder = Builder::first(&writer(), 0, start, 1_000, Some("ab".into()));
        assert!(builder.record(&record(5, 0, b"a")));
        assert!(builder.record(&record(5, 1, b"b")));
        assert!(builder.record(&record(6, 0, b"c")));
        assert_eq!((builder.revision(), builder.raw_bytes()), (6, 3));
        let lease = pb::Lease {
            id: 7,
            ttl_seconds: 60,
            remaining_seconds: 0,
        };
        let row = pb::AuthRow {
            bucket: "auth".into(),
            key: b"authEnabled"[..].into(),
            value: vec![0].into(),
        };
        use pb::note::Change;
        let all = pb::LeaseTable {
            leases: vec![lease],
        };
        for (index, change) in (11..).zip([
            Change::Granted(lease),
            Change::Revoked(7),
            Change::Compacted(5),
            Change::Auth(pb::AuthTable { rows: vec![row] }),
            Change::Leases(all),
        ]) {
            builder.note(&note(5, index, change));
        }
        builder.moment(pb::Moment {
            revision: 5,
            index: 12,
            unix_ms: 1_500,
        });
        builder.moment(pb::Moment {
            revision: 6,
            index: 15,
            unix_ms: 1_200,
        });
        builder.finish(Cut {
            revision: 6,
            index: 15,
        })
    }

    #[test]
    fn what_is_built_is_read_back() {
        let built = sample();
        let segment = Segment::read(&built.bytes).expect("it is sound");
        assert_eq!(
            (&segment.header, &segment.hash),
            (&built.header, &built.hash)
        );
        let mut records = Vec::new();
        let take = |record: pb::Record| {
            records.push((record.revision, record.sub));
            Ok::<_, SegmentError>(())
        };
        segment.records(take).expect("as it says");
        assert_eq!(records, [(5, 0), (5, 1), (6, 0)]);
        let mut notes = 0;
        segment
            .notes(|_| {
                notes += 1;
                Ok::<_, SegmentError>(())
            })
            .expect("notes");
        assert_eq!(notes, 5);
        let moments = segment.moments().expect("moments");
        let times: Vec<i64> = moments.iter().map(|moment| moment.unix_ms).collect();
        assert_eq!(times, [1_500, 1_500], "time never goes back");
        let header = &built.header;
        assert_eq!(header.last_records, Some(digest([b"c".as_slice()])));
        assert_eq!((header.first_revision, header.last_revision), (5, 6));
        assert!(header.covers(99, 5) && header.covers(15, 6));
        assert!(!header.covers(16, 6) && !header.covers(1, 7));
    }

    #[test]
    fn the_golden_segment_is_read() {
        let golden: &[u8] = include_bytes!("../goldens/format-1.segment");
        let segment = Segment::read(&Bytes::from_static(golden)).expect("format 1 is read");
        // Compressed bytes, and with them hashes, may be other ones of a later zstd.
        let own = Segment::read(&sample().bytes).expect("sound");
        let contents = |segment: &Segment| {
            let (mut records, mut notes) = (Vec::new(), Vec::new());
            let take = |record| {
                records.push(record);
                Ok::<_, SegmentError>(())
            };
            segment.records(take).expect("records");
            let take = |note| {
                notes.push(note);
                Ok::<_, SegmentError>(())
            };
            segment.notes(take).expect("notes");
            (records, notes, segment.moments().expect("moments"))
        };
        assert_eq!(contents(&segment), contents(&own));
        let bare = |segment: &Segment| Header {
            chunks: Vec::new(),
            ..segment.header.clone()
        };
        assert_eq!(bare(&segment), bare(&own));
    }

    #[test]
    fn a_missing_revision_is_not_taken() {
        let start = Cut {
            revision: 4,
            index: 10,
        };
        let mut builder = Builder::first(&writer(), 0, start, 0, None);
        assert!(!builder.record(&record(6, 0, b"a")));
        assert!(builder.record(&record(5, 0, b"a")));
        assert!(!builder.record(&record(7, 0, b"a")));
        assert!(!builder.record(&record(4, 0, b"a")));
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_noticed() {
        let whole = sample().bytes;
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x01;
            let read = Segment::read(&bytes.into());
            assert!(read.is_err(), "byte {at}");
            assert!(Segment::read(&whole.slice(..at)).is_err(), "{at} bytes");
        }
        let more = [whole.as_ref(), b"x"].concat();
        assert!(Segment::read(&more.into()).is_err());
    }

    #[test]
    fn one_of_a_later_format_says_so() {
        let bytes = sealed::seal(&serde_json_line(9));
        assert_eq!(Segment::read(&bytes.into()), Err(SegmentError::Format(9)));
    }

    #[derive(Serialize)]
    struct Later {
        format: u32,
    }

    fn serde_json_line(format: u32) -> Later {
        Later { format }
    }
}
