//! Whose an object is that has the name of one of a cluster's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};

use crate::api::{EngramCluster, Reason};
use crate::observe::is_owned_by;

use super::Error;

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This cluster's.
    This,
    /// Of a cluster of its name that is gone.
    Gone,
    /// Somebody else's.
    Other,
}

/// Whose `object` is.
pub(super) fn owner<K: Resource>(object: &K, cluster: &EngramCluster) -> Owner {
    let of_name = |one: &OwnerReference| {
        one.kind == EngramCluster::kind(&()) && one.name == cluster.name_any()
    };
    if is_owned_by(object, cluster) {
        Owner::This
    } else if object.owner_references().iter().any(of_name) {
        Owner::Gone
    } else {
        Owner::Other
    }
}

/// What to say of an object of somebody else's that has a name which is needed.
pub(super) fn taken<K>(name: &str, reason: Reason) -> Error
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    taken_kind(&K::kind(&()), name, reason)
}

/// The same, of a kind whose type is nobody's.
pub(super) fn taken_kind(kind: &str, name: &str, reason: Reason) -> Error {
    let message = format!("{kind} {name} exists and is not this cluster's: delete or rename it");
    Error::input(reason, message)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_gone_cluster_of_the_name_left_is_not_in_the_way_and_a_strangers_is() {
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data", "uid": "new" }, "spec": {},
        }))
        .unwrap();
        let secret = |kind: &str, name: &str, uid: &str| -> Secret {
            let owner = json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": uid });
            let metadata = json!({ "name": "demo-peer-ca", "ownerReferences": [owner] });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let of = |secret: &Secret| owner(secret, &cluster);
        assert_eq!(of(&secret("EngramCluster", "demo", "new")), Owner::This);
        assert_eq!(of(&secret("EngramCluster", "demo", "old")), Owner::Gone);
        assert_eq!(of(&secret("EngramCluster", "other", "old")), Owner::Other);
        assert_eq!(of(&secret("Certificate", "demo", "old")), Owner::Other);
        assert_eq!(of(&Secret::default()), Owner::Other);
    }
}
