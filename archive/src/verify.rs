//! Reads a chain whole: every byte, every link.

use engram_objects::ObjectError;

use crate::chain::{Archive, ArchiveError};
use crate::segment::SegmentError;
use crate::span::{LISTS_MAX, Span};

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// The revision after which what was read begins: later than its span's, where somebody pruned meanwhile.
    pub begins_after: i64,
}

impl Archive {
    /// Reads every segment of a chain; `read` is told the bytes of each. Where segments were pruned before they
    /// were read, it begins again with the first that is there now.
    ///
    /// # Errors
    /// The first that is missing, damaged, or does not follow the one before it.
    pub async fn verify(&self, span: &Span, read: impl Fn(u64)) -> Result<Verified, ArchiveError> {
        span.must_be_whole()?;
        let mut verified = Verified::default();
        let mut span = span.clone();
        let mut sequence = span.first.sequence;
        let mut begun = 0;
        let mut last: Option<(String, i64)> = None;
        while sequence <= span.last.sequence {
            let place = span.place(sequence);
            let Some(segment) = self.segment(&place).await? else {
                if begun == LISTS_MAX {
                    return Err(ArchiveError::Pruned(self.show(&place)));
                }
                begun += 1;
                let now = self.shortened(&span, sequence).await?;
                span = now.ok_or_else(|| ArchiveError::Missing(self.show(&place)))?;
                sequence = span.first.sequence;
                last = None;
                verified = Verified::default();
                continue;
            };
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
            sequence += 1;
        }
        Ok(Verified {
            begins_after: span.begins_after(),
            ..verified
        })
    }

    /// Removes segments that end before `revision`, from the beginning of the chain, never its last, and what cannot
    /// be read before its first; how many there were. From the first on that the store keeps by a retention of its
    /// own they stay.
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
        // Two prune at the same time.
        let now = self.shortened(span, span.first.sequence).await?;
        let span = now.unwrap_or_else(|| span.clone());
        let needed = self.search(&span, |one| one.last_revision >= revision);
        let needed = needed.await?.unwrap_or(span.last.sequence);
        // What lies before the first that can be read ends where that begins.
        let before = span.unreadable.first().map(|(sequence, _)| *sequence);
        let before = before.filter(|_| span.first.first_revision <= revision);
        let first = before.map_or(span.first.sequence, |one| one.min(span.first.sequence));
        if !dry_run {
            for sequence in first..needed {
                match self.remove(&span.place(sequence)).await {
                    Ok(()) => {}
                    Err(ArchiveError::Object(ObjectError::Locked { .. })) => {
                        return Ok(sequence - first);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(needed - first)
    }
}
