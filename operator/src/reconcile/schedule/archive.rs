//! After each new success: the cluster's log archive is read back, segment by segment, where it lies in the same store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    ArchiveVerification, ConditionKind, EngramBackup, EngramBackupSchedule,
    EngramBackupScheduleStatus, EngramCluster, Reason,
};
use crate::desired::{self, Job, Tool};

use super::super::tool::{self, Run};
use super::super::{Context, Error, Version, now, write_status};
use super::extent::{self, Chain};
use super::{named, newest, say, success};

const KIND: ConditionKind = ConditionKind::ArchiveVerified;
/// How long it may take: an archive may be large.
const DEADLINE_SECONDS: i64 = 6 * 3600;

/// Whether a pod reads it.
pub(super) fn is_read(status: &EngramBackupScheduleStatus) -> bool {
    let stands = status.archive.as_ref();
    stands.is_some_and(|stands| stands.running_after.is_some())
}

/// Verifies it after the newest success, once. Whether it is at it.
pub(super) async fn verify(
    context: &Context,
    (schedule, version): (&EngramBackupSchedule, &Version),
    made: &[EngramBackup],
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let namespace = schedule.namespace().unwrap_or_default();
    let cluster = match schedule.spec.verify {
        true => tool::cluster(context, &namespace, &schedule.spec.cluster_ref.name).await?,
        false => None,
    };
    let Some(cluster) = cluster.filter(|cluster| archives_here(schedule, cluster)) else {
        return give_up(context, &namespace, status).await;
    };
    let mut stands = status.archive.clone().unwrap_or_default();
    // What is under way comes to its end first, whichever backup has succeeded meanwhile.
    let newest_name = newest(made).map(|one| one.name_any());
    let Some(after) = stands.running_after.clone().or(newest_name) else {
        return Ok(false);
    };
    if stands.after.as_ref() == Some(&after) {
        return Ok(false);
    }
    let name = pod_of(&after);
    if let Some(at) = &stands.retry_at {
        if now() < at.0 || !tool::clear(context, &namespace, &name).await? {
            return Ok(true);
        }
        stands.retry_at = None;
    }
    if stands.running_after.as_ref() != Some(&after) {
        // Before its pod is there: whoever comes after this operator looks for it by that.
        stands.running_after = Some(after.clone());
        status.archive = Some(stands.clone());
        write_status(context, schedule, version, status).await?;
    }
    let store = tool::store(context, &namespace, &schedule.spec.store_ref.name).await?;
    let access = desired::access(&store);
    let backup = named(made, &after);
    let tool = Tool {
        name,
        namespace: namespace.clone(),
        cluster_name: &schedule.spec.cluster_ref.name,
        cluster: Some(&cluster),
        image: &context.settings.image,
        job: Job::VerifyArchive {
            cluster_id: backup.and_then(|one| one.status.as_ref()?.cluster_id.clone()),
        },
        access: &access,
        deadline: DEADLINE_SECONDS,
        owner: schedule.controller_owner_ref(&()),
    };
    let found = match tool::run(context, &tool).await? {
        Run::Running | Run::Waiting { .. } => {
            status.archive = Some(stands);
            return Ok(true);
        }
        Run::Done(text) => Ok(text),
        Run::Failed { reason, message } => Err((reason, message)),
    };
    if let Ok(chains) = found.as_deref().map(chains) {
        extent::tell(context, made, &chains).await;
    }
    let began = backup.and_then(success).unwrap_or_default();
    let retries = ended(context, schedule, (found, began), &mut stands, status).await;
    tool::clear(context, &namespace, &tool.name).await?;
    stands.running_after = None;
    if !retries {
        stands.after = Some(after);
        stands.attempts = 0;
    }
    status.archive = Some(stands);
    Ok(retries)
}

/// It is not this schedule's, or not any more: what is under way ends, and nothing is said of it.
async fn give_up(
    context: &Context,
    namespace: &str,
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let stands = status.archive.as_ref();
    if let Some(after) = stands.and_then(|stands| stands.running_after.as_ref())
        && !tool::clear(context, namespace, &pod_of(after)).await?
    {
        return Ok(true);
    }
    status.archive = None;
    let kind = KIND.as_str();
    status.conditions.retain(|one| one.type_ != kind);
    Ok(false)
}

