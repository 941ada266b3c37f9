//! Volumes' claims follow the policy as it is now, and carry the labels that they are found by.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{EngramCluster, EngramMember};
use crate::desired;
use crate::observe::Sight;

use super::{Context, Error, merge};

/// Repairs those that were seen, during a deletion as well: what garbage collection takes is decided by
/// their owners.
///
/// # Errors
/// The API server refused; the others are repaired all the same.
pub(super) async fn repair(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
) -> Result<(), Error> {
    let mut result = Ok(());
    for member in &sight.objects.members {
        if let Some(claim) = sight.objects.claims.get(&desired::claim_name(member)) {
            result = result.and(follow_policy(&context.client, cluster, member, claim).await);
        }
    }
    result
}

/// Repairs one.
///
/// # Errors
/// The API server refused, or the claim was changed since it was seen.
pub(crate) async fn follow_policy(
    client: &kube::Client,
    cluster: &EngramCluster,
    member: &EngramMember,
    claim: &PersistentVolumeClaim,
) -> Result<(), Error> {
    let Some(patch) = desired::claim_repair(cluster, member, claim) else {
        return Ok(());
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    merge(&api, claim, &patch).await
}
