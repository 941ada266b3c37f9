//! How a zeroed file becomes a segment.
//!
//! Header and first frame are durable before the rename gives the file its name, so a segment that
//! can be seen has both, whole. A crash before leaves a spare that is no longer zero; the next start
//! notices and throws it away.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;

use super::frame::{FRAME_HEADER_BYTES, Position, seal};
use super::options::{FatalError, Options};
use super::record::Record;
use super::recovery::{Restated, widen};
use super::scan::End;
use super::segment::{HEADER_BYTES, Name, SegmentHeader, SegmentId};
use crate::fs::DataFile;
use crate::mutants::is_planted;

/// What a new segment continues.
pub(super) struct Birth<'a> {
    pub(super) number: u64,
    /// The end of the segment before.
    pub(super) end: End,
    pub(super) next_index: u64,
    pub(super) restated: &'a Restated,
}

/// A segment that is ready for its first ordinary frame.
pub(super) struct Begun {
    pub(super) id: SegmentId,
    pub(super) file: DataFile,
    pub(super) end: End,
}

/// Writes header and restated records into a zeroed file and gives it its name, all durable.
pub(super) fn begin_segment(
    spare: DataFile,
    dir: &Path,
    birth: &Birth<'_>,
    options: &Options,
) -> Result<Begun, FatalError> {
    let path = spare.path().to_path_buf();
    let failed = |operation| {
        let path = path.clone();
        move |source: io::Error| FatalError {
            operation,
            path,
            source,
        }
    };
    let id = SegmentId {
        number: birth.number,
        nonce: nonce(),
    };
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    let records = restate(birth.restated, &mut frame);
    // The first segment has nothing to restate and no frame for it.
    let frame_bytes = if records == 0 { 0 } else { frame.len() };
    let header = SegmentHeader {
        id,
        owner: Some(options.owner),
        segment_bytes: options.segment_bytes,
        sequence: birth.end.sequence,
        next_index: birth.next_index,
        chain_before: birth.end.chain,
        born_bytes: widen(HEADER_BYTES + frame_bytes),
    };
    let mut end = End::behind(&header);
    let mut page = header.encode();
    if records > 0 {
        let sealed = seal(&mut frame, &position_of(id, &end), records);
        page.extend_from_slice(&frame);
        end = End {
            offset: page.len(),
            chain: sealed.chain,
            sequence: end.sequence + 1,
            ..end
        };
    }
    spare.write_all_at(&page, 0).map_err(failed("write"))?;
    if options.sync && !is_planted("birth-unsynced") {
        spare.sync_data().map_err(failed("sync"))?;
    }
    let name = Name::Segment(birth.number).path(dir);
    let file = spare.rename(&name).map_err(failed("rename"))?;
    Ok(Begun { id, file, end })
}

fn position_of(segment: SegmentId, end: &End) -> Position {
    Position {
        segment,
        offset: end.offset,
        sequence: end.sequence,
        chain: end.chain,
    }
}

/// Appends the records that every segment begins with; returns how many.
fn restate(restated: &Restated, frame: &mut Vec<u8>) -> u32 {
    let vote = restated.vote.clone().map(Record::Vote);
    let committed = restated.committed.clone().map(Record::Committed);
    let purged = restated
        .purged
        .clone()
        .map(|(index, payload)| Record::Purge { index, payload });
    let mut records = 0;
    for record in [vote, committed, purged].into_iter().flatten() {
        record.encode(frame);
        records += 1;
    }
    records
}

/// A number that no earlier use of the file had, whatever was deleted or restored in between. The
/// standard library's hasher keys come from the system's randomness.
fn nonce() -> u64 {
    RandomState::new().hash_one(0u64)
}
