//! A cluster's certificates as Secrets.

mod issued;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PostParams};
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{
    CertificateStatus, EngramCluster, OPERATOR_USER, Reason, TlsMode, TlsSide, parse_duration,
};
use crate::desired::{Names, cluster_labels};
use crate::etcd::TlsClient;
use crate::pki::{
    Files, LeafRequest, Ring, common_name, not_after, renew_leaf, renew_ring, replace_lost_ring,
};

use super::owner::{Owner, owner, taken};
use super::{Context, Error, apply_params, now, overtaken};

/// Certificates for less would be renewed all the time.
const LIFETIME_MIN: Duration = Duration::from_secs(300);

/// What a cluster's certificates come to.
#[derive(Default)]
pub(super) struct Certificates {
    /// How the operator speaks with members; none without TLS, and where it never had a certificate.
    pub client: Option<TlsClient>,
    /// When they end, and their authorities.
    pub ends: Vec<CertificateStatus>,
    /// What could not be made or read: the rest is as it should be.
    pub failure: Option<Error>,
}

/// Secrets and what is in them.
#[derive(Default)]
struct Found {
    leaves: Vec<(String, Files)>,
    authorities: Vec<(String, Files)>,
}

/// How members are spoken to, and what was found when their certificates were last read; none where that failed,
/// or where the operator never had any.
pub(super) fn known(context: &Context, cluster: &EngramCluster) -> Option<Certificates> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let client = context.last_client(uid);
    let known = client.is_some() || Names::of(cluster).client_secret().is_none();
    let status = cluster.status.as_ref();
    known.then(|| Certificates {
        client,
        ends: status.map_or_else(Vec::new, |status| status.certificates.clone()),
        failure: None,
    })
}

/// Makes, renews or reads a cluster's certificates. What fails costs its part only: whoever has spoken with
/// the members before goes on as before.
pub(super) async fn ensure(context: &Context, cluster: &EngramCluster) -> Certificates {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let names = Names::of(cluster);
    let form = json!([cluster.spec.tls, names.operator_secret()]).to_string();
    if let Some(known) = known(context, cluster)
        && context.is_in_order("certificates", uid, &form)
    {
        return known;
    }
    let mut found = Found::default();
    let parts = [
        clients(context, cluster, &mut found).await,
        peers(context, cluster, &mut found).await,
    ];
    let mut failure = parts.into_iter().find_map(Result::err);
    let client = speech(context, cluster, &found).unwrap_or_else(|error| {
        failure.get_or_insert(error);
        None
    });
    let client = client.or_else(|| context.last_client(uid));
    if failure.is_none() {
        context.found_in_order("certificates", uid, &form);
        // What is not used any more may end.
        let used = found.leaves.iter().chain(&found.authorities);
        let used: Vec<&String> = used.map(|(name, _)| name).collect();
        let of = [names.namespace.as_str(), names.cluster.as_str()];
        context.metrics.keep_certificates(of, &used);
    }
    Certificates {
        client,
        ends: ends(context, cluster, &found),
        failure,
    }
}

/// How members are spoken to, by what was found.
fn speech(
    context: &Context,
    cluster: &EngramCluster,
    found: &Found,
) -> Result<Option<TlsClient>, Error> {
    let own = Names::of(cluster).operator_secret();
    let own = found
        .leaves
        .iter()
        .find(|(name, _)| Some(name) == own.as_ref());
    let Some((_, files)) = own else {
        return Ok(None);
    };
    let client = TlsClient::new(files)?;
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    context.keep_client(uid, &client);
    Ok(Some(client))
}

/// What members have among themselves.
async fn peers(context: &Context, cluster: &EngramCluster, found: &mut Found) -> Result<(), Error> {
    let names = Names::of(cluster);
    let side = &cluster.spec.tls.peer;
    let secret = names.peer_secret().unwrap_or_default();
    if side.mode == TlsMode::Secret {
        let files = users_own(context, &names.namespace, &secret).await?;
        found.leaves.push((secret, files));
        return Ok(());
    }
    if side.mode == TlsMode::Disabled {
        return Ok(());
    }
    let lifetime = seconds(&cluster.spec.tls.certificate_lifetime)?;
    let request = request(&names, "member", side, (true, true), lifetime);
    if side.mode == TlsMode::CertManager {
        let leaf = issued::issued(context, cluster, side, &secret, &request).await?;
        found.leaves.push(leaf);
        return Ok(());
    }
    let name = format!("{} members", names.cluster);
    let leaves = [names.peer_secret()];
    let ring = ring(context, cluster, &names.peer_authority(), &name, &leaves).await?;
    found
        .authorities
        .push((names.peer_authority(), ring.files.clone()));
    let leaf = leaf(context, cluster, &secret, &ring, &name, &request).await?;
    found.leaves.push(leaf);
    Ok(())
}

