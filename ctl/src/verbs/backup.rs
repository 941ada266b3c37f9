//! `backup`: create, list, verify, prune, delete.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engram_archive::Archive;
use engram_backup::copy::{Copied, copy as transfer};
use engram_backup::create::{CreateOptions, create as take};
use engram_backup::format::{BackupId, Summary};
use engram_backup::prune::{Scope, prune as remove_expired};
use engram_backup::retention::Retention;
use engram_backup::store::{BackupStore, Found, Listed, StoreError};
use engram_backup::verify::verify as check;
use engram_backup::{Reached, source};
use engram_objects::{KeyId, Keys};
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::cli::{Backup, Global, PruneRules, StoreFlag};
use crate::connect::{one_now, within};
use crate::failure::Failure;
use crate::output::{self, humanize};
use crate::progress::Bars;

/// Segments of which it is said that they do not tell which key they need.
const UNTOLD_SHOWN_MAX: usize = 16;

const COLUMNS: [&str; 11] = [
    "id",
    "cluster",
    "cluster id",
    "owner",
    "verified",
    "created at",
    "revision",
    "compact revision",
    "hash",
    "size",
    "key",
];

/// What variables begin with that hold for the store that is copied to.
const OTHERS: &str = "TO_";

/// `backup`.
pub async fn backup(global: &Global, command: Backup) -> Result<(), Failure> {
    match command {
        Backup::Create {
            store,
            name,
            or_existing,
            owner,
            continues,
            scratch_dir,
        } => {
            let id = name.as_deref().map(str::parse::<BackupId>).transpose();
            let options = CreateOptions {
                cluster: required_cluster(&store)?,
                id: id.map_err(|error| Failure::arguments(format!("--name {error}")))?,
                or_existing,
                owner,
                cluster_ids: store.cluster_id.clone(),
                continues,
                scratch_dir: scratch(scratch_dir),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            create(global, &store, &options).await
        }
        Backup::List { store } => list(global, &store).await,
        Backup::Show { store, backup } => show(global, &store, &backup).await,
        Backup::Verify {
            store,
            backup,
            scratch_dir,
        } => verify(global, &store, &backup, scratch_dir).await,
        Backup::Keys { store } => keys(global, &store).await,
        Backup::Copy {
            store,
            backup,
            all,
            to,
            to_encryption_key_file,
            to_unencrypted,
        } => {
            let from = open(&store)?;
            let keys = match (to_unencrypted, &to_encryption_key_file[..]) {
                (true, _) => Keys::default(),
                (false, []) => from.objects().keys().clone(),
                (false, files) => Keys::read(files)?,
            };
            let to = BackupStore::open_as(&to, OTHERS)?.with_keys(keys);
            copy(global, &store, (!all).then_some(backup), (&from, &to)).await
        }
        Backup::Prune {
            store,
            rules,
            owner,
            dry_run,
        } => prune(global, &store, &rules, owner, dry_run).await,
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

/// The store that the flags name, with the keys that they name.
pub fn open(flag: &StoreFlag) -> Result<BackupStore, Failure> {
    let keys = Keys::read(&flag.encryption_key_file)?;
    Ok(BackupStore::open(&flag.store)?.with_keys(keys))
}

fn required_cluster(flag: &StoreFlag) -> Result<BackupId, Failure> {
    cluster_name(flag)?.ok_or_else(|| Failure::arguments("--cluster is required here"))
}

fn scratch(dir: Option<PathBuf>) -> PathBuf {
    dir.unwrap_or_else(std::env::temp_dir)
}

async fn create(global: &Global, flag: &StoreFlag, options: &CreateOptions) -> Result<(), Failure> {
    let store = open(flag)?;
    let reached = reached(global).await?;
    let bars = Bars::new();
    let manifest = take(&reached, &store, options, &bars).await?;
    drop(bars);
    if manifest.is_agreed() == Some(false) {
        eprintln!(
            "only {} of {} members could be asked for the hash at revision {}: nobody can tell whether the others have the same data; name their endpoints, or see why they do not answer",
            manifest.hash_members.len(),
            manifest.voters,
            manifest.revision
        );
    }
    let path = store.path_of(&manifest.cluster, &manifest.id);
    let key = store.objects().keys().writing();
    let summary = manifest.summary(path, None, key);
    output::result(global, &json!(summary))?;
    let text = || format!("backup {} at revision {}\n", summary.path, summary.revision).into();
    output::answer(global, text, || json!(summary))
}

/// The members that a backup is taken of: those behind the endpoints, and those that these know. A
/// hash that one member alone has answered says nothing of the others' data.
async fn reached(global: &Global) -> Result<Vec<Reached>, Failure> {
    let (mut reached, failures) = connect(global, &global.endpoints).await;
    let Some(first) = reached.first() else {
        let failures = failures.join("; ");
        return Err(Failure::new(format!("no endpoint answers: {failures}")));
    };
    let known = join_all(reached.iter().map(|one| source::status(&one.channel)));
    let known = within(global, async { Ok::<_, Failure>(known.await) }).await?;
    let known: Vec<u64> = known
        .iter()
        .flatten()
        .map(|status| status.member_id)
        .collect();
    let request = pb::MemberListRequest {
        linearizable: false,
    };
    let mut client = ClusterClient::new(first.channel.clone());
    let listed = within(global, client.member_list(request)).await?;
    let members = listed.into_inner().members.into_iter();
    let others = members.filter(|member| !member.is_learner && !known.contains(&member.id));
    let urls: Vec<String> = others.flat_map(|member| member.client_ur_ls).collect();
    reached.extend(connect(global, &urls).await.0);
    Ok(reached)
}

/// Connects to each; with why it did not where it did not.
async fn connect(global: &Global, endpoints: &[String]) -> (Vec<Reached>, Vec<String>) {
    let (mut reached, mut failures) = (Vec::new(), Vec::new());
    let dialled = join_all(endpoints.iter().map(|endpoint| one_now(global, endpoint)));
    for (endpoint, member) in endpoints.iter().zip(dialled.await) {
        match member {
            Ok(member) => reached.push(Reached {
                endpoint: endpoint.clone(),
                channel: member.channel,
            }),
            Err(failure) => failures.push(format!("{endpoint}: {failure}")),
        }
    }
    (reached, failures)
}

fn summary(listed: &Listed) -> Summary {
    let verified = listed.verification.as_ref().map(|last| last.good);
    let key = listed.key.clone();
    listed.manifest.summary(listed.path.clone(), verified, key)
}

/// Finds a backup, and says what is to be known of it.
pub async fn find(store: &BackupStore, flag: &StoreFlag, wanted: &str) -> Result<Found, Failure> {
    let cluster = cluster_name(flag)?;
    let found = store
        .find(cluster.as_ref(), &flag.cluster_id, wanted)
        .await?;
    let id = &found.manifest.id;
    for passed in &found.passed_over {
        eprintln!("{passed} is newer than {id}, and was not good when it was read back");
    }
    if let Some(reason) = &found.refuted {
        eprintln!("{id} was not good when it was read back: {reason}");
    }
    Ok(found)
}

/// The cluster that is named; where none is, all that there are.
pub(super) async fn clusters(
    store: &BackupStore,
    flag: &StoreFlag,
) -> Result<Vec<BackupId>, Failure> {
    Ok(match cluster_name(flag)? {
        Some(cluster) => vec![cluster],
        None => store.clusters().await?,
    })
}

/// The whole backups that the flags mean; those whose manifests cannot be read are told of.
async fn listed(store: &BackupStore, flag: &StoreFlag) -> Result<Vec<Listed>, Failure> {
    let (all, unread) = all(store, flag).await?;
    unread.iter().for_each(|why| eprintln!("{why}"));
    Ok(all)
}

/// The whole backups that the flags mean, and why others' manifests cannot be read, which may be some of them.
async fn all(store: &BackupStore, flag: &StoreFlag) -> Result<(Vec<Listed>, Vec<String>), Failure> {
    let clusters = clusters(store, flag).await?;
    let selectors = &flag.cluster_id;
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for cluster in &clusters {
        let listing = store.list(cluster).await?;
        for (id, error) in &listing.damaged {
            unread.push(format!("{}: {error}", store.path_of(cluster, id)));
        }
        all.extend(listing.backups.into_iter().filter(|listed| {
            let whose = listed.manifest.whose();
            selectors.is_empty() || selectors.iter().any(|one| one.matches(&whose))
        }));
    }
    Ok((all, unread))
}

async fn list(global: &Global, flag: &StoreFlag) -> Result<(), Failure> {
    let store = open(flag)?;
    let listed = listed(&store, flag).await?;
    let summaries: Vec<Summary> = listed.iter().map(summary).collect();
    output::result(global, &json!(summaries))?;
    let rows: Vec<Vec<String>> = summaries.iter().map(row).collect();
    output::rows(global, &COLUMNS, &rows, || json!(summaries))
}

/// Which keys all backups of the clusters that are named, and the log archive behind them, are encrypted with. What is given and
/// encrypts nothing yet is told of too; what has no key is told of as such, and what does not tell.
async fn keys(global: &Global, flag: &StoreFlag) -> Result<(), Failure> {
    let store = open(flag)?;
    let clusters = clusters(&store, flag).await?;
    let given = store.objects().keys().ids();
    // By key: backups, segments.
    let mut found: BTreeMap<Option<KeyId>, (u64, u64)> = BTreeMap::new();
    found.extend(given.iter().map(|key| (Some(key.clone()), (0, 0))));
    let mut untold = 0;
    for cluster in &clusters {
        for key in store.list(cluster).await?.keys() {
            found.entry(key).or_default().0 += 1;
        }
        let archive = Archive::new(store.objects(), cluster);
        let needed = archive.keys().await?;
        for (key, segments) in needed.by_key {
            found.entry(key).or_default().1 += segments;
        }
        for why in needed.untold.iter().take(UNTOLD_SHOWN_MAX) {
            eprintln!("which key it needs is not known: {why}");
        }
        untold += needed.untold.len();
    }
    let (unencrypted, plain) = found.remove(&None).unwrap_or_default();
    let (first, mut missing) = (given.first(), Vec::new());
    let mut rows = Vec::new();
    for (key, (backups, segments)) in &found {
        let Some(key) = key else {
            continue;
        };
        let role = match given.contains(key) {
            true if first == Some(key) => "writes and reads",
            true => "reads",
            false => {
                missing.push(key.to_string());
                "MISSING"
            }
        };
        let counts = [backups, segments].map(u64::to_string);
        let row = [key.to_string()].into_iter().chain(counts);
        rows.push(row.chain([role.to_owned()]).collect());
    }
    if unencrypted > 0 || plain > 0 {
        let none = [
            "",
            &unencrypted.to_string(),
            &plain.to_string(),
            "not encrypted",
        ];
        rows.push(none.map(str::to_owned).to_vec());
    }
    if untold > 0 {
        let row = ["", "0", &untold.to_string(), "UNREADABLE"];
        rows.push(row.map(str::to_owned).to_vec());
    }
    let value = json!({ "missing": missing, "unencrypted": unencrypted, "unreadable": untold, "writes": first.map(KeyId::to_string) });
    output::result(global, &value)?;
    let columns = ["key", "backups", "segments", "given"];
    output::rows(global, &columns, &rows, || value.clone())
}

fn row(summary: &Summary) -> Vec<String> {
    vec![
        summary.id.to_string(),
        summary.cluster.to_string(),
        format!("{}/{}", summary.cluster_id, summary.incarnation),
        summary.owner.clone().unwrap_or_default(),
        summary
            .verified
            .map_or("", |good| if good { "yes" } else { "FAILED" })
            .to_owned(),
        summary.created_at.clone(),
        summary.revision.to_string(),
        summary.compact_revision.to_string(),
        summary.hash_kv.to_string(),
        humanize(summary.size),
        summary.key_id.clone().unwrap_or_default(),
    ]
}

async fn show(global: &Global, flag: &StoreFlag, backup: &str) -> Result<(), Failure> {
    let store = open(flag)?;
    let Found { manifest, key, .. } = find(&store, flag, backup).await?;
    let verification = store.verification(&manifest.cluster, &manifest).await?;
    let path = store.path_of(&manifest.cluster, &manifest.id);
    let summary = manifest.summary(path, verification.map(|last| last.good), key);
    output::result(global, &json!(summary))?;
    output::rows(global, &COLUMNS, &[row(&summary)], || json!(summary))
}

async fn verify(
    global: &Global,
    flag: &StoreFlag,
    backup: &str,
    scratch_dir: Option<PathBuf>,
) -> Result<(), Failure> {
    let store = open(flag)?;
    let manifest = find(&store, flag, backup).await?.manifest;
    let bars = Bars::new();
    let outcome = check(&store, &manifest, &scratch(scratch_dir), &bars).await;
    drop(bars);
    if let Some(error) = &outcome.unkept {
        eprintln!("the store does not keep what came of it: {error}");
    }
    let verified = outcome.result?;
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

/// Copies the backup of that name; without a name, all of them.
async fn copy(
    global: &Global,
    flag: &StoreFlag,
    backup: Option<String>,
    (from, to): (&BackupStore, &BackupStore),
) -> Result<(), Failure> {
    let (manifests, mut failed) = match backup {
        Some(backup) => {
            let found = find(from, flag, &backup).await?;
            if found.refuted.is_some() {
                return Err(Failure::new(format!(
                    "{backup} was not good when it was read back: copy another one, or verify it again"
                )));
            }
            (vec![found.manifest], Vec::new())
        }
        None => {
            // What cannot be read is not copied, and whoever has all of them copied has to hear of it.
            let (listed, unread) = all(from, flag).await?;
            let good = listed.into_iter().filter(|one| one.refutation().is_none());
            (good.map(|one| one.manifest).collect(), unread)
        }
    };
    let bars = Bars::new();
    let (mut copied, mut there) = (Vec::new(), Vec::new());
    let (mut otherwise, mut unencrypted) = (BTreeMap::new(), Vec::new());
    for manifest in &manifests {
        let path = to.path_of(&manifest.cluster, &manifest.id);
        let copy = async { transfer(from, &from.whole(manifest).await?, to, &bars).await };
        match copy.await {
            Ok(Copied::Now) => copied.push(path),
            Ok(Copied::There) => there.push(path),
            Ok(Copied::Otherwise(Some(key))) => {
                otherwise.insert(path, key.to_string());
            }
            Ok(Copied::Otherwise(None)) => unencrypted.push(path),
            // One that cannot be copied keeps none of the others here.
            Err(error) if error.is_of_one() => failed.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    drop(bars);
    let value = json!({
        "copied": copied, "there": there, "underAnotherKey": otherwise, "unencrypted": unencrypted,
    });
    output::result(global, &value)?;
    let text = || {
        let lines = copied.iter().map(|path| format!("copied to {path}\n"));
        let there = there
            .iter()
            .map(|path| format!("{path} is there already\n"));
        let otherwise = otherwise.iter().map(|(path, key)| {
            format!("{path} is there, encrypted with key {key}, which reads there and does not write: delete it there and copy it again to have it under the one that does\n")
        });
        let lines = lines.chain(there).chain(otherwise);
        lines.collect::<String>().into()
    };
    output::answer(global, text, || value.clone())?;
    if !unencrypted.is_empty() {
        failed.push(format!(
            "{}: it is there already, and not encrypted: delete it there, and copy it again",
            unencrypted.join(", ")
        ));
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(failed.join("; "))),
    }
}

async fn prune(
    global: &Global,
    flag: &StoreFlag,
    rules: &PruneRules,
    owner: Option<String>,
    dry_run: bool,
) -> Result<(), Failure> {
    let store = open(flag)?;
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
    let scope = Scope {
        selectors: flag.cluster_id.clone(),
        owner,
        rules,
    };
    let pruned = remove_expired(&store, &cluster, &scope, dry_run).await?;
    let value = json!(pruned);
    // What stays may be a long list, and where results are read there is little room.
    let gone = json!({ "removed": pruned.removed, "abandoned": pruned.abandoned, "segments": pruned.segments, "locked": pruned.locked, "staged": pruned.staged });
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
        let segments = match pruned.segments {
            0 => String::new(),
            count => format!("{what} {count} segments of the log archive\n"),
        };
        let locked = pruned.locked.iter().map(|id| {
            format!("the store's retention keeps {id} yet: it goes with a later prune\n")
        });
        let locked: String = locked.collect();
        format!("{removed}{locked}{kept}{segments}").into()
    };
    output::answer(global, text, || value.clone())
}

async fn delete(global: &Global, flag: &StoreFlag, backup: &str) -> Result<(), Failure> {
    let store = open(flag)?;
    let id = backup
        .parse::<BackupId>()
        .map_err(|error| Failure::arguments(format!("--backup {error}")))?;
    // One whose manifest is damaged or gone can be deleted too, where the cluster is named.
    let cluster = match cluster_name(flag)? {
        Some(cluster) if flag.cluster_id.is_empty() => cluster,
        _ => find(&store, flag, backup).await?.manifest.cluster,
    };
    let is_there = store.has(&cluster, &id).await? || store.has_anything(&cluster, &id).await?;
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
