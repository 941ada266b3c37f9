//! A Kubernetes that has IPv6 alone: the operator reaches the members, they reach each other, one is replaced, and the
//! plugin's etcdctl speaks to them.

use std::net::Ipv6Addr;
use std::sync::Arc;

use engram_e2e::kind::image::{self, RunsAs};
use engram_e2e::kind::{Declared, Kind, Nodes, wait_for};
use serde_json::{Value, json};

use super::bad_image::plugin;
use crate::lab::{CHART, IMAGE, READY_LIMIT, install_operator, namespace};
use crate::steps::step;

const NAMESPACE: &str = "six";

/// Tells the story.
pub fn tell() {
    let image = step("the image", || image::engram(IMAGE, RunsAs::Nonroot));
    let kind = Arc::new(step("a cluster that has IPv6 alone", || {
        Kind::create("engram-ipv6", Nodes::Ipv6, None)
    }));
    kind.load(&image);
    step("helm install", || install_operator(&kind, CHART, &[]));
    namespace(&kind, NAMESPACE);
    let spec = json!({
        "replicas": 3, "storage": { "size": "1Gi" }, "auth": { "enabled": false },
        "networkPolicy": { "enabled": true },
    });
    let demo = Declared::declare(&kind, NAMESPACE, "demo", &spec);
    step("three members, with certificates", || {
        demo.ready(3, READY_LIMIT);
        for pod in demo.pods() {
            let address = pod["status"]["podIP"].as_str().unwrap_or_default();
            assert!(address.parse::<Ipv6Addr>().is_ok(), "{address:?}");
        }
        let families = demo.object().expect("it is there")["status"]["ipFamilies"].clone();
        assert_eq!(families, json!(["IPv6"]));
    });
    step("the plugin's etcdctl", || {
        plugin(&demo, &["etcdctl", "demo", "--", "put", "a", "1"]);
        let health = ["etcdctl", "demo", "--", "endpoint", "health", "--cluster"];
        let health = plugin(&demo, &health);
        assert_eq!(health.matches("is healthy").count(), 3, "{health}");
        let status = plugin(&demo, &["status", "demo"]);
        assert!(status.contains("3 of 3 voters answer"), "{status}");
    });
    step("a member is replaced", || {
        let (member, before) = (demo.follower(), demo.uids("pods"));
        let delete = ["-n", NAMESPACE, "delete", "engrammember", &member];
        kind.must_within(READY_LIMIT, &delete);
        wait_for("another one is there", READY_LIMIT, || {
            let gone = !demo.members().contains(&member);
            (gone && demo.members().len() == 3).then_some(())
        });
        demo.ready(3, READY_LIMIT);
        assert_ne!(before, demo.uids("pods"));
        let kept = plugin(
            &demo,
            &["etcdctl", "demo", "--", "get", "a", "--print-value-only"],
        );
        assert_eq!(kept.trim(), "1");
    });
    step("rests, and wakes", || {
        demo.change(&json!({ "replicas": 0 }));
        wait_for("no member runs", READY_LIMIT, || {
            demo.pods().is_empty().then_some(())
        });
        demo.change(&json!({ "replicas": 3 }));
        let object: Value = demo.ready(3, READY_LIMIT);
        assert_eq!(object["status"]["members"], 3);
    });
}
