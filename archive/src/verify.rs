//! Reads a chain whole: every byte, every link.

use engram_objects::ObjectError;

use crate::chain::{Archive, ArchiveError};
use crate::segment::SegmentError;
use crate::span::Span;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
}

impl Archive {
    /// Reads every segment of a chain; `read` is told the bytes of each.
    ///
    /// # Errors
    /// The first that is missing, damaged, or does not follow the one before it.
    pub async fn verify(&self, span: &Span, read: impl Fn(u64)) -> Result<Verified, ArchiveError> {
        let mut verified = Verified::default();
        let mut last: Option<(String, i64)> = None;
        for sequence in span.first.sequence..=span.last.sequence {
            let place = span.place(sequence);
            let segment = self.segment(&place).await?;
            let segment = segment.ok_or_else(|| ArchiveError::Missing(self.show(&place)))?;
            let header = &segment.header;
            let follows = last.as_ref().is_none_or(|(hash, revision)| {
                header.predecessor.as_ref() == Some(hash) && header.first_revision == revision + 1
            });
            if !follows {
                return Err(ArchiveError::Broken(self.show(&place)));
            }
            let contents = segment
                .records(|_| Ok::<_, SegmentError>(()))
                .and_then(|()| segment.notes(|_| Ok::<_, SegmentError>(())))
                .and_then(|()| segment.moments());
            contents.map_err(|source| self.damaged(&place, source))?;
            verified.segments += 1;
            verified.records += header.records;
            read(header.chunks.iter().map(|part| part.bytes).sum());
            last = Some((segment.hash.clone(), header.last_revision));
        }
        Ok(verified)
    }

    /// Removes segments that end before `revision`, from the beginning of the chain, never its last;
    /// how many there were. From the first on that the store keeps by a retention of its own they stay.
    /// With `dry_run` only tells.
    ///
    /// # Errors
    /// The store refuses: what was removed by then is removed.
    pub async fn prune(
        &self,
        span: &Span,
        revision: i64,
        dry_run: bool,
    ) -> Result<u64, ArchiveError> {
        let first = span.first.sequence;
        let needed = self
            .search(span, |one| one.last_revision >= revision)
            .await?;
        let behind = needed.unwrap_or(span.last.sequence);
        if !dry_run {
            for sequence in first..behind {
                match self.remove(&span.place(sequence)).await {
                    Ok(()) => {}
                    Err(ArchiveError::Object(ObjectError::Locked { .. })) => {
                        return Ok(sequence - first);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(behind - first)
    }
}
