//! A cluster that begins with what another one holds: engramctl copies it and follows it, in a pod.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;
use serde_json::json;

use crate::api::{
    ConditionKind, EngramCluster, EngramClusterStatus, Import, ImportStatus, Reason, set_condition,
};
use crate::desired::{CUT_OVER_ANNOTATION, Job, Names, StoreAccess, Tool};

use super::super::tool::{self, Run};
use super::super::{Context, Error, Version, now, write_cluster_status};

/// How long one attempt may take: people cut over when it suits them.
const DEADLINE_SECONDS: i64 = 30 * 24 * 3600;

/// What `engramctl import` says; only what is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    source_revision: i64,
    target_revision: i64,
    keys: i64,
}

/// One step, of a cluster that serves.
///
/// # Errors
/// The API server refused.
pub(super) async fn advance(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let bootstrap = cluster.spec.bootstrap.as_ref();
    let Some(import) = bootstrap.and_then(|bootstrap| bootstrap.import.as_ref()) else {
        return Ok(());
    };
    let stands = status.import.clone().unwrap_or_default();
    if stands.completed_at.is_some() || cluster.spec.paused {
        return Ok(());
    }
    let names = Names::of(cluster);
    let tool = attempt(context, cluster, import, &stands);
    if stands.attempts > 0 && stands.started_at.is_none() && has_run(context, &tool).await? {
        // Before its pod goes: what it has copied is removed by the next one, and nothing else ever is.
        let mut stands = stands;
        stands.started_at = Some(Time(now()));
        status.import = Some(stands);
        write_cluster_status(context, cluster, version, status).await?;
    }
    let (reason, message) = match tool::look(context, &tool::begun(&tool)).await? {
        Some(Run::Running) => {
            cut_over(context, &names, import).await?;
            (Reason::Running, running(import))
        }
        Some(Run::Waiting { reason, message }) => (reason, message),
        Some(Run::Done(said)) => match serde_json::from_str::<Said>(said.trim()) {
            Ok(said) => return done(context, cluster, version, &said, status).await,
            Err(_) => (
                Reason::Failed,
                "engramctl's result cannot be read".to_owned(),
            ),
        },
        Some(Run::Failed { reason, message }) => {
            failed(context, &names, reason, &message, status).await?
        }
        None => begin(context, cluster, version, import, status).await?,
    };
    say(cluster, status, false, reason, message);
    Ok(())
}

/// Whether a pod has run that may have copied something. One that was never made, or found no node, has not.
async fn has_run(context: &Context, tool: &Tool<'_>) -> Result<bool, Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &tool.namespace);
    let pod = pods.get_opt(&tool.name).await?;
    // A kubelet that turns a pod away makes it Failed as well.
    let containers = pod.and_then(|pod| pod.status?.container_statuses);
    let ran = containers.into_iter().flatten().any(|one| {
        let mut states = [one.state, one.last_state].into_iter().flatten();
        one.restart_count > 0
            || states.any(|state| state.running.is_some() || state.terminated.is_some())
    });
    Ok(ran)
}

fn running(import: &Import) -> String {
    match import.cut_over {
        true => "it ends once both are equal".to_owned(),
        false => "the other cluster is copied and followed: once its clients are stopped, set \
                  bootstrap.import.cutOver: true"
            .to_owned(),
    }
}

fn say(
    cluster: &EngramCluster,
    status: &mut EngramClusterStatus,
    holds: bool,
    reason: Reason,
    message: String,
) {
    let generation = cluster.metadata.generation;
    let conditions = &mut status.conditions;
    set_condition(
        conditions,
        ConditionKind::Imported,
        holds,
        reason,
        message,
        generation,
        now(),
    );
}

fn attempt<'a>(
    context: &'a Context,
    cluster: &'a EngramCluster,
    import: &Import,
    stands: &ImportStatus,
) -> Tool<'a> {
    static NO_STORE: std::sync::LazyLock<StoreAccess> =
        std::sync::LazyLock::new(StoreAccess::default);
    let names = Names::of(cluster);
    let job = crate::desired::Import {
        from: import.endpoints.clone(),
        secret: import.tls_secret_ref.as_ref().map(|one| one.name.clone()),
        prefix: import.prefix.clone(),
        to: names.endpoint(),
        replace: stands.attempts > 1 && stands.started_at.is_some(),
        cut_over: import.cut_over,
    };
    Tool {
        name: format!("{}-import", names.cluster),
        namespace: names.namespace,
        cluster_name: cluster.metadata.name.as_deref().unwrap_or_default(),
        cluster: Some(cluster),
        image: &context.settings.image,
        job: Job::Import(job),
        access: &NO_STORE,
        deadline: DEADLINE_SECONDS,
        owner: cluster.controller_owner_ref(&()),
    }
}

