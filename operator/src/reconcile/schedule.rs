//! Backups by the clock: which are due, which are missed, what is kept.

mod archive;
mod due;
mod extent;
mod history;
mod make;
mod prune;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    BackupPhase, ConditionKind, EngramBackup, EngramBackupSchedule, EngramBackupScheduleStatus,
    Reason, condition, set_condition,
};

use super::{Context, Course, Error, Version, is_overtaken, now, set_standing, tool, write_status};
pub(super) use archive::measure;
use due::Clock;

/// On backups: the schedule that made them. They are not owned by it: a schedule that is deleted
/// takes no backup with it.
const LABEL: &str = "engram.dev/schedule";
/// How many digits the time has in their names.
const TIME_DIGITS: usize = 12;
/// A schedule is looked at this often at least: clocks are set, and zones change.
const LOOK: Duration = Duration::from_secs(300);
/// What a schedule lacks may be made later than it.
const AGAIN: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(5);

/// The schedule that made a backup: by its label, and by the name that a schedule gives. A copy that a person makes of
/// one has the label as well.
fn maker(backup: &EngramBackup) -> Option<&String> {
    let name = backup.labels().get(LABEL)?;
    let whole = backup.metadata.name.as_deref()?;
    let time = whole.strip_prefix(name.as_str())?.strip_prefix('-')?;
    let is_time = time.len() == TIME_DIGITS && time.bytes().all(|one| one.is_ascii_digit());
    is_time.then_some(name)
}

/// The schedule that made a backup.
pub(super) fn schedule_of(backup: &EngramBackup) -> Option<ObjectRef<EngramBackupSchedule>> {
    let name = maker(backup)?;
    Some(ObjectRef::new(name).within(&backup.namespace()?))
}

/// In the store: the schedule that made a backup, by which it is known there as its own. None of one
/// that a person made.
pub(super) fn owner_of(backup: &EngramBackup) -> Option<String> {
    let name = maker(backup)?;
    Some(owner(&backup.namespace()?, name))
}

fn owner(namespace: &str, schedule: &str) -> String {
    format!("EngramBackupSchedule/{namespace}/{schedule}")
}

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
    let version = Version::of(&schedule);
    let before = schedule.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = schedule.metadata.generation;
    let result = pass(&context, &schedule, &version, &mut status).await;
    if let Err(Error::Input { reason, message }) = &result {
        // What it names may come later.
        let course = match reason {
            Reason::NotFound => Course::Open,
            _ => Course::Bad,
        };
        stand(&schedule, &mut status, course, *reason, message);
    }
    if status != before {
        write_status(&context, &schedule, &version, &status).await?;
    }
    match result {
        Ok(wait) => Ok(Next::requeue(wait)),
        // The user's to correct: the watch brings it, but for a store that is made later.
        Err(Error::Input { .. }) => Ok(Next::requeue(AGAIN)),
        Err(error) => Err(error),
    }
}

/// Says whether backups are made.
fn stand(
    schedule: &EngramBackupSchedule,
    status: &mut EngramBackupScheduleStatus,
    course: Course,
    reason: Reason,
    message: &str,
) {
    let generation = schedule.metadata.generation;
    set_standing(&mut status.conditions, course, reason, message, generation);
}

/// Says how one thing stands, as of the schedule that was read.
fn say(
    schedule: &EngramBackupSchedule,
    status: &mut EngramBackupScheduleStatus,
    kind: ConditionKind,
    holds: bool,
    reason: Reason,
    message: impl Into<String>,
) {
    let generation = schedule.metadata.generation;
    let conditions = &mut status.conditions;
    set_condition(conditions, kind, holds, reason, message, generation, now());
}

async fn pass(
    context: &Context,
    schedule: &EngramBackupSchedule,
    version: &Version,
    status: &mut EngramBackupScheduleStatus,
) -> Result<Duration, Error> {
    let spec = &schedule.spec;
    let clock = Clock::new(&spec.schedule, &spec.time_zone);
    let clock = clock.map_err(|error| Error::input(Reason::InvalidSchedule, error.to_string()))?;
    let namespace = schedule.namespace().unwrap_or_default();
    tool::store(context, &namespace, &spec.store_ref.name).await?;
    let backups: Api<EngramBackup> = Api::namespaced(context.client.clone(), &namespace);
    let made = made(&backups, schedule).await?;
    look_back(&made, status);
    // What becomes of earlier backups keeps none from being made that is due.
    let trimmed = history::trim(&backups, schedule, &made).await;
    let swept = match sweep(context, &backups, (schedule, version), &made, status).await {
        // What was read is old.
        Err(error) if is_overtaken(&error) => return Err(error),
        swept => swept,
    };
    let wait = go_on(context, &backups, schedule, &made, &clock, status).await?;
    trimmed?;
    Ok(if swept? { SOON } else { wait })
}