/// What clients have, and what members show them.
async fn clients(
    context: &Context,
    cluster: &EngramCluster,
    found: &mut Found,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let side = &cluster.spec.tls.client;
    if side.mode == TlsMode::Secret {
        let secret = names.client_secret().unwrap_or_default();
        let files = users_own(context, &names.namespace, &secret).await?;
        found.leaves.push((secret, files));
        return Ok(());
    }
    if side.mode == TlsMode::Disabled {
        return Ok(());
    }
    let lifetime = seconds(&cluster.spec.tls.certificate_lifetime)?;
    let nobody = TlsSide::default();
    let server = request(&names, "server", side, (true, true), lifetime);
    let client = request(&names, "client", &nobody, (false, true), lifetime);
    let mut pairs = vec![
        (names.client_secret(), client),
        (names.server_secret(), server),
    ];
    if names.operator_secret() != names.client_secret() {
        let own = named(OPERATOR_USER, lifetime);
        pairs.push((names.operator_secret(), own));
    }
    if side.mode == TlsMode::CertManager {
        for (secret, request) in pairs {
            let secret = secret.unwrap_or_default();
            let leaf = issued::issued(context, cluster, side, &secret, &request).await?;
            found.leaves.push(leaf);
        }
        return Ok(());
    }
    let name = clients_authority(&names);
    let leaves = [names.server_secret(), names.client_secret()];
    let ring = ring(context, cluster, &names.client_authority(), &name, &leaves).await?;
    found
        .authorities
        .push((names.client_authority(), ring.files.clone()));
    for (secret, request) in pairs {
        let secret = secret.unwrap_or_default();
        let leaf = leaf(context, cluster, &secret, &ring, &name, &request).await?;
        found.leaves.push(leaf);
    }
    Ok(())
}

/// When what was found ends.
fn ends(context: &Context, cluster: &EngramCluster, found: &Found) -> Vec<CertificateStatus> {
    let names = Names::of(cluster);
    let all = found.leaves.iter().chain(&found.authorities);
    let ends = all.filter_map(|(name, files)| {
        let end = Timestamp::from_second(not_after(files.get("tls.crt")?)?).ok()?;
        let labels = [
            names.namespace.as_str(),
            names.cluster.as_str(),
            name.as_str(),
        ];
        let gauge = context.metrics.certificate_end.with_label_values(&labels);
        gauge.set(end.as_duration().as_secs_f64());
        Some(CertificateStatus {
            name: name.clone(),
            not_after: Time(end),
        })
    });
    let mut ends: Vec<CertificateStatus> = ends.collect();
    ends.sort_by(|one, other| one.name.cmp(&other.name));
    ends
}

fn seconds(text: &str) -> Result<i64, Error> {
    let read = parse_duration(text);
    let read = read.map_err(|error| Error::input(Reason::InvalidSpec, error.to_string()))?;
    Ok(i64::try_from(read.max(LIFETIME_MIN).as_secs()).unwrap_or(i64::MAX / 4))
}

/// The common name of who signs for clients.
fn clients_authority(names: &Names) -> String {
    format!("{} clients", names.cluster)
}

/// What a client shows who is a user by its name.
fn named(name: &str, lifetime: i64) -> LeafRequest {
    LeafRequest {
        name: name.to_owned(),
        hosts: Vec::new(),
        server: false,
        client: true,
        lifetime,
    }
}

