//! Services, disruption budget and network policy of a cluster.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams};

use crate::api::EngramCluster;
use crate::build::{self, Names};

use super::{Context, Error, apply, is_gone};

/// Has them as they should be. `voters` is how many members vote now.
///
/// # Errors
/// The API server refused.
pub(super) async fn ensure(
    context: &Context,
    cluster: &EngramCluster,
    voters: usize,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let namespace = &names.namespace;
    apply(context, namespace, &build::peer_service(cluster)).await?;
    apply(context, namespace, &build::client_service(cluster)).await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(context.client.clone(), namespace);
    match build::network_policy(cluster) {
        Some(policy) => drop(apply(context, namespace, &policy).await?),
        None => absent(
            policies
                .delete(
                    &format!("{}-members", names.cluster),
                    &DeleteParams::default(),
                )
                .await,
        )?,
    }
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), namespace);
    match build::disruption_budget(cluster, voters) {
        Some(budget) => drop(apply(context, namespace, &budget).await?),
        None => absent(
            budgets
                .delete(&names.cluster, &DeleteParams::default())
                .await,
        )?,
    }
    Ok(())
}

fn absent<T>(deleted: Result<T, kube::Error>) -> Result<(), Error> {
    match deleted {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
