//! One backup: made, read back, and deleted with its object where that is asked for.

mod copy;
mod delete;
#[cfg(test)]
pub(super) mod passes;
mod retry;
mod say;
mod told;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource as _, ResourceExt as _};

use crate::api::{
    BACKUP_FINALIZER, BackupPhase, ConditionKind, DeletionPolicy, EngramBackup, EngramBackupStatus,
    EngramBackupStore, EngramCluster, Reason, is_true,
};
use crate::desired::{self, Create, Job, StoreAccess, Tool};

use super::schedule;
use super::store;
use super::tool::{self, Begun, Run, Summary};
use super::{Context, Error, Version, now, set_finalizer, write_status};

/// How long a backup, its verification or its deletion may take: six hours.
const DEADLINE_SECONDS: i64 = 6 * 3600;
/// How long a backup waits for its cluster to serve.
const CLUSTER_MAX_SECONDS: i64 = 600;
/// How long it waits for an object that it names: it may be on its way with it.
const OBJECT_MAX_SECONDS: i64 = 60;
const SOON: Duration = Duration::from_secs(5);
/// The pod that makes a backup.
const PART: &str = "backup";

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
        return delete::delete(&context, &backup).await;
    }
    let deletes = backup.spec.deletion_policy == DeletionPolicy::Delete;
    set_finalizer(&context, &backup, BACKUP_FINALIZER, deletes).await?;
    let version = Version::of(&backup);
    let before = backup.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = backup.metadata.generation;
    let result = match is_settled(&backup, &status) {
        true => Ok(()),
        false => Box::pin(advance(&context, &backup, &mut status)).await,
    };
    let result = match result {
        Err(Error::Input { reason, message }) => {
            refuse(&backup, &mut status, reason, &message);
            Ok(())
        }
        other => other,
    };
    if status != before {
        write_status(&context, &backup, &version, &status).await?;
        told::told(&context, &backup, &before, &status).await;
    }
    result?;
    Ok(match is_settled(&backup, &status) {
        true => Next::await_change(),
        false => Next::requeue(SOON),
    })
}

/// Whether nothing more is to be done. A backup that was completed without verification is read back
/// when that is asked for later.
fn is_settled(backup: &EngramBackup, status: &EngramBackupStatus) -> bool {
    match status.phase {
        Some(BackupPhase::Failed) => true,
        Some(BackupPhase::Completed) => {
            is_read_back(backup, status) && !copy::is_open(backup, status)
        }
        _ => false,
    }
}

/// Whether it was read back, or need not be.
fn is_read_back(backup: &EngramBackup, status: &EngramBackupStatus) -> bool {
    !backup.spec.verify || !verify::is_open(status)
}

/// Whether it is complete, and its copy is still to come to its end.
pub(super) fn is_being_copied(backup: &EngramBackup) -> bool {
    let complete = backup
        .status
        .as_ref()
        .filter(|status| status.phase == Some(BackupPhase::Completed));
    complete.is_some_and(|status| copy::is_open(backup, status))
}

/// What is missing may yet come; after a while it is a failure.
fn refuse(backup: &EngramBackup, status: &mut EngramBackupStatus, reason: Reason, message: &str) {
    let created = backup.metadata.creation_timestamp.as_ref();
    let waited = now().as_second() - created.map_or(now(), |time| time.0).as_second();
    let limit = match reason {
        Reason::WaitingForCluster => CLUSTER_MAX_SECONDS,
        Reason::NotFound => OBJECT_MAX_SECONDS,
        _ => 0,
    };
    if waited < limit {
        status.phase = Some(BackupPhase::Pending);
        say::complete(status, backup, false, reason, message);
    } else {
        say::failed(status, backup, reason, message);
    }
}

async fn advance(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    match status.phase {
        Some(BackupPhase::Completed) if is_read_back(backup, status) => {
            copy::copy(context, backup, status).await
        }
        Some(BackupPhase::Verifying | BackupPhase::Completed) => {
            verify::verify(context, backup, status).await
        }
        _ => create(context, backup, status).await,
    }
}

async fn create(
    context: &Context,
    backup: &EngramBackup,
    status: &mut EngramBackupStatus,
) -> Result<(), Error> {
    if retry::rests(context, backup, status, PART).await? {
        return Ok(());
    }
    let cluster = match served(context, backup, status).await {
        // It may be deleted while it is backed up: the pod that does it says what became of that.
        Err(error) if status.started_at.is_some() => {
            return match Box::pin(look(context, backup, PART)).await? {
                Some(run) => {
                    came(backup, status, run);
                    Ok(())
                }
                None => Err(error),
            };
        }
        served => served?,
    };
    let endpoints = tool::endpoints(context, &cluster).await?;
    let found = cluster.status.unwrap_or_default();
    let create = Create {
        id: backup_id(backup),
        endpoints,
        owner: schedule::owner_of(backup),
        cluster_id: found.cluster_id,
        continues: found.restored.and_then(|from| from.of),
    };
    let run = Box::pin(execute(context, backup, PART, Job::Create(create))).await?;
    came(backup, status, run);
    Ok(())
}

