//! Which objects of a schedule's backups are kept.

use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{BACKUP_FINALIZER, BackupPhase, EngramBackup, EngramBackupSchedule};

use super::super::{Context, Error, is_gone, set_finalizer, this_one};

/// Deletes objects beyond the history limits, the oldest first. What they name stays in the store:
/// that is retention's.
pub(super) async fn trim(
    context: &Context,
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
) -> Result<(), Error> {
    let spec = &schedule.spec;
    for backup in surplus(made, BackupPhase::Completed, spec.successful_history_limit) {
        forget(context, backups, backup).await?;
    }
    for backup in surplus(made, BackupPhase::Failed, spec.failed_history_limit) {
        forget(context, backups, backup).await?;
    }
    Ok(())
}

/// Those of a phase beyond a limit; `made` has the oldest first.
fn surplus(made: &[EngramBackup], phase: BackupPhase, limit: u32) -> Vec<&EngramBackup> {
    let phase_of = |backup: &EngramBackup| backup.status.as_ref().and_then(|one| one.phase);
    let mut all: Vec<&EngramBackup> = made
        .iter()
        .filter(|backup| phase_of(backup) == Some(phase))
        .collect();
    all.truncate(all.len().saturating_sub(limit as usize));
    all
}

/// Deletes an object, and nothing in the store.
pub(super) async fn forget(
    context: &Context,
    backups: &Api<EngramBackup>,
    backup: &EngramBackup,
) -> Result<(), Error> {
    if backup.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    set_finalizer(context, backup, BACKUP_FINALIZER, false).await?;
    remove(backups, backup).await
}

/// Deletes an object, and what its deletion policy says.
pub(super) async fn remove(
    backups: &Api<EngramBackup>,
    backup: &EngramBackup,
) -> Result<(), Error> {
    let name = backup.name_any();
    match backups.delete(&name, &this_one(backup)).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_oldest_of_each_kind_go() {
        let backup = |name: &str, phase: &str| -> EngramBackup {
            serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
                "metadata": { "name": name },
                "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" } },
                "status": { "phase": phase },
            }))
            .unwrap()
        };
        let made = [
            backup("a", "Completed"),
            backup("b", "Failed"),
            backup("c", "Completed"),
            backup("d", "Running"),
        ];
        let names = |phase, limit| {
            let all = surplus(&made, phase, limit);
            all.iter().map(|one| one.name_any()).collect::<Vec<_>>()
        };
        assert_eq!(names(BackupPhase::Completed, 1), ["a"]);
        assert_eq!(names(BackupPhase::Failed, 0), ["b"]);
        assert_eq!(names(BackupPhase::Completed, 5), [""; 0]);
    }
}
