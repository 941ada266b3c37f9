//! A cluster's certificates as Secrets.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{CertificateStatus, EngramCluster, Reason, TlsMode, TlsSide, parse_duration};
use crate::build::{Names, cluster_labels};
use crate::etcd::TlsClient;
use crate::pki::{Files, LeafRequest, Ring, not_after, renew_leaf, renew_ring};

use super::owner::{Owner, owner, taken};
use super::{Context, Error, apply, now};

/// Certificates for less would be renewed all the time.
const LIFETIME_MIN: Duration = Duration::from_secs(300);

/// What a cluster's certificates come to.
#[derive(Default)]
pub(super) struct Certificates {
    /// How the operator speaks with members; none without TLS.
    pub client: Option<TlsClient>,
    /// When they end, and their authorities.
    pub ends: Vec<CertificateStatus>,
}

/// Makes, renews or reads a cluster's certificates.
///
/// # Errors
/// They cannot be made, or the user's are missing or of no use.
pub(super) async fn ensure(
    context: &Context,
    cluster: &EngramCluster,
) -> Result<Certificates, Error> {
    let names = Names::of(cluster);
    let tls = &cluster.spec.tls;
    let lifetime = seconds(&tls.certificate_lifetime)?;
    let mut secrets: Vec<(String, Files)> = Vec::new();
    let mut authorities: Vec<(String, Files)> = Vec::new();
    if tls.peer.mode == TlsMode::SelfSigned {
        let name = format!("{} members", names.cluster);
        let ring = ring(context, cluster, &names.peer_authority(), &name).await?;
        let request = request(&names, "member", &tls.peer, (true, true), lifetime);
        let secret = names.peer_secret().unwrap_or_default();
        secrets.push(leaf(context, cluster, &secret, &ring, &name, &request).await?);
        authorities.push((names.peer_authority(), ring.files));
    }
    if tls.client.mode == TlsMode::SelfSigned {
        let name = format!("{} clients", names.cluster);
        let ring = ring(context, cluster, &names.client_authority(), &name).await?;
        let server = request(&names, "server", &tls.client, (true, true), lifetime);
        let client = request(
            &names,
            "client",
            &TlsSide::default(),
            (false, true),
            lifetime,
        );
        let pairs = [
            (names.server_secret(), server),
            (names.client_secret(), client),
        ];
        for (secret, request) in pairs {
            let secret = secret.unwrap_or_default();
            secrets.push(leaf(context, cluster, &secret, &ring, &name, &request).await?);
        }
        authorities.push((names.client_authority(), ring.files));
    }
    for (side, secret) in [
        (&tls.client, names.client_secret()),
        (&tls.peer, names.peer_secret()),
    ] {
        if side.mode == TlsMode::Secret {
            let secret = secret.unwrap_or_default();
            let files = users_own(context, &names.namespace, &secret).await?;
            secrets.push((secret, files));
        }
    }
    let own = names.client_secret();
    let own = secrets.iter().find(|(name, _)| Some(name) == own.as_ref());
    let client = own.map(|(_, files)| TlsClient::new(files)).transpose()?;
    let ends = secrets.iter().chain(&authorities);
    let ends = ends.filter_map(|(name, files)| {
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
    let ends = ends.collect();
    Ok(Certificates { client, ends })
}

fn seconds(text: &str) -> Result<i64, Error> {
    let read = parse_duration(text);
    let read = read.map_err(|error| Error::input(Reason::InvalidSpec, error.to_string()))?;
    Ok(i64::try_from(read.max(LIFETIME_MIN).as_secs()).unwrap_or(i64::MAX / 4))
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
) -> Result<Ring, Error> {
    let lifetime = seconds(&cluster.spec.tls.authority_lifetime)?;
    let before = read(context, cluster, secret).await?.unwrap_or_default();
    let ring = renew_ring(&before, name, lifetime, now().as_second())?;
    if ring.files != before {
        write(context, cluster, secret, &ring.files).await?;
    }
    Ok(ring)
}

async fn leaf(
    context: &Context,
    cluster: &EngramCluster,
    secret: &str,
    ring: &Ring,
    authority: &str,
    request: &LeafRequest,
) -> Result<(String, Files), Error> {
    let before = read(context, cluster, secret).await?.unwrap_or_default();
    let after = renew_leaf(&before, ring, authority, request, now().as_second())?;
    if after != before {
        write(context, cluster, secret, &after).await?;
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

async fn read(
    context: &Context,
    cluster: &EngramCluster,
    name: &str,
) -> Result<Option<Files>, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let secret = api.get_opt(name).await?;
    let Some(secret) = secret else {
        return Ok(None);
    };
    match owner(&secret, cluster) {
        Owner::This => Ok(Some(files_of(secret))),
        // Kubernetes has not come round to it. It is written anew, for this one.
        Owner::Gone => Ok(None),
        Owner::Other => Err(taken::<Secret>(name, Reason::CertificateInvalid)),
    }
}

fn files_of(secret: Secret) -> Files {
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
    name: &str,
    files: &Files,
) -> Result<(), Error> {
    let names = Names::of(cluster);
    let data = files
        .iter()
        .map(|(key, bytes)| (key.clone(), ByteString(bytes.clone())))
        .collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(names.namespace.clone()),
            labels: Some(cluster_labels(&names.cluster, "certificates")),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    apply(context, &names.namespace, &secret).await.map(drop)
}
