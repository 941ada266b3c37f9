//! The backup of a time, as the concurrency policy has it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;

use crate::api::{
    ConcurrencyPolicy, EngramBackup, EngramBackupSchedule, EngramBackupScheduleStatus,
    EngramBackupSpec,
};
use crate::desired::cluster_labels;

use super::super::{Context, Error};
use super::due::Due;
use super::{LABEL, history, is_running};

/// Makes what is due. Its time is written down only when that is done, or was missed.
pub(super) async fn due(
    context: &Context,
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    due: &Due,
    status: &mut EngramBackupScheduleStatus,
) -> Result<(), Error> {
    let begun = match due.at {
        Some(at) => begin(context, backups, schedule, made, at, status).await?,
        None => true,
    };
    status.missed += due.missed + i64::from(!begun);
    if let Some(seen) = due.seen {
        status.last_schedule_time = Some(Time(seen));
    }
    Ok(())
}

/// Begins a backup; whether it was begun.
async fn begin(
    context: &Context,
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
    at: Timestamp,
    status: &mut EngramBackupScheduleStatus,
) -> Result<bool, Error> {
    let backup = backup(schedule, at);
    let name = backup.name_any();
    let others = made.iter().filter(|one| is_running(one));
    let others: Vec<&EngramBackup> = others.filter(|one| one.name_any() != name).collect();
    match meeting(schedule.spec.concurrency_policy, others.len()) {
        Meeting::Skip => {
            let note = format!("{} is still being made", status.active.join(", "));
            context.event(schedule, true, "BackupMissed", &note).await;
            return Ok(false);
        }
        Meeting::End => {
            for other in others {
                history::remove(backups, other).await?;
                status.active.retain(|name| *name != other.name_any());
            }
        }
        Meeting::Join => {}
    }
    match backups.create(&PostParams::default(), &backup).await {
        Ok(_) => context.event(schedule, false, "BackupBegun", &name).await,
        // By a pass that did not live to say so.
        Err(kube::Error::Api(refused)) if refused.reason == "AlreadyExists" => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    status.active.push(name);
    Ok(true)
}

/// What becomes of a backup that is due while others are still being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// It is made beside them.
    Join,
    /// It is not made.
    Skip,
    /// They are ended, and it is made.
    End,
}

fn meeting(policy: ConcurrencyPolicy, others: usize) -> Meeting {
    match (policy, others) {
        (_, 0) | (ConcurrencyPolicy::Allow, _) => Meeting::Join,
        (ConcurrencyPolicy::Forbid, _) => Meeting::Skip,
        (ConcurrencyPolicy::Replace, _) => Meeting::End,
    }
}

/// The backup of a time. Its name is the time's: a pass that is done again makes no second one.
fn backup(schedule: &EngramBackupSchedule, at: Timestamp) -> EngramBackup {
    let spec = &schedule.spec;
    let name = format!("{}-{}", schedule.name_any(), at.strftime("%Y%m%d%H%M"));
    let backup_spec = EngramBackupSpec {
        cluster_ref: spec.cluster_ref.clone(),
        store_ref: spec.store_ref.clone(),
        verify: spec.verify,
        copy_to: spec.copy_to.clone(),
        deletion_policy: spec.deletion_policy,
    };
    let mut backup = EngramBackup::new(&name, backup_spec);
    let mut labels = cluster_labels(&spec.cluster_ref.name, "backup");
    labels.insert(LABEL.into(), schedule.name_any());
    backup.metadata = ObjectMeta {
        name: Some(name),
        namespace: schedule.namespace(),
        labels: Some(labels),
        ..ObjectMeta::default()
    };
    backup
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_backup_that_meets_another_does_as_the_policy_says() {
        use ConcurrencyPolicy::{Allow, Forbid, Replace};
        for policy in [Allow, Forbid, Replace] {
            assert_eq!(meeting(policy, 0), Meeting::Join, "nobody is met");
        }
        let met = [Allow, Forbid, Replace].map(|policy| meeting(policy, 1));
        assert_eq!(met, [Meeting::Join, Meeting::Skip, Meeting::End]);
    }

    #[test]
    fn a_backup_is_named_after_its_time_and_outlives_its_schedule() {
        let schedule: EngramBackupSchedule = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackupSchedule",
            "metadata": { "name": "nightly", "namespace": "data", "uid": "u" },
            "spec": {
                "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" },
                "schedule": "0 3 * * *", "verify": true,
            },
        }))
        .unwrap();
        let made = backup(&schedule, "2026-01-02T03:00:00Z".parse().unwrap());
        assert_eq!(made.name_any(), "nightly-202601020300");
        assert!(made.owner_references().is_empty() && made.spec.verify);
        assert_eq!(
            super::super::schedule_of(&made).map(|schedule| schedule.name),
            Some("nightly".into())
        );
    }
}
