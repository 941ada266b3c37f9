//! A point in time: which full backup, and which part of the log archive behind it, make it.
//!
//! Nothing is written here; whatever is missing is said before a restore begins.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use engram_archive::{Archive, ArchiveError, SegmentError, Span, Spans, Target, digest};
use engram_objects::ObjectError;

use crate::format::{BackupId, Manifest, Selector};
use crate::store::{BackupStore, LATEST, StoreError, is_selected, must_be_clear};

/// How long the archive may be behind a moment that has passed: members say every minute that nothing was written, and
/// what was written is there after `--archive-max-delay`.
const BEHIND_MAX: Duration = Duration::from_secs(75);
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(2);
/// So many backups of no use are named where none will do.
const OUT_OF_USE_NAMED: usize = 3;
/// How far a member's clock may be ahead of this one's and still tell times.
const AHEAD_MAX_MS: i64 = 60_000;

/// Which moment is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The last moment at this revision.
    Revision(i64),
    /// The last moment not after this time.
    Time(DateTime<Utc>),
    /// The last moment in the archive.
    End,
}

/// Why a moment cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// The backups' store refuses, or does not say which is meant.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is no archive.
    #[error(
        "{place} holds no log archive of this cluster: members write it where --archive-url and --archive-cluster are set"
    )]
    NoArchive {
        /// Where.
        place: String,
    },
    /// What may be the archive's end cannot be read.
    #[error(
        "where the archive ends cannot be told: {why}; name a moment before it with --to-revision or --to-time (`engramctl archive list` shows from where to where can be restored)"
    )]
    EndLost {
        /// What is wrong with it.
        why: String,
    },
    /// The archive does not reach there.
    #[error("{wanted} is in no part of the log archive ({spans}): choose a moment in one of them")]
    Outside {
        /// What was asked for.
        wanted: String,
        /// What there is.
        spans: String,
    },
    /// A clock was ahead.
    #[error(
        "{wanted} cannot be told: a member's clock was ahead when it wrote the log archive, up to {until}, so that what came after revision {from} has no time: choose one of the revisions {from} to {to} with --to-revision"
    )]
    Ahead {
        /// What was asked for.
        wanted: String,
        /// The latest time in it.
        until: String,
        /// The last revision whose time is known.
        from: i64,
        /// The last one.
        to: i64,
    },
    /// No backup to go on from.
    #[error(
        "no full backup can be gone on from to {wanted}: one of this cluster at a revision from {from} to {to} is needed; {why}"
    )]
    NoBase {
        /// What was asked for.
        wanted: String,
        /// The first revision that would do.
        from: i64,
        /// The last one.
        to: i64,
        /// What is wrong with those there are.
        why: String,
    },
}

impl From<ObjectError> for PointError {
    fn from(error: ObjectError) -> PointError {
        PointError::Archive(error.into())
    }
}

/// The way to a moment.
#[derive(Clone, Debug)]
pub struct Point {
    /// The full backup that it begins with.
    pub manifest: Manifest,
    /// What of the archive comes behind it; none where the backup is the moment.
    pub behind: Option<Behind>,
    /// The moment's revision.
    pub revision: i64,
}

/// A part of the archive.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The chain.
    pub span: Span,
    /// The segment in it that holds what comes after the backup.
    pub first: u64,
    /// Up to where it is followed.
    pub target: Target,
}

/// Whose moments are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The cluster's name in the store; none: there has to be but one.
    pub cluster: Option<&'a BackupId>,
    /// Which of the clusters of that name.
    pub selectors: &'a [Selector],
    /// The backup to begin with, or [`LATEST`]: the last one that fits.
    pub backup: &'a str,
}

