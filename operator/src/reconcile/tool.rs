//! Runs engramctl once in a pod, and reads what it says.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use serde::Deserialize;

use crate::api::{EngramBackupStore, EngramCluster, Reason};
use crate::build::{Tool, tool_pod};

use super::{Context, Error, is_gone};

/// How much of its words is kept.
const WORDS_MAX: usize = 1000;

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// It has not ended.
    Running,
    /// It ended well, with this result.
    Done(String),
    /// It did not.
    Failed {
        /// In a word.
        reason: Reason,
        /// What it said.
        message: String,
    },
}

/// What `engramctl backup create` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    pub id: String,
    pub revision: i64,
    pub compact_revision: i64,
    #[serde(rename = "hashKV")]
    pub hash_kv: u32,
    pub size: i64,
    pub engram_version: String,
    pub path: String,
}

/// Looks at a run, and begins it where there is none.
pub(super) async fn run(context: &Context, tool: &Tool<'_>) -> Result<Run, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &tool.namespace);
    let Some(pod) = api.get_opt(&tool.name).await? else {
        api.create(&PostParams::default(), &tool_pod(tool)).await?;
        return Ok(Run::Running);
    };
    let owner = tool.owner.as_ref().map(|owner| &owner.uid);
    if !pod
        .owner_references()
        .iter()
        .any(|one| Some(&one.uid) == owner)
    {
        // One of an object of this name that is gone: its own deletion is under way.
        return Ok(Run::Running);
    }
    Ok(read(&pod))
}

/// Deletes a run's pod.
pub(super) async fn clear(context: &Context, namespace: &str, name: &str) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read(pod: &Pod) -> Run {
    let status = pod.status.as_ref();
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let ended = container.and_then(|one| one.state.as_ref()?.terminated.as_ref());
    let words = ended
        .and_then(|ended| ended.message.clone())
        .unwrap_or_default();
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => Run::Done(words),
        Some("Failed") => {
            let why = status.and_then(|status| status.reason.clone());
            let text = if words.trim().is_empty() {
                why.clone().unwrap_or_default()
            } else {
                words
            };
            let skip = text.chars().count().saturating_sub(WORDS_MAX);
            let message: String = text.trim().chars().skip(skip).collect();
            let reason = match why.as_deref() {
                Some("DeadlineExceeded") => Reason::DeadlineExceeded,
                _ => classify(&message),
            };
            Run::Failed {
                reason,
                message: format!("{message}{}", advice(reason)),
            }
        }
        _ => waiting(pod),
    }
}

/// A pod that waits in vain is said to have failed when what it waits for is the user's to give.
fn waiting(pod: &Pod) -> Run {
    match crate::observe::stuck(pod) {
        Some((word, message)) if word == "CreateContainerConfigError" => Run::Failed {
            reason: Reason::NotFound,
            message: format!("{message}: make the Secret that credentialsSecretRef names"),
        },
        _ => Run::Running,
    }
}

/// What a store's refusal means.
fn classify(message: &str) -> Reason {
    const WORDS: [(&str, Reason); 10] = [
        ("NoSuchBucket", Reason::BucketNotFound),
        ("bucket does not exist", Reason::BucketNotFound),
        ("AccessDenied", Reason::AccessDenied),
        ("InvalidAccessKeyId", Reason::AccessDenied),
        ("SignatureDoesNotMatch", Reason::AccessDenied),
        ("Forbidden", Reason::AccessDenied),
        ("403", Reason::AccessDenied),
        ("credential", Reason::AccessDenied),
        ("error sending request", Reason::StoreUnreachable),
        ("dns error", Reason::StoreUnreachable),
    ];
    let found = WORDS.iter().find(|(word, _)| message.contains(word));
    found.map_or(Reason::Failed, |(_, reason)| *reason)
}

fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::AccessDenied => {
            " (check the Secret that credentialsSecretRef names, and what its key may do)"
        }
        Reason::BucketNotFound => " (make the bucket, or correct s3.bucket)",
        Reason::StoreUnreachable => " (check s3.endpoint)",
        _ => "",
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, message: &str) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": {
            "phase": phase,
            "containerStatuses": [{
                "name": "engramctl", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": 1, "message": message } },
            }],
        } }))
        .unwrap()
    }

    #[test]
    fn a_runs_end_is_read_and_a_refusal_says_what_to_do() {
        assert_eq!(read(&pod("Running", "")), Run::Running);
        assert_eq!(read(&pod("Succeeded", "{}")), Run::Done("{}".into()));
        let failed = |message: &str| match read(&pod("Failed", message)) {
            Run::Failed { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        };
        let (reason, message) = failed("put: AccessDenied");
        assert_eq!(reason, Reason::AccessDenied);
        assert!(message.contains("credentialsSecretRef"), "{message}");
        assert_eq!(failed("NoSuchBucket: x").0, Reason::BucketNotFound);
        assert_eq!(failed("checksum of chunk 3 is wrong").0, Reason::Failed);
    }

    #[test]
    fn a_manifest_is_read() {
        let text = r#"{"id":"a","cluster":"demo","revision":7,"compactRevision":2,"hashKV":9,"size":5,"createdAt":"2026-01-01T00:00:00Z","engramVersion":"0.1.0","path":"p"}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(
            (manifest.id.as_str(), manifest.revision, manifest.hash_kv),
            ("a", 7, 9)
        );
    }
}
