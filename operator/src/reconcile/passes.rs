//! Whole passes against an API server that is played.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Context, cluster};
use crate::api::EngramCluster;
use crate::apiserver::Clients;
use crate::played::Played;
use crate::pulse::Pulse;
use crate::settings::Settings;
use crate::telemetry::Metrics;

const CLUSTER: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engramclusters/demo";
const MEMBERS: &str = "/apis/engram.dev/v1alpha1/namespaces/data/engrammembers";
const CORE: &str = "/api/v1/namespaces/data";

/// An operator on a played API server.
struct Lab {
    server: Played,
    context: Arc<Context>,
}

impl Lab {
    /// With a cluster of this specification, that was founded.
    fn new(spec: Value) -> Self {
        let server = Played::default();
        server.put(
            CLUSTER,
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
                "metadata": { "uid": "cluster-uid", "generation": 1 },
                "spec": spec,
                "status": { "clusterID": "7", "lastMemberNumber": 3 },
            }),
        );
        let clients = Clients {
            calls: server.client(),
            watches: server.client(),
        };
        let settings = Settings::parse(std::iter::empty(), |_| None).unwrap();
        let metrics = Metrics::new().unwrap();
        let context = Arc::new(Context::new(clients, settings, metrics, Pulse::default()));
        Self { server, context }
    }

    /// A member that was listed, with its claim.
    fn member(&self, number: u32) {
        let name = format!("demo-{number}");
        let uid = format!("{number:08x}-0000-4000-8000-000000000000");
        let owner = |kind: &str, name: &str, uid: &str| json!([{ "apiVersion": "engram.dev/v1alpha1", "kind": kind, "name": name, "uid": uid }]);
        let labels = json!({
            "engram.dev/cluster": "demo", "app.kubernetes.io/component": "member",
            "engram.dev/member": name,
        });
        self.server.put(
            &format!("{MEMBERS}/{name}"),
            json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
                "metadata": {
                    "uid": uid, "labels": labels, "finalizers": ["engram.dev/member"],
                    "ownerReferences": owner("EngramCluster", "demo", "cluster-uid"),
                },
                "spec": {
                    "clusterRef": { "name": "demo" }, "origin": "Join",
                    "peerURL": format!("https://{name}.demo-peers.data.svc:2380"),
                },
                "status": { "memberID": format!("{number}"), "initialized": true },
            }),
        );
        self.server.put(
            &format!("{CORE}/persistentvolumeclaims/data-{name}-{number:08x}"),
            json!({
                "metadata": {
                    "labels": labels,
                    "ownerReferences": owner("EngramMember", &name, &uid),
                },
                "spec": { "resources": { "requests": { "storage": "8Gi" } } },
                "status": { "phase": "Bound" },
            }),
        );
    }

    /// One pass.
    async fn pass(&self) -> Result<(), String> {
        let seen: EngramCluster =
            serde_json::from_value(self.server.object(CLUSTER).unwrap()).unwrap();
        let pass = cluster::reconcile(Arc::new(seen), self.context.clone());
        pass.await.map(drop).map_err(|error| error.to_string())
    }

    /// A condition of the cluster: its status, reason and message.
    fn condition(&self, kind: &str) -> (String, String, String) {
        let cluster = self.server.object(CLUSTER).unwrap();
        let conditions = cluster["status"]["conditions"].as_array().unwrap().clone();
        let found = conditions.iter().find(|one| one["type"] == kind).unwrap();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_costs_its_part_only() {
    let lab = Lab::new(json!({
        "tls": { "client": { "mode": "Secret", "secretName": "mine" } },
    }));
    lab.member(1);
    lab.pass().await.unwrap();
    // The member's pod was gone: it is made again. Certificates of members are made, Services too.
    assert_eq!(lab.server.paths("/pods/"), [format!("{CORE}/pods/demo-1")]);
    assert!(
        lab.server
            .object(&format!("{CORE}/secrets/demo-peer-tls"))
            .is_some()
    );
    assert_eq!(lab.server.paths("/services/").len(), 2);
    for kind in ["TLSReady", "Ready"] {
        let (status, reason, message) = lab.condition(kind);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "CertificateInvalid")
        );
        assert!(message.contains("no Secret mine"), "{message}");
    }
    assert_eq!(lab.condition("Degraded").1, "CertificateInvalid");
}

#[tokio::test]
async fn the_volume_of_a_member_with_other_data_is_kept() {
    let lab = Lab::new(json!({}));
    for number in [1, 2] {
        lab.member(number);
        let path = format!("{MEMBERS}/demo-{number}");
        let mut member = lab.server.object(&path).unwrap();
        member["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        if number == 1 {
            member["metadata"]["annotations"] = json!({ "engram.dev/keep-volume": "Corrupt" });
        }
        lab.server.put(&path, member);
    }
    // Even the cluster goes, with reclaimPolicy Delete.
    let mut cluster = lab.server.object(CLUSTER).unwrap();
    cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster["metadata"]["finalizers"] = json!(["engram.dev/cluster"]);
    lab.server.put(CLUSTER, cluster);
    lab.pass().await.unwrap();
    assert_eq!(lab.server.paths(MEMBERS).len(), 0);
    let kept = format!("{CORE}/persistentvolumeclaims/data-demo-1-00000001");
    assert_eq!(lab.server.paths("/persistentvolumeclaims/"), [kept.clone()]);
    let owners = lab.server.object(&kept).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners, json!([]));
}
