//! Where a cluster's members archive their log to.

use kube::ResourceExt as _;

use crate::api::{EngramCluster, EngramClusterStatus, HandedOn};
use crate::desired;

use super::super::{Context, Error, Version, tool, write_cluster_status};

/// How its pods reach the store; none where nothing is archived.
///
/// # Errors
/// The store is not there; the API server did not answer.
pub(super) async fn find(
    context: &Context,
    cluster: &EngramCluster,
) -> Result<Option<HandedOn>, Error> {
    let Some(archive) = &cluster.spec.archive else {
        return Ok(None);
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let store = tool::store(context, &namespace, &archive.store_ref.name).await?;
    Ok(Some(desired::archiving(&desired::access(&store))))
}

/// Keeps it in the status, from which pods are made. Whether that is new. Where it cannot be told, what was known is
/// what pods are made from.
///
/// # Errors
/// The API server refused.
pub(super) async fn keep(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    found: &Result<Option<HandedOn>, Error>,
    status: &mut EngramClusterStatus,
) -> Result<bool, Error> {
    let Ok(found) = found else {
        return Ok(false);
    };
    if status.archiving == *found {
        return Ok(false);
    }
    status.archiving.clone_from(found);
    write_cluster_status(context, cluster, version, status).await?;
    Ok(true)
}
