//! The loop of each kind, and what they share.

mod backup;
mod certificates;
mod children;
mod claims;
mod cluster;
mod cluster_status;
mod context;
mod error;
mod maintenance;
mod member_status;
mod operation;
mod owner;
#[cfg(test)]
mod passes;
mod restore;
mod run;
mod schedule;
mod store;
mod tool;
mod turns;

pub(crate) use claims::follow_policy;
pub use context::Context;
pub use error::Error;
pub use run::run;
pub(crate) use tool::missing_authorities;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Who owns the fields that the operator writes.
pub const FIELD_MANAGER: &str = "engram-operator";

/// The fields' owner, whoever wrote them before.
fn apply_params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Applies an object as it is built.
///
/// # Errors
/// The API server refused.
async fn apply<K>(context: &Context, namespace: &str, object: &K) -> Result<K, Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    Ok(api
        .patch(&object.name_any(), &apply_params(), &Patch::Apply(object))
        .await?)
}

/// Writes the whole status of an object of ours.
///
/// # Errors
/// The API server refused.
async fn write_status<K, S>(context: &Context, object: &K, status: &S) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
    S: Serialize,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let patch = status_patch(object, status);
    api.patch_status(&object.name_any(), &apply_params(), &Patch::Apply(&patch))
        .await?;
    Ok(())
}

/// The UID has the API server refuse it where another object has taken the name since.
fn status_patch<K>(object: &K, status: &impl Serialize) -> serde_json::Value
where
    K: kube::Resource<DynamicType = ()>,
{
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.meta().name, "uid": object.meta().uid },
        "status": status,
    })
}

/// Adds or takes away a finalizer; nothing where it is as it should be. The resource version keeps
/// another one's from being lost.
///
/// # Errors
/// The API server refused.
async fn set_finalizer<K>(
    context: &Context,
    object: &K,
    name: &str,
    wanted: bool,
) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let before = object.finalizers();
    if before.iter().any(|one| one == name) == wanted {
        return Ok(());
    }
    let mut after: Vec<&str> = before
        .iter()
        .map(String::as_str)
        .filter(|one| *one != name)
        .collect();
    if wanted {
        after.push(name);
    }
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({ "metadata": {
        "finalizers": after,
        "resourceVersion": object.resource_version(),
    } });
    let patched = api
        .patch(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await;
    match patched {
        Ok(_) => Ok(()),
        Err(error) if !wanted && is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the API server says that there is no such object.
#[must_use]
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Deletes the object that was seen, never one that has taken its name since.
pub(crate) fn this_one(seen: &impl ResourceExt) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: seen.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EngramBackup;

    #[test]
    fn a_status_is_that_of_the_object_that_was_seen() {
        let backup: EngramBackup = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1",
            "kind": "EngramBackup",
            "metadata": { "name": "nightly", "namespace": "data", "uid": "u-1" },
            "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s3" } },
        }))
        .unwrap();
        let patch = status_patch(&backup, &json!({}));
        assert_eq!(
            patch["metadata"],
            json!({ "name": "nightly", "uid": "u-1" })
        );
    }
}
