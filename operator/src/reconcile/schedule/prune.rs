//! After each new success: what retention does not keep goes, in the store and among the objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;

use crate::api::{
    ConditionKind, EngramBackup, EngramBackupSchedule, EngramBackupScheduleStatus,
    EngramBackupStatus, Reason, set_condition,
};
use crate::desired::{self, Job, Prune, Tool};

use super::super::tool::{self, Run};
use super::super::{Context, Error, Version, now, of_cluster, write_status};
use super::{LABEL, history, named, newest, owner, say, success};

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
        status.pruning_after = None;
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
        write_status(context, schedule, version, status).await?;
    }
    let store = tool::store(context, &namespace, &schedule.spec.store_ref.name).await?;
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
            let removed = forget(context, backups, schedule, &text).await?;
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
                status.pruning_after = None;
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
    status.pruning_after = None;
    status.pruned_after = Some(after);
    status.prune_attempts = 0;
    say(schedule, status, KIND, holds, reason, message);
    Ok(false)
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

/// Backups that were deleted in the store: objects that schedules made go, those that people made
/// say so. Returns how many there were, in words.
async fn forget(
    context: &Context,
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
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
        let same_store = backup.spec.store_ref == schedule.spec.store_ref;
        let status = backup.status.as_ref().filter(|_| same_store)?;
        let id = status.backup_id.as_ref()?;
        pruned.removed.contains(id).then_some((backup, status))
    });
    for (backup, status) in gone {
        if backup.labels().contains_key(LABEL) {
            history::forget(backups, backup).await?;
        } else {
            mark(context, backup, status, &schedule.name_any()).await?;
        }
    }
    let removed = format!("{} backups were deleted", pruned.removed.len());
    Ok(match pruned.locked.len() {
        0 => removed,
        locked => format!(
            "{removed}; {locked} are kept yet by the store's own retention, and go with a later prune"
        ),
    })
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
    let (kind, reason) = (ConditionKind::Complete, Reason::Pruned);
    let conditions = &mut status.conditions;
    set_condition(conditions, kind, false, reason, message, generation, now());
    write_status(context, backup, &Version::of(backup), &status).await
}
