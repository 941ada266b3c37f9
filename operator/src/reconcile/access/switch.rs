//! Authentication as a whole: root and the operator are users before it is on, and stay so.

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{EngramCluster, EngramClusterStatus, ROOT, Reason};
use crate::desired::Names;
use crate::etcd::{EtcdError, MemberClient, Shown};
use crate::observe::Sight;
use crate::pki::Files;

use super::super::owner::{Owner, owner, taken};
use super::super::{Context, Error, Version, certificates, write_cluster_status};
use super::password::{self, Password};

/// Has a cluster's clients say who they are, or not, as its specification has it.
///
/// # Errors
/// A member refused, or root's password is not to be had.
pub(in super::super) async fn settle(
    context: &Context,
    cluster: &EngramCluster,
    version: &Version,
    sight: &Sight,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let wanted = cluster.spec.auth.enabled;
    if !wanted && !status.auth_enabled {
        return Ok(());
    }
    let Some(client) = sight.asked.speaker() else {
        context.forget_speaker(uid);
        return Ok(());
    };
    if !wanted {
        client.turn_auth(false).await?;
        status.auth_enabled = false;
        context.forget_speaker(uid);
        let note = "clients are not asked any more who they are";
        context.event(cluster, true, "AuthDisabled", note).await;
        return Ok(());
    }
    context.keep_speaker(uid, client);
    // A restore in place brings other users along.
    let cluster_id = status.cluster_id.clone().unwrap_or_default();
    let generation = cluster.metadata.generation.unwrap_or_default();
    let form = format!("{generation} {cluster_id}");
    if status.auth_enabled && context.is_in_order("access", uid, &form) {
        return Ok(());
    }
    let root = root(context, cluster).await?;
    let own = certificates::own_name(context, cluster).await?;
    let on = client.auth_is_on().await?;
    let shown = format!("{} {cluster_id}", root.version);
    let known = on && context.is_known("root", uid, &shown);
    let found = found(client, &own, &root, on, known).await;
    let is_denied = |error: &EtcdError| error.is_denial();
    match found {
        Err(Error::Etcd(error)) if on && is_denied(&error) => {
            introduce(client, &own, &root).await?;
        }
        found => found?,
    }
    if !on {
        // From then on the operator shows what is its own: written down before it is needed.
        status.auth_enabled = true;
        write_cluster_status(context, cluster, version, status).await?;
        client.turn_auth(true).await?;
        let note = "clients are asked who they are";
        context.event(cluster, false, "AuthEnabled", note).await;
    }
    status.auth_enabled = true;
    context.now_known("root", uid, &shown);
    context.found_in_order("access", uid, &form);
    Ok(())
}

/// Has root and the operator among the users. Root's password is not shown where it is `known` to be right:
/// that costs the members more than a look does.
async fn found(
    client: &MemberClient,
    own: &str,
    root: &Password,
    on: bool,
    known: bool,
) -> Result<(), Error> {
    if client.role(ROOT).await?.is_none() {
        client.add_role(ROOT).await?;
    }
    for (name, password) in [(own, None), (ROOT, Some(root.text.as_str()))] {
        let there = client.user(name).await?;
        match (&there, password) {
            (None, password) => client.add_user(name, password).await?,
            (Some(_), Some(password)) if !known => set(client, name, password, on).await?,
            (Some(_), _) => {}
        }
        if !there.is_some_and(|roles| roles.iter().any(|role| role == ROOT)) {
            client.grant_role(name, ROOT).await?;
        }
    }
    Ok(())
}

/// Gives a user this password, if it has another one. What it has cannot be asked while nobody has to say
/// who they are.
pub(super) async fn set(
    client: &MemberClient,
    name: &str,
    password: &str,
    on: bool,
) -> Result<(), Error> {
    if on && matches!(client.show_password(name, password).await?, Shown::Right(_)) {
        return Ok(());
    }
    Ok(client.change_password(name, password).await?)
}

/// A cluster that knows its users from elsewhere (a backup, a person) does not know the operator: root
/// introduces it.
async fn introduce(client: &MemberClient, own: &str, root: &Password) -> Result<(), Error> {
    let Shown::Right(token) = client.show_password(ROOT, &root.text).await? else {
        let message = format!(
            "the cluster asks who its clients are, the operator ({own}) may not change it, and root's password is \
             another one than the Secret's: put the right one there (spec.auth.rootSecretRef)"
        );
        return Err(Error::input(Reason::AccessDenied, message));
    };
    let root_client = client.holding(token);
    found(&root_client, own, root, true, false).await
}

/// Root's password: the user's, or one that is made.
async fn root(context: &Context, cluster: &EngramCluster) -> Result<Password, Error> {
    let names = Names::of(cluster);
    if let Some(secret) = &cluster.spec.auth.root_secret_ref {
        return password::given(context, &names.namespace, &secret.name, password::KEY).await;
    }
    let name = names.root_secret();
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &names.namespace);
    let there = api.get_opt(&name).await?;
    let kept = certificates::Kept::of(there.as_ref());
    if let Some(secret) = there {
        match owner(&secret, cluster) {
            Owner::Other => return Err(taken::<Secret>(&name, Reason::AlreadyExists)),
            // Of a cluster of this name that is gone.
            Owner::Gone => {}
            Owner::This => {
                let version = secret.resource_version().unwrap_or_default();
                let text = password::kept(&certificates::files_of(secret), password::KEY);
                if let Some(text) = text {
                    return Ok(Password { text, version });
                }
            }
        }
    }
    let text = password::made()?;
    let files = Files::from([
        ("username".to_owned(), ROOT.as_bytes().to_vec()),
        (password::KEY.to_owned(), text.clone().into_bytes()),
    ]);
    let whose = (names.cluster.as_str(), name.as_str(), &kept);
    let owner = cluster.controller_owner_ref(&());
    let written = password::write(context, &names.namespace, whose, owner, &files).await?;
    let version = written.resource_version().unwrap_or_default();
    Ok(Password { text, version })
}