/// How far the run has come that makes it.
fn came(backup: &EngramBackup, status: &mut EngramBackupStatus, run: Run) {
    if !matches!(run, Run::Done(_)) {
        status.started_at.get_or_insert_with(|| Time(now()));
        status.phase = Some(BackupPhase::Running);
    }
    match run {
        Run::Running => {
            let message = retry::attempt(status, "the backup is being made");
            say::complete(status, backup, false, Reason::Running, &message);
        }
        Run::Waiting { reason, message } => {
            say::complete(status, backup, false, reason, &message);
        }
        Run::Failed { reason, message } => match retry::again(status, reason, &message) {
            Some(message) => say::complete(status, backup, false, Reason::Retrying, &message),
            None => say::failed(status, backup, reason, &message),
        },
        Run::Done(text) => match serde_json::from_str::<Summary>(text.trim()) {
            Ok(summary) => made(backup, status, summary),
            Err(error) => {
                let message = format!("engramctl's result cannot be read: {error}");
                say::failed(status, backup, Reason::Failed, &message);
            }
        },
    }
}

/// The cluster, once it serves; one that has begun to be backed up need not go on serving.
async fn served(
    context: &Context,
    backup: &EngramBackup,
    status: &EngramBackupStatus,
) -> Result<EngramCluster, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let name = &backup.spec.cluster_ref.name;
    let cluster = tool::cluster(context, &namespace, name).await?;
    let Some(cluster) = cluster else {
        let message = format!("there is no EngramCluster {name}: make it, or correct clusterRef");
        return Err(Error::input(Reason::NotFound, message));
    };
    let state = cluster.status.as_ref();
    let serves = state.is_some_and(|state| is_true(&state.conditions, ConditionKind::Available));
    if serves || status.started_at.is_some() {
        return Ok(cluster);
    }
    let message = format!("EngramCluster {name} does not serve");
    Err(Error::input(Reason::WaitingForCluster, message))
}

/// It is in the store. What is left is to read it back, where that was asked for.
fn made(backup: &EngramBackup, status: &mut EngramBackupStatus, summary: Summary) {
    let agreed = summary.agreed;
    status.backup_id = Some(summary.id);
    status.cluster_id = Some(summary.cluster_id);
    status.incarnation = Some(summary.incarnation);
    status.path = Some(summary.path);
    status.revision = Some(summary.revision);
    status.compact_revision = Some(summary.compact_revision);
    status.hash_kv = Some(summary.hash_kv);
    status.key_id.clone_from(&summary.key_id);
    status.size_bytes = Some(summary.size);
    status.engram_version = Some(summary.engram_version);
    status.completed_at = Some(Time(now()));
    // What was written while it was made is in it, or behind it in the archive.
    status.restorable_to_revision = status.revision;
    status.restorable_to.clone_from(&status.started_at);
    retry::done(status);
    let message = match agreed {
        Some(false) => {
            "the backup is in the store; no majority of the members could be asked for its hash"
        }
        _ => "the backup is in the store",
    };
    say::complete(status, backup, true, Reason::Succeeded, message);
    say::verified(status, backup, false, Reason::NotRequested, "");
    status.phase = Some(BackupPhase::Completed);
    if backup.spec.verify {
        verify::begin(backup, status);
    }
}

/// The backup's ID in the store: unique, since a name may be used again once its object is gone.
fn backup_id(backup: &EngramBackup) -> String {
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    let digits = uid.chars().filter(char::is_ascii_hexdigit);
    let tail: String = digits.take(8).collect();
    format!("{}-{tail}", backup.name_any())
}

/// The pod that does a part of the work.
fn pod_name(backup: &EngramBackup, part: &str) -> String {
    format!("{}-{part}", backup.name_any())
}

/// Has engramctl do a job for a backup.
async fn execute(
    context: &Context,
    backup: &EngramBackup,
    part: &str,
    job: Job,
) -> Result<Run, Error> {
    let access = desired::access(&store_of(context, backup).await?);
    lies_there(backup, &access)?;
    execute_with(context, backup, part, job, &access).await
}

