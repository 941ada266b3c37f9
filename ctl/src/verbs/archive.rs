//! `archive`: list, verify, plan.

use engram_archive::{Archive as Segments, ArchiveError, Span};
use engram_backup::format::BackupId;
use engram_backup::point::{self, Asked, Point, When, time};
use engram_backup::store::BackupStore;
use serde_json::{Value, json};

use super::backup::{cluster_name, clusters, open};
use crate::cli::{Archive, Global, Moment, StoreFlag};
use crate::failure::Failure;
use crate::output::{self, humanize};
use crate::progress::Bars;

const COLUMNS: [&str; 10] = [
    "cluster",
    "cluster id",
    "run",
    "from revision",
    "to revision",
    "from",
    "to",
    "size",
    "missing",
    "unreadable",
];

/// `archive`.
pub async fn archive(global: &Global, command: Archive) -> Result<(), Failure> {
    match command {
        Archive::List { store } => list(global, &store).await,
        Archive::Verify { store } => verify(global, &store).await,
        Archive::Plan {
            store,
            backup,
            moment,
        } => plan(global, &store, &backup, &moment).await,
    }
}

/// The moment that the flags name; none where they name none.
pub fn when(moment: &Moment) -> Option<When> {
    let revision = moment.to_revision.map(When::Revision);
    let time = moment.to_time.map(When::Time);
    revision.or(time).or(moment.to_end.then_some(When::End))
}

/// Finds the way to a moment, and waits for one that is too young to be in the archive.
pub async fn find(
    store: &BackupStore,
    flag: &StoreFlag,
    backup: &str,
    when: When,
) -> Result<Point, Failure> {
    let cluster = cluster_name(flag)?;
    let asked = Asked {
        cluster: cluster.as_ref(),
        selectors: &flag.cluster_id,
        backup,
    };
    let tell = |left: std::time::Duration| {
        eprintln!(
            "the log archive has not reached this time yet: it is waited for, up to {} s",
            left.as_secs()
        );
    };
    Ok(point::find_soon(store, asked, when, tell).await?)
}

/// Chains with the name of their cluster, and what is wrong with those of which nothing can be read.
type Chains = (Vec<(BackupId, Segments, Span)>, Vec<ArchiveError>);

/// The chains that the flags mean.
async fn spans(flag: &StoreFlag) -> Result<Chains, Failure> {
    let store = open(flag)?;
    let clusters = clusters(&store, flag).await?;
    let (mut all, mut lost) = (Vec::new(), Vec::new());
    for cluster in clusters {
        let archive = Segments::new(store.objects(), &cluster);
        for whose in archive.owners().await? {
            let selectors = &flag.cluster_id;
            if selectors.is_empty() || selectors.iter().any(|one| one.matches(&whose)) {
                let spans = archive.spans(&whose).await?;
                lost.extend(spans.lost);
                let known = spans.known.into_iter();
                all.extend(known.map(|span| (cluster.clone(), archive.clone(), span)));
            }
        }
    }
    Ok((all, lost))
}

fn value(cluster: &BackupId, span: &Span) -> Value {
    json!({
        "cluster": cluster,
        "clusterID": span.first.whose.cluster_id,
        "incarnation": span.first.whose.incarnation,
        "run": span.first.run,
        "fromRevision": span.begins_after(),
        "toRevision": span.last.last_revision,
        "fromTime": time(span.first.first_ms),
        "toTime": time(span.last.last_ms),
        "segments": span.segments,
        "size": span.bytes,
        "missing": span.missing,
        "unreadable": span.unreadable.iter().map(|(sequence, _)| sequence).collect::<Vec<_>>(),
    })
}

async fn list(global: &Global, flag: &StoreFlag) -> Result<(), Failure> {
    let (spans, lost) = spans(flag).await?;
    for (_, why) in spans.iter().flat_map(|(_, _, span)| &span.unreadable) {
        eprintln!("{why}");
    }
    for error in &lost {
        eprintln!("{error}");
    }
    let values = spans.iter().map(|(cluster, _, span)| value(cluster, span));
    let values: Vec<Value> = values.collect();
    output::result(global, &json!(values))?;
    let row = |(cluster, _, span): &(BackupId, Segments, Span)| {
        vec![
            cluster.to_string(),
            span.first.whose.to_string(),
            span.first.run.to_string(),
            span.begins_after().to_string(),
            span.last.last_revision.to_string(),
            time(span.first.first_ms),
            time(span.last.last_ms),
            humanize(span.bytes),
            span.missing.len().to_string(),
            span.unreadable.len().to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = spans.iter().map(row).collect();
    output::rows(global, &COLUMNS, &rows, || json!(values))
}

async fn verify(global: &Global, flag: &StoreFlag) -> Result<(), Failure> {
    use engram_backup::Progress as _;
    let (spans, lost) = spans(flag).await?;
    if let Some(error) = lost.into_iter().next() {
        return Err(error.into());
    }
    if spans.is_empty() {
        return Err(Failure::new(format!(
            "there is no log archive in {}: members write it where --archive-url and --archive-cluster are set",
            flag.store.split('?').next().unwrap_or_default()
        )));
    }
    let bars = Bars::new();
    bars.begin(
        "verify",
        Some(spans.iter().map(|(_, _, span)| span.bytes).sum()),
    );
    let mut values = Vec::new();
    let mut lines = String::new();
    for (cluster, archive, span) in &spans {
        let verified = archive.verify(span, |bytes| bars.advance(bytes)).await?;
        let mut value = value(cluster, span);
        value["fromRevision"] = json!(verified.begins_after);
        value["verified"] = json!(true);
        value["records"] = json!(verified.records);
        values.push(value);
        lines += &format!(
            "archive {cluster} {} run {} is whole: revisions {} to {}, {} segments, {} records\n",
            span.first.whose,
            span.first.run,
            verified.begins_after,
            span.last.last_revision,
            verified.segments,
            verified.records
        );
    }
    drop(bars);
    output::result(global, &json!(values))?;
    output::answer(global, || lines.clone().into(), || json!(values))
}

/// What is said of the way to a moment.
pub fn plan_value(point: &Point) -> Value {
    let behind = point.behind.as_ref();
    json!({
        "backup": point.manifest.id,
        "cluster": point.manifest.cluster,
        "backupOf": point.manifest.whose(),
        "backupRevision": point.manifest.revision,
        "toRevision": point.revision,
        "archive": behind.map(|behind| value(&point.manifest.cluster, &behind.span)),
    })
}

async fn plan(
    global: &Global,
    flag: &StoreFlag,
    backup: &str,
    moment: &Moment,
) -> Result<(), Failure> {
    let when = when(moment).ok_or_else(|| {
        Failure::arguments("which moment: --to-revision, --to-time or --to-end is required")
    })?;
    let store = open(flag)?;
    let point = find(&store, flag, backup, when).await?;
    let value = plan_value(&point);
    output::result(global, &value)?;
    let text = || {
        format!(
            "backup {} at revision {}, and the archive behind it up to revision {}\n",
            point.manifest.id, point.manifest.revision, point.revision
        )
        .into()
    };
    output::answer(global, text, || value.clone())
}
