//! `restore`: a backup out of the store into a member's data directory.

use std::collections::BTreeSet;
use std::path::PathBuf;

use engram_backup::point::When;
use engram_backup::restore::{
    Outcome, Target, earlier, origin_of, restore as write, restore_to as write_to,
};
use engram_backup::store::LATEST;
use engram_server::node::offline::MemberFlags;
use engram_server::snapshot::restore::{Bump, Restored};
use engram_server::storage::Identity;
use serde_json::{Value, json};

use super::archive::{self, when};
use super::backup::{find, open};
use crate::cli::{Global, Restore, RestoreTarget};
use crate::failure::Failure;
use crate::output;
use crate::progress::Bars;

/// Where to and as whom, of etcdutl's flags.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Who the member will be.
    pub member: MemberFlags,
    /// How much the revision is raised.
    pub bump: Bump,
}

impl Destination {
    /// Checks the flags, as etcdutl does.
    pub fn of(target: &RestoreTarget) -> Result<Destination, Failure> {
        if (target.bump_revision > 0) != target.mark_compacted {
            return Err(Failure::arguments(
                "--mark-compacted required if --bump-revision > 0, and the other way round",
            ));
        }
        if let Some(wal_dir) = target.wal_dir.as_ref().filter(|dir| dir.exists()) {
            return Err(Failure::new(format!(
                "wal-dir {:?} exists",
                wal_dir.display().to_string()
            )));
        }
        let default_dir = || PathBuf::from(format!("{}.etcd", target.name));
        Ok(Destination {
            data_dir: target.data_dir.clone().unwrap_or_else(default_dir),
            member: MemberFlags {
                name: target.name.clone(),
                initial_cluster: target.initial_cluster.clone(),
                token: target.initial_cluster_token.clone(),
                peer_urls: target.initial_advertise_peer_urls.clone(),
            },
            bump: Bump(target.bump_revision),
        })
    }

    fn target(&self) -> Target {
        Target {
            data_dir: self.data_dir.clone(),
            member: self.member.clone(),
            bump: self.bump,
        }
    }
}

/// Whether the flags name more than one member.
fn is_for_several(flags: &MemberFlags) -> bool {
    let pairs = flags.initial_cluster.split(',');
    let names: BTreeSet<_> = pairs.map(|pair| pair.split('=').next()).collect();
    names.len() > 1
}

/// What a restore says in JSON.
pub fn value(restored: &Restored, destination: &Destination, from: &str) -> Value {
    json!({
        "restored": true,
        "from": from,
        "dataDir": destination.data_dir,
        "revision": restored.revision.0,
        "records": restored.records,
        "clusterID": restored.identity.cluster.to_string(),
        "memberID": restored.identity.member.to_string(),
    })
}

/// `restore`.
pub async fn restore(global: &Global, restore: Restore) -> Result<(), Failure> {
    let destination = Destination::of(&restore.target)?;
    if let Some(when) = when(&restore.moment) {
        return restore_to(global, &restore, &destination, when).await;
    }
    // A backup that ends between two members' restores would have them differ for ever.
    if restore.backup == LATEST && is_for_several(&destination.member) {
        return Err(Failure::arguments(
            "--backup is required for a cluster of several members: each has to be restored from the same one",
        ));
    }
    let target = destination.target();
    if let Some(Outcome::AlreadyThere {
        identity, origin, ..
    }) = earlier(&target)?
    {
        let dir = target.data_dir.display();
        let name = origin.rsplit('/').next().unwrap_or_default();
        let is_another = match restore.backup.as_str() {
            // A moment behind a backup is none.
            LATEST => name.contains('@'),
            backup => name != backup,
        };
        if is_another {
            return Err(Failure::new(format!(
                "{dir} was restored from {origin} before: remove it to restore {} there",
                restore.backup
            )));
        }
        eprintln!(
            "{dir} was restored from {origin} before, and is member {}'s: nothing to do",
            identity.member
        );
        let value = json!({
            "restored": false, "from": origin, "dataDir": target.data_dir,
            "clusterID": identity.cluster.to_string(), "memberID": identity.member.to_string(),
        });
        return say(global, &value, "nothing to do");
    }
    let store = open(&restore.store)?;
    let manifest = find(&store, &restore.store, &restore.backup)
        .await?
        .manifest;
    let bars = Bars::new();
    let restored = write(&store, &manifest, &target, &bars).await?;
    drop(bars);
    let from = store.path_of(&manifest.cluster, &manifest.id);
    let line = format!(
        "restored {from} to {} at revision {}",
        target.data_dir.display(),
        restored.revision
    );
    let mut value = value(&restored, &destination, &from);
    value["backupOf"] = json!(manifest.whose());
    say(global, &value, &line)
}

/// `restore` to a moment.
async fn restore_to(
    global: &Global,
    restore: &Restore,
    destination: &Destination,
    when: When,
) -> Result<(), Failure> {
    // The archive goes on between two members' restores.
    if when == When::End && is_for_several(&destination.member) {
        return Err(Failure::arguments(
            "--to-end means another moment for each of several members: take the revision that `engramctl archive plan --to-end` says, with --to-revision",
        ));
    }
    let target = destination.target();
    if let Some(Outcome::AlreadyThere {
        identity,
        origin,
        asked,
    }) = earlier(&target)?
    {
        let revision = origin.rsplit_once('@').map(|(_, revision)| revision);
        let is_another = match when {
            When::Revision(wanted) => revision != Some(wanted.to_string().as_str()),
            When::Time(wanted) => revision.is_none() || asked.is_some_and(|asked| asked != wanted),
            When::End => revision.is_none(),
        };
        return there_already(global, &target, &identity, &origin, is_another);
    }
    let store = open(&restore.store)?;
    let point = archive::find(&store, &restore.store, &restore.backup, when).await?;
    let bars = Bars::new();
    let made = write_to(&store, &point, when, &target, &bars).await?;
    drop(bars);
    let from = origin_of(&store, &point);
    let line = format!(
        "restored {from} to {} at revision {}, HashKV {} at revision {}",
        target.data_dir.display(),
        made.restored.revision,
        made.hash_kv.hash,
        made.hash_kv.hash_revision
    );
    let mut value = value(&made.restored, destination, &from);
    value["backupOf"] = json!(point.manifest.whose());
    value["plan"] = archive::plan_value(&point);
    value["hashKV"] = json!(made.hash_kv.hash);
    value["hashRevision"] = json!(made.hash_kv.hash_revision.0);
    value["compactRevision"] = json!(made.hash_kv.compact_revision.0);
    say(global, &value, &line)
}

/// A pod that is started again runs its restore again; it may have served since.
fn there_already(
    global: &Global,
    target: &Target,
    identity: &Identity,
    origin: &str,
    is_another: bool,
) -> Result<(), Failure> {
    let dir = target.data_dir.display();
    if is_another {
        return Err(Failure::new(format!(
            "{dir} was restored from {origin} before: remove it to restore another moment there"
        )));
    }
    eprintln!(
        "{dir} was restored from {origin} before, and is member {}'s: nothing to do",
        identity.member
    );
    let value = json!({
        "restored": false, "from": origin, "dataDir": target.data_dir,
        "clusterID": identity.cluster.to_string(), "memberID": identity.member.to_string(),
    });
    say(global, &value, "nothing to do")
}

fn say(global: &Global, value: &Value, line: &str) -> Result<(), Failure> {
    output::result(global, value)?;
    output::answer(global, || format!("{line}\n").into(), || value.clone())
}
