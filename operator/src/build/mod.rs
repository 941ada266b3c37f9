//! Kubernetes' objects for a cluster, built and compared, never sent: no client, no clock.

mod alone;
mod archive;
mod fill;
mod flags;
mod job;
mod member;
mod names;
mod pod;
mod policy;
mod quantity;
mod services;
mod store;
#[cfg(test)]
mod tests;
mod tool;
mod volume;

pub use alone::{ALONE_ANNOTATION, ALONE_CONTAINER};
pub use archive::archiving;
pub use fill::{FILL_ANNOTATION, RESTORE_CONTAINER, fill_hash};
pub use flags::CLIENT_TLS;
pub(crate) use flags::TLS_DIRECTORY;
pub use job::{CUT_OVER_ANNOTATION, Create, Import, Job, PROGRAM, Prune};
pub use member::member;
pub use names::{
    CLIENT_PORT, KEEP_ANNOTATION, METRICS_PORT, Names, PEER_PORT, cluster_labels, member_labels,
    member_query,
};
pub use pod::{
    MEMBER_CONTAINER, MemberPod, TEMPLATE_ANNOTATION, digest, member_pod, template_hash,
};
pub use policy::{disruption_budget, network_policy};
pub use quantity::bytes;
pub use services::{client_service, peer_service};
pub use store::{Needed, StoreAccess, access, would_borrow};
pub use tool::{TOOL_CONTAINER, Tool, tool_pod};
pub use volume::{claim_name, claim_repair, keeps_volume, volume_claim};

use serde::de::DeserializeOwned;

/// An object from its JSON form.
///
/// # Panics
/// If the shape is not the type's: shapes are constants of this room, and its tests build each.
fn shaped<T: DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("the shape of a Kubernetes object")
}
