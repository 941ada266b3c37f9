//! Members whose owner was taken off: they are given it back where they are known to be this cluster's. Until then
//! nobody is planned for, and nobody is taken out for having no object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{EngramCluster, EngramMember};
use crate::desired::Names;
use crate::observe::Sight;

use super::{Context, Error, merge, tool};

/// Gives them back; whether there were any.
///
/// # Errors
/// The API server refused; the others have it again all the same.
pub(super) async fn repair(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
) -> Result<bool, Error> {
    let strangers = sight.objects.strangers.iter();
    let own = strangers.filter(|one| is_its_own(cluster, sight, one));
    let own: Vec<&EngramMember> = own.collect();
    if own.is_empty() {
        return Ok(false);
    }
    // Where it was deleted since it was read, and is to leave them behind, garbage collection has just taken their owner
    // off: given back they would go with it. They were listed before this is asked.
    if !stays(context, cluster).await? {
        return Ok(true);
    }
    let mut result = Ok(());
    for member in own {
        result = result.and(give_back(context, cluster, member).await);
    }
    result.map(|()| true)
}

/// Whether the cluster is there, and not being deleted.
async fn stays(context: &Context, cluster: &EngramCluster) -> Result<bool, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let now = tool::cluster(context, &namespace, &cluster.name_any()).await?;
    Ok(now.is_some_and(|now| {
        now.metadata.uid == cluster.metadata.uid && now.metadata.deletion_timestamp.is_none()
    }))
}

async fn give_back(
    context: &Context,
    cluster: &EngramCluster,
    member: &EngramMember,
) -> Result<(), Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<EngramMember> = Api::namespaced(context.client.clone(), &namespace);
    let name = member.name_any();
    let owners = member.owner_references().iter().cloned();
    let owners: Vec<_> = owners.chain(cluster.controller_owner_ref(&())).collect();
    let patch = json!({ "metadata": {
        "uid": member.uid(),
        "resourceVersion": member.resource_version(),
        "ownerReferences": owners,
    } });
    merge(&api, member, &patch).await?;
    let note = format!("{name} had lost its owner reference, and has it again");
    context.event(cluster, true, "OwnerRepaired", &note).await;
    Ok(())
}

/// Whether a member without any cluster for an owner is one of this one's: by the cluster's list; where nobody
/// gives that, by what the operator wrote down of it. None is before the cluster was founded: what is there
/// then is of one that is gone. From then on whoever is deleted is, listed or not: nobody else puts it away.
fn is_its_own(cluster: &EngramCluster, sight: &Sight, member: &EngramMember) -> bool {
    let kind = EngramCluster::kind(&());
    // Nobody has two controllers.
    let is_taken = |one: &OwnerReference| one.kind == kind || one.controller == Some(true);
    let Some(status) = cluster.status.as_ref() else {
        return false;
    };
    if member.owner_references().iter().any(is_taken) {
        return false;
    }
    if member.meta().deletion_timestamp.is_some() {
        return status.was_founded();
    }
    let id = member
        .status
        .as_ref()
        .and_then(|status| status.member_id.as_ref());
    let Some(id) = id.filter(|_| status.cluster_id.is_some()) else {
        return false;
    };
    match &sight.observed.roster {
        Some(roster) => {
            let entry = roster.of(&member.name_any());
            entry.is_some_and(|entry| format!("{:x}", entry.id) == *id)
        }
        None => {
            let number = Names::of(cluster).number(&member.name_any());
            number.is_some_and(|number| number <= status.last_member_number)
        }
    }
}
