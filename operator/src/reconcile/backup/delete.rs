//! A backup's object goes, and where that was asked for its copy in the store before it.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{BACKUP_FINALIZER, DeletionPolicy, EngramBackup, EngramBackupStore, Reason};
use crate::desired::{self, Job};
use crate::observe::is_owned_by;

use super::super::tool::{self, Run};
use super::super::{Context, Error, Version, has_finalizer, now, set_finalizer, write_status};
use super::{PART, SOON, backup_id, execute, lies_there, pod_name};

/// Deletes the copy in the store, then lets the object go.
pub(super) async fn delete(context: &Context, backup: &EngramBackup) -> Result<Next, Error> {
    if !has_finalizer(backup, BACKUP_FINALIZER) {
        return Ok(Next::await_change());
    }
    let kept = backup.spec.deletion_policy == DeletionPolicy::Retain;
    if kept || !was_begun(context, backup).await? || is_deleted(context, backup).await? {
        set_finalizer(context, backup, BACKUP_FINALIZER, false).await?;
        return Ok(Next::await_change());
    }
    Ok(Next::requeue(SOON))
}

/// Its pod is made before that is written down: whoever was to write it may not have lived to, or was refused.
async fn was_begun(context: &Context, backup: &EngramBackup) -> Result<bool, Error> {
    let status = backup.status.as_ref();
    if status.is_some_and(|status| status.started_at.is_some()) {
        return Ok(true);
    }
    let namespace = backup.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let pod = api.get_opt(&pod_name(backup, PART)).await?;
    if !pod.is_some_and(|pod| is_owned_by(&pod, backup)) {
        return Ok(false);
    }
    // That pod goes first, and then nothing else would say so.
    let mut status = backup.status.clone().unwrap_or_default();
    status.started_at = Some(Time(now()));
    write_status(context, backup, &Version::of(backup), &status).await?;
    Ok(true)
}

/// Whether nothing of it is left in the store.
async fn is_deleted(context: &Context, backup: &EngramBackup) -> Result<bool, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    // One that is still being made would be complete after it was deleted.
    for part in ["backup", "verify", "copy"] {
        if !tool::clear(context, &namespace, &pod_name(backup, part)).await? {
            return Ok(false);
        }
    }
    if let Some(why) = out_of_reach(context, backup).await? {
        let note = format!("the copy stays in the store: {why}");
        context.event(backup, true, "CopyKept", &note).await;
        return Ok(true);
    }
    let id = backup_id(backup);
    let (reason, message) = match execute(context, backup, "delete", Job::Delete { id }).await {
        Ok(Run::Running | Run::Waiting { .. }) => return Ok(false),
        Ok(Run::Done(_)) => return Ok(true),
        // Retention was quicker, or an attempt left nothing behind.
        Ok(Run::Failed {
            reason: Reason::BackupNotFound,
            ..
        }) => return Ok(true),
        Ok(Run::Failed {
            reason: Reason::Deleting,
            ..
        }) => {
            let name = backup.name_any();
            tracing::warn!(
                namespace,
                name,
                "its namespace goes: the copy stays in the store"
            );
            return Ok(true);
        }
        Ok(Run::Failed { reason, message }) => (reason, message),
        // Nobody knows the way to the store any more.
        Err(Error::Input {
            reason: Reason::NotFound,
            message,
        }) => {
            let note = format!("the copy stays in the store: {message}");
            context.event(backup, true, "CopyKept", &note).await;
            return Ok(true);
        }
        Err(Error::Input { reason, message }) => (reason, message),
        Err(error) => return Err(error),
    };
    tool::clear(context, &namespace, &pod_name(backup, "delete")).await?;
    let message = format!(
        "the copy in the store cannot be deleted: {message}; to leave it there, set deletionPolicy: Retain"
    );
    context
        .event(backup, true, "DeletionFailed", &message)
        .await;
    Err(Error::input(reason, message))
}

/// Why nobody comes to the copy any more: its store is at another place by now, and is being deleted itself, so that
/// nobody sets it back.
async fn out_of_reach(context: &Context, backup: &EngramBackup) -> Result<Option<String>, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let api: Api<EngramBackupStore> = Api::namespaced(context.client.clone(), &namespace);
    let store = api.get_opt(&backup.spec.store_ref.name).await?;
    let going = store.filter(|store| store.meta().deletion_timestamp.is_some());
    let elsewhere = going.and_then(|store| lies_there(backup, &desired::access(&store)).err());
    Ok(elsewhere.map(|error| error.to_string()))
}
