//! A member's object.

use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{EngramCluster, EngramMember, EngramMemberSpec, MEMBER_FINALIZER};

use super::names::member_labels;

/// The object of a member of `cluster`.
#[must_use]
pub fn member(cluster: &EngramCluster, name: &str, spec: EngramMemberSpec) -> EngramMember {
    let mut member = EngramMember::new(name, spec);
    member.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: cluster.namespace(),
        labels: Some(member_labels(&cluster.name_any(), name)),
        finalizers: Some(vec![MEMBER_FINALIZER.into()]),
        owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    member
}
