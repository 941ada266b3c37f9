//! The cluster to form or to join.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

fn unresolvable(_: &str) -> Option<IpAddr> {
    None
}

#[test]
fn the_initial_cluster_is_grouped_by_name_and_sorted() {
    let text = "--initial-cluster=b=http://b:1,a=http://a:2,,b=http://a:9";
    let initial = config(&[text]).cluster.initial;
    let shown: Vec<(&str, Vec<String>)> = initial
        .iter()
        .map(|member| (member.name.as_str(), texts(&member.peer_urls)))
        .collect();
    assert_eq!(
        shown,
        [
            ("a", vec!["http://a:2".to_owned()]),
            ("b", vec!["http://a:9".to_owned(), "http://b:1".to_owned()]),
        ]
    );
}

#[test]
fn a_name_alone_makes_a_cluster_of_one() {
    let config = config(&[
        "--name=solo",
        "--initial-advertise-peer-urls=http://127.0.0.1:9",
    ]);
    assert_eq!(config.cluster.initial.len(), 1);
    assert_eq!(config.cluster.initial[0].name, "solo");
    assert_eq!(config.verify_bootstrap(&unresolvable), Ok(()));
}

#[test]
fn discovery_leaves_the_cluster_open_and_cannot_bootstrap_by_itself() {
    let config = config(&["--discovery-srv=example.com"]);
    assert!(config.cluster.discovery.is_asked_for() && config.cluster.initial.is_empty());
    assert!(config.verify_bootstrap(&unresolvable).is_err());
}

#[test]
fn bootstrap_faults_are_reported_in_etcds_words() {
    let table: &[(&[&str], &str)] = &[
        (
            &["--name=x", "--initial-cluster=a=http://a:1"],
            "couldn't find local name \"x\" in the initial cluster configuration",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,a=http://localhost:2380"],
            "initial cluster a=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (
            &["--initial-advertise-peer-urls=http://a:1"],
            "--initial-cluster has default=http://localhost:2380 but missing from \
             --initial-advertise-peer-urls=http://a:1 (http://a:1 != http://localhost:2380)",
        ),
        (
            &["--initial-advertise-peer-urls=http://a:1,http://localhost:2380"],
            "--initial-advertise-peer-urls has http://a:1 but missing from \
             --initial-cluster=default=http://localhost:2380",
        ),
    ];
    for (args, want) in table {
        let error = config(args).verify_bootstrap(&unresolvable).unwrap_err();
        assert_eq!(error.to_string(), *want);
    }
}

#[test]
fn names_that_resolve_to_the_same_address_are_the_same() {
    let config = config(&[
        "--initial-advertise-peer-urls=http://10.0.0.1:1",
        "--initial-cluster=default=http://infra:1",
    ]);
    let resolve = |host: &str| match host {
        "infra" => Some(IpAddr::from([10, 0, 0, 1])),
        host => host.parse().ok(),
    };
    assert_eq!(config.verify_bootstrap(&resolve), Ok(()));
    assert!(config.verify_bootstrap(&unresolvable).is_err());
}

#[test]
fn joining_needs_the_name_but_not_the_same_urls() {
    let joining = config(&[
        "--initial-cluster-state=existing",
        "--initial-cluster=default=http://elsewhere:1",
    ]);
    assert!(!joining.is_new_cluster());
    assert_eq!(joining.verify_join_existing(), Ok(()));
    let missing = config(&["--name=x", "--initial-cluster=a=http://a:1"]);
    assert!(missing.verify_join_existing().is_err());
}

#[test]
fn default_urls_are_advertised_with_the_machines_address() {
    let host = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    let config = config(&[
        "--name=n",
        "--listen-peer-urls=http://0.0.0.0:7",
        "--listen-client-urls=http://0.0.0.0:8",
        "--advertise-client-urls=http://localhost:2379",
    ])
    .with_default_host(host);
    assert_eq!(texts(&config.advertise.peer), ["http://10.1.2.3:7"]);
    assert_eq!(texts(&config.advertise.client), ["http://10.1.2.3:8"]);
    assert_eq!(
        texts(&config.cluster.initial[0].peer_urls),
        ["http://10.1.2.3:7"]
    );
    let (untouched, _) = run(parse_with(&[], &[]));
    assert_eq!(untouched.clone().with_default_host(host), untouched);
}
