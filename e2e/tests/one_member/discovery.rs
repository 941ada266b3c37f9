//! Members that find each other where another cluster keeps a registry: etcd's v3 discovery.

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;

fn member(name: &str, registry: &Server) -> Server {
    let setup = Setup::engram().only_given_flags().name(name);
    let mut server = setup.prepare();
    let (client, peer) = (server.client_url(), server.peer_url());
    let flags = [
        format!("--name={name}"),
        format!("--data-dir={}", server.data_dir().display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--discovery-endpoints={}", registry.client_url()),
        "--discovery-token=one".to_owned(),
        "--discovery-request-timeout=2s".to_owned(),
    ];
    for flag in flags {
        server.add_flag(flag);
    }
    server
}

#[test]
fn members_find_each_other() {
    let _turn = turn::take("discovery");
    for setup in [Setup::etcd(), Setup::engram()] {
        let mut registry = setup.start();
        let (_, said) = member("early", &registry).must_refuse();
        assert!(said.contains("discovery: size key not found"), "{said}");
        for line in [
            "discovery failed to join cluster",
            "failed to bootstrap; discovery token was already used",
            "do not reuse discovery token; generate a new one to bootstrap a cluster",
            "failed to join discovery cluster",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        let size = "/_etcd/registry/one/_config/size";
        for bad in ["none", "0", "-1"] {
            registry.etcdctl(&["put", "--", size, bad]);
            let (_, said) = member("early", &registry).must_refuse();
            assert!(said.contains("discovery: size key is bad"), "{bad}: {said}");
        }
        registry.etcdctl(&["put", size, "2"]);
        // What names no member is none.
        registry.etcdctl(&["put", "/_etcd/registry/one/members/aa", "nobody"]);
        let mut members = ["a", "b"].map(|name| member(name, &registry));
        for member in &mut members {
            member.launch();
        }
        for member in &mut members {
            member.must_become_ready();
        }
        for line in [
            "Bootstrapping cluster using v3 discovery.",
            "register member itself successfully",
            "invalid peer info returned from discovery service",
            "found all needed peers from discovery service",
            "discovery joined cluster successfully",
        ] {
            let said = members[0].output();
            assert!(said.contains(line), "{line}: {said}");
        }
        let [first, second] = &mut members;
        let listed = first.etcdctl(&["member", "list"]);
        for peer in [first.peer_url(), second.peer_url()] {
            assert!(listed.contains(&peer), "{listed}");
        }
        first.etcdctl(&["put", "k", "v"]);
        assert_eq!(second.etcdctl(&["get", "k"]), "k\nv\n");
        let (_, said) = member("late", &registry).must_refuse();
        assert!(said.contains("discovery: cluster is full"), "{said}");
        // Whoever has a directory asks nobody.
        registry.kill();
        second.terminate();
        second.start();
        assert_eq!(second.etcdctl(&["get", "k"]), "k\nv\n");
    }
}
