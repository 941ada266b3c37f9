//! After each new success: what retention does not keep goes, in the store and among the objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;

use crate::api::{
    ConditionKind, EngramBackup, EngramBackupSchedule, EngramBackupScheduleStatus,
    EngramBackupStatus, EngramBackupStore, Reason,
};
use crate::desired::{self, Job, Prune, Tool};

use super::super::tool::{self, Run};
use super::super::{Context, Course, Error, Version, now, of_cluster, set_course, write_status};
use super::{history, maker, named, newest, owner, say, success};

const KIND: ConditionKind = ConditionKind::Pruned;
/// How long a prune may take.
const DEADLINE_SECONDS: i64 = 3600;

/// What `engramctl backup prune` says; only what is read here.
#[derive(Deserialize)]
struct Pruned {
    removed: Vec<String>,
    /// What an engramctl that knows of it says.
    #[serde(default)]
    locked: Vec<String>,
}

/// Prunes after the newest success, once. Whether it is at it.
pub(super) async fn prune(
    context: &Context,
    backups: &Api<EngramBackup>,
    (schedule, version): (&EngramBackupSchedule, &Version),
    made: &[EngramBackup],
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let namespace = schedule.namespace().unwrap_or_default();
    let Some(retention) = &schedule.spec.retention else {
        // Nothing goes any more, whatever is under way.
        if let Some(after) = &status.pruning_after
            && !tool::clear(context, &namespace, &pod_of(after)).await?
        {
            return Ok(true);
        }
        ended(status);
        return Ok(false);
    };
    // What is under way comes to its end first, whichever backup has succeeded meanwhile.
    let newest_name = newest(made).map(|one| one.name_any());
    let Some(after) = status.pruning_after.clone().or(newest_name) else {
        return Ok(false);
    };
    if status.pruned_after.as_ref() == Some(&after) {
        return Ok(false);
    }
    let backup = named(made, &after);
    let began = backup.and_then(success).unwrap_or_default();
    let cluster_id = backup.and_then(|one| whose(one.status.as_ref()?));
    let name = pod_of(&after);
    if let Some(at) = &status.prune_retry_at {
        if now() < at.0 || !tool::clear(context, &namespace, &name).await? {
            return Ok(true);
        }
        status.prune_retry_at = None;
    }
    if status.pruning_after.as_ref() != Some(&after) {
        // Before its pod is there: whoever comes after this operator looks for it by that.
        status.pruning_after = Some(after.clone());
        status.pruning_store = Some(schedule.spec.store_ref.name.clone());
        write_status(context, schedule, version, status).await?;
    }
    let Some(store) = store_of(context, schedule, status).await? else {
        // It is pruned no more, and the schedule's own has its turn after the next backup.
        if tool::clear(context, &namespace, &name).await? {
            ended(status);
            status.pruned_after = Some(after);
        }
        return Ok(true);
    };
    let cluster_name = &schedule.spec.cluster_ref.name;
    let cluster = tool::cluster(context, &namespace, cluster_name).await?;
    let access = desired::access(&store);
    let tool = Tool {
        name,
        namespace: namespace.clone(),
        cluster_name,
        cluster: cluster.as_ref(),
        image: &context.settings.image,
        job: Job::Prune(Prune {
            owner: owner(&namespace, &schedule.name_any()),
            cluster_id,
            retention: retention.clone(),
        }),
        access: &access,
        deadline: DEADLINE_SECONDS,
        owner: schedule.controller_owner_ref(&()),
    };
    let (holds, reason, message) = match tool::run(context, &tool).await? {
        Run::Running | Run::Waiting { .. } => return Ok(true),
        Run::Done(text) => {
            let removed = forget(context, backups, (schedule, &store.name_any()), &text).await?;
            let message = format!("pruned after {after}: {removed}");
            (true, Reason::Succeeded, message)
        }
        Run::Failed { reason, message } => {
            let failed = status.prune_attempts + 1;
            if let Some(wait) = tool::wait(reason, failed, began, now()) {
                status.prune_attempts = failed;
                status.prune_retry_at = Some(Time(now() + wait));
                let message = format!("attempt {failed} failed: {message}; it is tried again");
                say(schedule, status, KIND, false, Reason::Retrying, message);
                // Its words are kept; its name is this backup's, and there may be a newer one by then.
                tool::clear(context, &namespace, &tool.name).await?;
                ended(status);
                return Ok(true);
            }
            (false, reason, message)
        }
    };
    // What was refused is not tried again before the next backup.
    if !holds {
        context.event(schedule, true, "PruneFailed", &message).await;
    }
    tool::clear(context, &namespace, &tool.name).await?;
    ended(status);
    status.pruned_after = Some(after);
    status.prune_attempts = 0;
    say(schedule, status, KIND, holds, reason, message);
    Ok(false)
}

