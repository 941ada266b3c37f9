//! Which backup a restore begins with.

use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    BackupPhase, ConditionKind, EngramBackup, EngramRestore, Reason, Recovery, RestoreSource,
    condition, is_true,
};

use super::super::{Context, Error, now, tool};
use super::recovery;

/// How long an object that a restore names may be on its way with it.
const OBJECT_MAX_SECONDS: i64 = 60;

/// A restore's source.
pub(super) enum Source {
    /// It is this.
    Known(Recovery),
    /// It is not there yet.
    Waits(Reason, String),
}

/// Finds it.
///
/// # Errors
/// It is not there, and will not be; the API server did not answer.
pub(super) async fn find(context: &Context, restore: &EngramRestore) -> Result<Source, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let source = restore.spec.source.clone().unwrap_or_default();
    let found = match &source.store_ref {
        Some(store) => {
            let cluster = source.cluster.clone().unwrap_or_default();
            let backup = source.backup.clone();
            Ok(Source::Known(recovery(
                restore,
                store.name.clone(),
                cluster,
                backup,
            )))
        }
        None => named(context, restore, &source).await,
    };
    let found = match found {
        Ok(Source::Known(recovery)) => {
            let store = tool::store(context, &namespace, &recovery.store_ref.name).await;
            store.map(|_| Source::Known(recovery))
        }
        other => other,
    };
    match found {
        Err(Error::Input { reason, message })
            if reason == Reason::NotFound && is_young(restore) =>
        {
            Ok(Source::Waits(reason, message))
        }
        other => other,
    }
}

/// Whether what a restore names may be on its way with it yet.
pub(super) fn is_young(restore: &EngramRestore) -> bool {
    age_seconds(restore) < OBJECT_MAX_SECONDS
}

fn age_seconds(restore: &EngramRestore) -> i64 {
    let created = restore.meta().creation_timestamp.as_ref();
    created.map_or(i64::MAX, |time| now().as_second() - time.0.as_second())
}

/// Of an EngramBackup.
async fn named(
    context: &Context,
    restore: &EngramRestore,
    source: &RestoreSource,
) -> Result<Source, Error> {
    let reference = source.backup_ref.as_ref();
    let name = reference.map_or("", |backup| backup.name.as_str());
    let namespace = restore.namespace().unwrap_or_default();
    let backups: Api<EngramBackup> = Api::namespaced(context.client.clone(), &namespace);
    let missing = || {
        let message = format!("there is no EngramBackup {name}: correct backupRef");
        Error::input(Reason::NotFound, message)
    };
    let backup = backups.get_opt(name).await?.ok_or_else(missing)?;
    of_backup(restore, &backup)
}

fn of_backup(restore: &EngramRestore, backup: &EngramBackup) -> Result<Source, Error> {
    let name = backup.name_any();
    let status = backup.status.clone().unwrap_or_default();
    let complete = is_true(&status.conditions, ConditionKind::Complete);
    match (status.phase, status.backup_id) {
        (Some(BackupPhase::Completed | BackupPhase::Verifying), Some(id)) if complete => {
            let spec = &backup.spec;
            let (store, cluster) = (spec.store_ref.name.clone(), spec.cluster_ref.name.clone());
            Ok(Source::Known(recovery(restore, store, cluster, id)))
        }
        (None | Some(BackupPhase::Pending | BackupPhase::Running), _) => {
            let message = format!("EngramBackup {name} is still being made");
            Ok(Source::Waits(Reason::WaitingForTurn, message))
        }
        _ => {
            let why = condition(&status.conditions, ConditionKind::Complete);
            let why = why.map_or("", |one| one.message.as_str());
            let message = format!("EngramBackup {name} is of no use ({why}): restore another one");
            Err(Error::input(Reason::BackupNotFound, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn restore() -> EngramRestore {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore", "metadata": { "name": "r" },
            "spec": {
                "source": { "backupRef": { "name": "b" } },
                "target": { "name": "again", "spec": {} },
            },
        }))
        .unwrap()
    }

    fn backup(phase: Value, complete: &str) -> EngramBackup {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup", "metadata": { "name": "b" },
            "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" } },
            "status": { "phase": phase, "backupID": "b-1", "conditions": [{
                "type": "Complete", "status": complete, "reason": "X", "message": "chunk 1 is damaged",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_completed_backup_is_taken_with_the_bump_that_was_asked_for() {
        let Ok(Source::Known(recovery)) =
            of_backup(&restore(), &backup(json!("Completed"), "True"))
        else {
            panic!("it is known");
        };
        assert_eq!(recovery.backup, "b-1");
        assert_eq!(recovery.cluster.as_deref(), Some("demo"));
        assert_eq!(
            (recovery.revision_bump, recovery.mark_compacted),
            (1_000_000_000, true)
        );
    }

    #[test]
    fn one_that_is_being_made_is_waited_for_and_a_damaged_or_pruned_one_is_refused() {
        for phase in [json!(null), json!("Running")] {
            let found = of_backup(&restore(), &backup(phase, "False"));
            assert!(matches!(found, Ok(Source::Waits(..))));
        }
        for phase in [json!("Failed"), json!("Completed")] {
            let refused = of_backup(&restore(), &backup(phase, "False"))
                .err()
                .unwrap();
            let text = refused.to_string();
            assert!(text.contains("chunk 1 is damaged"), "{text}");
        }
    }
}
