//! Kubernetes' objects for a cluster, built and compared, never sent: no client, no clock.

mod alone;
mod archive;
mod fill;
mod flags;
#[cfg(test)]
mod golden;
mod job;
mod member;
mod names;
mod parts;
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
    MEMBER_CONTAINER, MemberPod, TEMPLATE_ANNOTATION, Unfit, digest, fits, member_pod,
    template_hash,
};
pub use policy::{disruption_budget, network_policy};
pub use quantity::bytes;
pub use services::{client_service, peer_service};
pub use store::{Needed, StoreAccess, access, would_borrow};
pub use tool::{TOOL_CONTAINER, Tool, tool_pod};
pub use volume::{claim_name, claim_repair, keeps_volume, member_of_claim, volume_claim};
