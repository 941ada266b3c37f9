//! Replays a part of the log archive behind a full backup: records, and what changed beside them.

use std::collections::BTreeMap;

use engram_archive::{Archive, ArchiveError, Place, Segment, SegmentError};
use engram_proto::backup as pb;
use engram_server::snapshot::file::auth_tables;
use engram_server::snapshot::restore::RestoreError;
use engram_server::types::{LeaseId, Revision};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::Progress;
use crate::format::BackupId;
use crate::point::Behind;
use crate::read::{Feeding, ReadError, auth_row, record_of};
use crate::store::BackupStore;

/// Segments that are read ahead.
const SEGMENTS_AHEAD: usize = 2;

/// What a segment's contents led to.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// A replay under way: a backup that was fed, and what has come behind it.
struct Replay {
    feeding: Feeding,
    leases: BTreeMap<LeaseId, i64>,
    auth: Option<Vec<pb::AuthRow>>,
    behind: Behind,
    /// The revision that the backup ends with.
    base: i64,
}

/// Replays what lies behind a backup, up to the moment that is wanted.
///
/// # Errors
/// The archive cannot be read, is not whole, or not what it says.
pub(crate) async fn replay(
    store: &BackupStore,
    cluster: &BackupId,
    behind: &Behind,
    mut feeding: Feeding,
    progress: &dyn Progress,
) -> Result<Feeding, ReadError> {
    let archive = Archive::new(store.objects(), cluster);
    let span = &behind.span;
    let count = span.last.sequence + 1 - behind.first;
    progress.begin("replay", None);
    let leases = std::mem::take(&mut feeding.totals.leases);
    let mut replay = Replay {
        base: feeding.totals.revision.0,
        leases: leases.into_iter().collect(),
        feeding,
        auth: None,
        behind: behind.clone(),
    };
    let places = (behind.first..).take(usize::try_from(count).unwrap_or(usize::MAX));
    let reads = places.map(|sequence| read(&archive, span.place(sequence)));
    let mut segments = futures_util::stream::iter(reads).buffered(SEGMENTS_AHEAD);
    let mut last: Option<(String, i64)> = None;
    while let Some(segment) = segments.try_next().await? {
        let place = Place::of(&segment.header);
        let header = &segment.header;
        let fits = match &last {
            Some((hash, revision)) => {
                header.predecessor.as_ref() == Some(hash) && header.first_revision == revision + 1
            }
            // Nothing is missing between the backup and the first.
            None => header.first_revision <= replay.base + 1,
        };
        if !fits {
            return Err(ArchiveError::Broken(archive.show(&place)).into());
        }
        last = Some((segment.hash.clone(), segment.header.last_revision));
        let is_last = segment.header.last_revision > behind.target.revision;
        let bytes: u64 = segment.header.chunks.iter().map(|part| part.bytes).sum();
        let taking = tokio::task::spawn_blocking(move || {
            let taken = replay.take(&segment);
            (replay, taken)
        });
        let taken;
        (replay, taken) = taking.await?;
        taken.map_err(|error| match error {
            ReplayError::Segment(source) => archive.damaged(&place, source).into(),
            ReplayError::Restore(error) => ReadError::from(error),
        })?;
        progress.advance(bytes);
        if is_last {
            break;
        }
    }
    // It was there when it was looked for.
    let end = last.map_or(replay.base, |(_, revision)| revision);
    if end < behind.target.revision {
        return Err(ArchiveError::Broken(archive.show(&span.place(span.last.sequence))).into());
    }
    replay.finish()
}

async fn read(archive: &Archive, place: Place) -> Result<Segment, ArchiveError> {
    let segment = archive.segment(&place).await?;
    segment.ok_or_else(|| ArchiveError::Missing(archive.show(&place)))
}

impl Replay {
    fn take(&mut self, segment: &Segment) -> Result<(), ReplayError> {
        let wanted = self.base + 1..=self.behind.target.revision;
        segment.records(|record| {
            if wanted.contains(&record.revision) {
                self.feeding.restore.record(record_of(record))?;
            }
            Ok::<_, ReplayError>(())
        })?;
        segment.notes(|note| {
            // What happened at the backup's own revision may be in it: it comes to the same twice.
            let is_behind = note.revision >= self.base;
            if is_behind && self.behind.target.covers(note.revision, note.index) {
                self.note(note);
            }
            Ok::<_, ReplayError>(())
        })
    }

    fn note(&mut self, note: pb::Note) {
        use pb::note::Change;
        let totals = &mut self.feeding.totals;
        match note.change {
            Some(Change::Granted(lease)) => {
                self.leases.insert(LeaseId(lease.id), lease.ttl_seconds);
            }
            Some(Change::Revoked(id)) => {
                self.leases.remove(&LeaseId(id));
            }
            Some(Change::Compacted(revision)) => {
                let compacted = (revision >= 0).then_some(Revision(revision));
                totals.compact_scheduled = totals.compact_scheduled.max(compacted);
            }
            Some(Change::Auth(table)) => self.auth = Some(table.rows),
            Some(Change::Leases(table)) => {
                let leases = table.leases.iter();
                self.leases = leases
                    .map(|lease| (LeaseId(lease.id), lease.ttl_seconds))
                    .collect();
            }
            // Of a later version, which would have another format if it mattered.
            None => {}
        }
    }

    fn finish(mut self) -> Result<Feeding, ReadError> {
        let totals = &mut self.feeding.totals;
        totals.revision = Revision(self.behind.target.revision.max(self.base));
        totals.leases = self.leases.into_iter().collect();
        if let Some(rows) = self.auth {
            let rows: Vec<_> = rows.into_iter().map(auth_row).collect();
            totals.auth = auth_tables(&rows).map_err(RestoreError::from)?;
        }
        Ok(self.feeding)
    }
}
