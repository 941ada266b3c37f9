//! The loop of each kind, and what they share.

mod access;
mod backup;
mod calm;
mod certificates;
mod children;
mod claims;
mod cluster;
mod cluster_status;
mod context;
mod error;
mod labels;
mod maintenance;
mod member;
mod member_status;
mod operation;
mod owner;
mod owners;
#[cfg(test)]
mod passes;
mod restore;
mod run;
mod schedule;
mod start;
mod store;
mod tool;
mod turns;

pub use calm::{Calm, News};
use children::{has, marked};
pub(crate) use claims::follow_policy;
pub use context::Context;
pub use error::Error;
pub use run::run;
pub(crate) use tool::missing_secrets;

use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::{ConditionKind, EngramCluster, EngramClusterStatus, GROUP, Reason, set_condition};
use crate::clock;

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

/// The version of an object as this pass knows it: what others have written since has the next write
/// refused, so that a late one puts nothing back.
pub(crate) struct Version(Mutex<Option<String>>);

impl Version {
    /// As the object was read.
    fn of(object: &impl ResourceExt) -> Self {
        Self(Mutex::new(object.resource_version()))
    }

    fn known(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the whole status of a cluster, if nobody has written to it since.
///
/// # Errors
/// The API server refused, or somebody has: a conflict.
async fn write_cluster_status(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    status: &EngramClusterStatus,
) -> Result<(), Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<EngramCluster> = Api::namespaced(context.client.clone(), &namespace);
    let mut patch = status_patch(cluster, status);
    patch["metadata"]["resourceVersion"] = json!(*version.known());
    let patched = api
        .patch_status(&cluster.name_any(), &apply_params(), &Patch::Apply(&patch))
        .await?;
    *version.known() = patched.resource_version();
    let lost = lost(&json!(status), &json!(patched.status.unwrap_or_default()));
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the CustomResourceDefinition engramclusters.{GROUP} drops {} of the status: it is not of this operator's \
         version; apply the definitions of this one (the chart does with crds.install: true)",
        lost.join(", ")
    );
    context
        .event(cluster, true, "DefinitionsOutdated", &message)
        .await;
    Err(Error::input(Reason::InvalidSpec, message))
}

/// Which fields of what was written were not kept: a definition that does not know them has them dropped in silence, and
/// what was decided by then would be decided again, or otherwise.
fn lost(written: &serde_json::Value, kept: &serde_json::Value) -> Vec<String> {
    let fields = written.as_object().into_iter().flatten();
    let is_lost = |field: &String, value: &serde_json::Value| match &kept[field] {
        serde_json::Value::Null => !value.is_null(),
        // Others may have a part in these.
        serde_json::Value::Array(_) => false,
        kept @ serde_json::Value::Object(_) => !lost(value, kept).is_empty(),
        // Kubernetes writes 1.0 as 1.
        serde_json::Value::Number(kept) => kept.as_f64() != value.as_f64(),
        other => other != value,
    };
    let lost = fields.filter(|(field, value)| is_lost(field, value));
    lost.map(|(field, _)| field.clone()).collect()
}

/// Whether the API server says that somebody else was quicker.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Kube(error) if matches!(&**error, kube::Error::Api(status) if status.code == 409))
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
/// another one's from being lost. Whether there was anything to do.
///
/// # Errors
/// The API server refused.
async fn set_finalizer<K>(
    context: &Context,
    object: &K,
    name: &str,
    wanted: bool,
) -> Result<bool, Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    if has_finalizer(object, name) == wanted {
        return Ok(false);
    }
    let mut after: Vec<&str> = object
        .finalizers()
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
        Ok(_) => Ok(true),
        Err(error) if !wanted && is_gone(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// How far something stands that is done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It is under way, or waits.
    Open,
    /// It has come to its good end.
    Good,
    /// It has failed for good.
    Bad,
}

/// Sets the conditions of what is done once: `Complete`, and for tools that go by kstatus `Ready`,
/// `Reconciling` and `Stalled`.
pub(crate) fn set_course(
    conditions: &mut Vec<Condition>,
    course: Course,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
) {
    let (kind, good) = (ConditionKind::Complete, course == Course::Good);
    set_condition(conditions, kind, good, reason, message, generation, now());
    set_standing(conditions, course, reason, message, generation);
}

/// Sets the conditions of tools that go by kstatus: `Ready`, `Reconciling` and `Stalled`.
fn set_standing(
    conditions: &mut Vec<Condition>,
    course: Course,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
) {
    for (kind, holds) in [
        (ConditionKind::Ready, course == Course::Good),
        (ConditionKind::Reconciling, course == Course::Open),
        (ConditionKind::Stalled, course == Course::Bad),
    ] {
        set_condition(conditions, kind, holds, reason, message, generation, now());
    }
}

/// Objects that belong to a cluster.
pub(crate) fn of_cluster(name: &str) -> ListParams {
    ListParams::default().fields(&format!("spec.clusterRef.name={name}"))
}

/// What is gone already need not be done.
///
/// # Errors
/// The API server refused for another reason.
pub(crate) fn gone<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Merges this into an object, unless that is gone already.
///
/// # Errors
/// The API server refused.
async fn merge<K>(api: &Api<K>, name: &str, patch: &serde_json::Value) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(patch);
    gone(api.patch(name, &PatchParams::default(), &patch).await)
}

/// Whether an object has a finalizer.
pub(crate) fn has_finalizer(object: &impl ResourceExt, name: &str) -> bool {
    object.finalizers().iter().any(|one| one == name)
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
    clock::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EngramBackup;

    /// What kstatus (and with it Flux, Argo CD and `kubectl wait`) makes of each.
    #[test]
    fn a_failed_one_is_failed_to_tools_as_well() {
        let of = |course| {
            let mut conditions = Vec::new();
            set_course(&mut conditions, course, Reason::Failed, "words", Some(1));
            let holds = |kind: &str| {
                let one = conditions.iter().find(|one| one.type_ == kind).unwrap();
                one.status == "True"
            };
            match (holds("Stalled"), holds("Reconciling"), holds("Ready")) {
                (true, false, false) => "Failed",
                (false, true, false) => "InProgress",
                (false, false, true) => "Current",
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of(Course::Open), "InProgress");
        assert_eq!(of(Course::Good), "Current");
        assert_eq!(of(Course::Bad), "Failed");
    }

    #[test]
    fn a_definition_that_drops_what_is_written_is_noticed() {
        let written = json!({
            "heldBy": "a/b", "lastMemberNumber": 4, "conditions": [1], "restoring": { "stage": "Kept" },
        });
        assert_eq!(lost(&written, &written), [""; 0]);
        // Others' conditions are theirs.
        let more = json!({
            "heldBy": "a/b", "lastMemberNumber": 4, "conditions": [1, 2], "more": 1,
            "restoring": { "stage": "Kept", "more": 1 },
        });
        assert_eq!(lost(&written, &more), [""; 0]);
        let less = json!({ "lastMemberNumber": 0, "conditions": [] });
        let found = lost(&written, &less);
        assert_eq!(found, ["heldBy", "lastMemberNumber", "restoring"]);
        // A field within one is one as well.
        let within = json!({
            "heldBy": "a/b", "lastMemberNumber": 4.0, "conditions": [1], "restoring": {},
        });
        assert_eq!(lost(&written, &within), ["restoring"]);
    }

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
