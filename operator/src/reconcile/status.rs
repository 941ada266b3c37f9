//! Statuses are written over what was read and nothing else: what another pass, another operator or a person has
//! written since is not put back by a late one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::api::{Api, Patch};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{EngramCluster, EngramClusterStatus, GROUP, Reason};

use super::mutant::{Mutant, planted};
use super::{Context, Error, Namespaced, apply_params};

/// How often an object is read again of which others change something else.
const READS: usize = 3;

/// An object as this pass knows it: its version, and the status that it had.
pub(crate) struct Version(Mutex<Known>);

#[derive(Clone)]
struct Known {
    version: Option<String>,
    status: Value,
}

impl Known {
    fn of(object: &(impl ResourceExt + Serialize)) -> Self {
        Self {
            version: object.resource_version(),
            status: json!(object)["status"].take(),
        }
    }
}

impl Version {
    /// As the object was read.
    pub(super) fn of(object: &(impl ResourceExt + Serialize)) -> Self {
        Self(Mutex::new(Known::of(object)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version after this pass's last write.
    pub(super) fn last(&self) -> Option<String> {
        self.known().version.clone()
    }
}

/// Writes the whole status of an object of ours, if nobody has written it since, nor asked for something else. Other
/// changes (a label, a finalizer) keep nothing that was done from being written down.
///
/// # Errors
/// The API server refused, or somebody was quicker.
pub(super) async fn write_status<K, S>(
    context: &Context,
    object: &K,
    version: &Version,
    status: &S,
) -> Result<(), Error>
where
    K: Namespaced + Serialize,
    S: Serialize,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    for _ in 0..READS {
        let refused = match put(context, object, version, status).await {
            Err(refused) if is_overtaken(&refused) => refused,
            written => return written,
        };
        let now = api.get_opt(&object.name_any()).await?;
        let Some(now) = now.filter(|now| asks_the_same(object, now)) else {
            return Err(refused);
        };
        let now = Known::of(&now);
        let mut known = version.known();
        if now.status != known.status {
            return Err(refused);
        }
        *known = now;
    }
    put(context, object, version, status).await
}

/// Whether it is the same object, and nothing else is asked for by it.
fn asks_the_same<K: ResourceExt>(before: &K, now: &K) -> bool {
    let form = |one: &K| {
        let meta = one.meta();
        (
            meta.uid.clone(),
            meta.generation,
            meta.deletion_timestamp.clone(),
        )
    };
    form(before) == form(now)
}

/// Writes the whole status of a cluster, if nobody has written to it since, whatever it was: all that is decided for
/// its members is decided by it.
///
/// # Errors
/// The API server refused, or somebody was quicker.
pub(super) async fn write_cluster_status(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    status: &EngramClusterStatus,
) -> Result<(), Error> {
    put(context, cluster, version, status).await
}

async fn put<K, S>(
    context: &Context,
    object: &K,
    version: &Version,
    status: &S,
) -> Result<(), Error>
where
    K: Namespaced + Serialize,
    S: Serialize,
{
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let last = version
        .last()
        .filter(|_| !planted(Mutant::StatusWrittenOver));
    let patch = status_patch(object, last, status);
    let patched = api
        .patch_status(&name, &apply_params(), &Patch::Apply(&patch))
        .await;
    let patched = patched.map_err(|error| overtaken(object, error))?;
    let after = Known::of(&patched);
    let lost = lost(&json!(status), &after.status);
    *version.known() = after;
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the CustomResourceDefinition {}.{GROUP} drops {} of the status: it is not of this operator's version; apply \
         the definitions of this one (the chart does with crds.install: true)",
        K::plural(&()),
        lost.join(", ")
    );
    context
        .event(object, true, "DefinitionsOutdated", &message)
        .await;
    Err(Error::input(Reason::InvalidSpec, message))
}

/// The UID has the API server refuse it where another object has taken the name since, the version where the object is
/// another one by now.
fn status_patch<K>(object: &K, version: Option<String>, status: &impl Serialize) -> Value
where
    K: kube::Resource<DynamicType = ()>,
{
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": object.meta().name, "uid": object.meta().uid, "resourceVersion": version,
        },
        "status": status,
    })
}