/// Prunes the store, or has the log archive read back, after the newest success. Whether it is at it.
async fn sweep(
    context: &Context,
    backups: &Api<EngramBackup>,
    (schedule, version): (&EngramBackupSchedule, &Version),
    made: &[EngramBackup],
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    // What is being read back stays until it was.
    let reads = archive::is_read(status);
    let pruning =
        !reads && prune::prune(context, backups, (schedule, version), made, status).await?;
    // Not while segments go.
    Ok(pruning || archive::verify(context, (schedule, version), made, status).await?)
}

/// Makes what is due; when to look again.
async fn go_on(
    context: &Context,
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    clock: &Clock,
    status: &mut EngramBackupScheduleStatus,
) -> Result<Duration, Error> {
    if schedule.spec.suspend {
        status.next_schedule_time = None;
        let message = "no backups are made for now";
        stand(schedule, status, Course::Good, Reason::Suspended, message);
        return Ok(LOOK);
    }
    if rests(context, schedule).await? {
        status.next_schedule_time = None;
        let message = "its cluster rests (replicas: 0): no backups are made until it is woken";
        stand(schedule, status, Course::Good, Reason::Hibernated, message);
        return Ok(LOOK);
    }
    let now = now();
    mend(status, now);
    let mut due = due_now(schedule, status, clock, now);
    if made_none(status) {
        // What was due meanwhile was not missed.
        due.missed = 0;
        status.resumed_at = Some(Time(now));
    }
    make::due(context, backups, schedule, made, &due, status).await?;
    let next = clock.next(now);
    status.next_schedule_time = next.map(Time);
    let message = "backups are made when they are due";
    stand(schedule, status, Course::Good, Reason::Scheduled, message);
    let until = next.map_or(LOOK, |next| {
        Duration::try_from(next.duration_since(now)).unwrap_or(SOON)
    });
    Ok(match due.over {
        true => until.clamp(Duration::from_secs(1), LOOK),
        false => SOON,
    })
}

/// Whether it was said last that no backups are made for now.
fn made_none(status: &EngramBackupScheduleStatus) -> bool {
    let said = condition(&status.conditions, ConditionKind::Ready);
    let said = said.and_then(|one| Reason::of(&one.reason));
    said.is_some_and(|reason| matches!(reason, Reason::Suspended | Reason::Hibernated))
}

/// Whether its cluster rests: each of its backups would wait for it in vain.
async fn rests(context: &Context, schedule: &EngramBackupSchedule) -> Result<bool, Error> {
    let namespace = schedule.namespace().unwrap_or_default();
    let name = &schedule.spec.cluster_ref.name;
    let cluster = tool::cluster(context, &namespace, name).await?;
    Ok(cluster.is_some_and(|cluster| cluster.spec.replicas == 0))
}

/// Its backups, the oldest first.
async fn made(
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
) -> Result<Vec<EngramBackup>, Error> {
    let name = schedule.name_any();
    let own = ListParams::default().labels(&format!("{LABEL}={name}"));
    let mut made = backups.list(&own).await?.items;
    made.retain(|backup| maker(backup) == Some(&name));
    made.sort_by_key(|backup| {
        let created = backup.metadata.creation_timestamp.as_ref();
        (created.map(|time| time.0), backup.name_any())
    });
    Ok(made)
}

fn look_back(made: &[EngramBackup], status: &mut EngramBackupScheduleStatus) {
    let running = made.iter().filter(|backup| is_running(backup));
    status.active = running.map(|backup| backup.name_any()).collect();
    let newest = made.iter().filter_map(success).max().map(Time);
    // A clock that was ahead is not believed for longer than it was.
    let known = status.last_success_time.take();
    status.last_success_time = newest.max(known.filter(|time| time.0 <= now()));
}

/// When the first backup after the last success is due; from its beginning on, where there was none. Not before it was
/// resumed.
pub(super) fn expected(schedule: &EngramBackupSchedule) -> Option<Timestamp> {
    let spec = &schedule.spec;
    if spec.suspend || schedule.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let clock = Clock::new(&spec.schedule, &spec.time_zone).ok()?;
    let status = schedule.status.as_ref();
    let success = status.and_then(|status| status.last_success_time.as_ref());
    let since = success.or(schedule.metadata.creation_timestamp.as_ref())?;
    let resumed = status.and_then(|status| status.resumed_at.as_ref());
    clock.next(resumed.map_or(since.0, |resumed| resumed.0.max(since.0)))
}