/// A user's certificate brought up to date, by who signs for a cluster's clients; nothing where that is not
/// the operator.
///
/// # Errors
/// The authority cannot be read.
pub(super) async fn of_user(
    context: &Context,
    cluster: &EngramCluster,
    user: &str,
    before: &Files,
) -> Result<Option<Files>, Error> {
    if cluster.spec.tls.client.mode != TlsMode::SelfSigned {
        return Ok(None);
    }
    let names = Names::of(cluster);
    let authority = names.client_authority();
    let files = read(context, cluster, &authority).await?.files;
    if files.is_empty() {
        let message = format!("Secret {authority} is not there yet");
        return Err(Error::NotNow(message));
    }
    let name = clients_authority(&names);
    // As it is: the cluster's own passes renew it.
    let ring = Ring { files };
    let request = named(user, seconds(&cluster.spec.tls.certificate_lifetime)?);
    let after = renew_leaf(before, &ring, &name, &request, now().as_second())?;
    Ok(Some(after))
}

/// The common name of what the operator shows members: the user that it is there.
///
/// # Errors
/// The Secret is not there, or has no certificate with a common name.
pub(super) async fn own_name(context: &Context, cluster: &EngramCluster) -> Result<String, Error> {
    let names = Names::of(cluster);
    if names.operator_secret() != names.client_secret() {
        return Ok(OPERATOR_USER.to_owned());
    }
    let secret = names.client_secret().unwrap_or_default();
    let files = users_own(context, &names.namespace, &secret).await?;
    let name = files.get("tls.crt").and_then(|pem| common_name(pem));
    name.ok_or_else(|| {
        let message = format!(
            "the certificate in Secret {secret} has no common name: with authentication the operator is the user \
             of that name"
        );
        Error::input(Reason::CertificateInvalid, message)
    })
}

fn request(
    names: &Names,
    who: &str,
    side: &TlsSide,
    (server, client): (bool, bool),
    lifetime: i64,
) -> LeafRequest {
    let service = format!("{}.{}", names.client(), names.namespace);
    let mut hosts = Vec::new();
    if server {
        hosts.extend([
            format!("*.{}", names.domain()),
            format!("*.{}.cluster.local", names.domain()),
            names.client(),
            service.clone(),
            format!("{service}.svc"),
            format!("{service}.svc.cluster.local"),
            "localhost".into(),
            "127.0.0.1".into(),
            "::1".into(),
        ]);
        hosts.extend(side.extra_names.iter().cloned());
    }
    LeafRequest {
        name: format!("{} {who}", names.cluster),
        hosts,
        server,
        client,
        lifetime,
    }
}

async fn ring(
    context: &Context,
    cluster: &EngramCluster,
    secret: &str,
    name: &str,
    leaves: &[Option<String>],
) -> Result<Ring, Error> {
    let lifetime = seconds(&cluster.spec.tls.authority_lifetime)?;
    let kept = read(context, cluster, secret).await?;
    let before = &kept.files;
    if before.is_empty()
        && let Some(bundle) = bundle(context, cluster, leaves).await?
    {
        let ring = replace_lost_ring(&bundle, name, lifetime, now().as_second())?;
        write(context, cluster, (secret, &kept), &ring.files).await?;
        let note = format!(
            "the authority in Secret {secret} is gone: another one is shown to everybody beside it, and \
             signs in ten minutes"
        );
        context.event(cluster, true, "AuthorityLost", &note).await;
        return Ok(ring);
    }
    let ring = renew_ring(before, name, lifetime, now().as_second())?;
    if ring.files != *before {
        write(context, cluster, (secret, &kept), &ring.files).await?;
    }
    Ok(ring)
}

/// Whom those trust that have a certificate.
async fn bundle(
    context: &Context,
    cluster: &EngramCluster,
    leaves: &[Option<String>],
) -> Result<Option<Vec<u8>>, Error> {
    for leaf in leaves.iter().flatten() {
        let files = read(context, cluster, leaf).await?.files;
        if let Some(bundle) = files.get("ca.crt") {
            return Ok(Some(bundle.clone()));
        }
    }
    Ok(None)
}