/// The same where the moment is so young that the archive may not have reached it yet: that is waited for, after
/// `tell` was told for how long at most.
///
/// # Errors
/// See [`PointError`].
pub async fn find_soon(
    store: &BackupStore,
    asked: Asked<'_>,
    when: When,
    tell: impl Fn(Duration),
) -> Result<Point, PointError> {
    let (begun, mut is_told) = (Instant::now(), false);
    loop {
        let found = find(store, asked, when).await;
        let left = match &found {
            Err(PointError::Outside { .. }) => comes_within(when, Utc::now()),
            _ => None,
        };
        let Some(left) = left.filter(|_| begun.elapsed() < BEHIND_MAX) else {
            return found;
        };
        if !is_told {
            tell(left);
            is_told = true;
        }
        tokio::time::sleep(left.min(LOOK_AGAIN_EVERY)).await;
    }
}

/// Within which time the archive has reached a moment, where that has just passed.
fn comes_within(when: When, now: DateTime<Utc>) -> Option<Duration> {
    let When::Time(time) = when else {
        return None;
    };
    BEHIND_MAX.checked_sub((now - time).to_std().ok()?)
}

/// Finds the way to a moment.
///
/// # Errors
/// See [`PointError`].
pub async fn find(store: &BackupStore, asked: Asked<'_>, when: When) -> Result<Point, PointError> {
    let cluster = cluster(store, asked.cluster).await?;
    let Bases {
        backups,
        out_of_use,
    } = bases(store, &cluster, asked).await?;
    let archive = Archive::new(store.objects(), &cluster);
    let Spans { known: spans, lost } = spans(&archive, asked.selectors).await?;
    let wanted = shown(when);
    if let (When::End, Some(why)) = (when, end_is_lost(&spans, &lost)) {
        return Err(PointError::EndLost { why });
    }
    let exact = backups
        .iter()
        .rfind(|one| when == When::Revision(one.revision));
    if spans.is_empty() {
        return match (exact, lost.into_iter().next()) {
            (Some(exact), _) => Ok(at(store.whole(exact).await?)),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(PointError::NoArchive {
                place: format!("{}/{cluster}", store.url()),
            }),
        };
    }
    let mut refusal = None;
    for span in spans.iter().rev() {
        let Some(target) = target(&archive, span, when).await? else {
            continue;
        };
        if let When::Time(_) = when {
            must_be_told(&archive, span, target, &wanted).await?;
        }
        let fits = |one: &&Manifest| {
            one.cluster_id == span.first.whose.cluster_id
                && (span.begins_after()..=target.revision).contains(&one.revision)
        };
        let mut why = why_none(backups.len(), &out_of_use);
        for manifest in backups.iter().rev().filter(fits) {
            if let Some(behind) = follow(&archive, span, manifest, target).await? {
                return Ok(Point {
                    manifest: store.whole(manifest).await?,
                    behind: Some(behind),
                    revision: target.revision,
                });
            }
            why = format!("{} is of another history than the archive", manifest.id);
        }
        let baseless = PointError::NoBase {
            wanted: wanted.clone(),
            from: span.begins_after(),
            to: target.revision,
            why,
        };
        // The same moment of an earlier chain is of a history that ended: of a cluster that was restored since, of
        // a volume that was put back. Nobody gets that who did not ask for it by the name of one of its backups.
        let holds_it = when == When::End || target.revision > span.begins_after();
        if holds_it && asked.backup == LATEST {
            return Err(baseless);
        }
        refusal.get_or_insert(baseless);
    }
    match (exact, refusal) {
        (Some(exact), _) => Ok(at(store.whole(exact).await?)),
        (None, Some(refusal)) => Err(refusal),
        (None, None) => Err(PointError::Outside {
            wanted,
            spans: spans.iter().map(extent).collect::<Vec<_>>().join("; "),
        }),
    }
}

fn at(manifest: Manifest) -> Point {
    Point {
        revision: manifest.revision,
        manifest,
        behind: None,
    }
}

