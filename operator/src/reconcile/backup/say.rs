//! A backup's conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    BackupPhase, ConditionKind, EngramBackup, EngramBackupStatus, Reason, set_condition,
};

use super::super::{Course, now, set_course};

/// Whether it is in the store.
pub(super) fn complete(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    let course = match (holds, status.phase) {
        (true, _) => Course::Good,
        (false, Some(BackupPhase::Failed)) => Course::Bad,
        (false, _) => Course::Open,
    };
    let generation = backup.metadata.generation;
    set_course(&mut status.conditions, course, reason, message, generation);
}

/// Whether it was read back and found good.
pub(super) fn verified(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    set(
        status,
        backup,
        ConditionKind::Verified,
        holds,
        reason,
        message,
    );
}

/// There is no backup, or it is not good.
pub(super) fn failed(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    reason: Reason,
    message: &str,
) {
    status.phase = Some(BackupPhase::Failed);
    status.completed_at.get_or_insert_with(|| Time(now()));
    complete(status, backup, false, reason, message);
}

fn set(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    kind: ConditionKind,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    let generation = backup.metadata.generation;
    let conditions = &mut status.conditions;
    set_condition(conditions, kind, holds, reason, message, generation, now());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::is_true;

    #[test]
    fn one_that_failed_is_stalled_until_it_is_tried_again() {
        let backup: EngramBackup = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
            "metadata": { "name": "nightly", "namespace": "data" },
            "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s3" } },
        }))
        .unwrap();
        let mut status = EngramBackupStatus::default();
        let holds = |status: &EngramBackupStatus| {
            let kinds = [
                ConditionKind::Ready,
                ConditionKind::Reconciling,
                ConditionKind::Stalled,
            ];
            kinds.map(|kind| is_true(&status.conditions, kind))
        };
        status.phase = Some(BackupPhase::Running);
        complete(&mut status, &backup, false, Reason::Running, "");
        assert_eq!(holds(&status), [false, true, false]);
        failed(&mut status, &backup, Reason::AccessDenied, "");
        assert_eq!(holds(&status), [false, false, true]);
        complete(&mut status, &backup, true, Reason::Succeeded, "");
        assert_eq!(holds(&status), [true, false, false]);
    }
}
