//! A member that goes on alone after the others are lost: its directory is told so before it starts, once.

use k8s_openapi::api::core::v1::Container;

use crate::api::EngramCluster;

use super::job::PROGRAM;
use super::parts::{mount, of_member};
use super::pod::{DATA_DIRECTORY, VOLUME};

/// On its pods: for which restore, by its UID.
pub const ALONE_ANNOTATION: &str = "engram.dev/alone-for";
/// The container that does it.
pub const ALONE_CONTAINER: &str = "force-new-cluster";

/// It may run again, with the pod: for the same restore nothing is done twice.
pub(super) fn container(cluster: &EngramCluster, image: &str, once: &str) -> Container {
    Container {
        command: Some(vec![
            PROGRAM.to_owned(),
            "force-new-cluster".to_owned(),
            format!("--data-dir={DATA_DIRECTORY}"),
            format!("--once={once}"),
        ]),
        volume_mounts: Some(vec![mount("data", VOLUME)]),
        ..of_member(cluster, image, ALONE_CONTAINER)
    }
}
