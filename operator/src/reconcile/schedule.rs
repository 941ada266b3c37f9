//! Backups by the clock: which are due, which are missed, what is kept.

mod due;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::controller::Action as Next;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    BackupPhase, ConcurrencyPolicy, ConditionKind, EngramBackup, EngramBackupSchedule,
    EngramBackupScheduleStatus, EngramBackupSpec, Reason, Retention, set_condition,
};
use crate::build::{self, Tool, cluster_labels};

use super::tool::{self, Run};
use super::{Context, Error, is_gone, now, write_status};
use due::Clock;

/// On backups: the schedule that made them.
const LABEL: &str = "engram.dev/schedule";
/// A schedule is looked at this often at least: clocks are set, and zones change.
const LOOK: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(5);
/// More backups than any store has.
const EVERY: u32 = 1_000_000;
/// How long a prune may take.
const PRUNE_SECONDS: i64 = 3600;

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramBackupSchedule>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramBackupSchedule> = Api::namespaced(context.client.clone(), &namespace);
    let Some(schedule) = api.get_opt(&seen.name_any()).await? else {
        return Ok(Next::await_change());
    };
    if schedule.meta().deletion_timestamp.is_some() {
        return Ok(Next::await_change());
    }
    let before = schedule.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = schedule.metadata.generation;
    let result = pass(&context, &schedule, &mut status).await;
    if let Err(Error::Input { reason, message }) = &result {
        say(&schedule, &mut status, false, *reason, message);
    }
    if status != before {
        write_status(&context, &schedule, &status).await?;
    }
    match result {
        Ok(wait) => Ok(Next::requeue(wait)),
        // The user's to correct: the watch brings it.
        Err(Error::Input { .. }) => Ok(Next::requeue(LOOK)),
        Err(error) => Err(error),
    }
}

fn say(
    schedule: &EngramBackupSchedule,
    status: &mut EngramBackupScheduleStatus,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    let generation = schedule.metadata.generation;
    set_condition(
        &mut status.conditions,
        ConditionKind::Ready,
        holds,
        reason,
        message,
        generation,
        now(),
    );
}

async fn pass(
    context: &Context,
    schedule: &EngramBackupSchedule,
    status: &mut EngramBackupScheduleStatus,
) -> Result<Duration, Error> {
    let spec = &schedule.spec;
    let clock = Clock::new(&spec.schedule, &spec.time_zone);
    let clock = clock.map_err(|error| Error::input(Reason::InvalidSchedule, error.to_string()))?;
    let namespace = schedule.namespace().unwrap_or_default();
    tool::store(context, &namespace, &spec.store_ref.name).await?;
    let backups: Api<EngramBackup> = Api::namespaced(context.client.clone(), &namespace);
    let own = ListParams::default().labels(&format!("{LABEL}={}", schedule.name_any()));
    let mut made = backups.list(&own).await?.items;
    made.sort_by_key(|backup| {
        backup
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
    });
    let running = made.iter().filter(|backup| is_running(backup));
    status.active = running.map(|backup| backup.name_any()).collect();
    let ended = made.iter().filter_map(|backup| success(backup)).max();
    status.last_success_time = ended.map(Time).or(status.last_success_time.take());
    trim(&backups, schedule, &made).await?;
    let pruning = prune(context, schedule, &made, status).await?;
    if spec.suspend {
        status.next_schedule_time = None;
        say(
            schedule,
            status,
            true,
            Reason::Suspended,
            "no backups are made for now",
        );
        return Ok(LOOK);
    }
    let now = now();
    let created = schedule
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let last = status.last_schedule_time.as_ref().map(|time| time.0);
    let at_once = spec.immediate && last.is_none();
    let due = if at_once {
        due::Due {
            at: Some(now),
            missed: 0,
        }
    } else {
        clock.due(last.unwrap_or(created), now, spec.starting_deadline_seconds)
    };
    status.missed += due.missed;
    if let Some(at) = due.at {
        begin(context, &backups, schedule, &made, at, status).await?;
    }
    let next = clock.next(now);
    status.next_schedule_time = next.map(Time);
    say(
        schedule,
        status,
        true,
        Reason::Scheduled,
        "backups are made when they are due",
    );
    let until = next.map_or(LOOK, |next| {
        Duration::try_from(next.duration_since(now)).unwrap_or(SOON)
    });
    Ok(if pruning {
        SOON
    } else {
        until.clamp(Duration::from_secs(1), LOOK)
    })
}

fn is_running(backup: &EngramBackup) -> bool {
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    !matches!(phase, Some(BackupPhase::Completed | BackupPhase::Failed))
}

fn success(backup: &EngramBackup) -> Option<Timestamp> {
    let status = backup.status.as_ref()?;
    let completed = status.phase == Some(BackupPhase::Completed);
    status
        .completed_at
        .as_ref()
        .filter(|_| completed)
        .map(|time| time.0)
}

