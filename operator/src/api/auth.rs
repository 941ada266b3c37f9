//! Who may do what in a cluster: authentication as a whole, its users and its roles.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup::DeletionPolicy;
use super::parts::LocalRef;

/// The user that the operator is in clusters with authentication: by its certificate, without a password.
pub const OPERATOR_USER: &str = "engram-operator";
/// etcd's name of the user and of the role that may do everything.
pub const ROOT: &str = "root";

/// Authentication of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Auth {
    /// Whether clients have to say who they are. Turned off again, users and roles stay in the cluster.
    pub enabled: bool,
    /// A Secret with root's password as `password`, in the same namespace. Unset: one is made, named
    /// `<cluster>-root`. A new password in it is taken up within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_secret_ref: Option<LocalRef>,
}

/// A user of a cluster with authentication.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramUser",
    plural = "engramusers",
    shortname = "egu",
    category = "engram",
    namespaced,
    status = "EngramUserStatus",
    cel,
    doc = "A user of a cluster with authentication (spec.auth): its password, certificate and roles.",
    derive = "PartialEq",
    selectable = ".spec.clusterRef.name",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(name = "User", type_ = "string", json_path = ".status.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = Rule::new("self.metadata.name.size() <= 58")
        .message("the name may have at most 58 characters: the name of a Secret is made from it"),
    validation = Rule::new("!((has(self.spec.name) ? self.spec.name : self.metadata.name) in ['root', 'engram-operator'])")
        .message("root and engram-operator are the operator's own users: root's password is spec.auth.rootSecretRef of the EngramCluster"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef && has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("clusterRef and name say whose user this is: make another one instead"),
    validation = Rule::new("self.withoutPassword == oldSelf.withoutPassword")
        .message("withoutPassword cannot be changed: the cluster gives such a user no password later; make another one"),
    validation = Rule::new("!(self.withoutPassword && has(self.passwordSecretRef))")
        .message("a user without a password has no passwordSecretRef"),
)]
pub struct EngramUserSpec {
    /// The cluster.
    pub cluster_ref: LocalRef,
    /// The user's name in the cluster. Unset: this object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Its roles: all of them, others are taken from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub roles: Vec<String>,
    /// Its password. Unset: one is made, and kept with its certificate in the Secret that the status names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// Whether it is known by its certificate alone.
    #[serde(default)]
    pub without_password: bool,
    /// What becomes of the user when this object is deleted.
    #[serde(default = "delete")]
    pub deletion_policy: DeletionPolicy,
}

fn delete() -> DeletionPolicy {
    DeletionPolicy::Delete
}

/// A value in a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Under which key.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn password_key() -> String {
    "password".into()
}

/// A user as the operator finds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramUserStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its name in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Secret with what its clients need: `username`, a `password` that was made, and where the operator
    /// signs for the cluster's clients `ca.crt`, `tls.crt` and `tls.key`, whose common name is the user.
    /// Deleted, it is made anew, with another password and certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// What holds, by type: Ready; Reconciling and Stalled as kstatus has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A role of a cluster with authentication.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "engram.dev",
    version = "v1alpha1",
    kind = "EngramRole",
    plural = "engramroles",
    shortname = "egrole",
    category = "engram",
    namespaced,
    status = "EngramRoleStatus",
    cel,
    doc = "A role of a cluster with authentication (spec.auth): which keys its users may read and write.",
    derive = "PartialEq",
    selectable = ".spec.clusterRef.name",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = Rule::new("(has(self.spec.name) ? self.spec.name : self.metadata.name) != 'root'")
        .message("the role root is the cluster's own: it may do everything, and users may have it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef && has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("clusterRef and name say whose role this is: make another one instead"),
)]
pub struct EngramRoleSpec {
    /// The cluster.
    pub cluster_ref: LocalRef,
    /// The role's name in the cluster. Unset: this object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// What it allows: all of it, other permissions are taken from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub permissions: Vec<Permission>,
    /// What becomes of the role when this object is deleted.
    #[serde(default = "delete")]
    pub deletion_policy: DeletionPolicy,
}

/// Keys, and what may be done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.key) != has(self.prefix)").message("exactly one of key and prefix is needed"),
    validation = Rule::new("!has(self.rangeEnd) || has(self.key)").message("rangeEnd goes with key: the keys from key up to it, without it"),
)]
pub struct Permission {
    /// Reading, writing or both.
    pub access: KeyAccess,
    /// One key, or with `rangeEnd` the first of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key: Option<String>,
    /// The end of the range, itself not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub range_end: Option<String>,
    /// All keys that begin so; empty: all keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub prefix: Option<String>,
}

/// What may be done with keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAccess {
    /// Reading and watching.
    #[default]
    Read,
    /// Writing and deleting.
    Write,
    /// Both.
    ReadWrite,
}

/// A role as the operator finds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EngramRoleStatus {
    /// The generation of the specification that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its name in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What holds, by type: Ready; Reconciling and Stalled as kstatus has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
