//! What protects members: from evictions, and from whoever has no business with them.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::EngramCluster;

use super::names::{CLIENT_PORT, METRICS_PORT, Names, PEER_PORT, member_selector};
use super::parts::{labelled, metadata};

/// The component of these objects.
const COMPONENT: &str = "policy";

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
    let stay = i32::try_from(voters / 2 + 1 + others).unwrap_or(i32::MAX);
    Some(PodDisruptionBudget {
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(stay)),
            selector: Some(labelled(member_selector(&names.cluster))),
            // A member's readiness is also that of its quorum: what is not ready may still vote.
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        metadata: metadata(cluster, names.cluster, COMPONENT),
        ..PodDisruptionBudget::default()
    })
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
    let members = labelled(member_selector(&names.cluster));
    // Nobody named: anybody.
    let clients = (!settings.from.is_empty()).then(|| {
        let ours = pods(&[("engram.dev/cluster", names.cluster.as_str())]);
        let given = settings.from.iter().cloned();
        given.chain([ours, operators(operator)]).collect()
    });
    let peers = NetworkPolicyPeer {
        pod_selector: Some(members.clone()),
        ..NetworkPolicyPeer::default()
    };
    Some(NetworkPolicy {
        metadata: metadata(cluster, format!("{}-members", names.cluster), COMPONENT),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(members),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                lets_in(CLIENT_PORT, clients),
                lets_in(PEER_PORT, Some(vec![peers])),
                lets_in(METRICS_PORT, None),
            ]),
            ..NetworkPolicySpec::default()
        }),
    })
}

/// These, or everybody, to one port.
fn lets_in(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(port.into())),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![port]),
    }
}

/// Pods of the same namespace.
fn pods(labels: &[(&str, &str)]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(labelled(map(labels))),
        ..NetworkPolicyPeer::default()
    }
}

/// The operator's, in its own namespace.
fn operators(namespace: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(labelled(map(&[("kubernetes.io/metadata.name", namespace)]))),
        ..pods(&[("app.kubernetes.io/name", "engram-operator")])
    }
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    labels.iter().map(own).collect()
}