/// Nothing is under way any more.
fn ended(status: &mut EngramBackupScheduleStatus) {
    (status.pruning_after, status.pruning_store) = (None, None);
}

/// The store that is being pruned: the one that it was begun in, which may not be the schedule's any more; none where
/// that is gone.
async fn store_of(
    context: &Context,
    schedule: &EngramBackupSchedule,
    status: &EngramBackupScheduleStatus,
) -> Result<Option<EngramBackupStore>, Error> {
    let namespace = schedule.namespace().unwrap_or_default();
    let own = &schedule.spec.store_ref.name;
    let name = status.pruning_store.as_ref().unwrap_or(own);
    match tool::store(context, &namespace, name).await {
        Err(Error::Input {
            reason: Reason::NotFound,
            ..
        }) if name != own => Ok(None),
        found => found.map(Some),
    }
}

/// The pod that prunes after a backup.
fn pod_of(after: &str) -> String {
    format!("{after}-prune")
}

/// Whose a backup is: only that cluster's are pruned, and not those of another one that had its name.
fn whose(backup: &EngramBackupStatus) -> Option<String> {
    let (id, incarnation) = (backup.cluster_id.as_ref()?, backup.incarnation.as_ref()?);
    Some(format!("{id}/{incarnation}"))
}

/// Backups that were deleted in a store: objects that schedules made go, those that people made
/// say so. Returns how many there were, in words.
async fn forget(
    context: &Context,
    backups: &Api<EngramBackup>,
    (schedule, store): (&EngramBackupSchedule, &str),
    text: &str,
) -> Result<String, Error> {
    // Kubernetes keeps the last 4 KiB: of a long list nothing is read, and its objects stay until
    // the history limits take them.
    let Ok(pruned) = serde_json::from_str::<Pruned>(text.trim()) else {
        return Ok("the list of what was deleted is too long to be kept".into());
    };
    let cluster = &schedule.spec.cluster_ref.name;
    let own = of_cluster(cluster);
    let all = backups.list(&own).await?.items;
    let gone = all.iter().filter_map(|backup| {
        let same_store = backup.spec.store_ref.name == store;
        let status = backup.status.as_ref().filter(|_| same_store)?;
        let id = status.backup_id.as_ref()?;
        pruned.removed.contains(id).then_some((backup, status))
    });
    let mut removed = format!("{} backups were deleted", pruned.removed.len());
    for (backup, status) in gone {
        let done = match maker(backup) {
            Some(_) => history::forget(backups, backup).await,
            None => mark(context, backup, status, &schedule.name_any()).await,
        };
        match done {
            // A policy of the namespace's. They are gone all the same, and the next ones are not kept for that.
            Err(Error::Kube(error)) if is_refusal(&error) => {
                removed.push_str(&format!(
                    "; EngramBackup {} stays: {error}",
                    backup.name_any()
                ));
            }
            done => done?,
        }
    }
    Ok(match pruned.locked.len() {
        0 => removed,
        locked => format!(
            "{removed}; {locked} are kept yet by the store's own retention, and go with a later prune"
        ),
    })
}

/// Whether the API server does not let it be done, however often it is tried.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(refused) if matches!(refused.code, 403 | 422))
}

async fn mark(
    context: &Context,
    backup: &EngramBackup,
    status: &EngramBackupStatus,
    schedule: &str,
) -> Result<(), Error> {
    let mut status = status.clone();
    let message = format!("the retention of EngramBackupSchedule {schedule} deleted it");
    let generation = backup.metadata.generation;
    let conditions = &mut status.conditions;
    set_course(
        conditions,
        Course::Bad,
        Reason::Pruned,
        &message,
        generation,
    );
    write_status(context, backup, &Version::of(backup), &status).await
}