/// The next attempt. It is counted before it is made: what a lost one had copied is removed by the next, and what
/// somebody else had written is not, as long as none has run.
async fn begin(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    import: &Import,
    status: &mut EngramClusterStatus,
) -> Result<(Reason, String), Error> {
    let mut stands = status.import.clone().unwrap_or_default();
    if let Some(Time(at)) = stands.retry_at.as_ref().filter(|time| time.0 > now()) {
        let last = crate::api::condition(&status.conditions, ConditionKind::Imported);
        let last = last.map_or_else(String::new, |one| one.message.clone());
        let message = match last.contains("it is tried again") {
            true => last,
            false => format!("it is tried again at {at}"),
        };
        return Ok((Reason::Retrying, message));
    }
    stands.attempts += 1;
    stands.retry_at = None;
    status.import = Some(stands.clone());
    write_cluster_status(context, cluster, version, status).await?;
    let run = tool::run(context, &attempt(context, cluster, import, &stands)).await?;
    if let Run::Failed { message, .. } = run {
        return Ok(not_made(stands, &message, status));
    }
    let from = import.endpoints.join(", ");
    let note = format!(
        "attempt {}: the keys of {from} are copied and followed",
        stands.attempts
    );
    context.event(cluster, false, "Importing", &note).await;
    Ok((Reason::Running, running(import)))
}

/// Kubernetes refuses the pod: a quota, a policy or what the pod is. It is asked again, later and later.
fn not_made(
    mut stands: ImportStatus,
    message: &str,
    status: &mut EngramClusterStatus,
) -> (Reason, String) {
    // It has not begun, however long it is refused.
    let wait = tool::wait(Reason::Failed, stands.attempts, now(), now()).unwrap_or_default();
    let retry_at = now() + wait;
    stands.retry_at = Some(Time(retry_at));
    status.import = Some(stands);
    let message = format!("{message}; it is tried again at {retry_at}");
    (Reason::Retrying, message)
}

async fn failed(
    context: &Context,
    names: &Names,
    reason: Reason,
    message: &str,
    status: &mut EngramClusterStatus,
) -> Result<(Reason, String), Error> {
    let mut stands = status.import.clone().unwrap_or_default();
    let began = stands.started_at.as_ref().map_or_else(now, |time| time.0);
    if reason == Reason::InvalidSpec {
        // It found keys that are not its own: they are never removed.
        (stands.attempts, stands.started_at) = (0, None);
        status.import = Some(stands.clone());
    }
    let Some(wait) = tool::wait(reason, stands.attempts, began, now()) else {
        let message = format!(
            "{message}; once that is put right, delete the pod {}-import",
            names.cluster
        );
        return Ok((reason, message));
    };
    let retry_at = now() + wait;
    stands.retry_at = Some(Time(retry_at));
    status.import = Some(stands);
    tool::clear(
        context,
        &names.namespace,
        &format!("{}-import", names.cluster),
    )
    .await?;
    Ok((
        Reason::Retrying,
        format!("{message}; it is tried again at {retry_at}"),
    ))
}

/// Tells the pod that it is to end, by what it has mounted.
async fn cut_over(context: &Context, names: &Names, import: &Import) -> Result<(), Error> {
    if !import.cut_over {
        return Ok(());
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &names.namespace);
    let name = format!("{}-import", names.cluster);
    let Some(pod) = pods.get_opt(&name).await? else {
        return Ok(());
    };
    if pod.annotations().contains_key(CUT_OVER_ANNOTATION) {
        return Ok(());
    }
    let annotations = json!({ CUT_OVER_ANNOTATION: "true" });
    let patch = json!({ "metadata": { "uid": pod.uid(), "annotations": annotations } });
    pods.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// It is over. That is written before its pod goes: whoever finds neither begins anew, and removes all that is here,
/// what clients have written since among it.
async fn done(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    said: &Said,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let mut stands = status.import.clone().unwrap_or_default();
    stands.completed_at = Some(Time(now()));
    stands.source_revision = Some(said.source_revision);
    stands.revision = Some(said.target_revision);
    stands.keys = Some(said.keys);
    status.import = Some(stands);
    let message = format!(
        "cut over: revision {} of the source is revision {} here, {} keys each",
        said.source_revision, said.target_revision, said.keys
    );
    say(cluster, status, true, Reason::Succeeded, message.clone());
    write_cluster_status(context, cluster, version, status).await?;
    context.event(cluster, false, "Imported", &message).await;
    let names = Names::of(cluster);
    tool::clear(
        context,
        &names.namespace,
        &format!("{}-import", names.cluster),
    )
    .await?;
    Ok(())
}
