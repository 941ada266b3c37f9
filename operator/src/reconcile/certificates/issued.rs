//! Certificates that cert-manager makes and renews: asked for as its `Certificate` objects, one for each
//! Secret, and read like a user's own.

use kube::api::{Api, DynamicObject, Patch};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::api::{EngramCluster, Reason, TlsSide};
use crate::desired::{Names, cluster_labels};
use crate::pki::{Files, LeafRequest};

use super::super::owner::{Owner, owner, taken_kind};
use super::super::{Context, Error, apply_params, has, is_gone, marked};
use super::users_own;

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "cert-manager.io",
        "v1",
        "Certificate",
    ))
}

/// The object that asks for a certificate in the Secret of its name.
fn certificate(
    cluster: &EngramCluster,
    side: &TlsSide,
    name: &str,
    request: &LeafRequest,
) -> Value {
    let names = Names::of(cluster);
    let is_address = |host: &&String| host.parse::<std::net::IpAddr>().is_ok();
    let (addresses, hosts): (Vec<&String>, Vec<&String>) =
        request.hosts.iter().partition(is_address);
    let mut usages = vec!["digital signature", "key encipherment"];
    usages.extend(request.server.then_some("server auth"));
    usages.extend(request.client.then_some("client auth"));
    let mut spec = json!({
        "secretName": name,
        "commonName": request.name,
        "duration": format!("{}s", request.lifetime),
        "privateKey": { "algorithm": "ECDSA", "rotationPolicy": "Always" },
        "usages": usages,
        "issuerRef": side.issuer_ref,
    });
    if !hosts.is_empty() {
        spec["dnsNames"] = json!(hosts);
    }
    if !addresses.is_empty() {
        spec["ipAddresses"] = json!(addresses);
    }
    json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {
            "name": name,
            "namespace": names.namespace,
            "labels": cluster_labels(&names.cluster, "certificates"),
            "ownerReferences": cluster.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": spec,
    })
}

/// Asks for a certificate, and reads it.
///
/// # Errors
/// There is no cert-manager, or it has not made it yet: its object says why.
pub(super) async fn issued(
    context: &Context,
    cluster: &EngramCluster,
    side: &TlsSide,
    name: &str,
    request: &LeafRequest,
) -> Result<(String, Files), Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &kind());
    let mut built = marked(&certificate(cluster, side, name, request));
    let there = match api.get_opt(name).await {
        // Not the object is missing, but its kind.
        Err(error) if is_gone(&error) => {
            let message =
                "there is no cert-manager in this cluster: install it, or use another tls mode";
            return Err(Error::input(Reason::CertificateInvalid, message));
        }
        there => there?,
    };
    if let Some(there) = &there
        && owner(there, cluster) == Owner::Other
    {
        return Err(taken_kind("Certificate", name, Reason::CertificateInvalid));
    }
    if !there
        .as_ref()
        .is_some_and(|there| has(&json!(there), &built))
    {
        // Nothing that has taken its name since.
        if let Some(uid) = there.and_then(|there| there.uid()) {
            built["metadata"]["uid"] = uid.into();
        }
        api.patch(name, &apply_params(), &Patch::Apply(&built))
            .await?;
    }
    match users_own(context, &namespace, name).await {
        Ok(files) => Ok((name.to_owned(), files)),
        Err(Error::Input { reason, .. }) => {
            let message = format!(
                "cert-manager has not made Secret {name} with tls.crt, tls.key and ca.crt yet: kubectl describe \
                 certificate {name} says why (an issuer that gives no ca.crt cannot be used)"
            );
            Err(Error::input(reason, message))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_asked_for_with_names_addresses_and_usages() {
        let cluster: EngramCluster = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data", "uid": "u" },
            "spec": { "tls": { "client": { "mode": "CertManager", "issuerRef": { "name": "ca" } } } },
        }))
        .unwrap();
        let request = LeafRequest {
            name: "demo server".into(),
            hosts: vec!["localhost".into(), "::1".into()],
            server: true,
            client: false,
            lifetime: 3600,
        };
        let side = &cluster.spec.tls.client;
        let built = certificate(&cluster, side, "demo-server-tls", &request);
        assert_eq!(built["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(
            built["spec"],
            json!({
                "secretName": "demo-server-tls", "commonName": "demo server", "duration": "3600s",
                "privateKey": { "algorithm": "ECDSA", "rotationPolicy": "Always" },
                "usages": ["digital signature", "key encipherment", "server auth"],
                "issuerRef": { "name": "ca", "kind": "Issuer", "group": "cert-manager.io" },
                "dnsNames": ["localhost"], "ipAddresses": ["::1"],
            })
        );
    }
}
