//! The Services of a cluster.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{EngramCluster, IpFamily, IpFamilyPolicy, ServiceType};

use super::names::{CLIENT_PORT, METRICS_PORT, Names, PEER_PORT, member_selector};
use super::parts::metadata;

/// Gives each member its name, before it is ready as well: members find each other to become so.
#[must_use]
pub fn peer_service(cluster: &EngramCluster) -> Service {
    let names = Names::of(cluster);
    let mut service = service(cluster, names.peers(), "peers");
    // Empty, and there: as it was applied before.
    service.metadata.annotations = Some([].into());
    service.spec = Some(ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        selector: Some(member_selector(&names.cluster)),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("metrics", METRICS_PORT),
        ]),
        ..ServiceSpec::default()
    });
    service
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
    let policy = settings.ip_family_policy.map(|policy| match policy {
        IpFamilyPolicy::SingleStack => "SingleStack",
        IpFamilyPolicy::PreferDualStack => "PreferDualStack",
        IpFamilyPolicy::RequireDualStack => "RequireDualStack",
    });
    let family = |family: &IpFamily| match family {
        IpFamily::IPv4 => "IPv4".to_owned(),
        IpFamily::IPv6 => "IPv6".to_owned(),
    };
    let families: Vec<String> = settings.ip_families.iter().map(family).collect();
    let mut service = service(cluster, names.client(), "client");
    service.metadata.annotations = Some(settings.annotations.clone());
    service.spec = Some(ServiceSpec {
        type_: Some(kind.to_owned()),
        selector: Some(member_selector(&names.cluster)),
        ports: Some(vec![port("client", CLIENT_PORT)]),
        ip_family_policy: policy.map(str::to_owned),
        ip_families: (!families.is_empty()).then_some(families),
        ..ServiceSpec::default()
    });
    service
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn service(cluster: &EngramCluster, name: String, component: &str) -> Service {
    Service {
        metadata: metadata(cluster, name, component),
        ..Service::default()
    }
}
