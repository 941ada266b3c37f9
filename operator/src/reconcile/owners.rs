//! Members whose owner was taken off: they are given it back where they are known to be this cluster's. Until then
//! nobody is planned for, and nobody is taken out for having no object.

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{EngramCluster, EngramMember};
use crate::build::Names;
use crate::observe::Sight;

use super::{Context, Error, gone};

/// Gives them back; whether there were any.
///
/// # Errors
/// The API server refused.
pub(super) async fn repair(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
) -> Result<bool, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<EngramMember> = Api::namespaced(context.client.clone(), &namespace);
    let strangers = sight.objects.strangers.iter();
    let mut any = false;
    for member in strangers.filter(|one| is_its_own(cluster, sight, one)) {
        let owners = member.owner_references().iter().cloned();
        let owners: Vec<_> = owners.chain(cluster.controller_owner_ref(&())).collect();
        let patch = json!({ "metadata": {
            "uid": member.uid(),
            "resourceVersion": member.resource_version(),
            "ownerReferences": owners,
        } });
        let patch = Patch::Merge(&patch);
        let params = PatchParams::default();
        gone(api.patch(&member.name_any(), &params, &patch).await)?;
        let note = format!(
            "{} had lost its owner reference, and has it again",
            member.name_any()
        );
        context.event(cluster, true, "OwnerRepaired", &note).await;
        any = true;
    }
    Ok(any)
}

/// Whether a member without any cluster for an owner is one of this one's: by the cluster's list; where nobody
/// gives that, by what the operator wrote down of it. None is before the cluster was founded: what is there
/// then is of one that is gone.
fn is_its_own(cluster: &EngramCluster, sight: &Sight, member: &EngramMember) -> bool {
    let kind = EngramCluster::kind(&());
    let owners = member.owner_references();
    let founded = cluster
        .status
        .as_ref()
        .filter(|status| status.cluster_id.is_some());
    let id = member
        .status
        .as_ref()
        .and_then(|status| status.member_id.as_ref());
    let (Some(status), Some(id)) = (founded, id) else {
        return false;
    };
    if owners.iter().any(|one| one.kind == kind) {
        return false;
    }
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