/// A time that is still to come was written by a clock that was ahead: until then nothing would be due. What is due
/// twice for it has the same name both times, and is made once.
fn mend(status: &mut EngramBackupScheduleStatus, now: Timestamp) {
    if let Some(last) = status.last_schedule_time.as_mut() {
        last.0 = last.0.min(now);
    }
    if let Some(resumed) = status.resumed_at.as_mut() {
        resumed.0 = resumed.0.min(now);
    }
}

/// What is due; the first backup at once, where that is asked for.
fn due_now(
    schedule: &EngramBackupSchedule,
    status: &EngramBackupScheduleStatus,
    clock: &Clock,
    now: Timestamp,
) -> due::Due {
    let spec = &schedule.spec;
    let created = schedule.metadata.creation_timestamp.as_ref();
    let created = created.map_or(now, |time| time.0);
    match &status.last_schedule_time {
        Some(last) => clock.due(last.0, now, spec.starting_deadline_seconds),
        // The time is the schedule's own: a pass that is done again makes the same backup.
        None if spec.immediate => due::Due::at(created),
        None => clock.due(created, now, spec.starting_deadline_seconds),
    }
}

/// Whether it is being made. One that is being deleted is given up, though it may stay for as long as its store refuses.
fn is_running(backup: &EngramBackup) -> bool {
    if backup.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    !matches!(phase, Some(BackupPhase::Completed | BackupPhase::Failed))
}

/// The newest that is complete.
fn newest(made: &[EngramBackup]) -> Option<&EngramBackup> {
    let succeeded = made.iter().filter(|backup| success(backup).is_some());
    succeeded.max_by_key(|backup| success(backup))
}

/// The backup of that name, or the newest where its object is gone.
fn named<'a>(made: &'a [EngramBackup], name: &str) -> Option<&'a EngramBackup> {
    let found = made.iter().find(|backup| backup.name_any() == name);
    found.or_else(|| newest(made))
}

/// When it was complete, if it is.
fn success(backup: &EngramBackup) -> Option<Timestamp> {
    let status = backup.status.as_ref()?;
    let completed = status.phase == Some(BackupPhase::Completed);
    let at = status.completed_at.as_ref().filter(|_| completed)?;
    Some(at.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_clock_that_was_ahead_costs_no_backup() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let schedule: EngramBackupSchedule = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupSchedule",
            "metadata": { "name": "hourly", "namespace": "data" },
            "spec": {
                "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "schedule": "0 * * * *",
            },
        }))
        .unwrap();
        let clock = Clock::new("0 * * * *", "UTC").unwrap();
        let mut status = EngramBackupScheduleStatus {
            last_schedule_time: Some(Time(at("2026-01-09T03:00:00Z"))),
            ..EngramBackupScheduleStatus::default()
        };
        let mut made = Vec::new();
        // A day of looks, each minute.
        for minute in 0..24 * 60 {
            let now = at("2026-01-02T00:30:30Z") + Duration::from_secs(60 * minute);
            mend(&mut status, now);
            let due = due_now(&schedule, &status, &clock, now);
            made.extend(due.at);
            if let Some(seen) = due.seen {
                status.last_schedule_time = Some(Time(seen));
            }
        }
        assert_eq!(made.len(), 24, "{made:?}");
    }

    #[test]
    fn a_copy_that_a_person_makes_of_its_backups_is_none_of_a_schedules() {
        let backup = |name: &str| -> EngramBackup {
            serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
                "metadata": {
                    "name": name, "namespace": "data", "labels": { "engram.dev/schedule": "nightly" },
                },
                "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" } },
            }))
            .unwrap()
        };
        let own = "EngramBackupSchedule/data/nightly".to_owned();
        assert_eq!(owner_of(&backup("nightly-202601010300")), Some(own));
        for name in [
            "before-upgrade",
            "nightly-copy",
            "nightly-2026010103001",
            "nightlyx202601010300",
        ] {
            assert_eq!(owner_of(&backup(name)), None, "{name}");
        }
    }

    #[test]
    fn what_is_being_deleted_keeps_no_other_from_being_made() {
        let backup = |deleted: Option<&str>| -> EngramBackup {
            serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
                "metadata": { "name": "b", "deletionTimestamp": deleted },
                "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" } },
                "status": { "phase": "Running" },
            }))
            .unwrap()
        };
        assert!(is_running(&backup(None)));
        assert!(!is_running(&backup(Some("2026-01-01T00:00:00Z"))));
    }
}
