//! Runs engramctl once in a pod.

mod retry;
mod verdict;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Resource as _, ResourceExt as _};
use serde::Deserialize;

use crate::api::{EngramBackupStore, EngramCluster, EngramMember, GROUP, Reason};
use crate::desired::{Names, Needed, StoreAccess, Tool, tool_pod};

use super::{Context, Error, as_seen, is_gone, is_overtaken, now, overtaken, this_one};

pub(super) use retry::wait;
pub(super) use verdict::{classify, essence, is_full, with_advice};

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// It has not ended.
    Running,
    /// It cannot begin as yet.
    Waiting {
        /// In a word.
        reason: Reason,
        /// What is missing.
        message: String,
    },
    /// It ended well, with this result.
    Done(String),
    /// It did not, or could not begin for too long.
    Failed {
        /// In a word.
        reason: Reason,
        /// What it said, and what to do.
        message: String,
    },
}

/// What `engramctl backup create` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub id: String,
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    pub incarnation: String,
    pub revision: i64,
    pub compact_revision: i64,
    #[serde(rename = "hashKV")]
    pub hash_kv: u32,
    pub size: i64,
    pub created_at: String,
    pub engram_version: String,
    pub path: String,
    /// Whether a majority of the members answered its hash.
    pub agreed: Option<bool>,
    /// The key that it is encrypted with.
    pub key_id: Option<String>,
}

/// What `engramctl backup keys` says; only what is read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Keys {
    /// The ids of those that backups need and that are not given.
    pub missing: Vec<String>,
}

/// What `engramctl backup verify` says; only what is read here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Verified {
    pub agreed: Option<bool>,
}

/// The pod of a run, as it is looked for.
pub(super) struct Begun<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    /// The store that it reads or writes.
    pub access: &'a StoreAccess,
    /// The UID of the object that it works for.
    pub owner: Option<&'a String>,
}

/// The pod of this run.
pub(super) fn begun<'a>(tool: &'a Tool<'_>) -> Begun<'a> {
    Begun {
        name: &tool.name,
        namespace: &tool.namespace,
        access: tool.access,
        owner: tool.owner.as_ref().map(|owner| &owner.uid),
    }
}

/// Looks at a run, and begins it where there is none.
pub(super) async fn run(context: &Context, tool: &Tool<'_>) -> Result<Run, Error> {
    match look(context, &begun(tool)).await? {
        Some(run) => Ok(run),
        None => {
            let api: Api<Pod> = Api::namespaced(context.client.clone(), &tool.namespace);
            begin(&api, tool).await
        }
    }
}

/// Looks at a run; none where it has no pod.
pub(super) async fn look(context: &Context, begun: &Begun<'_>) -> Result<Option<Run>, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), begun.namespace);
    let Some(pod) = api.get_opt(begun.name).await? else {
        return Ok(None);
    };
    let owners = pod.owner_references();
    if !owners.iter().any(|one| Some(&one.uid) == begun.owner) {
        return Ok(Some(match is_a_tool(&pod) {
            // One of an object of this name that is gone: its own deletion is under way.
            true => Run::Running,
            false => Run::Waiting {
                reason: Reason::AlreadyExists,
                message: format!(
                    "Pod {} exists and is none of engramctl's: delete or rename it",
                    begun.name
                ),
            },
        }));
    }
    if verdict::is_left_behind(&pod, now().as_second()) {
        // Its node does not answer. What was begun there is begun anew.
        clear(context, begun.namespace, begun.name).await?;
        return Ok(Some(Run::Running));
    }
    let missing = match verdict::may_begin(&pod) {
        true => missing_secrets(context, begun.namespace, begun.access).await?,
        false => None,
    };
    let run = verdict::read(&pod, missing, now().as_second());
    let may_go_on = verdict::may_begin(&pod) || verdict::is_overdue(&pod, now().as_second());
    if matches!(run, Run::Failed { .. }) && may_go_on {
        // What is said to have failed must not be done later, and what has begun since has not failed.
        match end(&api, &pod, as_seen(&pod)).await {
            Err(error) if is_overtaken(&error) => return Ok(Some(Run::Running)),
            ended => drop(ended?),
        }
    }
    Ok(Some(run))
}

