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
mod mutant;
mod namespaced;
mod operation;
mod owner;
mod owners;
#[cfg(test)]
mod passes;
mod restore;
mod run;
mod schedule;
mod start;
mod status;
mod store;
mod tool;
mod turns;

pub use calm::{Calm, News};
use children::{has, marked};
pub(crate) use claims::follow_policy;
pub use context::Context;
pub use error::Error;
use mutant::{Mutant, planted};
pub(crate) use namespaced::Namespaced;
pub use run::run;
pub(crate) use status::Version;
pub(crate) use status::overtaken;
use status::{is_overtaken, write_cluster_status, write_status};
pub(crate) use tool::missing_secrets;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::api::{ConditionKind, Reason, set_condition};
use crate::clock;

/// Who owns the fields that the operator writes.
pub const FIELD_MANAGER: &str = "engram-operator";

/// The fields' owner, whoever wrote them before.
fn apply_params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Adds or takes away a finalizer; nothing where it is as it should be. The resource version keeps
/// another one's from being lost. Whether there was anything to do.
///
/// # Errors
/// The API server refused, or somebody has changed the object since.
async fn set_finalizer<K>(
    context: &Context,
    object: &K,
    name: &str,
    wanted: bool,
) -> Result<bool, Error>
where
    K: Namespaced,
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
        Err(error) => Err(overtaken(object, error)),
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

/// Merges this into an object as it was seen, unless it is gone already.
///
/// # Errors
/// The API server refused, or the object is another one than the patch is for.
async fn merge<K>(api: &Api<K>, seen: &K, patch: &serde_json::Value) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(patch);
    let name = seen.name_any();
    match api.patch(&name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(overtaken(seen, error)),
    }
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

/// Deletes the object as it was seen: what it has become since is looked at first.
pub(crate) fn as_seen(seen: &impl ResourceExt) -> DeleteParams {
    let version = seen.resource_version();
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: seen.uid(),
            resource_version: version.filter(|_| !planted(Mutant::DeletedUnseen)),
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
}
