//! An apiserver that its certificate's common name makes a user of the datastore's, as kubeadm issues
//! it, where authentication is on: it may have what it stores, and nothing else.

use std::process::Command;

use engram_e2e::certificates::{Authority, Certificate};
use engram_e2e::server::{Server, Setup};
use engram_e2e::tools;
use serde_json::json;

use crate::cluster::ControlPlane;

/// kubeadm's name for the apiserver's certificate.
const APISERVER: &str = "kube-apiserver-etcd-client";

/// A datastore with users, and who signs certificates for it.
struct Datastore {
    server: Server,
    authority: Authority,
    root: Certificate,
}

impl Datastore {
    fn start(scratch: &std::path::Path) -> Datastore {
        let authority = Authority::new(scratch);
        let own = authority.issue("server", 1);
        let mut server = Setup::engram().prepare();
        server.speak_tls(own.for_known_clients(&authority.bundle()));
        server.start();
        let root = authority.issue("root", 2);
        let datastore = Datastore {
            server,
            authority,
            root,
        };
        for line in [
            "user add root --no-password",
            "user grant-role root root",
            "role add kubernetes",
            "role grant-permission kubernetes readwrite /registry/ --prefix",
            "role grant-permission kubernetes readwrite compact_rev_key",
            &format!("user add {APISERVER} --no-password"),
            &format!("user grant-role {APISERVER} kubernetes"),
            "auth enable",
            "put elsewhere x",
        ] {
            tools::must_succeed(datastore.etcdctl(&datastore.root).args(line.split(' ')));
        }
        datastore
    }

    fn etcdctl(&self, who: &Certificate) -> Command {
        let mut command = tools::command(&tools::tool("etcdctl"));
        command
            .arg(format!("--endpoints=https://{}", self.server.address()))
            .arg(format!("--cacert={}", self.authority.bundle().display()))
            .arg(format!("--cert={}", who.certificate.display()))
            .arg(format!("--key={}", who.key.display()));
        command
    }

    /// What somebody is told who must be refused.
    fn refusal(&self, who: &Certificate, line: &str) -> String {
        let finished = tools::run(self.etcdctl(who).args(line.split(' ')), tools::TOOL_LIMIT);
        assert!(!finished.status.success(), "{line}: {}", finished.text());
        finished.text()
    }
}

#[test]
#[ignore = "takes long: make chaos"]
fn an_apiserver_is_a_user_by_its_certificate() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let datastore = Datastore::start(scratch.path());
    let apiserver = datastore.authority.issue(APISERVER, 3);
    let mut plane = ControlPlane::start(&[
        format!("--etcd-servers=https://{}", datastore.server.address()),
        format!("--etcd-cafile={}", datastore.authority.bundle().display()),
        format!("--etcd-certfile={}", apiserver.certificate.display()),
        format!("--etcd-keyfile={}", apiserver.key.display()),
    ]);
    let path = "/api/v1/namespaces/default/configmaps";
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "mine" }, "data": { "a": "b" },
    });
    plane.api().create(path, &object);
    assert_eq!(plane.api().get(&format!("{path}/mine"))["data"]["a"], "b");
    let key = "/registry/configmaps/default/mine";
    let read = tools::must_succeed(datastore.etcdctl(&datastore.root).args(["get", key]));
    assert!(read.contains(key), "{read}");
    // Its certificate opens what it stores, and nothing else; another's opens nothing.
    tools::must_succeed(datastore.etcdctl(&apiserver).args(["get", key]));
    let denied = "permission denied";
    let said = datastore.refusal(&apiserver, "get elsewhere");
    assert!(said.contains(denied), "{said}");
    let said = datastore.refusal(&apiserver, "user list");
    assert!(said.contains(denied), "{said}");
    let stranger = datastore.authority.issue("stranger", 4);
    let said = datastore.refusal(&stranger, &format!("get {key}"));
    assert!(said.contains(denied), "{said}");
    // What was granted goes, and with it what the apiserver may.
    let revoke = ["user", "revoke-role", APISERVER, "kubernetes"];
    tools::must_succeed(datastore.etcdctl(&datastore.root).args(revoke));
    let mut other = object.clone();
    other["metadata"]["name"] = json!("not-mine-any-more");
    let refused = plane
        .api()
        .request("POST", path, Some((crate::api::Body::Object, &other)));
    assert!(refused.status >= 400, "{} {}", refused.status, refused.body);
    plane.must_run();
}
