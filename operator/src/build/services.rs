//! The Services of a cluster.

use k8s_openapi::api::core::v1::Service;
use kube::Resource as _;
use serde_json::{Value, json};

use crate::api::{EngramCluster, ServiceType};

use super::names::{CLIENT_PORT, METRICS_PORT, Names, PEER_PORT, cluster_labels, member_selector};
use super::shaped;

/// Gives each member its name, before it is ready as well: members find each other to become so.
#[must_use]
pub fn peer_service(cluster: &EngramCluster) -> Service {
    let names = Names::of(cluster);
    let spec = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": member_selector(&names.cluster),
        "ports": [
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("metrics", METRICS_PORT),
        ],
    });
    service(cluster, &names.peers(), "peers", json!({}), spec)
}

/// What clients use: members that are ready.
#[must_use]
pub fn client_service(cluster: &EngramCluster) -> Service {
    let names = Names::of(cluster);
    let settings = &cluster.spec.client_service;
    let kind = match settings.kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let mut spec = json!({
        "type": kind,
        "selector": member_selector(&names.cluster),
        "ports": [port("client", CLIENT_PORT)],
    });
    if let Some(policy) = settings.ip_family_policy {
        spec["ipFamilyPolicy"] = json!(policy);
    }
    if !settings.ip_families.is_empty() {
        spec["ipFamilies"] = json!(settings.ip_families);
    }
    service(
        cluster,
        &names.client(),
        "client",
        json!(settings.annotations),
        spec,
    )
}

fn port(name: &str, port: u16) -> Value {
    json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" })
}

fn service(
    cluster: &EngramCluster,
    name: &str,
    component: &str,
    annotations: Value,
    spec: Value,
) -> Service {
    let names = Names::of(cluster);
    shaped(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": names.namespace,
            "labels": cluster_labels(&names.cluster, component),
            "annotations": annotations,
            "ownerReferences": cluster.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": spec,
    }))
}
