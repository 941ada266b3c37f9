//! Which objects of a schedule's backups are kept.

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::api::{
    BACKUP_FINALIZER, BackupPhase, DeletionPolicy, EngramBackup, EngramBackupSchedule,
};

use super::super::{Error, as_seen, backup::is_being_copied, is_gone, overtaken};

/// Deletes objects beyond the history limits, the oldest first. What they name stays in the store:
/// that is retention's.
///
/// # Errors
/// The API server refused; the others are deleted all the same.
pub(super) async fn trim(
    backups: &Api<EngramBackup>,
    schedule: &EngramBackupSchedule,
    made: &[EngramBackup],
) -> Result<(), Error> {
    let spec = &schedule.spec;
    let good = surplus(made, BackupPhase::Completed, spec.successful_history_limit);
    let bad = surplus(made, BackupPhase::Failed, spec.failed_history_limit);
    let mut result = Ok(());
    for backup in good.into_iter().chain(bad) {
        result = result.and(forget(backups, backup).await);
    }
    result
}

/// Those of a phase beyond a limit, but for those that are being copied, which ends with them; `made` has the oldest
/// first.
fn surplus(made: &[EngramBackup], phase: BackupPhase, limit: u32) -> Vec<&EngramBackup> {
    let phase_of = |backup: &EngramBackup| backup.status.as_ref().and_then(|one| one.phase);
    let mut all: Vec<&EngramBackup> = made
        .iter()
        .filter(|backup| phase_of(backup) == Some(phase) && !is_being_copied(backup))
        .collect();
    all.truncate(all.len().saturating_sub(limit as usize));
    all
}

/// Deletes an object, and nothing in the store. The object says so itself before it goes, so that
/// whoever else works on it leaves the copy alone; where it has changed meanwhile the next pass looks
/// again.
pub(super) async fn forget(
    backups: &Api<EngramBackup>,
    backup: &EngramBackup,
) -> Result<(), Error> {
    if backup.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = backup.name_any();
    let patch = Patch::Merge(kept(backup));
    let kept = match backups.patch(&name, &PatchParams::default(), &patch).await {
        Ok(kept) => kept,
        Err(error) if has_changed(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match backups.delete(&name, &as_seen(&kept)).await {
        Ok(_) => Ok(()),
        Err(error) if has_changed(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What keeps the copy in the store, whoever deletes the object: no finalizer, and the policy that asks
/// for none.
fn kept(backup: &EngramBackup) -> Value {
    let others = backup.finalizers().iter();
    let others: Vec<&String> = others.filter(|one| *one != BACKUP_FINALIZER).collect();
    json!({
        "metadata": { "finalizers": others, "resourceVersion": backup.resource_version() },
        "spec": { "deletionPolicy": DeletionPolicy::Retain },
    })
}

/// Whether it is gone, or has changed since it was seen.
fn has_changed(error: &kube::Error) -> bool {
    is_gone(error) || matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Deletes an object that is being made, and what its deletion policy says.
///
/// # Errors
/// It has changed since it was seen: it may be complete by now. Or the API server refused.
pub(super) async fn remove(
    backups: &Api<EngramBackup>,
    backup: &EngramBackup,
) -> Result<(), Error> {
    let name = backup.name_any();
    match backups.delete(&name, &as_seen(backup)).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(overtaken(backup, error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_forgotten_says_itself_that_its_copy_stays() {
        let backup: EngramBackup = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
            "metadata": {
                "name": "b", "resourceVersion": "7",
                "finalizers": ["engram.dev/backup", "else.where/one"],
            },
            "spec": {
                "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" },
                "deletionPolicy": "Delete",
            },
        }))
        .unwrap();
        let expected = json!({
            "metadata": { "finalizers": ["else.where/one"], "resourceVersion": "7" },
            "spec": { "deletionPolicy": "Retain" },
        });
        assert_eq!(kept(&backup), expected);
    }

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

    #[test]
    fn what_is_being_copied_stays_until_it_was() {
        let backup = |name: &str, phase: &str, copied: Option<&str>| -> EngramBackup {
            let condition = |reason: &str| {
                json!({
                    "type": "Copied", "status": "False", "reason": reason, "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
                })
            };
            let conditions: Vec<Value> = copied.map(condition).into_iter().collect();
            serde_json::from_value(json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
                "metadata": { "name": name, "generation": 1 },
                "spec": {
                    "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" },
                    "copyTo": { "storeRef": { "name": "second" } },
                },
                "status": { "phase": phase, "conditions": conditions },
            }))
            .unwrap()
        };
        let made = [
            backup("begins", "Completed", None),
            backup("runs", "Completed", Some("Running")),
            backup("again", "Completed", Some("Retrying")),
            backup("given-up", "Completed", Some("AccessDenied")),
            // It never is.
            backup("failed", "Failed", None),
        ];
        let names = |phase| {
            let all = surplus(&made, phase, 0);
            all.iter().map(|one| one.name_any()).collect::<Vec<_>>()
        };
        assert_eq!(names(BackupPhase::Completed), ["given-up"]);
        assert_eq!(names(BackupPhase::Failed), ["failed"]);
    }
}
