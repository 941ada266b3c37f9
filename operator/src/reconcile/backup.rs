//! One backup: made, read back, and deleted with its object where that is asked for.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource as _, ResourceExt as _};

use crate::api::{
    BACKUP_FINALIZER, BackupPhase, ConditionKind, DeletionPolicy, EngramBackup, EngramBackupStatus,
    Reason, is_true, set_condition,
};
use crate::build::{self, Tool};

use super::tool::{self, Manifest, Run};
use super::{Context, Error, now, set_finalizer, write_status};

/// How long a backup, or its verification, may take: six hours.
const DEADLINE_SECONDS: i64 = 6 * 3600;
/// How long a backup waits for its cluster or store.
const WAIT_MAX_SECONDS: i64 = 600;
const SOON: Duration = Duration::from_secs(5);

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramBackup>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramBackup> = Api::namespaced(context.client.clone(), &namespace);
    let Some(backup) = api.get_opt(&seen.name_any()).await? else {
        return Ok(Next::await_change());
    };
    if backup.meta().deletion_timestamp.is_some() {
        return delete(&context, &backup).await;
    }
    let deletes = backup.spec.deletion_policy == DeletionPolicy::Delete;
    set_finalizer(&context, &backup, BACKUP_FINALIZER, deletes).await?;
    let before = backup.status.clone().unwrap_or_default();
    if matches!(
        before.phase,
        Some(BackupPhase::Completed | BackupPhase::Failed)
    ) {
        return Ok(Next::await_change());
    }
    let mut status = before.clone();
    status.observed_generation = backup.metadata.generation;
    let result = advance(&context, &backup, &mut status).await;
    if let Err(Error::Input { reason, message }) = &result {
        refuse(&backup, &mut status, *reason, message);
    }
    if status != before {
        write_status(&context, &backup, &status).await?;
        told(&context, &backup, &before, &status).await;
    }
    match result {
        Ok(()) | Err(Error::Input { .. }) => {}
        Err(error) => return Err(error),
    }
    let over = matches!(
        status.phase,
        Some(BackupPhase::Completed | BackupPhase::Failed)
    );
    Ok(if over {
        Next::await_change()
    } else {
        Next::requeue(SOON)
    })
}

/// What is missing may yet come; after a while it is a failure.
fn refuse(backup: &EngramBackup, status: &mut EngramBackupStatus, reason: Reason, message: &str) {
    let created = backup
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now(), |time| time.0);
    let waited = now().as_second() - created.as_second();
    let patient = reason == Reason::WaitingForCluster && waited < WAIT_MAX_SECONDS;
    if patient {
        status.phase = Some(BackupPhase::Pending);
        complete(status, backup, false, reason, message);
    } else {
        fail(status, backup, reason, message);
    }
}

fn complete(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    let kind = ConditionKind::Complete;
    set_condition(
        &mut status.conditions,
        kind,
        holds,
        reason,
        message,
        backup.metadata.generation,
        now(),
    );
}

fn fail(status: &mut EngramBackupStatus, backup: &EngramBackup, reason: Reason, message: &str) {
    status.phase = Some(BackupPhase::Failed);
    status.completed_at = Some(Time(now()));
    complete(status, backup, false, reason, message);
}

fn verified(
    status: &mut EngramBackupStatus,
    backup: &EngramBackup,
    holds: bool,
    reason: Reason,
    message: &str,
) {
    let kind = ConditionKind::Verified;
    set_condition(
        &mut status.conditions,
        kind,
        holds,
        reason,
        message,
        backup.metadata.generation,
        now(),
    );
}

async fn advance(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    if status.phase == Some(BackupPhase::Verifying) {
        return verify(context, backup, status).await;
    }
    let words = ["backup", "create"].map(str::to_owned).into();
    let id = format!("--name={}", backup_id(backup));
    let words: Vec<String> = [words, vec![id, "-w=json".into()]].concat();
    let name = format!("{}-backup", backup.name_any());
    match execute(context, backup, &name, words, true).await? {
        Run::Running => {
            status.started_at.get_or_insert_with(|| Time(now()));
            status.phase = Some(BackupPhase::Running);
            complete(
                status,
                backup,
                false,
                Reason::Running,
                "the backup is being made",
            );
        }
        Run::Failed { reason, message } => fail(status, backup, reason, &message),
        Run::Done(text) => match serde_json::from_str::<Manifest>(text.trim()) {
            Ok(manifest) => made(backup, status, manifest),
            Err(error) => {
                let message = format!("engramctl's result cannot be read: {error}");
                fail(status, backup, Reason::Failed, &message);
            }
        },
    }
    Ok(())
}

fn made(backup: &EngramBackup, status: &mut EngramBackupStatus, manifest: Manifest) {
    status.backup_id = Some(manifest.id);
    status.path = Some(manifest.path);
    status.revision = Some(manifest.revision);
    status.compact_revision = Some(manifest.compact_revision);
    status.hash_kv = Some(manifest.hash_kv);
    status.size_bytes = Some(manifest.size);
    status.engram_version = Some(manifest.engram_version);
    complete(
        status,
        backup,
        true,
        Reason::Succeeded,
        "the backup is in the store",
    );
    if backup.spec.verify {
        status.phase = Some(BackupPhase::Verifying);
        verified(
            status,
            backup,
            false,
            Reason::Running,
            "the backup is being read back",
        );
    } else {
        status.phase = Some(BackupPhase::Completed);
        status.completed_at = Some(Time(now()));
        verified(status, backup, false, Reason::NotRequested, "");
    }
}

