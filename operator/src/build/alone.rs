//! A member that goes on alone after the others are lost: its directory is told so before it starts, once.

use serde_json::{Value, json};

use crate::api::EngramCluster;

use super::job::PROGRAM;
use super::pod::{DATA_DIRECTORY, VOLUME, container_security, pull_policy};

/// On its pods: for which restore, by its UID.
pub const ALONE_ANNOTATION: &str = "engram.dev/alone-for";
/// The container that does it.
pub const ALONE_CONTAINER: &str = "force-new-cluster";

/// It may run again, with the pod: for the same restore nothing is done twice.
pub(super) fn container(cluster: &EngramCluster, image: &str, once: &str) -> Value {
    let mut container = json!({
        "name": ALONE_CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy(cluster),
        "command": [
            PROGRAM,
            "force-new-cluster",
            format!("--data-dir={DATA_DIRECTORY}"),
            format!("--once={once}"),
        ],
        "securityContext": container_security(Some(cluster)),
        "volumeMounts": [{ "name": "data", "mountPath": VOLUME }],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    // What the member may use; the pod asks for no more than the larger of the two.
    if let Some(resources) = &cluster.spec.resources {
        container["resources"] = json!(resources);
    }
    container
}
