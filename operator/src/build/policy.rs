//! What protects members: from evictions, and from whoever has no business with them.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource as _;
use serde_json::{Value, json};

use crate::api::EngramCluster;

use super::names::{CLIENT_PORT, METRICS_PORT, Names, PEER_PORT, cluster_labels, member_selector};
use super::shaped;

/// Holds evictions to the quorum of `voters`, whatever `others` are ready beside them: members that do not
/// vote. None for one member: it would keep its node from ever being drained.
#[must_use]
pub fn disruption_budget(
    cluster: &EngramCluster,
    voters: usize,
    others: usize,
) -> Option<PodDisruptionBudget> {
    let wanted = usize::try_from(cluster.spec.replicas).unwrap_or_default();
    // One that is to become more is kept until there are. From then on it is the quorum of those there are:
    // that of more would let nobody be restarted before there are more.
    let voters = match voters {
        0 | 1 => voters.max(wanted),
        some => some,
    };
    if !cluster.spec.pod_disruption_budget.enabled || voters < 2 || wanted == 0 {
        return None;
    }
    let names = Names::of(cluster);
    Some(shaped(json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(cluster, &names, &names.cluster),
        "spec": {
            "minAvailable": voters / 2 + 1 + others,
            "selector": { "matchLabels": member_selector(&names.cluster) },
            // A member's readiness is also that of its quorum: what is not ready may still vote.
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        },
    })))
}

/// Who may reach which port: members each other, the operator (in the namespace `operator`) and its backups the clients' port,
/// clients as the specification says, metrics anybody.
#[must_use]
pub fn network_policy(cluster: &EngramCluster, operator: &str) -> Option<NetworkPolicy> {
    let settings = &cluster.spec.network_policy;
    if !settings.enabled {
        return None;
    }
    let names = Names::of(cluster);
    let ours = json!({ "podSelector": { "matchLabels": { "engram.dev/cluster": names.cluster } } });
    let operator = json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": operator } },
        "podSelector": { "matchLabels": { "app.kubernetes.io/name": "engram-operator" } },
    });
    let mut clients = json!({ "ports": [tcp(CLIENT_PORT)] });
    if !settings.from.is_empty() {
        let given = settings.from.iter().map(|peer| json!(peer));
        let from: Vec<Value> = given.chain([ours.clone(), operator]).collect();
        clients["from"] = json!(from);
    }
    Some(shaped(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(cluster, &names, &format!("{}-members", names.cluster)),
        "spec": {
            "podSelector": { "matchLabels": member_selector(&names.cluster) },
            "policyTypes": ["Ingress"],
            "ingress": [
                clients,
                { "ports": [tcp(PEER_PORT)], "from": [
                    { "podSelector": { "matchLabels": member_selector(&names.cluster) } },
                ] },
                { "ports": [tcp(METRICS_PORT)] },
            ],
        },
    })))
}

fn tcp(port: u16) -> Value {
    json!({ "port": port, "protocol": "TCP" })
}

fn metadata(cluster: &EngramCluster, names: &Names, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": names.namespace,
        "labels": cluster_labels(&names.cluster, "policy"),
        "ownerReferences": cluster.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
    })
}
