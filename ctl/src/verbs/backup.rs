//! `backup`: create, list, verify, prune, delete.

use std::path::PathBuf;

use engram_backup::create::{CreateError, CreateOptions, create as take};
use engram_backup::format::{BackupId, Manifest, Summary};
use engram_backup::prune::prune as remove_expired;
use engram_backup::retention::Retention;
use engram_backup::source;
use engram_backup::store::{BackupStore, StoreError};
use engram_backup::verify::verify as check;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::cli::{Backup, Global, PruneRules, StoreFlag};
use crate::connect::{one, within};
use crate::failure::Failure;
use crate::output::{self, humanize};
use crate::progress::Bars;

const COLUMNS: [&str; 7] = [
    "id",
    "cluster",
    "created at",
    "revision",
    "compact revision",
    "hash",
    "size",
];

/// `backup`.
pub async fn backup(global: &Global, command: Backup) -> Result<(), Failure> {
    match command {
        Backup::Create {
            store,
            name,
            or_existing,
            scratch_dir,
        } => {
            let id = name.as_deref().map(str::parse::<BackupId>).transpose();
            let options = CreateOptions {
                cluster: required_cluster(&store)?,
                id: id.map_err(|error| Failure::arguments(format!("--name {error}")))?,
                scratch_dir: scratch(scratch_dir),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            create(global, &store, &options, or_existing).await
        }
        Backup::List { store } => list(global, &store).await,
        Backup::Verify {
            store,
            backup,
            scratch_dir,
        } => verify(global, &store, &backup, scratch_dir).await,
        Backup::Prune {
            store,
            rules,
            dry_run,
        } => prune(global, &store, &rules, dry_run).await,
        Backup::Delete { store, backup } => delete(global, &store, &backup).await,
    }
}

/// The cluster that `--cluster` names.
pub fn cluster_name(flag: &StoreFlag) -> Result<Option<BackupId>, Failure> {
    let parsed = flag
        .cluster
        .as_deref()
        .map(str::parse::<BackupId>)
        .transpose();
    parsed.map_err(|error| Failure::arguments(format!("--cluster {error}")))
}

fn required_cluster(flag: &StoreFlag) -> Result<BackupId, Failure> {
    cluster_name(flag)?.ok_or_else(|| Failure::arguments("--cluster is required here"))
}

fn scratch(dir: Option<PathBuf>) -> PathBuf {
    dir.unwrap_or_else(std::env::temp_dir)
}

async fn create(
    global: &Global,
    flag: &StoreFlag,
    options: &CreateOptions,
    or_existing: bool,
) -> Result<(), Failure> {
    let store = BackupStore::open(&flag.store)?;
    let channel = quiet_member(global).await?;
    let bars = Bars::new();
    let manifest = match take(&channel, &store, options, &bars).await {
        // An earlier attempt has made it, and nobody lived to tell.
        Err(CreateError::Store(StoreError::Exists(id))) if or_existing => {
            store.find(Some(&options.cluster), id.as_ref()).await?
        }
        taken => taken?,
    };
    drop(bars);
    let summary = summary(&store, &manifest);
    output::result(global, &json!(summary))?;
    let text = || format!("backup {} at revision {}\n", summary.path, summary.revision).into();
    output::answer(global, text, || json!(summary))
}

/// The member to take a backup from: a follower where one answers, so that the leader has its hands
/// free; else whoever does.
async fn quiet_member(global: &Global) -> Result<Channel, Failure> {
    let mut second = None;
    let mut failures = Vec::new();
    for endpoint in &global.endpoints {
        let asked = async {
            let member = one(global, endpoint).await?;
            let status = within(global, source::status(&member.channel)).await?;
            Ok::<_, Failure>((member.channel, status))
        };
        match asked.await {
            Ok((channel, status)) if !status.is_leader && !status.is_learner => return Ok(channel),
            Ok((channel, status)) if !status.is_learner => second = Some(channel),
            Ok(_) => failures.push(format!("{endpoint}: it is a learner")),
            Err(failure) => failures.push(format!("{endpoint}: {failure}")),
        }
    }
    second.ok_or_else(|| Failure::new(format!("no endpoint answers: {}", failures.join("; "))))
}

fn summary(store: &BackupStore, manifest: &Manifest) -> Summary {
    manifest.summary(store.path_of(&manifest.cluster, &manifest.id))
}

async fn list(global: &Global, flag: &StoreFlag) -> Result<(), Failure> {
    let store = BackupStore::open(&flag.store)?;
    let clusters = match cluster_name(flag)? {
        Some(cluster) => vec![cluster],
        None => store.clusters().await?,
    };
    let mut summaries = Vec::new();
    for cluster in &clusters {
        let listing = store.list(cluster).await?;
        for (id, error) in &listing.damaged {
            eprintln!("{}: {error}", store.path_of(cluster, id));
        }
        let found = listing
            .backups
            .iter()
            .map(|listed| summary(&store, &listed.manifest));
        summaries.extend(found);
    }
    output::result(global, &json!(summaries))?;
    let row = |summary: &Summary| {
        vec![
            summary.id.to_string(),
            summary.cluster.to_string(),
            summary.created_at.clone(),
            summary.revision.to_string(),
            summary.compact_revision.to_string(),
            summary.hash_kv.to_string(),
            humanize(summary.size),
        ]
    };
    let rows: Vec<Vec<String>> = summaries.iter().map(row).collect();
    output::rows(global, &COLUMNS, &rows, || json!(summaries))
}

async fn verify(
    global: &Global,
    flag: &StoreFlag,
    backup: &str,
    scratch_dir: Option<PathBuf>,
) -> Result<(), Failure> {
    let store = BackupStore::open(&flag.store)?;
    let manifest = store.find(cluster_name(flag)?.as_ref(), backup).await?;
    let bars = Bars::new();
    let verified = check(&store, &manifest, &scratch(scratch_dir), &bars).await?;
    drop(bars);
    let value = json!(verified);
    output::result(global, &value)?;
    let text = || {
        format!(
            "backup {} is whole: revision {}, HashKV {}, {} records\n",
            verified.id, verified.revision, verified.hash_kv, verified.records
        )
        .into()
    };
    output::answer(global, text, || value.clone())
}

async fn prune(
    global: &Global,
    flag: &StoreFlag,
    rules: &PruneRules,
    dry_run: bool,
) -> Result<(), Failure> {
    let store = BackupStore::open(&flag.store)?;
    let cluster = required_cluster(flag)?;
    let rules = Retention {
        keep_last: rules.keep_last,
        hourly: rules.hourly,
        daily: rules.daily,
        weekly: rules.weekly,
        monthly: rules.monthly,
        keep_within: rules.keep_within,
        max_age: rules.max_age,
        min_keep: rules.min_keep,
    };
    let pruned = remove_expired(&store, &cluster, &rules, dry_run).await?;
    let value = json!(pruned);
    // What stays may be a long list, and where results are read there is little room.
    let gone = json!({ "removed": pruned.removed, "abandoned": pruned.abandoned });
    output::result(global, &gone)?;
    let text = || {
        let what = if dry_run { "would remove" } else { "removed" };
        let removed = pruned.removed.iter().chain(&pruned.abandoned);
        let removed: String = removed.map(|id| format!("{what} {id}\n")).collect();
        let kept: String = pruned
            .kept
            .iter()
            .map(|id| format!("kept {id}\n"))
            .collect();
        format!("{removed}{kept}").into()
    };
    output::answer(global, text, || value.clone())
}

async fn delete(global: &Global, flag: &StoreFlag, backup: &str) -> Result<(), Failure> {
    let store = BackupStore::open(&flag.store)?;
    let id = backup
        .parse::<BackupId>()
        .map_err(|error| Failure::arguments(format!("--backup {error}")))?;
    // One whose manifest is damaged or gone can be deleted too, where the cluster is named.
    let cluster = match cluster_name(flag)? {
        Some(cluster) => cluster,
        None => store.find(None, backup).await?.cluster,
    };
    let is_there =
        store.has(&cluster, &id).await? || store.last_written(&cluster, &id).await?.is_some();
    let value: Value = json!({ "deleted": is_there, "id": id, "cluster": cluster });
    if !is_there {
        return Err(StoreError::NoBackup {
            wanted: id.to_string(),
            store: store.url().to_owned(),
        }
        .into());
    }
    store.remove(&cluster, &id).await?;
    output::result(global, &value)?;
    output::answer(
        global,
        || format!("deleted {id}\n").into(),
        || value.clone(),
    )
}