async fn leaf(
    context: &Context,
    cluster: &EngramCluster,
    secret: &str,
    ring: &Ring,
    authority: &str,
    request: &LeafRequest,
) -> Result<(String, Files), Error> {
    let kept = read(context, cluster, secret).await?;
    let before = &kept.files;
    let after = renew_leaf(before, ring, authority, request, now().as_second())?;
    if after != *before {
        write(context, cluster, (secret, &kept), &after).await?;
        let renewed = before.get("tls.crt") != after.get("tls.crt") && !before.is_empty();
        if renewed {
            let note = format!("the certificate in {secret} was renewed");
            context
                .event(cluster, false, "CertificateRenewed", &note)
                .await;
        }
    }
    Ok((secret.to_owned(), after))
}

/// A Secret of ours as it was read.
#[derive(Default)]
pub(super) struct Kept {
    /// What is in it; nothing where there is none.
    files: Files,
    seen: Option<Seen>,
}

/// Which Secret that was.
struct Seen {
    uid: Option<String>,
    version: Option<String>,
}

impl Kept {
    /// This Secret, with nothing in it that is gone by.
    pub(super) fn of(secret: Option<&Secret>) -> Self {
        Self {
            files: Files::new(),
            seen: secret.map(|secret| Seen {
                uid: secret.uid(),
                version: secret.resource_version(),
            }),
        }
    }
}

async fn read(context: &Context, cluster: &EngramCluster, name: &str) -> Result<Kept, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let Some(secret) = api.get_opt(name).await? else {
        return Ok(Kept::default());
    };
    let mut kept = Kept::of(Some(&secret));
    match owner(&secret, cluster) {
        Owner::This => kept.files = files_of(secret),
        // Kubernetes has not come round to it. It is written anew, for this one.
        Owner::Gone => {}
        Owner::Other => return Err(taken::<Secret>(name, Reason::CertificateInvalid)),
    }
    Ok(kept)
}

/// What is in a Secret.
pub(super) fn files_of(secret: Secret) -> Files {
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, ByteString(bytes))| (key, bytes))
        .collect()
}

async fn users_own(context: &Context, namespace: &str, name: &str) -> Result<Files, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let secret = api.get_opt(name).await?;
    let missing = || {
        Error::input(
            Reason::CertificateInvalid,
            format!("there is no Secret {name}: make it with tls.crt, tls.key and ca.crt"),
        )
    };
    let files = files_of(secret.ok_or_else(missing)?);
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        if !files.contains_key(key) {
            let message = format!("Secret {name} has no {key}");
            return Err(Error::input(Reason::CertificateInvalid, message));
        }
    }
    Ok(files)
}

async fn write(
    context: &Context,
    cluster: &EngramCluster,
    (name, kept): (&str, &Kept),
    files: &Files,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let labels = cluster_labels(&names.cluster, "certificates");
    let owner = cluster.controller_owner_ref(&());
    let whose = (names.namespace.as_str(), name, kept);
    let written = write_secret(context, whose, labels, owner, files).await;
    written.map(drop)
}

/// Writes a Secret of an object of ours, in a namespace under a name, over the one that was read: two that make an
/// authority or a password at once would each go on with its own.
///
/// # Errors
/// The API server refused, or somebody was quicker.
pub(super) async fn write_secret(
    context: &Context,
    (namespace, name, kept): (&str, &str, &Kept),
    labels: BTreeMap<String, String>,
    owner: Option<OwnerReference>,
    files: &Files,
) -> Result<Secret, Error> {
    let mut secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    if let Some(seen) = &kept.seen {
        (secret.metadata.uid, secret.metadata.resource_version) =
            (seen.uid.clone(), seen.version.clone());
    } else {
        // One alone makes it, and empty: what is applied to it later is all that it has from here.
        let made = api.create(&PostParams::default(), &secret).await;
        let made = made.map_err(|error| match error {
            kube::Error::Api(refused) if refused.reason == "AlreadyExists" => Error::Overtaken(
                format!("Secret {name} was made by somebody else meanwhile: it is looked at again"),
            ),
            error => error.into(),
        })?;
        (secret.metadata.uid, secret.metadata.resource_version) =
            (made.uid(), made.resource_version());
    }
    let data = files.iter();
    let data = data.map(|(key, bytes)| (key.clone(), ByteString(bytes.clone())));
    secret.data = Some(data.collect());
    let applied = api
        .patch(name, &apply_params(), &Patch::Apply(&secret))
        .await;
    applied.map_err(|error| overtaken(&secret, error))
}
