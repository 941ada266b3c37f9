//! What backups a cluster has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::api::{
    BackupPhase, EngramBackup, EngramBackupSchedule, EngramBackupStore, EngramCluster,
    EngramClusterStatus, LastBackup,
};
use crate::desired::Names;

use super::super::calm::{self, News};
use super::super::{Context, Error, of_cluster, schedule};

/// Sets the newest completed backup, and when one was last verified. What is known stays known when
/// the objects go. And measures when the next one is due, and what is known of the log archive.
///
/// # Errors
/// The API server did not answer.
pub(super) async fn backups(
    context: &Context,
    cluster: &EngramCluster,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let uid = cluster.uid().unwrap_or_default();
    let heard = context.calm.heard(&calm::key_of(cluster));
    let archive = cluster.spec.archive.as_ref();
    let archive = archive.map(|archive| &archive.store_ref.name);
    let form = format!("{} {archive:?}", heard.of(News::Backups));
    if context.is_in_order("backups", &uid, &form) {
        return Ok(());
    }
    let api: Api<EngramBackup> = Api::namespaced(context.client.clone(), &names.namespace);
    let own = of_cluster(&names.cluster);
    let all = api.list(&own).await?.items;
    let newest = all
        .iter()
        .filter_map(completed)
        .max_by_key(|one| one.completed_at.0);
    if newest.is_some() {
        status.last_backup = newest;
    }
    let verified = all.iter().filter_map(verified_at).max();
    status.last_verified_at = verified.max(status.last_verified_at.take());
    expect(context, cluster, &names).await?;
    keep(context, &uid, &names.namespace).await?;
    context.found_in_order("backups", &uid, &form);
    Ok(())
}

async fn expect(context: &Context, cluster: &EngramCluster, names: &Names) -> Result<(), Error> {
    let api: Api<EngramBackupSchedule> = Api::namespaced(context.client.clone(), &names.namespace);
    let all = api.list(&ListParams::default()).await?.items;
    schedule::measure(context, cluster, &all);
    let own = all
        .iter()
        .filter(|one| one.spec.cluster_ref.name == names.cluster);
    let labels = [names.namespace.as_str(), names.cluster.as_str()];
    let gauge = &context.metrics.backup_expected;
    match own.filter_map(schedule::expected).min() {
        Some(at) => gauge
            .with_label_values(&labels)
            .set(at.as_duration().as_secs_f64()),
        // It may not have been there either.
        None => drop(gauge.remove_label_values(&labels)),
    }
    Ok(())
}

/// Nothing is measured of stores that are gone: no pass is told of that. Looked at now and then.
async fn keep(context: &Context, uid: &str, namespace: &str) -> Result<(), Error> {
    if context.is_in_order("stores", uid, namespace) {
        return Ok(());
    }
    let api: Api<EngramBackupStore> = Api::namespaced(context.client.clone(), namespace);
    let all = api.list(&ListParams::default()).await?.items;
    let names: Vec<String> = all.iter().map(|one| one.name_any()).collect();
    context.metrics.keep_stores(namespace, &names);
    context.found_in_order("stores", uid, namespace);
    Ok(())
}

fn completed(backup: &EngramBackup) -> Option<LastBackup> {
    let status = backup.status.as_ref()?;
    let good = matches!(
        status.phase,
        Some(BackupPhase::Completed | BackupPhase::Verifying)
    );
    let completed_at = status.completed_at.clone().filter(|_| good)?;
    Some(LastBackup {
        name: backup.name_any(),
        completed_at,
        revision: status.revision,
    })
}

fn verified_at(backup: &EngramBackup) -> Option<Time> {
    let conditions = &backup.status.as_ref()?.conditions;
    let verified = conditions
        .iter()
        .find(|one| one.type_ == "Verified" && one.status == "True")?;
    Some(verified.last_transition_time.clone())
}
