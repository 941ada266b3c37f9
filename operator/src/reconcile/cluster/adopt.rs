//! A cluster that goes on with volumes that were there before it: its members are made again, each on its own.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, PostParams};

use crate::api::{
    AdoptedMember, EngramCluster, EngramClusterStatus, EngramMember, EngramMemberSpec, LocalRef,
    MemberOrigin, Reason,
};
use crate::desired::{self, Names};

use super::super::owner::{Owner, owner};
use super::super::{Context, Error, Version, write_cluster_status, write_status};

/// Makes them, and records the cluster's ID once all are there: from then on it is like any other.
/// Whether anything was done. It may be done again.
///
/// # Errors
/// A volume is gone, or a name is another one's; the API server refused.
pub(super) async fn ensure(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    status: &mut EngramClusterStatus,
) -> Result<bool, Error> {
    let bootstrap = cluster.spec.bootstrap.as_ref();
    let Some(adopt) = bootstrap.and_then(|bootstrap| bootstrap.adopt.as_ref()) else {
        return Ok(false);
    };
    // With a restore in place it goes on with what was adopted no more: its ID is another one's yet.
    if status.was_founded() {
        return Ok(false);
    }
    for member in &adopt.members {
        make(context, cluster, member).await?;
    }
    let numbers = adopt.members.iter();
    let numbers = numbers.filter_map(|one| one.name.rsplit('-').next()?.parse().ok());
    status.last_member_number = numbers.fold(status.last_member_number, u32::max);
    status.cluster_id = Some(adopt.cluster_id.clone());
    write_cluster_status(context, cluster, version, status).await?;
    let names: Vec<&str> = adopt.members.iter().map(|one| one.name.as_str()).collect();
    let note = format!("{} go on, each on the volume that it had", names.join(", "));
    context.event(cluster, false, "VolumesAdopted", &note).await;
    Ok(true)
}

async fn make(
    context: &Context,
    cluster: &EngramCluster,
    member: &AdoptedMember,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let (name, claim) = (&member.name, &member.volume_claim);
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &names.namespace);
    if claims.get_opt(claim).await?.is_none() {
        let message = format!("the claim {claim}, the volume of {name}, is gone");
        return Err(Error::input(Reason::DataLost, message));
    }
    let members: Api<EngramMember> = Api::namespaced(context.client.clone(), &names.namespace);
    let object = match members.get_opt(name).await? {
        Some(found) => found,
        None => {
            let spec = EngramMemberSpec {
                cluster_ref: LocalRef {
                    name: names.cluster.clone(),
                },
                origin: MemberOrigin::Join,
                peer_url: names.peer_url(name),
                volume_claim: Some(claim.clone()),
            };
            let object = desired::member(cluster, name, spec);
            members.create(&PostParams::default(), &object).await?
        }
    };
    if owner(&object, cluster) != Owner::This {
        let message =
            format!("EngramMember {name} exists and is not this cluster's: wait until it is gone");
        return Err(Error::input(Reason::AlreadyExists, message));
    }
    let mut status = object.status.clone().unwrap_or_default();
    if status.initialized && status.member_id.is_some() {
        return Ok(());
    }
    // What is there is its data: it is never started on anything else.
    status.initialized = true;
    status.member_id = Some(member.member_id.clone());
    status.volume_claim = Some(object.spec.volume_claim.clone().unwrap_or_default());
    write_status(context, &object, &Version::of(&object), &status).await
}
