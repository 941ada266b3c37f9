//! The image of a cluster that names a version of a catalog: found, held against what it runs, and written down
//! before pods are made from it.

use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{
    CatalogImage, EngramCluster, EngramClusterStatus, EngramImageCatalog, ImageCatalogRef, Reason,
};

use super::super::{Context, Error, Version, write_cluster_status};
use super::upgrade;

/// What the catalog says of the version that is asked for; none where none is.
///
/// # Errors
/// There is no such catalog or version, or no step leads there; the API server did not answer.
pub(in crate::reconcile) async fn find(
    context: &Context,
    cluster: &EngramCluster,
) -> Result<Option<CatalogImage>, Error> {
    let Some(asked) = &cluster.spec.image_catalog else {
        return Ok(None);
    };
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<EngramImageCatalog> = Api::namespaced(context.client.clone(), &namespace);
    let catalog = api.get_opt(&asked.name).await?;
    let missing = || {
        let message = format!("there is no EngramImageCatalog {}", asked.name);
        Error::input(Reason::NotFound, message)
    };
    let found = entry(&catalog.ok_or_else(missing)?, asked)?;
    leads(cluster, &found)?;
    Ok(Some(found))
}

fn entry(catalog: &EngramImageCatalog, asked: &ImageCatalogRef) -> Result<CatalogImage, Error> {
    let mut images = catalog.spec.images.iter();
    if let Some(found) = images.find(|one| one.version == asked.version) {
        return Ok(CatalogImage {
            catalog: asked.name.clone(),
            version: found.version.clone(),
            image: found.image.clone(),
        });
    }
    let images = catalog.spec.images.iter();
    let known: Vec<&str> = images.map(|one| one.version.as_str()).collect();
    let message = format!(
        "EngramImageCatalog {} has no version {}: it has {}",
        asked.name,
        asked.version,
        known.join(", ")
    );
    Err(Error::input(Reason::NotFound, message))
}

/// Whether a step leads from what the cluster runs to this. What all its members last worked with it may have again.
fn leads(cluster: &EngramCluster, to: &CatalogImage) -> Result<(), Error> {
    let status = cluster.status.as_ref();
    let Some(runs) = status.and_then(|status| status.catalog.as_ref()) else {
        return Ok(());
    };
    let good = status.and_then(|status| status.last_good.as_ref());
    let worked = good.and_then(|good| good.inputs.get("image"));
    if worked.is_some_and(|image| *image == to.image) {
        return Ok(());
    }
    upgrade::path(&runs.version, &to.version).map_err(|why| {
        let message = format!(
            "imageCatalog.version {} is not taken, members run {}: {why}",
            to.version, runs.version
        );
        Error::input(Reason::InvalidSpec, message)
    })
}

/// Keeps it in the status, from which pods are made. Whether that is new. Where it cannot be told, or was refused,
/// what was known is what pods are made from.
///
/// # Errors
/// The API server refused.
pub(super) async fn keep(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    found: &Result<Option<CatalogImage>, Error>,
    status: &mut EngramClusterStatus,
) -> Result<bool, Error> {
    let Ok(found) = found else {
        return Ok(false);
    };
    if status.catalog == *found {
        return Ok(false);
    }
    status.catalog.clone_from(found);
    write_cluster_status(context, cluster, version, status).await?;
    Ok(true)
}

/// The cluster as if it named the image itself; none where it names no catalog. Without a version that was ever
/// found it goes on with what it runs.
pub(super) fn applied(cluster: &EngramCluster) -> Option<EngramCluster> {
    cluster.spec.image_catalog.as_ref()?;
    let status = cluster.status.as_ref()?;
    let listed = status.catalog.as_ref().map(|one| &one.image);
    let image = listed.or(status.image.as_ref())?.clone();
    let mut cluster = cluster.clone();
    cluster.spec.image = Some(image);
    Some(cluster)
}
