//! The image that pods of a restore run: that of the cluster that is restored, or is to be made.

use kube::ResourceExt as _;

use crate::api::{EngramCluster, EngramRestore, Reason};

use super::super::cluster::listed;
use super::super::{Context, Error};
use super::source;
use super::state::State;

/// The cluster with the image that its catalog has, where it was never told; or what that waits for.
///
/// # Errors
/// There is no such catalog or version; the API server did not answer.
pub(super) async fn with_image(
    context: &Context,
    restore: &EngramRestore,
    target: &EngramCluster,
) -> Result<Result<Box<EngramCluster>, State>, Error> {
    let mut target = Box::new(target.clone());
    let status = target.status.as_ref();
    if status.is_some_and(|status| status.catalog.is_some()) {
        return Ok(Ok(target));
    }
    // One that is to be made is nowhere yet.
    target.metadata.namespace = target.namespace().or_else(|| restore.namespace());
    match listed(context, &target).await {
        Ok(found) => {
            let image = found.map(|found| found.image);
            target.spec.image = target.spec.image.take().or(image);
            Ok(Ok(target))
        }
        Err(Error::Input { reason, message })
            if reason == Reason::NotFound && source::is_young(restore) =>
        {
            Ok(Err(State::Pending(reason, message)))
        }
        Err(error) => Err(error),
    }
}
