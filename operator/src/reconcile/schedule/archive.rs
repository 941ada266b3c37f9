//! After each new success: the cluster's log archive is read back, segment by segment, where it lies in the same store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;

use crate::api::{
    ArchiveVerification, ConditionKind, EngramBackup, EngramBackupSchedule,
    EngramBackupScheduleStatus, EngramCluster, Reason, condition, set_condition,
};
use crate::build::{self, Job, Tool};

use super::super::tool::{self, Run};
use super::super::{Context, Error, now};
use super::{newest, success};

/// How long it may take: an archive may be large.
const DEADLINE_SECONDS: i64 = 6 * 3600;

/// A chain, as `engramctl archive verify` says it; only what is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chain {
    from_revision: i64,
    to_revision: i64,
    segments: u64,
}

/// Verifies it after the newest success, once. Whether it is at it.
pub(super) async fn verify(
    context: &Context,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let busy = advance(context, schedule, made, status).await?;
    measure(context, schedule, status);
    Ok(busy)
}

async fn advance(
    context: &Context,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let Some(newest) = newest(made).filter(|_| schedule.spec.verify) else {
        return Ok(false);
    };
    let mut stands = status.archive.clone().unwrap_or_default();
    if stands.after.as_ref() == Some(&newest.name_any()) {
        return Ok(false);
    }
    let namespace = schedule.namespace().unwrap_or_default();
    let cluster = tool::cluster(context, &namespace, &schedule.spec.cluster_ref.name).await?;
    let Some(cluster) = cluster.filter(|cluster| archives_here(schedule, cluster)) else {
        return Ok(false);
    };
    let name = format!("{}-archive", newest.name_any());
    if let Some(at) = &stands.retry_at {
        if now() < at.0 || !tool::clear(context, &namespace, &name).await? {
            return Ok(true);
        }
        stands.retry_at = None;
    }
    let store = tool::store(context, &namespace, &schedule.spec.store_ref.name).await?;
    let access = build::access(&store);
    let backup = newest.status.as_ref();
    let tool = Tool {
        name,
        namespace: namespace.clone(),
        cluster_name: &schedule.spec.cluster_ref.name,
        cluster: Some(&cluster),
        image: &context.settings.image,
        job: Job::VerifyArchive {
            cluster_id: backup.and_then(|backup| backup.cluster_id.clone()),
        },
        access: &access,
        deadline: DEADLINE_SECONDS,
        owner: schedule.controller_owner_ref(&()),
    };
    let run = tool::run(context, &tool).await?;
    if matches!(run, Run::Running | Run::Waiting { .. }) {
        status.archive = Some(stands);
        return Ok(true);
    }
    let began = success(newest).unwrap_or_default();
    let retries = ended(context, schedule, (run, began), &mut stands, status).await;
    tool::clear(context, &namespace, &tool.name).await?;
    if !retries {
        stands.after = Some(newest.name_any());
        stands.attempts = 0;
    }
    status.archive = Some(stands);
    Ok(retries)
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
    (run, began): (Run, k8s_openapi::jiff::Timestamp),
    stands: &mut ArchiveVerification,
    status: &mut EngramBackupScheduleStatus,
) -> bool {
    let (reason, message) = match run {
        Run::Failed { reason, message } => (reason, message),
        Run::Done(text) => {
            let (message, to_revision) = whole(&text);
            stands.verified_at = Some(Time(now()));
            stands.to_revision = to_revision.or(stands.to_revision);
            say(schedule, status, true, Reason::Succeeded, message);
            return false;
        }
        // Looked at before.
        Run::Running | Run::Waiting { .. } => return true,
    };
    let failed = stands.attempts + 1;
    if let Some(wait) = tool::wait(reason, failed, began, now()) {
        stands.attempts = failed;
        stands.retry_at = Some(Time(now() + wait));
        let message = format!("attempt {failed} failed: {message}; it is tried again");
        say(schedule, status, false, Reason::Retrying, message);
        return true;
    }
    let event = context.event(schedule, true, "ArchiveVerificationFailed", &message);
    event.await;
    say(schedule, status, false, reason, message);
    false
}

/// What was found whole, in words, and up to which revision.
fn whole(text: &str) -> (String, Option<i64>) {
    // Kubernetes keeps the last 4 KiB: of very many chains nothing is read.
    let Ok(chains) = serde_json::from_str::<Vec<Chain>>(text.trim()) else {
        return ("every segment was read back".into(), None);
    };
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

fn say(
    schedule: &EngramBackupSchedule,
    status: &mut EngramBackupScheduleStatus,
    holds: bool,
    reason: Reason,
    message: String,
) {
    let generation = schedule.metadata.generation;
    let kind = ConditionKind::ArchiveVerified;
    let conditions = &mut status.conditions;
    set_condition(conditions, kind, holds, reason, message, generation, now());
}

/// Of each pass: an operator that was started anew knows it from the status.
fn measure(
    context: &Context,
    schedule: &EngramBackupSchedule,
    status: &EngramBackupScheduleStatus,
) {
    let namespace = schedule.namespace().unwrap_or_default();
    let labels = [namespace.as_str(), schedule.spec.cluster_ref.name.as_str()];
    let verified = status
        .archive
        .as_ref()
        .and_then(|one| one.verified_at.as_ref());
    if let Some(at) = verified {
        let seconds = at.0.as_duration().as_secs_f64();
        let gauge = &context.metrics.archive_verified;
        gauge.with_label_values(&labels).set(seconds);
    }
    let last = condition(&status.conditions, ConditionKind::ArchiveVerified);
    let damaged = match last.map(|last| last.reason.as_str()) {
        Some(reason) if reason == Reason::VerificationFailed.as_str() => 1,
        Some(reason) if reason == Reason::Succeeded.as_str() => 0,
        // What is not known anew is as it was.
        _ => return,
    };
    let gauge = &context.metrics.archive_damaged;
    gauge.with_label_values(&labels).set(damaged);
}
