//! The end of a restore in place, as far as it is the cluster's.

use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{
    ConditionKind, EngramCluster, EngramClusterStatus, EngramRestore, RestoringStage, is_true,
};
use crate::observe::Sight;

use super::super::{Context, Error};

/// Forgets it once what it had set aside is gone; and has that go, with its volumes kept, where the
/// EngramRestore was deleted before it was decided and the cluster works.
///
/// # Errors
/// The API server did not answer.
pub(super) async fn settle(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let ready = is_true(&status.conditions, ConditionKind::Ready) && status.cluster_id.is_some();
    let Some(restoring) = status.restoring.as_mut() else {
        return Ok(());
    };
    if restoring.stage != RestoringStage::Kept {
        if sight.observed.aside.is_empty() {
            status.restoring = None;
        }
        return Ok(());
    }
    if !ready {
        return Ok(());
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let restores: Api<EngramRestore> = Api::namespaced(context.client.clone(), &namespace);
    let found = restores.get_opt(&restoring.restore).await?;
    if found.and_then(|one| one.metadata.uid).as_ref() == Some(&restoring.restore_uid) {
        return Ok(());
    }
    restoring.stage = RestoringStage::LetGo;
    let claims: Vec<&str> = restoring
        .kept
        .iter()
        .map(|one| one.volume_claim.as_str())
        .collect();
    let note = format!(
        "EngramRestore {} is gone and nothing was decided: the old members go, and leave their volumes {}: \
         delete these claims once nobody needs them",
        restoring.restore,
        claims.join(", ")
    );
    context.event(cluster, true, "OldVolumesKept", &note).await;
    Ok(())
}
