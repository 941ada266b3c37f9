//! A backup's events, and what is counted of it.

use kube::ResourceExt as _;

use crate::api::{
    BackupPhase, ConditionKind, EngramBackup, EngramBackupStatus, condition, is_true,
};

use super::super::Context;

/// Tells of what has changed.
pub(super) async fn told(
    context: &Context,
    backup: &EngramBackup,
    before: &EngramBackupStatus,
    after: &EngramBackupStatus,
) {
    let came = |kind| is_true(&after.conditions, kind) && !is_true(&before.conditions, kind);
    if came(ConditionKind::Complete) {
        count(context, backup, "success");
        measure(context, backup, after);
        let note = format!("revision {}", after.revision.unwrap_or_default());
        context.event(backup, false, "BackupCompleted", &note).await;
    }
    if came(ConditionKind::Verified) {
        let note = "read back and found good";
        context.event(backup, false, "BackupVerified", note).await;
    }
    if after.phase == Some(BackupPhase::Failed) && before.phase != after.phase {
        count(context, backup, "failure");
        let why = condition(&after.conditions, ConditionKind::Complete);
        let why = why.map_or("", |one| one.message.as_str());
        context.event(backup, true, "BackupFailed", why).await;
    }
}

fn count(context: &Context, backup: &EngramBackup, result: &str) {
    let namespace = backup.namespace().unwrap_or_default();
    let labels = [&namespace, backup.spec.cluster_ref.name.as_str(), result];
    context.metrics.backups.with_label_values(&labels).inc();
}

fn measure(context: &Context, backup: &EngramBackup, status: &EngramBackupStatus) {
    let namespace = backup.namespace().unwrap_or_default();
    let labels = [namespace.as_str(), backup.spec.cluster_ref.name.as_str()];
    let metrics = &context.metrics;
    if let (Some(start), Some(end)) = (&status.started_at, &status.completed_at) {
        let seconds = end.0.duration_since(start.0).as_secs_f64();
        metrics
            .backup_seconds
            .with_label_values(&labels)
            .set(seconds);
    }
    let bytes = status.size_bytes.unwrap_or_default() as f64;
    metrics.backup_bytes.with_label_values(&labels).set(bytes);
}
