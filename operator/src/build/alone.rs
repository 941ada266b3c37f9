//! A member that goes on alone after the others are lost: its directory is told so before it starts, once.

use k8s_openapi::api::core::v1::Container;

use crate::api::EngramCluster;

use super::job::PROGRAM;
use super::parts::{LAST_WORDS, container_security, mount, pull_policy};
use super::pod::{DATA_DIRECTORY, VOLUME};

/// On its pods: for which restore, by its UID.
pub const ALONE_ANNOTATION: &str = "engram.dev/alone-for";
/// The container that does it.
pub const ALONE_CONTAINER: &str = "force-new-cluster";

/// It may run again, with the pod: for the same restore nothing is done twice.
pub(super) fn container(cluster: &EngramCluster, image: &str, once: &str) -> Container {
    Container {
        name: ALONE_CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(pull_policy(cluster).to_owned()),
        command: Some(vec![
            PROGRAM.to_owned(),
            "force-new-cluster".to_owned(),
            format!("--data-dir={DATA_DIRECTORY}"),
            format!("--once={once}"),
        ]),
        security_context: Some(container_security(Some(cluster))),
        volume_mounts: Some(vec![mount("data", VOLUME)]),
        termination_message_policy: Some(LAST_WORDS.to_owned()),
        // What the member may use; the pod asks for no more than the larger of the two.
        resources: cluster.spec.resources.clone(),
        ..Container::default()
    }
}