/// Makes the backup of that time, as the concurrency policy has it.
async fn begin(
    context: &Context,
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    at: Timestamp,
    status: &mut EngramBackupScheduleStatus,
) -> Result<(), Error> {
    let spec = &schedule.spec;
    status.last_schedule_time = Some(Time(at));
    if !status.active.is_empty() {
        match spec.concurrency_policy {
            ConcurrencyPolicy::Allow => {}
            ConcurrencyPolicy::Forbid => {
                status.missed += 1;
                let note = format!("{} is still being made", status.active.join(", "));
                context.event(schedule, true, "BackupMissed", &note).await;
                return Ok(());
            }
            ConcurrencyPolicy::Replace => {
                for backup in made.iter().filter(|backup| is_running(backup)) {
                    remove(backups, backup).await?;
                }
            }
        }
    }
    // The name is the time's: a pass that is done again makes no second one.
    let name = format!("{}-{}", schedule.name_any(), at.strftime("%Y%m%d%H%M"));
    let name = if spec.immediate && made.is_empty() {
        format!("{name}i")
    } else {
        name
    };
    let backup_spec = EngramBackupSpec {
        cluster_ref: spec.cluster_ref.clone(),
        store_ref: spec.store_ref.clone(),
        verify: spec.verify,
        deletion_policy: spec.deletion_policy,
    };
    let mut backup = EngramBackup::new(&name, backup_spec);
    let mut labels = cluster_labels(&spec.cluster_ref.name, "backup");
    labels.insert(LABEL.into(), schedule.name_any());
    backup.metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: schedule.namespace(),
        labels: Some(labels),
        owner_references: schedule.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    match backups.create(&PostParams::default(), &backup).await {
        Ok(_) => context.event(schedule, false, "BackupBegun", &name).await,
        Err(kube::Error::Api(refused)) if refused.reason == "AlreadyExists" => {}
        Err(error) => return Err(error.into()),
    }
    status.active.push(name);
    Ok(())
}

/// Deletes objects beyond the history limits, the oldest first. What they name stays in the store:
/// that is retention's.
async fn trim(
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
) -> Result<(), Error> {
    let limits = [
        (
            BackupPhase::Completed,
            schedule.spec.successful_history_limit,
        ),
        (BackupPhase::Failed, schedule.spec.failed_history_limit),
    ];
    for (phase, limit) in limits {
        let of_phase = |backup: &&EngramBackup| {
            backup.status.as_ref().and_then(|one| one.phase) == Some(phase)
        };
        let all: Vec<&EngramBackup> = made.iter().filter(of_phase).collect();
        let surplus = all.len().saturating_sub(limit as usize);
        for backup in all.into_iter().take(surplus) {
            // Without the finalizer nothing is deleted in the store.
            let keep = serde_json::json!({ "metadata": { "finalizers": [] } });
            let patch = kube::api::Patch::Merge(&keep);
            let freed = backups
                .patch(
                    &backup.name_any(),
                    &kube::api::PatchParams::default(),
                    &patch,
                )
                .await;
            match freed {
                Ok(_) => remove(backups, backup).await?,
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

async fn remove(backups: &Api<EngramBackup>, backup: &EngramBackup) -> Result<(), Error> {
    match backups
        .delete(&backup.name_any(), &DeleteParams::default())
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// After each new success: deletes in the store what retention does not keep. Whether it is at it.
async fn prune(
    context: &Context,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let Some(retention) = &schedule.spec.retention else {
        return Ok(false);
    };
    let newest = made
        .iter()
        .filter(|backup| success(backup).is_some())
        .max_by_key(|backup| success(backup));
    let Some(newest) = newest.map(|backup| backup.name_any()) else {
        return Ok(false);
    };
    if status.pruned_after.as_ref() == Some(&newest) {
        return Ok(false);
    }
    let namespace = schedule.namespace().unwrap_or_default();
    let store = tool::store(context, &namespace, &schedule.spec.store_ref.name).await?;
    let cluster_name = &schedule.spec.cluster_ref.name;
    let cluster = tool::cluster(context, &namespace, cluster_name).await?;
    let mut words = vec!["backup".to_owned(), "prune".into()];
    words.extend(kept(retention));
    let access = build::access(&store);
    let name = format!("{newest}-prune");
    let tool = Tool {
        name: name.clone(),
        namespace: namespace.clone(),
        cluster_name,
        cluster: cluster.as_ref(),
        image: &context.settings.image,
        words,
        speaks: false,
        access: &access,
        deadline: PRUNE_SECONDS,
        owner: schedule.controller_owner_ref(&()),
    };
    let (holds, reason, message) = match tool::run(context, &tool).await? {
        Run::Running => return Ok(true),
        Run::Done(_) => (true, Reason::Succeeded, format!("pruned after {newest}")),
        Run::Failed { reason, message } => (false, reason, message),
    };
    // A failure is not tried again before the next backup: its pod's words are in the condition.
    if !holds {
        context.event(schedule, true, "PruneFailed", &message).await;
    }
    tool::clear(context, &namespace, &name).await?;
    status.pruned_after = Some(newest);
    let generation = schedule.metadata.generation;
    set_condition(
        &mut status.conditions,
        ConditionKind::Pruned,
        holds,
        reason,
        message,
        generation,
        now(),
    );
    Ok(false)
}

/// What is kept, in engramctl's words. Its `--max-age` only takes away, whatever else keeps; its
/// `--min-keep` is stronger: together they keep what either rule of ours does.
fn kept(retention: &Retention) -> Vec<String> {
    let Some(time) = &retention.keep_within else {
        let last = retention
            .keep_last
            .map(|count| format!("--keep-last={count}"));
        return last.into_iter().collect();
    };
    vec![
        format!("--keep-last={EVERY}"),
        format!("--max-age={time}"),
        format!("--min-keep={}", retention.keep_last.unwrap_or(1)),
    ]
}
