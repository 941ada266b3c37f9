//! A backup's conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    BackupPhase, ConditionKind, EngramBackup, EngramBackupStatus, Reason, set_condition,
};

use super::super::now;

/// Whether it is in the store.
pub(super) fn complete(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    set(
        status,
        backup,
        ConditionKind::Complete,
        holds,
        reason,
        message,
    );
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
