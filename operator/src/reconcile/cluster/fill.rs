//! What a cluster's first member is to be filled from.

use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{EngramBackupStore, EngramCluster};
use crate::desired;

use super::super::{Context, Error};

/// Its hash, as long as the cluster is not founded. None where it cannot be said: starting the member says
/// why.
///
/// # Errors
/// The API server refused.
pub(super) async fn fill(
    context: &Context,
    cluster: &EngramCluster,
) -> Result<Option<String>, Error> {
    let status = cluster.status.as_ref();
    let founded = status.is_some_and(|status| status.cluster_id.is_some());
    let Some(recovery) = cluster.recovery().filter(|_| !founded) else {
        return Ok(None);
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let stores: Api<EngramBackupStore> = Api::namespaced(context.client.clone(), &namespace);
    let store = stores.get_opt(&recovery.store_ref.name).await?;
    let hash = |store| desired::fill_hash(recovery, &desired::access(&store));
    Ok(store.map(hash))
}