async fn verify(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    let id = status.backup_id.clone().unwrap_or_default();
    let words = vec![
        "backup".into(),
        "verify".into(),
        format!("--backup={id}"),
        "-w=json".into(),
    ];
    let name = format!("{}-verify", backup.name_any());
    match execute(context, backup, &name, words, false).await? {
        Run::Running => return Ok(()),
        Run::Done(_) => {
            status.phase = Some(BackupPhase::Completed);
            verified(
                status,
                backup,
                true,
                Reason::Succeeded,
                "restored in a scratch process: HashKV is the manifest's",
            );
        }
        Run::Failed { message, .. } => {
            status.phase = Some(BackupPhase::Failed);
            verified(status, backup, false, Reason::VerificationFailed, &message);
            complete(status, backup, false, Reason::VerificationFailed, &message);
        }
    }
    status.completed_at = Some(Time(now()));
    Ok(())
}

/// The backup's ID in the store: unique, since a name may be used again once its object is gone.
fn backup_id(backup: &EngramBackup) -> String {
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    let tail: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    format!("{}-{tail}", backup.name_any())
}

async fn execute(
    context: &Context,
    backup: &EngramBackup,
    pod: &str,
    words: Vec<String>,
    speaks: bool,
) -> Result<Run, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let store = tool::store(context, &namespace, &backup.spec.store_ref.name).await?;
    let cluster_name = &backup.spec.cluster_ref.name;
    let cluster = tool::cluster(context, &namespace, cluster_name).await?;
    if speaks {
        let serves = cluster.as_ref().and_then(|cluster| cluster.status.as_ref());
        let serves =
            serves.is_some_and(|status| is_true(&status.conditions, ConditionKind::Available));
        let begun = backup
            .status
            .as_ref()
            .is_some_and(|status| status.started_at.is_some());
        if !serves && !begun {
            let message = format!("EngramCluster {cluster_name} does not serve");
            return Err(Error::input(Reason::WaitingForCluster, message));
        }
    }
    let access = build::access(&store);
    let tool = Tool {
        name: pod.to_owned(),
        namespace,
        cluster_name,
        cluster: cluster.as_ref(),
        image: &context.settings.image,
        words,
        speaks,
        access: &access,
        deadline: DEADLINE_SECONDS,
        owner: backup.controller_owner_ref(&()),
    };
    tool::run(context, &tool).await
}

/// Deletes the copy in the store, then lets the object go.
async fn delete(context: &Context, backup: &EngramBackup) -> Result<Next, Error> {
    if !backup
        .finalizers()
        .iter()
        .any(|one| one == BACKUP_FINALIZER)
    {
        return Ok(Next::await_change());
    }
    if let Some(id) = backup
        .status
        .as_ref()
        .and_then(|status| status.backup_id.clone())
    {
        let words = vec!["backup".into(), "delete".into(), format!("--backup={id}")];
        let name = format!("{}-delete", backup.name_any());
        match execute(context, backup, &name, words, false).await {
            Ok(Run::Running) => return Ok(Next::requeue(SOON)),
            Ok(Run::Done(_)) => {}
            Ok(Run::Failed { message, .. }) => {
                context
                    .event(backup, true, "DeletionFailed", &message)
                    .await;
                tool::clear(context, &backup.namespace().unwrap_or_default(), &name).await?;
                let message = format!("the copy in the store cannot be deleted: {message}");
                return Err(Error::input(Reason::Failed, message));
            }
            // Without its store there is nothing left to delete.
            Err(Error::Input {
                reason: Reason::NotFound,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    set_finalizer(context, backup, BACKUP_FINALIZER, false).await?;
    Ok(Next::await_change())
}

async fn told(
    context: &Context,
    backup: &EngramBackup,
    before: &EngramBackupStatus,
    after: &EngramBackupStatus,
) {
    if before.phase == after.phase {
        return;
    }
    let namespace = backup.namespace().unwrap_or_default();
    let labels = [namespace.as_str(), backup.spec.cluster_ref.name.as_str()];
    let metrics = &context.metrics;
    let count = |result| {
        metrics
            .backups
            .with_label_values(&[labels[0], labels[1], result])
            .inc()
    };
    let end = after
        .completed_at
        .as_ref()
        .map_or(0.0, |time| time.0.as_duration().as_secs_f64());
    match after.phase {
        Some(BackupPhase::Completed) => {
            count("success");
            let start = after
                .started_at
                .as_ref()
                .map_or(end, |time| time.0.as_duration().as_secs_f64());
            metrics
                .backup_seconds
                .with_label_values(&labels)
                .set(end - start);
            let bytes =
                i32::try_from(after.size_bytes.unwrap_or_default() / 1024).unwrap_or(i32::MAX);
            metrics
                .backup_bytes
                .with_label_values(&labels)
                .set(f64::from(bytes) * 1024.0);
            metrics.backup_success.with_label_values(&labels).set(end);
            if is_true(&after.conditions, ConditionKind::Verified) {
                metrics.backup_verified.with_label_values(&labels).set(end);
            }
            let revision = after.revision.unwrap_or_default();
            context
                .event(
                    backup,
                    false,
                    "BackupCompleted",
                    &format!("revision {revision}"),
                )
                .await;
        }
        Some(BackupPhase::Failed) => {
            count("failure");
            let why = after.conditions.iter().find(|one| one.type_ == "Complete");
            let why = why.map_or_else(String::new, |one| one.message.clone());
            context.event(backup, true, "BackupFailed", &why).await;
        }
        _ => {}
    }
}
