//! A restore: it makes a cluster whose first member begins with a backup, and watches it come up.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    BackupPhase, Bootstrap, ConditionKind, EngramBackup, EngramCluster, EngramRestore,
    EngramRestoreStatus, LocalRef, Reason, Recovery, RestorePhase, is_true, set_condition,
};

use super::tool;
use super::{Context, Error, now, write_status};

/// On clusters: the restore that made them (by its UID).
const ANNOTATION: &str = "engram.dev/restore";
const LABEL: &str = "engram.dev/restored-by";
const SOON: Duration = Duration::from_secs(5);

/// The restore that made a cluster.
pub(super) fn restore_of(cluster: &EngramCluster) -> Option<ObjectRef<EngramRestore>> {
    let name = cluster.labels().get(LABEL)?;
    Some(ObjectRef::new(name).within(&cluster.namespace()?))
}

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramRestore>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramRestore> = Api::namespaced(context.client.clone(), &namespace);
    let Some(restore) = api.get_opt(&seen.name_any()).await? else {
        return Ok(Next::await_change());
    };
    let before = restore.status.clone().unwrap_or_default();
    let over = matches!(
        before.phase,
        Some(RestorePhase::Completed | RestorePhase::Failed)
    );
    if over || restore.meta().deletion_timestamp.is_some() {
        return Ok(Next::await_change());
    }
    let mut status = before.clone();
    status.observed_generation = restore.metadata.generation;
    match advance(&context, &restore, &mut status).await {
        Ok(()) => {}
        Err(Error::Input { reason, message }) => {
            let phase = RestorePhase::Failed;
            say(&restore, &mut status, phase, reason, &message);
        }
        Err(error) => return Err(error),
    }
    if status != before {
        write_status(&context, &restore, &status).await?;
        if before.phase != status.phase {
            let failed = status.phase == Some(RestorePhase::Failed);
            let reason = if failed {
                "RestoreFailed"
            } else {
                "RestoreProgress"
            };
            let note = status
                .conditions
                .first()
                .map_or("", |one| one.message.as_str());
            context.event(&restore, failed, reason, note).await;
        }
    }
    Ok(Next::requeue(SOON))
}

fn say(
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
    phase: RestorePhase,
    reason: Reason,
    message: &str,
) {
    status.phase = Some(phase);
    if matches!(phase, RestorePhase::Completed | RestorePhase::Failed) {
        status.completed_at = Some(Time(now()));
    }
    let holds = phase == RestorePhase::Completed;
    let generation = restore.metadata.generation;
    set_condition(
        &mut status.conditions,
        ConditionKind::Complete,
        holds,
        reason,
        message,
        generation,
        now(),
    );
}

async fn advance(
    context: &Context,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<(), Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let clusters: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    let target = &restore.spec.target.name;
    let Some(cluster) = clusters.get_opt(target).await? else {
        if status.started_at.is_some() {
            let message = format!("EngramCluster {target} was deleted before it was restored");
            return Err(Error::input(Reason::NotFound, message));
        }
        return begin(context, &clusters, restore, status).await;
    };
    let ours = cluster.annotations().get(ANNOTATION).map(String::as_str)
        == restore.metadata.uid.as_deref();
    if !ours {
        let message = format!(
            "EngramCluster {target} exists: a restore makes a new cluster; delete that one, or take another name"
        );
        return Err(Error::input(Reason::AlreadyExists, message));
    }
    status.started_at.get_or_insert_with(|| Time(now()));
    let state = cluster.status.clone().unwrap_or_default();
    if is_true(&state.conditions, ConditionKind::Ready) {
        status.revision = status.revision.or(state.revision);
        say(
            restore,
            status,
            RestorePhase::Completed,
            Reason::Succeeded,
            "every member is ready",
        );
        return Ok(());
    }
    let ready = state.conditions.iter().find(|one| one.type_ == "Ready");
    let message = ready.map_or_else(
        || "the cluster is being made".to_owned(),
        |one| one.message.clone(),
    );
    say(
        restore,
        status,
        RestorePhase::Running,
        Reason::Restoring,
        &message,
    );
    Ok(())
}

async fn begin(
    context: &Context,
    clusters: &Api<EngramCluster>,
    restore: &EngramRestore,
    status: &mut EngramRestoreStatus,
) -> Result<(), Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let (store, cluster, backup) = source(context, restore).await?;
    tool::store(context, &namespace, &store).await?;
    let mut spec = restore.spec.target.spec.clone();
    spec.bootstrap = Some(Bootstrap {
        recovery: Recovery {
            store_ref: LocalRef { name: store },
            cluster: Some(cluster),
            backup: backup.clone(),
            revision_bump: restore.spec.revision_bump,
            mark_compacted: restore.spec.mark_compacted,
        },
    });
    let name = &restore.spec.target.name;
    let mut object = EngramCluster::new(name, spec);
    let uid = restore.metadata.uid.clone().unwrap_or_default();
    // Not owned: a cluster outlives the restore that made it.
    object.metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace),
        labels: Some([(LABEL.to_owned(), restore.name_any())].into()),
        annotations: Some([(ANNOTATION.to_owned(), uid)].into()),
        ..ObjectMeta::default()
    };
    match clusters.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        // Somebody else was quicker: the next pass says whose it is.
        Err(kube::Error::Api(refused)) if refused.reason == "AlreadyExists" => {}
        Err(kube::Error::Api(refused)) if refused.code == 422 => {
            return Err(Error::input(Reason::InvalidSpec, refused.message.clone()));
        }
        Err(error) => return Err(error.into()),
    }
    status.started_at = Some(Time(now()));
    status.backup_id = Some(backup);
    say(
        restore,
        status,
        RestorePhase::Running,
        Reason::Restoring,
        "the cluster is being made",
    );
    Ok(())
}

/// Store, cluster in it, and backup.
async fn source(
    context: &Context,
    restore: &EngramRestore,
) -> Result<(String, String, String), Error> {
    let source = &restore.spec.source;
    if let Some(store) = &source.store_ref {
        let cluster = source.cluster.clone().unwrap_or_default();
        return Ok((store.name.clone(), cluster, source.backup.clone()));
    }
    let name = source
        .backup_ref
        .as_ref()
        .map(|backup| backup.name.clone())
        .unwrap_or_default();
    let namespace = restore.namespace().unwrap_or_default();
    let backups: Api<EngramBackup> = Api::namespaced(context.client.clone(), &namespace);
    let missing = || Error::input(Reason::NotFound, format!("there is no EngramBackup {name}"));
    let backup = backups.get_opt(&name).await?.ok_or_else(missing)?;
    let status = backup.status.unwrap_or_default();
    let id = status
        .backup_id
        .filter(|_| status.phase == Some(BackupPhase::Completed));
    let unfit = || {
        Error::input(
            Reason::NotFound,
            format!("EngramBackup {name} is not completed: restore another one"),
        )
    };
    Ok((
        backup.spec.store_ref.name,
        backup.spec.cluster_ref.name,
        id.ok_or_else(unfit)?,
    ))
}