/// Whether a backup that was made lies where its store is now: another place knows nothing of it, which says nothing of
/// the backup.
fn lies_there(backup: &EngramBackup, access: &StoreAccess) -> Result<(), Error> {
    let path = backup
        .status
        .as_ref()
        .and_then(|status| status.path.as_ref());
    let place = access.url.split('?').next().unwrap_or_default();
    let cluster = &backup.spec.cluster_ref.name;
    // The place alone: an object that was made again from a manifest has another UID, and its ID is of that.
    let there = format!("{place}/{cluster}/");
    match path {
        Some(path) if !path.starts_with(&there) => {
            let store = &backup.spec.store_ref.name;
            let message = format!(
                "it lies at {path}, and EngramBackupStore {store} is {place} by now: set that back, or make \
                 another store for what is new"
            );
            Err(Error::input(Reason::InvalidSpec, message))
        }
        _ => Ok(()),
    }
}

/// The same by a way to more than its store.
async fn execute_with(
    context: &Context,
    backup: &EngramBackup,
    part: &str,
    job: Job,
    access: &StoreAccess,
) -> Result<Run, Error> {
    let cluster_name = &backup.spec.cluster_ref.name;
    let namespace = backup.namespace().unwrap_or_default();
    let cluster = tool::cluster(context, &namespace, cluster_name).await?;
    let tool = Tool {
        name: pod_name(backup, part),
        namespace,
        cluster_name,
        cluster: cluster.as_ref(),
        image: &context.settings.image,
        job,
        access,
        deadline: DEADLINE_SECONDS,
        owner: backup.controller_owner_ref(&()),
    };
    tool::run(context, &tool).await
}

/// How the pod stands that does this part of a backup, if there is one.
async fn look(context: &Context, backup: &EngramBackup, part: &str) -> Result<Option<Run>, Error> {
    let access = desired::access(&store_of(context, backup).await?);
    let pod = Begun {
        name: &pod_name(backup, part),
        namespace: &backup.namespace().unwrap_or_default(),
        access: &access,
        owner: backup.metadata.uid.as_ref(),
    };
    tool::look(context, &pod).await
}

