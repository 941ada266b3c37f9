//! A member's object that is deleted after its cluster's: nobody else puts it away.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{EngramCluster, EngramClusterStatus, EngramMember, MEMBER_FINALIZER};
use crate::desired;

use super::{Context, Error, has_finalizer, merge, set_finalizer, tool};

/// A cluster that is there may go without its members (a finalizer that a person takes off), of which nothing is heard
/// at the member.
const AGAIN: Duration = Duration::from_secs(60);

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramMember>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    if seen.meta().deletion_timestamp.is_none() || !has_finalizer(&*seen, MEMBER_FINALIZER) {
        return Ok(Next::await_change());
    }
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramMember> = Api::namespaced(context.client.clone(), &namespace);
    let Some(member) = api.get_opt(&seen.name_any()).await? else {
        return Ok(Next::await_change());
    };
    let goes = member.meta().deletion_timestamp.is_some();
    if !goes || !has_finalizer(&member, MEMBER_FINALIZER) {
        return Ok(Next::await_change());
    }
    if has_cluster(&context, &member).await? {
        return Ok(Next::requeue(AGAIN));
    }
    if owner(&member).is_none() {
        keep_volume(&context, &member).await?;
    }
    // Garbage collection takes its pod, and its claim where that is the policy: they are owned.
    tracing::warn!(
        namespace,
        name = member.name_any(),
        "its cluster is gone: let go"
    );
    set_finalizer(&context, &member, MEMBER_FINALIZER, false).await?;
    Ok(Next::await_change())
}

/// Whether a cluster is there that puts it away: its owner; of one that has none, the cluster that it names once that
/// was founded, which gives it back to itself.
async fn has_cluster(context: &Context, member: &EngramMember) -> Result<bool, Error> {
    let namespace = member.namespace().unwrap_or_default();
    let owner = owner(member);
    let name = owner.map_or(&member.spec.cluster_ref.name, |owner| &owner.name);
    let Some(cluster) = tool::cluster(context, &namespace, name).await? else {
        return Ok(false);
    };
    let founded = cluster
        .status
        .as_ref()
        .is_some_and(EngramClusterStatus::was_founded);
    Ok(match owner {
        Some(owner) => cluster.metadata.uid.as_ref() == Some(&owner.uid),
        None => founded && cluster.metadata.deletion_timestamp.is_none(),
    })
}

/// The cluster that owns it.
fn owner(member: &EngramMember) -> Option<&OwnerReference> {
    let kind = EngramCluster::kind(&());
    let mut owners = member.owner_references().iter();
    owners.find(|one| one.kind == kind)
}

/// Takes a member off its claim's owners. Whoever deleted its cluster and left it behind may want to go on with the
/// volume, and has to delete the member first: the policy was that of a cluster that takes its members along.
async fn keep_volume(context: &Context, member: &EngramMember) -> Result<(), Error> {
    let namespace = member.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let name = desired::claim_name(member);
    let Some(claim) = api.get_opt(&name).await? else {
        return Ok(());
    };
    let owners = claim.owner_references();
    let uid = member.metadata.uid.as_ref();
    let others = owners.iter().filter(|one| Some(&one.uid) != uid);
    let others: Vec<&OwnerReference> = others.collect();
    if others.len() == owners.len() {
        return Ok(());
    }
    let patch = json!({ "metadata": {
        "uid": claim.uid(),
        "resourceVersion": claim.resource_version(),
        "ownerReferences": others,
    } });
    merge(&api, &claim, &patch).await
}
