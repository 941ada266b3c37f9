//! What backups a cluster has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::api::{BackupPhase, EngramBackup, EngramCluster, EngramClusterStatus, LastBackup};
use crate::build::Names;

use super::super::{Context, Error};

/// Sets the newest completed backup, and when one was last verified. What is known stays known when
/// the objects go.
///
/// # Errors
/// The API server did not answer.
pub(super) async fn backups(
    context: &Context,
    cluster: &EngramCluster,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let api: Api<EngramBackup> = Api::namespaced(context.client.clone(), &names.namespace);
    let own = ListParams::default().fields(&format!("spec.clusterRef.name={}", names.cluster));
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
