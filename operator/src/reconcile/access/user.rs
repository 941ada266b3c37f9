//! A user: its password, its certificate and its roles.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{ACCESS_FINALIZER, DeletionPolicy, EngramCluster, EngramUser, Reason};
use crate::etcd::MemberClient;
use crate::observe::is_owned_by;

use super::super::cluster::HELD_PAUSE;
use super::super::{Context, Error, Version, certificates, set_finalizer, write_status};
use super::password::{self, Password};
use super::{Cluster, Leave, SOON, Stand, Subject, alone, cluster, leave, switch};

impl Subject for EngramUser {
    fn cluster(&self) -> &str {
        &self.spec.cluster_ref.name
    }

    fn named(&self) -> Option<&String> {
        self.spec.name.as_ref()
    }

    fn stays(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Retain
    }
}

/// One pass.
pub(in super::super) async fn reconcile(
    seen: Arc<EngramUser>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramUser> = Api::namespaced(context.client.clone(), &namespace);
    let Some(user) = api.get_opt(&seen.name_any()).await? else {
        context.forget_object(&seen.uid().unwrap_or_default());
        return Ok(Next::await_change());
    };
    let found = cluster(&context, &namespace, &user.spec.cluster_ref.name).await?;
    if user.meta().deletion_timestamp.is_some() {
        return release(&context, &api, &user, found).await;
    }
    if matches!(found, Cluster::Anothers) {
        return Ok(Next::requeue(HELD_PAUSE));
    }
    if set_finalizer(&context, &user, ACCESS_FINALIZER, !user.stays()).await? {
        return Ok(Next::requeue(SOON));
    }
    let version = Version::of(&user);
    let before = user.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let stand = match found {
        Cluster::Serves(cluster, client) => {
            status.secret_name = Some(secret_name(&user));
            Stand::of(advance(&context, &api, &user, &cluster, &client).await)?
        }
        Cluster::Waits(reason, message) => Stand::Waits(reason, message),
        Cluster::Gone | Cluster::Anothers => Stand::nowhere(user.cluster()),
    };
    status.name = Some(user.name_in_cluster());
    status.observed_generation = user.metadata.generation;
    stand.say(&mut status.conditions, user.metadata.generation);
    if status != before {
        write_status(&context, &user, &version, &status).await?;
    }
    Ok(Next::requeue(stand.next()))
}

fn secret_name(user: &EngramUser) -> String {
    format!("{}-user", user.name_any())
}

async fn advance(
    context: &Context,
    api: &Api<EngramUser>,
    user: &EngramUser,
    cluster: &EngramCluster,
    client: &MemberClient,
) -> Result<String, Error> {
    let name = user.name_in_cluster();
    alone(api, user).await?;
    let password = keep(context, user, cluster).await?;
    let uid = user.uid().unwrap_or_default();
    let version = password.as_ref().map_or("", |one| one.version.as_str());
    let form = format!("{} {version}", user.metadata.generation.unwrap_or_default());
    let there = client.user(&name).await?;
    match (&there, &password) {
        (None, password) => {
            let text = password.as_ref().map(|one| one.text.as_str());
            client.add_user(&name, text).await?;
        }
        // Showing it costs the members more than a look does.
        (Some(_), Some(password)) if !context.is_known("password", &uid, &form) => {
            switch::set(client, &name, &password.text, true).await?;
        }
        (Some(_), _) => {}
    }
    context.now_known("password", &uid, &form);
    let has = there.unwrap_or_default();
    let wanted = &user.spec.roles;
    for role in has.iter().filter(|role| !wanted.contains(role)) {
        client.revoke_role(&name, role).await?;
    }
    for role in wanted.iter().filter(|role| !has.contains(role)) {
        client.grant_role(&name, role).await?;
    }
    Ok(match wanted.is_empty() {
        true => "it has no roles, and may do nothing".to_owned(),
        false => format!("it has the roles {}", wanted.join(", ")),
    })
}

/// Keeps what the user's clients need in its Secret. Its password, where it has one.
async fn keep(
    context: &Context,
    user: &EngramUser,
    cluster: &EngramCluster,
) -> Result<Option<Password>, Error> {
    let namespace = user.namespace().unwrap_or_default();
    let secret = secret_name(user);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let there = api.get_opt(&secret).await?;
    let foreign = there
        .as_ref()
        .is_some_and(|there| !is_owned_by(there, user));
    if foreign {
        let message = format!("Secret {secret} exists and is not this user's: delete or rename it");
        return Err(Error::input(Reason::AlreadyExists, message));
    }
    let mut version = there.as_ref().and_then(kube::ResourceExt::resource_version);
    let kept = certificates::Kept::of(there.as_ref());
    let before = there.map(certificates::files_of).unwrap_or_default();
    let name = user.name_in_cluster();
    let mut files = before.clone();
    files.insert("username".into(), name.clone().into_bytes());
    let makes = user.spec.password_secret_ref.is_none() && !user.spec.without_password;
    let made = match (makes, password::kept(&before, password::KEY)) {
        (true, None) => Some(password::made()?),
        (true, made) => made,
        (false, _) => None,
    };
    match &made {
        Some(text) => drop(files.insert(password::KEY.into(), text.clone().into_bytes())),
        None => drop(files.remove(password::KEY)),
    }
    if let Some(signed) = certificates::of_user(context, cluster, &name, &files).await? {
        files = signed;
    }
    if files != before {
        let whose = (user.spec.cluster_ref.name.as_str(), secret.as_str(), &kept);
        let owner = user.controller_owner_ref(&());
        let written = password::write(context, &namespace, whose, owner, &files).await?;
        version = written.resource_version();
    }
    if let Some(given) = &user.spec.password_secret_ref {
        let given = password::given(context, &namespace, &given.name, &given.key).await?;
        return Ok(Some(given));
    }
    Ok(made.map(|text| Password {
        text,
        version: version.unwrap_or_default(),
    }))
}

/// Takes the user from the cluster before its object goes.
async fn release(
    context: &Context,
    api: &Api<EngramUser>,
    user: &EngramUser,
    found: Cluster,
) -> Result<Next, Error> {
    match leave(context, api, user, found).await? {
        Leave::Nothing => return Ok(Next::await_change()),
        Leave::Later(wait) => return Ok(Next::requeue(wait)),
        Leave::Already => {}
        Leave::Ask(client) => client.delete_user(&user.name_in_cluster()).await?,
    }
    set_finalizer(context, user, ACCESS_FINALIZER, false).await?;
    context.forget_object(&user.uid().unwrap_or_default());
    Ok(Next::await_change())
}