/// Which fields of what was written were not kept: a definition that does not know them has them dropped in silence, and
/// what was decided by then would be decided again, or otherwise.
fn lost(written: &Value, kept: &Value) -> Vec<String> {
    let fields = written.as_object().into_iter().flatten();
    let is_lost = |field: &String, value: &Value| match &kept[field] {
        Value::Null => !value.is_null(),
        // Others may have a part in these.
        Value::Array(_) => false,
        kept @ Value::Object(_) => !lost(value, kept).is_empty(),
        // Kubernetes writes 1.0 as 1.
        Value::Number(kept) => kept.as_f64() != value.as_f64(),
        other => other != value,
    };
    let lost = fields.filter(|(field, value)| is_lost(field, value));
    lost.map(|(field, _)| field.clone()).collect()
}

/// A refusal of a write over what was read: somebody else was quicker, where that is why.
pub(crate) fn overtaken<K>(object: &K, error: kube::Error) -> Error
where
    K: kube::Resource<DynamicType = ()>,
{
    match error {
        kube::Error::Api(refused) if refused.code == 409 && refused.reason != "AlreadyExists" => {
            Error::Overtaken(format!(
                "{} {} was changed by somebody else meanwhile: it is looked at again",
                K::kind(&()),
                object.name_any()
            ))
        }
        error => error.into(),
    }
}

/// Whether somebody else was quicker.
pub(super) fn is_overtaken(error: &Error) -> bool {
    matches!(error, Error::Overtaken(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EngramBackup, EngramBackupStatus};
    use crate::played::Played;

    const BACKUP: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engrambackups/nightly";

    fn backup() -> Value {
        json!({
            "apiVersion": "engram.dev/v1alpha1",
            "kind": "EngramBackup",
            "metadata": { "uid": "u-1", "generation": 1 },
            "spec": { "clusterRef": { "name": "demo" }, "storeRef": { "name": "s3" } },
        })
    }

    fn read(server: &Played) -> EngramBackup {
        serde_json::from_value(server.object(BACKUP).unwrap()).unwrap()
    }

    fn attempts(attempts: u32) -> EngramBackupStatus {
        EngramBackupStatus {
            attempts,
            ..EngramBackupStatus::default()
        }
    }

    #[tokio::test]
    async fn a_status_is_written_over_what_was_read_and_over_nothing_else() {
        let server = Played::default();
        let context = server.context();
        server.put(BACKUP, backup());
        let late = read(&server);
        let version = Version::of(&late);
        let write = async |status: &EngramBackupStatus| {
            write_status(&context, &late, &version, status).await
        };
        write(&attempts(1)).await.unwrap();
        // Its own writes it knows, and who labels the object is in nobody's way.
        server.change(BACKUP, |one| {
            one["metadata"]["labels"] = json!({ "team": "a" });
            one["metadata"]["finalizers"] = json!(["else.where/one"]);
        });
        write(&attempts(2)).await.unwrap();
        assert_eq!(read(&server).status.unwrap().attempts, 2);
        // Another operator has written since.
        let newer = read(&server);
        let other = Version::of(&newer);
        write_status(&context, &newer, &other, &attempts(7))
            .await
            .unwrap();
        let refused = write(&attempts(3)).await.unwrap_err();
        assert!(is_overtaken(&refused), "{refused}");
        assert_eq!(read(&server).status.unwrap().attempts, 7);
    }

    #[tokio::test]
    async fn what_was_asked_for_otherwise_deleted_or_made_again_meanwhile_is_looked_at_first() {
        type Change = fn(&mut Value);
        let changes: [Change; 3] = [
            |one| {
                one["spec"]["verify"] = json!(true);
                one["metadata"]["generation"] = json!(2);
            },
            |one| one["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            |one| one["metadata"]["uid"] = json!("u-2"),
        ];
        for change in changes {
            let server = Played::default();
            let context = server.context();
            server.put(BACKUP, backup());
            let seen = read(&server);
            let version = Version::of(&seen);
            server.change(BACKUP, change);
            let refused = write_status(&context, &seen, &version, &attempts(1)).await;
            assert!(refused.is_err_and(|error| is_overtaken(&error)));
            assert!(read(&server).status.is_none());
        }
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
        let mut whole = backup();
        whole["metadata"]["name"] = json!("nightly");
        let backup: EngramBackup = serde_json::from_value(whole).unwrap();
        let patch = status_patch(&backup, Some("7".into()), &json!({}));
        assert_eq!(
            patch["metadata"],
            json!({ "name": "nightly", "uid": "u-1", "resourceVersion": "7" })
        );
    }
}