/// What is wrong with the Secrets of the store's authorities and keys, which a pod that waits for them does not
/// tell of.
pub(crate) async fn missing_secrets(
    context: &Context,
    namespace: &str,
    access: &StoreAccess,
) -> Result<Option<String>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    for Needed { secret, key, what } in &access.needs {
        let found = api.get_opt(secret).await?;
        let wrong = match &found {
            None => format!("there is no Secret {secret}"),
            Some(found) if found.data.iter().all(|data| !data.contains_key(key)) => {
                format!("the Secret {secret} has no {key}")
            }
            Some(_) => continue,
        };
        return Ok(Some(format!("{wrong}: make the Secret that {what}")));
    }
    Ok(None)
}

async fn begin(api: &Api<Pod>, tool: &Tool<'_>) -> Result<Run, Error> {
    match api.create(&PostParams::default(), &tool_pod(tool)).await {
        Ok(_) => Ok(Run::Running),
        // A quota or a policy of the namespace's, which may let it in later; or something that is none.
        Err(kube::Error::Api(refused)) if matches!(refused.code, 403 | 422) => {
            let message = format!(
                "Kubernetes refuses the pod {}: {} (pods.resources of the EngramBackupStore is what it asks for)",
                tool.name, refused.message
            );
            let code = refused.code;
            let reason = match Error::from(kube::Error::Api(refused)).reason() {
                // No pod is let into a namespace that goes, and none ever will be.
                Reason::Deleting => Reason::Deleting,
                _ if code == 403 => Reason::Failed,
                _ => Reason::InvalidSpec,
            };
            Ok(Run::Failed { reason, message })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a pod was made to run engramctl for an object of ours, and is not a member's or somebody else's.
pub(super) fn is_a_tool(pod: &Pod) -> bool {
    let own = format!("{GROUP}/");
    let mut owners = pod.owner_references().iter();
    owners.any(|one| one.api_version.starts_with(&own) && one.kind != EngramMember::kind(&()))
}

/// Deletes a run's pod; whether it is gone. One that a lost node holds is not waited for, and one that only has the
/// name is left alone.
pub(super) async fn clear(context: &Context, namespace: &str, name: &str) -> Result<bool, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let Some(pod) = api.get_opt(name).await? else {
        return Ok(true);
    };
    if !is_a_tool(&pod) {
        return Ok(true);
    }
    end(&api, &pod, this_one(&pod)).await
}

/// Deletes a pod; whether it is gone.
async fn end(api: &Api<Pod>, pod: &Pod, params: DeleteParams) -> Result<bool, Error> {
    let left_behind = verdict::is_left_behind(pod, now().as_second());
    let params = DeleteParams {
        grace_period_seconds: left_behind.then_some(0),
        ..params
    };
    match api.delete(&pod.name_any(), &params).await {
        Ok(_) => Ok(false),
        Err(error) if is_gone(&error) => Ok(true),
        Err(error) => Err(overtaken(pod, error)),
    }
}

/// The store of that name.
pub(super) async fn store(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<EngramBackupStore, Error> {
    let api: Api<EngramBackupStore> = Api::namespaced(context.client.clone(), namespace);
    let missing = || {
        Error::input(
            Reason::NotFound,
            format!("there is no EngramBackupStore {name}: make it, or correct storeRef"),
        )
    };
    api.get_opt(name).await?.ok_or_else(missing)
}

/// The cluster of that name, if there is one.
pub(super) async fn cluster(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<EngramCluster>, Error> {
    let api: Api<EngramCluster> = Api::namespaced(context.client.clone(), namespace);
    Ok(api.get_opt(name).await?)
}

/// Where a cluster's members are reached, each by itself, and then the Service before all of them.
pub(super) async fn endpoints(
    context: &Context,
    cluster: &EngramCluster,
) -> Result<Vec<String>, Error> {
    let names = Names::of(cluster);
    let api: Api<EngramMember> = Api::namespaced(context.client.clone(), &names.namespace);
    let members = api.list(&ListParams::default()).await?;
    let staying = members.iter().filter(|member| {
        member.spec.cluster_ref.name == names.cluster
            && member.metadata.deletion_timestamp.is_none()
    });
    let mut endpoints: Vec<String> = staying
        .map(|member| names.client_url(&member.name_any()))
        .collect();
    endpoints.sort();
    endpoints.push(names.endpoint());
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_and_half_of_one_is_none() {
        let text = r#"{"id":"a","cluster":"demo","clusterID":"cdf8","incarnation":"0","revision":7,"compactRevision":-1,"hashKV":9,"size":5,"createdAt":"2026-01-01T00:00:00Z","engramVersion":"0.1.0","path":"s3://b/demo/a"}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        assert_eq!((summary.id.as_str(), summary.hash_kv), ("a", 9));
        assert!(serde_json::from_str::<Summary>(r#"{"id":"a"}"#).is_err());
    }
}