async fn cluster(store: &BackupStore, named: Option<&BackupId>) -> Result<BackupId, StoreError> {
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let all = store.clusters().await?;
    match &all[..] {
        [one] => Ok(one.clone()),
        [] => Err(StoreError::NoBackup {
            wanted: LATEST.into(),
            store: store.url().to_owned(),
        }),
        several => Err(StoreError::Ambiguous {
            wanted: "this moment".into(),
            found: several
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// The backups that may be begun with, by revision; of their chunks the first alone may be known.
struct Bases {
    backups: Vec<Manifest>,
    /// Those that are of no use, and why.
    out_of_use: Vec<String>,
}

/// What is wrong where none of so many will do.
fn why_none(count: usize, out_of_use: &[String]) -> String {
    let all = format!("there are {count} of it in all");
    let named: Vec<&str> = out_of_use
        .iter()
        .take(OUT_OF_USE_NAMED)
        .map(String::as_str)
        .collect();
    match out_of_use.len() {
        0 => all,
        more => format!("{all}, and {more} of no use: {}", named.join("; ")),
    }
}

async fn bases(
    store: &BackupStore,
    cluster: &BackupId,
    asked: Asked<'_>,
) -> Result<Bases, StoreError> {
    if asked.backup != LATEST {
        let found = store
            .find(Some(cluster), asked.selectors, asked.backup)
            .await?;
        return Ok(Bases {
            backups: vec![found.manifest],
            out_of_use: Vec::new(),
        });
    }
    let mut listing = store.list(cluster).await?;
    listing.must_have_keys(store, cluster)?;
    let damaged = listing.damaged.iter();
    let mut out_of_use: Vec<String> = damaged
        .map(|(id, error)| format!("{id}: {error}"))
        .collect();
    listing.backups.retain(|one| {
        let is_meant = is_selected(asked.selectors, &one.manifest.whose());
        let refuted = one.refutation().filter(|_| is_meant);
        let id = &one.manifest.id;
        out_of_use
            .extend(refuted.map(|why| format!("{id} was not good when it was read back: {why}")));
        is_meant && refuted.is_none()
    });
    must_be_clear(cluster, asked.selectors, &listing.backups)?;
    let mut manifests: Vec<Manifest> = listing
        .backups
        .into_iter()
        .map(|one| one.manifest)
        .collect();
    manifests.sort_by_key(|manifest| manifest.revision);
    Ok(Bases {
        backups: manifests,
        out_of_use,
    })
}

/// The chains of the clusters that are meant, by the time of their ends. Backups and archives tell
/// incarnations apart by themselves: which belong together is told by their records.
async fn spans(archive: &Archive, selectors: &[Selector]) -> Result<Spans, ArchiveError> {
    let mut spans = Spans::default();
    let mut ranked = Vec::new();
    for whose in archive.owners().await? {
        let is_meant = |one: &Selector| one.cluster_id == whose.cluster_id;
        if selectors.is_empty() || selectors.iter().any(is_meant) {
            let found = archive.spans(&whose).await?;
            spans.lost.extend(found.lost);
            // A clock that was ahead makes no chain a later one than those that the same history has after it.
            let mut rank = i64::MIN;
            for span in found.known {
                rank = rank.max(span.last.last_ms);
                ranked.push((rank, span));
            }
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    spans.known.extend(ranked.into_iter().map(|(_, span)| span));
    Ok(spans)
}

/// Why nobody can tell where the archive ends: what may be its end cannot be read.
fn end_is_lost(spans: &[Span], lost: &[ArchiveError]) -> Option<String> {
    let cut_off = spans.last().and_then(Span::cut_off);
    let cut_off = cut_off.as_ref().or(lost.first());
    cut_off.map(ToString::to_string)
}

/// The moment in a chain; none where it is not in this one.
async fn target(
    archive: &Archive,
    span: &Span,
    when: When,
) -> Result<Option<Target>, ArchiveError> {
    let last = |revision| Target {
        revision,
        index: u64::MAX,
    };
    let end = span.last.last_revision;
    match when {
        When::End => Ok(Some(last(end))),
        When::Revision(revision) => {
            let is_in = (span.begins_after()..=end).contains(&revision);
            Ok(is_in.then(|| last(revision)))
        }
        When::Time(time) => {
            let ms = time.timestamp_millis();
            match (span.first.first_ms..=span.last.last_ms).contains(&ms) {
                true => archive.moment(span, ms).await,
                false => Ok(None),
            }
        }
    }
}

/// Refuses a moment behind which a chain tells of times that are yet to come: whoever wrote them had a clock that was
/// ahead, and until it is that time what came later counts as made then. It may lie before the moment.
async fn must_be_told(
    archive: &Archive,
    span: &Span,
    target: Target,
    wanted: &str,
) -> Result<(), PointError> {
    let limit = Utc::now().timestamp_millis() + AHEAD_MAX_MS;
    let ahead = archive.search(span, |one| one.last_ms > limit).await?;
    let Some(place) = ahead.map(|sequence| span.place(sequence)) else {
        return Ok(());
    };
    // Of one that cannot be read nothing is told either.
    let head = archive.head(&place).await?;
    let begins = head.map_or(target.revision, |head| head.header.first_revision);
    let is_told = target.revision + 1 < begins || target.revision == span.last.last_revision;
    match is_told {
        true => Ok(()),
        false => Err(PointError::Ahead {
            wanted: wanted.to_owned(),
            until: time(span.last.last_ms),
            from: target.revision,
            to: span.last.last_revision,
        }),
    }
}

/// The part of a chain between a backup and a moment; none where the backup is of another history.
async fn follow(
    archive: &Archive,
    span: &Span,
    manifest: &Manifest,
    target: Target,
) -> Result<Option<Behind>, ArchiveError> {
    let first = archive.search(span, |one| one.last_revision >= manifest.revision);
    let first = first.await?.unwrap_or(span.last.sequence);
    let known = match manifest.revision < span.first.first_revision {
        true => span.first.before.clone(),
        false => records_at(archive, span, first, manifest.revision).await?,
    };
    // Where a compaction took the records of either, they are believed.
    let is_other = known.is_some_and(|known| {
        let own = manifest.last_records.as_ref();
        own.is_some_and(|own| *own != known)
    });
    if is_other {
        return Ok(None);
    }
    let after = archive.search(span, |one| one.last_revision > target.revision);
    let last = after.await?.unwrap_or(span.last.sequence);
    must_be_there(archive, span, first, last).await?;
    Ok(Some(Behind {
        span: span.clone(),
        first,
        target,
    }))
}

/// SHA-256 of the records of a revision, which a segment holds.
async fn records_at(
    archive: &Archive,
    span: &Span,
    sequence: u64,
    revision: i64,
) -> Result<Option<String>, ArchiveError> {
    let place = span.place(sequence);
    let segment = archive.segment(&place).await?;
    let segment = segment.ok_or_else(|| ArchiveError::Missing(archive.show(&place)))?;
    let mut records = Vec::new();
    let take = |record: engram_proto::backup::Record| {
        if record.revision == revision {
            records.push(record.key_value);
        }
        Ok::<_, SegmentError>(())
    };
    let read = segment.records(take);
    read.map_err(|source| archive.damaged(&place, source))?;
    let parts = records.iter().map(AsRef::as_ref);
    Ok((!records.is_empty()).then(|| digest(parts)))
}

async fn must_be_there(
    archive: &Archive,
    span: &Span,
    first: u64,
    last: u64,
) -> Result<(), ArchiveError> {
    let there = archive.sequences(&span.first.whose, span.first.run).await?;
    let mut next = first;
    for (sequence, _) in there.iter().filter(|(one, _)| (first..=last).contains(one)) {
        if *sequence != next {
            break;
        }
        next += 1;
    }
    match next > last {
        true => Ok(()),
        false => Err(ArchiveError::Missing(archive.show(&span.place(next)))),
    }
}

fn shown(when: When) -> String {
    match when {
        When::Revision(revision) => format!("revision {revision}"),
        When::Time(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        When::End => "the end of the archive".into(),
    }
}

/// Milliseconds since 1970 as RFC 3339.
pub fn time(unix_ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(unix_ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// From where to where a chain goes.
fn extent(span: &Span) -> String {
    let cut = span.cut_off().map(|error| format!(", then {error}"));
    format!(
        "cluster {}: revisions {} to {}, {} to {}{}",
        span.first.whose,
        span.begins_after(),
        span.last.last_revision,
        time(span.first.first_ms),
        time(span.last.last_ms),
        cut.unwrap_or_default()
    )
}
