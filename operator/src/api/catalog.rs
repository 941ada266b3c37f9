//! Which image is which version: for many clusters at one place.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Images of members by version. A cluster that names one with `spec.imageCatalog` goes forward by steps that a
/// cluster can take: never more than one minor version, never back.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramImageCatalog",
    plural = "engramimagecatalogs",
    shortname = "egi",
    category = "engram",
    namespaced,
    doc = "Which image is which version, for clusters that name the catalog and a version.",
    derive = "PartialEq",
    printcolumn(
        name = "Versions",
        type_ = "string",
        json_path = ".spec.images[*].version"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct EngramImageCatalogSpec {
    /// The images, each version once.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"])
    )]
    pub images: Vec<CatalogEntry>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogEntry {
    /// Its version, such as `0.1.0`.
    #[schemars(
        length(max = 64),
        regex(pattern = "^[0-9]+\\.[0-9]+\\.[0-9]+([-+][-+.0-9A-Za-z]+)?$")
    )]
    pub version: String,
    /// Where it is, best by its digest.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
}

/// A version out of a catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageCatalogRef {
    /// The EngramImageCatalog.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Which of its versions.
    #[schemars(length(min = 1, max = 64))]
    pub version: String,
}

/// What a catalog said of the version that a cluster runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogImage {
    /// The catalog.
    pub catalog: String,
    /// The version.
    pub version: String,
    /// The image.
    pub image: String,
}