/// The store of a backup. Its copy is deleted by way of it, where that is asked for: it stays until then.
async fn store_of(context: &Context, backup: &EngramBackup) -> Result<EngramBackupStore, Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let store = tool::store(context, &namespace, &backup.spec.store_ref.name).await?;
    if backup.spec.deletion_policy == DeletionPolicy::Delete {
        store::hold(context, &store).await?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn backup(verify: bool, age_seconds: i64) -> EngramBackup {
        let created = Time(now() - Duration::from_secs(age_seconds.unsigned_abs()));
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramBackup",
            "metadata": {
                "name": "b", "uid": "0A1b2c3d-4e5f", "generation": 1, "creationTimestamp": created,
            },
            "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s" }, "verify": verify },
        }))
        .unwrap()
    }

    fn summary() -> Summary {
        Summary {
            id: "b-0A1b2c3d".into(),
            revision: 7,
            ..Summary::default()
        }
    }

    #[test]
    fn a_name_that_is_used_again_has_another_id() {
        assert_eq!(backup_id(&backup(false, 0)), "b-0A1b2c3d");
    }

    #[test]
    fn a_backup_lies_where_its_path_says_whatever_its_id_is() {
        let mut backup = backup(false, 0);
        let access = StoreAccess {
            url: "s3://b/all?region=x".into(),
            ..StoreAccess::default()
        };
        for (path, lies) in [
            (None, true),
            (Some("s3://b/all/demo/b-99999999"), true),
            (Some("s3://b/demo/b-0A1b2c3d"), false),
            (Some("s3://b/all/other/b-0A1b2c3d"), false),
        ] {
            backup.status = Some(EngramBackupStatus {
                path: path.map(str::to_owned),
                ..EngramBackupStatus::default()
            });
            assert_eq!(lies_there(&backup, &access).is_ok(), lies, "{path:?}");
        }
    }

    #[test]
    fn a_missing_object_is_waited_for_and_then_a_failure() {
        for (age, phase) in [(5, BackupPhase::Pending), (90, BackupPhase::Failed)] {
            let mut status = EngramBackupStatus::default();
            refuse(&backup(false, age), &mut status, Reason::NotFound, "x");
            assert_eq!(status.phase, Some(phase), "after {age} s");
        }
        let mut status = EngramBackupStatus::default();
        refuse(
            &backup(false, 90),
            &mut status,
            Reason::WaitingForCluster,
            "x",
        );
        assert_eq!(status.phase, Some(BackupPhase::Pending));
    }

    #[test]
    fn a_backup_that_was_completed_without_is_verified_when_that_is_asked_for() {
        let (plain, verified) = (backup(false, 0), backup(true, 0));
        let mut status = EngramBackupStatus::default();
        made(&plain, &mut status, summary());
        assert_eq!(status.phase, Some(BackupPhase::Completed));
        assert!(is_settled(&plain, &status) && !is_settled(&verified, &status));
        let completed_at = status.completed_at.clone();
        verify::begin(&verified, &mut status);
        verify::ended(&verified, &mut status, Run::Done(String::new()));
        assert!(is_settled(&verified, &status));
        assert!(is_true(&status.conditions, ConditionKind::Verified));
        // A backup does not get younger by being read.
        assert_eq!(status.completed_at, completed_at);
    }

    #[test]
    fn what_is_damaged_fails_and_what_could_not_be_looked_at_does_not() {
        let backup = backup(true, 0);
        for (reason, phase) in [
            (Reason::VerificationFailed, BackupPhase::Failed),
            (Reason::StoreUnreachable, BackupPhase::Completed),
        ] {
            let mut status = EngramBackupStatus::default();
            made(&backup, &mut status, summary());
            let message = || "chunk 1/00000000.chunk".to_owned();
            let failed = || Run::Failed {
                reason,
                message: message(),
            };
            verify::ended(&backup, &mut status, failed());
            if reason == Reason::StoreUnreachable {
                assert_eq!(
                    status.phase,
                    Some(BackupPhase::Verifying),
                    "it is tried again"
                );
                assert_eq!(status.attempts, 1);
                status.completed_at = Some(Time(now() - Duration::from_secs(6 * 3600)));
                verify::ended(&backup, &mut status, failed());
            }
            assert_eq!(status.phase, Some(phase));
            let verified = status.conditions.iter().find(|one| one.type_ == "Verified");
            let verified = verified.expect("it is said");
            assert_eq!(
                (verified.status.as_str(), verified.reason.as_str()),
                ("False", reason.as_str())
            );
            assert!(
                verified.message.contains("00000000.chunk"),
                "{}",
                verified.message
            );
            let good = phase == BackupPhase::Completed;
            assert_eq!(is_true(&status.conditions, ConditionKind::Complete), good);
            assert!(is_settled(&backup, &status));
        }
    }

    #[test]
    fn a_fault_that_may_pass_does_not_cost_the_backup_and_a_refusal_does() {
        let failure = |reason| Run::Failed {
            reason,
            message: "said the store".into(),
        };
        let backup = backup(false, 0);
        let mut status = EngramBackupStatus::default();
        for attempt in 1..=2 {
            came(&backup, &mut status, Run::Running);
            came(&backup, &mut status, failure(Reason::StoreUnreachable));
            assert_eq!(
                (status.attempts, status.phase),
                (attempt, Some(BackupPhase::Running))
            );
            assert!(status.retry_at.is_some() && !is_settled(&backup, &status));
            let said = &status.conditions[0];
            assert_eq!(said.reason, "Retrying");
            assert!(said.message.contains("said the store"), "{}", said.message);
            let number = format!("attempt {attempt} failed");
            assert!(said.message.contains(&number), "{}", said.message);
        }
        let mut good = status.clone();
        let summary = r#"{"id":"a","clusterID":"c","incarnation":"0","revision":7,"compactRevision":-1,"hashKV":9,"size":5,"createdAt":"2026-01-01T00:00:00Z","engramVersion":"0.1.0","path":"s3://b/demo/a"}"#;
        came(&backup, &mut good, Run::Done(summary.into()));
        assert_eq!(good.phase, Some(BackupPhase::Completed));
        assert_eq!((good.attempts, &good.retry_at), (0, &None));
        came(&backup, &mut status, failure(Reason::AccessDenied));
        assert_eq!(status.phase, Some(BackupPhase::Failed));
        assert_eq!(status.retry_at, None);
        // One that was begun long ago is given up.
        let mut old = EngramBackupStatus {
            started_at: Some(Time(now() - Duration::from_secs(6 * 3600))),
            ..EngramBackupStatus::default()
        };
        came(&backup, &mut old, failure(Reason::StoreUnreachable));
        assert_eq!(old.phase, Some(BackupPhase::Failed));
    }

    #[test]
    fn a_hash_that_no_majority_answered_verifies_nothing() {
        let backup = backup(true, 0);
        for (said, holds) in [
            (r#"{"id":"b","agreed":true}"#, true),
            (r#"{"id":"b"}"#, true),
            (r#"{"id":"b","agreed":false}"#, false),
        ] {
            let mut status = EngramBackupStatus::default();
            made(&backup, &mut status, summary());
            verify::ended(&backup, &mut status, Run::Done(said.into()));
            assert_eq!(status.phase, Some(BackupPhase::Completed), "{said}");
            let verified = is_true(&status.conditions, ConditionKind::Verified);
            assert_eq!(verified, holds, "{said}");
        }
    }
}