/// The pod that reads it back after a backup.
fn pod_of(after: &str) -> String {
    format!("{after}-archive")
}

/// Whether the cluster archives its log to the store that the schedule's backups are in.
fn archives_here(schedule: &EngramBackupSchedule, cluster: &EngramCluster) -> bool {
    let archive = cluster.spec.archive.as_ref();
    archive.is_some_and(|archive| archive.store_ref == schedule.spec.store_ref)
}

/// Says what came of it; whether it is tried again.
async fn ended(
    context: &Context,
    schedule: &EngramBackupSchedule,
    (found, began): (
        Result<String, (Reason, String)>,
        k8s_openapi::jiff::Timestamp,
    ),
    stands: &mut ArchiveVerification,
    status: &mut EngramBackupScheduleStatus,
) -> bool {
    let (reason, message) = match found {
        Err(failed) => failed,
        Ok(text) => {
            let (message, to_revision) = whole(&text);
            stands.verified_at = Some(Time(now()));
            stands.to_revision = to_revision.or(stands.to_revision);
            say(schedule, status, KIND, true, Reason::Succeeded, message);
            return false;
        }
    };
    let failed = stands.attempts + 1;
    if let Some(wait) = tool::wait(reason, failed, began, now()) {
        stands.attempts = failed;
        stands.retry_at = Some(Time(now() + wait));
        let message = format!("attempt {failed} failed: {message}; it is tried again");
        say(schedule, status, KIND, false, Reason::Retrying, message);
        return true;
    }
    if reason == Reason::VerificationFailed {
        stands.damaged_at = Some(Time(now()));
    }
    let event = context.event(schedule, true, "ArchiveVerificationFailed", &message);
    event.await;
    say(schedule, status, KIND, false, reason, message);
    false
}

/// The chains that were found whole. Kubernetes keeps the last 4 KiB of what is said: of very many nothing is read.
fn chains(text: &str) -> Vec<Chain> {
    serde_json::from_str(text.trim()).unwrap_or_default()
}

/// What was found whole, in words, and up to which revision.
fn whole(text: &str) -> (String, Option<i64>) {
    let chains = chains(text);
    if chains.is_empty() {
        return ("every segment was read back".into(), None);
    }
    let each = chains.iter().map(|chain| {
        format!(
            "revisions {} to {} in {} segments",
            chain.from_revision, chain.to_revision, chain.segments
        )
    });
    let each: Vec<String> = each.collect();
    let last = chains.iter().map(|chain| chain.to_revision).max();
    (format!("read back: {}", each.join("; ")), last)
}

/// Measures what all schedules know of a cluster's log archive; of another store than it archives to, or where it is
/// not read back any more, nothing is known.
pub(in crate::reconcile) fn measure(
    context: &Context,
    cluster: &EngramCluster,
    schedules: &[EngramBackupSchedule],
) {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    let known = schedules.iter().filter(|one| {
        let stays = one.metadata.deletion_timestamp.is_none();
        let spec = &one.spec;
        stays && spec.verify && spec.cluster_ref.name == name && archives_here(one, cluster)
    });
    let known = known.filter_map(|one| one.status.as_ref()?.archive.as_ref());
    let known: Vec<&ArchiveVerification> = known.collect();
    let whole = known
        .iter()
        .filter_map(|one| one.verified_at.as_ref())
        .max();
    let damaged = known.iter().filter_map(|one| one.damaged_at.as_ref()).max();
    let labels = [namespace.as_str(), name.as_str()];
    let gauge = &context.metrics.archive_verified;
    match whole {
        Some(at) => gauge
            .with_label_values(&labels)
            .set(at.0.as_duration().as_secs_f64()),
        // It may not have been there either.
        None => drop(gauge.remove_label_values(&labels)),
    }
    let gauge = &context.metrics.archive_damaged;
    match (whole, damaged) {
        (None, None) => drop(gauge.remove_label_values(&labels)),
        // Whichever was looked at last.
        (whole, damaged) => gauge
            .with_label_values(&labels)
            .set(i64::from(damaged.is_some() && damaged >= whole)),
    }
}
