//! Services, disruption budget and network policy of a cluster.

use std::fmt::Debug;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{EngramCluster, Reason};
use crate::build::{self, Names};

use super::owner::{Owner, owner, taken};
use super::{Context, Error, apply, is_gone};

/// Has them as they should be. `voters` is how many members vote now.
///
/// # Errors
/// The API server refused, or one of their names is somebody else's.
pub(super) async fn ensure(
    context: &Context,
    cluster: &EngramCluster,
    voters: usize,
) -> Result<(), Error> {
    let name = Names::of(cluster).cluster;
    put(context, cluster, &build::peer_service(cluster)).await?;
    put(context, cluster, &build::client_service(cluster)).await?;
    match build::network_policy(cluster, &context.settings.namespace) {
        Some(policy) => put(context, cluster, &policy).await?,
        None => remove::<NetworkPolicy>(context, cluster, &format!("{name}-members")).await?,
    }
    match build::disruption_budget(cluster, voters) {
        Some(budget) => put(context, cluster, &budget).await,
        None => remove::<PodDisruptionBudget>(context, cluster, &name).await,
    }
}

/// Has one as it is built, unless its name is somebody else's.
async fn put<K>(context: &Context, cluster: &EngramCluster, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let name = object.name_any();
    let there = api.get_opt(&name).await?;
    if there.is_some_and(|there| owner(&there, cluster) == Owner::Other) {
        return Err(taken::<K>(&name, Reason::AlreadyExists));
    }
    apply(context, &namespace, object).await.map(drop)
}

/// Has none of this cluster's.
async fn remove<K>(context: &Context, cluster: &EngramCluster, name: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let there = api.get_opt(name).await?;
    let Some(ours) = there.filter(|there| owner(there, cluster) != Owner::Other) else {
        return Ok(());
    };
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: ours.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
